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

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::batch::{self, Moments};
use crate::groups::summed;
use crate::halves::Numbers;
use crate::joins::{Along, NONE};
use crate::lanes::{arch, load, store};
use crate::memory::fresh;
use crate::rows::{Panels, Sweep, following, width};
use crate::unit::{Pair, Word};
use crate::weight::{add_gradient, packs_tiles};
use crate::{Buffer, Matrix, Precision, product};

/// Products of a tile.
const PRODUCTS: usize = 16;
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

/// G·g·Gᵀ of one filter.
fn transformed(g: [f32; 9]) -> [f32; PRODUCTS] {
    let side = |a: f32, b: f32, c: f32| {
        let (even, odd) = (0.5 * (a + c), 0.5 * b);
        [a, even + odd, even - odd, c]
    };
    let by = [0, 1, 2].map(|j| side(g[j], g[3 + j], g[6 + j]));
    let mut all = [0.0; PRODUCTS];
    for (i, row) in all.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *row = side(by[0][i], by[1][i], by[2][i]);
    }
    all
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

    /// The convolution with filters of which `filter(o, c)` gives the nine values, and the moments of
    /// chunks of its result with their rows, where they are wanted; see [`batch::moments`].
    pub(crate) fn correlate(
        &self,
        x: &[f32],
        filter: impl Fn(usize, usize) -> [f32; 9] + Sync,
        precision: Precision,
        moments: bool,
    ) -> (Vec<f32>, Vec<Moments>) {
        self.correlated(x, &self.transformed(filter, precision), moments)
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
    fn transformed(
        &self,
        filter: impl Fn(usize, usize) -> [f32; 9] + Sync,
        precision: Precision,
    ) -> Filters {
        if packs_tiles(precision) {
            return Filters::Tiles(self.transformed_plain(filter));
        }
        match precision.is_narrow() {
            true => Filters::Pairs(self.transformed_panels(filter)),
            false => Filters::Numbers(self.transformed_panels(filter)),
        }
    }

    /// A tap for each of the products.
    fn transformed_panels<W: Word>(
        &self,
        filter: impl Fn(usize, usize) -> [f32; 9] + Sync,
    ) -> Panels<W> {
        let (width, length) = (width::<W>(), self.input.div_ceil(W::FACTORS));
        Panels::new(self.output, PRODUCTS, self.input, |panel, words| {
            for i in 0..length {
                for o in 0..width.min(self.output - panel * width) {
                    let of = |c: usize| match c < self.input {
                        true => transformed(filter(panel * width + o, c)),
                        false => [0.0; PRODUCTS],
                    };
                    let first = of(i * W::FACTORS);
                    let second = if W::FACTORS == 2 { of(2 * i + 1) } else { first };
                    for k in 0..PRODUCTS {
                        words[(k * length + i) * width + o] = W::of([first[k], second[k]]);
                    }
                }
            }
        })
    }

    /// `[input, 16, output]`
    fn transformed_plain(&self, filter: impl Fn(usize, usize) -> [f32; 9] + Sync) -> Vec<f32> {
        let mut all = vec![0.0; self.input * PRODUCTS * self.output];
        all.par_chunks_exact_mut(PRODUCTS * self.output).enumerate().for_each(|(c, all)| {
            for o in 0..self.output {
                for (k, value) in transformed(filter(o, c)).into_iter().enumerate() {
                    all[k * self.output + o] = value;
                }
            }
        });
        all
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
        let mut scratch = Buffer::take(PRODUCTS * count * (input + output));
        let (v, m) = scratch.slice().split_at_mut(PRODUCTS * count * input);
        let tiles: Vec<[usize; 16]> = rows
            .iter()
            .flat_map(|(picture, i, _)| (0..columns).map(|j| self.taken(*picture, [*i, j], input)))
            .collect();
        arch().dispatch(Pictures { x, tiles: &tiles, channels: input, v });
        match filters {
            Filters::Numbers(right) => products(right, v, input, m, count),
            Filters::Pairs(right) => {
                let mut words = Buffer::take(PRODUCTS * count * right.length);
                let words = words.words::<Pair>();
                Pair::run(Along { numbers: v, factors: input, words });
                products(right, words, right.length, m, count);
            }
            Filters::Tiles(right) => {
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
        let [sums] = summed(chunks, [PRODUCTS * size], |tiles: std::ops::Range<usize>, [sums]| {
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
        // [input, output, 9], then outputs first.
        let mut nine = fresh(9 * size);
        nine.par_chunks_exact_mut(9 * output).enumerate().for_each(|(c, nine)| {
            let of = |product: usize| &sums[product * size + c * output..][..output];
            let products: [&[f32]; PRODUCTS] = std::array::from_fn(of);
            for (o, nine) in nine.as_chunks_mut::<9>().0.iter_mut().enumerate() {
                // Gᵀ·S, then times G.
                let side = |s: [f32; 4]| {
                    let (even, odd) = (0.5 * (s[1] + s[2]), 0.5 * (s[1] - s[2]));
                    [s[0] + even, odd, even + s[3]]
                };
                let by = [0, 1, 2, 3].map(|j| side([0, 1, 2, 3].map(|i| products[4 * i + j][o])));
                for i in 0..3 {
                    let row = side([by[0][i], by[1][i], by[2][i], by[3][i]]);
                    nine[3 * i..3 * i + 3].copy_from_slice(&row);
                }
            }
        });
        let mut filters = fresh(9 * size);
        filters.par_chunks_exact_mut(9 * input).enumerate().for_each(|(o, filter)| {
            for (c, filter) in filter.chunks_exact_mut(9).enumerate() {
                filter.copy_from_slice(&nine[(c * output + o) * 9..][..9]);
            }
        });
        filters
    }
}

/// The vector from `at` on of what begins at `from`; 0 where that is [`NONE`].
#[inline(always)]
fn read<S: Simd>(s: S, x: &[f32], from: usize, channels: usize, at: usize) -> S::f32s {
    if from == NONE { s.splat_f32s(0.0) } else { load(s, &x[from..from + channels], at) }
}

/// Bᵀ·d of four values: d₀ − d₂, d₁ + d₂, d₂ − d₁, d₁ − d₃.
#[inline(always)]
fn spread<S: Simd>(s: S, d: [S::f32s; 4]) -> [S::f32s; 4] {
    [s.sub_f32s(d[0], d[2]), s.add_f32s(d[1], d[2]), s.sub_f32s(d[2], d[1]), s.sub_f32s(d[1], d[3])]
}

/// Bᵀ·d·B of each tile: `v` is `[16, tiles, channels]`.
struct Pictures<'a> {
    x: &'a [f32],
    tiles: &'a [[usize; 16]],
    channels: usize,
    v: &'a mut [f32],
}

impl WithSimd for Pictures<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { x, tiles, channels, v } = self;
        let size = tiles.len() * channels;
        for (n, tile) in tiles.iter().enumerate() {
            for at in (0..channels).step_by(S::F32_LANES) {
                let mut d = [[s.splat_f32s(0.0); 4]; 4];
                for j in 0..4 {
                    let mut column = [s.splat_f32s(0.0); 4];
                    for i in 0..4 {
                        column[i] = read(s, x, tile[4 * i + j], channels, at);
                    }
                    d[j] = spread(s, column);
                }
                for i in 0..4 {
                    let row = spread(s, [d[0][i], d[1][i], d[2][i], d[3][i]]);
                    for j in 0..4 {
                        let v = &mut v[(4 * i + j) * size + n * channels..][..channels];
                        store(s, v, at, row[j]);
                    }
                }
            }
        }
    }
}

/// Aᵀ·m of four values: m₀ + m₁ + m₂, m₁ − m₂ − m₃.
#[inline(always)]
fn gather<S: Simd>(s: S, m: [S::f32s; 4]) -> [S::f32s; 2] {
    let (plus, minus) = (s.add_f32s(m[1], m[2]), s.sub_f32s(m[1], m[2]));
    [s.add_f32s(m[0], plus), s.sub_f32s(minus, m[3])]
}

/// Aᵀ·m·A of a row of tiles: `m` is `[16, count, channels]`, `y` one or two rows of `width` results.
struct Results<'a> {
    m: &'a [f32],
    /// Of the row's tiles.
    first: usize,
    count: usize,
    width: usize,
    channels: usize,
    y: &'a mut [f32],
}

