//! `lejepa plan RUN`: act in an environment by plans with a run's world model.

use lejepa_core::{Environment, Registry, Seed, kind};
use lejepa_train::{Acted, Planner, PlannerConfig, Policy, RunDir, act, checkpoint};
use serde_json::{Value, json};

use crate::args::{Args, PlanArgs};
use crate::console::Console;
use crate::error::CliError;
use crate::output::outln;

pub(super) fn run(args: &Args, words: &PlanArgs, registry: &Registry) -> Result<Value, CliError> {
    let run = RunDir::open(&words.run)?;
    let resolved = run.config(registry)?;
    let modality = resolved.modality().name();
    let fits: Vec<_> = registry
        .all::<kind::Environment>()
        .filter(|entry| entry.meta().scope == Some(modality))
        .map(|entry| entry.meta().name)
        .collect();
    let name = match &words.environment {
        Some(name) => name.as_str(),
        None => fits.first().copied().ok_or_else(|| {
            let message = format!("this binary has no environment for the modality `{modality}`");
            let hint = "a crate registers one with register!(kind::Environment: ...)".to_string();
            CliError::Usage(message, hint)
        })?,
    };
    let entry = registry.find::<kind::Environment>(name, Some(modality))?;
    let device = words.device.as_ref().unwrap_or(&resolved.settings().device);
    let (device, _) = crate::device::open(crate::device::choose(device)?)?;
    let checkpoint = super::checkpoint(&run, &words.checkpoint)?;
    let step = checkpoint::load_state(&checkpoint)?.step;
    let console = Console::new(args.quiet);
    console.line(&format!(
        "planning  {} episodes in {name} by {} at step {step}",
        words.episodes,
        run.path().display()
    ));
    let model = checkpoint::load_evaluated(&checkpoint, resolved.model(&device)?)?;
    let build = || -> Result<Vec<Box<dyn Environment>>, CliError> {
        let own = entry.meta().defaults()?;
        let of_modality = resolved.table().get(modality).and_then(|section| section.as_table());
        let of_modality = of_modality.cloned().unwrap_or_default();
        (0..words.episodes).map(|_| Ok((entry.build())(&own, &of_modality)?)).collect()
    };
    let mut worlds = build()?;
    let actions = worlds.first().map_or(0, |world| world.actions());
    let config = PlannerConfig::default()
        .horizon(words.horizon as usize)
        .samples(words.samples as usize)
        .rounds(words.rounds as usize);
    let planner = Planner::new(&model, &resolved, actions, config, &device)?;
    let mut rows = vec![("plan", act(&mut worlds, &Policy::Planner(&planner), Seed(words.seed))?)];
    rows.push(("random", act(&mut build()?, &Policy::Random, Seed(words.seed))?));
    if worlds.iter().all(|world| world.expert().is_some()) {
        rows.push(("expert", act(&mut build()?, &Policy::Expert, Seed(words.seed))?));
    }
    if !args.json {
        outln!("\n{:<8} reached  (95 % interval)    distance  actions", "");
        for (name, Acted { reached, interval: [low, high], distance, actions, .. }) in &rows {
            let [reached, low, high] = [*reached, *low, *high].map(|v| 100.0 * v);
            outln!(
                "{name:<8} {reached:>5.1} %  ({low:>5.1} to {high:>5.1})  {distance:>8.3}  {actions:>7.1}"
            );
        }
    }
    let policies: serde_json::Map<String, Value> =
        rows.iter().map(|(name, acted)| ((*name).to_string(), json!(acted))).collect();
    Ok(json!({
        "run": run.path().display().to_string(),
        "step": step,
        "environment": name,
        "episodes": words.episodes,
        "policies": policies,
    }))
}
