//! Workers that share a step.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use burn::tensor::{Tensor, TensorData};

use crate::{Result, TrainError};

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
    exchange: Mutex<Exchange>,
    changed: Condvar,
}

/// What is exchanged between threads.
struct Exchange {
    /// What ranks have given since the last round.
    given: Vec<Option<Vec<u8>>>,
    /// Rounds that are complete, and what was given in the last one.
    rounds: u64,
    last: Arc<Vec<Vec<u8>>>,
    /// Whether a worker has left.
    is_over: bool,
}

impl Threads {
    /// A group of `size` workers, at least one: a handle for each, to be moved into its thread. When a handle is dropped
    /// or left ([`Threads::leave`]), the exchanges of the others fail.
    pub fn group(size: usize) -> Vec<Self> {
        let size = size.max(1);
        let (given, last) = (vec![None; size], Arc::default());
        let exchange = Mutex::new(Exchange { given, rounds: 0, last, is_over: false });
        let shared = Arc::new(Shared { exchange, changed: Condvar::new() });
        (0..size).map(|rank| Self { rank, shared: shared.clone() }).collect()
    }

    /// Ends the group: nobody waits for this worker any more.
    pub fn leave(&self) {
        self.exchanged().is_over = true;
        self.shared.changed.notify_all();
    }

    fn exchanged(&self) -> MutexGuard<'_, Exchange> {
        self.shared.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Group for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.exchanged().given.len()
    }

    fn exchange(&self, mine: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let mut state = self.exchanged();
        let round = state.rounds;
        state.given[self.rank] = Some(mine);
        if state.given.iter().all(Option::is_some) {
            state.last = Arc::new(state.given.iter_mut().filter_map(Option::take).collect());
            state.rounds += 1;
            self.shared.changed.notify_all();
        }
        // The next round cannot be complete before this rank has given to it.
        while state.rounds == round && !state.is_over {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.rounds == round {
            return Err(TrainError::Group(LEFT.into()));
        }
        let all = state.last.clone();
        drop(state);
        Ok(all.to_vec())
    }
}

/// What an exchange says when a worker has left.
pub(crate) const LEFT: &str = "another worker has ended";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_gives_what_all_ranks_gave_to_it() {
        let all = std::thread::scope(|scope| {
            let work = |rank: Threads| {
                let mut seen = Vec::new();
                for round in 0..200u8 {
                    if rank.rank() == usize::from(round % 3) {
                        std::thread::yield_now();
                    }
                    seen.push(rank.exchange(vec![rank.rank() as u8, round]).unwrap());
                }
                seen
            };
            let workers = Threads::group(3).into_iter().map(|rank| scope.spawn(move || work(rank)));
            let workers: Vec<_> = workers.collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
        });
        for seen in all {
            for (round, given) in (0..).zip(seen) {
                assert_eq!(given, [[0, round], [1, round], [2, round]]);
            }
        }
    }

    #[test]
    fn nobody_waits_for_a_worker_that_has_ended() {
        let mut ranks = Threads::group(2);
        let (second, first) = (ranks.remove(1), ranks.remove(0));
        let waiting =
            std::thread::spawn(move || first.exchange(vec![1]).map_err(|e| e.to_string()));
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(second);
        assert!(waiting.join().unwrap().unwrap_err().contains("another worker has ended"));
    }
}
