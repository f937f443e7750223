//! A pre-norm transformer block: y = x₁ + W₂·GELU(W₁·LN₂(x₁)), x₁ = x + Wₒ·attention(LN₁(x))
//! (Dosovitskiy et al., arXiv 2010.11929, equations 2 and 3; Vaswani et al., arXiv 1706.03762).
//!
//! All layers run on one cache-sized chunk of samples before the next one; the backward pass does the same in
//! reverse. Chunks, and the partial sums of the gradients of weights, depend on the shape alone.

use rayon::prelude::*;

use super::attention::Attention;
use crate::buffer::{Buffer, split, take_front};
use crate::elementwise::{add_bias, add_rows, fill_rows, gelu, gelu_backward};
use crate::gemm::matrix::Matrix;
use crate::gemm::weight::{PackedWeight, add_gradient};
use crate::normalize::{layer_norm, layer_norm_backward, layer_norm_recompute};
use crate::output::{OutputPart, OutputVec};
use crate::precision::Precision;
use crate::reduce::{MAX_PARTIALS, sum_over};

/// Shape and settings of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockShape {
    /// Width of a token, a multiple of `heads`.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Added to the variance in layer norm.
    pub epsilon: f32,
}

/// Consecutive samples of equal length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequences {
    /// Number of samples.
    pub samples: usize,
    /// Tokens of each sample.
    pub tokens: usize,
}

impl Sequences {
    /// Tokens of all samples.
    pub(crate) fn rows(&self) -> usize {
        self.samples * self.tokens
    }
}

/// Samples that pass through all layers together.
#[derive(Clone, Copy)]
struct Chunk {
    sequences: Sequences,
    first_sample: usize,
    first_row: usize,
}

impl Chunk {
    /// Its rows of a `[rows, width]` tensor.
    fn rows<'a>(&self, all: &'a [f32], width: usize) -> &'a [f32] {
        &all[self.first_row * width..][..self.sequences.rows() * width]
    }
}

/// A chunk, with its parts of the output and of the saved activations, if there are any.
struct ChunkTask<'a> {
    chunk: Chunk,
    out: OutputPart<'a, f32>,
    saved: Option<&'a mut [f32]>,
}

/// Number of weights, in order: scale and shift of the first layer norm; weight and bias of queries, keys and
/// values (`[width, 3·width]`) and of the output projection (`[width, width]`); scale and shift of the second
/// layer norm; weight and bias of the perceptron's layers (`[width, hidden]`, `[hidden, width]`).
pub(crate) const WEIGHTS: usize = 12;

/// Number of inputs: x and the weights.
pub(crate) const INPUTS: usize = 1 + WEIGHTS;

/// Maximum number of tokens in a chunk, unless a sample has more.
const CHUNK: usize = 512;

/// Activations saved for the backward pass.
struct Saved<'a> {
    qkv: &'a mut [f32],
    attended: &'a mut [f32],
    logsumexp: &'a mut [f32],
    /// x₁
    residual: &'a mut [f32],
    /// W₁·LN₂(x₁) + b₁
    hidden: &'a mut [f32],
    /// Means and rstds of both layer norms.
    stats: &'a mut [f32],
}

