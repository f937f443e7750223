//! Convolution of NHWC images with a square kernel.
//!
//! Images are not unfolded: only pointers are gathered (see [`indirect`](crate::gemm::indirect)). The gradient
//! of the input is such a product too, with the gradient of the output. With a stride, each position of the
//! input meets only some taps; positions that meet the same taps form a class with its own filters.
//!
//! 3 × 3 kernels with stride 1 take Winograd's algorithm where that is faster.

use rayon::prelude::*;

use super::batch_norm::{self, Moments};
use super::winograd::{Filters3x3, Winograd};
use crate::activations::Activations;
use crate::buffer::Buffer;
use crate::gemm::at_b::{AtB, TapRows};
use crate::gemm::indirect::{IndirectGemm, RowTable};
use crate::gemm::isa::{Bf16Pair, Packed};
use crate::gemm::pairs::{InterleaveRows, NONE, pack_rows};
use crate::gemm::panels::{Panels, nr};
use crate::output::OutputVec;
use crate::precision::Precision;
use crate::profile::Pass;
use crate::reduce::add_partials;

/// Output positions in a task.
const POSITIONS: usize = 256;
/// Positions over which the gradient of the filters is summed at a time; they should stay in the cache.
const KC: usize = 128;
/// Partial sums of the gradient of the filters; at least as many as threads should work on it.
const PARTIALS: usize = 32;

/// Sizes of a convolution with a square kernel and zero padding.
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

/// Positions that meet the same taps.
struct Class<P> {
    /// Row and column modulo the stride of the pass.
    residue: [usize; 2],
    taps: Vec<[usize; 2]>,
    filters: Panels<P>,
}

/// The coordinates that each tap of each target position reads along both axes, or [`NONE`].
struct SourceCoordinates {
    kernel: usize,
    /// Width of the source.
    width: usize,
    rows: Vec<usize>,
    columns: Vec<usize>,
}

