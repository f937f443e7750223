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

use crate::attention::Attention;
use crate::groups::{GROUPS, summed};
use crate::lanes;
use crate::memory::{cut, fresh, split};
use crate::weight::{Weight, add_gradient};
use crate::{Buffer, Matrix, Precision};

/// Shape and settings of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockShape {
    /// Width of a token, a multiple of `heads`.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// What is added to the variance in a layer norm.
    pub epsilon: f32,
}

/// Samples of one length, whose tokens follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequences {
    /// How many samples there are.
    pub samples: usize,
    /// Tokens of each.
    pub tokens: usize,
}

impl Sequences {
    /// Tokens of all samples.
    pub(crate) fn rows(&self) -> usize {
        self.samples * self.tokens
    }
}

/// Samples that go through the block together.
#[derive(Clone, Copy)]
struct Chunk {
    of: Sequences,
    first_sample: usize,
    first_row: usize,
}

impl Chunk {
    /// Its rows of a tensor.
    fn rows<'a>(&self, all: &'a [f32], width: usize) -> &'a [f32] {
        &all[self.first_row * width..][..self.of.rows() * width]
    }
}

/// A chunk's work on one way.
struct Work<'a> {
    chunk: Chunk,
    /// Where the result goes.
    out: &'a mut [f32],
    /// Where what is kept of it lies, if it is.
    kept: Option<&'a mut [f32]>,
}

/// Names of a block's weights, in the order in which they are passed: layer norm before attention,
/// queries-keys-values (`[width, 3·width]`), output (`[width, width]`), layer norm before the
/// perceptron, up (`[width, hidden]`) and down (`[hidden, width]`), each with its shift.
pub(crate) const WEIGHTS: usize = 12;

/// Tokens in a chunk, at most, unless a sample has more.
const CHUNK: usize = 512;

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
    fn total(&self) -> usize {
        self.lengths.iter().sum()
    }

    fn split<'a>(&self, all: &'a mut [f32]) -> Parts<'a> {
        let [qkv, attended, logs, middle, up, stats] = split(all, self.lengths);
        Parts { qkv, attended, logs, middle, up, stats }
    }
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

