//! Elementwise and row-wise passes, in vectors of whatever width the processor has.
//!
//! Nothing here is a closure: one would not inherit the instruction set it is called under, and its
//! vector instructions would become function calls.

mod norms;

use pulp::{Simd, WithSimd};

use crate::unit::rounded;

pub(crate) use norms::*;

/// The environment variable that may ask for narrower vectors than the widest; see [`NARROWER`].
pub const SIMD_VARIABLE: &str = "LEJEPA_SIMD";

/// What [`SIMD_VARIABLE`] may ask for: vectors of AVX2, or none.
///
/// ```
/// assert_eq!(lejepa_kernels::SIMD_VARIABLE, "LEJEPA_SIMD");
/// assert_eq!(lejepa_kernels::NARROWER, ["avx2", "scalar"]);
/// ```
pub const NARROWER: [&str; 2] = ["avx2", "scalar"];

/// The widest vectors this processor has, found once, unless [`SIMD_VARIABLE`] asks for narrower ones, to
/// compare or to repeat what another processor does. A word there that means nothing is as none.
///
/// ```
/// use pulp::{Simd, WithSimd};
///
/// struct Lanes;
///
/// impl WithSimd for Lanes {
///     type Output = usize;
///     fn with_simd<S: Simd>(self, _: S) -> usize {
///         S::F32_LANES
///     }
/// }
///
/// assert!(lejepa_kernels::arch().dispatch(Lanes) >= 1);
/// ```
pub fn arch() -> pulp::Arch {
    static ARCH: std::sync::OnceLock<pulp::Arch> = std::sync::OnceLock::new();
    *ARCH.get_or_init(|| match std::env::var(SIMD_VARIABLE).as_deref() {
        Ok(word) if word == NARROWER[1] => pulp::Arch::Scalar,
        #[cfg(target_arch = "x86_64")]
        Ok(word) if word == NARROWER[0] => {
            pulp::x86::V3::try_new().map_or(pulp::Arch::Scalar, pulp::Arch::V3)
        }
        _ => pulp::Arch::new(),
    })
}

/// The values from `at` to the end of the vector or of the slice; 0 beyond.
#[inline(always)]
pub(crate) fn load<S: Simd>(s: S, x: &[f32], at: usize) -> S::f32s {
    if at + S::F32_LANES <= x.len() {
        S::as_simd_f32s(&x[at..at + S::F32_LANES]).0[0]
    } else {
        s.partial_load_f32s(&x[at..])
    }
}

#[inline(always)]
pub(crate) fn store<S: Simd>(s: S, x: &mut [f32], at: usize, value: S::f32s) {
    if at + S::F32_LANES <= x.len() {
        S::as_mut_simd_f32s(&mut x[at..at + S::F32_LANES]).0[0] = value;
    } else {
        s.partial_store_f32s(&mut x[at..], value);
    }
}

/// e^x to about 2e-7 of itself; below −87 held at e^−87, above 88 at e^88.
///
/// x = n·ln 2 + r with whole n, ln 2 in two parts (Cody and Waite 1980); e^r by its series to r⁶,
/// |r| ≤ 0.35; 2^n by adding n to the exponent.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    let c = |x: f32| s.splat_f32s(x);
    let x = s.max_f32s(s.min_f32s(x, c(88.0)), c(-87.0));
    // Adding 1.5·2^23 leaves the nearest whole number in the low bits.
    let magic = c(12_582_912.0);
    let shifted = s.mul_add_f32s(x, c(std::f32::consts::LOG2_E), magic);
    let n = s.sub_f32s(shifted, magic);
    let r = s.mul_add_f32s(n, c(-0.693_359_4), x);
    let r = s.mul_add_f32s(n, c(2.121_944_4e-4), r);
    let p = s.mul_add_f32s(r, c(1.0 / 720.0), c(1.0 / 120.0));
    let p = s.mul_add_f32s(p, r, c(1.0 / 24.0));
    let p = s.mul_add_f32s(p, r, c(1.0 / 6.0));
    let p = s.mul_add_f32s(p, r, c(0.5));
    let p = s.mul_add_f32s(p, r, c(1.0));
    let p = s.mul_add_f32s(p, r, c(1.0));
    let power = s.wrapping_dyn_shl_u32s(s.transmute_u32s_f32s(shifted), s.splat_u32s(23));
    s.transmute_f32s_u32s(s.add_u32s(s.transmute_u32s_f32s(p), power))
}

