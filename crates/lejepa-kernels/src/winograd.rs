//! 3 × 3 convolution with stride 1 in 16 multiplications for each 2 × 2 results, instead of 36
//! (Winograd's minimal filtering F(2×2, 3×3); Lavin and Gray, arXiv 1509.09308).
//!
//! Y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A for each 4 × 4 tile d of a picture; over channels, each of the 16 products
//! is a matrix product over tiles. The gradient of the filters is the transpose of this:
//! Gᵀ[Σ (Bᵀ·d·B) ⊙ (A·dY·Aᵀ)]G. The transforms, in 32 bits, add and halve: for each axis, two numbers of
//! unit variance become one of 2, three filters one of 3/4, and three products one result, which in all
//! raises the error of rounded factors by √(5/3) an axis, 1.7 times that of the direct sum.

// Loops are counted, so that they are unrolled and what they index stays in registers.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use rayon::prelude::*;

use crate::batch::{self, Moments};
use crate::groups::summed;
use crate::halves::Numbers;
use crate::joins::{Across, Along, NONE};
use crate::lanes::arch;
use crate::memory::fresh;
use crate::rows::{Panels, Sweep, following, width};
use crate::unit::{Pair, Word};
use crate::weight::{add_gradient, packs_tiles};
use crate::{Buffer, Matrix, Precision, product};

mod transforms;

use transforms::{Gradients, Nine, Pictures, Results, Sixteen};

/// Products of a tile.
const PRODUCTS: usize = 16;
/// Numbers of each product that are made at a time before they are joined into words: those of all products
/// should stay in the nearest cache.
const JOINED: usize = 512;
/// Outputs whose filters a thread puts in order at a time.
const TURNED: usize = 16;
/// Tiles whose gradients are summed at a time.
const SUMMED: usize = 128;

/// Pictures `[batch, source, input]`, and results `[batch, made, output]`.
#[derive(Clone, Copy)]
pub(crate) struct Tiled {
    pub(crate) batch: usize,
    pub(crate) source: [usize; 2],
    pub(crate) made: [usize; 2],
    pub(crate) pad: usize,
    pub(crate) input: usize,
    pub(crate) output: usize,
}

/// The filters' side of the products.
enum Filters {
    Numbers(Panels<f32>),
    Pairs(Panels<Pair>),
    /// `[input, 16, output]`: AMX packs both sides into tiles of its own.
    Tiles(Vec<f32>),
}

/// The filters as a convolution has them, nine values each.
#[derive(Clone, Copy)]
pub(crate) struct Nines<'a> {
    /// `[output, input, 9]`; turned, inputs and outputs have changed places.
    pub(crate) values: &'a [f32],
    /// Whether they are meant turned by half a turn.
    pub(crate) turned: bool,
}

/// All 16 products, `m` = rows of `length` words times the filters.
fn products<W: Word>(right: &Panels<W>, v: &[W], length: usize, m: &mut [f32], count: usize) {
    let targets: Vec<usize> = (0..count).map(|r| r * right.columns).collect();
    for (first_tap, m) in m.chunks_exact_mut(count * right.columns).enumerate() {
        let v = &v[first_tap * count * length..];
        let rows = following(v, length, count);
        let (rows, targets) = (&*rows, &*targets);
        W::run(Sweep { rows, taps: 1, first_tap, targets, right, add: false, into: m });
    }
}

/// One row of tiles: its picture, its number and what it makes.
type TileRow<'a> = (usize, usize, &'a mut [f32]);

impl Tiled {
    /// Whether this is less work than the direct sum, and worth its transforms.
    pub(crate) fn pays(&self) -> bool {
        let tiles: usize = self.tiles().iter().product();
        self.input.min(self.output) >= 16
            && 9 * self.made[0] * self.made[1] > 3 * PRODUCTS * tiles / 2
    }

    fn tiles(&self) -> [usize; 2] {
        self.made.map(|n| n.div_ceil(2))
    }

    /// The convolution with the filters, and the moments of chunks of its result with their rows, where
    /// they are wanted; see [`batch::moments`].
    pub(crate) fn correlate(
        &self,
        x: &[f32],
        filters: Nines<'_>,
        precision: Precision,
        moments: bool,
    ) -> (Vec<f32>, Vec<Moments>) {
        self.correlated(x, &self.transformed(filters, precision), moments)
    }

