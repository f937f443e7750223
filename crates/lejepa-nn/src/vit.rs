//! Vision transformer (Dosovitskiy et al., arXiv 2010.11929) over any patch grid.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Int, Tensor};
use lejepa_core::{
    BoxedEncoder, BuildContext, Component, EncoderKind, Error, Features, Result, ViewSpec, Wants,
};
use lejepa_kernels::{
    BlockShape, Sequences, layer_norm, linear, transformer_block, transformer_block_drop_path,
};
use serde::{Deserialize, Serialize};

use crate::grid::{GridEncoder, boxed, encoder_of_any_grid};
use crate::patch::patchify;
use crate::position::Positions;

/// How patch tokens become one embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The mean of the patch tokens.
    #[default]
    Mean,
    /// A class token prepended to the patches.
    Cls,
}

/// Settings of a [`Vit`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VitConfig {
    /// Width of tokens and of the embedding; a multiple of `heads`, at least 2 per grid axis.
    pub width: usize,
    /// Number of blocks, at least 1.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a block's hidden layer over `width`.
    pub mlp_ratio: f64,
    /// Patch size per grid axis, e.g. `[8, 8]`, or one number for all axes. `[]` chooses: the
    /// largest size up to 16 that divides every view and leaves at least 6 patches an axis.
    pub patch: Vec<usize>,
    /// How tokens become one embedding: `mean` or `cls`.
    pub pool: Pool,
    /// Probability, 0 to below 1, that the last block skips a sample while training; earlier
    /// blocks less, linearly (stochastic depth).
    pub drop_path: f64,
    /// Share of its patch tokens, 0 to below 1, that each view is without while training, at random;
    /// at least 16 stay. A step takes as much less time.
    pub drop_tokens: f64,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            width: 96,
            depth: 4,
            heads: 3,
            mlp_ratio: 4.0,
            patch: Vec::new(),
            pool: Pool::Mean,
            drop_path: 0.0,
            drop_tokens: 0.0,
        }
    }
}

impl VitConfig {
    /// Builds the transformer for `channels` channels and the given patch size per grid axis
    /// (1 to 3 axes).
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use lejepa_core::Encoder;
    /// use lejepa_nn::VitConfig;
    ///
    /// let device = Device::flex();
    /// let config = VitConfig { width: 24, depth: 1, heads: 2, ..Default::default() };
    /// let vit = config.init(3, &[2, 4, 4], &device);
    /// assert_eq!(vit.encode(Tensor::<5>::zeros([2, 3, 4, 8, 8], &device)).dims(), [2, 24]);
    /// ```
    pub fn init(&self, channels: usize, patch: &[usize], device: &Device) -> Vit {
        let mut patch3 = [1; 3];
        patch3[3 - patch.len().min(3)..].copy_from_slice(&patch[..patch.len().min(3)]);
        let hidden = ((self.width as f64 * self.mlp_ratio).round() as usize).max(1);
        let blocks = (0..self.depth)
            .map(|i| Block {
                norm1: LayerNormConfig::new(self.width).with_epsilon(EPSILON).init(device),
                attention: Attention {
                    qkv: LinearConfig::new(self.width, 3 * self.width).init(device),
                    out: LinearConfig::new(self.width, self.width).init(device),
                    heads: self.heads,
                },
                norm2: LayerNormConfig::new(self.width).with_epsilon(EPSILON).init(device),
                up: LinearConfig::new(self.width, hidden).init(device),
                down: LinearConfig::new(hidden, self.width).init(device),
                drop: self.drop_path * i as f64 / (self.depth.max(2) - 1) as f64,
            })
            .collect();
        let cls = match self.pool {
            Pool::Mean => None,
            Pool::Cls => Some(
                burn::module::Initializer::Normal { mean: 0.0, std: 0.02 }
                    .init([1, 1, self.width], device),
            ),
        };
        Vit {
            embed: LinearConfig::new(channels * patch3.iter().product::<usize>(), self.width)
                .init(device),
            cls,
            blocks,
            norm: LayerNormConfig::new(self.width).with_epsilon(EPSILON).init(device),
            patch: patch3,
            width: self.width,
            drop_tokens: self.drop_tokens,
            positions: Positions::default(),
        }
    }

