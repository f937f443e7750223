//! Whether trainings on a graphics card are the same with and without burn's fusion.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{cargo, run, run_program, setup, target};

/// Trainings of 50 steps, small enough for a software device.
const MODALITIES: [&str; 3] = ["image", "audio", "video"];
const WORDS: [&str; 9] =
    ["--steps", "50", "--batch", "8", "--overwrite", "--preset", "none", "--encoder", "vit"];
/// The learning rate is small: a larger one amplifies what is rounded otherwise.
const SETTINGS: [&str; 9] = [
    "encoder.width=24",
    "encoder.depth=1",
    "encoder.heads=2",
    "projector.hidden=32",
    "projector.output=16",
    "objective.slices=64",
    "train.lr=0.00002",
    "train.log_every=1",
    "probe.enabled=false",
];

/// Largest difference of a loss of any step, relative to one above 1.
const SAME: f64 = 1e-4;

/// Builds the binary with and without fusion, and compares the losses of each modality on a device; SIGReg's gradient is
/// compared with the CPU's by `lejepa doctor --check`.
pub(crate) fn check(words: &[String]) -> Result<(), String> {
    let device = words.first().map_or("wgpu", String::as_str);
    // A kind of device is a feature of the same name.
    let kind = device.split(':').next().unwrap_or(device);
    let features = format!("{},lejepa-cli/{kind}", setup::features(&setup::found()));
    let plain = build(&features, "plain")?;
    let fused = build(&format!("{features},lejepa-cli/fusion"), "fused")?;
    let mut most = 0.0f64;
    for modality in MODALITIES {
        let [a, b] = [&plain, &fused].map(|program| train(program, modality, device));
        let apart = apart(&a?, &b?)?;
        println!("{modality}: losses of 50 steps differ by {apart:.1e}");
        most = most.max(apart);
    }
    run_program(Command::new(&fused).args(["doctor", "--check", device, "--steps", "5"]))?;
    if most <= SAME {
        return Ok(());
    }
    Err(format!("with fusion the losses differ by {most:.1e}, above {SAME:.0e}"))
}

fn build(features: &str, name: &str) -> Result<PathBuf, String> {
    let mut build = cargo(&["build", "--release", "--workspace", "--bin", "lejepa"]);
    run(build.args(["--features", features]))?;
    let program = target().join("fusion").join(name);
    let at = |e: std::io::Error| format!("{}: {e}", program.display());
    fs::create_dir_all(target().join("fusion")).map_err(at)?;
    fs::copy(target().join("release/lejepa"), &program).map_err(at)?;
    Ok(program)
}

/// The metrics of a training.
fn train(program: &Path, modality: &str, device: &str) -> Result<Vec<Value>, String> {
    let folder = program.with_extension(modality);
    let mut train = Command::new(program);
    train.args(["train", "--modality", modality, "--device", device]).args(WORDS);
    SETTINGS.iter().for_each(|setting| {
        train.args(["--set", setting]);
    });
    run_program(train.arg("--output").arg(&folder))?;
    let file = folder.join("metrics.jsonl");
    let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|e| format!("{}: {e}", file.display())))
        .collect()
}

fn apart(a: &[Value], b: &[Value]) -> Result<f64, String> {
    if a.len() != b.len() || a.is_empty() {
        return Err(format!("{} and {} lines of metrics", a.len(), b.len()));
    }
    let mut most = 0.0f64;
    for (a, b) in a.iter().zip(b) {
        for key in ["loss", "prediction", "sigreg"] {
            let [a, b] = [a, b].map(|line| line[key].as_f64());
            let (Some(a), Some(b)) = (a, b) else { return Err(format!("no `{key}`")) };
            let apart = (a - b).abs() / a.abs().max(1.0);
            // What is no number is apart as well.
            most = if apart.is_nan() { f64::INFINITY } else { most.max(apart) };
        }
    }
    Ok(most)
}
