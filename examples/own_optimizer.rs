//! A custom optimizer and a custom learning-rate schedule, chosen by name.
//!
//! `cargo run --release -p lejepa --example own-optimizer`

use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::optim::{LionConfig, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use lejepa::core::config::{Docs, check, field_docs};
use lejepa::core::{Error, OptimizerContext, OptimizerKind, Schedule, ScheduleKind, Value};
use lejepa::prelude::*;
use lejepa::train::{Order, Result, StepMetrics, make_batch};
// Linked to register the modality `image`.
use lejepa_image as _;
use serde::{Deserialize, Serialize};

const SETTINGS: &str = "modality=image encoder.name=mlp encoder.width=48 encoder.depth=2 \
    projector.hidden=64 projector.output=32 objective.slices=64 optimizer.name=lion \
    schedule.name=trapezoid train.steps=100 train.batch=64 train.lr=0.0005 train.log_every=1 \
    probe.enabled=false";

/// Lion (Chen et al., arXiv 2302.06675).
struct Lion;

/// The keys of `[optimizer]`, in addition to `name`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LionSettings {
    /// Decoupled weight decay of matrices and filters, 0 to 100.
    weight_decay: f64,
}

impl Default for LionSettings {
    fn default() -> Self {
        Self { weight_decay: 0.5 }
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
        check::within("optimizer.weight_decay", config.weight_decay, 0.0..=100.0)?;
        let lion = LionConfig::new();
        let decayed = lion.clone().with_weight_decay(config.weight_decay as f32).build();
        let undecayed = ParamGroup::from_paths(at.undecayed.to_vec());
        Ok(ModuleOptimizer::from(decayed).with_group(undecayed, lion.build(), None))
    }
}

/// Linear warm-up over a fifth of the steps, a constant learning rate, then linear cool-down over two fifths.
struct Trapezoid;

impl Schedule for Trapezoid {
    fn factor(&self, step: u64, total: u64) -> f64 {
        let rise = (step + 1) as f64 / (0.2 * total as f64);
        let fall = total.saturating_sub(step) as f64 / (0.4 * total as f64);
        rise.min(fall).min(1.0)
    }
}

impl Component for Trapezoid {
    const NAME: &'static str = "trapezoid";
    const ABOUT: &'static str = "linear warm-up, constant, linear cool-down";
    type Config = NoConfig;
}

impl ScheduleKind for Trapezoid {
    fn build(_: &NoConfig) -> Result<Box<dyn Schedule>, Error> {
        Ok(Box::new(Self))
    }
}

register!(kind::Optimizer: Lion, kind::Schedule: Trapezoid);

/// The parameters of a module, one after the other.
#[derive(Default)]
struct Flat(Vec<Tensor<1>>);

impl ModuleVisitor for Flat {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.val().reshape([-1]));
    }
}

fn numbers(module: &impl Module) -> Result<Vec<f32>> {
    let mut flat = Flat::default();
    module.visit(&mut flat);
    Ok(Tensor::cat(flat.0, 0).try_into_vec_as::<f32>()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let resolved = Request::parse(SETTINGS).resolve(&Registry::discover()?)?;
    let folder = tempfile::tempdir()?;
    let run = RunDir::create(folder.path())?;
    let device = Device::flex();
    Trainer::new(&resolved, &device).run(&run, Start::New)?;
    let log = std::fs::read_to_string(run.metrics_file())?;
    let log = log.lines().map(serde_json::from_str).collect::<Result<Vec<StepMetrics>, _>>()?;
    assert!(log.len() == 100, "not every step was logged");
    assert!(log[99].get("loss") < log[0].get("loss"), "the loss did not fall");

    // 20 steps up to the peak, 40 at the peak, 40 down.
    let peak = resolved.settings().train.lr;
    let planned = [(1, 0.05), (10, 0.5), (20, 1.0), (21, 1.0), (61, 1.0), (81, 0.5), (100, 0.025)];
    for (step, factor) in planned {
        let off = (log[step - 1].get("lr") - factor * peak).abs();
        assert!(off < 1e-9 * peak, "the learning rate is not that of the schedule");
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
    assert!(all && by_lr > not_at_all, "parameters moved otherwise than by Lion");
    Ok(())
}
