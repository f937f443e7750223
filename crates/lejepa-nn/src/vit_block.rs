//! A block of a vision transformer.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{gelu, silu};
use burn::tensor::{Device, Distribution, Tensor};
use lejepa_kernels::{
    BlockShape, Sequences, attention, layer_norm, linear, transformer_block,
    transformer_block_drop_path,
};

use crate::vit_config::{FeedForward, PositionKind, VitConfig};

/// What is added to the variance in a layer norm: that of the published transformers, of which those with rotary
/// positions have another.
pub(crate) fn epsilon(is_rope: bool) -> f64 {
    if is_rope { 1e-5 } else { 1e-6 }
}

/// Attention and a perceptron, each behind a layer norm and added to its input.
#[derive(Module, Debug)]
pub(crate) struct Block {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    up: Linear,
    /// Of SwiGLU (Shazeer, arXiv 2002.05202).
    gate: Option<Linear>,
    down: Linear,
    #[module(skip)]
    drop: f64,
    #[module(skip)]
    epsilon: f64,
}

#[derive(Module, Debug)]
struct Attention {
    qkv: Linear,
    out: Linear,
    #[module(skip)]
    heads: usize,
}

/// Rotary position embedding of the tokens of a view (Su et al., arXiv 2104.09864): cosines and sines
/// `[1 or samples, 1, tokens, depth]`.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotation {
    /// From angles `[1 or samples, patches, depth]`; the `prefix` tokens before the patches stay as they are.
    pub(crate) fn new(angles: Tensor<3>, prefix: usize) -> Self {
        let [samples, _, depth] = angles.dims();
        let still = Tensor::zeros([samples, prefix, depth], (&angles.device(), angles.dtype()));
        let angles = if prefix == 0 { angles } else { Tensor::cat(vec![still, angles], 1) };
        let angles = angles.unsqueeze_dim::<4>(1);
        Self { cos: angles.clone().cos(), sin: angles.sin() }
    }

    /// `[samples, heads, tokens, depth]`: each pair of a value in the first half and one in the second.
    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, _, depth] = x.dims();
        let (first, second) =
            (x.clone().narrow(3, 0, depth / 2), x.clone().narrow(3, depth / 2, depth / 2));
        let turned = Tensor::cat(vec![second.neg(), first], 3);
        x * self.cos.clone() + turned * self.sin.clone()
    }
}

/// What is added to the attention scores of the tokens of a view, `[1 or samples, 1, queries, keys]`.
#[derive(Clone, Debug)]
pub(crate) struct Mask(Tensor<4>);

impl Mask {
    /// Of tokens at `times`, `[1 or samples, tokens]`: each attends to those of its own time and of earlier ones.
    pub(crate) fn causal(times: Tensor<2>) -> Self {
        let queries = times.clone().unsqueeze_dim::<3>(2).unsqueeze_dim::<4>(1);
        let keys = times.unsqueeze_dim::<3>(1).unsqueeze_dim::<4>(1);
        // Far enough below any score that its exponential is 0.
        Self((keys - queries).greater_elem(0.0).float() * -1e9)
    }
}

/// Tokens of views of one shape, `[samples, tokens, width]`, and what their attention depends on.
pub(crate) struct Tokens {
    pub(crate) values: Tensor<3>,
    pub(crate) rotation: Option<Rotation>,
    pub(crate) mask: Option<Mask>,
}

impl Tokens {
    /// Tokens that all attend to all, whatever their places.
    pub(crate) fn new(values: Tensor<3>) -> Self {
        Self { values, rotation: None, mask: None }
    }
}

/// Samples of several lengths, whose tokens are the rows of one matrix.
pub(crate) struct Samples {
    sequences: Vec<Sequences>,
    rotations: Vec<Option<Rotation>>,
    masks: Vec<Option<Mask>>,
}

