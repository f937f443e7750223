//! The transforms of Winograd's convolution, in vectors of channels.

// Loops are counted, so that they are unrolled and what they index stays in registers.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use crate::joins::NONE;
use crate::lanes::{load, store};

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
pub(super) struct Pictures<'a> {
    pub(super) x: &'a [f32],
    pub(super) tiles: &'a [[usize; 16]],
    pub(super) channels: usize,
    pub(super) v: &'a mut [f32],
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
pub(super) struct Results<'a> {
    pub(super) m: &'a [f32],
    /// Of the row's tiles.
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) y: &'a mut [f32],
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
pub(super) struct Gradients<'a> {
    pub(super) dy: &'a [f32],
    pub(super) tiles: &'a [[usize; 4]],
    pub(super) channels: usize,
    pub(super) q: &'a mut [f32],
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

/// Gᵀ·S of four values: s₀ + (s₁ + s₂)/2, (s₁ − s₂)/2, (s₁ + s₂)/2 + s₃.
#[inline(always)]
fn fold<S: Simd>(s: S, d: [S::f32s; 4]) -> [S::f32s; 3] {
    let half = s.splat_f32s(0.5);
    let even = s.mul_f32s(half, s.add_f32s(d[1], d[2]));
    let odd = s.mul_f32s(half, s.sub_f32s(d[1], d[2]));
    [s.add_f32s(d[0], even), odd, s.add_f32s(even, d[3])]
}

/// Gᵀ·S·G of the sums of products, of which those of a product are `apart` from those of the one before:
/// `nine` is `[9, channels]`.
pub(super) struct Nine<'a> {
    pub(super) sums: &'a [f32],
    pub(super) apart: usize,
    pub(super) channels: usize,
    pub(super) nine: &'a mut [f32],
}

impl WithSimd for Nine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { sums, apart, channels, nine } = self;
        for at in (0..channels).step_by(S::F32_LANES) {
            let mut by = [[s.splat_f32s(0.0); 3]; 4];
            for j in 0..4 {
                let mut column = [s.splat_f32s(0.0); 4];
                for i in 0..4 {
                    column[i] = load(s, &sums[(4 * i + j) * apart..][..channels], at);
                }
                by[j] = fold(s, column);
            }
            for i in 0..3 {
                let row = fold(s, [by[0][i], by[1][i], by[2][i], by[3][i]]);
                for j in 0..3 {
                    store(s, &mut nine[(3 * i + j) * channels..][..channels], at, row[j]);
                }
            }
        }
    }
}

/// G·g of three values: g₀, (g₀ + g₁ + g₂)/2, (g₀ − g₁ + g₂)/2, g₂.
#[inline(always)]
fn unfold<S: Simd>(s: S, g: [S::f32s; 3]) -> [S::f32s; 4] {
    let half = s.splat_f32s(0.5);
    let (even, odd) = (s.mul_f32s(half, s.add_f32s(g[0], g[2])), s.mul_f32s(half, g[1]));
    [g[0], s.add_f32s(even, odd), s.sub_f32s(even, odd), g[2]]
}

/// G·g·Gᵀ of filters: `nine` is `[9, channels]`, `sixteen` `[16, channels]`.
pub(super) struct Sixteen<'a> {
    pub(super) nine: &'a [f32],
    pub(super) channels: usize,
    pub(super) sixteen: &'a mut [f32],
}

impl WithSimd for Sixteen<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { nine, channels, sixteen } = self;
        for at in (0..channels).step_by(S::F32_LANES) {
            let mut by = [[s.splat_f32s(0.0); 4]; 3];
            for j in 0..3 {
                let mut column = [s.splat_f32s(0.0); 3];
                for i in 0..3 {
                    column[i] = load(s, &nine[(3 * i + j) * channels..][..channels], at);
                }
                by[j] = unfold(s, column);
            }
            for i in 0..4 {
                let row = unfold(s, [by[0][i], by[1][i], by[2][i]]);
                for j in 0..4 {
                    store(s, &mut sixteen[(4 * i + j) * channels..][..channels], at, row[j]);
                }
            }
        }
    }
}
