//! Views of varying length: a batch pads them, and a custom encoder masks the padding.
//!
//! `cargo run --release -p lejepa --example variable-length`

use std::f32::consts::TAU;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig1d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};
use lejepa::core::{
    BoxedEncoder, BuildContext, Component, Dataset, Decoded, Encoder, EncoderKind, Error, Group,
    Input, Labels, Modality, NoConfig, Purpose, Registry, Result, Seed, Source, View, ViewRng,
    ViewSampler, ViewSpec, Views, Window, kind, register,
};
use lejepa::train::{Event, Observer, Request, RunDir, Start, TrainError, checkpoint, train};
use rand::RngExt;

const STROKES: usize = 512;
const CLASSES: usize = 4;
const SHORTEST: usize = 24;
const LONGEST: usize = 64;
const WIDTH: usize = 32;
/// Largest error of an embedding, over its largest number where that is above 1.
const TOLERANCE: f32 = 1e-5;

const SETTINGS: &str = "modality=strokes encoder.name=masked-conv projector.hidden=64 \
    projector.output=8 objective.slices=64 train.steps=150 train.batch=64 train.lr=0.003 \
    probe.steps=100";

/// The modality: strokes of a pen.
struct Strokes;

/// The two coordinates of a movement.
type Step = [f32; 2];

/// Strokes that turn at one of four rates, the classes.
struct Drawn([Labels; 1]);

impl Drawn {
    fn new() -> Self {
        let class = |i: usize| Some(format!("rate {}", i % CLASSES));
        let classes: Vec<Option<String>> = (0..STROKES).map(class).collect();
        Self([Labels::from_words("rate", &classes)])
    }
}

impl Dataset for Drawn {
    type Item = Vec<Step>;

    fn len(&self) -> usize {
        STROKES
    }

    fn name(&self, index: usize) -> String {
        format!("stroke {index}")
    }

    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Vec<Step>>> {
        let mut rng = Seed(0).rng(Purpose::Demo, &[index as u64]);
        let length = rng.random_range(SHORTEST..=LONGEST);
        let turn = 0.25 * (1 + index % CLASSES) as f32;
        let speed = rng.random_range(0.5..1.5f32);
        let mut angle = rng.random_range(0.0..TAU);
        let mut step = || {
            angle += turn + rng.random_range(-0.1..0.1f32);
            [speed * angle.cos(), speed * angle.sin()]
        };
        let steps: Vec<Step> = (0..length).map(|_| step()).collect();
        Ok(Decoded::whole(steps, length * size_of::<Step>()))
    }

    fn labels(&self) -> &[Labels] {
        &self.0
    }
}

/// Two stretches of a stroke, each of random length.
struct Stretches;

fn view(steps: &[Step]) -> Result<View> {
    let along = |axis: usize| steps.iter().map(move |step| step[axis]);
    View::new([2, steps.len()], along(0).chain(along(1)).collect())
}

impl ViewSampler for Stretches {
    type Sample = Vec<Step>;

    fn spec(&self) -> ViewSpec {
        ViewSpec::new([Group::new("steps", 2, [2, LONGEST]).up_to(1).target()])
    }

    fn views(&self, stroke: &Vec<Step>, rng: &mut ViewRng) -> Result<Views> {
        let mut stretch = || {
            let length = rng.random_range(SHORTEST / 2..=stroke.len());
            let start = rng.random_range(0..=stroke.len() - length);
            view(&stroke[start..start + length])
        };
        Ok(Views::new(vec![vec![stretch()?, stretch()?]]))
    }

    fn eval_view(&self, stroke: &Vec<Step>) -> Result<View> {
        view(stroke)
    }
}

impl Component for Strokes {
    const NAME: &'static str = "strokes";
    const ABOUT: &'static str = "strokes of a pen";
    type Config = NoConfig;
}

impl Modality for Strokes {
    const EXTENSIONS: &'static [&'static str] = &[];
    type Sample = Vec<Step>;

    fn open(_: &NoConfig, source: Source) -> Result<Box<dyn Dataset<Item = Vec<Step>>>> {
        match source {
            Source::Demo => Ok(Box::new(Drawn::new())),
            _ => Err(Error::Data {
                reason: "strokes have no file format".into(),
                hint: "set data.source = \"demo\"".into(),
            }),
        }
    }

    fn sampler(_: &NoConfig) -> Result<Box<dyn ViewSampler<Sample = Vec<Step>>>> {
        Ok(Box::new(Stretches))
    }
}

/// Two convolutions and the mean over the steps that are there.
#[derive(Module, Debug)]
struct MaskedConv {
    first: Conv1d,
    second: Conv1d,
    out: Linear,
}

impl MaskedConv {
    fn pooled(&self, input: Input<3>) -> Tensor<2> {
        let [batch, _, steps] = input.values.dims();
        // 1 at the steps of a view, 0 at its padding.
        let mask = match input.lengths {
            None => Tensor::<3>::ones([batch, 1, steps], &input.values.device()),
            Some(lengths) => {
                let places = Tensor::<1, Int>::arange(0..steps as i64, &lengths.device());
                let mask = places.reshape([1, steps]).lower(lengths).float();
                mask.reshape([batch, 1, steps])
            }
        };
        // Masked between the layers too: the first one's bias and kernel reach into the padding.
        let x = relu(self.first.forward(input.values)) * mask.clone();
        let x = relu(self.second.forward(x)) * mask.clone();
        let mean = x.sum_dim(2) / mask.sum_dim(2);
        self.out.forward(mean.squeeze_dim::<2>(2))
    }
}

