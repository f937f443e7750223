//! Elementwise and row-wise passes: exponential, GELU, softmax, bias, bf16 conversion, AdamW.
//!
//! NaN and ±∞ give what burn's own operations give for them.

use pulp::Simd;

use crate::bf16::round_to_bf16;
use crate::simd::{load, simd_fn, store};

/// e^x with a relative error of about 2e-7. Finite arguments are clamped to [−87, 88]; e^−∞ = 0, e^∞ = ∞,
/// e^NaN = NaN.
///
/// x = n·ln 2 + r with integer n, ln 2 in two parts (Cody and Waite 1980); e^r by its series to r⁶,
/// |r| ≤ 0.35; 2^n by adding n to the exponent.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    let c = |x: f32| s.splat_f32s(x);
    // The clamp loses NaN on some processors; the selects at the end restore it.
    let clamped = s.max_f32s(s.min_f32s(x, c(88.0)), c(-87.0));
    // Adding 1.5·2^23 leaves the nearest integer in the low bits.
    let magic = c(12_582_912.0);
    let shifted = s.mul_add_f32s(clamped, c(std::f32::consts::LOG2_E), magic);
    let n = s.sub_f32s(shifted, magic);
    let r = s.mul_add_f32s(n, c(-0.693_359_4), clamped);
    let r = s.mul_add_f32s(n, c(2.121_944_4e-4), r);
    let p = s.mul_add_f32s(r, c(1.0 / 720.0), c(1.0 / 120.0));
    let p = s.mul_add_f32s(p, r, c(1.0 / 24.0));
    let p = s.mul_add_f32s(p, r, c(1.0 / 6.0));
    let p = s.mul_add_f32s(p, r, c(0.5));
    let p = s.mul_add_f32s(p, r, c(1.0));
    let p = s.mul_add_f32s(p, r, c(1.0));
    let power = s.wrapping_dyn_shl_u32s(s.transmute_u32s_f32s(shifted), s.splat_u32s(23));
    let e = s.transmute_f32s_u32s(s.add_u32s(s.transmute_u32s_f32s(p), power));
    let e = s.select_f32s(s.less_than_f32s(x, c(f32::MIN)), c(0.0), e);
    s.select_f32s(s.less_than_or_equal_f32s(x, c(f32::MAX)), e, x)
}

/// GELU(u) = u·Φ(u) and its derivative Φ(u) + u·φ(u), Φ with an error of 1e-7.
///
/// Φ of negative arguments by Abramowitz and Stegun 7.1.26; e^(−u²/2) serves it and φ.
#[inline(always)]
fn gelu_and_derivative<S: Simd>(s: S, u: S::f32s) -> (S::f32s, S::f32s) {
    let c = |x: f32| s.splat_f32s(x);
    let size = s.abs_f32s(u);
    let e = exp(s, s.mul_f32s(s.mul_f32s(u, u), c(-0.5)));
    let t = s.mul_add_f32s(size, c(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2), c(1.0));
    let t = s.div_f32s(c(1.0), t);
    let p = s.mul_add_f32s(t, c(0.5 * 1.061_405_4), c(0.5 * -1.453_152));
    let p = s.mul_add_f32s(p, t, c(0.5 * 1.421_413_8));
    let p = s.mul_add_f32s(p, t, c(0.5 * -0.284_496_74));
    let p = s.mul_add_f32s(p, t, c(0.5 * 0.254_829_6));
    let tail = s.mul_f32s(s.mul_f32s(p, t), e);
    let phi = s.select_f32s(s.less_than_f32s(u, c(0.0)), tail, s.sub_f32s(c(1.0), tail));
    let density = s.mul_f32s(s.mul_f32s(u, e), c(0.398_942_3));
    (s.mul_f32s(u, phi), s.add_f32s(phi, density))
}

simd_fn! {
    /// `out` = GELU(`u`)
    fn gelu<'a>(u: &'a [f32], out: &'a mut [f32]) |s| {
        for at in (0..u.len()).step_by(S::F32_LANES) {
            let (value, _) = gelu_and_derivative(s, load(s, u, at));
            store(s, out, at, value);
        }
    }
}

simd_fn! {
    /// `out` = GELU(`u`); `d` *= GELU'(`u`).
    fn gelu_backward<'a>(u: &'a [f32], d: &'a mut [f32], out: &'a mut [f32]) |s| {
        for at in (0..u.len()).step_by(S::F32_LANES) {
            let (value, slope) = gelu_and_derivative(s, load(s, u, at));
            store(s, out, at, value);
            let slope = s.mul_f32s(slope, load(s, d, at));
            store(s, d, at, slope);
        }
    }
}

