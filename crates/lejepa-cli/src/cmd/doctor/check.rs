//! `lejepa doctor --check`: whether a device computes and trains as the CPU does, and how fast.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use lejepa_core::{Registry, Seed, kind};
use lejepa_objective::{ObjectiveConfig, Slicing, directions};
use lejepa_train::{RunDir, StepMetrics, TrainError, checkpoint};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::Args;
use crate::device;
use crate::error::CliError;
use crate::output::outln;

/// Views, samples, dimensions and slices of SIGReg: as in small trainings, the paper's, and one that no block divides.
const CASES: [[usize; 4]; 3] = [[6, 64, 64, 256], [8, 256, 256, 1024], [3, 33, 17, 5]];

/// Largest relative difference of SIGReg and of its gradient. Graphics cards may round factors of products to 10 bits
/// (TF32).
const SAME: f64 = 2e-3;
/// Of the loss of the first step, in which weights are equal, of the last one, in which they are no longer, and of one after
/// which rounding is coarser.
const FIRST: f64 = 5e-3;
const LAST: f64 = 0.05;
const BF16: f64 = 0.1;

/// Tries for a time, of which the least counts.
const TRIES: usize = 3;

/// A training waits for nothing longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// What was compared with the CPU.
#[derive(Serialize)]
struct Row {
    what: String,
    /// Relative differences, named, with what is allowed.
    differences: Vec<(&'static str, f64, f64)>,
    /// A rate or a time: its unit, that of the device and that of the CPU.
    speed: Option<(&'static str, f64, f64)>,
    /// Why there is nothing to compare.
    failed: Option<String>,
}

impl Row {
    fn is_good(&self) -> bool {
        // A difference that is no number is not within the limit.
        self.failed.is_none() && self.differences.iter().all(|(_, found, limit)| found <= limit)
    }

    fn of(what: impl Into<String>, found: Result<Self, String>) -> Self {
        let what = what.into();
        match found {
            Ok(row) => Self { what, ..row },
            Err(reason) => {
                Self { what, differences: Vec::new(), speed: None, failed: Some(reason) }
            }
        }
    }

    fn line(&self) -> String {
        let mut words = vec![format!("{:<32}", self.what)];
        if let Some(reason) = &self.failed {
            words.push(format!("failed: {reason}"));
        }
        for (name, found, limit) in &self.differences {
            let mark = if found <= limit { "" } else { " (too much)" };
            words.push(format!("{name} differs by {found:.0e}{mark}"));
        }
        if let Some((unit, device, cpu)) = self.speed {
            words.push(format!("{device:.1} {unit}, CPU {cpu:.1}"));
        }
        words.join("  ")
    }
}

/// Checks devices by name, or all graphics cards that this binary has.
pub(super) fn run(
    args: &Args,
    names: &[String],
    steps: u64,
    registry: &Registry,
) -> Result<Value, CliError> {
    let names: Vec<String> = match names {
        [] => device::all()
            .into_iter()
            .filter(|(name, choice)| *name != "cpu" && choice.is_some())
            .map(|(name, _)| name.to_string())
            .collect(),
        names => names.to_vec(),
    };
    if names.is_empty() {
        let message = "this binary knows no graphics card to check".to_string();
        let hint = "build it with --features cuda or wgpu, or name a device".to_string();
        return Err(CliError::Usage(message, hint));
    }
    let (mut checked, mut failed) = (Vec::new(), 0);
    for name in &names {
        let (device, title) = device::open(device::choose(name)?)?;
        if !args.json {
            outln!("check      {title}");
        }
        let mut rows = Vec::new();
        let mut add = |row: Row| {
            if !args.json {
                outln!("  {}", row.line());
            }
            rows.push(row);
        };
        for case in CASES {
            let [views, samples, dim, slices] = case;
            let what = format!("SIGReg {views}x{samples}x{dim}, {slices} slices");
            add(Row::of(what, sigreg(&device, case)));
        }
        drop(device);
        let folder =
            tempfile::tempdir().map_err(TrainError::io("create", &std::env::temp_dir()))?;
        let at = Trainings { folder: folder.path(), device: name, steps };
        for modality in registry.all::<kind::Modality>().map(|entry| entry.meta().name) {
            add(Row::of(format!("training, {modality}"), at.compared(modality)));
        }
        if let Some(modality) = registry.all::<kind::Modality>().map(|e| e.meta().name).next() {
            add(Row::of(format!("training in bf16, {modality}"), at.in_bf16(modality)));
            add(Row::of(format!("killed and resumed, {modality}"), at.resumed(modality)));
        }
        failed += rows.iter().filter(|row| !row.is_good()).count();
        checked.push(json!({ "device": name, "name": title, "rows": rows }));
    }
    let report = json!({ "checks": checked, "failed": failed });
    if failed == 0 {
        if !args.json {
            outln!("all is as on the CPU");
        }
        return Ok(report);
    }
    if args.json {
        outln!("{report}");
    }
    let hint = "update its driver; where that does not help, train with another --device";
    Err(CliError::Device(format!("{failed} checks failed"), hint))
}

/// SIGReg and its gradient by the kernels of the device, beside those of the CPU.
fn sigreg(device: &Device, [views, samples, dim, slices]: [usize; 4]) -> Result<Row, String> {
    let shape = [views, samples, dim];
    let cpu = Device::flex();
    cpu.seed(0);
    let z = Tensor::<3>::random(shape, Distribution::Normal(0.5, 1.5), &cpu);
    let z = z.try_into_vec_as::<f32>().map_err(|e| e.to_string())?;
    let objective = ObjectiveConfig { slices, ..Default::default() }.init();
    let objective = objective.map_err(|e| e.to_string())?;
    let on = |device: &Device| -> Result<(f32, Vec<f32>, f64), String> {
        let device = device.clone().autodiff();
        let axes = directions(Slicing::Gaussian, dim, slices, Seed(0), 0, &device);
        let mut out = (0.0, Vec::new(), f64::INFINITY);
        for _ in 0..=TRIES {
            let z = Tensor::<3>::from_data(TensorData::new(z.clone(), shape), &device);
            let z = z.require_grad();
            let start = Instant::now();
            let value = objective.sigreg(z.clone(), axes.clone()).map_err(|e| e.to_string())?;
            let gradient = z.grad(&value.clone().backward()).ok_or("no gradient")?;
            out.1 = gradient.try_into_vec_as::<f32>().map_err(|e| e.to_string())?;
            out.0 = value.try_into_scalar().map_err(|e| e.to_string())?;
            out.2 = out.2.min(1e3 * start.elapsed().as_secs_f64());
        }
        Ok(out)
    };
    let (value, gradient, ms) = on(device)?;
    let (wanted, expected, cpu_ms) = on(&cpu)?;
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, |a, v| a.max(v.abs()));
    // A maximum passes over what is no number.
    let is_finite = gradient.iter().all(|v| v.is_finite());
    let apart = largest(&mut gradient.iter().zip(&expected).map(|(a, b)| a - b));
    let scale = largest(&mut expected.iter().copied());
    let of_gradient = if is_finite { f64::from(apart / scale) } else { f64::NAN };
    Ok(Row {
        what: String::new(),
        differences: vec![
            ("value", f64::from((value - wanted).abs() / wanted.abs()), SAME),
            ("gradient", of_gradient, SAME),
        ],
        speed: Some(("ms", ms, cpu_ms)),
        failed: None,
    })
}

/// Short trainings on built-in data, each in a process of its own.
struct Trainings<'a> {
    folder: &'a Path,
    device: &'a str,
    steps: u64,
}

