//! Workers that share a step.

use std::sync::{Arc, Barrier, Mutex, PoisonError};

use burn::tensor::{Tensor, TensorData};

use crate::Result;

/// The workers among which the samples of a step are divided, seen by one of them.
///
/// The loss is a statistic of the whole batch. So every rank embeds its own samples, all ranks gather the
/// embeddings and take the same loss of the whole batch, each goes back through its own samples, and the
/// encoders' gradients are summed. What follows the embeddings (projector, prediction, SIGReg) is the same
/// on every rank, so its gradients are not summed. The result is the gradient of one worker with the whole
/// batch, but for batch norm within an encoder, which sees a rank's samples.
pub trait Group: Send + Sync {
    /// Which of the workers this is, from 0.
    fn rank(&self) -> usize;

    /// How many there are, at least 1.
    fn size(&self) -> usize;

    /// The tensors of all ranks, one after the other along axis 1. Every rank calls it, in the same order.
    ///
    /// # Errors
    /// A device or a connection that fails.
    ///
    /// # Shapes
    /// `[a, n of this rank, b] -> [a, n of all ranks, b]`
    fn gather(&self, mine: Tensor<3>) -> Result<Tensor<3>>;

    /// The sum over all ranks, the same bits on each of them. Every rank calls it, in the same order.
    ///
    /// # Errors
    /// As [`Group::gather`].
    fn sum(&self, mine: Tensor<1>) -> Result<Tensor<1>>;
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
    fn gather(&self, mine: Tensor<3>) -> Result<Tensor<3>> {
        Ok(mine)
    }
    fn sum(&self, mine: Tensor<1>) -> Result<Tensor<1>> {
        Ok(mine)
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
    given: Vec<Mutex<Option<TensorData>>>,
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

    /// What every rank gives, in the order of the ranks.
    fn exchange(&self, mine: TensorData) -> Vec<TensorData> {
        let slot =
            |rank: usize| self.shared.given[rank].lock().unwrap_or_else(PoisonError::into_inner);
        *slot(self.rank) = Some(mine);
        self.shared.barrier.wait();
        let all = (0..self.size()).filter_map(|rank| slot(rank).clone()).collect();
        // Nobody gives the next tensor before all have taken this one.
        self.shared.barrier.wait();
        all
    }
}

impl Group for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.given.len()
    }

    fn gather(&self, mine: Tensor<3>) -> Result<Tensor<3>> {
        let device = mine.device();
        let all = self.exchange(mine.into_data());
        Ok(Tensor::cat(all.into_iter().map(|data| Tensor::from_data(data, &device)).collect(), 1))
    }

    fn sum(&self, mine: Tensor<1>) -> Result<Tensor<1>> {
        let device = mine.device();
        let all = self.exchange(mine.into_data()).into_iter();
        let tensors = all.map(|data| Tensor::<1>::from_data(data, &device));
        // In the order of the ranks, so that every rank has the same bits.
        let sum = tensors.reduce(|sum, next| sum + next);
        Ok(sum.unwrap_or_else(|| Tensor::zeros([0], &device)))
    }
}
