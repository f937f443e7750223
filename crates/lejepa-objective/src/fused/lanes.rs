//! The two passes over a tile of projections, in vectors of whatever width the processor has.
//!
//! A tile is `rows` × `width` projections, row by row, `rows` being a multiple of [`ROWS`] and
//! `width` of every vector width. Both passes need e^{ikθ} for k = 1..2H with θ = x·step. One sine
//! and cosine give k = 1; k = 2..H follow by doubling and by
//!
//! cos (c+j)θ = 2 cos cθ · cos jθ − cos (c−j)θ, sin (c+j)θ = 2 cos cθ · sin jθ + sin (c−j)θ,
//!
//! one multiply-add each. The same with c = H takes both passes past H without ever forming those
//! k: the sums need Σ 2 cos Hθ · cos jθ, the gradient coefficients that are combined beforehand.
//!
//! Nothing here is a closure: one would not inherit the instruction set it is called under, and its
//! vector instructions would become function calls.

use pulp::{Simd, WithSimd};

/// Rows that go through the knots together, so that one hides the latency of the other.
pub(super) const ROWS: usize = 2;
/// Columns in one turn of the inner loops; their sums stay in the first-level cache. A multiple of
/// every vector width.
pub(super) const BLOCK: usize = 64;
/// Rows after which partial sums are added to the totals: sums of few terms keep more digits.
const PARTIAL: usize = 64;

/// cos θ and sin θ of θ = 2h.
///
/// h is brought to [−π/2, π/2] by whole multiples of π, which change the signs of both sin h and
/// cos h and so neither of the products below; then two polynomials (least maximum error, below
/// 5e-9) and the formulas for the double angle. No branch and no table. Beyond |h| = 1e5 the angle
/// of a 32-bit number means nothing any more; it is held there, so that the result stays on the
/// unit circle.
#[inline(always)]
fn cos_sin<S: Simd>(s: S, h: S::f32s) -> (S::f32s, S::f32s) {
    let c = |x: f32| s.splat_f32s(x);
    let held = s.max_f32s(s.min_f32s(h, c(1e5)), c(-1e5));
    // 0·h is 0 but for NaN and ±∞, which the comparisons may drop, and then NaN.
    let h = s.mul_add_f32s(h, c(0.0), held);
    // Adding and subtracting 1.5·2^23 rounds to the nearest whole number.
    let magic = c(12_582_912.0);
    let turns = s.sub_f32s(s.mul_add_f32s(h, c(std::f32::consts::FRAC_1_PI), magic), magic);
    // π in two parts, the 32-bit constant and what it lacks (Cody and Waite 1980).
    let r = s.mul_add_f32s(turns, c(-std::f32::consts::PI), h);
    let r = s.mul_add_f32s(turns, c(8.742_278e-8), r);
    let u = s.mul_f32s(r, r);
    let p = s.mul_add_f32s(u, c(2.600_054_2e-6), c(-1.980_661_5e-4));
    let p = s.mul_add_f32s(p, u, c(8.333_017e-3));
    let p = s.mul_add_f32s(p, u, c(-1.666_665_7e-1));
    let sin = s.mul_add_f32s(s.mul_f32s(p, u), r, r);
    let q = s.mul_add_f32s(u, c(-2.607_708_3e-7), c(2.476_188_5e-5));
    let q = s.mul_add_f32s(q, u, c(-1.388_840_3e-3));
    let q = s.mul_add_f32s(q, u, c(4.166_664e-2));
    let q = s.mul_add_f32s(q, u, c(-0.5));
    let cos = s.mul_add_f32s(q, u, c(1.0));
    let twice = s.add_f32s(sin, sin);
    (s.mul_add_f32s(s.mul_f32s(c(-1.0), twice), sin, c(1.0)), s.mul_f32s(twice, cos))
}

/// cos jθ and sin jθ for j = 1..=H, a power of two, of θ = 2h.
#[inline(always)]
fn powers<S: Simd, const H: usize>(s: S, h: S::f32s) -> ([S::f32s; H], [S::f32s; H]) {
    let (c, d) = cos_sin(s, h);
    let (mut cos, mut sin) = ([c; H], [d; H]);
    let mut centre = 1;
    while centre < H {
        let twice = s.add_f32s(cos[centre - 1], cos[centre - 1]);
        let mut j = 1;
        while j < centre {
            let (less, more) = (cos[centre - j - 1], sin[centre - j - 1]);
            cos[centre + j - 1] = s.mul_add_f32s(twice, cos[j - 1], s.neg_f32s(less));
            sin[centre + j - 1] = s.mul_add_f32s(twice, sin[j - 1], more);
            j += 1;
        }
        cos[2 * centre - 1] = s.mul_add_f32s(twice, cos[centre - 1], s.splat_f32s(-1.0));
        sin[2 * centre - 1] = s.mul_f32s(twice, sin[centre - 1]);
        centre *= 2;
    }
    (cos, sin)
}

/// The vector of a row-major matrix that starts at `at`.
#[inline(always)]
fn load<S: Simd>(values: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&values[at..at + S::F32_LANES]).0[0]
}

