//! 3 × 3 convolution with stride 1 by Winograd's F(2×2, 3×3): 16 multiplications for 2 × 2 outputs instead of
//! 36 (Lavin and Gray, arXiv 1509.09308).
//!
//! Y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A for each 4 × 4 tile d of the input; over channels, each of the 16 products is
//! a matrix product over tiles. The gradient of the filters is the transpose, Gᵀ[Σ (Bᵀ·d·B) ⊙ (A·dY·Aᵀ)]G. The
//! transforms are in f32. For each axis, they make one value of variance 2 from two of variance 1, a filter of
//! variance 3/4, and an output from three products; rounding of the operands to bf16 therefore costs √(5/3) for
//! each axis, 1.7 times the error of the direct sum.

use std::ops::Range;

use rayon::prelude::*;

use super::batch_norm::{self, Moments};
use crate::activations::Activations;
use crate::buffer::Buffer;
use crate::gemm::indirect::{IndirectGemm, RowTable};
use crate::gemm::isa::{Bf16Pair, Packed};
use crate::gemm::matrix::Matrix;
use crate::gemm::pairs::{InterleaveRows, NONE, PackRows};
use crate::gemm::panels::{Panels, nr};
use crate::gemm::product;
use crate::gemm::weight::{add_gradient, uses_amx};
use crate::output::{OutputPart, OutputVec};
use crate::precision::Precision;
use crate::reduce::sum_over;
use crate::simd::arch;

mod transforms;

use transforms::{
    FilterGradientTransform, FilterTransform, InputTransform, OutputGradientTransform,
    OutputTransform,
};

/// Products of a tile.
const PRODUCTS: usize = 16;
/// Values of each product that are transformed before they are packed in bf16; those of all products should
/// stay in the first-level cache.
const PACKED_VALUES: usize = 512;
/// Output channels in a task that transposes the gradient of the filters.
const TRANSPOSED_CHANNELS: usize = 16;
/// Tiles over which the gradient of the filters is summed at a time.
const KC: usize = 128;

/// Sizes of a convolution of `[batch, input_size, input]` to `[batch, output_size, output]`.
#[derive(Clone, Copy)]
pub(crate) struct Winograd {
    pub(crate) batch: usize,
    pub(crate) input_size: [usize; 2],
    pub(crate) output_size: [usize; 2],
    pub(crate) pad: usize,
    pub(crate) input: usize,
    pub(crate) output: usize,
}

/// Transformed filters, packed.
enum TransformedFilters {
    F32(Panels<f32>),
    Bf16(Panels<Bf16Pair>),
    /// `[input, 16, output]`: AMX packs both operands for every product.
    Amx(Vec<f32>),
}

/// 3 × 3 filters.
#[derive(Clone, Copy)]
pub(crate) struct Filters3x3<'a> {
    /// `[output, input, 9]`, or `[input, output, 9]` if flipped.
    pub(crate) values: &'a [f32],
    /// Whether kernels are rotated by half a turn.
    pub(crate) flipped: bool,
}

/// All 16 products: `m` `[16, rows, output]` = `v` `[16, rows, k]` times the filters.
fn batched_gemm<P: Packed>(filters: &Panels<P>, v: &[P], k: usize, m: &mut [f32], rows: usize) {
    let offsets: Vec<usize> = (0..rows).map(|r| r * filters.n).collect();
    for (first_tap, c) in m.chunks_exact_mut(rows * filters.n).enumerate() {
        let a = &RowTable::strided(&v[first_tap * rows * k..], k, k, rows);
        let (b, offsets) = (filters, &*offsets);
        P::dispatch(IndirectGemm { a, first_tap, b, offsets, accumulate: false, c });
    }
}

/// A row of tiles: image, row of tiles within it, and its output.
type TileRow<T> = (usize, usize, T);

impl Winograd {
    /// Whether this takes fewer multiplications than the direct sum, by enough to pay for the transforms.
    pub(crate) fn is_profitable(&self) -> bool {
        let tiles: usize = self.tiles().iter().product();
        self.input.min(self.output) >= 16
            && 9 * self.output_size[0] * self.output_size[1] > 3 * PRODUCTS * tiles / 2
    }