impl Samples {
    /// Tokens of all samples, `[tokens, width]`.
    pub(crate) fn concatenate(views: Vec<Tokens>) -> (Tensor<2>, Self) {
        let (sequences, rotations, masks) = (Vec::new(), Vec::new(), Vec::new());
        let mut all = Self { sequences, rotations, masks };
        let mut rows = Vec::with_capacity(views.len());
        for Tokens { values, rotation, mask } in views {
            let [samples, tokens, width] = values.dims();
            rows.push(values.reshape([samples * tokens, width]));
            all.sequences.push(Sequences { samples, tokens });
            all.rotations.push(rotation);
            all.masks.push(mask);
        }
        (Tensor::cat(rows, 0), all)
    }

    /// The inverse of [`Samples::concatenate`].
    pub(crate) fn split(&self, x: Tensor<2>) -> Vec<Tensor<3>> {
        let mut first = 0;
        let part = |of: &Sequences| {
            let (start, rows) = (first, of.samples * of.tokens);
            first += rows;
            let part = x.clone().narrow(0, start, rows);
            part.reshape([of.samples as isize, of.tokens as isize, -1])
        };
        self.sequences.iter().map(part).collect()
    }

    /// Whether all tokens attend to all, whatever their places.
    fn is_plain(&self) -> bool {
        self.rotations.iter().all(Option::is_none) && self.masks.iter().all(Option::is_none)
    }

    fn count(&self) -> usize {
        self.sequences.iter().map(|of| of.samples).sum()
    }

    /// The number of each sample for all of its tokens, `[tokens, 1]`.
    fn expand(&self, of_samples: Tensor<1>) -> Tensor<2> {
        let mut first = 0;
        let part = |of: &Sequences| {
            let numbers = of_samples.clone().narrow(0, first, of.samples).unsqueeze_dim::<2>(1);
            first += of.samples;
            numbers.expand([of.samples, of.tokens]).reshape([of.samples * of.tokens, 1])
        };
        Tensor::cat(self.sequences.iter().map(part).collect(), 0)
    }
}

impl Block {
    /// The block at `index`.
    pub(crate) fn new(config: &VitConfig, index: usize, device: &Device) -> Self {
        let width = config.width;
        let hidden = ((width as f64 * config.mlp_ratio).round() as usize).max(1);
        let epsilon = epsilon(config.positions == PositionKind::Rope);
        let norm = || LayerNormConfig::new(width).with_epsilon(epsilon).init(device);
        let layer = |from, to| LinearConfig::new(from, to).init(device);
        Self {
            norm1: norm(),
            attention: Attention {
                qkv: layer(width, 3 * width),
                out: layer(width, width),
                heads: config.heads,
            },
            norm2: norm(),
            up: layer(width, hidden),
            gate: (config.mlp == FeedForward::Swiglu).then(|| layer(width, hidden)),
            down: layer(hidden, width),
            drop: config.drop_path * index as f64 / (config.depth.max(2) - 1) as f64,
            epsilon,
        }
    }

    /// Width of the hidden layer.
    pub(crate) fn hidden(&self) -> usize {
        let [_, hidden] = self.up.weight.dims();
        hidden
    }

    /// Whether the perceptron is SwiGLU.
    pub(crate) fn is_gated(&self) -> bool {
        self.gate.is_some()
    }

    /// `[tokens, width]`
    pub(crate) fn forward(&self, x: Tensor<2>, samples: &Samples) -> Tensor<2> {
        let device = x.device();
        let scales = [(); 2].map(|()| self.branch_scale(samples.count(), &device));
        // The fused block knows neither rotations, masks nor gates.
        if self.is_gated() || !samples.is_plain() {
            return self.composed(x, samples, scales);
        }
        let ([_, width], hidden, heads) = (x.dims(), self.hidden(), self.attention.heads);
        let shape = BlockShape { width, heads, hidden, epsilon: self.epsilon as f32 };
        let layers = [&self.attention.qkv, &self.attention.out, &self.up, &self.down];
        let [qkv, out, up, down] = layers.map(bias);
        let (norm1, norm2) = (&self.norm1, &self.norm2);
        let matrices = layers.map(|layer| layer.weight.val());
        let vectors =
            [norm1.gamma.val(), shift(norm1), qkv, out, norm2.gamma.val(), shift(norm2), up, down];
        let sequences = &samples.sequences;
        match scales {
            [Some(first), Some(second)] => {
                let scales = [first, second];
                transformer_block_drop_path(x, matrices, vectors, shape, sequences, scales)
            }
            _ => transformer_block(x, matrices, vectors, shape, sequences),
        }
    }

