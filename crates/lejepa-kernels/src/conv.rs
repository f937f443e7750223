//! Convolution of pictures whose channels lie side by side (`[batch, height, width, channels]`).
//!
//! Nothing is gathered but pointers: see [`rows`](crate::rows). The way back to the pictures is such
//! a sweep too, over the gradient of the result. With a stride, each of the pictures' positions meets
//! only some of the taps; positions that meet the same are a class of their own.

use rayon::prelude::*;

use crate::memory::fresh;
use crate::rows::{Across, BLOCK, NONE, Outer, Panels, Sweep, width, words_along};
use crate::unit::{Pair, Word};
use crate::{Buffer, Precision, lanes};

/// Positions that a thread makes at a time.
const SWEPT: usize = 256;
/// Positions whose gradients of the filters are summed at a time: they should stay in the cache.
const SUMMED: usize = 128;
/// Sums of the filters' gradients that are made apart: at least as many as threads that should work.
const APART: usize = 16;
/// Values that a thread adds up at a time.
const PART: usize = 1 << 14;

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

/// Positions of what is made that meet the same taps.
struct Class<W> {
    /// What their row and column leave when divided by the number of classes.
    at: [usize; 2],
    taps: Vec<[usize; 2]>,
    right: Panels<W>,
}

/// Which way a sweep goes: from the pictures to the result, or from its gradient to theirs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Forward,
    Back,
}

impl ConvShape {
    /// Height and width of the result.
    pub(crate) fn result(&self) -> [usize; 2] {
        [self.height, self.width].map(|n| (n + 2 * self.pad - self.kernel) / self.stride + 1)
    }

    /// Where, along one axis of length `size`, a tap of the result at `at` reads.
    fn reads(&self, way: Way, at: usize, tap: usize, size: usize) -> Option<usize> {
        let from = match way {
            Way::Forward => (at * self.stride + tap).checked_sub(self.pad)?,
            Way::Back => {
                let from = (at + self.pad).checked_sub(tap)?;
                from.is_multiple_of(self.stride).then_some(from / self.stride)?
            }
        };
        (from < size).then_some(from)
    }

    /// The classes of a way, with the filters `[output, input, kernel, kernel]` that each meets.
    fn classes<W: Word>(&self, way: Way, filters: &[f32]) -> Vec<Class<W>> {
        let (kernel, input) = (self.kernel, self.input);
        let count = if way == Way::Back { self.stride } else { 1 };
        let met = |at: usize| -> Vec<usize> {
            let meets = |tap: &usize| (at + self.pad + kernel * count - tap).is_multiple_of(count);
            (0..kernel).filter(meets).collect()
        };
        let classes = (0..count * count).map(|n| {
            let at = [n / count, n % count];
            let [rows, columns] = at.map(met);
            let taps: Vec<[usize; 2]> =
                rows.iter().flat_map(|i| columns.iter().map(|j| [*i, *j])).collect();
            let filter = |tap: usize, c: usize, o: usize| {
                let [i, j] = taps[tap];
                filters[((o * input + c) * kernel + i) * kernel + j]
            };
            let right = match way {
                Way::Forward => Panels::with_taps(self.output, taps.len(), input, filter),
                Way::Back => {
                    Panels::with_taps(input, taps.len(), self.output, |tap, o, c| filter(tap, c, o))
                }
            };
            Class { at, taps, right }
        });
        classes.collect()
    }

    pub(crate) fn forward(&self, x: &[f32], filters: &[f32], precision: Precision) -> Vec<f32> {
        match precision.is_narrow() {
            true => self.sweep::<Pair>(Way::Forward, x, filters),
            false => self.sweep::<f32>(Way::Forward, x, filters),
        }
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
        match precision.is_narrow() {
            true => self.both_back::<Pair>(x, filters, dy, wants_pictures),
            false => self.both_back::<f32>(x, filters, dy, wants_pictures),
        }
    }

    fn both_back<W: Word>(
        &self,
        x: &[f32],
        filters: &[f32],
        dy: &[f32],
        wants_pictures: bool,
    ) -> (Option<Vec<f32>>, Vec<f32>) {
        let dx = wants_pictures.then(|| self.sweep::<W>(Way::Back, dy, filters));
        (dx, self.filters_back::<W>(x, dy))
    }

