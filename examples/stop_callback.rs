//! A custom callback, enabled by name: it ends a run when the smoothed loss stops falling.
//!
//! `cargo run --release -p lejepa --example stop-callback`

use burn::tensor::Device;
use lejepa::core::Error;
use lejepa::core::config::{Docs, check, field_docs};
use lejepa::prelude::*;
use lejepa::train::{
    AfterStep, CallbackContext, CallbackKind, Callbacks, Flow, Result, checkpoint,
};
// Linked to register the modality `image`.
use lejepa_image as _;
use serde::{Deserialize, Serialize};

/// At most 1000 steps; by then the loss cannot still fall by a tenth every 20 steps.
const SETTINGS: &str = "modality=image encoder.name=mlp encoder.width=48 encoder.depth=2 \
    projector.hidden=64 projector.output=32 objective.slices=64 train.steps=1000 train.lr=0.003 \
    schedule.warmup=0 probe.enabled=false checkpoint.steps=10 callbacks.plateau.enabled=true";

/// The keys of `[callbacks.plateau]`, in addition to `enabled`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PlateauConfig {
    /// Steps within which the smoothed loss must fall by a tenth, at least 1.
    patience: u64,
}

impl Default for PlateauConfig {
    fn default() -> Self {
        Self { patience: 20 }
    }
}

/// What is kept between steps.
#[derive(Default, Serialize, Deserialize)]
struct State {
    smooth: Option<f64>,
    lowest: Option<f64>,
    /// Steps since the lowest value.
    since: u64,
}

struct Plateau {
    config: PlateauConfig,
    state: State,
}

impl Component for Plateau {
    const NAME: &'static str = "plateau";
    const ABOUT: &'static str = "ends a run when the smoothed loss stops falling";
    type Config = PlateauConfig;

    fn docs() -> Docs {
        field_docs(include_str!("stop_callback.rs"), "PlateauConfig")
    }
}

impl CallbackKind for Plateau {
    fn validate(config: &PlateauConfig) -> Result<(), Error> {
        check::ensure("callbacks.plateau.patience", config.patience >= 1, "must be at least 1")
    }

    fn build(config: PlateauConfig, _: &CallbackContext<'_>) -> Result<Box<dyn Callback>> {
        Ok(Box::new(Self { config, state: State::default() }))
    }
}

fn bad_state(reason: serde_json::Error) -> Error {
    Error::bad_value("callbacks.plateau", reason)
}

impl Callback for Plateau {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn after_step(&mut self, at: &mut AfterStep<'_>) -> Result<Flow> {
        let Some(&loss) = at.scalars.get("loss") else { return Ok(Flow::Continue) };
        let state = &mut self.state;
        let smooth = state.smooth.map_or(loss, |smooth| smooth + 0.1 * (loss - smooth));
        state.smooth = Some(smooth);
        if state.lowest.is_none_or(|lowest| smooth < 0.9 * lowest) {
            (state.lowest, state.since) = (Some(smooth), 0);
        } else {
            state.since += 1;
        }
        at.scalars.insert("smooth_loss".into(), smooth);
        Ok(if state.since >= self.config.patience { Flow::Stop } else { Flow::Continue })
    }

    fn save(&self) -> Result<Option<Vec<u8>>> {
        Ok(Some(serde_json::to_vec(&self.state).map_err(bad_state)?))
    }

    fn load(&mut self, state: &[u8]) -> Result<()> {
        self.state = serde_json::from_slice(state).map_err(bad_state)?;
        Ok(())
    }
}

register!(Callbacks: Plateau);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let resolved = Request::parse(SETTINGS).resolve(&Registry::discover()?)?;
    let folder = tempfile::tempdir()?;
    let run = RunDir::create(folder.path())?;
    let device = Device::flex();
    let ended = Trainer::new(&resolved, &device).run(&run, Start::New)?;
    let most = resolved.settings().train.steps;
    println!("ended after {} of {most} steps", ended.steps);
    assert!(ended.steps < most, "the run did not end early");

    // The scalar is in the log, the state in the checkpoint; both are of the last step.
    let smooth = run.last_metrics().ok_or("metrics.jsonl is empty")?.get("smooth_loss");
    let latest = checkpoint::latest(&run)?;
    let state = checkpoint::load_callback(&latest, Plateau::NAME)?;
    let state = state.ok_or("the checkpoint has no state of the callback")?;
    let state: State = serde_json::from_slice(&state)?;
    assert!(state.smooth == Some(smooth), "the state is not that of the last step");

    // As if it had been killed before that checkpoint, the run takes the state up from the one before.
    std::fs::remove_dir_all(latest)?;
    let resumed = Trainer::new(&resolved, &device).run(&run, Start::Resume)?;
    assert!(resumed.steps == ended.steps, "the resumed run ended at another step");
    let same = resumed.last.get("smooth_loss").to_bits() == smooth.to_bits();
    assert!(same, "the resumed run has another smoothed loss");
    Ok(())
}
