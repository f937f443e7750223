//! `cargo xtask bench step`: whole training steps against PyTorch.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Side, in_turn, print, processor, pytorch, round, table_of, write};
use crate::{cargo, run};

/// The cases that both workers know; see `crates/lejepa-cli/examples/time_step.rs`.
const CASES: [&str; 5] = ["vit-ti", "vit-s", "resnet18", "audio", "video"];

/// Seconds after which five rounds are enough.
const PATIENCE: u64 = 30;

/// Columns of docs/results/step.csv; the share of time of each operation is in the JSON alone.
const KEYS: [&str; 10] = [
    "case",
    "precision",
    "ours_ms",
    "pytorch_ms",
    "eager_ms",
    "compiled_ms",
    "ratio",
    "ours_peak_mib",
    "pytorch_peak_mib",
    "checkpoint_peak_mib",
];

pub(super) fn step(json: bool) -> Result<(), String> {
    run(&mut cargo(&["build", "--release", "--workspace", "--example", "time_step"]))?;
    let ours = crate::target().join("release/examples/time_step");
    let python = pytorch();
    let mut rows = Vec::new();
    for case in CASES {
        for precision in ["f32", "bf16"] {
            let row = compare(&ours, python.as_deref(), case, precision)?;
            eprintln!("{row}");
            rows.push(row);
        }
    }
    write("step.csv", table_of(&KEYS, &rows))?;
    print(json, &json!({ "processor": processor(), "rows": rows }))
}

fn ours(program: &Path, case: &str, precision: &str, more: &[&str]) -> Result<Side, String> {
    let mut command = Command::new(program);
    command.args([case, precision]).args(more);
    started(&mut command)
}

fn started(command: &mut Command) -> Result<Side, String> {
    let mut side = Side::start(command)?;
    // The first steps touch memory and compile; they do not count.
    for _ in 0..2 {
        side.time()?;
    }
    Ok(side)
}

fn compare(
    program: &Path,
    python: Option<&Path>,
    case: &str,
    precision: &str,
) -> Result<Value, String> {
    let script = crate::root().join("xtask/bench/step.py");
    let mut sides = vec![ours(program, case, precision, &[])?];
    if let Some(python) = python {
        for mode in ["eager", "compiled"] {
            let mut command = Command::new(python);
            command.arg(&script).args([mode, case, precision]);
            sides.push(started(&mut command)?);
        }
    }
    let results = in_turn(sides, PATIENCE)?;
    // For its peak alone.
    let spared = ours(program, case, precision, &["train.memory=checkpoint"])?.finish()?.peak;
    let (ours, others) = (&results[0], &results[1..]);
    let best = others.iter().min_by(|a, b| a.ms.total_cmp(&b.ms));
    Ok(json!({
        "case": case,
        "precision": precision,
        "ours_ms": round(ours.ms),
        "pytorch_ms": best.map(|b| round(b.ms)),
        "eager_ms": others.first().map(|r| round(r.ms)),
        "compiled_ms": others.get(1).map(|r| round(r.ms)),
        "ratio": best.map(|b| round(b.ms / ours.ms)),
        "ours_peak_mib": round(ours.peak),
        "pytorch_peak_mib": best.map(|b| round(b.peak)),
        "checkpoint_peak_mib": round(spared),
        "shares": ours.more,
    }))
}
