//! A pre-norm transformer block, forward and backward, chunk of samples by chunk.
//!
//! y = x₁ + W₂·GELU(W₁·LN₂(x₁)), x₁ = x + Wₒ·attention(LN₁(x))
//! (Dosovitskiy et al., arXiv 2010.11929, equations 2 and 3; Vaswani et al., arXiv 1706.03762).
//!
//! Everything but attention is done token by token, and attention sample by sample, so a chunk of
//! samples goes through the whole block while it is in the cache. Chunks, and the groups in which the
//! gradients of the weights are summed, depend on the shape alone: the result has the same bits for
//! any number of threads.

use rayon::prelude::*;

use crate::groups::{GROUPS, summed};
use crate::lanes;
use crate::memory::fresh;
use crate::weight::{Weight, add_gradient};
use crate::{Buffer, Matrix, Precision, product};

/// Shape and settings of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockShape {
    /// Tokens of a sample.
    pub tokens: usize,
    /// Width of a token, a multiple of `heads`.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// What is added to the variance in a layer norm.
    pub epsilon: f32,
}

/// Names of a block's weights, in the order in which they are passed: layer norm before attention,
/// queries-keys-values (`[width, 3·width]`), output (`[width, width]`), layer norm before the
/// perceptron, up (`[width, hidden]`) and down (`[hidden, width]`), each with its shift.
pub(crate) const WEIGHTS: usize = 12;

/// Tokens in a chunk, at most, unless a sample has more.
const CHUNK: usize = 512;
/// Queries that attend at once.
const QUERIES: usize = 128;

/// Lengths, in values, of what a chunk keeps for its way back.
#[derive(Clone, Copy)]
struct Kept {
    lengths: [usize; 6],
}

/// What a chunk keeps: queries, keys and values; attention's result; logarithms of its softmax; x₁;
/// W₁·LN₂(x₁); means and rates of both layer norms.
struct Parts<'a> {
    qkv: &'a mut [f32],
    attended: &'a mut [f32],
    logs: &'a mut [f32],
    middle: &'a mut [f32],
    up: &'a mut [f32],
    stats: &'a mut [f32],
}

impl Kept {
    fn of(shape: &BlockShape, rows: usize) -> Self {
        let BlockShape { width, heads, hidden, .. } = *shape;
        Self { lengths: [3 * width, width, heads, width, hidden, 4].map(|n| n * rows) }
    }

    fn total(&self) -> usize {
        self.lengths.iter().sum()
    }

    fn split<'a>(&self, all: &'a mut [f32]) -> Parts<'a> {
        let [qkv, attended, logs, middle, up, stats] = split(all, self.lengths);
        Parts { qkv, attended, logs, middle, up, stats }
    }
}

/// Cuts a slice into parts of the given lengths.
fn split<const N: usize>(mut all: &mut [f32], lengths: [usize; N]) -> [&mut [f32]; N] {
    lengths.map(|n| {
        let (part, rest) = std::mem::take(&mut all).split_at_mut(n);
        all = rest;
        part
    })
}

