//! `lejepa report`: a page about runs that needs nothing but itself.

mod chart;
mod page;
mod samples;

use std::path::PathBuf;

use lejepa_core::Registry;
use lejepa_train::judge::{Judgement, judge};
use lejepa_train::{RunDir, StepMetrics, TrainError};
use serde_json::{Value, json};

use self::samples::Samples;
use crate::args::{Args, ReportArgs};
use crate::error::CliError;
use crate::output::outln;

/// A run as the page tells it.
struct Told {
    name: String,
    info: Value,
    metrics: Vec<StepMetrics>,
    judgement: Option<Judgement>,
    settings: std::collections::BTreeMap<String, String>,
}

pub(super) fn run(args: &Args, words: &ReportArgs, registry: &Registry) -> Result<Value, CliError> {
    let runs = super::runs::found(&words.runs)?;
    let mut told = Vec::new();
    for run in &runs {
        told.push(Told {
            name: run.path().display().to_string(),
            info: run.info(),
            metrics: run.metrics(),
            judgement: judge(run, registry).ok(),
            settings: super::runs::settings(run)?,
        });
    }
    let first = &runs[0];
    // A page about curves is better than none: the data may be gone, or no checkpoint written yet.
    let (samples, missing) = match words.samples {
        0 => (None, None),
        count => match samples::of(first, words, count, registry) {
            Ok(samples) => (Some(samples), None),
            Err(error) => (None, Some(error.message())),
        },
    };
    let html = page::page(&told, samples.as_ref(), missing.as_deref());
    let file = words.output.clone().unwrap_or_else(|| default_file(first));
    std::fs::write(&file, &html).map_err(TrainError::io("write", &file))?;
    if !args.json && !args.quiet {
        if let Some(reason) = &missing {
            outln!("without the data: {reason}");
        }
        outln!("report of {} runs in {}", told.len(), file.display());
    }
    Ok(json!({
        "report": file.display().to_string(), "runs": told.len(), "bytes": html.len(),
        "samples": samples.as_ref().map_or(0, Samples::len), "without_data": missing,
    }))
}

fn default_file(run: &RunDir) -> PathBuf {
    run.path().join("report.html")
}
