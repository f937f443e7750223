//! Row-wise passes of layer norm and batch norm, with x̂ = (x − mean)·rstd and rstd = 1/√(variance + ε).
//!
//! NaN and ±∞ give what burn's own operations give for them.

use pulp::Simd;

use crate::simd::{load, simd_fn, store};

/// Elements for each word of a ReLU mask.
pub(crate) const MASK_BITS: usize = 16;

/// `out` = x̂·`gamma` + `beta` for one row.
#[inline(always)]
fn apply<S: Simd>(
    s: S,
    x: &[f32],
    [mean, rstd]: [S::f32s; 2],
    gamma: &[f32],
    beta: &[f32],
    out: &mut [f32],
) {
    for at in (0..x.len()).step_by(S::F32_LANES) {
        let xhat = s.mul_f32s(s.sub_f32s(load(s, x, at), mean), rstd);
        store(s, out, at, s.mul_add_f32s(xhat, load(s, gamma, at), load(s, beta, at)));
    }
}

simd_fn! {
    /// Layer norm of each row of `x`; `stats` takes mean and rstd of each row.
    fn layer_norm<'a>(
        x: &'a [f32],
        gamma: &'a [f32],
        beta: &'a [f32],
        epsilon: f32,
        out: &'a mut [f32],
        stats: &'a mut [f32],
    ) |s| {
        let (width, lanes) = (gamma.len(), S::F32_LANES);
        let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for ((x, out), stats) in rows.zip(stats.chunks_exact_mut(2)) {
            let mut sum = s.splat_f32s(0.0);
            for at in (0..width).step_by(lanes) {
                sum = s.add_f32s(sum, load(s, x, at));
            }
            let mean = s.reduce_sum_f32s(sum) / width as f32;
            let centre = s.splat_f32s(mean);
            let mut squares = s.splat_f32s(0.0);
            let whole = width / lanes * lanes;
            for at in (0..whole).step_by(lanes) {
                let d = s.sub_f32s(load(s, x, at), centre);
                squares = s.mul_add_f32s(d, d, squares);
            }
            let rest: f32 = x[whole..].iter().map(|x| (x - mean) * (x - mean)).sum();
            let variance = (s.reduce_sum_f32s(squares) + rest) / width as f32;
            let rstd = 1.0 / (variance + epsilon).sqrt();
            stats[0] = mean;
            stats[1] = rstd;
            let rstd = s.splat_f32s(rstd);
            apply(s, x, [centre, rstd], gamma, beta, out);
        }
    }
}

simd_fn! {
    /// [`layer_norm`] recomputed from its `stats`.
    fn layer_norm_recompute<'a>(
        x: &'a [f32],
        stats: &'a [f32],
        gamma: &'a [f32],
        beta: &'a [f32],
        out: &'a mut [f32],
    ) |s| {
        let width = gamma.len();
        let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for ((x, out), stats) in rows.zip(stats.chunks_exact(2)) {
            let (mean, rstd) = (s.splat_f32s(stats[0]), s.splat_f32s(stats[1]));
            apply(s, x, [mean, rstd], gamma, beta, out);
        }
    }
}

