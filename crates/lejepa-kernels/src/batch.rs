//! Batch norm, with what usually follows it, of rows of channels: y = f(a·x + b + r), a = γ/σ,
//! b = β − a·mean (Ioffe and Szegedy, arXiv 1502.03167), r what is added (or nothing) and f ReLU or
//! nothing.

use rayon::prelude::*;

use crate::Buffer;
use crate::groups::summed;
use crate::lanes;
use crate::memory::fresh;

/// Rows in a chunk, which should stay in the cache.
const CHUNK: usize = 256;

/// What a batch norm is applied with; slices of one value per channel.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) gamma: &'a [f32],
    pub(crate) beta: &'a [f32],
    pub(crate) mean: &'a [f32],
    pub(crate) variance: &'a [f32],
    pub(crate) epsilon: f32,
    pub(crate) relu: bool,
}

/// Of a chunk of rows: how many there are, and the mean of every channel and the sum of squared
/// differences from it, one after the other.
pub(crate) type Moments = (usize, Vec<f32>);

/// The moments of a chunk that is in the cache.
pub(crate) fn moments(x: &[f32], channels: usize) -> Moments {
    let rows = x.len() / channels;
    let mut all = vec![0.0; 2 * channels];
    let (mean, squares) = all.split_at_mut(channels);
    lanes::add_rows(x, mean);
    mean.iter_mut().for_each(|sum| *sum /= rows as f32);
    lanes::add_squares(x, mean, squares);
    (rows, all)
}

/// Mean and variance of every channel, one after the other, from the moments of chunks (Chan et al.
/// 1979, equations 2.1).
pub(crate) fn joined(parts: &[Moments], channels: usize) -> Vec<f32> {
    let mut all = vec![0f64; 2 * channels];
    let (mean, variance) = all.split_at_mut(channels);
    let total = parts.iter().map(|(rows, _)| *rows).sum::<usize>().max(1) as f64;
    for (rows, part) in parts {
        let share = *rows as f64 / total;
        mean.iter_mut().zip(part).for_each(|(m, x)| *m += f64::from(*x) * share);
    }
    for (rows, part) in parts {
        for (c, variance) in variance.iter_mut().enumerate() {
            let off = f64::from(part[c]) - mean[c];
            *variance += (f64::from(part[channels + c]) + off * off * *rows as f64) / total;
        }
    }
    all.into_iter().map(|x| x as f32).collect()
}

/// Mean and variance of every channel, one after the other.
pub(crate) fn statistics(x: &[f32], channels: usize) -> Vec<f32> {
    let parts: Vec<Moments> =
        x.par_chunks(CHUNK * channels).map(|x| moments(x, channels)).collect();
    joined(&parts, channels)
}

impl Norm<'_> {
    /// 1/σ, a and b.
    fn factors(&self) -> [Vec<f32>; 3] {
        let rate: Vec<f32> =
            self.variance.iter().map(|v| 1.0 / (v + self.epsilon).sqrt()).collect();
        let a: Vec<f32> = rate.iter().zip(self.gamma).map(|(r, g)| r * g).collect();
        let shift = a.iter().zip(self.mean).zip(self.beta);
        let b = shift.map(|((a, mean), beta)| beta - a * mean).collect();
        [rate, a, b]
    }

    pub(crate) fn forward(&self, x: &[f32], added: Option<&[f32]>) -> Vec<f32> {
        let [_, a, b] = self.factors();
        let size = CHUNK * self.gamma.len();
        let mut y = fresh(x.len());
        y.par_chunks_mut(size).enumerate().for_each(|(i, y)| {
            let part = i * size..i * size + y.len();
            let added = added.map(|r| &r[part.clone()]);
            lanes::scale_and_shift(&x[part], &a, &b, added, self.relu, y);
        });
        y
    }

    /// Gradients of x, γ, β and of what was added. `batch` says that mean and variance are those of x.
    pub(crate) fn backward(
        &self,
        x: &[f32],
        added: Option<&[f32]>,
        dy: &[f32],
        batch: bool,
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>, Option<Vec<f32>>) {
        let [rate, a, b] = self.factors();
        let channels = self.gamma.len();
        let size = CHUNK * channels;
        // What comes through the activation is that of what was added; where nothing was, it is worked
        // out twice rather than written and read.
        let mut dz = fresh(if added.is_some() { x.len() } else { 0 });
        let cut = |part: std::ops::Range<usize>, into: &mut [f32]| {
            let added = added.map(|r| &r[part.clone()]);
            lanes::cut_by_relu(&dy[part.clone()], &x[part], &a, &b, added, self.relu, into);
        };
        let mut targets = dz.chunks_mut(size);
        let starts = (0..x.len()).step_by(size);
        let chunks = starts.map(|s| (s..x.len().min(s + size), targets.next())).collect();
        type Chunk<'a> = (std::ops::Range<usize>, Option<&'a mut [f32]>);
        let sums: Buffer = summed(chunks, 2 * channels, |(part, dz): Chunk<'_>, sums| {
            let mut own = Buffer::take(if dz.is_some() { 0 } else { part.len() });
            let dz = dz.unwrap_or(own.slice());
            cut(part.clone(), dz);
            let (along, plain) = sums.split_at_mut(channels);
            lanes::add_products(dz, &x[part], self.mean, &rate, along, plain);
        });
        let (dgamma, dbeta) = sums.values().split_at(channels);
        let rows = (x.len() / channels).max(1) as f32;
        let share = |sums: &[f32]| -> Vec<f32> {
            sums.iter().map(|s| if batch { s / rows } else { 0.0 }).collect()
        };
        let (along, plain) = (share(dgamma), share(dbeta));
        let mut dx = fresh(x.len());
        dx.par_chunks_mut(size).enumerate().for_each(|(i, dx)| {
            let part = i * size..i * size + dx.len();
            let mut own = Buffer::take(if dz.is_empty() { dx.len() } else { 0 });
            let dz = if dz.is_empty() {
                cut(part.clone(), own.slice());
                own.values()
            } else {
                &dz[part.clone()]
            };
            lanes::unscale(dz, &x[part], self.mean, &rate, &a, &along, &plain, dx);
        });
        (dx, dgamma.to_vec(), dbeta.to_vec(), added.map(|_| dz))
    }
}
