//! A custom optimizer and a custom learning-rate schedule, chosen by name.
//!
//! `cargo run --release -p lejepa --example own-optimizer`

use std::sync::atomic::AtomicBool;

use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::optim::{LionConfig, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use lejepa::core::config::{Docs, check, field_docs};
use lejepa::core::{
    Component, Error, OptimizerContext, OptimizerKind, Registry, Schedule, ScheduleKind, Seed,
    Value, kind, register,
};
use lejepa::train::{
    Event, Observer, Order, Request, Result, RunDir, Start, StepMetrics, TrainError, make_batch,
    train,
};
// Linked to register the modality `image`.
use lejepa_image as _;
use serde::{Deserialize, Serialize};

const SETTINGS: &str = "modality=image encoder.name=mlp encoder.width=48 encoder.depth=2 \
    projector.hidden=64 projector.output=32 objective.slices=64 optimizer.name=lion \
    schedule.name=trapezoid schedule.warmup=0.2 schedule.cooldown=0.4 train.steps=100 \
    train.batch=64 train.lr=0.0005 train.log_every=1 probe.enabled=false";

/// Lion (Chen et al., arXiv 2302.06675).
struct Lion;

/// The keys of `[optimizer]`, in addition to `name`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LionSettings {
    /// Weight of the momentum in an update, and its decay; each at least 0 and below 1.
    betas: [f64; 2],
    /// Decoupled weight decay of matrices and filters, 0 to 100.
    weight_decay: f64,
}

impl Default for LionSettings {
    fn default() -> Self {
        Self { betas: [0.9, 0.99], weight_decay: 0.5 }
    }
}

impl Component for Lion {
    const NAME: &'static str = "lion";
    const ABOUT: &'static str = "the sign of a momentum, with decoupled weight decay";
    type Config = LionSettings;

    fn docs() -> Docs {
        field_docs(include_str!("own_optimizer.rs"), "LionSettings")
    }
}

impl OptimizerKind for Lion {
    fn build(config: &LionSettings, at: &OptimizerContext<'_>) -> Result<ModuleOptimizer, Error> {
        let are_decays = config.betas.iter().all(|beta| (0.0..1.0).contains(beta));
        check::ensure("optimizer.betas", are_decays, "must be at least 0 and below 1")?;
        check::within("optimizer.weight_decay", config.weight_decay, 0.0..=100.0)?;
        let [beta_1, beta_2] = config.betas.map(|beta| beta as f32);
        let lion = |weight_decay: f64| {
            let lion = LionConfig::new().with_beta_1(beta_1).with_beta_2(beta_2);
            lion.with_weight_decay(weight_decay as f32).build()
        };
        let decayed = ModuleOptimizer::from(lion(config.weight_decay));
        Ok(decayed.with_group(ParamGroup::from_paths(at.undecayed.to_vec()), lion(0.0), None))
    }
}

/// Linear warm-up, a constant learning rate, then linear cool-down.
struct Trapezoid(TrapezoidSettings);

/// The keys of `[schedule]`, in addition to `name`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TrapezoidSettings {
    /// Share of the steps, 0 to 1, over which the learning rate rises.
    warmup: f64,
    /// Share of the steps, 0 to 1, over which it falls.
    cooldown: f64,
}

impl Default for TrapezoidSettings {
    fn default() -> Self {
        Self { warmup: 0.05, cooldown: 0.2 }
    }
}

impl Schedule for Trapezoid {
    fn factor(&self, step: u64, total: u64) -> f64 {
        let steps = |share: f64| (share * total as f64).round().max(1.0);
        let rise = (step + 1) as f64 / steps(self.0.warmup);
        let fall = total.saturating_sub(step) as f64 / steps(self.0.cooldown);
        rise.min(fall).min(1.0)
    }
}

impl Component for Trapezoid {
    const NAME: &'static str = "trapezoid";
    const ABOUT: &'static str = "linear warm-up, constant, linear cool-down";
    type Config = TrapezoidSettings;

    fn docs() -> Docs {
        field_docs(include_str!("own_optimizer.rs"), "TrapezoidSettings")
    }
}

impl ScheduleKind for Trapezoid {
    fn build(config: &TrapezoidSettings) -> Result<Box<dyn Schedule>, Error> {
        check::within("schedule.warmup", config.warmup, 0.0..=1.0)?;
        check::within("schedule.cooldown", config.cooldown, 0.0..=1.0)?;
        Ok(Box::new(Self(config.clone())))
    }
}

register!(kind::Optimizer: Lion, kind::Schedule: Trapezoid);