/// Weights of a block, each with its bias.
#[derive(Clone, Copy)]
struct Weights<'a> {
    norm1: [&'a [f32]; 2],
    qkv: [&'a [f32]; 2],
    out: [&'a [f32]; 2],
    norm2: [&'a [f32]; 2],
    up: [&'a [f32]; 2],
    down: [&'a [f32]; 2],
}

/// Packed matrices for the forward pass.
struct PackedMatrices<'a> {
    qkv: PackedWeight<'a>,
    out: PackedWeight<'a>,
    up: PackedWeight<'a>,
    down: PackedWeight<'a>,
}

/// Packed transposes for the backward pass, as far as the wanted gradients depend on products with them.
struct PackedTransposes<'a> {
    qkv: Option<PackedWeight<'a>>,
    out: Option<PackedWeight<'a>>,
    up: Option<PackedWeight<'a>>,
    down: Option<PackedWeight<'a>>,
}

/// Scales of the branches of each sample: attention, perceptron.
type BranchScale<'a> = [&'a [f32]; 2];

/// `out` = (`base` or 0) + scale·`branch`, with a scale for each `sample` values.
fn scale_branch(
    base: Option<&[f32]>,
    branch: &[f32],
    scales: &[f32],
    sample: usize,
    out: &mut [f32],
) {
    let samples = branch.chunks_exact(sample).zip(out.chunks_exact_mut(sample)).zip(scales);
    for (i, ((branch, out), scale)) in samples.enumerate() {
        match base {
            Some(base) => {
                let base = &base[i * sample..][..sample];
                out.iter_mut()
                    .zip(base.iter().zip(branch))
                    .for_each(|(o, (x, b))| *o = x + scale * b);
            }
            None => out.iter_mut().zip(branch).for_each(|(o, b)| *o = scale * b),
        }
    }
}

/// A block and the samples it is applied to.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    shape: BlockShape,
    sequences: &'a [Sequences],
    weights: Weights<'a>,
    precision: Precision,
    branch_scale: Option<BranchScale<'a>>,
}

impl<'a> Block<'a> {
    pub(crate) fn new(
        shape: BlockShape,
        sequences: &'a [Sequences],
        weights: [&'a [f32]; WEIGHTS],
        precision: Precision,
        branch_scale: Option<BranchScale<'a>>,
    ) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = weights;
        let weights = Weights {
            norm1: [a, b],
            qkv: [c, d],
            out: [e, f],
            norm2: [g, h],
            up: [i, j],
            down: [k, l],
        };
        Self { shape, sequences, weights, precision, branch_scale }
    }

    /// Branch scales of the samples of a chunk.
    fn branch_scale(&self, chunk: Chunk) -> Option<BranchScale<'a>> {
        let samples = chunk.sequences.samples;
        self.branch_scale.map(|all| all.map(|all| &all[chunk.first_sample..][..samples]))
    }

    /// Packs a `[k, n]` matrix.
    fn pack(&self, [matrix, _]: [&'a [f32]; 2], k: usize, n: usize) -> PackedWeight<'a> {
        PackedWeight::new(Matrix::rows(matrix, n), k, n, self.precision)
    }

    /// Packs the transpose of a `[k, n]` matrix.
    fn pack_transpose(&self, [matrix, _]: [&'a [f32]; 2], k: usize, n: usize) -> PackedWeight<'a> {
        PackedWeight::new(Matrix::rows(matrix, n).transposed(), n, k, self.precision)
    }

    fn packed(&self) -> PackedMatrices<'a> {
        let (BlockShape { width, hidden, .. }, w) = (self.shape, &self.weights);
        PackedMatrices {
            qkv: self.pack(w.qkv, width, 3 * width),
            out: self.pack(w.out, width, width),
            up: self.pack(w.up, width, hidden),
            down: self.pack(w.down, hidden, width),
        }
    }

    fn packed_transposes(&self, wanted: &[bool; INPUTS]) -> PackedTransposes<'a> {
        let (BlockShape { width, hidden, .. }, w) = (self.shape, &self.weights);
        let any = |end: usize| wanted[..end].contains(&true);
        // Each product carries the gradient to what precedes the matrix: see the order of `WEIGHTS`.
        PackedTransposes {
            qkv: any(3).then(|| self.pack_transpose(w.qkv, width, 3 * width)),
            out: any(5).then(|| self.pack_transpose(w.out, width, width)),
            up: any(9).then(|| self.pack_transpose(w.up, width, hidden)),
            down: any(11).then(|| self.pack_transpose(w.down, hidden, width)),
        }
    }

    /// Tasks of about equal work: the n-th one has the n-th chunk of every length. Their number is a multiple
    /// of the number of partial sums, if there are enough samples.
    fn tasks<'b>(
        &self,
        mut out: OutputPart<'b, f32>,
        mut saved: Option<&'b mut [f32]>,
    ) -> Vec<Vec<ChunkTask<'b>>> {
        let chunks =
            |s: &Sequences| s.rows().div_ceil(CHUNK).next_multiple_of(MAX_PARTIALS).min(s.samples);
        let count = self.sequences.iter().map(chunks).max().unwrap_or(0).max(1);
        let mut tasks: Vec<Vec<ChunkTask<'b>>> = (0..count).map(|_| Vec::new()).collect();
        let (mut first_sample, mut first_row) = (0, 0);
        for all in self.sequences {
            let per_chunk = all.samples.div_ceil(count).max(1);
            for (done, task) in (0..all.samples).step_by(per_chunk).zip(&mut tasks) {
                let sequences = Sequences { samples: per_chunk.min(all.samples - done), ..*all };
                let rows = sequences.rows();
                let saved = saved
                    .as_mut()
                    .map(|saved| take_front(saved, self.saved_lengths(sequences).iter().sum()));
                let out = out.cut(rows * self.shape.width);
                task.push(ChunkTask {
                    chunk: Chunk { sequences, first_sample, first_row },
                    out,
                    saved,
                });
                (first_sample, first_row) = (first_sample + sequences.samples, first_row + rows);
            }
        }
        tasks
    }

    /// Lengths of the parts of [`Saved`].
    fn saved_lengths(&self, sequences: Sequences) -> [usize; 6] {
        let BlockShape { width, heads, hidden, .. } = self.shape;
        [3 * width, width, heads, width, hidden, 4].map(|n| n * sequences.rows())
    }

    fn saved<'b>(&self, chunk: Chunk, all: &'b mut [f32]) -> Saved<'b> {
        let [qkv, attended, logsumexp, residual, hidden, stats] =
            split(all, self.saved_lengths(chunk.sequences));
        Saved { qkv, attended, logsumexp, residual, hidden, stats }
    }

    /// A buffer for the activations of a chunk that are not saved.
    fn scratch(&self, chunk: Chunk, is_saved: bool) -> Buffer {
        let length = self.saved_lengths(chunk.sequences).iter().sum();
        Buffer::take(if is_saved { 0 } else { length })
    }

    fn attention(&self, chunk: Chunk) -> Attention {
        let BlockShape { width, heads, .. } = self.shape;
        Attention { tokens: chunk.sequences.tokens, width, heads, precision: self.precision }
    }

    /// The output for `x`, and the activations for [`Block::backward`] if `save` is true.
    pub(crate) fn forward(&self, x: &[f32], save: bool) -> (Vec<f32>, Option<Buffer>) {
        let packed = &self.packed();
        let mut y = OutputVec::new(x.len());
        let lengths = self.sequences.iter().map(|s| self.saved_lengths(*s).iter().sum::<usize>());
        let mut saved = save.then(|| Buffer::take(lengths.sum()));
        let tasks = self.tasks(y.part(), saved.as_mut().map(Buffer::slice));
        tasks.into_par_iter().flatten_iter().for_each(|ChunkTask { chunk, out, saved }| {
            let mut scratch = self.scratch(chunk, saved.is_some());
            let saved = self.saved(chunk, saved.unwrap_or_else(|| scratch.slice()));
            let x = chunk.rows(x, self.shape.width);
            self.chunk_forward(packed, chunk, x, saved, Some(out.zeroed()));
        });
        (y.finish(), saved)
    }

    /// The activations of a chunk, and its output unless `y` is `None`.
    fn chunk_forward(
        &self,
        packed: &PackedMatrices<'_>,
        chunk: Chunk,
        x: &[f32],
        saved: Saved<'_>,
        y: Option<&mut [f32]>,
    ) {
        let BlockShape { width, hidden, epsilon, .. } = self.shape;
        let (sample, branch_scale) = (chunk.sequences.tokens * width, self.branch_scale(chunk));
        let (w, rows) = (&self.weights, chunk.sequences.rows());
        let (stats1, stats2) = saved.stats.split_at_mut(2 * rows);
        let mut scratch = Buffer::take(rows * (width + hidden));
        let (normal, active) = scratch.slice().split_at_mut(rows * width);

        layer_norm(x, w.norm1[0], w.norm1[1], epsilon, normal, stats1);
        fill_rows(w.qkv[1], saved.qkv);
        packed.qkv.multiply(saved.qkv, normal, true);
        self.attention(chunk).forward(saved.qkv, saved.attended, saved.logsumexp);
        if let Some([scale, _]) = branch_scale {
            fill_rows(w.out[1], normal);
            packed.out.multiply(normal, saved.attended, true);
            scale_branch(Some(x), normal, scale, sample, saved.residual);
        } else {
            add_bias(x, w.out[1], saved.residual);
            packed.out.multiply(saved.residual, saved.attended, true);
        }

        layer_norm(saved.residual, w.norm2[0], w.norm2[1], epsilon, normal, stats2);
        fill_rows(w.up[1], saved.hidden);
        packed.up.multiply(saved.hidden, normal, true);
        let Some(y) = y else { return };
        gelu(saved.hidden, active);
        if let Some([_, scale]) = branch_scale {
            fill_rows(w.down[1], normal);
            packed.down.multiply(normal, active, true);
            scale_branch(Some(saved.residual), normal, scale, sample, y);
        } else {
            add_bias(saved.residual, w.down[1], y);
            packed.down.multiply(y, active, true);
        }
    }

    /// Gradients of x and the weights, as far as they are `wanted`, from that of the output. Activations that
    /// [`Block::forward`] did not save are recomputed.
    pub(crate) fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        saved: Option<&mut Buffer>,
        wanted: [bool; INPUTS],
    ) -> [Option<Vec<f32>>; INPUTS] {
        let width = self.shape.width;
        let recompute = saved.is_none().then(|| self.packed());
        let packed = &self.packed_transposes(&wanted);
        let mut dx = OutputVec::new(x.len());
        let tasks = self.tasks(dx.part(), saved.map(Buffer::slice));
        let sums = sum_over(tasks, self.sum_lengths(&wanted), |task, mut sums| {
            for ChunkTask { chunk, out, saved } in task {
                let (x, dy) = (chunk.rows(x, width), chunk.rows(dy, width));
                let mut scratch = self.scratch(chunk, saved.is_some());
                let saved = saved.unwrap_or_else(|| scratch.slice());
                if let Some(packed) = &recompute {
                    self.chunk_forward(packed, chunk, x, self.saved(chunk, saved), None);
                }
                let saved = self.saved(chunk, saved);
                self.chunk_backward(packed, chunk, [x, dy], saved, out, &wanted, &mut sums);
            }
        });
        let dx = wanted[0].then(|| dx.finish());
        let mut all = std::iter::once(dx).chain(sums.into_iter().map(Some));
        std::array::from_fn(|i| all.next().flatten().filter(|_| wanted[i]))
    }

    /// Lengths of the sums for the gradients of weights; 0 for matrices and biases that are not wanted.
    fn sum_lengths(&self, wanted: &[bool; INPUTS]) -> [usize; WEIGHTS] {
        let w = &self.weights;
        let pairs = [w.norm1, w.qkv, w.out, w.norm2, w.up, w.down];
        std::array::from_fn(|i| {
            let is_norm = i / 2 % 3 == 0;
            if is_norm || wanted[1 + i] { pairs[i / 2][i % 2].len() } else { 0 }
        })
    }

    /// Backward pass of a chunk, from the output to the first input that is wanted: initialises `dx` if it
    /// comes as far as that, and adds to the gradients of weights.
    #[allow(clippy::too_many_arguments)]
    fn chunk_backward(
        &self,
        packed: &PackedTransposes<'_>,
        chunk: Chunk,
        [x, dy]: [&[f32]; 2],
        saved: Saved<'_>,
        dx: OutputPart<'_, f32>,
        wanted: &[bool; INPUTS],
        sums: &mut [&mut [f32]; WEIGHTS],
    ) {
        let BlockShape { width, hidden, .. } = self.shape;
        let (sample, branch_scale) = (chunk.sequences.tokens * width, self.branch_scale(chunk));
        let (w, rows) = (&self.weights, chunk.sequences.rows());
        let (stats1, stats2) = saved.stats.split_at_mut(2 * rows);
        // Gradient entering a branch when it is scaled.
        let mut scaled = Buffer::take(if branch_scale.is_some() { rows * width } else { 0 });
        let mut scratch = Buffer::take(rows * (3 * width + 2 * hidden));
        let [normal, active, dhidden, dnormal, dresidual] =
            split(scratch.slice(), [width, hidden, hidden, width, width].map(|n| n * rows));
        let [_, _, _, want_qkv, want_bqkv, want_out, want_bout, ..] = *wanted;
        let [.., want_up, want_bup, want_down, want_bdown] = *wanted;
        let [g1, b1, wqkv, bqkv, wout, bout, g2, b2, wup, bup, wdown, bdown] = sums;
        let add = |into: &mut [f32], a: &[f32], b: &[f32], m: usize, n: usize| {
            add_gradient(into, a, b, m, n, self.precision);
        };

        // Perceptron.
        let branch = match branch_scale {
            Some([_, scale]) => {
                scale_branch(None, dy, scale, sample, scaled.slice());
                scaled.values()
            }
            None => dy,
        };
        if let Some(down) = &packed.down {
            down.multiply(dhidden, branch, false);
            gelu_backward(saved.hidden, dhidden, active);
        } else if want_down {
            gelu(saved.hidden, active);
        }
        if want_down {
            add(wdown, active, branch, hidden, width);
        }
        if want_bdown {
            add_rows(branch, bdown);
        }
        if want_up {
            layer_norm_recompute(saved.residual, stats2, w.norm2[0], w.norm2[1], normal);
            add(wup, normal, dhidden, width, hidden);
        }
        if want_bup {
            add_rows(dhidden, bup);
        }
        let Some(up) = &packed.up else { return };
        up.multiply(dnormal, dhidden, false);
        let (x1, skip) = (&*saved.residual, Some(dy));
        layer_norm_backward(dnormal, x1, stats2, w.norm2[0], skip, dresidual, g2, b2);

        // Attention.
        let branch = match branch_scale {
            Some([scale, _]) => {
                scale_branch(None, dresidual, scale, sample, scaled.slice());
                scaled.values()
            }
            None => &*dresidual,
        };
        if want_out {
            add(wout, saved.attended, branch, width, width);
        }
        if want_bout {
            add_rows(branch, bout);
        }
        let Some(out) = &packed.out else { return };
        out.multiply(dnormal, branch, false);
        let mut dqkv = Buffer::take(rows * 3 * width);
        let attention = self.attention(chunk);
        attention.backward(saved.qkv, saved.attended, saved.logsumexp, dnormal, dqkv.slice());
        if want_qkv {
            layer_norm_recompute(x, stats1, w.norm1[0], w.norm1[1], normal);
            add(wqkv, normal, dqkv.values(), width, 3 * width);
        }
        if want_bqkv {
            add_rows(dqkv.values(), bqkv);
        }
        let Some(qkv) = &packed.qkv else { return };
        qkv.multiply(dnormal, dqkv.values(), false);
        let skip = Some(&*dresidual);
        layer_norm_backward(dnormal, x, stats1, w.norm1[0], skip, dx.zeroed(), g1, b1);
    }
}
