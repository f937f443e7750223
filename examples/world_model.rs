//! A world model: a network predicts the embedding of what comes next from the embedding of what is there
//! now and from an action.
//!
//! The world is a dot on a ring, seen as its brightness in 32 cells. An action moves the dot.
//!
//! `cargo run --release -p lejepa --example world-model`

use std::f32::consts::TAU;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, Relu};
use burn::tensor::{Device, Tensor, TensorData};
use lejepa::core::config::{Docs, check, field_docs};
use lejepa::core::{
    BoxedPrediction, Component, Dataset, Decoded, Embedded, Error, Group, Modality, NoConfig,
    Prediction, PredictionContext, PredictionKind, Purpose, Registry, Result, Seed, Source, View,
    ViewRng, ViewSampler, ViewSpec, Views, Window, kind, register,
};
use lejepa::train::{Order, Request, RunDir, Silent, Start, checkpoint, make_batch, train};
use serde::{Deserialize, Serialize};

const TRANSITIONS: usize = 4096;
const CELLS: usize = 32;
/// How far, in radians, an action of 1 moves the dot.
const REACH: f32 = 2.0;
/// Transitions on which the trained model is evaluated.
const BATCH: usize = 512;

const SETTINGS: &str = "modality=ring encoder.name=mlp encoder.width=64 encoder.depth=2 \
    projector.hidden=64 projector.output=8 prediction.name=dynamics prediction.hidden=128 \
    objective.slices=64 train.steps=400 train.batch=128 train.lr=0.003 probe.enabled=false";

/// The modality.
struct Ring;

/// Where the dot is, in radians, and the action, -1 to 1, that is taken there.
struct Transition {
    angle: f32,
    action: f32,
}

/// Random places and actions.
struct Recorded;

impl Dataset for Recorded {
    type Item = Transition;

    fn len(&self) -> usize {
        TRANSITIONS
    }

    fn name(&self, index: usize) -> String {
        format!("transition {index}")
    }

    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Transition>> {
        // The upper 24 bits as a number from 0 to 1.
        let uniform = |part: u64| {
            let bits = Seed(0).derive(Purpose::Demo, &[index as u64, part]);
            (bits >> 40) as f32 / (1u32 << 24) as f32
        };
        let transition = Transition { angle: TAU * uniform(0), action: 2.0 * uniform(1) - 1.0 };
        Ok(Decoded::whole(transition, size_of::<Transition>()))
    }
}

/// The world before and after the action.
struct BeforeAndAfter;

fn picture(angle: f32) -> Result<View> {
    let cell = |i: usize| TAU * i as f32 / CELLS as f32;
    let brightness = |i: usize| (8.0 * ((angle - cell(i)).cos() - 1.0)).exp();
    View::new([1, CELLS], (0..CELLS).map(brightness).collect())
}

impl ViewSampler for BeforeAndAfter {
    type Sample = Transition;

    fn spec(&self) -> ViewSpec {
        let now = Group::new("now", 1, [1, CELLS]);
        let next = Group::new("next", 1, [1, CELLS]).target();
        ViewSpec::new([now, next]).with_context("action", 1)
    }

    fn views(&self, at: &Transition, _: &mut ViewRng) -> Result<Views> {
        let (now, next) = (picture(at.angle)?, picture(at.angle + REACH * at.action)?);
        Ok(Views::new(vec![vec![now], vec![next]]).with_context("action", vec![at.action]))
    }

    fn eval_view(&self, at: &Transition) -> Result<View> {
        picture(at.angle)
    }
}

impl Component for Ring {
    const NAME: &'static str = "ring";
    const ABOUT: &'static str = "a dot on a ring, moved by actions";
    type Config = NoConfig;
}

impl Modality for Ring {
    const EXTENSIONS: &'static [&'static str] = &[];
    type Sample = Transition;

    fn open(_: &NoConfig, source: Source) -> Result<Box<dyn Dataset<Item = Transition>>> {
        match source {
            Source::Demo => Ok(Box::new(Recorded)),
            _ => Err(Error::Data {
                reason: "the ring has no file format".into(),
                hint: "set data.source = \"demo\"".into(),
            }),
        }
    }

    fn sampler(_: &NoConfig) -> Result<Box<dyn ViewSampler<Sample = Transition>>> {
        Ok(Box::new(BeforeAndAfter))
    }
}

/// A perceptron from the projection of `now` and the action to the projection of `next`.
#[derive(Module, Debug)]
struct Dynamics {
    first: Linear,
    second: Linear,
}