impl Encoder<3> for MaskedConv {
    fn encode(&self, views: Tensor<3>) -> Tensor<2> {
        self.pooled(Input::new(views))
    }

    fn encode_all(&self, inputs: Vec<Input<3>>) -> Result<Tensor<2>> {
        Ok(Tensor::cat(inputs.into_iter().map(|input| self.pooled(input)).collect(), 0))
    }

    fn takes_lengths(&self) -> bool {
        true
    }

    fn dim(&self) -> usize {
        WIDTH
    }
}

impl Component for MaskedConv {
    const NAME: &'static str = "masked-conv";
    const ABOUT: &'static str = "two convolutions, for views of varying length";
    type Config = NoConfig;
}

impl EncoderKind for MaskedConv {
    const MODALITY: Option<&'static str> = Some("strokes");

    fn build(_: &NoConfig, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
        let padding = PaddingConfig1d::Explicit(2, 2);
        let conv = |channels: usize| {
            Conv1dConfig::new(channels, WIDTH, 5).with_padding(padding.clone()).init(at.device)
        };
        Ok(BoxedEncoder::new::<3>(MaskedConv {
            first: conv(at.views.channels()),
            second: conv(WIDTH),
            out: LinearConfig::new(WIDTH, WIDTH).init(at.device),
        }))
    }
}

register!(kind::Modality: Strokes, kind::Encoder: MaskedConv);

/// The logged losses.
#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Metrics(metrics) = event {
            self.0.push(metrics.get("loss"));
        }
    }
}

fn request(more: &str) -> Request {
    let words = SETTINGS.split_whitespace().chain(more.split_whitespace());
    Request { assignments: words.map(String::from).collect(), ..Request::default() }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

fn ensure(ok: bool, what: &str) -> Result<(), String> {
    if ok { Ok(()) } else { Err(what.to_string()) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::discover()?;
    // Refused before any data is opened: this source does not exist.
    match request("encoder.name=mlp data.source=no/such/folder").resolve(&registry) {
        Err(TrainError::Core(Error::BadValue { key, reason })) if key == "encoder.name" => {
            println!("refused: {key}: {reason}");
        }
        Err(other) => return Err(other.into()),
        Ok(_) => return Err("an encoder that takes no lengths was accepted".into()),
    }

    let resolved = request("").resolve(&registry)?;
    let folder = tempfile::tempdir()?;
    let run = RunDir::create(&folder.path().join("run"))?;
    let (device, never, mut losses) = (Device::flex(), AtomicBool::new(false), Losses::default());
    let outcome = train(&resolved, &device, &run, Start::New, &never, &mut losses)?;
    let (first, last) = (losses.0[0], outcome.last.get("loss"));
    println!("loss {first:.3} at step 1, {last:.3} at step {}", outcome.steps);
    ensure(last < first, "the loss did not fall")?;
    let rate = &outcome.probes.first().ok_or("no labels were probed")?.trained;
    println!("{}: k-NN {:.3}, chance {:.3}", rate.name, rate.scores.knn, rate.chance);
    ensure(rate.scores.knn > 2.0 * rate.chance, "the embeddings do not tell the classes apart")?;

    // Views of many lengths in one batch, then each by itself.
    let model = resolved.model(&device)?;
    let model = checkpoint::load_model(&checkpoint::latest(&run)?, model)?;
    let source = resolved.open_configured()?;
    let views = (0..64).map(|i| source.eval_view(i)).collect::<Result<Vec<View>>>()?;
    let embed = |views: Vec<&View>| -> Result<Vec<f32>, TrainError> {
        Ok(model.embed(&[views], &device)?.try_into_vec_as::<f32>()?)
    };
    let together = embed(views.iter().collect())?;
    ensure(together.iter().all(|x| x.is_finite()), "an embedding is not finite")?;
    let mut apart = 0.0f32;
    for (view, padded) in views.iter().zip(together.chunks_exact(model.dim())) {
        apart = apart.max(distance(&embed(vec![view])?, padded));
    }
    let lengths = || views.iter().map(|view| view.shape()[1]);
    let (shortest, longest) = (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0));
    println!("lengths {shortest} to {longest}: embeddings within {apart:.1e} of those alone");
    ensure(shortest < longest, "all views have the same length")?;
    let tolerance = TOLERANCE * together.iter().fold(1.0f32, |most, x| most.max(x.abs()));
    ensure(apart <= tolerance, "an embedding depends on the padding")?;

    // Zeros that belong to the view are no padding.
    let short = views.iter().find(|view| view.shape()[1] == shortest).ok_or("no shortest view")?;
    let mut filled = vec![0.0; 2 * LONGEST];
    for (into, from) in filled.chunks_exact_mut(LONGEST).zip(short.data().chunks_exact(shortest)) {
        into[..shortest].copy_from_slice(from);
    }
    let filled = View::new([2, LONGEST], filled)?;
    let changed = distance(&embed(vec![&filled])?, &embed(vec![short])?);
    println!("zeros in place of padding move an embedding by {changed:.1e}");
    ensure(changed > 100.0 * tolerance, "the lengths make no difference")?;
    Ok(())
}
