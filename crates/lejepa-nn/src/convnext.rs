//! ConvNeXt (Liu et al., arXiv 2201.03545) and ConvNeXt V2 (Woo et al., arXiv 2301.00808).

use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Distribution, Tensor};
use lejepa_core::config::check::{ensure, within};
use lejepa_core::{
    Arrays, BoxedEncoder, BuildContext, Component, EncoderKind, Error, Features, Published, Result,
    Table, ViewSpec, Wants,
};
use lejepa_kernels::{conv2d, layer_norm, linear};
use serde::{Deserialize, Serialize};

use crate::grid::{GridEncoder, boxed, encoder_of_any_grid};
use crate::published_convnext::PublishedConvNext;

/// What is added to variances in layer norms, and to the mean norm in a response normalisation.
pub(crate) const EPSILON: f64 = 1e-6;

/// Side of the depthwise filters.
const KERNEL: usize = 7;

/// Stages, each of half the resolution of the one before.
const STAGES: usize = 4;

/// Published sizes of a [`ConvNext`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConvNextSize {
    /// As the other keys say.
    #[default]
    Custom,
    /// Width 40, depths 2, 2, 6, 2.
    Atto,
    /// Width 48, depths 2, 2, 6, 2.
    Femto,
    /// Width 64, depths 2, 2, 6, 2.
    Pico,
    /// Width 80, depths 2, 2, 8, 2.
    Nano,
    /// Width 96, depths 3, 3, 9, 3.
    Tiny,
    /// Width 96, depths 3, 3, 27, 3.
    Small,
    /// Width 128, depths 3, 3, 27, 3.
    Base,
    /// Width 192, depths 3, 3, 27, 3.
    Large,
    /// Width 256, depths 3, 3, 27, 3.
    Xlarge,
    /// Width 352, depths 3, 3, 27, 3.
    Huge,
}

/// Settings of a [`ConvNext`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConvNextConfig {
    /// A published size, which takes the place of `width` and `depths`: `atto`, `femto`, `pico`, `nano`, `tiny`,
    /// `small`, `base`, `large`, `xlarge`, `huge`; or `custom`.
    pub size: ConvNextSize,
    /// 1, with a learned scale of each block, or 2, with a global response normalisation in each block.
    pub version: usize,
    /// Channels of the first stage, at least 1; each stage has twice those of the one before, so that the embedding
    /// is 8 times as wide.
    pub width: usize,
    /// Blocks of each of the four stages, at least 1 each.
    pub depths: [usize; STAGES],
    /// Side of the patches of the stem: 1, 2 or 4; 0 chooses the largest that leaves the smallest view 8 patches a
    /// side, or else 1. Published networks have 4.
    pub patch: usize,
    /// Probability, 0 to below 1, that the last block skips a sample while training; earlier blocks less, linearly
    /// (stochastic depth).
    pub drop_path: f64,
}

impl Default for ConvNextConfig {
    fn default() -> Self {
        Self {
            size: ConvNextSize::Custom,
            version: 2,
            width: 40,
            depths: [2, 2, 6, 2],
            patch: 0,
            drop_path: 0.0,
        }
    }
}

/// A ConvNeXt without its classifier. The frames of a three-dimensional view are embedded one by one and averaged.
#[derive(Module, Debug)]
pub struct ConvNext {
    stem: Conv2d,
    stem_norm: LayerNorm,
    stages: Vec<Stage>,
    norm: LayerNorm,
    #[module(skip)]
    width: usize,
    #[module(skip)]
    patch: usize,
    #[module(skip)]
    depths: [usize; STAGES],
}

#[derive(Module, Debug)]
struct Stage {
    /// Before the filters that halve the resolution; the first stage has neither.
    norm: Option<LayerNorm>,
    down: Option<Conv2d>,
    blocks: Vec<Block>,
}

#[derive(Module, Debug)]
struct Block {
    conv: Conv2d,
    norm: LayerNorm,
    up: Linear,
    /// Of version 2.
    response: Option<ResponseNorm>,
    down: Linear,
    /// Of version 1.
    scale: Option<Param<Tensor<1>>>,
    #[module(skip)]
    drop: f64,
}

/// Global response normalisation (arXiv 2301.00808, section 3): channels compete by their norms over the map.
#[derive(Module, Debug)]
struct ResponseNorm {
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
}