impl WithSimd for Results<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { m, first, count, width, channels, y } = self;
        for tile in 0..width.div_ceil(2) {
            for at in (0..channels).step_by(S::F32_LANES) {
                let mut by = [[s.splat_f32s(0.0); 2]; 4];
                for j in 0..4 {
                    let mut column = [s.splat_f32s(0.0); 4];
                    for i in 0..4 {
                        let from = ((4 * i + j) * count + first + tile) * channels;
                        column[i] = load(s, &m[from..from + channels], at);
                    }
                    by[j] = gather(s, column);
                }
                for i in 0..2 {
                    let pair = gather(s, [by[0][i], by[1][i], by[2][i], by[3][i]]);
                    for j in 0..2 {
                        // Of an odd number of rows or columns, half of the last tile is not wanted.
                        let to = (i * width + 2 * tile + j) * channels;
                        if 2 * tile + j < width && to < y.len() {
                            store(s, &mut y[to..to + channels], at, pair[j]);
                        }
                    }
                }
            }
        }
    }
}

/// A·d of two values: d₀, d₀ + d₁, d₀ − d₁, −d₁.
#[inline(always)]
fn scatter<S: Simd>(s: S, d: [S::f32s; 2]) -> [S::f32s; 4] {
    [d[0], s.add_f32s(d[0], d[1]), s.sub_f32s(d[0], d[1]), s.sub_f32s(s.splat_f32s(0.0), d[1])]
}

