//! Views of varying length: a batch pads them, and a custom encoder masks the padding.
//!
//! `cargo run --release -p lejepa --example variable-length`

use burn::module::Module;
use burn::nn::PaddingConfig1d;
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};
use lejepa::core::{Group, Input, Result};
use lejepa::prelude::*;
use lejepa::train::{Order, make_batch};
use lejepa_image::{ImageConfig, ImageModality, Picture};
use rand::RngExt;

const SIDE: usize = 8;
const WIDTH: usize = 32;

const SETTINGS: &str = "modality=image views.name=stretches encoder.name=masked-conv \
    projector.hidden=64 projector.output=8 objective.slices=64 train.steps=150 train.batch=64 \
    train.lr=0.003 probe.steps=100";

/// Two stretches of a digit, each of a random number of columns.
struct Stretches;

/// Some columns of a digit. Its rows are the channels.
fn stretch(digit: &Picture, start: usize, length: usize) -> Result<View> {
    let pixels = digit.pixels();
    let ink = pixels.chunks_exact(SIDE).flat_map(|row| &row[start..start + length]);
    View::new([SIDE, length], ink.map(|&ink| f32::from(ink) / 255.0).collect())
}

impl ViewSampler for Stretches {
    type Sample = Picture;

    fn spec(&self) -> ViewSpec {
        ViewSpec::new([Group::new("columns", 2, [SIDE, SIDE]).up_to(1).target()])
    }

    fn views(&self, digit: &Picture, rng: &mut ViewRng) -> Result<Views> {
        let mut random = || {
            let length = rng.random_range(SIDE / 2..=SIDE);
            stretch(digit, rng.random_range(0..=SIDE - length), length)
        };
        Ok(Views::new(vec![vec![random()?, random()?]]))
    }

    fn eval_view(&self, digit: &Picture) -> Result<View> {
        stretch(digit, 0, SIDE)
    }
}

impl Component for Stretches {
    const NAME: &'static str = "stretches";
    const ABOUT: &'static str = "stretches of a digit, of varying length";
    type Config = NoConfig;
}

impl ViewsKind for Stretches {
    type Modality = ImageModality;

    fn build(_: &NoConfig, _: &ImageConfig) -> Result<Box<dyn ViewSampler<Sample = Picture>>> {
        Ok(Box::new(Self))
    }
}

/// A convolution and the mean over the columns that are there.
#[derive(Module, Debug)]
struct MaskedConv {
    conv: Conv1d,
}

impl MaskedConv {
    fn pooled(&self, input: Input<3>) -> Tensor<2> {
        let [batch, _, longest] = input.values.dims();
        let all = || Tensor::full([batch, 1], longest as i64, &input.values.device());
        let lengths = input.lengths.unwrap_or_else(all);
        // 1 at the columns of a view, 0 at its padding.
        let places = Tensor::<1, Int>::arange(0..longest as i64, &lengths.device());
        let mask = places.reshape([1, longest]).lower(lengths).float().unsqueeze_dim::<3>(1);
        // Bias and kernel reach into the padding; with more layers, each of them needs the mask.
        let x = relu(self.conv.forward(input.values)) * mask.clone();
        (x.sum_dim(2) / mask.sum_dim(2)).squeeze_dim::<2>(2)
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
    const ABOUT: &'static str = "a convolution, for views of varying length";
    type Config = NoConfig;
}

impl EncoderKind for MaskedConv {
    fn build(_: &NoConfig, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
        let conv = Conv1dConfig::new(at.views.channels(), WIDTH, 5)
            .with_padding(PaddingConfig1d::Explicit(2, 2))
            .init(at.device);
        Ok(BoxedEncoder::new::<3>(Self { conv }))
    }
}

register!(kind::Views: Stretches, kind::Encoder: MaskedConv);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let resolved = Request::parse(SETTINGS).resolve(&Registry::discover()?)?;
    let refused = resolved.with([("encoder.name", "mlp".into())]).is_err();
    assert!(refused, "an encoder that takes no lengths was accepted");
    let folder = tempfile::tempdir()?;
    let (run, device) = (RunDir::create(folder.path())?, Device::flex());
    let outcome = Trainer::new(&resolved, &device).run(&run, Start::New)?;
    let digit = &outcome.probes.first().ok_or("no labels were probed")?.trained;
    println!("{}: k-NN {:.3}, chance {:.3}", digit.name, digit.scores.knn, digit.chance);
    assert!(digit.scores.knn > 5.0 * digit.chance, "the embeddings do not tell the classes apart");

    // Views of many lengths in one batch, then each by itself.
    let model = resolved.trained(&run, &device)?;
    let source = resolved.open_configured()?;
    let order = Order::new((0..source.len()).collect(), 32, Seed(1));
    let batch = make_batch(source.as_ref(), &order, 0, 0..32)?;
    let views: Vec<&View> = batch.groups().iter().flatten().collect();
    assert!(views.iter().any(|view| view.shape() != views[0].shape()), "all are of one length");
    let embed = |views: Vec<&View>| model.embed(&[views], &device);
    let together = embed(views.clone())?;
    let alone = views.iter().map(|&view| embed(vec![view])).collect::<Result<_, _>>()?;
    let apart = (Tensor::cat(alone, 0) - together).abs().max().try_into_scalar::<f32>()?;
    // Zeros that belong to the view are no padding: both of these have ink in four columns.
    let inked = |columns: usize| {
        let ink = (0..SIDE * columns).map(|i| f32::from(i % columns < 4));
        View::new([SIDE, columns], ink.collect())
    };
    let changed = embed(vec![&inked(4)?])? - embed(vec![&inked(SIDE)?])?;
    let changed = changed.abs().max().try_into_scalar::<f32>()?;
    println!("padding moves an embedding by {apart:.1e}, zeros in its place by {changed:.1e}");
    assert!(apart < 1e-3 * changed, "an embedding depends on the padding");
    Ok(())
}
