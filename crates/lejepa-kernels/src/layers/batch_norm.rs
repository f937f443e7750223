//! Batch norm over rows of channels, with a residual and an activation: y = f(scale·x + shift + r), where
//! scale = γ/√(variance + ε) and shift = β − scale·mean (Ioffe and Szegedy, arXiv 1502.03167), r is a residual
//! or nothing, and f is ReLU or nothing.

use rayon::prelude::*;

use crate::activations::Activations;
use crate::buffer::Buffer;
use crate::elementwise::{add_rows, narrow};
use crate::normalize::{
    MASK_BITS, add_batch_norm_sums, add_squared_deviations, apply_relu_mask, batch_norm_backward,
    relu_mask, scale_shift, scale_shift_backward,
};
use crate::output::{OutputPart, OutputVec};
use crate::reduce::sum_over;
use crate::sync_batch_norm::{self, AllReduce};

/// Rows in a task, which should stay in the cache; a multiple of [`MASK_BITS`].
const CHUNK: usize = 256;

/// Parameters of a batch norm, a value for each channel.
#[derive(Clone, Copy)]
pub(crate) struct BatchNorm<'a> {
    pub(crate) gamma: &'a [f32],
    pub(crate) beta: &'a [f32],
    pub(crate) mean: &'a [f32],
    pub(crate) variance: &'a [f32],
    pub(crate) epsilon: f32,
    pub(crate) relu: bool,
}

/// Moments of a chunk: the number of rows; for each channel the mean, then for each channel the sum of
/// squared deviations from it.
pub(crate) type Moments = (usize, Vec<f32>);

/// Moments of a chunk, best taken while it is in the cache.
pub(crate) fn moments(x: &[f32], channels: usize) -> Moments {
    let rows = x.len() / channels;
    let mut all = vec![0.0; 2 * channels];
    let (mean, squares) = all.split_at_mut(channels);
    add_rows(x, mean);
    mean.iter_mut().for_each(|sum| *sum /= rows as f32);
    add_squared_deviations(x, mean, squares);
    (rows, all)
}

/// The mean of each channel, then the variance of each, from the moments of chunks (Chan et al. 1979,
/// equations 2.1).
pub(crate) fn combine(chunks: &[Moments], channels: usize) -> Vec<f32> {
    let mut all = vec![0f64; 2 * channels];
    let (mean, variance) = all.split_at_mut(channels);
    let total = chunks.iter().map(|(rows, _)| *rows).sum::<usize>().max(1) as f64;
    for (rows, chunk) in chunks {
        let share = *rows as f64 / total;
        mean.iter_mut().zip(chunk).for_each(|(m, x)| *m += f64::from(*x) * share);
    }
    for (rows, chunk) in chunks {
        for (c, variance) in variance.iter_mut().enumerate() {
            let deviation = f64::from(chunk[c]) - mean[c];
            let between = deviation * deviation * *rows as f64;
            *variance += (f64::from(chunk[channels + c]) + between) / total;
        }
    }
    all.into_iter().map(|x| x as f32).collect()
}

/// The mean of each channel, then the variance of each.
pub(crate) fn statistics(x: &[f32], channels: usize) -> Vec<f32> {
    let chunks: Vec<Moments> =
        x.par_chunks(CHUNK * channels).map(|x| moments(x, channels)).collect();
    combine(&chunks, channels)
}

/// Where the forward pass saves what the backward pass needs; empty parts are not saved.
#[derive(Default)]
pub(crate) struct SaveTo<'a> {
    /// The input in bf16.
    pub(crate) bf16: Option<OutputPart<'a, u16>>,
    /// The mask of ReLU; see [`relu_mask`].
    pub(crate) relu_mask: &'a mut [u16],
}

/// What mean and variance are, for the backward pass.
#[derive(Debug)]
pub(crate) enum Statistics {
    /// Constants.
    Constant,
    /// Those of the batch, of which other workers may have further samples.
    Batch(Option<AllReduce>),
}

/// Gradients of [`BatchNorm::forward`].
pub(crate) struct BatchNormGradients {
    pub(crate) x: Vec<f32>,
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
    /// If there was a residual.
    pub(crate) residual: Option<Vec<f32>>,
}

