//! Multi-head softmax attention, softmax(q·kᵀ/√depth)·v (Vaswani et al., arXiv 1706.03762).
//!
//! Probabilities are not saved for the backward pass, but recomputed from the log-sum-exp of each query
//! (Dao et al., arXiv 2205.14135).

use crate::buffer::{Buffer, split};
use crate::elementwise;
use crate::gemm::matrix::Matrix;
use crate::gemm::product;
use crate::precision::Precision;

/// Maximum number of scores in a block of queries of a head, unless one query has more; they should stay in
/// the cache.
const SCORES: usize = 1 << 17;

/// Attention within samples of one length.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) tokens: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) precision: Precision,
}

impl Attention {
    /// Queries in a block; blocks have about the same size.
    fn block(&self) -> usize {
        let max = (SCORES / self.tokens).max(1);
        self.tokens.div_ceil(self.tokens.div_ceil(max))
    }

    /// Attention and log-sum-exp for `qkv` `[samples, tokens, 3·width]`.
    pub(crate) fn forward(&self, qkv: &[f32], out: &mut [f32], logsumexp: &mut [f32]) {
        let Self { tokens, width, heads, precision } = *self;
        let depth = width / heads;
        let scale = (depth as f32).powf(-0.5);
        let block = self.block();
        let mut scores = Buffer::take(block * tokens);
        let samples =
            qkv.chunks_exact(tokens * 3 * width).zip(out.chunks_exact_mut(tokens * width));
        for ((qkv, out), logsumexp) in samples.zip(logsumexp.chunks_exact_mut(tokens * heads)) {
            let all = Matrix::rows(qkv, 3 * width);
            for (head, logsumexp) in logsumexp.chunks_exact_mut(tokens).enumerate() {
                let first = head * depth;
                let (k, v) = (all.at(0, width + first), all.at(0, 2 * width + first));
                for (part, logsumexp) in logsumexp.chunks_mut(block).enumerate() {
                    let (from, count) = (part * block, logsumexp.len());
                    let scores = &mut scores.slice()[..count * tokens];
                    let (q, shape) = (all.at(from, first), [count, tokens, depth]);
                    product(scores, tokens, false, q, k.transposed(), shape, precision);
                    elementwise::softmax(scores, tokens, scale, logsumexp);
                    let (p, shape) = (Matrix::rows(scores, tokens), [count, depth, tokens]);
                    let out = &mut out[from * width + first..];
                    product(out, width, false, p, v, shape, precision);
                }
            }
        }
    }

    /// The gradient of `qkv` from the output and its gradient.
    pub(crate) fn backward(
        &self,
        qkv: &[f32],
        out: &[f32],
        logsumexp: &[f32],
        dout: &[f32],
        dqkv: &mut [f32],
    ) {
        let Self { tokens, width, heads, precision } = *self;
        let (depth, stride) = (width / heads, 3 * width);
        let scale = (depth as f32).powf(-0.5);
        let block = self.block();
        let mut scratch = Buffer::take(2 * block * tokens + block);
        let [p, dp, dots] = split(scratch.slice(), [block * tokens, block * tokens, block]);
        let size = tokens * width;
        let samples = qkv.chunks_exact(3 * size).zip(dqkv.chunks_exact_mut(3 * size));
        let results = out.chunks_exact(size).zip(dout.chunks_exact(size));
        let logsumexp = logsumexp.chunks_exact(tokens * heads);
        for (((qkv, dqkv), (out, dout)), logsumexp) in samples.zip(results).zip(logsumexp) {
            let all = Matrix::rows(qkv, stride);
            for (head, logsumexp) in logsumexp.chunks_exact(tokens).enumerate() {
                let first = head * depth;
                let (k, v) = (all.at(0, width + first), all.at(0, 2 * width + first));
                for (part, logsumexp) in logsumexp.chunks(block).enumerate() {
                    let (from, count) = (part * block, logsumexp.len());
                    let (p, dp) = (&mut p[..count * tokens], &mut dp[..count * tokens]);
                    let (q, dout_at) =
                        (all.at(from, first), Matrix::rows(dout, width).at(from, first));
                    let scores = [count, tokens, depth];
                    product(p, tokens, false, q, k.transposed(), scores, precision);
                    elementwise::softmax_recompute(p, tokens, scale, logsumexp);
                    product(dp, tokens, false, dout_at, v.transposed(), scores, precision);
                    // Σ p·dp of a query is out·dout.
                    let rows = from * width..(from + count) * width;
                    let (out, dout) = (&out[rows.clone()], &dout[rows]);
                    let dots = &mut dots[..count];
                    elementwise::row_dots(out, dout, width, first, depth, dots);
                    // Gradients of keys and values are sums over all queries.
                    let (accumulate, shape) = (part > 0, [tokens, depth, count]);
                    let pt = Matrix::rows(p, tokens).transposed();
                    let dv = &mut dqkv[2 * width + first..];
                    product(dv, stride, accumulate, pt, dout_at, shape, precision);
                    elementwise::softmax_backward(p, dp, tokens, scale, dots);
                    let ds = Matrix::rows(dp, tokens);
                    let dk = &mut dqkv[width + first..];
                    product(dk, stride, accumulate, ds.transposed(), q, shape, precision);
                    let dq = &mut dqkv[from * stride + first..];
                    product(dq, stride, false, ds, k, [count, depth, tokens], precision);
                }
            }
        }
    }
}
