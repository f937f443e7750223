//! A pair of modalities with an encoder for each: pictures and sounds of the same scenes.
//!
//! A scene is a point. A picture shows it as a spot; in a sound its coordinates are the phases of two tones.
//!
//! `cargo run --release -p lejepa --example pair`

use std::f32::consts::TAU;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use lejepa::core::{
    BoxedEncoder, Component, Dataset, Decoded, Error, Group, Modality, NoConfig, Purpose, Registry,
    Result, Seed, Source, Split, View, ViewRng, ViewSampler, ViewSource, ViewSpec, Views, Window,
    kind, register,
};
use lejepa::train::{Batch, Model, Request, RunDir, Silent, Start, TrainError, checkpoint, train};
use rand::RngExt;

const TRAIN: usize = 4096;
const HELD_OUT: usize = 64;
const SIDE: usize = 8;
const TIMES: usize = 64;
const NOISE: f32 = 0.1;

const SETTINGS: &str = "modality=pair \
    encoder.image.name=vit encoder.image.width=48 encoder.image.depth=2 encoder.image.patch=[2] \
    encoder.sound.name=mlp encoder.sound.width=96 encoder.sound.depth=2 \
    projector.hidden=128 projector.output=8 objective.slices=64 \
    train.steps=400 train.batch=128 train.lr=0.002 probe.enabled=false";

/// The modality.
struct Pair;

/// A point in the square from -1 to 1.
struct Scene {
    x: f32,
    y: f32,
}

impl Scene {
    /// A picture of the scene and a sound of it, with noise added to every number.
    fn render(&self, mut noise: impl FnMut() -> f32) -> Result<[View; 2]> {
        let cell = |i: usize, at: f32| (i as f32 - (SIDE - 1) as f32 / 2.0 - 2.5 * at).powi(2);
        let spot = |i: usize| (-0.4 * (cell(i % SIDE, self.x) + cell(i / SIDE, self.y))).exp();
        let tones = |t: usize| {
            let time = TAU * t as f32 / TIMES as f32;
            (2.0 * time + 1.5 * self.x).sin() + (5.0 * time + 1.5 * self.y).sin()
        };
        let picture = (0..SIDE * SIDE).map(|i| spot(i) + noise()).collect();
        let sound = (0..TIMES).map(|t| tones(t) + noise()).collect();
        Ok([View::new([1, SIDE, SIDE], picture)?, View::new([1, TIMES], sound)?])
    }
}

/// Random scenes; the last ones are held out.
struct Scenes;

impl Dataset for Scenes {
    type Item = Scene;

    fn len(&self) -> usize {
        TRAIN + HELD_OUT
    }

    fn name(&self, index: usize) -> String {
        format!("scene {index}")
    }

    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Scene>> {
        let mut rng = Seed(0).rng(Purpose::Demo, &[index as u64]);
        let scene = Scene { x: rng.random_range(-1.0..1.0), y: rng.random_range(-1.0..1.0) };
        Ok(Decoded::whole(scene, size_of::<Scene>()))
    }

    fn split(&self, index: usize) -> Option<Split> {
        Some(if index < TRAIN { Split::Train } else { Split::Test })
    }
}

/// One picture and one sound of a scene.
struct SeenAndHeard;

impl ViewSampler for SeenAndHeard {
    type Sample = Scene;

    fn spec(&self) -> ViewSpec {
        ViewSpec::new([
            Group::new("picture", 1, [1, SIDE, SIDE]).stream("image").target(),
            Group::new("wave", 1, [1, TIMES]).stream("sound").target(),
        ])
    }

    fn views(&self, scene: &Scene, rng: &mut ViewRng) -> Result<Views> {
        let [picture, wave] = scene.render(|| rng.random_range(-NOISE..NOISE))?;
        Ok(Views::new(vec![vec![picture], vec![wave]]))
    }

    fn eval_view(&self, scene: &Scene) -> Result<View> {
        let [picture, _] = scene.render(|| 0.0)?;
        Ok(picture)
    }