    fn patch_for(&self, views: &ViewSpec) -> Result<Vec<usize>> {
        let axes = views.grid().len();
        let all = views.grids();
        let patch = match self.patch.len() {
            0 => (0..axes).map(|a| auto_patch(&all, a)).collect(),
            1 => vec![self.patch[0]; axes],
            n if n == axes => self.patch.clone(),
            n => {
                return Err(Error::bad_value(
                    "encoder.patch",
                    format!("has {n} sizes, the views have {axes} axes"),
                ));
            }
        };
        for grid in all {
            if let Some(a) = (0..axes).find(|&a| patch[a] == 0 || !grid[a].is_multiple_of(patch[a]))
            {
                return Err(Error::bad_value(
                    "encoder.patch",
                    format!("{} does not divide a view's axis of {}", patch[a], grid[a]),
                ));
            }
        }
        Ok(patch)
    }
}

/// What is added to the variance in a layer norm.
const EPSILON: f64 = 1e-5;

fn auto_patch(grids: &[Vec<usize>], axis: usize) -> usize {
    let fits = |p: &usize| grids.iter().all(|g| g[axis].is_multiple_of(*p));
    let largest = grids.iter().map(|g| g[axis]).max().unwrap_or(1);
    (1..=16).rev().filter(fits).find(|p| largest / p >= 6).unwrap_or(1)
}

/// A pre-norm vision transformer with fixed sine-cosine positions, so that views of any size that
/// the patch divides pass through the same weights.
#[derive(Module, Debug)]
pub struct Vit {
    embed: Linear,
    cls: Option<burn::module::Param<Tensor<3>>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    #[module(skip)]
    patch: [usize; 3],
    #[module(skip)]
    width: usize,
    #[module(skip)]
    drop_tokens: f64,
    #[module(skip)]
    positions: Positions,
}

#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
    #[module(skip)]
    drop: f64,
}

#[derive(Module, Debug)]
struct Attention {
    qkv: Linear,
    out: Linear,
    #[module(skip)]
    heads: usize,
}

impl GridEncoder for Vit {
    fn width(&self) -> usize {
        self.width
    }

    /// `[B, C, T, H, W] -> [B, width]` for views of each shape, one after the other.
    fn forward_all(&self, views: Vec<Tensor<5>>) -> Tensor<2> {
        let tokens = views.into_iter().map(|views| self.tokens(views)).collect();
        let through = self.through_blocks(tokens).into_iter();
        Tensor::cat(through.map(|tokens| self.pooled(tokens)).collect(), 0)
    }

    fn patch(&self) -> Option<[usize; 3]> {
        Some(self.patch)
    }

    /// Dense features are the normalised tokens after the last block, without the class token; those of
    /// other layers are not normalised.
    fn features(&self, views: Tensor<5>, wants: &Wants) -> Result<Features> {
        let depth = self.blocks.len();
        if let Some(layer) = wants.layers.iter().find(|layer| **layer >= depth) {
            let reason =
                format!("has {depth} blocks, counted from 0: no features of layer {layer}");
            return Err(Error::bad_value("encoder.depth", reason));
        }
        let [_, _, t, h, w] = views.dims();
        let [pt, ph, pw] = self.patch;
        let (mut x, sequences) = concatenate(vec![self.tokens(views)]);
        let cells = |x: Tensor<2>| {
            let x = split(x, &sequences).swap_remove(0);
            let [_, tokens, _] = x.dims();
            let first = usize::from(self.cls.is_some());
            x.narrow(1, first, tokens - first)
        };
        let mut after = Vec::with_capacity(depth);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, &sequences);
            after.push(wants.layers.contains(&i).then(|| cells(x.clone())));
        }
        let layers = wants.layers.iter().filter_map(|layer| after[*layer].clone()).collect();
        let last = split(x.clone(), &sequences).swap_remove(0);
        let features = Features::pooled(self.pooled(last))
            .with_dense(self.normalize(cells(x)), [t / pt, h / ph, w / pw])
            .with_layers(layers);
        Ok(features)
    }

    fn undecayed(&self) -> Vec<String> {
        self.cls.iter().map(|_| "cls".to_string()).collect()
    }
}