    /// The same, operation by operation.
    fn composed(
        &self,
        x: Tensor<2>,
        samples: &Samples,
        [first, second]: [Option<Tensor<1>>; 2],
    ) -> Tensor<2> {
        let scaled = |branch: Tensor<2>, scale: Option<Tensor<1>>| match scale {
            Some(scale) => branch * samples.expand(scale),
            None => branch,
        };
        let norm = |x: Tensor<2>, norm: &LayerNorm| {
            layer_norm(x, norm.gamma.val(), shift(norm), self.epsilon)
        };
        let attended = self.attention.forward(norm(x.clone(), &self.norm1), samples);
        let x = x + scaled(attended, first);
        let y = norm(x.clone(), &self.norm2);
        let up = apply(&self.up, y.clone());
        let hidden = match &self.gate {
            Some(gate) => silu(apply(gate, y)) * up,
            None => gelu(up),
        };
        x + scaled(apply(&self.down, hidden), second)
    }

    /// While training, the scale of a branch of each sample: 0 where it is dropped, and elsewhere such that the
    /// mean is 1 (stochastic depth; Huang et al., arXiv 1603.09382).
    fn branch_scale(&self, samples: usize, device: &Device) -> Option<Tensor<1>> {
        let keep = 1.0 - self.drop;
        let draw = || Tensor::random([samples], Distribution::Bernoulli(keep), device) / keep;
        (self.drop > 0.0 && device.is_autodiff()).then(draw)
    }
}

impl Attention {
    /// `[tokens, width]`. Where positions rotate, keys have no bias, as in DINOv3 (Siméoni et al., arXiv
    /// 2508.10104): it would be a preference for places.
    fn forward(&self, x: Tensor<2>, samples: &Samples) -> Tensor<2> {
        let ([_, width], heads) = (x.dims(), self.heads);
        let depth = width / heads;
        let mut shift = bias(&self.qkv);
        if samples.rotations.iter().any(Option::is_some) {
            let none = shift.clone().narrow(0, width, width).zeros_like();
            shift = shift.slice_assign(width..2 * width, none);
        }
        let qkv = linear(x, self.qkv.weight.val(), shift);
        let places = samples.rotations.iter().zip(&samples.masks);
        let parts = samples.split(qkv).into_iter().zip(places);
        let attend = |(qkv, (rotation, mask)): (Tensor<3>, (&Option<Rotation>, &Option<Mask>))| {
            let [count, tokens, _] = qkv.dims();
            let by_head = qkv.reshape([count, tokens, 3, heads, depth]).permute([2, 0, 3, 1, 4]);
            let [queries, keys, values] =
                [0, 1, 2].map(|i| by_head.clone().narrow(0, i, 1).squeeze_dim::<4>(0));
            let (queries, keys) = match rotation {
                Some(rotation) => (rotation.apply(queries), rotation.apply(keys)),
                None => (queries, keys),
            };
            let bias = mask.as_ref().map(|Mask(mask)| mask.clone().cast(queries.dtype()));
            let attended = attention(queries, keys, values, bias);
            attended.swap_dims(1, 2).reshape([count * tokens, width])
        };
        apply(&self.out, Tensor::cat(parts.map(attend).collect(), 0))
    }
}

fn apply(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    linear(x, layer.weight.val(), bias(layer))
}

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
pub(crate) fn shift(norm: &LayerNorm) -> Tensor<1> {
    match &norm.beta {
        Some(beta) => beta.val(),
        None => norm.gamma.val().zeros_like(),
    }
}

#[cfg(test)]
#[path = "vit_block_tests.rs"]
mod tests;
