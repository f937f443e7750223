//! Workers that share a step.

use std::sync::{Arc, Barrier, Mutex, PoisonError};

use burn::tensor::{Tensor, TensorData};

use crate::Result;

/// The workers among which the samples of a step are divided, seen by one of them.
///
/// The loss is a statistic of the whole batch. So every rank embeds its own samples, all ranks gather the
/// embeddings and take the same loss of the whole batch, each goes back through its own samples, and the
/// encoders' gradients are summed. What follows the embeddings (projector, prediction, SIGReg) is the same
/// on every rank, so its gradients are not summed. Batch norm within an encoder has the statistics of all ranks'
/// samples where its kernels run ([`lejepa_kernels::AllReduce`]); burn's own, on other devices, has those of a
/// rank's samples. The result is the gradient of one worker with the whole batch.
///
/// Only [`Group::exchange`] has to be written; collectives of a library are faster than the provided ones.
pub trait Group: Send + Sync {
    /// Which of the workers this is, from 0.
    fn rank(&self) -> usize;

    /// How many there are, at least 1.
    fn size(&self) -> usize;

    /// What every rank gives, in the order of the ranks. Every rank calls it, in the same order.
    ///
    /// # Errors
    /// A connection that fails.
    fn exchange(&self, mine: Vec<u8>) -> Result<Vec<Vec<u8>>>;

    /// The sums over all ranks, the same bits on each of them. Every rank calls it with as many numbers, in the
    /// same order.
    ///
    /// # Errors
    /// As [`Group::exchange`].
    fn sum_in_place(&self, values: &mut [f64]) -> Result<()> {
        let mine = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        values.fill(0.0);
        // In the order of the ranks, so that every rank has the same bits.
        for theirs in self.exchange(mine)? {
            let (theirs, _) = theirs.as_chunks::<8>();
            values.iter_mut().zip(theirs).for_each(|(sum, v)| *sum += f64::from_le_bytes(*v));
        }
        Ok(())
    }

    /// The same for numbers of single precision.
    ///
    /// # Errors
    /// As [`Group::exchange`].
    fn sum_in_place_f32(&self, values: &mut [f32]) -> Result<()> {
        let mine = to_bytes(values);
        values.fill(0.0);
        for theirs in self.exchange(mine)? {
            values.iter_mut().zip(to_f32(&theirs)).for_each(|(sum, v)| *sum += v);
        }
        Ok(())
    }

    /// The tensors of all ranks, one after the other along axis 1. Every rank calls it, in the same order.
    ///
    /// # Errors
    /// A device or a connection that fails.
    ///
    /// # Shapes
    /// `[a, n of this rank, b] -> [a, n of all ranks, b]`
    fn gather(&self, mine: Tensor<3>) -> Result<Tensor<3>> {
        if self.size() == 1 {
            return Ok(mine);
        }
        let (device, [a, _, b]) = (mine.device(), mine.dims());
        let all = self.exchange(to_bytes(&mine.try_into_vec_as::<f32>()?))?;
        let tensor = |bytes: Vec<u8>| {
            let values: Vec<f32> = to_f32(&bytes).collect();
            let rows = values.len() / (a * b).max(1);
            Tensor::from_data(TensorData::new(values, [a, rows, b]), &device)
        };
        Ok(Tensor::cat(all.into_iter().map(tensor).collect(), 1))
    }

    /// The sum over all ranks, the same bits on each of them. Every rank calls it, in the same order.
    ///
    /// # Errors
    /// As [`Group::gather`].
    fn sum(&self, mine: Tensor<1>) -> Result<Tensor<1>> {
        if self.size() == 1 {
            return Ok(mine);
        }
        let device = mine.device();
        let mut values = mine.try_into_vec_as::<f32>()?;
        self.sum_in_place_f32(&mut values)?;
        Ok(Tensor::from_data(&values[..], &device))
    }
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn to_f32(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v))
}

/// One worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Group for Alone {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        1
    }
    fn exchange(&self, mine: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        Ok(vec![mine])
    }
}

/// Threads of one process as a group.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lejepa_train::{Group, Threads};
///
/// let ranks = Threads::group(2);
/// let sums = std::thread::scope(|scope| {
///     let workers: Vec<_> = ranks
///         .into_iter()
///         .map(|rank| {
///             scope.spawn(move || {
///                 let mine = Tensor::<1>::full([3], rank.rank() as f32 + 1.0, &Device::flex());
///                 let sum = rank.sum(mine).map_err(|e| e.to_string())?;
///                 sum.try_into_vec_as::<f32>().map_err(|e| e.to_string())
///             })
///         })
///         .collect();
///     workers.into_iter().map(|worker| worker.join().ok()).collect::<Vec<_>>()
/// });
/// assert_eq!(sums, vec![Some(Ok(vec![3.0; 3])); 2]);
/// ```
pub struct Threads {
    rank: usize,
    shared: Arc<Shared>,
}

struct Shared {
    barrier: Barrier,
    given: Vec<Mutex<Option<Vec<u8>>>>,
}

impl Threads {
    /// A group of `size` workers, at least one: a handle for each, to be moved into its thread. A worker
    /// that ends early leaves the others waiting.
    pub fn group(size: usize) -> Vec<Self> {
        let size = size.max(1);
        let given = (0..size).map(|_| Mutex::new(None)).collect();
        let shared = Arc::new(Shared { barrier: Barrier::new(size), given });
        (0..size).map(|rank| Self { rank, shared: shared.clone() }).collect()
    }
}

impl Group for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.given.len()
    }

    fn exchange(&self, mine: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let slot =
            |rank: usize| self.shared.given[rank].lock().unwrap_or_else(PoisonError::into_inner);
        *slot(self.rank) = Some(mine);
        self.shared.barrier.wait();
        let all = (0..self.size()).filter_map(|rank| slot(rank).clone()).collect();
        // Nobody gives the next bytes before all have taken these.
        self.shared.barrier.wait();
        Ok(all)
    }
}
