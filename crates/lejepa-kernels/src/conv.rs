//! Convolution of pictures whose channels lie side by side (`[batch, height, width, channels]`).
//!
//! Nothing is gathered but pointers: see [`rows`](crate::rows). The way back to the pictures is such
//! a sweep too, over the gradient of the result. With a stride, each of the pictures' positions meets
//! only some of the taps; positions that meet the same are a class of their own.

use rayon::prelude::*;

use crate::batch::{self, Moments};
use crate::groups::add_up;
use crate::halves::Numbers;
use crate::joins::{Across, NONE, words_along};
use crate::memory::fresh;
use crate::rows::{BLOCK, Outer, Panels, Sweep, width};
use crate::unit::{Pair, Word};
use crate::winograd::{Nines, Tiled};
use crate::{Buffer, Precision};

/// Positions that a thread makes at a time.
const SWEPT: usize = 256;
/// Positions whose gradients of the filters are summed at a time: they should stay in the cache.
const SUMMED: usize = 128;
/// Sums of the filters' gradients that are made apart: at least as many as threads that should work.
const APART: usize = 32;
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

/// Where the taps of each position along both axes read, or [`NONE`]: worked out once.
struct Reads {
    kernel: usize,
    /// From one row of the source to the next.
    width: usize,
    rows: Vec<usize>,
    columns: Vec<usize>,
}

impl Reads {
    fn new(shape: &ConvShape, way: Way, made: [usize; 2], source: [usize; 2]) -> Self {
        let kernel = shape.kernel;
        let [rows, columns] = [0, 1].map(|axis| {
            let all = (0..made[axis] * kernel).map(|n| (n / kernel, n % kernel));
            all.map(|(at, tap)| shape.reads(way, at, tap, source[axis]).unwrap_or(NONE)).collect()
        });
        Self { kernel, width: source[1], rows, columns }
    }

    /// The position in the source that a tap of position `at` reads.
    #[inline(always)]
    fn at(&self, at: [usize; 2], tap: [usize; 2]) -> Option<usize> {
        let row = self.rows[at[0] * self.kernel + tap[0]];
        let column = self.columns[at[1] * self.kernel + tap[1]];
        (row != NONE && column != NONE).then(|| row * self.width + column)
    }
}

/// Positions from `first` on: sample, row and column.
struct Positions {
    size: [usize; 2],
    next: (usize, [usize; 2]),
}

impl Positions {
    fn from(first: usize, size: [usize; 2]) -> Self {
        let (area, at) = (size[0] * size[1], first % (size[0] * size[1]));
        Self { size, next: (first / area, [at / size[1], at % size[1]]) }
    }
}

impl Iterator for Positions {
    type Item = (usize, [usize; 2]);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let now = self.next;
        let (sample, [row, column]) = &mut self.next;
        *column += 1;
        if *column == self.size[1] {
            (*row, *column) = (*row + 1, 0);
        }
        if *row == self.size[0] {
            (*sample, *row) = (*sample + 1, 0);
        }
        Some(now)
    }
}

impl ConvShape {
    /// Height and width of the result.
    pub(crate) fn result(&self) -> [usize; 2] {
        [self.height, self.width].map(|n| (n + 2 * self.pad - self.kernel) / self.stride + 1)
    }

    /// Where, along one axis of length `size`, a tap of what is made at `at` reads.
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

    /// The result, with the mean and the variance of each of its channels where they are wanted.
    pub(crate) fn forward(
        &self,
        x: &[f32],
        filters: &[f32],
        precision: Precision,
        statistics: bool,
    ) -> (Vec<f32>, Vec<f32>) {
        // Taken of each chunk while it is in the cache.
        let (y, parts) = match self.tiled(Way::Forward) {
            Some(tiled) => {
                let filters = Nines { values: filters, turned: false };
                tiled.correlate(x, filters, precision, statistics)
            }
            None if precision.is_narrow() => {
                self.sweep::<Pair>(Way::Forward, x, filters, statistics)
            }
            None => self.sweep::<f32>(Way::Forward, x, filters, statistics),
        };
        (y, if statistics { batch::joined(&parts, self.output) } else { Vec::new() })
    }

    /// The way in tiles, where it pays.
    fn tiled(&self, way: Way) -> Option<Tiled> {
        let (picture, result) = ([self.height, self.width], self.result());
        let Self { batch, input, output, .. } = *self;
        let tiled = match way {
            Way::Forward => {
                Tiled { batch, source: picture, made: result, pad: self.pad, input, output }
            }
            Way::Back => {
                let pad = 2usize.checked_sub(self.pad)?;
                Tiled { batch, source: result, made: picture, pad, input: output, output: input }
            }
        };
        (self.kernel == 3 && self.stride == 1 && tiled.pays()).then_some(tiled)
    }

    /// Gradients of the pictures, where wanted, and of the filters.
    pub(crate) fn backward(
        &self,
        x: Numbers<'_>,
        filters: &[f32],
        dy: &[f32],
        wants_pictures: bool,
        precision: Precision,
    ) -> (Option<Vec<f32>>, Vec<f32>) {
        let narrow = precision.is_narrow();
        let dx = wants_pictures.then(|| match self.tiled(Way::Back) {
            // Inputs and outputs change places, and kernels are turned by half a turn.
            Some(tiled) => {
                let turned = Nines { values: filters, turned: true };
                tiled.correlate(dy, turned, precision, false).0
            }
            None if narrow => self.sweep::<Pair>(Way::Back, dy, filters, false).0,
            None => self.sweep::<f32>(Way::Back, dy, filters, false).0,
        });
        let dfilters = match self.tiled(Way::Forward) {
            Some(tiled) => tiled.filters_back(x, dy, precision),
            None if narrow => self.filters_back::<Pair>(x, dy),
            None => self.filters_back::<f32>(x, dy),
        };
        (dx, dfilters)
    }