impl SourceCoordinates {
    fn new(shape: &ConvShape, pass: Pass, target: [usize; 2], source: [usize; 2]) -> Self {
        let kernel = shape.kernel;
        let [rows, columns] = [0, 1].map(|axis| {
            let all = (0..target[axis] * kernel).map(|n| (n / kernel, n % kernel));
            let read = |(at, tap)| shape.source(pass, at, tap, source[axis]).unwrap_or(NONE);
            all.map(read).collect()
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

/// Iterates over positions: sample, row and column.
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
        let current = self.next;
        let (sample, [row, column]) = &mut self.next;
        *column += 1;
        if *column == self.size[1] {
            (*row, *column) = (*row + 1, 0);
        }
        if *row == self.size[0] {
            (*sample, *row) = (*sample + 1, 0);
        }
        Some(current)
    }
}

impl ConvShape {
    /// Height and width of the output.
    pub(crate) fn output_size(&self) -> [usize; 2] {
        [self.height, self.width].map(|n| (n + 2 * self.pad - self.kernel) / self.stride + 1)
    }

    /// The coordinate, along an axis of length `size`, that a tap of target coordinate `at` reads.
    fn source(&self, pass: Pass, at: usize, tap: usize, size: usize) -> Option<usize> {
        let from = match pass {
            Pass::Forward => (at * self.stride + tap).checked_sub(self.pad)?,
            Pass::Backward => {
                let from = (at + self.pad).checked_sub(tap)?;
                from.is_multiple_of(self.stride).then_some(from / self.stride)?
            }
        };
        (from < size).then_some(from)
    }

    /// The classes of target positions, with the `[output, input, kernel, kernel]` filters that each meets.
    fn classes<P: Packed>(&self, pass: Pass, filters: &[f32]) -> Vec<Class<P>> {
        let (kernel, input) = (self.kernel, self.input);
        let stride = if pass == Pass::Backward { self.stride } else { 1 };
        let met = |at: usize| -> Vec<usize> {
            let meets =
                |tap: &usize| (at + self.pad + kernel * stride - tap).is_multiple_of(stride);
            (0..kernel).filter(meets).collect()
        };
        let classes = (0..stride * stride).map(|n| {
            let residue = [n / stride, n % stride];
            let [rows, columns] = residue.map(met);
            let taps: Vec<[usize; 2]> =
                rows.iter().flat_map(|i| columns.iter().map(|j| [*i, *j])).collect();
            let filter = |tap: usize, c: usize, o: usize| {
                let [i, j] = taps[tap];
                filters[((o * input + c) * kernel + i) * kernel + j]
            };
            let filters = match pass {
                Pass::Forward => Panels::pack_taps(self.output, taps.len(), input, filter),
                Pass::Backward => {
                    Panels::pack_taps(input, taps.len(), self.output, |tap, o, c| filter(tap, c, o))
                }
            };
            Class { residue, taps, filters }
        });
        classes.collect()
    }

    /// The output, and mean and variance of each of its channels if `statistics` is true.
    pub(crate) fn forward(
        &self,
        x: &[f32],
        filters: &[f32],
        precision: Precision,
        statistics: bool,
    ) -> (Vec<f32>, Option<Vec<f32>>) {
        // Moments are taken of each chunk while it is in the cache.
        let (y, moments) = match self.winograd(Pass::Forward) {
            Some(winograd) => {
                let filters = Filters3x3 { values: filters, flipped: false };
                winograd.correlate(x, filters, precision, statistics)
            }
            None if precision.is_narrow() => {
                self.direct::<Bf16Pair>(Pass::Forward, x, filters, statistics)
            }
            None => self.direct::<f32>(Pass::Forward, x, filters, statistics),
        };
        (y, statistics.then(|| batch_norm::combine(&moments, self.output)))
    }

    /// Winograd's algorithm for a pass, if it is profitable.
    fn winograd(&self, pass: Pass) -> Option<Winograd> {
        let (image, output_size) = ([self.height, self.width], self.output_size());
        let Self { batch, input, output, .. } = *self;
        let winograd = match pass {
            Pass::Forward => {
                Winograd { batch, input_size: image, output_size, pad: self.pad, input, output }
            }
            Pass::Backward => {
                let pad = 2usize.checked_sub(self.pad)?;
                let (input, output) = (output, input);
                Winograd { batch, input_size: output_size, output_size: image, pad, input, output }
            }
        };
        let applies = self.kernel == 3 && self.stride == 1 && winograd.is_profitable();
        applies.then_some(winograd)
    }

    /// Gradients of x and the filters, as far as they are `wanted`.
    pub(crate) fn backward(
        &self,
        x: Activations<'_>,
        filters: &[f32],
        dy: &[f32],
        wanted: [bool; 2],
        precision: Precision,
    ) -> [Option<Vec<f32>>; 2] {
        let narrow = precision.is_narrow();
        let dx = wanted[0].then(|| match self.winograd(Pass::Backward) {
            // A convolution with input and output channels exchanged and kernels rotated by half a turn.
            Some(winograd) => {
                let flipped = Filters3x3 { values: filters, flipped: true };
                winograd.correlate(dy, flipped, precision, false).0
            }
            None if narrow => self.direct::<Bf16Pair>(Pass::Backward, dy, filters, false).0,
            None => self.direct::<f32>(Pass::Backward, dy, filters, false).0,
        });
        let dfilters = wanted[1].then(|| match self.winograd(Pass::Forward) {
            Some(winograd) => winograd.filter_gradient(x, dy, precision),
            None if narrow => self.filter_gradient::<Bf16Pair>(x, dy),
            None => self.filter_gradient::<f32>(x, dy),
        });
        [dx, dfilters]
    }

    /// The target of a pass, and the moments of its chunks if `moments` is true.
    fn direct<P: Packed>(
        &self,
        pass: Pass,
        x: &[f32],
        filters: &[f32],
        moments: bool,
    ) -> (Vec<f32>, Vec<Moments>) {
        let image = [self.height, self.width];
        let (source, target, k, n) = match pass {
            Pass::Forward => (image, self.output_size(), self.input, self.output),
            Pass::Backward => (self.output_size(), image, self.output, self.input),
        };
        let classes = self.classes::<P>(pass, filters);
        let stride = if pass == Pass::Backward { self.stride } else { 1 };
        let packed = pack_rows::<P>(x, k);
        let packed = packed.as_deref().or_else(|| P::from_f32(x)).unwrap_or_default();
        let length = k.div_ceil(P::K);
        let zeros = vec![P::default(); length];
        let coordinates = SourceCoordinates::new(self, pass, target, source);
        let mut y = OutputVec::new(self.batch * target[0] * target[1] * n);
        let chunks = y.part().chunks(POSITIONS * n).into_par_iter().enumerate();
        let found = chunks.map(|(chunk, y)| {
            let y = y.zeroed();
            // Positions that meet no tap stay 0.
            for class in classes.iter().filter(|class| !class.taps.is_empty()) {
                let mut offsets = Vec::with_capacity(POSITIONS);
                let mut rows = RowTable::new(class.taps.len(), length, POSITIONS);
                let positions = Positions::from(chunk * POSITIONS, target).take(y.len() / n);
                for (i, (sample, at)) in positions.enumerate() {
                    if stride > 1 && at.map(|x| x % stride) != class.residue {
                        continue;
                    }
                    offsets.push(i * n);
                    rows.push(&zeros);
                    let image = &packed[sample * source[0] * source[1] * length..];
                    for (t, tap) in class.taps.iter().enumerate() {
                        if let Some(from) = coordinates.at(at, *tap) {
                            rows.set(t, &image[from * length..][..length]);
                        }
                    }
                }
                P::dispatch(IndirectGemm {
                    a: &rows,
                    first_tap: 0,
                    b: &class.filters,
                    offsets: &offsets,
                    accumulate: false,
                    c: &mut *y,
                });
            }
            moments.then(|| batch_norm::moments(y, n))
        });
        let found = found.collect::<Vec<_>>().into_iter().flatten().collect();
        (y.finish(), found)
    }

    /// The gradient of the filters. Elements of two values hold two samples, which the same tap reads at the
    /// same position.
    fn filter_gradient<P: Packed>(&self, x: Activations<'_>, dy: &[f32]) -> Vec<f32> {
        let [rows, columns] = self.output_size();
        let (area, input, output) = (self.kernel * self.kernel, self.input, self.output);
        let (positions, nr) = (rows * columns, nr::<P>());
        let samples = self.batch.div_ceil(P::K);
        let interleaved = self.interleave_samples::<P>(x);
        let unpacked = if let Activations::F32(x) = x { P::from_f32(x) } else { None };
        let packed = interleaved.as_deref().or(unpacked).unwrap_or_default();
        let zeros = vec![P::default(); input];
        let size = [self.height, self.width];
        let coordinates = SourceCoordinates::new(self, Pass::Forward, [rows, columns], size);
        let taps: Vec<[usize; 2]> = (0..area).map(|t| [t / self.kernel, t % self.kernel]).collect();
        let (panels, panel_size) = (output.div_ceil(nr), area * input * nr);
        let partials = PARTIALS.div_ceil(panels).min(samples * positions).max(1);
        let per_partial = (samples * positions).div_ceil(partials);
        let mut sums = Buffer::take(partials * panels * panel_size);
        sums.slice().par_chunks_exact_mut(panel_size).enumerate().for_each(|(n, sums)| {
            let (partial, first) = (n / panels, n % panels * nr);
            let valid = nr.min(output - first);
            sums.fill(0.0);
            let end = ((partial + 1) * per_partial).min(samples * positions);
            let mut b = vec![P::default(); KC * nr];
            let mut storage = Vec::new();
            let mut pairs = Vec::with_capacity(KC);
            for start in (partial * per_partial..end).step_by(KC) {
                let count = KC.min(end - start);
                pairs.clear();
                let mut a = TapRows::new(storage, area, count, &zeros);
                let row_positions = Positions::from(start, [rows, columns]).take(count);
                for (row, (sample, at)) in row_positions.enumerate() {
                    let of = |sample: usize| match sample < self.batch {
                        true => ((sample * rows + at[0]) * columns + at[1]) * output + first,
                        false => NONE,
                    };
                    pairs.push([of(sample * P::K), of(sample * P::K + 1)]);
                    let image = &packed[sample * self.height * self.width * input..];
                    for (t, tap) in taps.iter().enumerate() {
                        if let Some(from) = coordinates.at(at, *tap) {
                            a.set(t, row, &image[from * input..][..input]);
                        }
                    }
                }
                let b = &mut b[..count * nr];
                P::dispatch(InterleaveRows {
                    values: dy,
                    rows: &pairs,
                    columns: valid,
                    stride: nr,
                    packed: &mut *b,
                });
                P::dispatch(AtB {
                    a: &a,
                    taps: 0..area,
                    m: input,
                    b: &*b,
                    columns: nr,
                    stride: nr,
                    c: &mut *sums,
                });
                storage = a.into_storage();
            }
        });
        add_partials(&mut sums, panels * panel_size);
        let sums = sums.values();
        let mut filters = vec![0.0; output * input * area];
        filters.par_chunks_exact_mut(input * area).enumerate().for_each(|(o, filter)| {
            let panel = &sums[o / nr * panel_size..][..panel_size];
            for (c, filter) in filter.chunks_exact_mut(area).enumerate() {
                for (tap, value) in filter.iter_mut().enumerate() {
                    *value = panel[(tap * input + c) * nr + o % nr];
                }
            }
        });
        filters
    }

    /// Images packed across samples; `None` where f32 are packed elements already.
    fn interleave_samples<P: Packed>(&self, x: Activations<'_>) -> Option<Vec<P>> {
        if matches!(x, Activations::F32(x) if P::from_f32(x).is_some()) {
            return None;
        }
        let size = self.height * self.width * self.input;
        let mut packed = vec![P::default(); self.batch.div_ceil(P::K) * size];
        packed.par_chunks_exact_mut(size).enumerate().for_each(|(n, packed)| {
            let sample = n * P::K;
            let second = if sample + 1 < self.batch { (sample + 1) * size } else { NONE };
            match x {
                Activations::F32(values) => {
                    let rows = &[[sample * size, second]];
                    P::dispatch(InterleaveRows {
                        values,
                        rows,
                        columns: size,
                        stride: size,
                        packed,
                    });
                }
                Activations::Bf16(values) => {
                    let first = &values[sample * size..][..size];
                    let second = if second == NONE { &[] } else { &values[second..][..size] };
                    for (i, element) in packed.iter_mut().enumerate() {
                        let second = second.get(i).copied().unwrap_or_default();
                        *element = P::pack_bf16([first[i], second]);
                    }
                }
            }
        });
        Some(packed)
    }
}
