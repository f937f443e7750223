//! The training loop: one straight line from a configuration to a probed run folder.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::Device;
use lejepa_core::{SourceKind, Value, ViewSource};

use crate::budget::steps_that_fit;
use crate::callback::Callback;
use crate::comparison::compare_probes;
use crate::observe::{Event, Observer};
use crate::outcome::{Outcome, Start};
use crate::prepared::Prepared;
use crate::report::{run_info, with_status};
use crate::resolved::Resolved;
use crate::run::Run;
use crate::rundir::RunDir;
use crate::{Result, TrainError};

/// Trains to the end, saves, probes. `stop` asks for an orderly end after the current step.
///
/// # Errors
/// See [`TrainError`]; [`TrainError::Interrupted`] where `stop` was set.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
/// use std::sync::atomic::AtomicBool;
///
/// // `resolved` is a configuration of two steps on the built-in digits.
/// let run = RunDir::create(&folder.path().join("run"))?;
/// let never = AtomicBool::new(false);
/// let outcome = train(&resolved, &Device::flex(), &run, Start::New, &never, &mut Silent)?;
/// assert_eq!(outcome.steps, 2);
/// assert!(outcome.last.get("sigreg").is_finite() && outcome.skipped.is_empty());
/// // Resuming a finished run does nothing but report it again.
/// let again = train(&resolved, &Device::flex(), &run, Start::Resume, &never, &mut Silent)?;
/// assert_eq!(again.last.get("loss"), outcome.last.get("loss"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn train(
    resolved: &Resolved,
    device: &Device,
    run: &RunDir,
    start: Start,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    Trainer::new(resolved, device).run(run, start, stop, observer)
}

/// A training run with the program's own data or callbacks; [`train`] is one without.
pub struct Trainer<'a> {
    resolved: &'a Resolved,
    device: &'a Device,
    source: Option<(Arc<dyn ViewSource>, SourceKind)>,
    callbacks: Vec<Box<dyn Callback>>,
}

impl<'a> Trainer<'a> {
    /// A training run with this configuration.
    pub fn new(resolved: &'a Resolved, device: &'a Device) -> Self {
        Self { resolved, device, source: None, callbacks: Vec::new() }
    }

    /// Trains on this data instead of `data.source`. Its views have to be those of the configuration.
    #[must_use]
    pub fn source(mut self, source: Arc<dyn ViewSource>) -> Self {
        self.source = Some((source, SourceKind::Files));
        self
    }

    /// Trains on the configured data, which is open already ([`Resolved::open_configured`]).
    #[must_use]
    pub fn opened(mut self, source: Box<dyn ViewSource>) -> Self {
        let kind = SourceKind::of(&self.resolved.settings().data.source);
        self.source = Some((Arc::from(source), kind));
        self
    }

    /// Adds a callback, which comes after those of the configuration. See [`Callback`] for an example.
    #[must_use]
    pub fn callback(mut self, callback: Box<dyn Callback>) -> Self {
        self.callbacks.push(callback);
        self
    }

    /// Trains to the end, saves, probes.
    ///
    /// # Errors
    /// As [`train`].
    pub fn run(
        self,
        dir: &RunDir,
        start: Start,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let began = Instant::now();
        let _lock = dir.lock()?;
        if start == Start::New {
            let config = self.resolved.to_toml()?;
            crate::rundir::write_atomically(&dir.config_file(), config.as_bytes())?;
        }
        let info = run_info(self.resolved, self.device);
        dir.write_info(&with_status(&info, "running"))?;
        let result = self.train_and_probe(dir, start, stop, began, observer);
        let status = match &result {
            Ok(_) => "finished",
            Err(TrainError::Interrupted { .. }) => "interrupted",
            Err(_) => "failed",
        };
        // The reason of a failure matters more than that it could not be noted.
        let noted = dir.write_info(&with_status(&info, status));
        let outcome = result?;
        noted?;
        Ok(outcome)
    }

    fn train_and_probe(
        self,
        dir: &RunDir,
        start: Start,
        stop: &AtomicBool,
        began: Instant,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let Self { resolved, device, source, callbacks } = self;
        let prepared = match source {
            None => Prepared::new(resolved, observer)?,
            Some((source, kind)) if source.spec() == resolved.spec() => {
                Prepared::of(source, kind, resolved.settings(), observer)?
            }
            Some((source, _)) => {
                return Err(lejepa_core::Error::Data {
                    reason: format!(
                        "the data's views are {:?}, the configuration's {:?}",
                        source.spec(),
                        resolved.spec()
                    ),
                    hint: "open the data with `Resolved::open`".into(),
                }
                .into());
            }
        };
        let fitted = match &resolved.settings().train {
            train if start == Start::New && train.minutes > 0.0 && train.steps == 0 => {
                let steps = steps_that_fit(resolved, &prepared, device, began, observer)?;
                let fitted = resolved.with([("train.steps", Value::Integer(steps as i64))])?;
                // The steps are the run's from here on: it repeats and resumes with them.
                let config = fitted.to_toml()?;
                crate::rundir::write_atomically(&dir.config_file(), config.as_bytes())?;
                Some(fitted)
            }
            _ => None,
        };
        let resolved = fitted.as_ref().unwrap_or(resolved);
        let mut run = Run::begin(resolved, device, dir, &prepared, start, callbacks, observer)?;
        let mut loader = run.start(start, observer)?;
        if start == Start::Resume {
            // What may change when a run goes on is part of it from here on.
            let config = resolved.to_toml()?;
            crate::rundir::write_atomically(&dir.config_file(), config.as_bytes())?;
        }
        while let Some(step) = run.next_step() {
            let batch = match run.batch(&mut loader, observer) {
                Ok(batch) => batch,
                Err(error) => {
                    run.keep(observer);
                    return Err(error);
                }
            };
            let pass = run.pass(&batch, step, observer)?;
            let projections = run.update(step, pass)?;
            let asked = stop.load(Ordering::Relaxed);
            run.after(step, &batch, projections, asked, observer)?;
        }
        drop(loader);
        observer.event(Event::End);
        let (probes, unread) =
            compare_probes(&prepared, resolved, &run.evaluated()?, device, observer)?;
        run.finish(probes, unread, observer)
    }
}