/// The keys of `[prediction]`, in addition to `name`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DynamicsConfig {
    /// Width of the hidden layer, 1 to 4096.
    hidden: usize,
}

impl Default for DynamicsConfig {
    fn default() -> Self {
        Self { hidden: 64 }
    }
}

fn missing() -> Error {
    let reason = "needs one view in each of the groups `now` and `next`, and the context `action`";
    Error::bad_value("prediction.name", reason)
}

impl Prediction for Dynamics {
    fn loss(&self, at: &Embedded<'_>) -> Result<Tensor<1>> {
        let now = at.group("now").ok_or_else(missing)?.squeeze_dim::<2>(0);
        let next = at.group("next").ok_or_else(missing)?.squeeze_dim::<2>(0);
        let action = at.context("action").ok_or_else(missing)?.clone();
        let hidden = Relu::new().forward(self.first.forward(Tensor::cat(vec![now, action], 1)));
        Ok((self.second.forward(hidden) - next).square().mean())
    }
}

impl Component for Dynamics {
    const NAME: &'static str = "dynamics";
    const ABOUT: &'static str = "what is next follows from what is now and the action";
    type Config = DynamicsConfig;

    fn docs() -> Docs {
        field_docs(include_str!("world_model.rs"), "DynamicsConfig")
    }
}

impl PredictionKind for Dynamics {
    fn build(config: &DynamicsConfig, at: &PredictionContext<'_>) -> Result<BoxedPrediction> {
        check::within("prediction.hidden", config.hidden, 1..=4096)?;
        let groups = at.views.groups();
        let has = |name: &str| groups.iter().any(|g| g.name == name && g.count == 1);
        let action = at.views.context().iter().find(|context| context.name == "action");
        let Some(action) = action.filter(|_| has("now") && has("next")) else {
            return Err(missing());
        };
        Ok(BoxedPrediction::new(Dynamics {
            first: LinearConfig::new(at.dim + action.width, config.hidden).init(at.device),
            second: LinearConfig::new(config.hidden, at.dim).init(at.device),
        }))
    }
}

register!(kind::Modality: Ring, kind::Prediction: Dynamics);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let assignments = SETTINGS.split_whitespace().map(String::from).collect();
    let request = Request { assignments, ..Request::default() };
    let resolved = request.resolve(&Registry::discover()?)?;
    let folder = tempfile::tempdir()?;
    let run = RunDir::create(&folder.path().join("run"))?;
    let (device, never) = (Device::flex(), AtomicBool::new(false));
    let outcome = train(&resolved, &device, &run, Start::New, &never, &mut Silent)?;
    let unreached = |text: &&String| text.contains("no gradient") && text.contains("prediction.");
    if let Some(warning) = outcome.warnings.iter().find(unreached) {
        return Err(warning.as_str().into());
    }

    // The checkpoint holds the predictor's weights with the others.
    let model = resolved.model(&device)?;
    let model = checkpoint::load_model(&checkpoint::latest(&run)?, model)?.valid();
    let source = resolved.open_configured()?;
    let order = Order::new((0..source.len()).collect(), BATCH, Seed(1));
    let batch = make_batch(source.as_ref(), &order, 0, 0..BATCH)?;
    let z = model.project(resolved.spec(), model.embed_batch(&batch, &device)?);
    let loss = |actions: Vec<f32>| -> Result<f32, Box<dyn std::error::Error>> {
        let context = [Tensor::<2>::from_data(TensorData::new(actions, [BATCH, 1]), &device)];
        let at = Embedded::new(z.clone(), resolved.spec(), &context);
        Ok(model.prediction.loss(&at)?.try_into_scalar::<f32>()?)
    };
    let actions = batch.context().first().ok_or("the batch has no actions")?;
    let mut shuffled = actions.clone();
    // Samples are in random order, so each one gets the action of an unrelated one.
    shuffled.rotate_left(1);
    let (matched, shuffled_loss) = (loss(actions.clone())?, loss(shuffled)?);
    println!("SIGReg after {} steps: {:.2}", outcome.steps, outcome.last.get("sigreg"));
    println!("prediction loss with the true actions:     {matched:.4}");
    println!("prediction loss with the shuffled actions: {shuffled_loss:.4}");
    if 2.0 * matched < shuffled_loss {
        return Ok(());
    }
    Err("the prediction does not depend on the action".into())
}
