//! SIGReg with Epps-Pulley on the CPU: value and gradient, tile by tile.
//!
//! For each set of N embeddings and each tile of directions: project, sum e^{ikθ} over the rows, turn
//! the sums into the statistic and into two coefficients per knot and direction, and evaluate the
//! gradient with respect to the projections in place of them. A matrix product then carries it back to
//! the embeddings. Nothing larger than the projections of the sets in work is ever held.
//!
//! Tiles and chunks depend on the shape alone and every sum runs in a fixed order, so the result has
//! the same bits for any number of threads.

use lejepa_kernels::{Buffer, Matrix, Precision, arch, product};
use rayon::prelude::*;

use super::Rule;
use super::lanes::{BLOCK, Gradient, ROWS, Sums};

/// What to compute: SIGReg over `sets` sets of `rows` embeddings of width `dim`.
pub(super) struct Problem<'a> {
    pub(super) sets: usize,
    pub(super) rows: usize,
    pub(super) dim: usize,
    pub(super) slices: usize,
    /// `sets · rows × dim`, contiguous.
    pub(super) z: &'a [f32],
    /// `dim × slices`.
    pub(super) axes: Matrix<'a>,
    pub(super) rule: &'a Rule,
}

/// Bytes of a tile: it should stay in the second-level cache between the passes.
const TILE_BYTES: usize = 1 << 20;
/// Widest tile, in directions.
const TILE_WIDTH: usize = 256;
/// Rows of embeddings per matrix product of the backward pass.
const CHUNK: usize = 128;

impl Problem<'_> {
    fn padded_rows(&self) -> usize {
        self.rows.next_multiple_of(ROWS)
    }

    fn tile_width(&self) -> usize {
        let fits = TILE_BYTES / (4 * self.padded_rows());
        let width = (fits / BLOCK * BLOCK).clamp(BLOCK, TILE_WIDTH);
        width.min(self.slices.next_multiple_of(LANES))
    }

    /// The mean over sets and directions, and its gradient (`sets · rows × dim`) where wanted.
    pub(super) fn run(&self, gradient: bool) -> (f64, Vec<f32>) {
        let size = self.rows * self.dim;
        let mut back = vec![0f32; if gradient { self.sets * size } else { 0 }];
        let sums: Vec<f64> = if gradient {
            let sets: Vec<&mut [f32]> = back.chunks_exact_mut(size).collect();
            sets.into_par_iter().enumerate().map(|(set, back)| self.set(set, Some(back))).collect()
        } else {
            (0..self.sets).into_par_iter().map(|set| self.set(set, None)).collect()
        };
        (sums.iter().sum::<f64>() / (self.sets * self.slices) as f64, back)
    }

    /// The sum over directions for one set.
    fn set(&self, set: usize, back: Option<&mut [f32]>) -> f64 {
        let (rows, dim, width) = (self.padded_rows(), self.dim, self.tile_width());
        let z = &self.z[set * self.rows * dim..][..self.rows * dim];
        let tiles = self.slices.div_ceil(width);
        let keep = back.is_some();
        // Without a gradient a tile is done with as soon as it is summed.
        let mut buffer = Buffer::take(if keep { tiles * rows * width } else { 0 });
        let sums: Vec<f64> = if keep {
            let parts: Vec<&mut [f32]> = buffer.slice().chunks_exact_mut(rows * width).collect();
            parts.into_par_iter().enumerate().map(|(t, tile)| self.tile(z, t, tile, true)).collect()
        } else {
            let one = |t| self.tile(z, t, Buffer::take(rows * width).slice(), false);
            (0..tiles).into_par_iter().map(one).collect()
        };
        if let Some(back) = back {
            let tiles = buffer.slice();
            back.par_chunks_mut(CHUNK * dim).enumerate().for_each(|(c, back)| {
                for (t, tile) in tiles.chunks_exact(rows * width).enumerate() {
                    let count = width.min(self.slices - t * width);
                    let tile = Matrix::rows(&tile[c * CHUNK * width..], width);
                    let axes = self.axes.at(0, t * width).transposed();
                    let shape = [back.len() / dim, dim, count];
                    product(back, dim, t > 0, tile, axes, shape, Precision::F32);
                }
            });
        }
        sums.iter().sum()
    }

    /// The sum over one tile's directions; leaves the gradient of the projections in the tile.
    fn tile(&self, z: &[f32], index: usize, tile: &mut [f32], gradient: bool) -> f64 {
        let (width, dim, knots) = (self.tile_width(), self.dim, self.rule.weights.len());
        let count = width.min(self.slices - index * width);
        let (z, axes) = (Matrix::rows(z, dim), self.axes.at(0, index * width));
        // Columns beyond `count` hold whatever was there: nobody looks at what becomes of them.
        // Rows beyond the last are zero and add exactly one to each sum of cosines.
        product(tile, width, false, z, axes, [self.rows, count, dim], Precision::F32);
        tile[self.rows * width..].fill(0.0);
        let padding = (self.padded_rows() - self.rows) as f64;

        let mut sums = Buffer::take(2 * knots * width);
        let (cos, sin) = sums.slice().split_at_mut(knots * width);
        let step = self.rule.step as f32;
        self.sums(tile, step, cos, sin);
        let n = self.rows as f64;
        let scale = 1.0 / (self.sets * self.slices) as f64;
        let mut totals = [0f64; TILE_WIDTH];
        for (k, weight) in self.rule.weights.iter().enumerate() {
            let t = (k + 1) as f64 * self.rule.step;
            let phi = (-0.5 * t * t).exp();
            let row = k * width..k * width + width;
            for (j, (c, s)) in cos[row.clone()].iter_mut().zip(&mut sin[row]).enumerate() {
                let re = (f64::from(*c) - padding) / n - phi;
                let im = f64::from(*s) / n;
                totals[j] += n * weight * (re * re + im * im);
                // d/dx of N·w·(re² + im²), with N·d(re)/dx = −t sin tx and N·d(im)/dx = t cos tx.
                *c = (2.0 * scale * weight * t * re) as f32;
                *s = (2.0 * scale * weight * t * im) as f32;
            }
        }
        if gradient {
            self.gradient(tile, step, cos, sin);
        }
        totals[..count].iter().sum()
    }
}

/// Runs a pass with the least H, half the knots, that it is compiled for.
macro_rules! pass {
    ($knots:expr, $pass:ident { $($field:ident $(: $value:expr)?),* }) => {
        match $knots {
            0..=4 => arch().dispatch($pass::<2> { $($field $(: $value)?),* }),
            5..=8 => arch().dispatch($pass::<4> { $($field $(: $value)?),* }),
            9..=16 => arch().dispatch($pass::<8> { $($field $(: $value)?),* }),
            17..=32 => arch().dispatch($pass::<16> { $($field $(: $value)?),* }),
            _ => arch().dispatch($pass::<32> { $($field $(: $value)?),* }),
        }
    };
}

impl Problem<'_> {
    fn sums(&self, tile: &[f32], step: f32, cos: &mut [f32], sin: &mut [f32]) {
        let width = self.tile_width();
        pass!(self.rule.weights.len(), Sums { tile, width, step, cos, sin });
    }

    fn gradient(&self, tile: &mut [f32], step: f32, a: &[f32], b: &[f32]) {
        let width = self.tile_width();
        pass!(self.rule.weights.len(), Gradient { tile, width, step, a, b });
    }
}

/// Every tile's width is a multiple of this, the widest vector there is.
const LANES: usize = 16;
