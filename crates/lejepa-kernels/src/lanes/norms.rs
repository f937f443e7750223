//! Layer norm and batch norm, row by row.

use pulp::{Simd, WithSimd};

use super::{arch, load, pass, store};

/// Numbers of which one word of [`signs`] tells.
pub(crate) const SIGNS: usize = 16;

/// `out` = (`x` − mean)·rate·`gamma` + `beta` for one row.
#[inline(always)]
fn apply_norm<S: Simd>(
    s: S,
    x: &[f32],
    [mean, rate]: [S::f32s; 2],
    gamma: &[f32],
    beta: &[f32],
    out: &mut [f32],
) {
    for at in (0..x.len()).step_by(S::F32_LANES) {
        let d = s.mul_f32s(s.sub_f32s(load(s, x, at), mean), rate);
        store(s, out, at, s.mul_add_f32s(d, load(s, gamma, at), load(s, beta, at)));
    }
}

pass! {
    /// Layer norm of each row of `x`; `stats` takes its mean and 1/σ.
    fn normalize<'a>(
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
            let rate = 1.0 / (variance + epsilon).sqrt();
            stats[0] = mean;
            stats[1] = rate;
            let rate = s.splat_f32s(rate);
            apply_norm(s, x, [centre, rate], gamma, beta, out);
        }
    }
}

pass! {
    /// [`normalize`] again, by the means and rates that it left.
    fn normalize_again<'a>(
        x: &'a [f32],
        stats: &'a [f32],
        gamma: &'a [f32],
        beta: &'a [f32],
        out: &'a mut [f32],
    ) |s| {
        let width = gamma.len();
        let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for ((x, out), stats) in rows.zip(stats.chunks_exact(2)) {
            let (mean, rate) = (s.splat_f32s(stats[0]), s.splat_f32s(stats[1]));
            apply_norm(s, x, [mean, rate], gamma, beta, out);
        }
    }
}

pass! {
    /// From the gradient `dy` of [`normalize`]'s result: `dx` is that of its input and what comes from
    /// `beside` it, and those of scale and shift are added to.
    fn normalize_back<'a>(
        dy: &'a [f32],
        x: &'a [f32],
        stats: &'a [f32],
        gamma: &'a [f32],
        beside: Option<&'a [f32]>,
        dx: &'a mut [f32],
        dgamma: &'a mut [f32],
        dbeta: &'a mut [f32],
    ) |s| {
        let (width, lanes) = (gamma.len(), S::F32_LANES);
        let rows = dy.chunks_exact(width).zip(x.chunks_exact(width));
        let rows = rows.zip(dx.chunks_exact_mut(width)).zip(stats.chunks_exact(2));
        for (row, (((dy, x), dx), stats)) in rows.enumerate() {
            let beside = beside.map(|all| &all[row * width..][..width]);
            let (mean, rate) = (s.splat_f32s(stats[0]), s.splat_f32s(stats[1]));
            let (mut sum, mut along) = (s.splat_f32s(0.0), s.splat_f32s(0.0));
            for at in (0..width).step_by(lanes) {
                let dy = load(s, dy, at);
                let unit = s.mul_f32s(s.sub_f32s(load(s, x, at), mean), rate);
                let dunit = s.mul_f32s(dy, load(s, gamma, at));
                sum = s.add_f32s(sum, dunit);
                along = s.mul_add_f32s(dunit, unit, along);
                let total = s.mul_add_f32s(dy, unit, load(s, dgamma, at));
                store(s, dgamma, at, total);
                let total = s.add_f32s(dy, load(s, dbeta, at));
                store(s, dbeta, at, total);
            }
            let sum = s.splat_f32s(s.reduce_sum_f32s(sum) / width as f32);
            let along = s.splat_f32s(-s.reduce_sum_f32s(along) / width as f32);
            for at in (0..width).step_by(lanes) {
                let unit = s.mul_f32s(s.sub_f32s(load(s, x, at), mean), rate);
                let dunit = s.mul_f32s(load(s, dy, at), load(s, gamma, at));
                let back = s.mul_add_f32s(unit, along, s.sub_f32s(dunit, sum));
                let back = match beside {
                    Some(beside) => s.mul_add_f32s(back, rate, load(s, beside, at)),
                    None => s.mul_f32s(back, rate),
                };
                store(s, dx, at, back);
            }
        }
    }
}

pass! {
    /// Adds the squares of every row of `x` − `mean` to `sums`.
    fn add_squares<'a>(x: &'a [f32], mean: &'a [f32], sums: &'a mut [f32]) |s| {
        for x in x.chunks_exact(sums.len()) {
            for at in (0..sums.len()).step_by(S::F32_LANES) {
                let d = s.sub_f32s(load(s, x, at), load(s, mean, at));
                let sum = s.mul_add_f32s(d, d, load(s, sums, at));
                store(s, sums, at, sum);
            }
        }
    }
}

