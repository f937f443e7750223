//! Batch norm over the samples of several workers.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};

thread_local! {
    static CURRENT: RefCell<Option<AllReduce>> = const { RefCell::new(None) };
}

/// Replaces numbers by their sums over all workers that share a batch, the same bits on each of them. All workers
/// call it with as many numbers, in the same order.
#[derive(Clone)]
pub struct AllReduce(Arc<Sum>);

type Sum = dyn Fn(&mut [f64]) + Send + Sync;

impl AllReduce {
    /// By a function, which has to keep errors to itself: there is nobody to return them to in the middle of a
    /// backward pass.
    pub fn new(sum: impl Fn(&mut [f64]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sum))
    }

    /// Runs `work` on this thread with batch statistics of the samples of all workers, where operations are fused
    /// ([`supports`](crate::supports)): those of [`channel_statistics`](crate::channel_statistics) and of the
    /// convolutions that return them, and in the backward pass the means that [`batch_norm`](crate::batch_norm)
    /// subtracts. Gradients of scale and shift stay those of a worker's own samples, as all other gradients do.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use lejepa_kernels::{AllReduce, channel_statistics};
    ///
    /// // Two workers that have the same samples.
    /// let twice = AllReduce::new(|values| values.iter_mut().for_each(|v| *v *= 2.0));
    /// let x = Tensor::<4>::from_floats([[[[1.0], [3.0]]]], &Device::flex());
    /// let alone = channel_statistics(x.clone()).into_data();
    /// assert_eq!(twice.scope(|| channel_statistics(x)).into_data(), alone);
    /// ```
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Restore(Option<AllReduce>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self.clone())));
        work()
    }

    /// That of this thread.
    pub(crate) fn now() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    pub(crate) fn sum(&self, values: &mut [f64]) {
        (self.0)(values);
    }
}

impl fmt::Debug for AllReduce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AllReduce")
    }
}

/// Mean and variance over all workers from those of this one, `[2, channels]`, which are of so many rows.
pub(crate) fn combined(statistics: Tensor<2>, rows: usize) -> Tensor<2> {
    let Some(all_reduce) = AllReduce::now() else { return statistics };
    let (device, [_, channels]) = (statistics.device(), statistics.dims());
    let Ok(mine) = statistics.clone().try_into_vec_as::<f32>() else { return statistics };
    let (means, variances) = mine.split_at(channels);
    let rows = rows as f64;
    let first = means.iter().map(|mean| f64::from(*mean));
    let second = first.clone().zip(variances).map(|(mean, v)| mean * mean + f64::from(*v));
    let mut sums: Vec<f64> = first.chain(second).map(|moment| moment * rows).collect();
    sums.push(rows);
    all_reduce.sum(&mut sums);
    let total = sums.pop().unwrap_or(rows).max(1.0);
    let mean = |c: usize| sums[c] / total;
    let variance = |c: usize| (sums[channels + c] / total - mean(c).powi(2)).max(0.0);
    let all = (0..channels).map(mean).chain((0..channels).map(variance));
    let all: Vec<f32> = all.map(|v| v as f32).collect();
    Tensor::from_data(TensorData::new(all, [2, channels]), &device)
}