    /// Tiles of an image along both axes.
    fn tiles(&self) -> [usize; 2] {
        self.output_size.map(|n| n.div_ceil(2))
    }

    /// The convolution, and the moments of chunks of its output if `moments` is true; see
    /// [`batch_norm::moments`].
    pub(crate) fn correlate(
        &self,
        x: &[f32],
        filters: Filters3x3<'_>,
        precision: Precision,
        moments: bool,
    ) -> (Vec<f32>, Vec<Moments>) {
        self.correlate_transformed(x, &self.transform_filters(filters, precision), moments)
    }

    fn correlate_transformed(
        &self,
        x: &[f32],
        filters: &TransformedFilters,
        moments: bool,
    ) -> (Vec<f32>, Vec<Moments>) {
        let [_, columns] = self.tiles();
        let row = self.output_size[1] * self.output;
        let mut y = OutputVec::new(self.batch * self.output_size[0] * row);
        let mut rows: Vec<TileRow<OutputPart<'_, f32>>> = Vec::new();
        for (n, y) in y.part().chunks(self.output_size[0] * row).into_iter().enumerate() {
            rows.extend(y.chunks(2 * row).into_iter().enumerate().map(|(i, two)| (n, i, two)));
        }
        // As many tiles as stay in the cache with their products. AMX repacks the filters for every product,
        // so it takes more.
        let tiles = match filters {
            TransformedFilters::Amx(_) => 512,
            _ => ((1 << 14) / (self.input + self.output)).clamp(32, 128),
        };
        let found = rows
            .par_chunks_mut(tiles.div_ceil(columns))
            .map(|rows| {
                let mut rows: Vec<TileRow<&mut [f32]>> =
                    rows.iter_mut().map(|(n, i, y)| (*n, *i, y.cut(y.len()).zeroed())).collect();
                self.correlate_rows(x, filters, &mut rows);
                let rows = rows.iter().filter(|_| moments);
                rows.map(|(_, _, y)| batch_norm::moments(y, self.output)).collect::<Vec<_>>()
            })
            .collect::<Vec<_>>();
        drop(rows);
        (y.finish(), found.into_iter().flatten().collect())
    }

    /// G·g·Gᵀ of all filters, packed.
    fn transform_filters(
        &self,
        filters: Filters3x3<'_>,
        precision: Precision,
    ) -> TransformedFilters {
        if uses_amx(precision) {
            return TransformedFilters::Amx(self.transform_filters_unpacked(filters));
        }
        match precision.is_narrow() {
            true => TransformedFilters::Bf16(self.transform_filters_packed(filters)),
            false => TransformedFilters::F32(self.transform_filters_packed(filters)),
        }
    }

    /// A tap for each of the products.
    fn transform_filters_packed<P: Packed>(&self, filters: Filters3x3<'_>) -> Panels<P> {
        let (nr, length) = (nr::<P>(), self.input.div_ceil(P::K));
        Panels::new(self.output, PRODUCTS, self.input, |panel, elements| {
            let outputs = panel * nr..self.output.min((panel + 1) * nr);
            let columns = outputs.len();
            let size = PRODUCTS * columns;
            let (mut values, mut scratch) = (vec![0.0; P::K * size], vec![0.0; 9 * columns]);
            for i in 0..length {
                let inputs = i * P::K..self.input.min((i + 1) * P::K);
                let second = if inputs.len() == 2 { size } else { NONE };
                for (input, values) in inputs.zip(values.chunks_exact_mut(size)) {
                    self.transform_filters_of(
                        filters,
                        input,
                        outputs.clone(),
                        &mut scratch,
                        values,
                    );
                }
                let rows: [[usize; 2]; PRODUCTS] = std::array::from_fn(|k| {
                    [k * columns, if second == NONE { NONE } else { k * columns + second }]
                });
                let (rows, values, packed) = (&rows[..], &*values, &mut elements[i * nr..]);
                P::dispatch(InterleaveRows { values, rows, columns, stride: length * nr, packed });
            }
        })
    }