/// Weights of a block.
#[derive(Clone, Copy)]
struct Weights<'a> {
    norm1: [&'a [f32]; 2],
    qkv: [&'a [f32]; 2],
    out: [&'a [f32]; 2],
    norm2: [&'a [f32]; 2],
    up: [&'a [f32]; 2],
    down: [&'a [f32]; 2],
}

impl<'a> Weights<'a> {
    fn of(w: [&'a [f32]; WEIGHTS]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = w;
        Self { norm1: [a, b], qkv: [c, d], out: [e, f], norm2: [g, h], up: [i, j], down: [k, l] }
    }
}

/// The matrices of a block, packed for one way.
struct Packed<'a> {
    qkv: Weight<'a>,
    out: Weight<'a>,
    up: Weight<'a>,
    down: Weight<'a>,
}

/// A block at work on samples of one shape.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    shape: BlockShape,
    weights: Weights<'a>,
    precision: Precision,
    factors: Option<Factors<'a>>,
}

/// What each sample's two branches, attention and perceptron, are multiplied with before they are added.
type Factors<'a> = [&'a [f32]; 2];

/// Every row of `out` = (that of `base` or 0) + its sample's factor times that of `branch`.
fn scaled(base: Option<&[f32]>, branch: &[f32], factors: &[f32], sample: usize, out: &mut [f32]) {
    let samples = branch.chunks_exact(sample).zip(out.chunks_exact_mut(sample)).zip(factors);
    for (i, ((branch, out), factor)) in samples.enumerate() {
        match base {
            Some(base) => {
                let base = &base[i * sample..][..sample];
                out.iter_mut()
                    .zip(base.iter().zip(branch))
                    .for_each(|(o, (x, b))| *o = x + factor * b);
            }
            None => out.iter_mut().zip(branch).for_each(|(o, b)| *o = factor * b),
        }
    }
}

impl<'a> Block<'a> {
    pub(crate) fn new(
        shape: BlockShape,
        weights: [&'a [f32]; WEIGHTS],
        precision: Precision,
        factors: Option<Factors<'a>>,
    ) -> Self {
        Self { shape, weights: Weights::of(weights), precision, factors }
    }

    /// The factors of the samples of chunk `n`, where a chunk has `rows` rows.
    fn factors_of(&self, n: usize, rows: usize) -> Option<Factors<'a>> {
        let first = n * rows / self.shape.tokens;
        self.factors.map(|factors| factors.map(|all| &all[first.min(all.len())..]))
    }

    /// The matrices as a way takes them: forward, or back and so transposed.
    fn packed(&self, back: bool) -> Packed<'a> {
        let BlockShape { width, hidden, .. } = self.shape;
        let pack = |[matrix, _]: [&'a [f32]; 2], inner: usize, columns: usize| {
            let matrix = Matrix::rows(matrix, columns);
            match back {
                false => Weight::new(matrix, inner, columns, self.precision),
                true => Weight::new(matrix.transposed(), columns, inner, self.precision),
            }
        };
        let w = &self.weights;
        Packed {
            qkv: pack(w.qkv, width, 3 * width),
            out: pack(w.out, width, width),
            up: pack(w.up, width, hidden),
            down: pack(w.down, hidden, width),
        }
    }

    /// Rows of a chunk of `rows` in all: whole samples, and chunks in a number that as many threads
    /// share evenly.
    fn chunk_rows(&self, rows: usize) -> usize {
        let samples = rows / self.shape.tokens;
        let chunks = rows.div_ceil(CHUNK).next_multiple_of(GROUPS).min(samples).max(1);
        self.shape.tokens * samples.div_ceil(chunks).max(1)
    }

    /// The result for `x`, and what the way back needs where `keep` says so.
    pub(crate) fn forward(&self, x: &[f32], keep: bool) -> (Vec<f32>, Option<Buffer>) {
        let rows = self.chunk_rows(x.len() / self.shape.width);
        let (size, kept) = (rows * self.shape.width, Kept::of(&self.shape, rows).total());
        let packed = &self.packed(false);
        let mut y = fresh(x.len());
        let chunks = x.par_chunks(size).zip(y.par_chunks_mut(size)).enumerate();
        if !keep {
            chunks.for_each(|(n, (x, y))| {
                let mut kept = Buffer::take(kept);
                self.chunk(packed, x, self.factors_of(n, rows), kept.slice(), Some(y));
            });
            return (y, None);
        }
        let mut all = Buffer::take(x.len().div_ceil(size) * kept);
        let parts: Vec<&mut [f32]> = all.slice().chunks_exact_mut(kept).collect();
        chunks.zip(parts).for_each(|((n, (x, y)), kept)| {
            self.chunk(packed, x, self.factors_of(n, rows), kept, Some(y));
        });
        (y, Some(all))
    }

    /// One chunk forward; without `y`, only what is kept of it.
    fn chunk(
        &self,
        packed: &Packed<'_>,
        x: &[f32],
        factors: Option<Factors<'_>>,
        kept: &mut [f32],
        y: Option<&mut [f32]>,
    ) {
        let BlockShape { tokens, width, hidden, epsilon, .. } = self.shape;
        let sample = tokens * width;
        let (w, rows) = (&self.weights, x.len() / width);
        let kept = Kept::of(&self.shape, rows).split(kept);
        let (stats1, stats2) = kept.stats.split_at_mut(2 * rows);
        let mut scratch = Buffer::take(rows * (width + hidden));
        let (normal, active) = scratch.slice().split_at_mut(rows * width);

        lanes::normalize(x, w.norm1[0], w.norm1[1], epsilon, normal, stats1);
        lanes::repeat_row(w.qkv[1], kept.qkv);
        packed.qkv.times(kept.qkv, normal, true);
        self.attend(kept.qkv, kept.attended, kept.logs);
        if let Some([first, _]) = factors {
            lanes::repeat_row(w.out[1], normal);
            packed.out.times(normal, kept.attended, true);
            scaled(Some(x), normal, first, sample, kept.middle);
        } else {
            lanes::plus_row(x, w.out[1], kept.middle);
            packed.out.times(kept.middle, kept.attended, true);
        }

        lanes::normalize(kept.middle, w.norm2[0], w.norm2[1], epsilon, normal, stats2);
        lanes::repeat_row(w.up[1], kept.up);
        packed.up.times(kept.up, normal, true);
        if let Some(y) = y {
            lanes::gelu_forward(kept.up, active);
            if let Some([_, second]) = factors {
                lanes::repeat_row(w.down[1], normal);
                packed.down.times(normal, active, true);
                scaled(Some(kept.middle), normal, second, sample, y);
            } else {
                lanes::plus_row(kept.middle, w.down[1], y);
                packed.down.times(y, active, true);
            }
        }
    }

    /// Gradients of x, where wanted, and of the weights, from that of the result. `kept` is what
    /// [`Block::forward`] kept; without it, it is worked out again.
    pub(crate) fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        kept: Option<&mut Buffer>,
    ) -> (Vec<f32>, [Vec<f32>; WEIGHTS]) {
        let rows = self.chunk_rows(x.len() / self.shape.width);
        let (size, per_chunk) = (rows * self.shape.width, Kept::of(&self.shape, rows).total());
        let lengths = self.lengths();
        let again = kept.is_none().then(|| self.packed(false));
        let packed = &self.packed(true);
        let mut dx = fresh(x.len());
        let mut kept: Vec<Option<&mut [f32]>> = match kept {
            Some(all) => all.slice().chunks_exact_mut(per_chunk).map(Some).collect(),
            None => (0..x.len().div_ceil(size)).map(|_| None).collect(),
        };
        let chunks = x.chunks(size).zip(dy.chunks(size)).zip(dx.chunks_mut(size));
        let chunks = chunks.zip(kept.iter_mut()).enumerate().collect();
        let mut sums = summed(chunks, lengths.iter().sum(), |(n, (((x, dy), dx), kept)), sums| {
            let mut sums = split(sums, lengths);
            let factors = self.factors_of(n, rows);
            match (kept, &again) {
                (Some(kept), _) => self.chunk_back(packed, x, dy, factors, kept, dx, &mut sums),
                (None, Some(again)) => {
                    let mut kept = Buffer::take(per_chunk);
                    self.chunk(again, x, factors, kept.slice(), None);
                    self.chunk_back(packed, x, dy, factors, kept.slice(), dx, &mut sums);
                }
                (None, None) => unreachable!("what is not kept is made again"),
            }
        });
        (dx, split(sums.slice(), lengths).map(|part| part.to_vec()))
    }

    fn lengths(&self) -> [usize; WEIGHTS] {
        let w = &self.weights;
        let pairs = [w.norm1, w.qkv, w.out, w.norm2, w.up, w.down];
        std::array::from_fn(|i| pairs[i / 2][i % 2].len())
    }

    /// One chunk backward: writes `dx` and adds to the sums of the weights' gradients.
    #[allow(clippy::too_many_arguments)] // what there is of a chunk
    fn chunk_back(
        &self,
        packed: &Packed<'_>,
        x: &[f32],
        dy: &[f32],
        factors: Option<Factors<'_>>,
        kept: &mut [f32],
        dx: &mut [f32],
        sums: &mut [&mut [f32]; WEIGHTS],
    ) {
        let BlockShape { tokens, width, hidden, .. } = self.shape;
        let (w, rows) = (&self.weights, x.len() / width);
        let kept = Kept::of(&self.shape, rows).split(kept);
        let (stats1, stats2) = kept.stats.split_at_mut(2 * rows);
        // What comes to a branch, where it is not what comes to the sum.
        let mut thinned = Buffer::take(if factors.is_some() { rows * width } else { 0 });
        let mut scratch = Buffer::take(rows * (3 * width + 2 * hidden));
        let [normal, active, back, dnormal, dmiddle] =
            split(scratch.slice(), [width, hidden, hidden, width, width].map(|n| n * rows));
        let [g1, b1, wqkv, bqkv, wout, bout, g2, b2, wup, bup, wdown, bdown] = sums;
        let into = |into: &mut [f32], left: &[f32], right: &[f32], m: usize, n: usize| {
            add_gradient(into, left, right, m, n, self.precision);
        };

        // The perceptron.
        let branch = match factors {
            Some([_, second]) => {
                scaled(None, dy, second, tokens * width, thinned.slice());
                thinned.values()
            }
            None => dy,
        };
        packed.down.times(back, branch, false);
        lanes::gelu_back(kept.up, back, active);
        into(wdown, active, branch, hidden, width);
        lanes::add_rows(branch, bdown);
        lanes::normalize_again(kept.middle, stats2, w.norm2[0], w.norm2[1], normal);
        into(wup, normal, back, width, hidden);
        lanes::add_rows(back, bup);
        packed.up.times(dnormal, back, false);
        dmiddle.copy_from_slice(dy);
        lanes::normalize_back(dnormal, kept.middle, stats2, w.norm2[0], dmiddle, g2, b2);

        // Attention.
        let branch = match factors {
            Some([first, _]) => {
                scaled(None, dmiddle, first, tokens * width, thinned.slice());
                thinned.values()
            }
            None => &*dmiddle,
        };
        into(wout, kept.attended, branch, width, width);
        lanes::add_rows(branch, bout);
        packed.out.times(dnormal, branch, false);
        let mut dqkv = Buffer::take(rows * 3 * width);
        self.attend_back(kept.qkv, kept.attended, kept.logs, dnormal, dqkv.slice());
        lanes::normalize_again(x, stats1, w.norm1[0], w.norm1[1], normal);
        into(wqkv, normal, dqkv.values(), width, 3 * width);
        lanes::add_rows(dqkv.values(), bqkv);
        packed.qkv.times(dnormal, dqkv.values(), false);
        dx.copy_from_slice(dmiddle);
        lanes::normalize_back(dnormal, x, stats1, w.norm1[0], dx, g1, b1);
    }

    /// Attention of each sample of a chunk.
    fn attend(&self, qkv: &[f32], out: &mut [f32], logs: &mut [f32]) {
        let BlockShape { tokens, width, heads, .. } = self.shape;
        let depth = width / heads;
        let scale = (depth as f32).powf(-0.5);
        let mut scores = Buffer::take(QUERIES.min(tokens) * tokens);
        let samples =
            qkv.chunks_exact(tokens * 3 * width).zip(out.chunks_exact_mut(tokens * width));
        for ((qkv, out), logs) in samples.zip(logs.chunks_exact_mut(tokens * heads)) {
            let all = Matrix::rows(qkv, 3 * width);
            for (head, logs) in logs.chunks_exact_mut(tokens).enumerate() {
                let first = head * depth;
                let (k, v) = (all.at(0, width + first), all.at(0, 2 * width + first));
                for (part, logs) in logs.chunks_mut(QUERIES).enumerate() {
                    let (from, count) = (part * QUERIES, logs.len());
                    let scores = &mut scores.slice()[..count * tokens];
                    let (q, shape) = (all.at(from, first), [count, tokens, depth]);
                    product(scores, tokens, false, q, k.transposed(), shape, self.precision);
                    lanes::softmax(scores, tokens, scale, logs);
                    let (p, shape) = (Matrix::rows(scores, tokens), [count, depth, tokens]);
                    let out = &mut out[from * width + first..];
                    product(out, width, false, p, v, shape, self.precision);
                }
            }
        }
    }

    /// The gradient of queries, keys and values from that of attention's result.
    fn attend_back(&self, qkv: &[f32], out: &[f32], logs: &[f32], dout: &[f32], dqkv: &mut [f32]) {
        let BlockShape { tokens, width, heads, .. } = self.shape;
        let (depth, stride) = (width / heads, 3 * width);
        let scale = (depth as f32).powf(-0.5);
        let at_once = QUERIES.min(tokens);
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
                for (part, logs) in logs.chunks(QUERIES).enumerate() {
                    let (from, count) = (part * QUERIES, logs.len());
                    let (p, d) = (&mut p[..count * tokens], &mut d[..count * tokens]);
                    let (q, dout_at) =
                        (all.at(from, first), Matrix::rows(dout, width).at(from, first));
                    let scores = [count, tokens, depth];
                    product(p, tokens, false, q, k.transposed(), scores, self.precision);
                    lanes::softmax_again(p, tokens, scale, logs);
                    product(d, tokens, false, dout_at, v.transposed(), scores, self.precision);
                    let rows = from * width..(from + count) * width;
                    let dots = &mut dots[..count];
                    lanes::dots(&out[rows.clone()], &dout[rows], width, first, depth, dots);
                    // Keys and values gather from all queries.
                    let (adds, to_keys) = (part > 0, [tokens, depth, count]);
                    let pt = Matrix::rows(p, tokens).transposed();
                    let dv = &mut dqkv[2 * width + first..];
                    product(dv, stride, adds, pt, dout_at, to_keys, self.precision);
                    lanes::softmax_back(p, d, tokens, scale, dots);
                    let ds = Matrix::rows(d, tokens);
                    let dk = &mut dqkv[width + first..];
                    product(dk, stride, adds, ds.transposed(), q, to_keys, self.precision);
                    let dq = &mut dqkv[from * stride + first..];
                    product(dq, stride, false, ds, k, [count, depth, tokens], self.precision);
                }
            }
        }
    }
}