    /// What one way makes of `x`.
    fn sweep<W: Word>(&self, way: Way, x: &[f32], filters: &[f32]) -> Vec<f32> {
        let picture = [self.height, self.width];
        let (source, made, factors, columns) = match way {
            Way::Forward => (picture, self.result(), self.input, self.output),
            Way::Back => (self.result(), picture, self.output, self.input),
        };
        let classes = self.classes::<W>(way, filters);
        let count = if way == Way::Back { self.stride } else { 1 };
        let rounded = words_along::<W>(x, factors);
        let words = rounded.as_deref().or_else(|| W::same(x)).unwrap_or_default();
        let length = factors.div_ceil(W::FACTORS);
        let zeros = vec![W::default(); length];
        let area = made[0] * made[1];
        let mut y = fresh(self.batch * area * columns);
        y.par_chunks_mut(SWEPT * columns).enumerate().for_each(|(n, y)| {
            let positions = n * SWEPT..n * SWEPT + y.len() / columns;
            for class in &classes {
                let (taps, mut targets) = (class.taps.len(), Vec::with_capacity(SWEPT));
                let mut rows: Vec<[*const W; BLOCK]> = Vec::new();
                for position in positions.clone() {
                    let (sample, at) = (position / area, position % area);
                    let at = [at / made[1], at % made[1]];
                    if at.map(|x| x % count) != class.at {
                        continue;
                    }
                    let (block, row) = (targets.len() / BLOCK * taps, targets.len() % BLOCK);
                    targets.push((position - positions.start) * columns);
                    if row == 0 {
                        rows.resize(block + taps, [zeros.as_ptr(); BLOCK]);
                    }
                    for (tap, rows) in class.taps.iter().zip(&mut rows[block..]) {
                        let [from, to] =
                            [0, 1].map(|axis| self.reads(way, at[axis], tap[axis], source[axis]));
                        if let (Some(i), Some(j)) = (from, to) {
                            let at = (sample * source[0] + i) * source[1] + j;
                            rows[row] = words[at * length..][..length].as_ptr();
                        }
                    }
                }
                if taps == 0 {
                    targets.iter().for_each(|at| y[*at..][..columns].fill(0.0));
                    continue;
                }
                let (rows, targets, right) = (rows.as_slice(), &*targets, &class.right);
                W::run(Sweep { rows, taps, targets, right, add: false, into: y });
            }
        });
        y
    }

    /// The gradient of the filters. Samples are joined, as many as a word has factors: whatever the
    /// tap, they are read at the same position.
    fn filters_back<W: Word>(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let [rows, columns] = self.result();
        let (area, input, output) = (self.kernel * self.kernel, self.input, self.output);
        let (positions, width) = (rows * columns, width::<W>());
        let samples = self.batch.div_ceil(W::FACTORS);
        let joined = self.joined::<W>(x);
        let words = joined.as_deref().or_else(|| W::same(x)).unwrap_or_default();
        let zeros = vec![W::default(); input];
        let (panels, size) = (output.div_ceil(width), area * input * width);
        let groups = APART.div_ceil(panels).min(samples * positions).max(1);
        let per_group = (samples * positions).div_ceil(groups);
        let mut sums = Buffer::take(groups * panels * size);
        sums.slice().par_chunks_exact_mut(size).enumerate().for_each(|(n, sums)| {
            let (group, first) = (n / panels, n % panels * width);
            let some = width.min(output - first);
            sums.fill(0.0);
            let end = ((group + 1) * per_group).min(samples * positions);
            let mut right = vec![W::default(); SUMMED * width];
            let mut left: Vec<*const W> = Vec::new();
            let mut pairs = Vec::with_capacity(SUMMED);
            for start in (group * per_group..end).step_by(SUMMED) {
                let count = SUMMED.min(end - start);
                pairs.clear();
                left.clear();
                left.resize(area * count, zeros.as_ptr());
                for row in 0..count {
                    let (sample, at) = ((start + row) / positions, (start + row) % positions);
                    let of = |sample: usize| match sample < self.batch {
                        true => (sample * positions + at) * output + first,
                        false => NONE,
                    };
                    pairs.push([of(sample * W::FACTORS), of(sample * W::FACTORS + 1)]);
                    let at = [at / columns, at % columns];
                    for tap in 0..area {
                        let i = self.reads(Way::Forward, at[0], tap / self.kernel, self.height);
                        let j = self.reads(Way::Forward, at[1], tap % self.kernel, self.width);
                        if let (Some(i), Some(j)) = (i, j) {
                            let at = (sample * self.height + i) * self.width + j;
                            left[tap * count + row] = words[at * input..][..input].as_ptr();
                        }
                    }
                }
                let right = &mut right[..count * width];
                W::run(Across {
                    numbers: dy,
                    rows: &pairs,
                    columns: some,
                    stride: width,
                    words: right,
                });
                W::run(Outer {
                    rows: &left,
                    length: input,
                    right,
                    columns: width,
                    stride: width,
                    into: sums,
                });
            }
        });
        let (first, others) = sums.slice().split_at_mut(panels * size);
        first.par_chunks_mut(PART).enumerate().for_each(|(i, part)| {
            for other in others.chunks_exact(panels * size) {
                lanes::add(&other[i * PART..][..part.len()], part);
            }
        });
        let first = &*first;
        let mut filters = vec![0.0; output * input * area];
        filters.par_chunks_exact_mut(input * area).enumerate().for_each(|(o, filter)| {
            let panel = &first[o / width * size..][..size];
            for (c, filter) in filter.chunks_exact_mut(area).enumerate() {
                for (tap, value) in filter.iter_mut().enumerate() {
                    *value = panel[(tap * input + c) * width + o % width];
                }
            }
        });
        filters
    }

    /// Pictures as words across samples; `None` where numbers are words.
    fn joined<W: Word>(&self, x: &[f32]) -> Option<Vec<W>> {
        if W::same(x).is_some() {
            return None;
        }
        let size = self.height * self.width * self.input;
        let mut words = vec![W::default(); self.batch.div_ceil(W::FACTORS) * size];
        words.par_chunks_exact_mut(size).enumerate().for_each(|(n, words)| {
            let sample = n * W::FACTORS;
            let second = if sample + 1 < self.batch { (sample + 1) * size } else { NONE };
            let rows = &[[sample * size, second]];
            W::run(Across { numbers: x, rows, columns: size, stride: size, words });
        });
        Some(words)
    }
}