/// GELU(u) = u·Φ(u) and its derivative Φ(u) + u·φ(u), Φ to 1e-7.
///
/// Φ of negative numbers by Abramowitz and Stegun 7.1.26; e^(−u²/2) serves it and φ alike.
#[inline(always)]
fn gelu<S: Simd>(s: S, u: S::f32s) -> (S::f32s, S::f32s) {
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

/// Defines a function whose body runs with the widest vectors, `$s`.
macro_rules! pass {
    ($(#[$doc:meta])* fn $name:ident<$a:lifetime>($($field:ident: $type:ty),* $(,)?) |$s:ident| $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, clippy::needless_lifetimes)]
        pub(crate) fn $name<$a>($($field: $type),*) {
            struct Pass<$a> { $($field: $type),* }
            impl WithSimd for Pass<'_> {
                type Output = ();
                #[inline(always)]
                fn with_simd<S: Simd>(self, $s: S) {
                    let Self { $($field),* } = self;
                    $body
                }
            }
            arch().dispatch(Pass { $($field),* });
        }
    };
}
use pass;

pass! {
    /// `out` = GELU(`u`)
    fn gelu_forward<'a>(u: &'a [f32], out: &'a mut [f32]) |s| {
        for at in (0..u.len()).step_by(S::F32_LANES) {
            let (value, _) = gelu(s, load(s, u, at));
            store(s, out, at, value);
        }
    }
}

pass! {
    /// `out` = GELU(`u`), and `d` times its derivative.
    fn gelu_back<'a>(u: &'a [f32], d: &'a mut [f32], out: &'a mut [f32]) |s| {
        for at in (0..u.len()).step_by(S::F32_LANES) {
            let (value, slope) = gelu(s, load(s, u, at));
            store(s, out, at, value);
            let slope = s.mul_f32s(slope, load(s, d, at));
            store(s, d, at, slope);
        }
    }
}

pass! {
    /// Softmax of `scale` times each row; `logs` takes the logarithm of the sum of exponentials.
    fn softmax<'a>(x: &'a mut [f32], width: usize, scale: f32, logs: &'a mut [f32]) |s| {
        let lanes = S::F32_LANES;
        for (x, log) in x.chunks_exact_mut(width).zip(logs) {
            let whole = width / lanes * lanes;
            let mut most = s.splat_f32s(f32::NEG_INFINITY);
            for at in (0..whole).step_by(lanes) {
                most = s.max_f32s(most, load(s, x, at));
            }
            let most = x[whole..].iter().fold(s.reduce_max_f32s(most), |a, b| a.max(*b));
            let (shift, factor) = (s.splat_f32s(-most * scale), s.splat_f32s(scale));
            let mut sum = s.splat_f32s(0.0);
            for at in (0..width).step_by(lanes) {
                let e = exp(s, s.mul_add_f32s(load(s, x, at), factor, shift));
                store(s, x, at, e);
                // Read again: beyond the row's end there is 0 instead of the exponential of 0.
                sum = s.add_f32s(sum, load(s, x, at));
            }
            let sum = s.reduce_sum_f32s(sum);
            *log = most * scale + sum.ln();
            let share = s.splat_f32s(1.0 / sum);
            for at in (0..width).step_by(lanes) {
                let e = s.mul_f32s(load(s, x, at), share);
                store(s, x, at, e);
            }
        }
    }
}

pass! {
    /// [`softmax`] again, by the logarithms that it left.
    fn softmax_again<'a>(x: &'a mut [f32], width: usize, scale: f32, logs: &'a [f32]) |s| {
        let factor = s.splat_f32s(scale);
        for (x, log) in x.chunks_exact_mut(width).zip(logs) {
            let shift = s.splat_f32s(-log);
            for at in (0..width).step_by(S::F32_LANES) {
                let e = exp(s, s.mul_add_f32s(load(s, x, at), factor, shift));
                store(s, x, at, e);
            }
        }
    }
}

pass! {
    /// From softmax `p` of `scale` times x and its gradient `d`: that of x, in place of `d`. `dots`
    /// are the sums of `p`·`d` of each row.
    fn softmax_back<'a>(p: &'a [f32], d: &'a mut [f32], width: usize, scale: f32, dots: &'a [f32]) |s| {
        let factor = s.splat_f32s(scale);
        for ((p, d), dot) in p.chunks_exact(width).zip(d.chunks_exact_mut(width)).zip(dots) {
            let dot = s.splat_f32s(*dot);
            for at in (0..width).step_by(S::F32_LANES) {
                let p = s.mul_f32s(load(s, p, at), factor);
                let back = s.mul_f32s(p, s.sub_f32s(load(s, d, at), dot));
                store(s, d, at, back);
            }
        }
    }
}

