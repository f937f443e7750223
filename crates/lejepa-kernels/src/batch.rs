//! Batch norm, with what usually follows it, of rows of channels: y = f(a·x + b + r), a = γ/σ,
//! b = β − a·mean (Ioffe and Szegedy, arXiv 1502.03167), r what is added (or nothing) and f ReLU or
//! nothing.

use rayon::prelude::*;

use crate::Buffer;
use crate::groups::summed;
use crate::halves::Numbers;
use crate::lanes::{self, SIGNS};
use crate::memory::fresh;

/// Rows in a chunk, which should stay in the cache; a multiple of [`SIGNS`].
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

    /// The result for `x`, with what is `added`. `kept` takes what the way back needs.
    pub(crate) fn forward(
        &self,
        x: &[f32],
        added: Option<&[f32]>,
        kept: Option<Kept<'_>>,
    ) -> Vec<f32> {
        let [_, a, b] = self.factors();
        let size = CHUNK * self.gamma.len();
        let mut y = fresh(x.len());
        let Kept { halves, signs } = kept.unwrap_or_default();
        let mut halves = halves.chunks_mut(size);
        let mut signs = signs.chunks_mut(size / SIGNS);
        let chunks = y.chunks_mut(size).zip(x.chunks(size)).enumerate();
        let chunks: Vec<_> =
            chunks.map(|(i, (y, x))| (i, y, x, halves.next(), signs.next())).collect();
        chunks.into_par_iter().for_each(|(i, y, x, halves, signs)| {
            let added = added.map(|r| &r[i * size..][..y.len()]);
            lanes::scale_and_shift(x, &a, &b, added, self.relu, y);
            halves.into_iter().for_each(|halves| lanes::halve(x, halves));
            signs.into_iter().for_each(|signs| lanes::signs(y, signs));
        });
        y
    }

    /// The result for `x` again, rounded; see [`Buffer::halves`].
    pub(crate) fn halved(&self, x: Numbers<'_>) -> Buffer {
        let [_, a, b] = self.factors();
        let size = CHUNK * self.gamma.len();
        let mut y = Buffer::of_halves(x.len());
        let halves = &mut y.halves_mut()[..x.len()];
        halves.par_chunks_mut(size).enumerate().for_each(|(i, halves)| {
            let (mut room, mut own) = (x.room(halves.len()), Buffer::take(halves.len()));
            let x = x.part(i * size..i * size + halves.len(), &mut room);
            lanes::scale_and_shift(x, &a, &b, None, self.relu, own.slice());
            lanes::halve(own.values(), halves);
        });
        y
    }

    /// Gradients of x, γ and β, and of what was added if `signs` of the result were kept, in which case it
    /// is what comes through the activation. `batch` says that mean and variance are those of x.
    pub(crate) fn backward(
        &self,
        x: Numbers<'_>,
        signs: Option<&[u16]>,
        dy: &[f32],
        batch: bool,
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>, Option<Vec<f32>>) {
        let [rate, a, b] = self.factors();
        let channels = self.gamma.len();
        let size = CHUNK * channels;
        // Where nothing was added, what comes through the activation is worked out twice rather than
        // written and read.
        let mut dz = fresh(if signs.is_some() { x.len() } else { 0 });
        let cut = |start: usize, x: &[f32], into: &mut [f32]| {
            let dy = &dy[start..][..x.len()];
            match signs {
                Some(signs) if self.relu => lanes::cut_by_signs(dy, &signs[start / SIGNS..], into),
                _ => lanes::cut_by_relu(dy, x, &a, &b, self.relu, into),
            }
        };
        let mut targets = dz.chunks_mut(size);
        let starts = (0..x.len()).step_by(size);
        let chunks = starts.map(|s| (s..x.len().min(s + size), targets.next())).collect();
        type Chunk<'a> = (std::ops::Range<usize>, Option<&'a mut [f32]>);
        let work = |(part, dz): Chunk<'_>, [along, plain]: [&mut [f32]; 2]| {
            let (start, mut room) = (part.start, x.room(part.len()));
            let mut own = Buffer::take(if dz.is_some() { 0 } else { part.len() });
            let (x, dz) = (x.part(part, &mut room), dz.unwrap_or(own.slice()));
            cut(start, x, dz);
            lanes::add_products(dz, x, self.mean, &rate, along, plain);
        };
        let [dgamma, dbeta] = summed(chunks, [channels; 2], work);
        let rows = (x.len() / channels).max(1) as f32;
        let share = |sums: &[f32]| -> Vec<f32> {
            sums.iter().map(|s| if batch { s / rows } else { 0.0 }).collect()
        };
        let (along, plain) = (share(&dgamma), share(&dbeta));
        let mut dx = fresh(x.len());
        dx.par_chunks_mut(size).enumerate().for_each(|(i, dx)| {
            let (start, mut room) = (i * size, x.room(dx.len()));
            let x = x.part(start..start + dx.len(), &mut room);
            let mut own = Buffer::take(if dz.is_empty() { dx.len() } else { 0 });
            let dz = if dz.is_empty() {
                cut(start, x, own.slice());
                own.values()
            } else {
                &dz[start..][..dx.len()]
            };
            lanes::unscale(dz, x, self.mean, &rate, &a, &along, &plain, dx);
        });
        (dx, dgamma, dbeta, signs.map(|_| dz))
    }
}

/// What a norm keeps for its way back: its input, rounded, and which numbers of its result are more than 0
/// ([`lanes::signs`]). What is empty is not kept.
#[derive(Default)]
pub(crate) struct Kept<'a> {
    pub(crate) halves: &'a mut [u16],
    pub(crate) signs: &'a mut [u16],
}
