//! `lejepa data SOURCE`: what a data set holds.

use lejepa_core::{Registry, SourceKind, Value as Setting};
use lejepa_train::census::Census;
use lejepa_train::data::DataPlan;
use lejepa_train::{Fitted, Request};
use serde_json::{Value, json};

use crate::args::{Args, DataArgs};
use crate::console::Console;
use crate::error::CliError;
use crate::output::outln;

pub(super) fn run(args: &Args, words: &DataArgs, registry: &Registry) -> Result<Value, CliError> {
    let text = |key: &str, value: &str| format!("{key}={}", Setting::String(value.into()));
    let mut assignments = vec![text("data.source", &words.source), text("data.scan", "full")];
    assignments.extend(words.modality.as_deref().map(|name| text("modality", name)));
    assignments.extend(words.set.iter().cloned());
    let request = Request { assignments, ..Request::default() };
    // With the settings that a training would choose: what cannot be read depends on them.
    let Fitted { resolved, source, .. } = request.fit(registry, || false)?;
    let notes = source.notes().to_vec();
    let opened = resolved.open(source)?;
    let settings = resolved.settings();
    let kind = SourceKind::of(&settings.data.source);
    let mut console = Console::new(args.quiet);
    let plan = DataPlan::of(opened.as_ref(), kind, &settings.data, &mut console);
    if !args.json {
        print(resolved.modality().name(), &words.source, &notes, &plan.census);
    }
    Ok(json!({
        "modality": resolved.modality().name(),
        "source": words.source,
        "found": notes,
        "census": plan.census,
        "warnings": plan.census.warnings(),
    }))
}

/// Classes shown one by one.
const SHOWN: usize = 20;

fn print(modality: &str, source: &str, notes: &[String], census: &Census) {
    outln!(
        "{source} · {modality} · {} samples to train on, {} held out",
        census.train,
        census.held_out
    );
    for note in notes {
        outln!("found     {note}");
    }
    for line in census.lines() {
        outln!("          {line}");
    }
    for column in census.columns.iter().filter(|column| !column.classes.is_empty()) {
        let width = column.classes.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
        let width = width.clamp(5, 40);
        outln!("\n{:<width$}   train  held out", column.name);
        for class in column.classes.iter().take(SHOWN) {
            outln!("{:<width$}  {:>6}  {:>8}", class.name, class.train, class.held_out);
        }
        if column.classes.len() > SHOWN {
            outln!("and {} more: --json has all", column.classes.len() - SHOWN);
        }
    }
    for warning in census.warnings() {
        outln!("\nwarning: {warning}");
    }
}
