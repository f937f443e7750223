//! The two passes over a tile of projections, in vectors of whatever width the processor has.
//!
//! A tile is `rows` × `width` projections, row by row, `rows` being a multiple of [`ROWS`] and
//! `width` of every vector width. Both passes need e^{ikθ} for k = 1..knots
//! with θ = x·step; it comes from one sine and cosine by rotation, knot after knot.

use pulp::{Simd, WithSimd};

/// Rows that go through the knots together, so that the rotations of one hide the latency of
/// the others.
pub(super) const ROWS: usize = 4;
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
    let h = s.max_f32s(s.min_f32s(h, c(1e5)), c(-1e5));
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

/// a·b − c·d
#[inline(always)]
fn cross<S: Simd>(s: S, a: S::f32s, b: S::f32s, c: S::f32s, d: S::f32s) -> S::f32s {
    s.mul_add_f32s(s.mul_f32s(s.splat_f32s(-1.0), c), d, s.mul_f32s(a, b))
}

/// Sums of cos kθ and sin kθ over the rows of a tile, for each column.
pub(super) struct Sums<'a> {
    pub(super) tile: &'a [f32],
    pub(super) width: usize,
    /// Distance between knots.
    pub(super) step: f32,
    /// `knots × width` each, k from 1.
    pub(super) cos: &'a mut [f32],
    pub(super) sin: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (width, knots) = (self.width, self.cos.len() / self.width);
        let half = s.splat_f32s(0.5 * self.step);
        let lanes = S::F32_LANES;
        let mut part = vec![0f32; 2 * knots * BLOCK];
        self.cos.fill(0.0);
        self.sin.fill(0.0);
        for first in (0..width).step_by(BLOCK) {
            let columns = BLOCK.min(width - first);
            for rows in self.tile.chunks(PARTIAL * width) {
                part.fill(0.0);
                for group in rows.chunks_exact(ROWS * width) {
                    let (parts, _) = S::as_mut_simd_f32s(&mut part);
                    for v in 0..columns / lanes {
                        let at = first + v * lanes;
                        let load =
                            |row: usize| S::as_simd_f32s(&group[row * width + at..][..lanes]).0[0];
                        let slots = parts[v * 2 * knots..][..2 * knots].chunks_exact_mut(2);
                        let e = [0, 1, 2, 3].map(|row| cos_sin(s, s.mul_f32s(load(row), half)));
                        let mut z = e;
                        for slot in slots {
                            let cos =
                                s.add_f32s(s.add_f32s(z[0].0, z[1].0), s.add_f32s(z[2].0, z[3].0));
                            let sin =
                                s.add_f32s(s.add_f32s(z[0].1, z[1].1), s.add_f32s(z[2].1, z[3].1));
                            slot[0] = s.add_f32s(slot[0], cos);
                            slot[1] = s.add_f32s(slot[1], sin);
                            for (z, e) in z.iter_mut().zip(&e) {
                                *z = turn(s, *z, *e);
                            }
                        }
                    }
                }
                for v in 0..columns / lanes {
                    for k in 0..knots {
                        let from = (v * knots + k) * 2 * lanes;
                        let to = k * width + first + v * lanes;
                        for (sum, sign) in [(&mut *self.cos, 0), (&mut *self.sin, lanes)] {
                            for (t, p) in sum[to..to + lanes].iter_mut().zip(&part[from + sign..]) {
                                *t += p;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The product of two numbers on the unit circle.
#[inline(always)]
fn turn<S: Simd>(s: S, z: (S::f32s, S::f32s), e: (S::f32s, S::f32s)) -> (S::f32s, S::f32s) {
    (cross(s, z.0, e.0, z.1, e.1), s.mul_add_f32s(z.0, e.1, s.mul_f32s(z.1, e.0)))
}

/// Replaces every projection x of a tile by Σ_k (b_k cos kθ − a_k sin kθ), k from 1.
pub(super) struct Gradient<'a> {
    pub(super) tile: &'a mut [f32],
    pub(super) width: usize,
    pub(super) step: f32,
    /// `knots × width` each.
    pub(super) a: &'a [f32],
    pub(super) b: &'a [f32],
}

impl WithSimd for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (width, knots) = (self.width, self.a.len() / self.width);
        let half = s.splat_f32s(0.5 * self.step);
        let lanes = S::F32_LANES;
        // Coefficients of a block, in the order in which they are read: from the last knot down.
        let mut terms = vec![0f32; 2 * knots * BLOCK];
        for first in (0..width).step_by(BLOCK) {
            let vectors = BLOCK.min(width - first) / lanes;
            for v in 0..vectors {
                for k in 0..knots {
                    let from = (knots - 1 - k) * width + first + v * lanes;
                    let to = (v * knots + k) * 2 * lanes;
                    terms[to..to + lanes].copy_from_slice(&self.b[from..from + lanes]);
                    terms[to + lanes..to + 2 * lanes].copy_from_slice(&self.a[from..from + lanes]);
                }
            }
            let (terms, _) = S::as_simd_f32s(&terms);
            for group in self.tile.chunks_exact_mut(ROWS * width) {
                for v in 0..vectors {
                    let at = first + v * lanes;
                    let terms = &terms[v * 2 * knots..][..2 * knots];
                    let e = [0, 1, 2, 3].map(|row| {
                        let x = S::as_simd_f32s(&group[row * width + at..][..lanes]).0[0];
                        cos_sin(s, s.mul_f32s(x, half))
                    });
                    let zero = s.splat_f32s(0.0);
                    let mut h = [(zero, zero); ROWS];
                    // The real part of Σ (b + i·a) e^{ikθ}, by Horner's rule.
                    for term in terms.chunks_exact(2) {
                        for (h, e) in h.iter_mut().zip(&e) {
                            *h = (s.add_f32s(h.0, term[0]), s.add_f32s(h.1, term[1]));
                            *h = turn(s, *h, *e);
                        }
                    }
                    for (row, h) in h.iter().enumerate() {
                        S::as_mut_simd_f32s(&mut group[row * width + at..][..lanes]).0[0] = h.0;
                    }
                }
            }
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
