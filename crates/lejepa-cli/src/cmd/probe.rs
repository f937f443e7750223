//! `lejepa probe RUN`: score a run's encoder and its untrained self.

use lejepa_core::{Registry, Value};
use lejepa_train::{Prepared, RunDir, checkpoint, compare_probes};
use serde_json::json;

use crate::args::{Args, ProbeArgs};
use crate::console::Console;
use crate::error::CliError;

pub(super) fn run(
    args: &Args,
    probe: &ProbeArgs,
    registry: &Registry,
) -> Result<serde_json::Value, CliError> {
    let run = RunDir::open(&probe.run)?;
    let mut changes = vec![("probe.enabled", Value::Boolean(true))];
    if let Some(data) = &probe.data {
        changes.push(("data.source", Value::String(data.clone())));
    }
    let resolved = run.config(registry)?.with(changes)?;
    let device = probe.device.as_ref().unwrap_or(&resolved.settings().device);
    let (device, _) = crate::device::open(crate::device::choose(device)?)?;
    let checkpoint = super::checkpoint(&run, &probe.checkpoint)?;
    let state = checkpoint::load_state(&checkpoint)?;
    let mut console = Console::new(args.quiet);
    console.line(&format!("probing {} at step {}", run.path().display(), state.step));
    let prepared = Prepared::new(&resolved, &mut console)?;
    let learning = device.clone().autodiff();
    let model = checkpoint::load_evaluated(&checkpoint, resolved.model(&learning)?)?;
    let (probes, _) = compare_probes(&prepared, &resolved, &model, &device, &mut console)?;
    if !args.json {
        super::train::print_probes(&probes);
    }
    Ok(json!({
        "run": run.path().display().to_string(),
        "step": state.step,
        "probe": super::train::probes_json(&probes),
    }))
}
