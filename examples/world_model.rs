//! A world model: a network predicts the embedding of what comes next from the embedding of what is there
//! now and from an action.
//!
//! The world is a digit on a strip that has no ends. An action moves the digit sideways.
//!
//! `cargo run --release -p lejepa --example world-model`

use std::f32::consts::TAU;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use lejepa::core::{
    BoxedPrediction, Embedded, Error, Group, Prediction, PredictionContext, PredictionKind, Result,
};
use lejepa::prelude::*;
use lejepa::train::{Order, make_batch};
use lejepa_image::{ImageConfig, ImageModality, Picture};
use rand::RngExt;

const SIDE: usize = 8;
/// Samples on which the trained model is evaluated.
const BATCH: usize = 512;

const SETTINGS: &str = "modality=image views.name=moves encoder.name=mlp encoder.width=64 \
    encoder.depth=2 projector.hidden=64 projector.output=8 prediction.name=dynamics \
    objective.slices=64 train.steps=400 train.batch=128 train.lr=0.003 probe.enabled=false";

/// A digit before and after an action.
struct Moves;

fn moved(digit: &Picture, by: usize) -> Result<View> {
    let pixels = digit.pixels();
    let ink = |i: usize| f32::from(pixels[i / SIDE * SIDE + (i + by) % SIDE]) / 255.0;
    View::new([1, SIDE, SIDE], (0..SIDE * SIDE).map(ink).collect())
}

impl ViewSampler for Moves {
    type Sample = Picture;

    fn spec(&self) -> ViewSpec {
        let now = Group::new("now", 1, [1, SIDE, SIDE]);
        let next = Group::new("next", 1, [1, SIDE, SIDE]).target();
        ViewSpec::new([now, next]).with_context("action", 2)
    }

    fn views(&self, digit: &Picture, rng: &mut ViewRng) -> Result<Views> {
        let (place, by) = (rng.random_range(0..SIDE), rng.random_range(0..SIDE));
        let (now, next) = (moved(digit, place)?, moved(digit, place + by)?);
        // As an angle, since a move by the whole side is none.
        let (sin, cos) = (TAU * by as f32 / SIDE as f32).sin_cos();
        Ok(Views::new(vec![vec![now], vec![next]]).with_context("action", vec![cos, sin]))
    }

    fn eval_view(&self, digit: &Picture) -> Result<View> {
        moved(digit, 0)
    }
}

impl Component for Moves {
    const NAME: &'static str = "moves";
    const ABOUT: &'static str = "a digit before and after it is moved";
    type Config = NoConfig;
}

impl ViewsKind for Moves {
    type Modality = ImageModality;

    fn build(_: &NoConfig, _: &ImageConfig) -> Result<Box<dyn ViewSampler<Sample = Picture>>> {
        Ok(Box::new(Self))
    }
}

/// A perceptron from the projection of `now` and the action to the projection of `next`.
#[derive(Module, Debug)]
struct Dynamics {
    first: Linear,
    second: Linear,
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
        let hidden = relu(self.first.forward(Tensor::cat(vec![now, action], 1)));
        Ok((self.second.forward(hidden) - next).square().mean())
    }
}

impl Component for Dynamics {
    const NAME: &'static str = "dynamics";
    const ABOUT: &'static str = "what is next follows from what is now and the action";
    type Config = NoConfig;
}

impl PredictionKind for Dynamics {
    fn build(_: &NoConfig, at: &PredictionContext<'_>) -> Result<BoxedPrediction> {
        let has = |name: &str| at.views.groups().iter().any(|g| g.name == name && g.count == 1);
        let action = at.views.context().iter().find(|context| context.name == "action");
        let action = action.filter(|_| has("now") && has("next")).ok_or_else(missing)?;
        Ok(BoxedPrediction::new(Dynamics {
            first: LinearConfig::new(at.dim + action.width, 128).init(at.device),
            second: LinearConfig::new(128, at.dim).init(at.device),
        }))
    }
}

register!(kind::Views: Moves, kind::Prediction: Dynamics);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let resolved = Request::parse(SETTINGS).resolve(&Registry::discover()?)?;
    let folder = tempfile::tempdir()?;
    let (run, device) = (RunDir::create(folder.path())?, Device::flex());
    Trainer::new(&resolved, &device).run(&run, Start::New)?;

    // The checkpoint holds the predictor's weights with the others.
    let model = resolved.trained(&run, &device)?;
    let source = resolved.open_configured()?;
    let order = Order::new((0..source.len()).collect(), BATCH, Seed(1));
    let batch = make_batch(source.as_ref(), &order, 0, 0..BATCH)?;
    let z = model.project(resolved.spec(), model.embed_batch(&batch, &device)?);
    let loss = |actions: Vec<f32>| -> Result<f32, Box<dyn std::error::Error>> {
        let context = [Tensor::<2>::from_data(TensorData::new(actions, [BATCH, 2]), &device)];
        let at = Embedded::new(z.clone(), resolved.spec(), &context);
        Ok(model.prediction.loss(&at)?.try_into_scalar::<f32>()?)
    };
    let actions = batch.context().first().ok_or("the batch has no actions")?;
    // Samples are in random order, so each one gets the action of an unrelated one.
    let shuffled = loss([&actions[2..], &actions[..2]].concat())?;
    let matched = loss(actions.clone())?;
    println!("prediction loss {matched:.4}, with the shuffled actions {shuffled:.4}");
    assert!(2.0 * matched < shuffled, "the prediction does not depend on the action");
    Ok(())
}