impl ConvNextConfig {
    /// The settings with those of [`ConvNextConfig::size`] filled in.
    ///
    /// ```
    /// use lejepa_nn::{ConvNextConfig, ConvNextSize};
    ///
    /// let tiny = ConvNextConfig { size: ConvNextSize::Tiny, ..Default::default() }.sized();
    /// assert_eq!((tiny.width, tiny.depths), (96, [3, 3, 9, 3]));
    /// ```
    #[must_use]
    pub fn sized(&self) -> Self {
        let (width, depths) = match self.size {
            ConvNextSize::Custom => return self.clone(),
            ConvNextSize::Atto => (40, [2, 2, 6, 2]),
            ConvNextSize::Femto => (48, [2, 2, 6, 2]),
            ConvNextSize::Pico => (64, [2, 2, 6, 2]),
            ConvNextSize::Nano => (80, [2, 2, 8, 2]),
            ConvNextSize::Tiny => (96, [3, 3, 9, 3]),
            ConvNextSize::Small => (96, [3, 3, 27, 3]),
            ConvNextSize::Base => (128, [3, 3, 27, 3]),
            ConvNextSize::Large => (192, [3, 3, 27, 3]),
            ConvNextSize::Xlarge => (256, [3, 3, 27, 3]),
            ConvNextSize::Huge => (352, [3, 3, 27, 3]),
        };
        Self { width, depths, ..self.clone() }
    }

    /// Refuses values out of range.
    fn validate(&self) -> Result<()> {
        within("encoder.version", self.version, 1..=2)?;
        within("encoder.width", self.width, 1..=4096)?;
        for depth in self.depths {
            within("encoder.depths", depth, 1..=256)?;
        }
        let is_known = [0, 1, 2, 4].contains(&self.patch);
        ensure("encoder.patch", is_known, "must be 1, 2, 4, or 0 to choose")?;
        ensure("encoder.drop_path", (0.0..1.0).contains(&self.drop_path), "must lie in 0..1")
    }

    /// The side of the stem's patches for these views.
    fn patch_for(&self, views: &ViewSpec) -> Result<usize> {
        let axes = views.grid().len().min(2);
        let sides = views.groups().iter().flat_map(|group| group.shape.iter().rev().take(axes));
        let least = sides.map(|side| side.max()).min().unwrap_or(0);
        if self.patch > least {
            let reason = format!("a view has {least} cells a side, less than a patch");
            return Err(Error::bad_value("encoder.patch", reason));
        }
        // The stages halve the sides three times.
        let is_small = |patch: &usize| least / patch >= 1 << (STAGES - 1);
        Ok(match self.patch {
            0 => [4, 2].into_iter().find(is_small).unwrap_or(1),
            patch => patch,
        })
    }

    /// Builds the network for `channels` channels, patches of `patch` cells a side, and views of `axes` axes. The
    /// filters for rows, views of one axis, have a height of 1.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use lejepa_core::Encoder;
    /// use lejepa_nn::ConvNextConfig;
    ///
    /// let device = Device::flex();
    /// let config = ConvNextConfig { width: 4, depths: [1; 4], ..Default::default() };
    /// let net = config.init(3, 2, 2, &device);
    /// assert_eq!(net.encode(Tensor::<4>::zeros([2, 3, 16, 20], &device)).dims(), [2, 32]);
    /// ```
    pub fn init(&self, channels: usize, patch: usize, axes: usize, device: &Device) -> ConvNext {
        let Self { width, depths, version, drop_path, .. } = self.sized();
        let weights = Initializer::Normal { mean: 0.0, std: 0.02 };
        let norm = |width| LayerNormConfig::new(width).with_epsilon(EPSILON).init(device);
        let is_rows = axes == 1;
        let kernel = |side: usize| [if is_rows { 1 } else { side }, side];
        let patches = |from: usize, to: usize, side: usize| {
            let conv = Conv2dConfig::new([from, to], kernel(side)).with_stride([side, side]);
            without_bias(conv.with_initializer(weights.clone()), to, device)
        };
        let all = depths.iter().sum::<usize>();
        let mut before = 0;
        let block = |width: usize, index: usize| {
            let [top, left] = kernel(KERNEL).map(|side| side / 2);
            let conv = Conv2dConfig::new([width, width], kernel(KERNEL))
                .with_groups(width)
                .with_padding(PaddingConfig2d::Explicit(top, left, top, left));
            let inner = 4 * width;
            let vector =
                |value: f64, width: usize| Initializer::Constant { value }.init([width], device);
            let layer = |from, to| {
                let linear = LinearConfig::new(from, to).with_initializer(weights.clone());
                let mut linear = linear.init(device);
                linear.bias = Some(vector(0.0, to));
                linear
            };
            Block {
                conv: without_bias(conv.with_initializer(weights.clone()), width, device),
                norm: norm(width),
                up: layer(width, inner),
                response: (version > 1)
                    .then(|| ResponseNorm { gamma: vector(0.0, inner), beta: vector(0.0, inner) }),
                down: layer(inner, width),
                scale: (version == 1).then(|| vector(1e-6, width)),
                drop: drop_path * index as f64 / (all.max(2) - 1) as f64,
            }
        };
        let mut stages = Vec::with_capacity(STAGES);
        for (stage, depth) in depths.into_iter().enumerate() {
            let width = width << stage;
            stages.push(Stage {
                norm: (stage > 0).then(|| norm(width / 2)),
                down: (stage > 0).then(|| patches(width / 2, width, 2)),
                blocks: (before..before + depth).map(|index| block(width, index)).collect(),
            });
            before += depth;
        }
        let dim = width << (STAGES - 1);
        ConvNext {
            stem: patches(channels, width, patch),
            stem_norm: norm(width),
            stages,
            norm: norm(dim),
            width: dim,
            patch,
            depths,
        }
    }
}