    /// `[input, 16, output]`
    fn transform_filters_unpacked(&self, filters: Filters3x3<'_>) -> Vec<f32> {
        let mut all = OutputVec::new(self.input * PRODUCTS * self.output);
        let inputs = all.part().chunks(PRODUCTS * self.output).into_par_iter().enumerate();
        inputs.for_each(|(input, out)| {
            let mut scratch = vec![0.0; 9 * self.output];
            let outputs = 0..self.output;
            self.transform_filters_of(filters, input, outputs, &mut scratch, out.zeroed());
        });
        all.finish()
    }

    /// The filters of one input channel, `[16, outputs]`; `scratch` holds 9 values for each output.
    fn transform_filters_of(
        &self,
        filters: Filters3x3<'_>,
        input: usize,
        outputs: Range<usize>,
        scratch: &mut [f32],
        out: &mut [f32],
    ) {
        let channels = outputs.len();
        for (j, output) in outputs.enumerate() {
            let at = match filters.flipped {
                false => output * self.input + input,
                true => input * self.output + output,
            };
            for (k, value) in filters.values[9 * at..][..9].iter().enumerate() {
                scratch[if filters.flipped { 8 - k } else { k } * channels + j] = *value;
            }
        }
        arch().dispatch(FilterTransform { filters: scratch, channels, out });
    }

    /// Where the 16 positions of a tile start in the input, or [`NONE`].
    fn input_offsets(&self, image: usize, tile: [usize; 2]) -> [usize; 16] {
        std::array::from_fn(|n| {
            let at = [n / 4, n % 4];
            let [i, j] = [0, 1].map(|axis| {
                let coordinate = (2 * tile[axis] + at[axis]).checked_sub(self.pad);
                coordinate.filter(|i| *i < self.input_size[axis])
            });
            match (i, j) {
                (Some(i), Some(j)) => {
                    ((image * self.input_size[0] + i) * self.input_size[1] + j) * self.input
                }
                _ => NONE,
            }
        })
    }

    /// Where the 4 positions of a tile start in the output, or [`NONE`].
    fn output_offsets(&self, image: usize, tile: [usize; 2]) -> [usize; 4] {
        std::array::from_fn(|n| {
            let [i, j] = [2 * tile[0] + n / 2, 2 * tile[1] + n % 2];
            let at = ((image * self.output_size[0] + i) * self.output_size[1] + j) * self.output;
            if i < self.output_size[0] && j < self.output_size[1] { at } else { NONE }
        })
    }

    /// Some rows of tiles, on the calling thread.
    fn correlate_rows(
        &self,
        x: &[f32],
        filters: &TransformedFilters,
        rows: &mut [TileRow<&mut [f32]>],
    ) {
        let [_, columns] = self.tiles();
        let (input, output, count) = (self.input, self.output, rows.len() * columns);
        let block = match filters {
            TransformedFilters::Bf16(_) => (PACKED_VALUES / input).clamp(1, count),
            _ => count,
        };
        let mut scratch = Buffer::take(PRODUCTS * (block * input + count * output));
        let (v, m) = scratch.slice().split_at_mut(PRODUCTS * block * input);
        let tiles: Vec<[usize; 16]> = rows
            .iter()
            .flat_map(|(image, i, _)| (0..columns).map(|j| self.input_offsets(*image, [*i, j])))
            .collect();
        let transform = |tiles: &[_], v: &mut [f32]| {
            arch().dispatch(InputTransform { x, tiles, channels: input, v });
        };
        match filters {
            TransformedFilters::F32(filters) => {
                transform(&tiles, v);
                batched_gemm(filters, v, input, m, count);
            }
            TransformedFilters::Bf16(filters) => {
                let k = filters.k;
                let mut packed = Buffer::take(PRODUCTS * count * k);
                let packed = packed.packed::<Bf16Pair>();
                for (n, tiles) in tiles.chunks(block).enumerate() {
                    let v = &mut v[..PRODUCTS * tiles.len() * input];
                    transform(tiles, v);
                    for (p, values) in v.chunks_exact(tiles.len() * input).enumerate() {
                        let packed = &mut packed[(p * count + n * block) * k..];
                        let packed = &mut packed[..tiles.len() * k];
                        Bf16Pair::dispatch(PackRows { values, k: input, packed });
                    }
                }
                batched_gemm(filters, packed, k, m, count);
            }
            TransformedFilters::Amx(filters) => {
                transform(&tiles, v);
                for (k, c) in m.chunks_exact_mut(count * output).enumerate() {
                    let a = Matrix::rows(&v[k * count * input..], input);
                    let b = Matrix::rows(&filters[k * output..], PRODUCTS * output);
                    product(c, output, false, a, b, [count, output, input], Precision::Bf16);
                }
            }
        }
        for (r, (_, _, y)) in rows.iter_mut().enumerate() {
            let (m, channels) = (&*m, output);
            let (first, width) = (r * columns, self.output_size[1]);
            arch().dispatch(OutputTransform { m, first, count, width, channels, y });
        }
    }

