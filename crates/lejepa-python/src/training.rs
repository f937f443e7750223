//! `train`: a run from a dictionary.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use lejepa::prelude::{Event, Observer, Request, RunDir, Start, Trainer};
use lejepa::train::Fitted;
use pyo3::prelude::*;

use crate::{device, raised, refused, registry};

/// Hands metrics to Python, and asks it for signals.
struct Listener<'a> {
    on_metrics: Option<Py<PyAny>>,
    stop: &'a AtomicBool,
    /// What the function of the user raised.
    raised: Option<PyErr>,
}

impl Observer for Listener<'_> {
    fn event(&mut self, event: Event<'_>) {
        let called = match (&event, &self.on_metrics) {
            (Event::Step(_), _) => Python::attach(|py| py.check_signals()),
            (Event::Metrics(metrics), Some(function)) => {
                let json = serde_json::to_string(metrics).unwrap_or_default();
                Python::attach(|py| function.call1(py, (json,)).map(drop))
            }
            _ => Ok(()),
        };
        if let Err(error) = called {
            self.raised.get_or_insert(error);
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Trains by settings in JSON; the outcome in JSON.
#[pyfunction]
pub(crate) fn train(
    py: Python<'_>,
    settings: &str,
    output: &str,
    device_name: &str,
    overwrite: bool,
    on_metrics: Option<Py<PyAny>>,
) -> PyResult<String> {
    let table: lejepa::core::Table = serde_json::from_str(settings)
        .map_err(|e| refused(format!("the settings cannot be a configuration: {e}")))?;
    let stop = AtomicBool::new(false);
    let mut listener = Listener { on_metrics, stop: &stop, raised: None };
    let result = py.detach(|| -> PyResult<String> {
        let registry = registry()?;
        let device = device(device_name)?;
        let request = Request { file: Some(table), ..Request::default() };
        let Fitted { resolved, source, .. } =
            request.fit(&registry, || device_name != "cpu").map_err(raised)?;
        let source = resolved.open(source).map_err(raised)?;
        let path = Path::new(output);
        let made = if overwrite { RunDir::overwrite(path) } else { RunDir::create(path) };
        let run = made.map_err(raised)?;
        let trainer = Trainer::new(&resolved, &device).opened(source);
        let outcome = trainer.stop(&stop).observer(&mut listener).run(&run, Start::New);
        let outcome = outcome.map_err(raised)?;
        let probes = serde_json::to_value(&outcome.probes).unwrap_or_default();
        let skipped: Vec<_> = outcome.skipped.iter().map(|s| (&s.name, &s.reason)).collect();
        Ok(serde_json::json!({
            "run": outcome.run.display().to_string(),
            "steps": outcome.steps,
            "metrics": outcome.last,
            "probes": probes,
            "skipped": skipped,
            "warnings": outcome.warnings,
        })
        .to_string())
    });
    match listener.raised {
        Some(error) => Err(error),
        None => result,
    }
}
