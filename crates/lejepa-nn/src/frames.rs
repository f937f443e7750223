//! An encoder of pictures for each frame of a clip, and a transformer over the frames.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};
use lejepa_core::config::check::{ensure, within};
use lejepa_core::config::{Docs, field_docs};
use lejepa_core::{
    Arrays, BoxedEncoder, BuildContext, Component, Encoder, EncoderKind, Error, Features,
    FlatInput, ImportedWeights, Input, Published, PublishedModel, Result, Table, Value, ViewSpec,
    Wants,
};
use lejepa_kernels::layer_norm;
use serde::{Deserialize, Serialize};

use crate::inner::{inner, words};
use crate::position::Positions;
use crate::published_vit::refused;
use crate::vit_block::{Block, Mask, Samples, Tokens, epsilon, shift};
use crate::vit_config::VitConfig;

/// `[encoder]` of [`Frames`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FramesConfig {
    /// The encoder of a frame: a name of `lejepa encoders` with its settings, such as `resnet depth=18`, or a name of
    /// `lejepa encoders --all`, such as `resnet18`. With `--init` it is the one that the weights need.
    pub frame: String,
    /// Blocks of the transformer over the frames, 0 to 64; with 0 the embeddings of frames are averaged.
    pub depth: usize,
    /// Its attention heads; they divide the width of the embedding of a frame.
    pub heads: usize,
    /// Width of a block's hidden layer over the width of the embedding, above 0, at most 64.
    pub mlp_ratio: f64,
    /// Whether a frame attends to itself and to those before it alone.
    pub causal: bool,
}

impl Default for FramesConfig {
    fn default() -> Self {
        Self { frame: "convnet".into(), depth: 2, heads: 4, mlp_ratio: 2.0, causal: false }
    }
}

impl FramesConfig {
    /// Puts `frame`, an encoder of pictures, under a transformer over the frames.
    ///
    /// # Errors
    /// [`Error::BadValue`] for settings out of range.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use lejepa_core::{BoxedEncoder, Encoder};
    /// use lejepa_nn::{FramesConfig, VitConfig};
    ///
    /// let device = Device::flex();
    /// let frame = VitConfig { width: 24, depth: 1, heads: 2, ..VitConfig::default() };
    /// let frame = BoxedEncoder::new::<4>(frame.init(3, &[4, 4], &[2, 2], &device)?);
    /// let frames = FramesConfig::default().init(frame, &device)?;
    /// assert_eq!(frames.encode(Tensor::<5>::zeros([2, 3, 6, 8, 8], &device)).dims(), [2, 24]);
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn init(&self, frame: BoxedEncoder, device: &Device) -> Result<Frames> {
        let width = frame.dim();
        within("encoder.depth", self.depth, 0..=64)?;
        let ratio = self.mlp_ratio;
        ensure("encoder.mlp_ratio", ratio > 0.0 && ratio <= 64.0, "must lie in 0..=64, above 0")?;
        let reason = format_args!("must divide {width}, the width of the embedding of a frame");
        ensure("encoder.heads", self.heads > 0 && width.is_multiple_of(self.heads), reason)?;
        let block = VitConfig {
            width,
            depth: self.depth,
            heads: self.heads,
            mlp_ratio: ratio,
            ..VitConfig::default()
        };
        Ok(Frames {
            frame,
            blocks: (0..self.depth).map(|i| Block::new(&block, i, device)).collect(),
            norm: (self.depth > 0)
                .then(|| LayerNormConfig::new(width).with_epsilon(epsilon(false)).init(device)),
            width,
            causal: self.causal,
            positions: Positions::default(),
        })
    }
}

/// The frames of views of clips, as views.
fn of_frames(clips: &ViewSpec) -> ViewSpec {
    let frames = clips.groups().iter().cloned().map(|mut group| {
        group.shape.remove(1);
        group
    });
    ViewSpec::new(frames.collect::<Vec<_>>())
}

/// Frames are embedded one by one. To their embeddings, of fixed positions in time, a transformer is applied; the
/// embedding of a clip is the mean of what comes out, after a layer norm.
#[derive(Module, Debug)]
pub struct Frames {
    frame: BoxedEncoder,
    blocks: Vec<Block>,
    norm: Option<LayerNorm>,
    #[module(skip)]
    width: usize,
    #[module(skip)]
    causal: bool,
    #[module(skip)]
    positions: Positions,
}

impl Frames {
    /// The tokens of `[B, C, T, H, W]`, from the embeddings of its frames, `[B·T, width]`.
    fn tokens(&self, frames: Tensor<2>, [samples, times]: [usize; 2]) -> Tokens {
        let device = frames.device();
        let values = frames.reshape([samples, times, self.width]);
        if self.blocks.is_empty() {
            return Tokens::new(values);
        }
        let places = self.positions.get([times, 1, 1], self.width, &device, values.dtype());
        let order = || Tensor::arange(0..times as i64, &device).float().reshape([1, times]);
        let mask = self.causal.then(|| Mask::causal(order()));
        Tokens { values: values + places, rotation: None, mask }
    }

    /// The embeddings of clips of several lengths, from those of their frames.
    fn over_time(&self, clips: Vec<Tokens>) -> Tensor<2> {
        let (x, samples) = Samples::concatenate(clips);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x, &samples));
        let pooled = samples.split(x).into_iter().map(|x| {
            let x = match &self.norm {
                Some(norm) => layer_norm(x, norm.gamma.val(), shift(norm), epsilon(false)),
                None => x,
            };
            x.mean_dim(1).squeeze_dim::<2>(1)
        });
        Tensor::cat(pooled.collect(), 0)
    }
}