/// A·dY·Aᵀ of each tile: `q` is `[16, tiles, channels]`.
struct Gradients<'a> {
    dy: &'a [f32],
    tiles: &'a [[usize; 4]],
    channels: usize,
    q: &'a mut [f32],
}

impl WithSimd for Gradients<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { dy, tiles, channels, q } = self;
        let size = tiles.len() * channels;
        for (n, tile) in tiles.iter().enumerate() {
            for at in (0..channels).step_by(S::F32_LANES) {
                let mut d = [[s.splat_f32s(0.0); 4]; 2];
                for j in 0..2 {
                    let above = read(s, dy, tile[j], channels, at);
                    let below = read(s, dy, tile[2 + j], channels, at);
                    d[j] = scatter(s, [above, below]);
                }
                for i in 0..4 {
                    let row = scatter(s, [d[0][i], d[1][i]]);
                    for j in 0..4 {
                        let q = &mut q[(4 * i + j) * size + n * channels..][..channels];
                        store(s, q, at, row[j]);
                    }
                }
            }
        }
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
            let filter =
                |o: usize, c: usize| std::array::from_fn(|n| filters[(o * input + c) * 9 + n]);
            let (y, moments) = tiled.correlate(&x, filter, Precision::F32, true);
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
            let (y, _) = tiled.correlate(&x, filter, Precision::Bf16, false);
            assert!(off(&y, &want) < bound(9 * input), "{}", off(&y, &want));
            let plain = Filters::Tiles(tiled.transformed_plain(filter));
            let (y, _) = tiled.correlated(&x, &plain, false);
            assert!(off(&y, &want) < bound(9 * input), "{}", off(&y, &want));
            let dfilters = tiled.filters_back(Numbers::Full(&x), &dy, Precision::Bf16);
            let positions = 3 * made[0] * made[1];
            assert!(off(&dfilters, &dwant) < bound(positions), "{}", off(&dfilters, &dwant));
        }
    }
}
