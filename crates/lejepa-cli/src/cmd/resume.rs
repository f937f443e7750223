//! `lejepa resume RUN`: go on from the newest checkpoint.

use lejepa_core::Registry;
use lejepa_train::{RunDir, Start, Trainer};
use serde_json::Value;

use crate::args::{Args, ResumeArgs};
use crate::console::Console;
use crate::error::CliError;

pub(super) fn run(
    args: &Args,
    resume: &ResumeArgs,
    registry: &Registry,
) -> Result<Value, CliError> {
    let run = RunDir::open(&resume.run)?;
    let mut resolved = run.config(registry)?;
    if let Some(workers) = resume.workers {
        let workers = i64::try_from(workers).unwrap_or(i64::MAX);
        resolved = resolved.with([("data.workers", workers.into())])?;
    }
    let device = resume.device.as_ref().unwrap_or(&resolved.settings().device);
    let (device, device_name) = crate::device::open(crate::device::choose(device)?);
    let mut console = Console::new(args.quiet);
    console.line(&format!("run       {} · device {device_name}", run.path().display()));
    let trainer = Trainer::new(&resolved, &device);
    super::train::finish(args, trainer, &run, Start::Resume, &mut console)
}
