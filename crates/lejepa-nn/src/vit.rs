//! Vision transformer (Dosovitskiy et al., arXiv 2010.11929) over any patch grid.

use burn::module::Module;
use burn::nn::{Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use lejepa_core::{BoxedEncoder, BuildContext, Component, EncoderKind, Error, Result, ViewSpec};
use lejepa_kernels::{
    BlockShape, Sequences, layer_norm, linear, supports, thinned_transformer_block,
    transformer_block,
};
use serde::{Deserialize, Serialize};

use crate::grid::{boxed, encoder_of_any_grid};

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

impl Vit {
    /// Width of the embedding.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// `[B, C, T, H, W] -> [B, width]` for views of each shape, one after the other.
    pub(crate) fn forward_all(&self, views: Vec<Tensor<5>>) -> Tensor<2> {
        let tokens = views.into_iter().map(|views| self.tokens(views)).collect();
        let through = self.through_blocks(tokens).into_iter();
        Tensor::cat(through.map(|tokens| self.pooled(tokens)).collect(), 0)
    }

    /// `[B, C, T, H, W] -> [B, tokens, width]`
    fn tokens(&self, views: Tensor<5>) -> Tensor<3> {
        let device = views.device();
        let [b, _, t, h, w] = views.dims();
        let [pt, ph, pw] = self.patch;
        let grid = [t / pt, h / ph, w / pw];
        let tokens = self.embed(patchify(views, self.patch));
        let positions = sincos_positions(grid, self.width);
        let n = grid.iter().product::<usize>();
        let positions =
            Tensor::<3>::from_data(TensorData::new(positions, [1, n, self.width]), &device);
        let tokens = tokens + positions;
        match &self.cls {
            Some(cls) => Tensor::cat(vec![cls.val().expand([b, 1, self.width]), tokens], 1),
            None => tokens,
        }
    }

    /// Samples of each length through all blocks: together, where the fused way is, so that weights are
    /// prepared and their gradients summed once for all of them.
    fn through_blocks(&self, samples: Vec<Tensor<3>>) -> Vec<Tensor<3>> {
        let fused = samples.iter().all(|x| supports(&x.device(), x.dtype()));
        let weights = self.blocks.iter().map(Block::weights).collect::<Option<Vec<_>>>();
        let Some(weights) = weights.filter(|_| fused) else {
            let through = |x: Tensor<3>| self.blocks.iter().fold(x, |x, b| b.forward_plain(x));
            return samples.into_iter().map(through).collect();
        };
        let (mut x, sequences) = joined(samples);
        for (block, weights) in self.blocks.iter().zip(weights) {
            x = block.forward_fused(x, weights, &sequences);
        }
        parted(x, &sequences)
    }

    /// `[B, tokens, width] -> [B, width]`
    fn pooled(&self, x: Tensor<3>) -> Tensor<2> {
        match self.cls {
            // Normalising a token and taking it commute; one token is less work than all.
            Some(_) => self.normalize(x.narrow(1, 0, 1)).squeeze_dim::<2>(1),
            None => self.normalize(x).mean_dim(1).squeeze_dim::<2>(1),
        }
    }

    fn embed(&self, patches: Tensor<3>) -> Tensor<3> {
        match &self.embed.bias {
            Some(bias) if supports(&patches.device(), patches.dtype()) => {
                linear(patches, self.embed.weight.val(), bias.val())
            }
            _ => self.embed.forward(patches),
        }
    }

    fn normalize(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.norm.beta {
            Some(beta) if supports(&x.device(), x.dtype()) => {
                layer_norm(x, self.norm.gamma.val(), beta.val(), EPSILON)
            }
            _ => self.norm.forward(x),
        }
    }
}

/// What [`transformer_block`] takes.
type Weights = ([Tensor<2>; 4], [Tensor<1>; 8]);

/// Tokens of all samples one after the other, `[tokens, width]`.
fn joined(samples: Vec<Tensor<3>>) -> (Tensor<2>, Vec<Sequences>) {
    let parts = samples.into_iter().map(|x| {
        let [samples, tokens, width] = x.dims();
        (x.reshape([samples * tokens, width]), Sequences { samples, tokens })
    });
    let (rows, sequences): (Vec<_>, _) = parts.unzip();
    (Tensor::cat(rows, 0), sequences)
}

/// What [`joined`] joined.
fn parted(x: Tensor<2>, sequences: &[Sequences]) -> Vec<Tensor<3>> {
    let mut first = 0;
    let part = |of: &Sequences| {
        let (start, rows) = (first, of.samples * of.tokens);
        first += rows;
        x.clone().narrow(0, start, rows).reshape([of.samples as isize, of.tokens as isize, -1])
    };
    sequences.iter().map(part).collect()
}

impl Block {
    fn forward_fused(
        &self,
        x: Tensor<2>,
        (matrices, vectors): Weights,
        sequences: &[Sequences],
    ) -> Tensor<2> {
        let ([_, width], [_, hidden]) = (x.dims(), self.up.weight.dims());
        let heads = self.attention.heads;
        let shape = BlockShape { width, heads, hidden, epsilon: EPSILON as f32 };
        let samples = sequences.iter().map(|of| of.samples).sum();
        // Drawn in the order in which the plain way needs them.
        let draw = || {
            let kept = self.kept(samples, &x.device())?.try_into_vec_as::<f32>();
            Some(kept.unwrap_or_else(|_| unreachable!("what is drawn are numbers")))
        };
        match (draw(), draw()) {
            (Some(first), Some(second)) => {
                let factors = [first, second];
                thinned_transformer_block(x, matrices, vectors, shape, sequences, factors)
            }
            _ => transformer_block(x, matrices, vectors, shape, sequences),
        }
    }

    /// While training, what each sample's branch is multiplied with: 0 where it is dropped, more than 1
    /// elsewhere, so that the mean is 1 (stochastic depth; Huang et al., arXiv 1603.09382).
    fn kept(&self, samples: usize, device: &Device) -> Option<Tensor<1>> {
        let keep = 1.0 - self.drop;
        let draw = || Tensor::random([samples], Distribution::Bernoulli(keep), device) / keep;
        (self.drop > 0.0 && device.is_autodiff()).then(draw)
    }

    /// What [`transformer_block`] takes; `None` where a layer has no shift, which none of ours lacks.
    fn weights(&self) -> Option<Weights> {
        let layers = [&self.attention.qkv, &self.attention.out, &self.up, &self.down];
        let shift = |layer: &Linear| layer.bias.as_ref().map(|b| b.val());
        let norm = |norm: &LayerNorm| Some((norm.gamma.val(), norm.beta.as_ref()?.val()));
        let ((gamma1, beta1), (gamma2, beta2)) = (norm(&self.norm1)?, norm(&self.norm2)?);
        let [qkv, out, up, down] = layers.map(shift);
        let vectors = [gamma1, beta1, qkv?, out?, gamma2, beta2, up?, down?];
        Some((layers.map(|layer| layer.weight.val()), vectors))
    }

    /// The same by burn's own operations, for every backend.
    fn forward_plain(&self, x: Tensor<3>) -> Tensor<3> {
        let a = self.attention.forward(self.norm1.forward(x.clone()));
        let x = x + self.thin(a);
        let m =
            self.down.forward(Gelu::new().forward(self.up.forward(self.norm2.forward(x.clone()))));
        x + self.thin(m)
    }

    /// Drops the branch of some samples; see [`Block::kept`].
    fn thin(&self, branch: Tensor<3>) -> Tensor<3> {
        let [samples, _, _] = branch.dims();
        match self.kept(samples, &branch.device()) {
            Some(kept) => branch * kept.reshape([samples, 1, 1]),
            None => branch,
        }
    }
}

impl Attention {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [b, n, d] = x.dims();
        let dh = d / self.heads;
        let qkv = self.qkv.forward(x).reshape([b, n, 3, self.heads, dh]).permute([2, 0, 3, 1, 4]);
        let part = |i| qkv.clone().narrow(0, i, 1).reshape([b, self.heads, n, dh]);
        let (q, k, v) = (part(0) * (dh as f64).powf(-0.5), part(1), part(2));
        let weights = softmax(q.matmul(k.swap_dims(2, 3)), 3);
        self.out.forward(weights.matmul(v).swap_dims(1, 2).reshape([b, n, d]))
    }
}