/// `[B, C, T, H, W] -> [B·T, C·H·W]`
fn flat_frames(clips: Tensor<5>) -> Tensor<2> {
    let [b, c, t, h, w] = clips.dims();
    clips.swap_dims(1, 2).reshape([b * t, c * h * w])
}

impl Encoder<5> for Frames {
    fn encode(&self, views: Tensor<5>) -> Tensor<2> {
        let [b, c, t, h, w] = views.dims();
        // Built for such frames, so that there is no other rank.
        match self.frame.encode(flat_frames(views.clone()), &[c, h, w]) {
            Ok(frames) => self.over_time(vec![self.tokens(frames, [b, t])]),
            Err(_) => Tensor::full([b, self.width], f32::NAN, &views.device()),
        }
    }

    fn dim(&self) -> usize {
        self.width
    }

    fn encode_all(&self, inputs: Vec<Input<5>>) -> Result<Tensor<2>> {
        if inputs.iter().any(|input| input.lengths.is_some()) {
            return Err(Error::bad_value("encoder.name", "frames take no views of varying length"));
        }
        let dims: Vec<[usize; 5]> = inputs.iter().map(|input| input.values.dims()).collect();
        let shapes: Vec<[usize; 3]> = dims.iter().map(|&[_, c, _, h, w]| [c, h, w]).collect();
        let flat = inputs.into_iter().zip(&shapes);
        let flat = flat.map(|(input, shape)| FlatInput::new(flat_frames(input.values), shape));
        let frames = self.frame.encode_all(flat.collect())?;
        let mut first = 0;
        let clips = dims.iter().map(|&[b, _, t, ..]| {
            let part = frames.clone().narrow(0, first, b * t);
            first += b * t;
            self.tokens(part, [b, t])
        });
        Ok(self.over_time(clips.collect()))
    }

    /// Dense features are those of the frames; so are those of layers.
    fn features(&self, input: Input<5>, wants: &Wants) -> Result<Features> {
        if wants.is_pooled() {
            return Ok(Features::pooled(self.encode_all(vec![input])?));
        }
        if input.lengths.is_some() {
            return Err(Error::bad_value("encoder.name", "frames take no views of varying length"));
        }
        let [b, c, t, h, w] = input.values.dims();
        let shape = [c, h, w];
        let frames =
            self.frame.features(FlatInput::new(flat_frames(input.values), &shape), wants)?;
        let of_clips = |x: Tensor<3>| {
            let [_, cells, width] = x.dims();
            x.reshape([b, t * cells, width])
        };
        let clips = vec![self.tokens(frames.pooled, [b, t])];
        let grid: Vec<usize> = std::iter::once(t).chain(frames.grid).collect();
        let mut features = Features::pooled(self.over_time(clips))
            .with_layers(frames.layers.into_iter().map(of_clips).collect());
        if let Some(dense) = frames.dense {
            features = features.with_dense(of_clips(dense), grid);
        }
        Ok(features)
    }

    fn undecayed(&self) -> Vec<String> {
        self.frame.undecayed().into_iter().map(|name| format!("{FRAME}{name}")).collect()
    }

    fn published(&self) -> Option<Box<dyn Published>> {
        let frame = self.frame.published()?;
        Some(Box::new(PublishedFrames(frame)))
    }
}

/// How the names of the weights of a frame's encoder begin.
const FRAME: &str = "frame.";

/// Takes published weights for the encoder of a frame.
struct PublishedFrames(Box<dyn Published>);

impl Published for PublishedFrames {
    fn export(&self, _: &Arrays) -> Result<PublishedModel> {
        Err(refused("timm has no encoder of clips"))
    }

    fn import(&self, foreign: Arrays, own: &Arrays) -> Result<ImportedWeights> {
        let of_frame = own.iter().filter_map(|(name, array)| {
            Some((name.strip_prefix(FRAME)?.to_string(), array.clone()))
        });
        let imported = self.0.import(foreign, &of_frame.collect())?;
        let named =
            imported.arrays.into_iter().map(|(name, array)| (format!("{FRAME}{name}"), array));
        let mut arrays = own.clone();
        arrays.extend(named);
        let mut notes = imported.notes;
        if own.keys().any(|name| !name.starts_with(FRAME)) {
            notes.push("the transformer over the frames starts at random".into());
        }
        Ok(ImportedWeights { arrays, notes })
    }

    fn multiply_adds(&self, view: &[usize]) -> Option<u64> {
        let &[channels, times, height, width] = view else { return None };
        Some(self.0.multiply_adds(&[channels, height, width])? * times as u64)
    }
}

/// Registers [`Frames`] as `frames`.
pub struct FramesKind;

impl Component for FramesKind {
    const NAME: &'static str = "frames";
    const ABOUT: &'static str = "any encoder of pictures for the frames, a transformer over them";
    type Config = FramesConfig;

    fn docs() -> Docs {
        field_docs(include_str!("frames.rs"), "FramesConfig")
    }
}

impl EncoderKind for FramesKind {
    const AXES: &'static [usize] = &[3];

    fn build(config: &FramesConfig, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
        let axes = at.views.grid().len();
        let reason = format_args!("frames are those of clips: these views have {axes} grid axes");
        ensure("encoder.name", axes == 3, reason)?;
        let views = of_frames(at.views);
        let frame = inner("encoder.frame", &config.frame, FramesKind::NAME, &views, at)?;
        let frames = config.init(frame, at.device)?;
        Ok(BoxedEncoder::new::<5>(frames))
    }

    fn around(encoder: &Table) -> Option<Table> {
        let keys = [("name", FramesKind::NAME.to_string()), ("frame", words(encoder)?)];
        Some(keys.into_iter().map(|(key, text)| (key.into(), Value::String(text))).collect())
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
