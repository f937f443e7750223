//! `lejepa config show`: the configuration that `train` would use.

use lejepa_core::Registry;
use serde_json::Value;

use crate::args::{Args, ConfigArgs};
use crate::error::CliError;

pub(super) fn run(
    args: &Args,
    config: &ConfigArgs,
    registry: &Registry,
) -> Result<Value, CliError> {
    let request = super::request(config)?;
    let device = request.preliminary(registry)?.settings().device.clone();
    // As `train` does: which devices there are is up to this binary.
    let choice = crate::device::choose(&device)?;
    let device = crate::device::Opening::new(choice);
    let resolved = request.fit(registry, || device.is_gpu())?.resolved;
    if !args.json {
        crate::output::out(format_args!("{}", resolved.to_commented_toml()));
    }
    serde_json::to_value(resolved.table()).map_err(|e| {
        CliError::Usage(format!("the configuration cannot be written as JSON: {e}"), String::new())
    })
}
