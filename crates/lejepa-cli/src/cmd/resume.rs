//! `lejepa resume RUN`: go on from the newest checkpoint.

use lejepa_core::{Registry, Value as Setting};
use lejepa_train::{Request, Resolved, RunDir, Start, Trainer, checkpoint};
use serde_json::Value;

use crate::args::{Args, ResumeArgs};
use crate::console::Console;
use crate::error::CliError;
use crate::workers::Workers;

pub(super) fn run(
    args: &Args,
    resume: &ResumeArgs,
    registry: &Registry,
    workers: &Workers,
) -> Result<Value, CliError> {
    let run = RunDir::open(&resume.run)?;
    let resolved = changed(&run, run.config(registry)?, resume, registry)?;
    let device = resume.device.as_ref().unwrap_or(&resolved.settings().device);
    let choices = crate::device::choose_several(device)?;
    let source = resolved.open_configured()?;
    let (device, name) = crate::device::open(choices[0])?;
    let (others, device_name) =
        crate::device::open_others(&choices, &name, workers.group().size())?;
    let mut console = Console::new(args.quiet || !workers.is_root());
    console.line(&format!(
        "run       {} · device {device_name}{}",
        run.path().display(),
        workers.words(others.len())
    ));
    let trainer = Trainer::new(&resolved, &device).devices(&others).opened(source);
    super::train::finish(args, trainer, &run, Start::Resume, (&mut console, workers), registry)
}

/// The run's configuration with what the user changes of it.
fn changed(
    run: &RunDir,
    resolved: Resolved,
    resume: &ResumeArgs,
    registry: &Registry,
) -> Result<Resolved, CliError> {
    let mut assignments = resume.set.clone();
    if let Some(workers) = resume.workers {
        assignments.push(format!("data.workers={workers}"));
    }
    if let Some(data) = &resume.data {
        let path = super::train::absolute_path(data).unwrap_or_else(|| data.clone());
        assignments.push(format!("data.source={}", Setting::String(path)));
    }
    if let Some(more) = more_steps(run, &resolved, resume)? {
        let total = checkpoint::load_state(&checkpoint::latest(run)?)?.total.saturating_add(more);
        assignments.push(format!("train.steps={total}"));
    }
    if assignments.is_empty() {
        return Ok(resolved);
    }
    let file = Some(resolved.table().clone());
    Ok(Request { file, assignments, ..Request::default() }.resolve(registry)?)
}

fn more_steps(
    run: &RunDir,
    resolved: &Resolved,
    resume: &ResumeArgs,
) -> Result<Option<u64>, CliError> {
    let Some(minutes) = resume.minutes else { return Ok(resume.steps) };
    let usage = |message: &str, hint: &str| CliError::Usage(message.into(), hint.into());
    if !(minutes > 0.0 && minutes <= 100_000.0) {
        return Err(usage("--minutes must be above 0 and at most 100000", "e.g. --minutes 30"));
    }
    let speed = run.last_metrics().map(|m| m.get("samples_per_s")).filter(|v| *v > 0.0);
    let hint = "give --steps instead";
    let speed =
        speed.ok_or_else(|| usage("the run has no line of metrics with its speed", hint))?;
    let steps = minutes * 60.0 * speed / resolved.settings().train.batch as f64;
    Ok(Some((steps.round() as u64).max(1)))
}