pass! {
    /// `out` = the sum of `a`·`b` over `width` values from `first` of each row of `stride` values.
    fn dots<'a>(a: &'a [f32], b: &'a [f32], stride: usize, first: usize, width: usize, out: &'a mut [f32]) |s| {
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

pass! {
    /// Adds every row of `x` to `sums`.
    fn add_rows<'a>(x: &'a [f32], sums: &'a mut [f32]) |s| {
        for x in x.chunks_exact(sums.len()) {
            for at in (0..sums.len()).step_by(S::F32_LANES) {
                let sum = s.add_f32s(load(s, x, at), load(s, sums, at));
                store(s, sums, at, sum);
            }
        }
    }
}

pass! {
    /// Every row of `out` = that of `x` + `bias`.
    fn plus_row<'a>(x: &'a [f32], bias: &'a [f32], out: &'a mut [f32]) |s| {
        let rows = x.chunks_exact(bias.len()).zip(out.chunks_exact_mut(bias.len()));
        for (x, out) in rows {
            for at in (0..bias.len()).step_by(S::F32_LANES) {
                store(s, out, at, s.add_f32s(load(s, x, at), load(s, bias, at)));
            }
        }
    }
}

pass! {
    /// `out` = `x` rounded to bf16.
    fn halve<'a>(x: &'a [f32], out: &'a mut [u16]) |_s| {
        for (out, x) in out.iter_mut().zip(x) {
            *out = rounded(*x) as u16;
        }
    }
}

pass! {
    /// `out` = bf16 `x`.
    fn widen<'a>(x: &'a [u16], out: &'a mut [f32]) |_s| {
        for (out, x) in out.iter_mut().zip(x) {
            *out = f32::from_bits(u32::from(*x) << 16);
        }
    }
}

pass! {
    /// One step of AdamW: decay of the weights to `keep` of them, moments over `corrections`.
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

/// Every row of `out` = `row`.
pub(crate) fn repeat_row(row: &[f32], out: &mut [f32]) {
    out.chunks_exact_mut(row.len()).for_each(|out| out.copy_from_slice(row));
}

/// `sums` += `x`
pub(crate) fn add(x: &[f32], sums: &mut [f32]) {
    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Φ by the continued series, in 64 bits.
    fn normal(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for i in 1..200 {
            term *= x * x / f64::from(2 * i + 1);
            sum += term;
        }
        0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    #[test]
    fn gelu_and_its_derivative_are_right() {
        let u: Vec<f32> = (-600..=600).map(|i| i as f32 * 0.01).collect();
        let (mut value, mut slope) = (vec![0.0; u.len()], vec![1.0; u.len()]);
        gelu_back(&u, &mut slope, &mut value);
        for ((u, value), slope) in u.iter().zip(&value).zip(&slope) {
            let u = f64::from(*u);
            let density = (-0.5 * u * u).exp() / (2.0 * std::f64::consts::PI).sqrt();
            assert!((f64::from(*value) - u * normal(u)).abs() < 1e-6, "GELU({u}) = {value}");
            assert!((f64::from(*slope) - normal(u) - u * density).abs() < 1e-6, "at {u}: {slope}");
        }
    }

    #[test]
    fn softmax_is_right_for_any_width_and_size() {
        for width in [1, 3, 16, 37, 64] {
            for scale in [1e-3, 1.0, 300.0] {
                let x: Vec<f32> =
                    (0..3 * width).map(|i| ((i * 7919) % 101) as f32 / 50.0 - 1.0).collect();
                let (mut p, mut logs) = (x.clone(), vec![0.0; 3]);
                softmax(&mut p, width, scale, &mut logs);
                let mut again = x.clone();
                softmax_again(&mut again, width, scale, &logs);
                for (row, x) in x.chunks(width).enumerate() {
                    let x: Vec<f64> = x.iter().map(|x| f64::from(*x) * f64::from(scale)).collect();
                    let most = x.iter().copied().fold(f64::MIN, f64::max);
                    let sum: f64 = x.iter().map(|x| (x - most).exp()).sum();
                    for (i, x) in x.iter().enumerate() {
                        let want = (x - most).exp() / sum;
                        let at = row * width + i;
                        assert!((f64::from(p[at]) - want).abs() < 2e-6, "{width} {scale}");
                        // The logarithm has fewer digits where it is large.
                        assert!((f64::from(again[at]) - want).abs() < 1e-4, "{width} {scale}");
                    }
                }
            }
        }
    }
}