/// Sums of this worker as means over the rows of all of them.
pub(crate) fn means<const N: usize>(
    all_reduce: Option<&AllReduce>,
    sums: [&[f32]; N],
    rows: usize,
) -> [Vec<f32>; N] {
    let Some(all_reduce) = all_reduce else {
        let rows = rows.max(1) as f32;
        return sums.map(|sums| sums.iter().map(|s| s / rows).collect());
    };
    let mut all: Vec<f64> = sums.iter().flat_map(|s| s.iter().map(|v| f64::from(*v))).collect();
    all.push(rows as f64);
    all_reduce.sum(&mut all);
    let total = all.pop().unwrap_or(rows as f64).max(1.0);
    let mut all = all.into_iter().map(|sum| (sum / total) as f32);
    sums.map(|sums| all.by_ref().take(sums.len()).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex};

    use burn::tensor::{Device, Tensor, TensorData};

    use super::*;
    use crate::gemm::tests::noise;
    use crate::{
        Activation, ChannelNorm, batch_norm, channel_statistics, conv2d_with_statistics,
        norm_conv2d,
    };

    const CHANNELS: usize = 6;
    const SIDE: usize = 5;

    fn tensor(values: Vec<f32>, shape: [usize; 4], device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// Gradients of images, filters, and scale and shift of the last norm, of three layers.
    fn gradients(range: std::ops::Range<usize>, activation: Activation) -> Vec<Vec<f32>> {
        let device = Device::flex().autodiff();
        let size = SIDE * SIDE * CHANNELS;
        let part = |seed| noise(9 * size, seed)[range.start * size..range.end * size].to_vec();
        let shape = [range.len(), SIDE, SIDE, CHANNELS];
        let x = tensor(part(1), shape, &device).require_grad();
        let towards = tensor(part(2), shape, &device);
        let filters = |seed| {
            let values = noise(CHANNELS * CHANNELS * 9, seed);
            tensor(values, [CHANNELS, CHANNELS, 3, 3], &device).require_grad()
        };
        let (first, second) = (filters(3), filters(4));
        let row = |seed| {
            let values: Vec<f32> = noise(CHANNELS, seed).iter().map(|v| v + 1.0).collect();
            Tensor::<1>::from_floats(&values[..], &device).require_grad()
        };
        let (gamma, beta) = (row(5), row(6));
        let norm = |statistics| ChannelNorm {
            gamma: gamma.clone(),
            beta: beta.clone(),
            statistics,
            batch_statistics: true,
            activation,
            epsilon: 1e-5,
        };
        let (y, statistics) = conv2d_with_statistics(x.clone(), first.clone(), 1, 1);
        let (y, statistics) = norm_conv2d(y, norm(statistics), second.clone(), 1, 1);
        let y = batch_norm(y, norm(statistics.unwrap()), Some(x.clone()));
        let y = batch_norm(y.clone(), norm(channel_statistics(y)), None);
        let all = (y * towards).sum().backward();
        let of = |x: &Tensor<4>| x.grad(&all).unwrap().try_into_vec_as::<f32>().unwrap();
        let of_row = |x: &Tensor<1>| x.grad(&all).unwrap().try_into_vec_as::<f32>().unwrap();
        vec![of(&x), of(&first), of(&second), of_row(&gamma), of_row(&beta)]
    }

    #[test]
    fn workers_have_the_gradients_of_the_whole_batch() {
        for activation in [Activation::None, Activation::Relu] {
            let whole = gradients(0..9, activation);
            let shared = Arc::new((Barrier::new(2), Mutex::new(Vec::<f64>::new())));
            let parts: Vec<_> = std::thread::scope(|scope| {
                let workers: Vec<_> = [0..4, 4..9]
                    .into_iter()
                    .map(|range| {
                        let shared = shared.clone();
                        let all_reduce = AllReduce::new(move |values: &mut [f64]| {
                            let (barrier, sums) = &*shared;
                            {
                                let mut sums = sums.lock().unwrap();
                                sums.resize(values.len(), 0.0);
                                sums.iter_mut().zip(&*values).for_each(|(sum, v)| *sum += v);
                            }
                            barrier.wait();
                            values.copy_from_slice(&sums.lock().unwrap());
                            if barrier.wait().is_leader() {
                                sums.lock().unwrap().clear();
                            }
                            barrier.wait();
                        });
                        scope.spawn(move || all_reduce.scope(|| gradients(range, activation)))
                    })
                    .collect();
                workers.into_iter().map(|worker| worker.join().unwrap()).collect()
            });
            for (i, whole) in whole.iter().enumerate() {
                let [a, b] = [&parts[0][i], &parts[1][i]];
                // Images are divided, parameters are shared.
                let ours: Vec<f32> = match i {
                    0 => [&a[..], &b[..]].concat(),
                    _ => a.iter().zip(b).map(|(a, b)| a + b).collect(),
                };
                let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
                let apart: Vec<f32> = ours.iter().zip(whole).map(|(a, b)| a - b).collect();
                let error = length(&apart) / length(whole);
                assert!(error < 1e-5, "{activation:?} {i}: {error}");
            }
        }
    }
}
