//! `lejepa export` and `lejepa embed`: what applications take from a run.

use lejepa_core::Registry;
use lejepa_train::{Embedder, NamedEmbeddings, RunDir, export, export_onnx, export_timm};
use serde_json::{Value, json};

use crate::args::{Args, EmbedArgs, ExportArgs, ExportFormat};
use crate::console::Console;
use crate::error::CliError;
use crate::output::outln;

pub(super) fn export_run(
    args: &Args,
    words: &ExportArgs,
    registry: &Registry,
) -> Result<Value, CliError> {
    let run = RunDir::open(&words.run)?;
    let checkpoint = super::checkpoint(&run, &words.checkpoint)?;
    let folder = words.output.clone().unwrap_or_else(|| run.path().join("export"));
    if words.front_end && words.format != ExportFormat::Onnx {
        let hint = "say --format onnx";
        return Err(CliError::Usage("--front-end is for ONNX graphs".into(), hint.into()));
    }
    match words.format {
        ExportFormat::Lejepa => export(&run, &checkpoint, &folder, registry)?,
        ExportFormat::Timm => export_timm(&run, &checkpoint, &folder, registry)?,
        ExportFormat::Onnx => {
            export_onnx(&run, &checkpoint, &folder, words.front_end, registry)?;
        }
    }
    if !args.json && !args.quiet {
        outln!("exported {} to {}", checkpoint.display(), folder.display());
    }
    Ok(json!({
        "run": run.path().display().to_string(),
        "checkpoint": checkpoint.display().to_string(),
        "export": folder.display().to_string(),
    }))
}

pub(super) fn embed(
    args: &Args,
    words: &EmbedArgs,
    registry: &Registry,
) -> Result<Value, CliError> {
    // Before any work is done.
    NamedEmbeddings::check(&words.output)?;
    let device = words.device.as_deref().unwrap_or("auto");
    let (device, _) = crate::device::open(crate::device::choose(device)?)?;
    let mut embedder = Embedder::open(&words.model, registry, &device)?;
    if words.dense {
        embedder = embedder.by_cell();
    }
    let mut console = Console::new(args.quiet);
    let made = match words.window {
        Some(window) => {
            let lengths = [window, words.hop.unwrap_or(window)];
            embedder.embed_windows_to(&words.data, lengths, &words.output, &mut console)?
        }
        None => embedder.embed_to(&words.data, &words.output, &mut console)?,
    };
    for s in &made.skipped {
        console.line(&format!("skipped   {}: {}", s.name, s.reason));
    }
    if !args.json && !args.quiet {
        outln!("{} embeddings of {} dimensions in {}", made.rows, made.dim, words.output.display());
    }
    let skipped: Vec<Value> =
        made.skipped.iter().map(|s| json!({ "name": s.name, "reason": s.reason })).collect();
    Ok(json!({
        "output": words.output.display().to_string(),
        "samples": made.rows,
        "dim": made.dim,
        "skipped": skipped,
    }))
}