/// Sums of cos kθ and sin kθ over the rows of a tile, for each column; at most 2H knots.
pub(super) struct Sums<'a, const H: usize> {
    pub(super) tile: &'a [f32],
    pub(super) width: usize,
    /// Distance between knots.
    pub(super) step: f32,
    /// `knots × width` each, k from 1.
    pub(super) cos: &'a mut [f32],
    pub(super) sin: &'a mut [f32],
}

impl<const H: usize> WithSimd for Sums<'_, H> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let half = s.splat_f32s(0.5 * self.step);
        let (width, lanes) = (self.width, S::F32_LANES);
        self.cos.fill(0.0);
        self.sin.fill(0.0);
        // For each vector of columns: cos and sin of 1..=H, then 2 cos Hθ times each of them.
        let mut part = vec![0f32; 4 * H * BLOCK];
        for first in (0..width).step_by(BLOCK) {
            let vectors = BLOCK.min(width - first) / lanes;
            for rows in self.tile.chunks(PARTIAL * width) {
                part.fill(0.0);
                let (parts, _) = S::as_mut_simd_f32s(&mut part);
                for group in rows.chunks_exact(ROWS * width) {
                    for v in 0..vectors {
                        let at = first + v * lanes;
                        let sums = &mut parts[v * 4 * H..][..4 * H];
                        let x = s.mul_f32s(load::<S>(group, at), half);
                        let y = s.mul_f32s(load::<S>(group, width + at), half);
                        let (xc, xs) = powers::<S, H>(s, x);
                        let (yc, ys) = powers::<S, H>(s, y);
                        let xd = s.add_f32s(xc[H - 1], xc[H - 1]);
                        let yd = s.add_f32s(yc[H - 1], yc[H - 1]);
                        let mut j = 0;
                        while j < H {
                            let (c, d) = (s.add_f32s(xc[j], yc[j]), s.add_f32s(xs[j], ys[j]));
                            sums[j] = s.add_f32s(sums[j], c);
                            sums[H + j] = s.add_f32s(sums[H + j], d);
                            let c = s.mul_add_f32s(xd, xc[j], sums[2 * H + j]);
                            sums[2 * H + j] = s.mul_add_f32s(yd, yc[j], c);
                            let d = s.mul_add_f32s(xd, xs[j], sums[3 * H + j]);
                            sums[3 * H + j] = s.mul_add_f32s(yd, ys[j], d);
                            j += 1;
                        }
                    }
                }
                self.add(&part, first, vectors * lanes, lanes, rows.len() / width);
            }
        }
    }
}

impl<const H: usize> Sums<'_, H> {
    /// Adds the sums over `rows` rows to the totals of the columns from `first`.
    fn add(&mut self, part: &[f32], first: usize, columns: usize, lanes: usize, rows: usize) {
        let knots = self.cos.len() / self.width;
        for (vector, part) in part.chunks_exact(4 * H * lanes).take(columns / lanes).enumerate() {
            // Which of the four: a sum over cosines, sines, or their products; j from 1.
            let of = |which: usize, j: usize| &part[(which * H + j - 1) * lanes..][..lanes];
            for k in 1..=knots {
                let at = (k - 1) * self.width + first + vector * lanes;
                let (cos, sin) = (&mut self.cos[at..at + lanes], &mut self.sin[at..at + lanes]);
                if k <= H {
                    plus(cos, of(0, k), 1.0);
                    plus(sin, of(1, k), 1.0);
                    continue;
                }
                plus(cos, of(2, k - H), 1.0);
                plus(sin, of(3, k - H), 1.0);
                if k < 2 * H {
                    plus(cos, of(0, 2 * H - k), -1.0);
                    plus(sin, of(1, 2 * H - k), 1.0);
                } else {
                    cos.iter_mut().for_each(|c| *c -= rows as f32);
                }
            }
        }
    }
}

/// `sums` += `sign` · `terms`
fn plus(sums: &mut [f32], terms: &[f32], sign: f32) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        *sum += sign * term;
    }
}

/// Replaces every projection x of a tile by Σ_k (b_k cos kθ − a_k sin kθ), k from 1 to at most 2H.
pub(super) struct Gradient<'a, const H: usize> {
    pub(super) tile: &'a mut [f32],
    pub(super) width: usize,
    pub(super) step: f32,
    /// `knots × width` each.
    pub(super) a: &'a [f32],
    pub(super) b: &'a [f32],
}