impl Trainings<'_> {
    /// The command that trains into the folder `name`.
    fn command(&self, name: &str, modality: &str, device: &str, more: &[&str]) -> Command {
        let program = std::env::current_exe().unwrap_or_else(|_| "lejepa".into());
        let mut command = Command::new(program);
        command.current_dir(self.folder).args(["train", "--modality", modality, "--quiet"]);
        command.args(["--device", device, "--steps", &self.steps.to_string(), "--output", name]);
        for off in ["probe.enabled", "callbacks.quality.enabled", "callbacks.online_probe.enabled"]
        {
            command.args(["--set", &format!("{off}=false")]);
        }
        command.args(["--set", "train.log_every=1"]).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// What was logged of each step.
    fn metrics(&self, name: &str) -> Result<Vec<StepMetrics>, String> {
        let run = RunDir::open(&self.folder.join(name)).map_err(|e| e.to_string())?;
        Some(run.metrics()).filter(|all| !all.is_empty()).ok_or_else(|| "it logged nothing".into())
    }

    fn train(
        &self,
        name: &str,
        modality: &str,
        device: &str,
        more: &[&str],
    ) -> Result<Vec<StepMetrics>, String> {
        if !self.folder.join(name).exists() {
            done(&mut self.command(name, modality, device, more))?;
        }
        self.metrics(name)
    }

    fn compared(&self, modality: &str) -> Result<Row, String> {
        let ours = self.train(&format!("{modality}-here"), modality, self.device, &[])?;
        let cpu = self.train(&format!("{modality}-cpu"), modality, "cpu", &[])?;
        let first = apart(ours.first(), cpu.first());
        let differences = vec![("first loss", first, FIRST), last(&ours, &cpu, LAST)];
        let speed = [&ours, &cpu].map(|all| scalar(all.last(), "samples_per_s"));
        Ok(Row {
            what: String::new(),
            differences,
            speed: Some(("samples/s", speed[0], speed[1])),
            failed: None,
        })
    }

    fn in_bf16(&self, modality: &str) -> Result<Row, String> {
        let more = ["--set", "train.precision=bf16"];
        let ours = self.train("bf16-here", modality, self.device, &more)?;
        let cpu = self.train(&format!("{modality}-cpu"), modality, "cpu", &[])?;
        let differences = vec![last(&ours, &cpu, BF16)];
        let rates = [&ours, &cpu].map(|all| scalar(all.last(), "samples_per_s"));
        let speed = Some(("samples/s", rates[0], rates[1]));
        Ok(Row { what: String::new(), differences, speed, failed: None })
    }

    /// A run that loses its process after a checkpoint goes on to the end of one that does not.
    fn resumed(&self, modality: &str) -> Result<Row, String> {
        let whole = self.train(&format!("{modality}-here"), modality, self.device, &[])?;
        let every = format!("checkpoint.steps={}", (self.steps / 4).max(1));
        let mut command = self.command("killed", modality, self.device, &["--set", &every]);
        let mut child = command.stderr(Stdio::null()).spawn().map_err(|e| e.to_string())?;
        let run = self.folder.join("killed");
        let start = Instant::now();
        let has_one = || RunDir::open(&run).and_then(|run| checkpoint::latest(&run)).is_ok();
        while !has_one()
            && start.elapsed() < PATIENCE
            && child.try_wait().is_ok_and(|end| end.is_none())
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().map_err(|e| e.to_string())?;
        child.wait().map_err(|e| e.to_string())?;
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut resume = Command::new(program);
        resume.current_dir(self.folder).args(["resume", "killed", "--quiet"]);
        done(resume.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()))?;
        let differences = vec![last(&self.metrics("killed")?, &whole, FIRST)];
        Ok(Row { what: String::new(), differences, speed: None, failed: None })
    }
}