impl Vit {
    /// `[B, C, T, H, W] -> [B, tokens, width]`
    fn tokens(&self, views: Tensor<5>) -> Tensor<3> {
        let device = views.device();
        let [b, _, t, h, w] = views.dims();
        let [pt, ph, pw] = self.patch;
        let grid = [t / pt, h / ph, w / pw];
        let patches = patchify(views, self.patch);
        let positions = self.positions.get(grid, self.width, &device, patches.dtype());
        let (patches, positions) = match self.kept(patches.dims(), &device) {
            Some(kept) => (
                pick(patches, kept.clone()),
                pick(positions.expand([b, grid.iter().product(), self.width]), kept),
            ),
            None => (patches, positions),
        };
        let tokens = linear(patches, self.embed.weight.val(), bias(&self.embed)) + positions;
        match &self.cls {
            Some(cls) => Tensor::cat(vec![cls.val().expand([b, 1, self.width]), tokens], 1),
            None => tokens,
        }
    }

    /// While training, which patches of each view stay, `[B, kept]`, where some are dropped.
    fn kept(&self, [b, n, _]: [usize; 3], device: &Device) -> Option<Tensor<2, Int>> {
        let kept = ((n as f64 * (1.0 - self.drop_tokens)).ceil() as usize).max(MIN_TOKENS.min(n));
        let draw = || Tensor::<2>::random([b, n], Distribution::Default, device);
        (device.is_autodiff() && kept < n).then(|| draw().argsort(1).narrow(1, 0, kept))
    }

    /// Samples of all lengths through all blocks, together, so that weights are packed and their gradients
    /// summed once.
    fn through_blocks(&self, samples: Vec<Tensor<3>>) -> Vec<Tensor<3>> {
        let (x, sequences) = concatenate(samples);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x, &sequences));
        split(x, &sequences)
    }

    /// `[B, tokens, width] -> [B, width]`
    fn pooled(&self, x: Tensor<3>) -> Tensor<2> {
        match self.cls {
            // Layer norm is token-wise: the class token alone is enough.
            Some(_) => self.normalize(x.narrow(1, 0, 1)).squeeze_dim::<2>(1),
            None => self.normalize(x).mean_dim(1).squeeze_dim::<2>(1),
        }
    }

    fn normalize(&self, x: Tensor<3>) -> Tensor<3> {
        layer_norm(x, self.norm.gamma.val(), shift(&self.norm), EPSILON)
    }
}

/// `[B, n, width]` and places `[B, kept] -> [B, kept, width]`
fn pick(x: Tensor<3>, places: Tensor<2, Int>) -> Tensor<3> {
    let ([b, n, width], [_, kept]) = (x.dims(), places.dims());
    let first = Tensor::<1, Int>::arange(0..b as i64, &places.device()) * n as i64;
    let rows = (places + first.reshape([b, 1])).reshape([b * kept]);
    x.reshape([b * n, width]).select(0, rows).reshape([b, kept, width])
}

/// Tokens that [`VitConfig::drop_tokens`] leaves a view at least.
const MIN_TOKENS: usize = 16;

/// The bias of a layer, or 0.
pub(crate) fn bias(layer: &Linear) -> Tensor<1> {
    match &layer.bias {
        Some(bias) => bias.val(),
        None => {
            let weight = layer.weight.val();
            let [_, output] = weight.dims();
            Tensor::zeros([output], (&weight.device(), weight.dtype()))
        }
    }
}

/// The shift of a norm, or 0.
fn shift(norm: &LayerNorm) -> Tensor<1> {
    match &norm.beta {
        Some(beta) => beta.val(),
        None => norm.gamma.val().zeros_like(),
    }
}