pass! {
    /// `out` = `a`·`x` + `b` + `added`, and no less than 0 where `relu` says so.
    fn scale_and_shift<'a>(
        x: &'a [f32],
        a: &'a [f32],
        b: &'a [f32],
        added: Option<&'a [f32]>,
        relu: bool,
        out: &'a mut [f32],
    ) |s| {
        let (width, zero) = (a.len(), s.splat_f32s(0.0));
        let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for (row, (x, out)) in rows.enumerate() {
            let added = added.map(|all| &all[row * width..][..width]);
            for at in (0..width).step_by(S::F32_LANES) {
                let mut y = s.mul_add_f32s(load(s, x, at), load(s, a, at), load(s, b, at));
                if let Some(added) = added {
                    y = s.add_f32s(y, load(s, added, at));
                }
                if relu {
                    y = s.max_f32s(y, zero);
                }
                store(s, out, at, y);
            }
        }
    }
}

pass! {
    /// `out` = `dy` where [`scale_and_shift`] without anything added gave more than 0, or everywhere
    /// without `relu`.
    fn cut_by_relu<'a>(
        dy: &'a [f32],
        x: &'a [f32],
        a: &'a [f32],
        b: &'a [f32],
        relu: bool,
        out: &'a mut [f32],
    ) |s| {
        let (width, zero) = (a.len(), s.splat_f32s(0.0));
        if !relu {
            out.copy_from_slice(dy);
            return;
        }
        let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for ((x, out), dy) in rows.zip(dy.chunks_exact(width)) {
            for at in (0..width).step_by(S::F32_LANES) {
                let y = s.mul_add_f32s(load(s, x, at), load(s, a, at), load(s, b, at));
                let open = s.less_than_f32s(zero, y);
                store(s, out, at, s.select_f32s(open, load(s, dy, at), zero));
            }
        }
    }
}

pass! {
    /// For each [`SIGNS`] numbers, a word that tells, from the lowest bit on, which are more than 0.
    fn signs<'a>(y: &'a [f32], out: &'a mut [u16]) |_s| {
        for (out, y) in out.iter_mut().zip(y.chunks(SIGNS)) {
            let mut word = 0;
            for (i, y) in y.iter().enumerate() {
                word |= u16::from(*y > 0.0) << i;
            }
            *out = word;
        }
    }
}

pass! {
    /// `out` = `dy` where `signs` tells of more than 0.
    fn cut_by_signs<'a>(dy: &'a [f32], signs: &'a [u16], out: &'a mut [f32]) |_s| {
        for ((out, dy), word) in out.chunks_mut(SIGNS).zip(dy.chunks(SIGNS)).zip(signs) {
            for (i, (out, dy)) in out.iter_mut().zip(dy).enumerate() {
                *out = if word >> i & 1 == 1 { *dy } else { 0.0 };
            }
        }
    }
}

pass! {
    /// Adds the rows of `d` to `plain`, and those of `d`·(`x` − `mean`)·`rate` to `along`.
    fn add_products<'a>(
        d: &'a [f32],
        x: &'a [f32],
        mean: &'a [f32],
        rate: &'a [f32],
        along: &'a mut [f32],
        plain: &'a mut [f32],
    ) |s| {
        let width = mean.len();
        for (d, x) in d.chunks_exact(width).zip(x.chunks_exact(width)) {
            for at in (0..width).step_by(S::F32_LANES) {
                let d = load(s, d, at);
                let unit = s.sub_f32s(load(s, x, at), load(s, mean, at));
                let unit = s.mul_f32s(unit, load(s, rate, at));
                let sum = s.mul_add_f32s(d, unit, load(s, along, at));
                store(s, along, at, sum);
                let sum = s.add_f32s(d, load(s, plain, at));
                store(s, plain, at, sum);
            }
        }
    }
}

pass! {
    /// `out` = `a`·(`d` − `plain` − `along`·(`x` − `mean`)·`rate`): the way back of a norm whose mean and
    /// variance follow from x.
    fn unscale<'a>(
        d: &'a [f32],
        x: &'a [f32],
        mean: &'a [f32],
        rate: &'a [f32],
        a: &'a [f32],
        along: &'a [f32],
        plain: &'a [f32],
        out: &'a mut [f32],
    ) |s| {
        let width = mean.len();
        let rows = d.chunks_exact(width).zip(x.chunks_exact(width));
        for ((d, x), out) in rows.zip(out.chunks_exact_mut(width)) {
            for at in (0..width).step_by(S::F32_LANES) {
                let unit = s.sub_f32s(load(s, x, at), load(s, mean, at));
                let unit = s.mul_f32s(unit, load(s, rate, at));
                let d = s.sub_f32s(load(s, d, at), load(s, plain, at));
                let d = s.sub_f32s(d, s.mul_f32s(unit, load(s, along, at)));
                store(s, out, at, s.mul_f32s(d, load(s, a, at)));
            }
        }
    }
}
