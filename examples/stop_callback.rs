//! A custom callback, enabled by name: it ends a run when the smoothed loss stops falling.
//!
//! `cargo run --release -p lejepa --example stop-callback`

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use lejepa::core::config::{self, Docs, check, field_docs};
use lejepa::core::{Component, Error, Registry, Table, register};
use lejepa::train::{
    AfterStep, Callback, CallbackContext, CallbackKind, Callbacks, Event, Flow, Observer, Request,
    Result, RunDir, Silent, Start, TrainError, checkpoint, train,
};
// Linked to register the modality `image`.
use lejepa_image as _;
use serde::{Deserialize, Serialize};

/// The keys of `[callbacks.plateau]`, in addition to `enabled`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PlateauConfig {
    /// Weight of a step in the smoothed loss, above 0 and at most 1.
    smoothing: f64,
    /// Share by which the smoothed loss must fall below its lowest value, 0 to 0.9.
    fall: f64,
    /// Steps within which it must fall that far, at least 1.
    patience: u64,
}

impl Default for PlateauConfig {
    fn default() -> Self {
        Self { smoothing: 0.1, fall: 0.1, patience: 20 }
    }
}

/// What is kept between steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct State {
    smooth: Option<f64>,
    lowest: Option<f64>,
    /// Steps since the lowest value.
    since: u64,
}

impl State {
    fn to_bytes(self) -> Result<Vec<u8>, Error> {
        let table = Table::try_from(self).map_err(|e| Error::bad_value("callbacks.plateau", e))?;
        Ok(table.to_string().into_bytes())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let table = String::from_utf8_lossy(bytes).parse::<Table>();
        let table = table.map_err(|e| Error::bad_value("callbacks.plateau", e.message()))?;
        config::parse("callbacks.plateau", &table)
    }
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
        let PlateauConfig { smoothing, fall, patience } = *config;
        let is_weight = smoothing > 0.0 && smoothing <= 1.0;
        check::ensure("callbacks.plateau.smoothing", is_weight, "must be above 0 and at most 1")?;
        check::within("callbacks.plateau.fall", fall, 0.0..=0.9)?;
        check::ensure("callbacks.plateau.patience", patience >= 1, "must be at least 1")
    }

    fn build(config: PlateauConfig, _: &CallbackContext<'_>) -> Result<Box<dyn Callback>> {
        Ok(Box::new(Self { config, state: State::default() }))
    }
}

impl Callback for Plateau {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn after_step(&mut self, at: &mut AfterStep<'_>) -> Result<Flow> {
        let Some(&loss) = at.scalars.get("loss") else { return Ok(Flow::Continue) };
        let PlateauConfig { smoothing, fall, patience } = self.config;
        let state = &mut self.state;
        let smooth = state.smooth.map_or(loss, |smooth| smooth + smoothing * (loss - smooth));
        state.smooth = Some(smooth);
        if state.lowest.is_none_or(|lowest| smooth < (1.0 - fall) * lowest) {
            (state.lowest, state.since) = (Some(smooth), 0);
        } else {
            state.since += 1;
        }
        at.scalars.insert("smooth_loss".into(), smooth);
        Ok(if state.since >= patience { Flow::Stop } else { Flow::Continue })
    }

    fn save(&self) -> Result<Option<Vec<u8>>> {
        Ok(Some(self.state.to_bytes()?))
    }

    fn load(&mut self, state: &[u8]) -> Result<()> {
        self.state = State::from_bytes(state)?;
        Ok(())
    }
}

register!(Callbacks: Plateau);

/// Asks for an interruption after a step.
struct InterruptAfter<'a>(u64, &'a AtomicBool);

impl Observer for InterruptAfter<'_> {
    fn event(&mut self, event: Event<'_>) {
        if matches!(event, Event::Step(step) if step == self.0) {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

/// A run of at most 1000 steps; by then the loss cannot still fall by a tenth every 20 steps.
fn request(callback: &str) -> Request {
    let settings = "modality=image encoder.name=mlp encoder.width=48 encoder.depth=2 \
        projector.hidden=64 projector.output=32 objective.slices=64 train.steps=1000 \
        train.lr=0.003 schedule.warmup=0 probe.enabled=false";
    let words = settings.split_whitespace().chain([callback]);
    Request { assignments: words.map(String::from).collect(), ..Request::default() }
}

fn ensure(ok: bool, what: &str) -> Result<(), String> {
    if ok { Ok(()) } else { Err(what.to_string()) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::discover()?;
    // Refused before any data is opened, whether the callback is enabled or not.
    match request("callbacks.plateau.patience=0").resolve(&registry) {
        Err(TrainError::Core(Error::BadValue { key, reason })) => {
            println!("refused: {key}: {reason}");
            ensure(key == "callbacks.plateau.patience", "another key was refused")?;
        }
        Err(other) => return Err(other.into()),
        Ok(_) => return Err("a patience of 0 was accepted".into()),
    }

    let resolved = request("callbacks.plateau.enabled=true").resolve(&registry)?;
    let folder = tempfile::tempdir()?;
    let (device, never) = (Device::flex(), AtomicBool::new(false));
    let whole = RunDir::create(&folder.path().join("whole"))?;
    let ended = train(&resolved, &device, &whole, Start::New, &never, &mut Silent)?;
    let most = resolved.settings().train.steps;
    println!("ended after {} of {most} steps", ended.steps);
    ensure(ended.steps < most, "the run did not end early")?;

    // The scalar is in the log, the state in the checkpoint; both are of the last step.
    let logged = whole.last_metrics().ok_or("metrics.jsonl is empty")?;
    let smooth = *logged.scalars.get("smooth_loss").ok_or("smooth_loss was not logged")?;
    println!("loss {:.4}, smoothed {smooth:.4}", logged.get("loss"));
    ensure(logged.step == ended.steps, "the last step was not logged")?;
    let state = checkpoint::load_callback(&checkpoint::latest(&whole)?, Plateau::NAME)?;
    let state = State::from_bytes(&state.ok_or("the checkpoint has no state of the callback")?)?;
    ensure(state.smooth == Some(smooth), "the state is not that of the last step")?;

    // An interrupted run takes the state up again and ends at the same step.
    let cut = RunDir::create(&folder.path().join("cut"))?;
    let interrupt = AtomicBool::new(false);
    let mut observer = InterruptAfter(ended.steps / 2, &interrupt);
    match train(&resolved, &device, &cut, Start::New, &interrupt, &mut observer) {
        Err(TrainError::Interrupted { step, .. }) => println!("interrupted after step {step}"),
        Err(other) => return Err(other.into()),
        Ok(_) => return Err("the run was not interrupted".into()),
    }
    let resumed = train(&resolved, &device, &cut, Start::Resume, &never, &mut Silent)?;
    println!("resumed, and ended after step {}", resumed.steps);
    ensure(resumed.steps == ended.steps, "the resumed run ended at another step")?;
    let same = resumed.last.get("smooth_loss").to_bits() == smooth.to_bits();
    ensure(same, "the resumed run has another smoothed loss")?;
    Ok(())
}