simd_fn! {
    /// Softmax of `scale` times each row, in place; `logsumexp` takes the logarithm of the sum of
    /// exponentials of each row. A row that contains NaN or ∞, or −∞ alone, becomes NaN.
    fn softmax<'a>(x: &'a mut [f32], width: usize, scale: f32, logsumexp: &'a mut [f32]) |s| {
        let lanes = S::F32_LANES;
        for (x, logsumexp) in x.chunks_exact_mut(width).zip(logsumexp) {
            let whole = width / lanes * lanes;
            let mut max = s.splat_f32s(f32::NEG_INFINITY);
            for at in (0..whole).step_by(lanes) {
                // The maximum skips NaNs (in this order of operands on x86); their exponential is NaN.
                max = s.max_f32s(load(s, x, at), max);
            }
            let max = x[whole..].iter().fold(s.reduce_max_f32s(max), |a, b| a.max(*b));
            let (shift, factor) = (s.splat_f32s(-max * scale), s.splat_f32s(scale));
            let mut sum = s.splat_f32s(0.0);
            for at in (0..width).step_by(lanes) {
                let e = exp(s, s.mul_add_f32s(load(s, x, at), factor, shift));
                store(s, x, at, e);
                // Loaded again, so that lanes beyond the end of the row are 0 rather than e^shift.
                sum = s.add_f32s(sum, load(s, x, at));
            }
            let sum = s.reduce_sum_f32s(sum);
            *logsumexp = max * scale + sum.ln();
            let share = s.splat_f32s(1.0 / sum);
            for at in (0..width).step_by(lanes) {
                let e = s.mul_f32s(load(s, x, at), share);
                store(s, x, at, e);
            }
        }
    }
}

simd_fn! {
    /// [`softmax`] recomputed from its `logsumexp`: e^(`scale`·x − logsumexp), in place.
    fn softmax_recompute<'a>(x: &'a mut [f32], width: usize, scale: f32, logsumexp: &'a [f32]) |s| {
        let factor = s.splat_f32s(scale);
        for (x, logsumexp) in x.chunks_exact_mut(width).zip(logsumexp) {
            let shift = s.splat_f32s(-logsumexp);
            for at in (0..width).step_by(S::F32_LANES) {
                let e = exp(s, s.mul_add_f32s(load(s, x, at), factor, shift));
                store(s, x, at, e);
            }
        }
    }
}

simd_fn! {
    /// `dp` = `scale`·`p`·(`dp` − `dots`): the gradient of softmax's input from its output `p`, the gradient
    /// `dp` of that, and the sum `dots` of `p`·`dp` over each row.
    fn softmax_backward<'a>(p: &'a [f32], dp: &'a mut [f32], width: usize, scale: f32, dots: &'a [f32]) |s| {
        let factor = s.splat_f32s(scale);
        for ((p, dp), dot) in p.chunks_exact(width).zip(dp.chunks_exact_mut(width)).zip(dots) {
            let dot = s.splat_f32s(*dot);
            for at in (0..width).step_by(S::F32_LANES) {
                let p = s.mul_f32s(load(s, p, at), factor);
                let dx = s.mul_f32s(p, s.sub_f32s(load(s, dp, at), dot));
                store(s, dp, at, dx);
            }
        }
    }
}

simd_fn! {
    /// `out` = Σ `a`·`b` over columns `first` to `first + width` of each row of `stride` values.
    fn row_dots<'a>(a: &'a [f32], b: &'a [f32], stride: usize, first: usize, width: usize, out: &'a mut [f32]) |s| {
        for ((a, b), out) in a.chunks_exact(stride).zip(b.chunks_exact(stride)).zip(out) {
            let (a, b) = (&a[first..first + width], &b[first..first + width]);
            let mut sum = s.splat_f32s(0.0);
            for at in (0..width).step_by(S::F32_LANES) {
                sum = s.mul_add_f32s(load(s, a, at), load(s, b, at), sum);
            }
            *out = s.reduce_sum_f32s(sum);
        }
    }
}