/// Waits for a command; of one that fails the first line is the reason.
fn done(command: &mut Command) -> Result<(), String> {
    let out = command.output().map_err(|e| e.to_string())?;
    let errors = String::from_utf8_lossy(&out.stderr);
    let reason = || errors.lines().find(|line| line.starts_with("error")).unwrap_or("no reason");
    if out.status.success() { Ok(()) } else { Err(format!("{}: {}", out.status, reason())) }
}

fn scalar(of: Option<&StepMetrics>, name: &str) -> f64 {
    of.and_then(|m| m.scalars.get(name).copied()).unwrap_or(f64::NAN)
}

fn apart(a: Option<&StepMetrics>, b: Option<&StepMetrics>) -> f64 {
    let [a, b] = [a, b].map(|of| scalar(of, "loss"));
    (a - b).abs() / b.abs()
}

fn last(ours: &[StepMetrics], theirs: &[StepMetrics], limit: f64) -> (&'static str, f64, f64) {
    ("last loss", apart(ours.last(), theirs.last()), limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_within_their_limits_are_good() {
        let row = |found: f64| Row {
            what: "x".into(),
            differences: vec![("value", 0.0, 0.1), ("gradient", found, 0.1)],
            speed: None,
            failed: None,
        };
        assert!(row(0.1).is_good() && !row(0.2).is_good() && !row(f64::NAN).is_good());
        assert!(row(0.2).line().contains("gradient differs by 2e-1 (too much)"));
        assert!(row(f64::NAN).line().contains("NaN (too much)"));
        let failed = Row::of("y", Err("no driver".into()));
        assert!(!failed.is_good() && failed.line().ends_with("failed: no driver"));
    }
}