    fn correlated(&self, x: &[f32], filters: &Filters, moments: bool) -> (Vec<f32>, Vec<Moments>) {
        let [_, columns] = self.tiles();
        let row = self.made[1] * self.output;
        let mut y = fresh(self.batch * self.made[0] * row);
        let pictures = y.chunks_mut(self.made[0] * row).enumerate();
        let mut rows: Vec<TileRow<'_>> = pictures
            .flat_map(|(n, y)| y.chunks_mut(2 * row).enumerate().map(move |(i, two)| (n, i, two)))
            .collect();
        // As many tiles as stay in the cache with what is made of them; AMX packs the filters anew each
        // time, so that more of them are better.
        let together = match filters {
            Filters::Tiles(_) => 512,
            _ => ((1 << 14) / (self.input + self.output)).clamp(32, 128),
        }
        .div_ceil(columns);
        let found = rows
            .par_chunks_mut(together)
            .map(|rows| {
                self.chunk(x, filters, rows);
                let wanted = rows.iter().filter(|_| moments);
                wanted.map(|(_, _, y)| batch::moments(y, self.output)).collect::<Vec<_>>()
            })
            .collect::<Vec<_>>();
        (y, found.into_iter().flatten().collect())
    }

    /// G·g·Gᵀ of all filters, packed for what multiplies.
    fn transformed(&self, filters: Nines<'_>, precision: Precision) -> Filters {
        if packs_tiles(precision) {
            return Filters::Tiles(self.transformed_plain(filters));
        }
        match precision.is_narrow() {
            true => Filters::Pairs(self.transformed_panels(filters)),
            false => Filters::Numbers(self.transformed_panels(filters)),
        }
    }

    /// A tap for each of the products.
    fn transformed_panels<W: Word>(&self, filters: Nines<'_>) -> Panels<W> {
        let (width, length) = (width::<W>(), self.input.div_ceil(W::FACTORS));
        Panels::new(self.output, PRODUCTS, self.input, |panel, words| {
            let outputs = panel * width..self.output.min((panel + 1) * width);
            let columns = outputs.len();
            let size = PRODUCTS * columns;
            let (mut numbers, mut nine) = (vec![0.0; W::FACTORS * size], vec![0.0; 9 * columns]);
            for i in 0..length {
                let inputs = i * W::FACTORS..self.input.min((i + 1) * W::FACTORS);
                let second = if inputs.len() == 2 { size } else { NONE };
                for (input, numbers) in inputs.zip(numbers.chunks_exact_mut(size)) {
                    self.transformed_input(filters, input, outputs.clone(), &mut nine, numbers);
                }
                let rows: [[usize; 2]; PRODUCTS] = std::array::from_fn(|k| {
                    [k * columns, if second == NONE { NONE } else { k * columns + second }]
                });
                let (numbers, words) = (&*numbers, &mut words[i * width..]);
                W::run(Across { numbers, rows: &rows, columns, stride: length * width, words });
            }
        })
    }

    /// `[input, 16, output]`
    fn transformed_plain(&self, filters: Nines<'_>) -> Vec<f32> {
        let mut all = fresh(self.input * PRODUCTS * self.output);
        all.par_chunks_exact_mut(PRODUCTS * self.output).enumerate().for_each(|(input, all)| {
            let mut nine = vec![0.0; 9 * self.output];
            self.transformed_input(filters, input, 0..self.output, &mut nine, all);
        });
        all
    }

    /// `[16, outputs]` of one input; `nine` is room for what they are made from.
    fn transformed_input(
        &self,
        filters: Nines<'_>,
        input: usize,
        outputs: Range<usize>,
        nine: &mut [f32],
        into: &mut [f32],
    ) {
        let channels = outputs.len();
        for (j, output) in outputs.enumerate() {
            let at = match filters.turned {
                false => output * self.input + input,
                true => input * self.output + output,
            };
            for (k, value) in filters.values[9 * at..][..9].iter().enumerate() {
                nine[if filters.turned { 8 - k } else { k } * channels + j] = *value;
            }
        }
        arch().dispatch(Sixteen { nine, channels, sixteen: into });
    }