    /// What one way makes of `x`, and the moments of its chunks where they are wanted.
    fn sweep<W: Word>(
        &self,
        way: Way,
        x: &[f32],
        filters: &[f32],
        moments: bool,
    ) -> (Vec<f32>, Vec<Moments>) {
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
        let reads = Reads::new(self, way, made, source);
        let mut y = fresh(self.batch * made[0] * made[1] * columns);
        let chunks = y.par_chunks_mut(SWEPT * columns).enumerate();
        let moments = chunks.map(|(n, y)| {
            for class in &classes {
                let (taps, mut targets) = (class.taps.len(), Vec::with_capacity(SWEPT));
                let mut rows: Vec<[*const W; BLOCK]> = Vec::with_capacity(SWEPT / BLOCK * taps);
                let positions = Positions::from(n * SWEPT, made).take(y.len() / columns);
                for (target, (sample, at)) in positions.enumerate() {
                    if count > 1 && at.map(|x| x % count) != class.at {
                        continue;
                    }
                    let (block, row) = (targets.len() / BLOCK * taps, targets.len() % BLOCK);
                    targets.push(target * columns);
                    if row == 0 {
                        rows.resize(block + taps, [zeros.as_ptr(); BLOCK]);
                    }
                    let picture = &words[sample * source[0] * source[1] * length..];
                    for (tap, rows) in class.taps.iter().zip(&mut rows[block..]) {
                        if let Some(from) = reads.at(at, *tap) {
                            rows[row] = picture[from * length..][..length].as_ptr();
                        }
                    }
                }
                if taps == 0 {
                    targets.iter().for_each(|at| y[*at..][..columns].fill(0.0));
                    continue;
                }
                let (rows, targets, right) = (rows.as_slice(), &*targets, &class.right);
                W::run(Sweep { rows, taps, first_tap: 0, targets, right, add: false, into: y });
            }
            moments.then(|| batch::moments(y, columns))
        });
        let moments = moments.collect::<Vec<_>>().into_iter().flatten().collect();
        (y, moments)
    }

    /// The gradient of the filters. Samples are joined, as many as a word has factors: whatever the
    /// tap, they are read at the same position.
    fn filters_back<W: Word>(&self, x: Numbers<'_>, dy: &[f32]) -> Vec<f32> {
        let [rows, columns] = self.result();
        let (area, input, output) = (self.kernel * self.kernel, self.input, self.output);
        let (positions, width) = (rows * columns, width::<W>());
        let samples = self.batch.div_ceil(W::FACTORS);
        let joined = self.joined::<W>(x);
        let same = if let Numbers::Full(x) = x { W::same(x) } else { None };
        let words = joined.as_deref().or(same).unwrap_or_default();
        let zeros = vec![W::default(); input];
        let reads = Reads::new(self, Way::Forward, [rows, columns], [self.height, self.width]);
        let taps: Vec<[usize; 2]> = (0..area).map(|t| [t / self.kernel, t % self.kernel]).collect();
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
                let at_rows = Positions::from(start, [rows, columns]).take(count);
                for (row, (sample, at)) in at_rows.enumerate() {
                    let of = |sample: usize| match sample < self.batch {
                        true => ((sample * rows + at[0]) * columns + at[1]) * output + first,
                        false => NONE,
                    };
                    pairs.push([of(sample * W::FACTORS), of(sample * W::FACTORS + 1)]);
                    let picture = &words[sample * self.height * self.width * input..];
                    for (tap, left) in taps.iter().zip(left.chunks_exact_mut(count)) {
                        if let Some(from) = reads.at(at, *tap) {
                            left[row] = picture[from * input..][..input].as_ptr();
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
        add_up(&mut sums, panels * size);
        let first = sums.values();
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
    fn joined<W: Word>(&self, x: Numbers<'_>) -> Option<Vec<W>> {
        if matches!(x, Numbers::Full(x) if W::same(x).is_some()) {
            return None;
        }
        let size = self.height * self.width * self.input;
        let mut words = vec![W::default(); self.batch.div_ceil(W::FACTORS) * size];
        words.par_chunks_exact_mut(size).enumerate().for_each(|(n, words)| {
            let sample = n * W::FACTORS;
            let second = if sample + 1 < self.batch { (sample + 1) * size } else { NONE };
            match x {
                Numbers::Full(numbers) => {
                    let rows = &[[sample * size, second]];
                    W::run(Across { numbers, rows, columns: size, stride: size, words });
                }
                Numbers::Half(halves) => {
                    let first = &halves[sample * size..][..size];
                    let second = if second == NONE { &[] } else { &halves[second..][..size] };
                    for (i, word) in words.iter_mut().enumerate() {
                        let second = second.get(i).copied().unwrap_or_default();
                        *word = W::of_halves([first[i], second]);
                    }
                }
            }
        });
        Some(words)
    }
}