simd_fn! {
    /// Gradients of [`layer_norm`] from that of its output: writes `dx` (+ `residual`, if any), adds to
    /// `dgamma` and `dbeta`.
    fn layer_norm_backward<'a>(
        dy: &'a [f32],
        x: &'a [f32],
        stats: &'a [f32],
        gamma: &'a [f32],
        residual: Option<&'a [f32]>,
        dx: &'a mut [f32],
        dgamma: &'a mut [f32],
        dbeta: &'a mut [f32],
    ) |s| {
        let (width, lanes) = (gamma.len(), S::F32_LANES);
        let rows = dy.chunks_exact(width).zip(x.chunks_exact(width));
        let rows = rows.zip(dx.chunks_exact_mut(width)).zip(stats.chunks_exact(2));
        for (row, (((dy, x), dx), stats)) in rows.enumerate() {
            let residual = residual.map(|all| &all[row * width..][..width]);
            let (mean, rstd) = (s.splat_f32s(stats[0]), s.splat_f32s(stats[1]));
            let (mut sum, mut dot) = (s.splat_f32s(0.0), s.splat_f32s(0.0));
            for at in (0..width).step_by(lanes) {
                let dy = load(s, dy, at);
                let xhat = s.mul_f32s(s.sub_f32s(load(s, x, at), mean), rstd);
                let dxhat = s.mul_f32s(dy, load(s, gamma, at));
                sum = s.add_f32s(sum, dxhat);
                dot = s.mul_add_f32s(dxhat, xhat, dot);
                let total = s.mul_add_f32s(dy, xhat, load(s, dgamma, at));
                store(s, dgamma, at, total);
                let total = s.add_f32s(dy, load(s, dbeta, at));
                store(s, dbeta, at, total);
            }
            let sum = s.splat_f32s(s.reduce_sum_f32s(sum) / width as f32);
            let dot = s.splat_f32s(-s.reduce_sum_f32s(dot) / width as f32);
            for at in (0..width).step_by(lanes) {
                let xhat = s.mul_f32s(s.sub_f32s(load(s, x, at), mean), rstd);
                let dxhat = s.mul_f32s(load(s, dy, at), load(s, gamma, at));
                let d = s.mul_add_f32s(xhat, dot, s.sub_f32s(dxhat, sum));
                let d = match residual {
                    Some(residual) => s.mul_add_f32s(d, rstd, load(s, residual, at)),
                    None => s.mul_f32s(d, rstd),
                };
                store(s, dx, at, d);
            }
        }
    }
}

simd_fn! {
    /// `sums` += (x − `mean`)² for every row of `x`
    fn add_squared_deviations<'a>(x: &'a [f32], mean: &'a [f32], sums: &'a mut [f32]) |s| {
        for x in x.chunks_exact(sums.len()) {
            for at in (0..sums.len()).step_by(S::F32_LANES) {
                let d = s.sub_f32s(load(s, x, at), load(s, mean, at));
                let sum = s.mul_add_f32s(d, d, load(s, sums, at));
                store(s, sums, at, sum);
            }
        }
    }
}

simd_fn! {
    /// `out` = f(`scale`·`x` + `shift` + `residual`), f being ReLU or nothing.
    fn scale_shift<'a>(
        x: &'a [f32],
        scale: &'a [f32],
        shift: &'a [f32],
        residual: Option<&'a [f32]>,
        relu: bool,
        out: &'a mut [f32],
    ) |s| {
        let (width, zero) = (scale.len(), s.splat_f32s(0.0));
        let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for (row, (x, out)) in rows.enumerate() {
            let residual = residual.map(|all| &all[row * width..][..width]);
            for at in (0..width).step_by(S::F32_LANES) {
                let mut y = s.mul_add_f32s(load(s, x, at), load(s, scale, at), load(s, shift, at));
                if let Some(residual) = residual {
                    y = s.add_f32s(y, load(s, residual, at));
                }
                if relu {
                    // A maximum would give 0 for NaN on x86.
                    y = s.select_f32s(s.less_than_or_equal_f32s(y, zero), zero, y);
                }
                store(s, out, at, y);
            }
        }
    }
}

simd_fn! {
    /// The gradient of [`scale_shift`] before f, without a residual: `dy` where the pre-activation is
    /// positive or NaN, 0 elsewhere; `dy` everywhere without `relu`.
    fn scale_shift_backward<'a>(
        dy: &'a [f32],
        x: &'a [f32],
        scale: &'a [f32],
        shift: &'a [f32],
        relu: bool,
        out: &'a mut [f32],
    ) |s| {
        let (width, zero) = (scale.len(), s.splat_f32s(0.0));
        if !relu {
            out.copy_from_slice(dy);
            return;
        }
        let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for ((x, out), dy) in rows.zip(dy.chunks_exact(width)) {
            for at in (0..width).step_by(S::F32_LANES) {
                let y = s.mul_add_f32s(load(s, x, at), load(s, scale, at), load(s, shift, at));
                let closed = s.less_than_or_equal_f32s(y, zero);
                store(s, out, at, s.select_f32s(closed, zero, load(s, dy, at)));
            }
        }
    }
}

simd_fn! {
    /// A bit for each element of `y`, from the lowest bit of each word on: whether it is positive or NaN.
    fn relu_mask<'a>(y: &'a [f32], mask: &'a mut [u16]) |_s| {
        for (word, y) in mask.iter_mut().zip(y.chunks(MASK_BITS)) {
            let mut bits = 0;
            for (i, y) in y.iter().enumerate() {
                bits |= u16::from(*y > 0.0 || y.is_nan()) << i;
            }
            *word = bits;
        }
    }
}

