//! `lejepa probe RUN`: score a run's encoder beside its untrained self.

use lejepa_core::Registry;
use lejepa_train::{Model, Prepared, RunDir, checkpoint};
use serde_json::{Value, json};

use crate::args::{Args, ProbeArgs};
use crate::console::Console;
use crate::error::CliError;

pub(super) fn run(args: &Args, probe: &ProbeArgs, registry: &Registry) -> Result<Value, CliError> {
    let run = RunDir::open(&probe.run)?;
    let mut resolved = run.config(registry)?;
    if let Some(data) = &probe.data {
        resolved.settings.data.source = data.clone();
    }
    resolved.settings.probe.enabled = true;
    let words = probe.device.as_ref().unwrap_or(&resolved.settings.device);
    let (device, _) = crate::device::open(crate::device::choose(words)?);
    let checkpoint = super::checkpoint(&run, &probe.checkpoint)?;
    let state = checkpoint::load_state(&checkpoint)?;
    let mut console = Console::new(args.quiet);
    console.line(&format!("probing {} at step {}", run.path().display(), state.step));
    let prepared = Prepared::new(&resolved, &mut console)?;
    let learning = device.clone().autodiff();
    let model = Model::init(&resolved, prepared.source.spec(), &learning)?;
    let model = checkpoint::load_model(&checkpoint, model)?;
    let (probes, _) = prepared.compare(&resolved, &model, &device, &mut console)?;
    if !args.json {
        super::train::print_probes(&probes);
    }
    Ok(json!({
        "run": run.path().display().to_string(),
        "step": state.step,
        "probe": super::train::probes_json(&probes),
    }))
}
