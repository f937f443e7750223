//! `lejepa train`: pretrain, save, probe.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lejepa_core::{Choice, Registry};
use lejepa_train::data::check_fold;
use lejepa_train::judge::{Judgement, judge};
use lejepa_train::{Fitted, Outcome, Resolved, RunDir, Start, Trainer};
use serde_json::{Value, json};

use super::scores::{More, print_probes, print_retrieval, probes_json};
use crate::args::{Args, TrainArgs};
use crate::console::Console;
use crate::error::CliError;
use crate::output::outln;
use crate::workers::Workers;

pub(super) fn run(
    args: &Args,
    train: &TrainArgs,
    registry: &Registry,
    workers: &Workers,
) -> Result<Value, CliError> {
    let request = super::request(&train.config)?;
    // What is wrong with the configuration is said before a device or data are opened.
    let choices = crate::device::choose_several(&request.preliminary(registry)?.settings().device)?;
    // Drivers are slow to start and chatty: the data comes first.
    let device = crate::device::Opening::new(choices[0]);
    let Fitted { mut resolved, source, choices: chosen, .. } =
        request.fit(registry, || device.is_gpu())?;
    resolved = with_absolute_paths(resolved)?;
    let init = Path::new(&resolved.settings().train.init);
    if !init.as_os_str().is_empty() && !init.exists() {
        let hint = "--init takes a run folder, a checkpoint folder or a file of weights";
        return Err(lejepa_core::Error::path(init, "no such file or folder", hint).into());
    }
    let mut console = Console::new(args.quiet || !workers.is_root());
    // The data is opened before the folder is made: a wrong path leaves nothing behind.
    let notes = source.notes().to_vec();
    let source = resolved.open(source)?;
    check_fold(source.as_ref(), &resolved.settings().data)?;
    let (device, name) = device.device()?;
    let (others, device_name) = crate::device::open_others(&choices, name, workers.group().size())?;
    let name = resolved.modality().name();
    let run = workers.run_dir(|| {
        Ok(match &train.output {
            Some(path) if train.overwrite => RunDir::overwrite(path)?,
            Some(path) => RunDir::create(path)?,
            None => RunDir::create_numbered(Path::new("runs"), name)?,
        })
    })?;
    console.line(&format!(
        "run       {} · {name} · device {device_name}{} · seed {}",
        run.path().display(),
        workers.words(others.len()),
        resolved.settings().seed
    ));
    for note in &notes {
        console.line(&format!("found     {note}"));
    }
    for choice in &chosen {
        let Choice { key, value, reason } = choice;
        console.line(&format!("chosen    {key} = {value}: {reason}"));
    }
    let trainer = Trainer::new(&resolved, device).devices(&others).opened(source);
    finish(args, trainer, &run, Start::New, (&mut console, workers), registry)
}

/// Trains to the end and prints what came of it.
pub(super) fn finish(
    args: &Args,
    trainer: Trainer<'_>,
    run: &RunDir,
    start: Start,
    (console, workers): (&mut Console, &Workers),
    registry: &Registry,
) -> Result<Value, CliError> {
    let stop = stop_on_signals()?;
    let trainer = trainer.group(workers.group());
    let outcome = trainer.stop(&stop).observer(console).run(run, start)?;
    if !workers.is_root() {
        return Ok(Value::Null);
    }
    let judged = judge(run, registry)?;
    if !args.json {
        print_outcome(&outcome, &judged);
    }
    let mut out = outcome_json(&outcome);
    out["judgement"] = json!(judged);
    Ok(out)
}

/// Absolute paths, so that the run can be probed and resumed from anywhere.
pub(super) fn with_absolute_paths(resolved: Resolved) -> Result<Resolved, CliError> {
    let settings = resolved.settings();
    let mut absolute = Vec::new();
    for (key, path) in [
        ("data.source", &settings.data.source),
        ("data.disk_cache", &settings.data.disk_cache),
        ("train.init", &settings.train.init),
    ] {
        let is_path = !path.is_empty() && path != lejepa_core::DEMO && !path.contains("://");
        let path = if is_path { absolute_path(path) } else { None };
        absolute.extend(path.map(|path| (key, lejepa_core::Value::String(path))));
    }
    Ok(resolved.with(absolute)?)
}

pub(super) fn absolute_path(path: &str) -> Option<String> {
    std::path::absolute(path).ok()?.to_str().map(String::from)
}

/// The first signal asks for an orderly end, the second one ends the process at once.
pub(super) fn stop_on_signals() -> Result<Arc<AtomicBool>, CliError> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let stop = Arc::new(AtomicBool::new(false));
    for (signal, code) in [(SIGINT, 130), (SIGTERM, 143)] {
        signal_hook::flag::register_conditional_shutdown(signal, code, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(lejepa_train::TrainError::io("watch signals for", Path::new("this process")))
            .map_err(CliError::Train)?;
    }
    Ok(stop)
}

fn print_outcome(outcome: &Outcome, judged: &Judgement) {
    let m = &outcome.last;
    outln!(
        "done: {} steps, loss {:.4}, prediction {:.4}, SIGReg {:.3}",
        outcome.steps,
        m.get("loss"),
        m.get("prediction"),
        m.get("sigreg")
    );
    if !outcome.skipped.is_empty() {
        outln!("{} samples were skipped:", outcome.skipped.len());
        for s in &outcome.skipped {
            outln!("  {}: {}", s.name, s.reason);
        }
    }
    for warning in &outcome.warnings {
        outln!("warning: {warning}");
    }
    print_probes(&outcome.probes, &More::new());
    print_retrieval(&outcome.retrieval);
    outln!("\nverdict: {}; {}", judged.verdict, judged.advice[0]);
    outln!("run folder: {}", outcome.run.display());
}

fn outcome_json(outcome: &Outcome) -> Value {
    let m = &outcome.last;
    let skipped: Vec<Value> =
        outcome.skipped.iter().map(|s| json!({ "name": s.name, "reason": s.reason })).collect();
    json!({
        "run": outcome.run.display().to_string(),
        "steps": outcome.steps,
        "final": {
            "loss": m.get("loss"), "prediction": m.get("prediction"), "sigreg": m.get("sigreg"),
            "effective_rank": m.get("effective_rank"),
        },
        "skipped": skipped,
        "warnings": outcome.warnings,
        "probe": probes_json(&outcome.probes, &More::new()),
        "retrieval": outcome.retrieval,
    })
}
