//! Convolution of pictures whose channels lie side by side (`[batch, height, width, channels]`).
//!
//! A stretch of output positions is gathered, patch by patch, into a matrix that stays in the cache;
//! the rest is one matrix product. The way back gathers again rather than to have kept it.

use rayon::prelude::*;

use crate::groups::summed;
use crate::memory::fresh;
use crate::{Buffer, Matrix, Precision, product};

/// Values of a gathered matrix, about: a megabyte.
const GATHERED: usize = 1 << 18;

/// Filters that are laid out together.
const TOGETHER: usize = 16;

/// Sizes of a convolution with a square kernel and zeros around the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ConvShape {
    pub(crate) batch: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) pad: usize,
}

impl ConvShape {
    /// Height and width of the result.
    pub(crate) fn result(&self) -> [usize; 2] {
        [self.height, self.width].map(|n| (n + 2 * self.pad - self.kernel) / self.stride + 1)
    }

    /// Length of a patch.
    fn patch(&self) -> usize {
        self.kernel * self.kernel * self.input
    }

    /// Output positions that are gathered at once.
    fn stretch(&self) -> usize {
        (GATHERED / self.patch()).clamp(32, 1024)
    }

    fn picture(&self) -> usize {
        self.height * self.width * self.input
    }

    /// Where a row of a patch lies: offset in the picture, offset in the patch, and length, of what
    /// is within the picture.
    fn runs(&self, position: usize) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        let [_, columns] = self.result();
        let (top, left) = (position / columns * self.stride, position % columns * self.stride);
        // Columns of the kernel that meet the picture.
        let first = self.pad.saturating_sub(left);
        let last = self.kernel.min((self.width + self.pad).saturating_sub(left));
        (0..self.kernel).filter_map(move |i| {
            let y = (top + i).checked_sub(self.pad).filter(|y| *y < self.height)?;
            let from = (y * self.width + left + first - self.pad) * self.input;
            let to = (i * self.kernel + first) * self.input;
            (first < last).then_some((from, to, (last - first) * self.input))
        })
    }

    /// Patches of positions from `first` on, one after the other.
    fn gather(&self, picture: &[f32], first: usize, patches: &mut [f32]) {
        for (i, patch) in patches.chunks_exact_mut(self.patch()).enumerate() {
            if self.pad > 0 {
                patch.fill(0.0);
            }
            for (from, to, length) in self.runs(first + i) {
                patch[to..to + length].copy_from_slice(&picture[from..from + length]);
            }
        }
    }

    /// Adds patches back to where [`ConvShape::gather`] took them from.
    fn scatter(&self, patches: &[f32], first: usize, picture: &mut [f32]) {
        for (i, patch) in patches.chunks_exact(self.patch()).enumerate() {
            for (from, to, length) in self.runs(first + i) {
                crate::lanes::add(&patch[to..to + length], &mut picture[from..from + length]);
            }
        }
    }

    /// Filters `[output, input, kernel, kernel]` as a matrix `[patch, output]`.
    fn matrix(&self, filters: &[f32]) -> Vec<f32> {
        let (area, input, output) = (self.kernel * self.kernel, self.input, self.output);
        let mut matrix = vec![0.0; filters.len()];
        matrix.par_chunks_exact_mut(input * output).enumerate().for_each(|(k, matrix)| {
            for first in (0..output).step_by(TOGETHER) {
                let last = output.min(first + TOGETHER);
                for (c, row) in matrix.chunks_exact_mut(output).enumerate() {
                    for (o, value) in (first..last).zip(&mut row[first..last]) {
                        *value = filters[(o * input + c) * area + k];
                    }
                }
            }
        });
        matrix
    }

    /// The matrix of the convolution that takes gradients back: inputs and outputs change places, and
    /// kernels are turned by half a turn.
    fn turned(&self, filters: &[f32]) -> Vec<f32> {
        let (area, input, output) = (self.kernel * self.kernel, self.input, self.output);
        let mut matrix = vec![0.0; filters.len()];
        matrix.par_chunks_exact_mut(input * output).enumerate().for_each(|(k, matrix)| {
            for (o, row) in matrix.chunks_exact_mut(input).enumerate() {
                for (c, value) in row.iter_mut().enumerate() {
                    *value = filters[(o * input + c) * area + area - 1 - k];
                }
            }
        });
        matrix
    }

    /// The way back of [`ConvShape::matrix`].
    fn filters(&self, matrix: &[f32]) -> Vec<f32> {
        let (area, input, output) = (self.kernel * self.kernel, self.input, self.output);
        let mut filters = vec![0.0; matrix.len()];
        let some = filters.par_chunks_mut(TOGETHER * input * area).enumerate();
        some.for_each(|(i, filters)| {
            for k in 0..area {
                for c in 0..input {
                    let row = &matrix[(k * input + c) * output + i * TOGETHER..];
                    for (filter, value) in filters.chunks_exact_mut(input * area).zip(row) {
                        filter[c * area + k] = *value;
                    }
                }
            }
        });
        filters
    }

    pub(crate) fn forward(&self, x: &[f32], filters: &[f32], precision: Precision) -> Vec<f32> {
        self.correlate(x, &self.matrix(filters), precision)
    }

    /// The convolution with filters as a matrix `[patch, output]`.
    fn correlate(&self, x: &[f32], matrix: &[f32], precision: Precision) -> Vec<f32> {
        let [rows, columns] = self.result();
        let (positions, patch, output) = (rows * columns, self.patch(), self.output);
        let mut y = fresh(self.batch * positions * output);
        let pictures = x.par_chunks_exact(self.picture());
        pictures.zip(y.par_chunks_exact_mut(positions * output)).for_each(|(x, y)| {
            let mut patches = Buffer::take(self.stretch() * patch);
            for (s, y) in y.chunks_mut(self.stretch() * output).enumerate() {
                let count = y.len() / output;
                let patches = &mut patches.slice()[..count * patch];
                self.gather(x, s * self.stretch(), patches);
                let (left, right) = (Matrix::rows(patches, patch), Matrix::rows(matrix, output));
                product(y, output, false, left, right, [count, output, patch], precision);
            }
        });
        y
    }

    /// Gradients of the pictures, where wanted, and of the filters.
    pub(crate) fn backward(
        &self,
        x: &[f32],
        filters: &[f32],
        dy: &[f32],
        wants_pictures: bool,
        precision: Precision,
    ) -> (Option<Vec<f32>>, Vec<f32>) {
        let [rows, columns] = self.result();
        let (positions, patch, output) = (rows * columns, self.patch(), self.output);
        // With stride 1 the way back is a convolution too; else patches are added where they came from.
        let turns = wants_pictures && self.stride == 1 && self.kernel > self.pad;
        let scatters = wants_pictures && !turns;
        let matrix = if scatters { self.matrix(filters) } else { Vec::new() };
        let mut dx = vec![0.0; if scatters { x.len() } else { 0 }];
        let mut targets = dx.chunks_exact_mut(self.picture());
        let pairs = x.chunks_exact(self.picture()).zip(dy.chunks_exact(positions * output));
        let items = pairs.map(|(x, dy)| (x, dy, targets.next())).collect();
        let sums = summed(items, filters.len(), |(x, dy, mut dx), sums| {
            let mut patches = Buffer::take(self.stretch() * patch);
            for (s, dy) in dy.chunks(self.stretch() * output).enumerate() {
                let (count, first) = (dy.len() / output, s * self.stretch());
                let patches = &mut patches.slice()[..count * patch];
                self.gather(x, first, patches);
                let dy = Matrix::rows(dy, output);
                let left = Matrix::rows(patches, patch).transposed();
                product(sums, output, true, left, dy, [patch, output, count], precision);
                if let Some(dx) = &mut dx {
                    let right = Matrix::rows(&matrix, output).transposed();
                    product(patches, patch, false, dy, right, [count, patch, output], precision);
                    self.scatter(patches, first, dx);
                }
            }
        });
        if turns {
            let back = Self {
                height: rows,
                width: columns,
                input: output,
                output: self.input,
                pad: self.kernel - 1 - self.pad,
                ..*self
            };
            dx = back.correlate(dy, &self.turned(filters), precision);
        }
        (wants_pictures.then_some(dx), self.filters(sums.values()))
    }
}
