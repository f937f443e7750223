//! Batch norm, with what usually follows it, of rows of channels: y = f(a·x + b + r), a = γ/σ,
//! b = β − a·mean (Ioffe and Szegedy, arXiv 1502.03167), r what is added (or nothing) and f ReLU or
//! nothing.

use rayon::prelude::*;

use crate::Buffer;
use crate::groups::summed;
use crate::lanes;
use crate::memory::fresh;

/// Rows in a chunk.
const CHUNK: usize = 1024;

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

/// Mean and variance of every channel, one after the other.
pub(crate) fn statistics(x: &[f32], channels: usize) -> Vec<f32> {
    let rows = (x.len() / channels).max(1) as f32;
    let chunks: Vec<&[f32]> = x.chunks(CHUNK * channels).collect();
    // The function itself wants one lifetime for both of its arguments.
    #[allow(clippy::redundant_closure)]
    let sums = summed(chunks.clone(), channels, |x, sums| lanes::add_rows(x, sums));
    let mut all = sums.values().to_vec();
    all.iter_mut().for_each(|sum| *sum /= rows);
    let mean = &all;
    let squares = summed(chunks, channels, |x, sums| lanes::add_squares(x, mean, sums));
    all.extend(squares.values().iter().map(|sum| sum / rows).collect::<Vec<_>>());
    all
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
    ) -> [Vec<f32>; 4] {
        let [rate, a, b] = self.factors();
        let channels = self.gamma.len();
        let size = CHUNK * channels;
        let mut dz = fresh(x.len());
        let chunks = dz.chunks_mut(size).enumerate().collect();
        let sums: Buffer = summed(chunks, 2 * channels, |(i, dz): (usize, &mut [f32]), sums| {
            let part = i * size..i * size + dz.len();
            let added = added.map(|r| &r[part.clone()]);
            let (x, dy) = (&x[part.clone()], &dy[part]);
            lanes::cut_by_relu(dy, x, &a, &b, added, self.relu, dz);
            let (along, plain) = sums.split_at_mut(channels);
            lanes::add_products(dz, x, self.mean, &rate, along, plain);
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
            let (x, dz) = (&x[part.clone()], &dz[part]);
            lanes::unscale(dz, x, self.mean, &rate, &a, &along, &plain, dx);
        });
        [dx, dgamma.to_vec(), dbeta.to_vec(), dz]
    }
}
