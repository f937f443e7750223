//! Softmax attention of each sample of a chunk, head by head, forward and backward.
//!
//! softmax(q·kᵀ/√depth)·v (Vaswani et al., arXiv 1706.03762). Weights of queries are not kept for the way
//! back, but the logarithms of the sums that they are divided by, from which they are made again.

use crate::lanes;
use crate::memory::split;
use crate::{Buffer, Matrix, Precision, product};

/// Scores of a head that are made at a time, at most, unless a query has more: they should stay in the
/// cache.
const SCORES: usize = 1 << 17;

/// Attention over samples of one length.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) tokens: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) precision: Precision,
}

impl Attention {
    /// Queries that attend at once: of parts of about the same size.
    fn at_once(&self) -> usize {
        let most = (SCORES / self.tokens).max(1);
        self.tokens.div_ceil(self.tokens.div_ceil(most))
    }

    /// The result for queries, keys and values, and the logarithms.
    pub(crate) fn forward(&self, qkv: &[f32], out: &mut [f32], logs: &mut [f32]) {
        let Self { tokens, width, heads, precision } = *self;
        let depth = width / heads;
        let scale = (depth as f32).powf(-0.5);
        let at_once = self.at_once();
        let mut scores = Buffer::take(at_once * tokens);
        let samples =
            qkv.chunks_exact(tokens * 3 * width).zip(out.chunks_exact_mut(tokens * width));
        for ((qkv, out), logs) in samples.zip(logs.chunks_exact_mut(tokens * heads)) {
            let all = Matrix::rows(qkv, 3 * width);
            for (head, logs) in logs.chunks_exact_mut(tokens).enumerate() {
                let first = head * depth;
                let (k, v) = (all.at(0, width + first), all.at(0, 2 * width + first));
                for (part, logs) in logs.chunks_mut(at_once).enumerate() {
                    let (from, count) = (part * at_once, logs.len());
                    let scores = &mut scores.slice()[..count * tokens];
                    let (q, shape) = (all.at(from, first), [count, tokens, depth]);
                    product(scores, tokens, false, q, k.transposed(), shape, precision);
                    lanes::softmax(scores, tokens, scale, logs);
                    let (p, shape) = (Matrix::rows(scores, tokens), [count, depth, tokens]);
                    let out = &mut out[from * width + first..];
                    product(out, width, false, p, v, shape, precision);
                }
            }
        }
    }

    /// The gradient of queries, keys and values from that of attention's result.
    pub(crate) fn backward(
        &self,
        qkv: &[f32],
        out: &[f32],
        logs: &[f32],
        dout: &[f32],
        dqkv: &mut [f32],
    ) {
        let Self { tokens, width, heads, precision } = *self;
        let (depth, stride) = (width / heads, 3 * width);
        let scale = (depth as f32).powf(-0.5);
        let at_once = self.at_once();
        let mut scratch = Buffer::take(2 * at_once * tokens + at_once);
        let [p, d, dots] = split(scratch.slice(), [at_once * tokens, at_once * tokens, at_once]);
        let size = tokens * width;
        let samples = qkv.chunks_exact(3 * size).zip(dqkv.chunks_exact_mut(3 * size));
        let results = out.chunks_exact(size).zip(dout.chunks_exact(size));
        let logs = logs.chunks_exact(tokens * heads);
        for (((qkv, dqkv), (out, dout)), logs) in samples.zip(results).zip(logs) {
            let all = Matrix::rows(qkv, stride);
            for (head, logs) in logs.chunks_exact(tokens).enumerate() {
                let first = head * depth;
                let (k, v) = (all.at(0, width + first), all.at(0, 2 * width + first));
                for (part, logs) in logs.chunks(at_once).enumerate() {
                    let (from, count) = (part * at_once, logs.len());
                    let (p, d) = (&mut p[..count * tokens], &mut d[..count * tokens]);
                    let (q, dout_at) =
                        (all.at(from, first), Matrix::rows(dout, width).at(from, first));
                    let scores = [count, tokens, depth];
                    product(p, tokens, false, q, k.transposed(), scores, precision);
                    lanes::softmax_again(p, tokens, scale, logs);
                    product(d, tokens, false, dout_at, v.transposed(), scores, precision);
                    let rows = from * width..(from + count) * width;
                    let dots = &mut dots[..count];
                    lanes::dots(&out[rows.clone()], &dout[rows], width, first, depth, dots);
                    // Keys and values gather from all queries.
                    let (adds, to_keys) = (part > 0, [tokens, depth, count]);
                    let pt = Matrix::rows(p, tokens).transposed();
                    let dv = &mut dqkv[2 * width + first..];
                    product(dv, stride, adds, pt, dout_at, to_keys, precision);
                    lanes::softmax_back(p, d, tokens, scale, dots);
                    let ds = Matrix::rows(d, tokens);
                    let dk = &mut dqkv[width + first..];
                    product(dk, stride, adds, ds.transposed(), q, to_keys, precision);
                    let dq = &mut dqkv[from * stride + first..];
                    product(dq, stride, false, ds, k, [count, depth, tokens], precision);
                }
            }
        }
    }
}