    /// Where the 16 positions of a tile begin in pictures of `channels` channels.
    fn taken(&self, picture: usize, tile: [usize; 2], channels: usize) -> [usize; 16] {
        std::array::from_fn(|n| {
            let at = [n / 4, n % 4];
            let [i, j] = [0, 1].map(|axis| {
                (2 * tile[axis] + at[axis]).checked_sub(self.pad).filter(|i| *i < self.source[axis])
            });
            match (i, j) {
                (Some(i), Some(j)) => {
                    ((picture * self.source[0] + i) * self.source[1] + j) * channels
                }
                _ => NONE,
            }
        })
    }

    /// Some rows of tiles, on this thread.
    fn chunk(&self, x: &[f32], filters: &Filters, rows: &mut [TileRow<'_>]) {
        let [_, columns] = self.tiles();
        let (input, output, count) = (self.input, self.output, rows.len() * columns);
        let at_once = match filters {
            Filters::Pairs(_) => (JOINED / input).clamp(1, count),
            _ => count,
        };
        let mut scratch = Buffer::take(PRODUCTS * (at_once * input + count * output));
        let (v, m) = scratch.slice().split_at_mut(PRODUCTS * at_once * input);
        let tiles: Vec<[usize; 16]> = rows
            .iter()
            .flat_map(|(picture, i, _)| (0..columns).map(|j| self.taken(*picture, [*i, j], input)))
            .collect();
        let pictures =
            |tiles: &[_], v: &mut [f32]| arch().dispatch(Pictures { x, tiles, channels: input, v });
        match filters {
            Filters::Numbers(right) => {
                pictures(&tiles, v);
                products(right, v, input, m, count);
            }
            Filters::Pairs(right) => {
                let length = right.length;
                let mut words = Buffer::take(PRODUCTS * count * length);
                let words = words.words::<Pair>();
                for (n, tiles) in tiles.chunks(at_once).enumerate() {
                    let v = &mut v[..PRODUCTS * tiles.len() * input];
                    pictures(tiles, v);
                    for (k, numbers) in v.chunks_exact(tiles.len() * input).enumerate() {
                        let words = &mut words[(k * count + n * at_once) * length..];
                        let words = &mut words[..tiles.len() * length];
                        Pair::run(Along { numbers, factors: input, words });
                    }
                }
                products(right, words, length, m, count);
            }
            Filters::Tiles(right) => {
                pictures(&tiles, v);
                for (k, m) in m.chunks_exact_mut(count * output).enumerate() {
                    let left = Matrix::rows(&v[k * count * input..], input);
                    let right = Matrix::rows(&right[k * output..], PRODUCTS * output);
                    let shape = [count, output, input];
                    product(m, output, false, left, right, shape, Precision::Bf16);
                }
            }
        }
        for (r, (_, _, y)) in rows.iter_mut().enumerate() {
            let (m, channels) = (&*m, output);
            let (first, width) = (r * columns, self.made[1]);
            arch().dispatch(Results { m, first, count, width, channels, y });
        }
    }

    /// The gradient of the filters, nine values for each input of each output.
    pub(crate) fn filters_back(
        &self,
        x: Numbers<'_>,
        dy: &[f32],
        precision: Precision,
    ) -> Vec<f32> {
        let (input, output, [rows, columns]) = (self.input, self.output, self.tiles());
        let (total, size) = (self.batch * rows * columns, input * output);
        let chunks = (0..total).step_by(SUMMED).map(|s| s..total.min(s + SUMMED)).collect();
        let [sums] = summed(chunks, [PRODUCTS * size], |tiles: Range<usize>, [sums]| {
            let count = tiles.len();
            let mut scratch = Buffer::take(PRODUCTS * count * (input + output));
            let (v, q) = scratch.slice().split_at_mut(PRODUCTS * count * input);
            let (mut taken, mut given) = (Vec::with_capacity(count), Vec::with_capacity(count));
            for n in tiles {
                let (picture, tile) = (n / (rows * columns), n % (rows * columns));
                let tile = [tile / columns, tile % columns];
                taken.push(self.taken(picture, tile, input));
                given.push(std::array::from_fn(|n| {
                    let [i, j] = [2 * tile[0] + n / 2, 2 * tile[1] + n % 2];
                    let at = ((picture * self.made[0] + i) * self.made[1] + j) * output;
                    if i < self.made[0] && j < self.made[1] { at } else { NONE }
                }));
            }
            // What lies between the first position and the last one of these tiles.
            let at = || taken.as_flattened().iter().copied().filter(|at| *at != NONE);
            let start = at().min().unwrap_or(0);
            let end = at().max().map_or(start, |last| last + input);
            let known = taken.as_flattened_mut().iter_mut().filter(|at| **at != NONE);
            known.for_each(|at| *at -= start);
            let mut room = x.room(end - start);
            let x = x.part(start..end, &mut room);
            arch().dispatch(Pictures { x, tiles: &taken, channels: input, v });
            arch().dispatch(Gradients { dy, tiles: &given, channels: output, q });
            for (product, sums) in sums.chunks_exact_mut(size).enumerate() {
                let left = &v[product * count * input..][..count * input];
                let right = &q[product * count * output..][..count * output];
                add_gradient(sums, left, right, input, output, precision);
            }
        });
        // [input, 9, output], then outputs first.
        let mut nine = fresh(9 * size);
        nine.par_chunks_exact_mut(9 * output).enumerate().for_each(|(c, nine)| {
            let (sums, apart) = (&sums[c * output..], size);
            arch().dispatch(Nine { sums, apart, channels: output, nine });
        });
        let mut filters = fresh(9 * size);
        filters.par_chunks_mut(TURNED * 9 * input).enumerate().for_each(|(n, filters)| {
            let turned = Matrix::rows(&nine, output).transposed().at(n * TURNED, 0);
            turned.copied(filters.len() / (9 * input), 9 * input, filters);
        });
        filters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::tests::noise;

    #[test]
    fn it_is_the_direct_sum() {
        for (made, pad, input, output) in
            [([6, 8], 1, 16, 20), ([5, 7], 1, 33, 16), ([4, 3], 0, 16, 48)]
        {
            let source = made.map(|n| n + 2 - 2 * pad);
            let tiled = Tiled { batch: 3, source, made, pad, input, output };
            let x = noise(3 * source[0] * source[1] * input, 1);
            let filters = noise(output * input * 9, 2);
            let dy = noise(3 * made[0] * made[1] * output, 3);
            let nines = Nines { values: &filters, turned: false };
            let (y, moments) = tiled.correlate(&x, nines, Precision::F32, true);
            assert_eq!(moments.iter().map(|(rows, _)| rows).sum::<usize>() * output, y.len());
            let (mut want, mut dwant) = (vec![0f64; y.len()], vec![0f64; filters.len()]);
            for (at, want) in want.iter_mut().enumerate() {
                let (o, at) = (at % output, at / output);
                let (j, i, n) = (at % made[1], at / made[1] % made[0], at / made[1] / made[0]);
                for tap in 0..9 {
                    let (i, j) = (i + tap / 3, j + tap % 3);
                    let (Some(i), Some(j)) = (i.checked_sub(pad), j.checked_sub(pad)) else {
                        continue;
                    };
                    if i >= source[0] || j >= source[1] {
                        continue;
                    }
                    for c in 0..input {
                        let x = f64::from(x[((n * source[0] + i) * source[1] + j) * input + c]);
                        let filter = (o * input + c) * 9 + tap;
                        *want += x * f64::from(filters[filter]);
                        dwant[filter] += x * f64::from(dy[at * output + o]);
                    }
                }
            }
            let off = |got: &[f32], want: &[f64]| {
                let pairs = got.iter().zip(want);
                pairs.map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
            };
            assert!(off(&y, &want) < 2e-5, "{}", off(&y, &want));
            let dfilters = tiled.filters_back(Numbers::Full(&x), &dy, Precision::F32);
            assert!(off(&dfilters, &dwant) < 2e-5, "{}", off(&dfilters, &dwant));
            // In bf16: what 9·input products of factors with 2⁻⁹ of error add up to.
            let bound = |n: usize| 6.0 * (n as f64).sqrt() / 512.0;
            let (y, _) = tiled.correlate(&x, nines, Precision::Bf16, false);
            assert!(off(&y, &want) < bound(9 * input), "{}", off(&y, &want));
            let plain = Filters::Tiles(tiled.transformed_plain(nines));
            let (y, _) = tiled.correlated(&x, &plain, false);
            assert!(off(&y, &want) < bound(9 * input), "{}", off(&y, &want));
            let dfilters = tiled.filters_back(Numbers::Full(&x), &dy, Precision::Bf16);
            let positions = 3 * made[0] * made[1];
            assert!(off(&dfilters, &dwant) < bound(positions), "{}", off(&dfilters, &dwant));
        }
    }
}
