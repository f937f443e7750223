//! The operations composed of burn's own, for every device and type.
//!
//! The functions of the crate call these where there is no fused operation; tests compare both.

use burn::tensor::activation::{gelu, relu};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, FloatDType, Tensor, module};

use super::attention::attention;
use super::channel_norm::{Activation, ChannelNorm};
use super::extension::constant;
use crate::layers::transformer_block::{BlockShape, Sequences};
use crate::precision::Precision;

/// Whether products run in bf16: where the calling thread asks for it and the device has it. Weights, and what is
/// between products, stay f32, and so do the gradients of both.
pub(super) fn is_narrow<const D: usize>(x: &Tensor<D>) -> bool {
    Precision::now() == Precision::Bf16
        && x.dtype() == DType::F32
        && x.device().supports_dtype(DType::BF16)
}

const NARROW: FloatDType = FloatDType::BF16;
const WIDE: FloatDType = FloatDType::F32;

/// See [`linear`](crate::linear).
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<D> {
    if !is_narrow(&x) {
        return module::linear(x, weight, Some(bias));
    }
    module::linear(x.cast(NARROW), weight.cast(NARROW), None).cast(WIDE) + bias.unsqueeze()
}

/// See [`layer_norm`](crate::layer_norm).
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    if x.dtype() != DType::F16 {
        return module::layer_norm(x, gamma, Some(beta), epsilon);
    }
    // The sum of squares may overflow in 16 bits.
    let (x, gamma, beta) = (x.cast(WIDE), gamma.cast(WIDE), beta.cast(WIDE));
    module::layer_norm(x, gamma, Some(beta), epsilon).cast(FloatDType::F16)
}

/// See [`transformer_block`](crate::transformer_block) and
/// [`transformer_block_drop_path`](crate::transformer_block_drop_path).
pub fn transformer_block(
    x: Tensor<2>,
    [qkv, out, up, down]: [Tensor<2>; 4],
    vectors: [Tensor<1>; 8],
    shape: BlockShape,
    sequences: &[Sequences],
    branch_scale: Option<[Tensor<1>; 2]>,
) -> Tensor<2> {
    let [gamma1, beta1, qkv_bias, out_bias, gamma2, beta2, up_bias, down_bias] = vectors;
    let epsilon = f64::from(shape.epsilon);
    let [scale1, scale2] = match branch_scale {
        Some(scales) => scales.map(Some),
        None => [None, None],
    };
    let qkv = linear(layer_norm(x.clone(), gamma1, beta1, epsilon), qkv, qkv_bias);
    let branch = linear(multi_head(qkv, shape.heads, sequences), out, out_bias);
    let x = x + scaled(branch, scale1, sequences);
    let hidden = linear(layer_norm(x.clone(), gamma2, beta2, epsilon), up, up_bias);
    let branch = linear(gelu(hidden), down, down_bias);
    x + scaled(branch, scale2, sequences)
}

/// Multi-head attention of queries, keys and values `[rows, 3·width]`.
fn multi_head(qkv: Tensor<2>, heads: usize, sequences: &[Sequences]) -> Tensor<2> {
    let [_, width] = qkv.dims();
    let (width, depth) = (width / 3, width / 3 / heads);
    let attend = |qkv: Tensor<2>, Sequences { samples, tokens }| {
        let qkv = qkv.reshape([samples, tokens, 3, heads, depth]).permute([2, 0, 3, 1, 4]);
        let part = |i| qkv.clone().narrow(0, i, 1).reshape([samples, heads, tokens, depth]);
        let attended = attention(part(0), part(1), part(2), None);
        attended.swap_dims(1, 2).reshape([samples * tokens, width])
    };
    by_sequences(qkv, sequences, attend)
}

/// Each sample times its scale.
fn scaled(branch: Tensor<2>, scale: Option<Tensor<1>>, sequences: &[Sequences]) -> Tensor<2> {
    let Some(scale) = scale.map(constant) else { return branch };
    let [_, width] = branch.dims();
    let mut first = 0;
    by_sequences(branch, sequences, |branch, Sequences { samples, tokens }| {
        let scale = scale.clone().narrow(0, first, samples).reshape([samples, 1, 1]);
        first += samples;
        let branch = branch.reshape([samples, tokens, width]) * scale;
        branch.reshape([samples * tokens, width])
    })
}

/// Applies `work` to the rows of each length.
fn by_sequences(
    x: Tensor<2>,
    sequences: &[Sequences],
    mut work: impl FnMut(Tensor<2>, Sequences) -> Tensor<2>,
) -> Tensor<2> {
    let mut first = 0;
    let mut parts = Vec::with_capacity(sequences.len());
    for all in sequences.iter().filter(|all| all.rows() > 0) {
        parts.push(work(x.clone().narrow(0, first, all.rows()), *all));
        first += all.rows();
    }
    if parts.is_empty() { x } else { Tensor::cat(parts, 0) }
}

/// See [`conv2d`](crate::conv2d).
pub fn conv2d(x: Tensor<4>, filters: Tensor<4>, stride: usize, pad: usize) -> Tensor<4> {
    let options = ConvOptions::new([stride; 2], [pad; 2], [1; 2], 1);
    let x = x.permute([0, 3, 1, 2]);
    let y = if is_narrow(&x) {
        module::conv2d(x.cast(NARROW), filters.cast(NARROW), None, options).cast(WIDE)
    } else {
        module::conv2d(x, filters, None, options)
    };
    y.permute([0, 2, 3, 1])
}

/// See [`channel_statistics`](crate::channel_statistics).
pub fn channel_statistics(x: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = x.dims();
    let x = constant(x).reshape([batch * height * width, channels]);
    let mean = x.clone().mean_dim(0);
    let deviations = x - mean.clone();
    let variance = (deviations.clone() * deviations).mean_dim(0);
    Tensor::cat(vec![mean, variance], 0)
}

/// See [`batch_norm`](crate::batch_norm).
pub fn batch_norm(x: Tensor<4>, norm: ChannelNorm, residual: Option<Tensor<4>>) -> Tensor<4> {
    let ChannelNorm { gamma, beta, statistics, batch_statistics, activation, epsilon } = norm;
    let x = x.permute([0, 3, 1, 2]);
    let y = if batch_statistics {
        module::batch_norm_train(x, gamma, beta, epsilon).output
    } else {
        let (dims, statistics) = (gamma.dims(), constant(statistics));
        let row = |i| statistics.clone().narrow(0, i, 1).reshape(dims);
        module::batch_norm(x, gamma, beta, row(0), row(1), epsilon)
    };
    let y = y.permute([0, 2, 3, 1]);
    let y = match residual {
        Some(residual) => y + residual,
        None => y,
    };
    match activation {
        Activation::None => y,
        Activation::Relu => relu(y),
    }
}