simd_fn! {
    /// `sums` += every row of `x`
    fn add_rows<'a>(x: &'a [f32], sums: &'a mut [f32]) |s| {
        for x in x.chunks_exact(sums.len()) {
            for at in (0..sums.len()).step_by(S::F32_LANES) {
                let sum = s.add_f32s(load(s, x, at), load(s, sums, at));
                store(s, sums, at, sum);
            }
        }
    }
}

simd_fn! {
    /// Every row of `out` = that of `x` + `bias`
    fn add_bias<'a>(x: &'a [f32], bias: &'a [f32], out: &'a mut [f32]) |s| {
        let rows = x.chunks_exact(bias.len()).zip(out.chunks_exact_mut(bias.len()));
        for (x, out) in rows {
            for at in (0..bias.len()).step_by(S::F32_LANES) {
                store(s, out, at, s.add_f32s(load(s, x, at), load(s, bias, at)));
            }
        }
    }
}

simd_fn! {
    /// `out` = `x`, rounded to bf16
    fn narrow<'a>(x: &'a [f32], out: &'a mut [u16]) |_s| {
        for (out, x) in out.iter_mut().zip(x) {
            *out = round_to_bf16(*x) as u16;
        }
    }
}

simd_fn! {
    /// `out` = `x`, which is bf16
    fn widen<'a>(x: &'a [u16], out: &'a mut [f32]) |_s| {
        for (out, x) in out.iter_mut().zip(x) {
            *out = f32::from_bits(u32::from(*x) << 16);
        }
    }
}

simd_fn! {
    /// One step of AdamW; `keep` is what weight decay leaves of a weight, `corrections` the bias corrections
    /// of both moments.
    fn adamw<'a>(
        w: &'a mut [f32],
        g: &'a [f32],
        m: &'a mut [f32],
        v: &'a mut [f32],
        betas: [f32; 2],
        keep: f32,
        lr: f32,
        epsilon: f32,
        corrections: [f32; 2],
    ) |s| {
        let c = [betas[0], betas[1], 1.0 - betas[0], 1.0 - betas[1]];
        let [b1, b2] = [s.splat_f32s(c[0]), s.splat_f32s(c[1])];
        let [c1, c2] = [s.splat_f32s(c[2]), s.splat_f32s(c[3])];
        let [keep, lr] = [s.splat_f32s(keep), s.splat_f32s(-lr)];
        let epsilon = s.splat_f32s(epsilon);
        let [r1, r2] = [s.splat_f32s(1.0 / corrections[0]), s.splat_f32s(1.0 / corrections[1])];
        for at in (0..w.len()).step_by(S::F32_LANES) {
            let g = load(s, g, at);
            let first = s.mul_add_f32s(load(s, m, at), b1, s.mul_f32s(g, c1));
            let second = s.mul_add_f32s(load(s, v, at), b2, s.mul_f32s(s.mul_f32s(g, g), c2));
            store(s, m, at, first);
            store(s, v, at, second);
            let root = s.add_f32s(s.sqrt_f32s(s.mul_f32s(second, r2)), epsilon);
            let step = s.div_f32s(s.mul_f32s(first, r1), root);
            let moved = s.mul_add_f32s(step, lr, s.mul_f32s(load(s, w, at), keep));
            store(s, w, at, moved);
        }
    }
}

/// Every row of `out` = `row`
pub(crate) fn fill_rows(row: &[f32], out: &mut [f32]) {
    out.chunks_exact_mut(row.len()).for_each(|out| out.copy_from_slice(row));
}

/// `sums` += `x`
pub(crate) fn add(x: &[f32], sums: &mut [f32]) {
    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
}

#[cfg(test)]
mod tests {
    use super::*;