/// The logged steps.
#[derive(Default)]
struct Log(Vec<StepMetrics>);

impl Observer for Log {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Metrics(metrics) = event {
            self.0.push(metrics.clone());
        }
    }
}

/// The parameters of a module, one after the other.
#[derive(Default)]
struct Flat(Vec<Tensor<1>>);

impl ModuleVisitor for Flat {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let count = value.shape().num_elements();
        self.0.push(value.reshape([count]));
    }
}

fn numbers(module: &impl Module) -> Result<Vec<f32>> {
    let mut flat = Flat::default();
    module.visit(&mut flat);
    Ok(Tensor::cat(flat.0, 0).try_into_vec_as::<f32>()?)
}

fn request(more: &str) -> Request {
    let words = SETTINGS.split_whitespace().chain(more.split_whitespace());
    Request { assignments: words.map(String::from).collect(), ..Request::default() }
}

fn ensure(ok: bool, what: &str) -> Result<(), String> {
    if ok { Ok(()) } else { Err(what.to_string()) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::discover()?;
    for (typo, meant) in [
        ("optimizer.weight_decai=0.1", "optimizer.weight_decay"),
        ("schedule.cooldwon=0.1", "schedule.cooldown"),
    ] {
        match request(typo).resolve(&registry) {
            Err(TrainError::Core(error @ Error::UnknownKey { .. })) => {
                println!("refused: {error}");
                let suggestion = format!("did you mean `{meant}`?");
                ensure(error.to_string().ends_with(&suggestion), "another key was suggested")?;
            }
            Err(other) => return Err(other.into()),
            Ok(_) => return Err(format!("{typo} was accepted").into()),
        }
    }
    for bad in ["optimizer.betas=[0.9,1.0]", "schedule.warmup=1.5"] {
        match request(bad).resolve(&registry) {
            Err(TrainError::Core(Error::BadValue { key, .. })) if bad.starts_with(&key) => {}
            Err(other) => return Err(other.into()),
            Ok(_) => return Err(format!("{bad} was accepted").into()),
        }
    }

    let resolved = request("").resolve(&registry)?;
    let (peak, steps) = (resolved.settings().train.lr, resolved.settings().train.steps);
    let folder = tempfile::tempdir()?;
    let run = RunDir::create(&folder.path().join("run"))?;
    let (device, never, mut log) = (Device::flex(), AtomicBool::new(false), Log::default());
    let outcome = train(&resolved, &device, &run, Start::New, &never, &mut log)?;
    ensure(log.0.len() as u64 == steps, "not every step was logged")?;
    let (first, last) = (log.0[0].get("loss"), outcome.last.get("loss"));
    println!("loss {first:.3} at step 1, {last:.3} at step {steps}");
    ensure(last < first, "the loss did not fall")?;

    // 20 steps up to the peak, 40 at the peak, 40 down.
    for (step, factor) in
        [(1, 0.05), (10, 0.5), (20, 1.0), (21, 1.0), (61, 1.0), (81, 0.5), (100, 0.025)]
    {
        let logged = log.0.iter().find(|metrics| metrics.step == step);
        let lr = logged.ok_or("a step is missing from the log")?.get("lr");
        println!("step {step:3}: learning rate {lr:.3e}");
        let is_as_planned = (lr - factor * peak).abs() < 1e-9 * peak;
        ensure(is_as_planned, "the learning rate is not that of the schedule")?;
    }

    // Without weight decay Lion moves each parameter by the learning rate, up or down.
    let resolved = resolved.with([("optimizer.weight_decay", Value::Float(0.0))])?;
    let source = resolved.open_configured()?;
    let order = Order::new((0..source.len()).collect(), 64, Seed(0));
    let batch = make_batch(source.as_ref(), &order, 0, 0..64)?;
    let learner = resolved.learner(&device)?;
    let before = numbers(&learner.model.encoders)?;
    let pass = learner.pass(&batch, 0)?;
    let after = numbers(&learner.update(peak, pass.gradients).model.encoders)?;
    let moves = || before.iter().zip(&after).map(|(a, b)| f64::from((a - b).abs()));
    let by_lr = moves().filter(|x| (x - peak).abs() < 1e-6).count();
    let not_at_all = moves().filter(|x| *x == 0.0).count();
    println!("one update: {by_lr} parameters moved by {peak}, {not_at_all} not at all");
    let all = by_lr + not_at_all == before.len();
    ensure(all && by_lr > not_at_all, "parameters moved otherwise than by Lion")?;
    Ok(())
}