/// A layer whose bias starts from 0.
fn without_bias(conv: Conv2dConfig, width: usize, device: &Device) -> Conv2d {
    let mut conv = conv.init(device);
    conv.bias = Some(Initializer::Zeros.init([width], device));
    conv
}

/// A layer of patches on NHWC images. A side of less than a patch is continued by zeros.
fn patches(conv: &Conv2d, mut x: Tensor<4>) -> Tensor<4> {
    for (axis, &side) in [1, 2].into_iter().zip(&conv.kernel_size) {
        let mut shape = x.dims();
        if shape[axis] < side {
            shape[axis] = side - shape[axis];
            let zeros = Tensor::zeros(shape, (&x.device(), x.dtype()));
            x = Tensor::cat(vec![x, zeros], axis);
        }
    }
    // The kernel is for square filters, those of rows are not.
    if conv.kernel_size[0] != conv.kernel_size[1] {
        return conv.forward(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1]);
    }
    let y = conv2d(x, conv.weight.val(), conv.stride[0], 0);
    match &conv.bias {
        Some(bias) => y + bias.val().reshape([1, 1, 1, -1]),
        None => y,
    }
}

fn normed<const D: usize>(norm: &LayerNorm, x: Tensor<D>) -> Tensor<D> {
    let width = x.dims()[D - 1];
    let beta = norm.beta.as_ref().map(Param::val);
    let beta = beta.unwrap_or_else(|| Tensor::zeros([width], &x.device()));
    layer_norm(x, norm.gamma.val(), beta, EPSILON)
}

fn layer(layer: &Linear, x: Tensor<4>) -> Tensor<4> {
    let weight = layer.weight.val();
    let bias = layer.bias.as_ref().map(Param::val);
    let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[1]], &x.device()));
    linear(x, weight, bias)
}

impl ResponseNorm {
    /// `[B, H, W, C] -> [B, H, W, C]`
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        // The smallest addend keeps the gradient of the root finite where a channel is 0 throughout.
        let square = x.clone().square().sum_dim(1).sum_dim(2);
        let norms = square.add_scalar(f64::from(f32::MIN_POSITIVE)).sqrt();
        let shares = norms.clone() / (norms.mean_dim(3) + EPSILON);
        let [gamma, beta] = [&self.gamma, &self.beta].map(|p| p.val().reshape([1, 1, 1, -1]));
        x.clone() + gamma * (x * shares) + beta
    }
}

impl Block {
    /// `[B, H, W, C] -> [B, H, W, C]`
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [samples, ..] = x.dims();
        let device = x.device();
        let y = self.conv.forward(x.clone().permute([0, 3, 1, 2])).permute([0, 2, 3, 1]);
        let mut y = gelu(layer(&self.up, normed(&self.norm, y)));
        if let Some(response) = &self.response {
            y = response.forward(y);
        }
        y = layer(&self.down, y);
        if let Some(scale) = &self.scale {
            y = y * scale.val().reshape([1, 1, 1, -1]);
        }
        if self.drop > 0.0 && device.is_autodiff() {
            let keep = 1.0 - self.drop;
            let kept =
                Tensor::random([samples, 1, 1, 1], Distribution::Bernoulli(keep), &device) / keep;
            y = y * kept;
        }
        x + y
    }
}

