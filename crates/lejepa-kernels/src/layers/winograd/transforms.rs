//! The transforms of F(2×2, 3×3), vectorised over channels.

// Counted loops are unrolled, so that the arrays they index stay in registers.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use crate::gemm::pairs::NONE;
use crate::simd::{load, store};

/// The vector at channel `at` of the position that starts at `from`; 0 if that is [`NONE`].
#[inline(always)]
fn load_or_zero<S: Simd>(s: S, x: &[f32], from: usize, channels: usize, at: usize) -> S::f32s {
    if from == NONE { s.splat_f32s(0.0) } else { load(s, &x[from..from + channels], at) }
}

/// Bᵀ·d of four values: d₀ − d₂, d₁ + d₂, d₂ − d₁, d₁ − d₃.
#[inline(always)]
fn mul_bt<S: Simd>(s: S, d: [S::f32s; 4]) -> [S::f32s; 4] {
    [s.sub_f32s(d[0], d[2]), s.add_f32s(d[1], d[2]), s.sub_f32s(d[2], d[1]), s.sub_f32s(d[1], d[3])]
}

/// `v` `[16, tiles, channels]` = Bᵀ·d·B of each tile.
pub(super) struct InputTransform<'a> {
    pub(super) x: &'a [f32],
    /// Where the positions of each tile start in `x`, or [`NONE`].
    pub(super) tiles: &'a [[usize; 16]],
    pub(super) channels: usize,
    pub(super) v: &'a mut [f32],
}

impl WithSimd for InputTransform<'_> {
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
                        column[i] = load_or_zero(s, x, tile[4 * i + j], channels, at);
                    }
                    d[j] = mul_bt(s, column);
                }
                for i in 0..4 {
                    let row = mul_bt(s, [d[0][i], d[1][i], d[2][i], d[3][i]]);
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
fn mul_at<S: Simd>(s: S, m: [S::f32s; 4]) -> [S::f32s; 2] {
    let (plus, minus) = (s.add_f32s(m[1], m[2]), s.sub_f32s(m[1], m[2]));
    [s.add_f32s(m[0], plus), s.sub_f32s(minus, m[3])]
}

/// `y` = Aᵀ·m·A of a row of tiles: one or two rows of `width` outputs from `m` `[16, count, channels]`.
pub(super) struct OutputTransform<'a> {
    pub(super) m: &'a [f32],
    /// First tile of the row.
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) y: &'a mut [f32],
}

impl WithSimd for OutputTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { m, first, count, width, channels, y } = self;
        for tile in 0..width.div_ceil(2) {
            for at in (0..channels).step_by(S::F32_LANES) {
                let mut columns = [[s.splat_f32s(0.0); 2]; 4];
                for j in 0..4 {
                    let mut column = [s.splat_f32s(0.0); 4];
                    for i in 0..4 {
                        let from = ((4 * i + j) * count + first + tile) * channels;
                        column[i] = load(s, &m[from..from + channels], at);
                    }
                    columns[j] = mul_at(s, column);
                }
                for i in 0..2 {
                    let pair =
                        mul_at(s, [columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
                    for j in 0..2 {
                        // The last tile extends beyond an odd number of rows or columns.
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
fn mul_a<S: Simd>(s: S, d: [S::f32s; 2]) -> [S::f32s; 4] {
    [d[0], s.add_f32s(d[0], d[1]), s.sub_f32s(d[0], d[1]), s.sub_f32s(s.splat_f32s(0.0), d[1])]
}

/// `q` `[16, tiles, channels]` = A·dY·Aᵀ of each tile.
pub(super) struct OutputGradientTransform<'a> {
    pub(super) dy: &'a [f32],
    /// Where the positions of each tile start in `dy`, or [`NONE`].
    pub(super) tiles: &'a [[usize; 4]],
    pub(super) channels: usize,
    pub(super) q: &'a mut [f32],
}

impl WithSimd for OutputGradientTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { dy, tiles, channels, q } = self;
        let size = tiles.len() * channels;
        for (n, tile) in tiles.iter().enumerate() {
            for at in (0..channels).step_by(S::F32_LANES) {
                let mut d = [[s.splat_f32s(0.0); 4]; 2];
                for j in 0..2 {
                    let above = load_or_zero(s, dy, tile[j], channels, at);
                    let below = load_or_zero(s, dy, tile[2 + j], channels, at);
                    d[j] = mul_a(s, [above, below]);
                }
                for i in 0..4 {
                    let row = mul_a(s, [d[0][i], d[1][i]]);
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
fn mul_gt<S: Simd>(s: S, d: [S::f32s; 4]) -> [S::f32s; 3] {
    let half = s.splat_f32s(0.5);
    let even = s.mul_f32s(half, s.add_f32s(d[1], d[2]));
    let odd = s.mul_f32s(half, s.sub_f32s(d[1], d[2]));
    [s.add_f32s(d[0], even), odd, s.add_f32s(even, d[3])]
}

/// `out` `[9, channels]` = Gᵀ·S·G of the sums of the 16 products, which are `stride` apart.
pub(super) struct FilterGradientTransform<'a> {
    pub(super) sums: &'a [f32],
    pub(super) stride: usize,
    pub(super) channels: usize,
    pub(super) out: &'a mut [f32],
}

impl WithSimd for FilterGradientTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { sums, stride, channels, out } = self;
        for at in (0..channels).step_by(S::F32_LANES) {
            let mut columns = [[s.splat_f32s(0.0); 3]; 4];
            for j in 0..4 {
                let mut column = [s.splat_f32s(0.0); 4];
                for i in 0..4 {
                    column[i] = load(s, &sums[(4 * i + j) * stride..][..channels], at);
                }
                columns[j] = mul_gt(s, column);
            }
            for i in 0..3 {
                let row = mul_gt(s, [columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
                for j in 0..3 {
                    store(s, &mut out[(3 * i + j) * channels..][..channels], at, row[j]);
                }
            }
        }
    }
}

/// G·g of three values: g₀, (g₀ + g₁ + g₂)/2, (g₀ − g₁ + g₂)/2, g₂.
#[inline(always)]
fn mul_g<S: Simd>(s: S, g: [S::f32s; 3]) -> [S::f32s; 4] {
    let half = s.splat_f32s(0.5);
    let (even, odd) = (s.mul_f32s(half, s.add_f32s(g[0], g[2])), s.mul_f32s(half, g[1]));
    [g[0], s.add_f32s(even, odd), s.sub_f32s(even, odd), g[2]]
}

/// `out` `[16, channels]` = G·g·Gᵀ of filters `[9, channels]`.
pub(super) struct FilterTransform<'a> {
    pub(super) filters: &'a [f32],
    pub(super) channels: usize,
    pub(super) out: &'a mut [f32],
}

impl WithSimd for FilterTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { filters, channels, out } = self;
        for at in (0..channels).step_by(S::F32_LANES) {
            let mut columns = [[s.splat_f32s(0.0); 4]; 3];
            for j in 0..3 {
                let mut column = [s.splat_f32s(0.0); 3];
                for i in 0..3 {
                    column[i] = load(s, &filters[(3 * i + j) * channels..][..channels], at);
                }
                columns[j] = mul_g(s, column);
            }
            for i in 0..4 {
                let row = mul_g(s, [columns[0][i], columns[1][i], columns[2][i]]);
                for j in 0..4 {
                    store(s, &mut out[(4 * i + j) * channels..][..channels], at, row[j]);
                }
            }
        }
    }
}