    simd_fn! {
        fn exp_of<'a>(x: &'a [f32], out: &'a mut [f32]) |s| {
            for at in (0..x.len()).step_by(S::F32_LANES) {
                store(s, out, at, exp(s, load(s, x, at)));
            }
        }
    }

    /// Φ by its continued series, in 64 bits.
    fn normal(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for i in 1..200 {
            term *= x * x / f64::from(2 * i + 1);
            sum += term;
        }
        0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    #[test]
    fn exp_is_accurate_and_passes_nan_and_infinity() {
        let x: Vec<f32> = (-870..=880).map(|i| i as f32 * 0.1).collect();
        let mut e = vec![0.0; x.len()];
        exp_of(&x, &mut e);
        for (x, e) in x.iter().zip(&e) {
            let want = f64::from(*x).exp();
            assert!((f64::from(*e) - want).abs() < 4e-7 * want, "e^{x} = {e}");
        }
        let nans = [0x7fc0_0000u32, 0xffc0_0000, 0x7f80_0001, 0xffff_ffff, 0x7fff_ffff];
        let mut x = nans.map(f32::from_bits).to_vec();
        x.extend([f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0]);
        // More than a vector, so that both whole vectors and a tail are met.
        let x = x.repeat(5);
        let mut e = vec![0.0; x.len()];
        exp_of(&x, &mut e);
        for e in e.chunks(10) {
            assert!(e[..5].iter().all(|e| e.is_nan()), "{e:?}");
            assert_eq!(e[5..7], [f32::INFINITY, 0.0]);
            assert!(e[7] > 1e38 && e[7].is_finite() && e[8] > 0.0 && e[8] < 2e-38, "{e:?}");
            assert_eq!(e[9], 1.0);
        }
    }

    #[test]
    fn gelu_and_its_derivative_are_accurate() {
        let u: Vec<f32> = (-600..=600).map(|i| i as f32 * 0.01).collect();
        let (mut value, mut slope) = (vec![0.0; u.len()], vec![1.0; u.len()]);
        gelu_backward(&u, &mut slope, &mut value);
        for ((u, value), slope) in u.iter().zip(&value).zip(&slope) {
            let u = f64::from(*u);
            let density = (-0.5 * u * u).exp() / (2.0 * std::f64::consts::PI).sqrt();
            assert!((f64::from(*value) - u * normal(u)).abs() < 1e-6, "GELU({u}) = {value}");
            assert!((f64::from(*slope) - normal(u) - u * density).abs() < 1e-6, "at {u}: {slope}");
        }
        let mut forward = vec![0.0; u.len()];
        gelu(&u, &mut forward);
        assert_eq!(forward, value);
    }

    #[test]
    fn softmax_is_accurate_for_any_width_and_scale() {
        for width in [1, 3, 16, 37, 64] {
            for scale in [1e-3, 1.0, 300.0] {
                let x: Vec<f32> =
                    (0..3 * width).map(|i| ((i * 7919) % 101) as f32 / 50.0 - 1.0).collect();
                let (mut p, mut logsumexp) = (x.clone(), vec![0.0; 3]);
                softmax(&mut p, width, scale, &mut logsumexp);
                let mut again = x.clone();
                softmax_recompute(&mut again, width, scale, &logsumexp);
                for (row, x) in x.chunks(width).enumerate() {
                    let x: Vec<f64> = x.iter().map(|x| f64::from(*x) * f64::from(scale)).collect();
                    let max = x.iter().copied().fold(f64::MIN, f64::max);
                    let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
                    for (i, x) in x.iter().enumerate() {
                        let want = (x - max).exp() / sum;
                        let at = row * width + i;
                        assert!((f64::from(p[at]) - want).abs() < 2e-6, "{width} {scale}");
                        // The logarithm has fewer digits where it is large.
                        assert!((f64::from(again[at]) - want).abs() < 1e-4, "{width} {scale}");
                    }
                }
            }
        }
    }

    #[test]
    fn softmax_passes_nan_and_infinity() {
        for width in [1, 5, 16, 21, 40] {
            for at in [0, width / 2, width - 1] {
                for (value, is_nan) in [
                    (f32::NAN, true),
                    (f32::INFINITY, true),
                    // Alone in its row, −∞ is the maximum.
                    (f32::NEG_INFINITY, width == 1),
                ] {
                    let mut x: Vec<f32> = (0..3 * width).map(|i| (i % 7) as f32 * 0.3).collect();
                    x[width + at] = value;
                    let (mut p, mut logsumexp) = (x.clone(), vec![0.0; 3]);
                    softmax(&mut p, width, 0.5, &mut logsumexp);
                    softmax_recompute(&mut x, width, 0.5, &logsumexp);
                    for p in [&p, &x] {
                        let rows: Vec<&[f32]> = p.chunks(width).collect();
                        assert!(rows[0].iter().chain(rows[2]).all(|p| p.is_finite()));
                        if is_nan {
                            assert!(rows[1].iter().all(|p| p.is_nan()), "{width} {at} {value}");
                        } else {
                            assert_eq!(rows[1][at], 0.0, "{width} {at}");
                            assert!((rows[1].iter().sum::<f32>() - 1.0).abs() < 1e-3);
                        }
                    }
                }
            }
        }
    }
}