impl<const H: usize> WithSimd for Gradient<'_, H> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let half = s.splat_f32s(0.5 * self.step);
        let (width, lanes) = (self.width, S::F32_LANES);
        let mut terms = vec![0f32; (4 * H + 1) * BLOCK];
        for first in (0..width).step_by(BLOCK) {
            let vectors = BLOCK.min(width - first) / lanes;
            self.combine(&mut terms, first, vectors * lanes, lanes);
            let (terms, _) = S::as_simd_f32s(&terms);
            for group in self.tile.chunks_exact_mut(ROWS * width) {
                for v in 0..vectors {
                    let at = first + v * lanes;
                    let terms = &terms[v * (4 * H + 1)..][..4 * H + 1];
                    let x = s.mul_f32s(load::<S>(group, at), half);
                    let y = s.mul_f32s(load::<S>(group, width + at), half);
                    let (xc, xs) = powers::<S, H>(s, x);
                    let (yc, ys) = powers::<S, H>(s, y);
                    let zero = s.splat_f32s(0.0);
                    let (mut x0, mut x1, mut x2, mut x3) = (terms[4 * H], zero, zero, zero);
                    let (mut y0, mut y1, mut y2, mut y3) = (terms[4 * H], zero, zero, zero);
                    let mut j = 0;
                    while j < H {
                        x0 = s.mul_add_f32s(terms[j], xc[j], x0);
                        y0 = s.mul_add_f32s(terms[j], yc[j], y0);
                        x1 = s.mul_add_f32s(terms[H + j], xs[j], x1);
                        y1 = s.mul_add_f32s(terms[H + j], ys[j], y1);
                        x2 = s.mul_add_f32s(terms[2 * H + j], xc[j], x2);
                        y2 = s.mul_add_f32s(terms[2 * H + j], yc[j], y2);
                        x3 = s.mul_add_f32s(terms[3 * H + j], xs[j], x3);
                        y3 = s.mul_add_f32s(terms[3 * H + j], ys[j], y3);
                        j += 1;
                    }
                    let xd = s.add_f32s(xc[H - 1], xc[H - 1]);
                    let yd = s.add_f32s(yc[H - 1], yc[H - 1]);
                    let x = s.mul_add_f32s(xd, s.add_f32s(x2, x3), s.add_f32s(x0, x1));
                    let y = s.mul_add_f32s(yd, s.add_f32s(y2, y3), s.add_f32s(y0, y1));
                    S::as_mut_simd_f32s(&mut group[at..at + lanes]).0[0] = x;
                    S::as_mut_simd_f32s(&mut group[width + at..width + at + lanes]).0[0] = y;
                }
            }
        }
    }
}

impl<const H: usize> Gradient<'_, H> {
    /// For each vector of columns: the factors of cos jθ and sin jθ, j = 1..=H, then those of 2 cos
    /// Hθ times each of them, then the constant.
    fn combine(&self, terms: &mut [f32], first: usize, columns: usize, lanes: usize) {
        for column in 0..columns {
            let (vector, lane) = (column / lanes, column % lanes);
            let knot = |values: &[f32], k: usize| {
                values.get((k - 1) * self.width + first + column).copied().unwrap_or(0.0)
            };
            let (a, b) = (|k| knot(self.a, k), |k| knot(self.b, k));
            let start = vector * (4 * H + 1);
            for j in 1..=H {
                let (low_b, low_a) = if j < H { (b(2 * H - j), a(2 * H - j)) } else { (0.0, 0.0) };
                let factors = [b(j) - low_b, -a(j) - low_a, b(H + j), -a(H + j)];
                for (which, factor) in factors.into_iter().enumerate() {
                    terms[(start + which * H + j - 1) * lanes + lane] = factor;
                }
            }
            terms[(start + 4 * H) * lanes + lane] = -b(2 * H);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct CosSin<'a>(&'a [f32], &'a mut [f32], &'a mut [f32]);

    impl WithSimd for CosSin<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, s: S) {
            let (h, _) = S::as_simd_f32s(self.0);
            let (c, _) = S::as_mut_simd_f32s(self.1);
            let (d, _) = S::as_mut_simd_f32s(self.2);
            for ((h, c), d) in h.iter().zip(c).zip(d) {
                (*c, *d) = cos_sin(s, *h);
            }
        }
    }

    #[test]
    fn sine_and_cosine_are_exact_to_rounding() {
        let h: Vec<f32> = (-32_000..32_000).map(|i| i as f32 * 0.003_1).collect();
        let (mut c, mut d) = (vec![0.0; h.len()], vec![0.0; h.len()]);
        pulp::Arch::new().dispatch(CosSin(&h, &mut c, &mut d));
        for ((h, c), d) in h.iter().zip(&c).zip(&d) {
            let t = 2.0 * f64::from(*h);
            assert!((f64::from(*c) - t.cos()).abs() < 6e-7, "cos {t}: {c}");
            assert!((f64::from(*d) - t.sin()).abs() < 6e-7, "sin {t}: {d}");
        }
    }

    #[test]
    fn far_values_stay_on_the_circle() {
        let h = [1e4, -1e4, 1e8, -1e30, f32::MAX, f32::MIN, 0.0, -0.0].repeat(8);
        let (mut c, mut d) = (vec![0.0; h.len()], vec![0.0; h.len()]);
        pulp::Arch::new().dispatch(CosSin(&h, &mut c, &mut d));
        for (c, d) in c.iter().zip(&d) {
            assert!((c * c + d * d - 1.0).abs() < 1e-4, "{c} {d}");
        }
    }
}