/// A block at work on samples, of which those of one length follow each other.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    shape: BlockShape,
    sequences: &'a [Sequences],
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
        sequences: &'a [Sequences],
        weights: [&'a [f32]; WEIGHTS],
        precision: Precision,
        factors: Option<Factors<'a>>,
    ) -> Self {
        Self { shape, sequences, weights: Weights::of(weights), precision, factors }
    }

    /// The factors of a chunk's samples.
    fn factors_of(&self, chunk: Chunk) -> Option<Factors<'a>> {
        self.factors.map(|all| all.map(|all| &all[chunk.first_sample..][..chunk.of.samples]))
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

    /// The work of all chunks. The first chunks of all lengths are one item, the second ones the next,
    /// and so on, so that items take about as long; there are as many as threads share evenly.
    fn items<'b>(
        &self,
        mut out: &'b mut [f32],
        mut kept: Option<&'b mut [f32]>,
    ) -> Vec<Vec<Work<'b>>> {
        let wanted =
            |of: &Sequences| of.rows().div_ceil(CHUNK).next_multiple_of(GROUPS).min(of.samples);
        let count = self.sequences.iter().map(wanted).max().unwrap_or(0).max(1);
        let mut items: Vec<Vec<Work<'b>>> = (0..count).map(|_| Vec::new()).collect();
        let (mut first_sample, mut first_row) = (0, 0);
        for of in self.sequences {
            let at_once = of.samples.div_ceil(count).max(1);
            for (done, item) in (0..of.samples).step_by(at_once).zip(&mut items) {
                let of = Sequences { samples: at_once.min(of.samples - done), ..*of };
                let kept = kept.as_mut().map(|kept| cut(kept, self.kept(of).total()));
                let out = cut(&mut out, of.rows() * self.shape.width);
                item.push(Work { chunk: Chunk { of, first_sample, first_row }, out, kept });
                (first_sample, first_row) = (first_sample + of.samples, first_row + of.rows());
            }
        }
        items
    }

    /// What is kept of samples.
    fn kept(&self, of: Sequences) -> Kept {
        let BlockShape { width, heads, hidden, .. } = self.shape;
        Kept { lengths: [3 * width, width, heads, width, hidden, 4].map(|n| n * of.rows()) }
    }

    /// Room for what a chunk makes on its way, unless it is kept elsewhere.
    fn room(&self, chunk: Chunk, kept: bool) -> Buffer {
        Buffer::take(if kept { 0 } else { self.kept(chunk.of).total() })
    }

    /// The result for `x`, and what the way back needs where `keep` says so.
    pub(crate) fn forward(&self, x: &[f32], keep: bool) -> (Vec<f32>, Option<Buffer>) {
        let packed = &self.packed(false);
        let mut y = fresh(x.len());
        let kept: usize = self.sequences.iter().map(|of| self.kept(*of).total()).sum();
        let mut kept = keep.then(|| Buffer::take(kept));
        let items = self.items(&mut y, kept.as_mut().map(Buffer::slice));
        items.into_par_iter().flatten_iter().for_each(|Work { chunk, out, kept }| {
            let mut room = self.room(chunk, kept.is_some());
            let kept = kept.unwrap_or_else(|| room.slice());
            self.chunk(packed, chunk, chunk.rows(x, self.shape.width), kept, Some(out));
        });
        (y, kept)
    }

    /// One chunk forward; without `y`, only what is kept of it.
    fn chunk(
        &self,
        packed: &Packed<'_>,
        chunk: Chunk,
        x: &[f32],
        kept: &mut [f32],
        y: Option<&mut [f32]>,
    ) {
        let BlockShape { width, hidden, epsilon, .. } = self.shape;
        let (sample, factors) = (chunk.of.tokens * width, self.factors_of(chunk));
        let (w, rows) = (&self.weights, chunk.of.rows());
        let kept = self.kept(chunk.of).split(kept);
        let (stats1, stats2) = kept.stats.split_at_mut(2 * rows);
        let mut scratch = Buffer::take(rows * (width + hidden));
        let (normal, active) = scratch.slice().split_at_mut(rows * width);

        lanes::normalize(x, w.norm1[0], w.norm1[1], epsilon, normal, stats1);
        lanes::repeat_row(w.qkv[1], kept.qkv);
        packed.qkv.times(kept.qkv, normal, true);
        self.attention(chunk).forward(kept.qkv, kept.attended, kept.logs);
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
        let width = self.shape.width;
        let again = kept.is_none().then(|| self.packed(false));
        let packed = &self.packed(true);
        let mut dx = fresh(x.len());
        let items = self.items(&mut dx, kept.map(Buffer::slice));
        let sums = summed(items, self.lengths(), |item, mut sums| {
            for Work { chunk, out, kept } in item {
                let (x, dy) = (chunk.rows(x, width), chunk.rows(dy, width));
                let mut room = self.room(chunk, kept.is_some());
                let kept = kept.unwrap_or_else(|| room.slice());
                if let Some(again) = &again {
                    self.chunk(again, chunk, x, kept, None);
                }
                self.chunk_back(packed, chunk, x, dy, kept, out, &mut sums);
            }
        });
        (dx, sums)
    }

    fn attention(&self, chunk: Chunk) -> Attention {
        let BlockShape { width, heads, .. } = self.shape;
        Attention { tokens: chunk.of.tokens, width, heads, precision: self.precision }
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
        chunk: Chunk,
        x: &[f32],
        dy: &[f32],
        kept: &mut [f32],
        dx: &mut [f32],
        sums: &mut [&mut [f32]; WEIGHTS],
    ) {
        let BlockShape { width, hidden, .. } = self.shape;
        let (sample, factors) = (chunk.of.tokens * width, self.factors_of(chunk));
        let (w, rows) = (&self.weights, chunk.of.rows());
        let kept = self.kept(chunk.of).split(kept);
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
                scaled(None, dy, second, sample, thinned.slice());
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
        let beside = Some(dy);
        lanes::normalize_back(dnormal, kept.middle, stats2, w.norm2[0], beside, dmiddle, g2, b2);

        // Attention.
        let branch = match factors {
            Some([first, _]) => {
                scaled(None, dmiddle, first, sample, thinned.slice());
                thinned.values()
            }
            None => &*dmiddle,
        };
        into(wout, kept.attended, branch, width, width);
        lanes::add_rows(branch, bout);
        packed.out.times(dnormal, branch, false);
        let mut dqkv = Buffer::take(rows * 3 * width);
        let attention = self.attention(chunk);
        attention.backward(kept.qkv, kept.attended, kept.logs, dnormal, dqkv.slice());
        lanes::normalize_again(x, stats1, w.norm1[0], w.norm1[1], normal);
        into(wqkv, normal, dqkv.values(), width, 3 * width);
        lanes::add_rows(dqkv.values(), bqkv);
        packed.qkv.times(dnormal, dqkv.values(), false);
        let beside = Some(&*dmiddle);
        lanes::normalize_back(dnormal, x, stats1, w.norm1[0], beside, dx, g1, b1);
    }
}
