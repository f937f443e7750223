//! A pair of modalities with an encoder for each: pictures and sounds of the same scenes.
//!
//! A scene is a point. A picture shows it as a spot; in a sound its coordinates are the phases of two tones.
//!
//! `cargo run --release -p lejepa --example pair`

use std::f32::consts::TAU;

use burn::module::Module;
use burn::tensor::Device;
use lejepa::core::{Group, Purpose, Result, Split};
use lejepa::prelude::*;
use lejepa::train::{Batch, Order, TrainError, make_batch};
use rand::RngExt;

const TRAIN: usize = 4096;
const HELD_OUT: usize = 64;
const SIDE: usize = 8;
const TIMES: usize = 64;

const SETTINGS: &str = "modality=pair \
    encoder.image.name=vit encoder.image.width=48 encoder.image.depth=2 encoder.image.patch=[2] \
    encoder.sound.name=mlp encoder.sound.width=96 encoder.sound.depth=2 \
    projector.hidden=128 projector.output=8 objective.slices=64 \
    train.steps=400 train.batch=128 train.lr=0.002 probe.enabled=false";

/// The modality, its data and its views.
struct Pair;

/// A point in the square from -1 to 1.
type Scene = [f32; 2];

/// A picture of the scene and a sound of it, with noise added to every number.
fn render([x, y]: Scene, mut noise: impl FnMut() -> f32) -> Result<[View; 2]> {
    let cell = |i: usize, at: f32| (i as f32 - (SIDE - 1) as f32 / 2.0 - 2.5 * at).powi(2);
    let spot = |i: usize| (-0.4 * (cell(i % SIDE, x) + cell(i / SIDE, y))).exp();
    let tones = |t: usize| {
        let time = TAU * t as f32 / TIMES as f32;
        (2.0 * time + 1.5 * x).sin() + (5.0 * time + 1.5 * y).sin()
    };
    let picture = (0..SIDE * SIDE).map(|i| spot(i) + noise()).collect();
    let sound = (0..TIMES).map(|t| tones(t) + noise()).collect();
    Ok([View::new([1, SIDE, SIDE], picture)?, View::new([1, TIMES], sound)?])
}

impl Component for Pair {
    const NAME: &'static str = "pair";
    const ABOUT: &'static str = "pictures and sounds of the same scenes";
    type Config = NoConfig;
}

impl Modality for Pair {
    const EXTENSIONS: &'static [&'static str] = &[];
    const STREAMS: &'static [&'static str] = &["image", "sound"];
    type Sample = Scene;

    // Scenes are made up, so there is no source to read.
    fn open(_: &NoConfig, _: Source) -> Result<Box<dyn Dataset<Item = Scene>>> {
        Ok(Box::new(Self))
    }

    fn sampler(_: &NoConfig) -> Result<Box<dyn ViewSampler<Sample = Scene>>> {
        Ok(Box::new(Self))
    }
}

impl Dataset for Pair {
    type Item = Scene;

    fn len(&self) -> usize {
        TRAIN + HELD_OUT
    }

    fn name(&self, index: usize) -> String {
        format!("scene {index}")
    }

    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Scene>> {
        let mut rng = Seed(0).rng(Purpose::Demo, &[index as u64]);
        let scene = [rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0)];
        Ok(Decoded::whole(scene, size_of::<Scene>()))
    }

    fn split(&self, index: usize) -> Option<Split> {
        Some(if index < TRAIN { Split::Train } else { Split::Test })
    }
}

impl ViewSampler for Pair {
    type Sample = Scene;

    fn spec(&self) -> ViewSpec {
        ViewSpec::new([
            Group::new("picture", 1, [1, SIDE, SIDE]).stream("image").target(),
            Group::new("wave", 1, [1, TIMES]).stream("sound").target(),
        ])
    }

    fn views(&self, scene: &Scene, rng: &mut ViewRng) -> Result<Views> {
        let [picture, wave] = render(*scene, || rng.random_range(-0.1..0.1))?;
        Ok(Views::new(vec![vec![picture], vec![wave]]))
    }

    fn eval_view(&self, scene: &Scene) -> Result<View> {
        let [picture, _] = render(*scene, || 0.0)?;
        Ok(picture)
    }

    fn eval_views(&self, scene: &Scene) -> Result<Vec<View>> {
        Ok(render(*scene, || 0.0)?.into())
    }
}

register!(kind::Modality: Pair);

/// The number of scenes whose sound has, of all, the projection nearest to their picture's.
fn retrieved(model: &Model, scenes: &Batch) -> Result<usize, TrainError> {
    let z = model.project(scenes.spec(), model.embed_batch(scenes, &Device::flex())?);
    let (pictures, sounds) = (z.clone().narrow(0, 0, 1).swap_dims(0, 1), z.narrow(0, 1, 1));
    let distances = (pictures - sounds).square().sum_dim(2).squeeze_dim::<2>(2);
    let nearest = distances.argmin(1).try_into_vec_as::<i64>()?;
    Ok((0..).zip(nearest).filter(|(scene, sound)| scene == sound).count())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let resolved = Request::parse(SETTINGS).resolve(&Registry::discover()?)?;
    assert!(resolved.encoder_names() == ["vit", "mlp"], "the encoders are not those chosen");
    let folder = tempfile::tempdir()?;
    let (run, device) = (RunDir::create(folder.path())?, Device::flex());
    Trainer::new(&resolved, &device).run(&run, Start::New)?;

    let (initial, trained) = (resolved.model(&device)?.valid(), resolved.trained(&run, &device)?);
    let source = resolved.open_configured()?;
    let order = Order::new((TRAIN..TRAIN + HELD_OUT).collect(), HELD_OUT, Seed(0));
    let scenes = make_batch(source.as_ref(), &order, 0, 0..HELD_OUT)?;
    // Neither encoder keeps statistics, so embeddings move only where parameters do.
    let embedded = |model: &Model| model.embed_batch(&scenes, &device);
    for (before, after) in embedded(&initial)?.into_iter().zip(embedded(&trained)?) {
        let moved = (after - before.clone()).square().sum() / before.square().sum();
        let moved = moved.sqrt().try_into_scalar::<f32>()?;
        println!("the embeddings of an encoder moved by {moved:.2} of their norm");
        assert!(moved > 0.01, "an encoder was not trained");
    }
    let (before, after) = (retrieved(&initial, &scenes)?, retrieved(&trained, &scenes)?);
    println!("sounds found by their pictures, of {HELD_OUT}: {after} trained, {before} untrained");
    // By chance it is 1.
    assert!(after >= 10 && after > before, "pictures do not find their sounds");
    Ok(())
}