    /// The gradient of the filters, `[output, input, 9]`.
    pub(crate) fn filter_gradient(
        &self,
        x: Activations<'_>,
        dy: &[f32],
        precision: Precision,
    ) -> Vec<f32> {
        let (input, output, [rows, columns]) = (self.input, self.output, self.tiles());
        let (total, size) = (self.batch * rows * columns, input * output);
        let chunks = (0..total).step_by(KC).map(|s| s..total.min(s + KC)).collect();
        let [sums] = sum_over(chunks, [PRODUCTS * size], |tiles: Range<usize>, [sums]| {
            let count = tiles.len();
            let mut scratch = Buffer::take(PRODUCTS * count * (input + output));
            let (v, q) = scratch.slice().split_at_mut(PRODUCTS * count * input);
            let (mut inputs, mut outputs) = (Vec::with_capacity(count), Vec::with_capacity(count));
            for n in tiles {
                let (image, tile) = (n / (rows * columns), n % (rows * columns));
                let tile = [tile / columns, tile % columns];
                inputs.push(self.input_offsets(image, tile));
                outputs.push(self.output_offsets(image, tile));
            }
            // The range of the input that these tiles cover.
            let valid = || inputs.as_flattened().iter().copied().filter(|at| *at != NONE);
            let start = valid().min().unwrap_or(0);
            let end = valid().max().map_or(start, |last| last + input);
            let valid = inputs.as_flattened_mut().iter_mut().filter(|at| **at != NONE);
            valid.for_each(|at| *at -= start);
            let mut wide = x.scratch(end - start);
            let x = x.widened(start..end, &mut wide);
            arch().dispatch(InputTransform { x, tiles: &inputs, channels: input, v });
            let tiles = &outputs[..];
            arch().dispatch(OutputGradientTransform { dy, tiles, channels: output, q });
            for (p, sums) in sums.chunks_exact_mut(size).enumerate() {
                let v = &v[p * count * input..][..count * input];
                let q = &q[p * count * output..][..count * output];
                add_gradient(sums, v, q, input, output, precision);
            }
        });
        // [input, 9, output], then its transpose.
        let mut filters = OutputVec::new(9 * size);
        filters.part().chunks(9 * output).into_par_iter().enumerate().for_each(|(c, out)| {
            let (sums, out) = (&sums[c * output..], out.zeroed());
            let transform = FilterGradientTransform { sums, stride: size, channels: output, out };
            arch().dispatch(transform);
        });
        let (filters, mut transposed) = (filters.finish(), OutputVec::new(9 * size));
        let outputs = transposed.part().chunks(TRANSPOSED_CHANNELS * 9 * input);
        outputs.into_par_iter().enumerate().for_each(|(n, out)| {
            let out = out.zeroed();
            let first = n * TRANSPOSED_CHANNELS;
            let filters = Matrix::rows(&filters, output).transposed().at(first, 0);
            filters.copy_to(out.len() / (9 * input), 9 * input, out);
        });
        transposed.finish()
    }
}

#[cfg(test)]
mod tests;