impl ConvNext {
    /// `[B, H, W, C] -> [B, h, w, embedding]`, the maps after the last block.
    fn maps(&self, x: Tensor<4>) -> Tensor<4> {
        let mut x = normed(&self.stem_norm, patches(&self.stem, x));
        for stage in &self.stages {
            if let (Some(norm), Some(down)) = (&stage.norm, &stage.down) {
                x = patches(down, normed(norm, x));
            }
            for block in &stage.blocks {
                x = block.forward(x);
            }
        }
        x
    }

    /// `[B, C, T, H, W] -> [B, T·h·w, embedding]`, and T, h and w.
    fn cells(&self, views: Tensor<5>) -> (Tensor<3>, [usize; 3]) {
        let [b, c, t, h, w] = views.dims();
        let frames = views.swap_dims(1, 2).reshape([b * t, c, h, w]);
        let x = self.maps(frames.permute([0, 2, 3, 1]));
        let [_, h, w, width] = x.dims();
        (x.reshape([b, t * h * w, width]), [t, h, w])
    }
}

impl GridEncoder for ConvNext {
    fn width(&self) -> usize {
        self.width
    }

    fn forward_all(&self, views: Vec<Tensor<5>>) -> Tensor<2> {
        let pooled = |views| self.cells(views).0.mean_dim(1).squeeze_dim::<2>(1);
        normed(&self.norm, Tensor::cat(views.into_iter().map(pooled).collect(), 0))
    }

    /// Dense features are the maps after the last block, normed as their mean is.
    fn features(&self, views: Tensor<5>, wants: &Wants) -> Result<Features> {
        if !wants.layers.is_empty() {
            let reason = "convnext gives features after its last block alone";
            return Err(Error::bad_value("encoder.name", reason));
        }
        let (cells, grid) = self.cells(views);
        let pooled = normed(&self.norm, cells.clone().mean_dim(1).squeeze_dim::<2>(1));
        Ok(Features::pooled(pooled).with_dense(normed(&self.norm, cells), grid))
    }

    fn published(&self) -> Option<Box<dyn Published>> {
        let first = self.stages.first()?.blocks.first()?;
        let version = if first.scale.is_some() { 1 } else { 2 };
        let (depths, patch) = (self.depths, self.patch);
        let width = self.width >> (STAGES - 1);
        Some(Box::new(PublishedConvNext { version, width, depths, patch }))
    }
}

encoder_of_any_grid!(ConvNext);

/// Registers [`ConvNext`] as `convnext`.
pub struct ConvNextKind;

impl Component for ConvNextKind {
    const NAME: &'static str = "convnext";
    const ABOUT: &'static str = "ConvNeXt V1 and V2, atto to huge; frames of a clip are averaged";
    type Config = ConvNextConfig;

    fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("convnext.rs"), "ConvNextConfig")
    }
}

impl EncoderKind for ConvNextKind {
    const SIZES: &'static [(&'static str, &'static str)] = &[
        ("convnext_atto", "size=atto version=1"),
        ("convnext_femto", "size=femto version=1"),
        ("convnext_pico", "size=pico version=1"),
        ("convnext_nano", "size=nano version=1"),
        ("convnext_tiny", "size=tiny version=1"),
        ("convnext_small", "size=small version=1"),
        ("convnext_base", "size=base version=1"),
        ("convnext_large", "size=large version=1"),
        ("convnext_xlarge", "size=xlarge version=1"),
        ("convnextv2_atto", "size=atto"),
        ("convnextv2_femto", "size=femto"),
        ("convnextv2_pico", "size=pico"),
        ("convnextv2_nano", "size=nano"),
        ("convnextv2_tiny", "size=tiny"),
        ("convnextv2_base", "size=base"),
        ("convnextv2_large", "size=large"),
        ("convnextv2_huge", "size=huge"),
    ];

    fn build(config: &ConvNextConfig, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
        let (views, device) = (at.views, at.device);
        config.validate()?;
        let axes = views.grid().len();
        let patch = config.patch_for(views)?;
        boxed(config.init(views.channels(), patch, axes, device), axes)
    }

    fn recognise(published: &Arrays) -> Option<Table> {
        PublishedConvNext::recognise(published)
    }
}

#[cfg(test)]
#[path = "convnext_tests.rs"]
mod tests;