/// `[B, C, T, H, W] -> [B, patches, C·pt·ph·pw]`
fn patchify(views: Tensor<5>, [pt, ph, pw]: [usize; 3]) -> Tensor<3> {
    let [b, c, t, h, w] = views.dims();
    let (gt, gh, gw) = (t / pt, h / ph, w / pw);
    let size = c * pt * ph * pw;
    if t == 1 {
        // Fewer axes to permute than in the general case.
        let x = views.reshape([b, c, gh, ph, gw, pw]).permute([0, 2, 4, 1, 3, 5]);
        return x.reshape([b, gh * gw, size]);
    }
    let x = views.reshape([b, c, gt, pt, gh, ph, gw, pw]).permute([0, 2, 4, 6, 1, 3, 5, 7]);
    x.reshape([b, gt * gh * gw, size])
}

/// Sine-cosine positions (Vaswani et al., arXiv 1706.03762), each used axis having its share of
/// the width. Counted from the centre of the grid, in patches, so that a local view's positions lie
/// within a global one's. Row-major `[patches, width]`.
fn sincos_positions(grid: [usize; 3], width: usize) -> Vec<f32> {
    let used: Vec<usize> = (0..3).filter(|&a| grid[a] > 1).collect();
    let n = grid.iter().product::<usize>();
    let mut out = vec![0.0; n * width];
    if used.is_empty() {
        return out;
    }
    let pairs = width / (2 * used.len());
    // Wavelengths from one patch turn per 2π up to 100 of them.
    let rates: Vec<f64> = (0..pairs).map(|p| 100f64.powf(-(p as f64) / pairs as f64)).collect();
    for (i, row) in out.chunks_mut(width).enumerate() {
        let at = [i / (grid[1] * grid[2]), i / grid[2] % grid[1], i % grid[2]];
        for (slot, &a) in used.iter().enumerate() {
            let position = at[a] as f64 - (grid[a] - 1) as f64 / 2.0;
            for (p, rate) in rates.iter().enumerate() {
                let (sin, cos) = (position * rate).sin_cos();
                row[(slot * pairs + p) * 2] = sin as f32;
                row[(slot * pairs + p) * 2 + 1] = cos as f32;
            }
        }
    }
    out
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