impl BatchNorm<'_> {
    /// rstd, scale and shift.
    fn coefficients(&self) -> [Vec<f32>; 3] {
        let rstd: Vec<f32> =
            self.variance.iter().map(|v| 1.0 / (v + self.epsilon).sqrt()).collect();
        let scale: Vec<f32> = rstd.iter().zip(self.gamma).map(|(r, g)| r * g).collect();
        let shift = scale.iter().zip(self.mean).zip(self.beta);
        let shift = shift.map(|((scale, mean), beta)| beta - scale * mean).collect();
        [rstd, scale, shift]
    }

    /// The output for `x` and `residual`.
    pub(crate) fn forward(
        &self,
        x: &[f32],
        residual: Option<&[f32]>,
        save_to: SaveTo<'_>,
    ) -> Vec<f32> {
        let [_, scale, shift] = self.coefficients();
        let size = CHUNK * self.gamma.len();
        let mut y = OutputVec::new(x.len());
        let bf16 = save_to.bf16.map(|bf16| bf16.chunks(size)).unwrap_or_default();
        let (mut bf16, mut masks) =
            (bf16.into_iter(), save_to.relu_mask.chunks_mut(size / MASK_BITS));
        let chunks = y.part().chunks(size).into_iter().zip(x.chunks(size)).enumerate();
        let chunks: Vec<_> =
            chunks.map(|(i, (y, x))| (i, y, x, bf16.next(), masks.next())).collect();
        chunks.into_par_iter().for_each(|(i, y, x, bf16, mask)| {
            let y = y.zeroed();
            let residual = residual.map(|r| &r[i * size..][..y.len()]);
            scale_shift(x, &scale, &shift, residual, self.relu, y);
            if let Some(bf16) = bf16 {
                narrow(x, bf16.zeroed());
            }
            if let Some(mask) = mask {
                relu_mask(y, mask);
            }
        });
        y.finish()
    }

    /// The output for `x` without a residual, in bf16.
    pub(crate) fn forward_bf16(&self, x: Activations<'_>) -> Vec<u16> {
        let [_, scale, shift] = self.coefficients();
        let size = CHUNK * self.gamma.len();
        let mut y = OutputVec::new(x.len());
        y.part().chunks(size).into_par_iter().enumerate().for_each(|(i, y)| {
            let y = y.zeroed();
            let (mut wide, mut out) = (x.scratch(y.len()), Buffer::take(y.len()));
            let x = x.widened(i * size..i * size + y.len(), &mut wide);
            scale_shift(x, &scale, &shift, None, self.relu, out.slice());
            narrow(out.values(), y);
        });
        y.finish()
    }

    /// Gradients from that of the output. `relu_mask` is the saved mask if there was a residual.
    pub(crate) fn backward(
        &self,
        x: Activations<'_>,
        relu_mask: Option<&[u16]>,
        dy: &[f32],
        statistics: &Statistics,
    ) -> BatchNormGradients {
        let [rstd, scale, shift] = self.coefficients();
        let channels = self.gamma.len();
        let size = CHUNK * channels;
        // Without a residual, the gradient before the activation is computed twice rather than stored.
        let mut dz = OutputVec::new(if relu_mask.is_some() { x.len() } else { 0 });
        let before_activation = |start: usize, x: &[f32], dz: &mut [f32]| {
            let dy = &dy[start..][..x.len()];
            match relu_mask {
                Some(mask) if self.relu => apply_relu_mask(dy, &mask[start / MASK_BITS..], dz),
                _ => scale_shift_backward(dy, x, &scale, &shift, self.relu, dz),
            }
        };
        let mut dz_chunks = dz.part().chunks(size).into_iter();
        let starts = (0..x.len()).step_by(size);
        let chunks = starts.map(|s| (s..x.len().min(s + size), dz_chunks.next())).collect();
        drop(dz_chunks);
        type Chunk<'a> = (std::ops::Range<usize>, Option<OutputPart<'a, f32>>);
        let add = |(range, dz): Chunk<'_>, [dgamma, dbeta]: [&mut [f32]; 2]| {
            let (start, mut wide) = (range.start, x.scratch(range.len()));
            let mut scratch = Buffer::take(if dz.is_some() { 0 } else { range.len() });
            let x = x.widened(range, &mut wide);
            let dz = match dz {
                Some(dz) => dz.zeroed(),
                None => scratch.slice(),
            };
            before_activation(start, x, dz);
            add_batch_norm_sums(dz, x, self.mean, &rstd, dgamma, dbeta);
        };
        let [dgamma, dbeta] = sum_over(chunks, [channels; 2], add);
        let dz = dz.finish();
        let [mean_dxhat, mean_d] = match statistics {
            Statistics::Constant => [vec![0.0; channels], vec![0.0; channels]],
            Statistics::Batch(all_reduce) => {
                sync_batch_norm::means(all_reduce.as_ref(), [&dgamma, &dbeta], x.len() / channels)
            }
        };
        let mut dx = OutputVec::new(x.len());
        dx.part().chunks(size).into_par_iter().enumerate().for_each(|(i, dx)| {
            let dx = dx.zeroed();
            let (start, mut wide) = (i * size, x.scratch(dx.len()));
            let x = x.widened(start..start + dx.len(), &mut wide);
            let mut scratch = Buffer::take(if dz.is_empty() { dx.len() } else { 0 });
            let dz = if dz.is_empty() {
                before_activation(start, x, scratch.slice());
                scratch.values()
            } else {
                &dz[start..][..dx.len()]
            };
            batch_norm_backward(dz, x, self.mean, &rstd, &scale, &mean_dxhat, &mean_d, dx);
        });
        let (x, residual) = (dx.finish(), relu_mask.map(|_| dz));
        BatchNormGradients { x, gamma: dgamma, beta: dbeta, residual }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::tests::noise;

    #[test]
    fn statistics_are_those_of_all_rows() {
        for (rows, channels) in [(1, 3), (CHUNK, 1), (2 * CHUNK + 7, 5)] {
            // A mean far from 0, where a difference of sums of squares would lose its digits.
            let x: Vec<f32> = noise(rows * channels, 1).iter().map(|x| 100.0 + x).collect();
            let statistics = statistics(&x, channels);
            for c in 0..channels {
                let values = x.iter().skip(c).step_by(channels).map(|x| f64::from(*x));
                let mean = values.clone().sum::<f64>() / rows as f64;
                let variance = values.map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64;
                assert!((f64::from(statistics[c]) - mean).abs() < 1e-3, "{rows} {c}");
                let error = f64::from(statistics[channels + c]) - variance;
                assert!(error.abs() < 1e-3, "{rows} {c}: {error}");
            }
        }
    }
}