    fn eval_views(&self, scene: &Scene) -> Result<Vec<View>> {
        Ok(scene.render(|| 0.0)?.into())
    }
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

    fn open(_: &NoConfig, source: Source) -> Result<Box<dyn Dataset<Item = Scene>>> {
        match source {
            Source::Demo => Ok(Box::new(Scenes)),
            _ => Err(Error::Data {
                reason: "scenes have no file format".into(),
                hint: "set data.source = \"demo\"".into(),
            }),
        }
    }

    fn sampler(_: &NoConfig) -> Result<Box<dyn ViewSampler<Sample = Scene>>> {
        Ok(Box::new(SeenAndHeard))
    }
}

register!(kind::Modality: Pair);

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

fn numbers(encoder: &BoxedEncoder) -> Result<Vec<f32>, TrainError> {
    let mut flat = Flat::default();
    encoder.visit(&mut flat);
    Ok(Tensor::cat(flat.0, 0).try_into_vec_as::<f32>()?)
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f32>().sqrt()
}

/// The number of held-out scenes whose sound has, of all, the projection nearest to their picture's.
fn retrieved(model: &Model, source: &dyn ViewSource) -> Result<usize, TrainError> {
    let samples: Vec<usize> = (TRAIN..source.len()).collect();
    let views = |&index: &usize| -> Result<Views> {
        let of_streams = source.checked_eval_views(index)?.into_iter();
        Ok(Views::new(of_streams.map(|view| vec![view]).collect()))
    };
    let views = samples.iter().map(views).collect::<Result<Vec<Views>>>()?;
    let batch = Batch::new(Arc::clone(source.spec()), samples, views)?;
    let model = model.valid();
    let z = model.project(source.spec(), model.embed_batch(&batch, &Device::flex())?);
    let [_, count, dim] = z.dims();
    let rows = z.try_into_vec_as::<f32>()?;
    let (pictures, sounds) = rows.split_at(count * dim);
    let nearest = |picture: &[f32]| {
        let distances = sounds.chunks_exact(dim).map(|sound| distance(picture, sound));
        distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(index, _)| index)
    };
    let pictures = pictures.chunks_exact(dim).enumerate();
    Ok(pictures.filter(|(index, picture)| nearest(picture) == Some(*index)).count())
}

fn ensure(ok: bool, what: &str) -> Result<(), String> {
    if ok { Ok(()) } else { Err(what.to_string()) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let assignments = SETTINGS.split_whitespace().map(String::from).collect();
    let request = Request { assignments, ..Request::default() };
    let resolved = request.resolve(&Registry::discover()?)?;
    ensure(resolved.encoder_names() == ["vit", "mlp"], "the encoders are not those chosen")?;
    let folder = tempfile::tempdir()?;
    let run = RunDir::create(&folder.path().join("run"))?;
    let (device, never) = (Device::flex(), AtomicBool::new(false));
    let outcome = train(&resolved, &device, &run, Start::New, &never, &mut Silent)?;
    if let Some(warning) = outcome.warnings.iter().find(|text| text.contains("no gradient")) {
        return Err(warning.as_str().into());
    }

    let initial = resolved.model(&device)?;
    let latest = checkpoint::latest(&run)?;
    let trained = checkpoint::load_model(&latest, resolved.model(&device)?)?;
    let encoders = initial.encoders.iter().zip(&trained.encoders);
    for (stream, (before, after)) in resolved.spec().streams().iter().zip(encoders) {
        let (before, after) = (numbers(before)?, numbers(after)?);
        let moved = distance(&before, &after) / distance(&before, &vec![0.0; before.len()]);
        println!("{stream}: {} parameters, moved by {moved:.2} of their norm", after.len());
        ensure(moved > 0.01, "an encoder was not trained")?;
    }

    let source = resolved.open_configured()?;
    let before = retrieved(&initial, source.as_ref())?;
    let after = retrieved(&trained, source.as_ref())?;
    println!("sounds found by their pictures, of {HELD_OUT}: {after} trained, {before} untrained");
    // By chance it is 1.
    ensure(after >= 10 && after > before, "pictures do not find their sounds")?;
    Ok(())
}