/// Tokens of all samples, `[tokens, width]`.
fn concatenate(samples: Vec<Tensor<3>>) -> (Tensor<2>, Vec<Sequences>) {
    let parts = samples.into_iter().map(|x| {
        let [samples, tokens, width] = x.dims();
        (x.reshape([samples * tokens, width]), Sequences { samples, tokens })
    });
    let (rows, sequences): (Vec<_>, _) = parts.unzip();
    (Tensor::cat(rows, 0), sequences)
}

/// The inverse of [`concatenate`].
fn split(x: Tensor<2>, sequences: &[Sequences]) -> Vec<Tensor<3>> {
    let mut first = 0;
    let part = |of: &Sequences| {
        let (start, rows) = (first, of.samples * of.tokens);
        first += rows;
        x.clone().narrow(0, start, rows).reshape([of.samples as isize, of.tokens as isize, -1])
    };
    sequences.iter().map(part).collect()
}

impl Block {
    fn forward(&self, x: Tensor<2>, sequences: &[Sequences]) -> Tensor<2> {
        let ([_, width], [_, hidden]) = (x.dims(), self.up.weight.dims());
        let heads = self.attention.heads;
        let shape = BlockShape { width, heads, hidden, epsilon: EPSILON as f32 };
        let layers = [&self.attention.qkv, &self.attention.out, &self.up, &self.down];
        let [qkv, out, up, down] = layers.map(bias);
        let (norm1, norm2) = (&self.norm1, &self.norm2);
        let matrices = layers.map(|layer| layer.weight.val());
        let vectors =
            [norm1.gamma.val(), shift(norm1), qkv, out, norm2.gamma.val(), shift(norm2), up, down];
        let samples = sequences.iter().map(|of| of.samples).sum();
        let device = x.device();
        match (self.branch_scale(samples, &device), self.branch_scale(samples, &device)) {
            (Some(first), Some(second)) => {
                let scales = [first, second];
                transformer_block_drop_path(x, matrices, vectors, shape, sequences, scales)
            }
            _ => transformer_block(x, matrices, vectors, shape, sequences),
        }
    }

    /// While training, the scale of a branch of each sample: 0 where it is dropped, and elsewhere such that the
    /// mean is 1 (stochastic depth; Huang et al., arXiv 1603.09382).
    fn branch_scale(&self, samples: usize, device: &Device) -> Option<Tensor<1>> {
        let keep = 1.0 - self.drop;
        let draw = || Tensor::random([samples], Distribution::Bernoulli(keep), device) / keep;
        (self.drop > 0.0 && device.is_autodiff()).then(draw)
    }
}

encoder_of_any_grid!(Vit);

/// Registers [`Vit`] as `vit`.
pub struct VitKind;

impl Component for VitKind {
    const NAME: &'static str = "vit";
    const ABOUT: &'static str = "vision transformer over any patch grid";
    type Config = VitConfig;

    fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("vit.rs"), "VitConfig")
    }
}

impl EncoderKind for VitKind {
    fn build(config: &VitConfig, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
        let (views, device) = (at.views, at.device);
        let axes = views.grid().len();
        if config.depth == 0
            || config.heads == 0
            || !config.width.is_multiple_of(config.heads.max(1))
        {
            return Err(Error::bad_value(
                "encoder.width",
                format!(
                    "width {} must be a multiple of heads {}, and depth {} at least 1",
                    config.width, config.heads, config.depth
                ),
            ));
        }
        if config.width < 2 * axes {
            return Err(Error::bad_value("encoder.width", "must be at least 2 per grid axis"));
        }
        if !(0.0..1.0).contains(&config.drop_path) {
            return Err(Error::bad_value("encoder.drop_path", "must lie in 0..1"));
        }
        if !(0.0..1.0).contains(&config.drop_tokens) {
            return Err(Error::bad_value("encoder.drop_tokens", "must lie in 0..1"));
        }
        if !(config.mlp_ratio > 0.0 && config.mlp_ratio <= 64.0) {
            return Err(Error::bad_value("encoder.mlp_ratio", "must lie in 0..=64, above 0"));
        }
        let patch = config.patch_for(views)?;
        boxed(config.init(views.channels(), &patch, device), axes)
    }
}

#[cfg(test)]
#[path = "vit_tests.rs"]
mod tests;