simd_fn! {
    /// `out` = `dy` where [`relu_mask`] set a bit, 0 elsewhere
    fn apply_relu_mask<'a>(dy: &'a [f32], mask: &'a [u16], out: &'a mut [f32]) |_s| {
        for ((out, dy), word) in out.chunks_mut(MASK_BITS).zip(dy.chunks(MASK_BITS)).zip(mask) {
            for (i, (out, dy)) in out.iter_mut().zip(dy).enumerate() {
                *out = if word >> i & 1 == 1 { *dy } else { 0.0 };
            }
        }
    }
}

simd_fn! {
    /// Gradients of batch norm's parameters: `dgamma` += `d`·x̂, `dbeta` += `d`, summed over rows.
    fn add_batch_norm_sums<'a>(
        d: &'a [f32],
        x: &'a [f32],
        mean: &'a [f32],
        rstd: &'a [f32],
        dgamma: &'a mut [f32],
        dbeta: &'a mut [f32],
    ) |s| {
        let width = mean.len();
        for (d, x) in d.chunks_exact(width).zip(x.chunks_exact(width)) {
            for at in (0..width).step_by(S::F32_LANES) {
                let d = load(s, d, at);
                let xhat = s.sub_f32s(load(s, x, at), load(s, mean, at));
                let xhat = s.mul_f32s(xhat, load(s, rstd, at));
                let sum = s.mul_add_f32s(d, xhat, load(s, dgamma, at));
                store(s, dgamma, at, sum);
                let sum = s.add_f32s(d, load(s, dbeta, at));
                store(s, dbeta, at, sum);
            }
        }
    }
}

simd_fn! {
    /// The gradient of batch norm's input: `dx` = `scale`·(`d` − `mean_d` − x̂·`mean_dxhat`), the means of `d`
    /// and `d`·x̂ over rows being 0 where mean and variance are constants.
    fn batch_norm_backward<'a>(
        d: &'a [f32],
        x: &'a [f32],
        mean: &'a [f32],
        rstd: &'a [f32],
        scale: &'a [f32],
        mean_dxhat: &'a [f32],
        mean_d: &'a [f32],
        dx: &'a mut [f32],
    ) |s| {
        let width = mean.len();
        let rows = d.chunks_exact(width).zip(x.chunks_exact(width));
        for ((d, x), dx) in rows.zip(dx.chunks_exact_mut(width)) {
            for at in (0..width).step_by(S::F32_LANES) {
                let xhat = s.sub_f32s(load(s, x, at), load(s, mean, at));
                let xhat = s.mul_f32s(xhat, load(s, rstd, at));
                let d = s.sub_f32s(load(s, d, at), load(s, mean_d, at));
                let d = s.sub_f32s(d, s.mul_f32s(xhat, load(s, mean_dxhat, at)));
                store(s, dx, at, s.mul_f32s(d, load(s, scale, at)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relu_passes_nan_and_its_mask_agrees() {
        for width in [1, 3, 16, 19] {
            let values = [1.0, -1.0, 0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40];
            let x: Vec<f32> = (0..3 * width).map(|i| values[i % values.len()]).collect();
            let (scale, shift) = (vec![1.0; width], vec![0.0; width]);
            let mut y = vec![7.0; x.len()];
            scale_shift(&x, &scale, &shift, None, true, &mut y);
            let dy = vec![2.0; x.len()];
            let (mut dx, mut masked) = (vec![7.0; x.len()], vec![7.0; x.len()]);
            scale_shift_backward(&dy, &x, &scale, &shift, true, &mut dx);
            let mut mask = vec![0; x.len().div_ceil(MASK_BITS)];
            relu_mask(&y, &mut mask);
            apply_relu_mask(&dy, &mask, &mut masked);
            for (i, x) in x.iter().enumerate() {
                let passes = *x > 0.0 || x.is_nan();
                assert!(y[i].is_nan() == x.is_nan(), "{x}");
                if !x.is_nan() {
                    assert_eq!(y[i].to_bits(), if passes { x.to_bits() } else { 0 }, "{x}");
                }
                assert_eq!(dx[i], if passes { 2.0 } else { 0.0 }, "{x}");
                assert_eq!(masked[i], dx[i], "{x}");
            }
        }
    }
}
