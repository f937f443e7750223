//! What the workers of a group tell each other between steps.

use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::group::Group;
use crate::skipped::Skipped;
use crate::{Result, TrainError};

/// What a rank says of its batch.
#[derive(Serialize, Deserialize)]
struct Notice {
    samples: Vec<usize>,
    replaced: Vec<Skipped>,
    /// Why it has none.
    error: Option<String>,
}

/// A batch of this rank, and what is known of those of all ranks.
pub(crate) struct Shared {
    pub(crate) batch: Batch,
    /// Indices of the samples of all ranks.
    pub(crate) samples: Vec<usize>,
    /// Samples that could not be used, of all ranks.
    pub(crate) replaced: Vec<Skipped>,
}

/// Tells all ranks of a batch. An error of one rank is one of all.
pub(crate) fn share(group: &dyn Group, batch: Result<Batch>) -> Result<Shared> {
    let notice = match &batch {
        Ok(batch) => {
            let (samples, replaced) = (batch.samples().to_vec(), batch.replaced().to_vec());
            Notice { samples, replaced, error: None }
        }
        Err(error) => {
            Notice { samples: Vec::new(), replaced: Vec::new(), error: Some(error.to_string()) }
        }
    };
    let all = match group.size() {
        1 => vec![notice],
        _ => exchange(group, &notice)?,
    };
    let batch = batch?;
    let (mut samples, mut replaced) = (Vec::new(), Vec::<Skipped>::new());
    for (rank, notice) in all.into_iter().enumerate() {
        if let Some(reason) = notice.error {
            return Err(TrainError::Worker { rank, reason });
        }
        samples.extend(notice.samples);
        let is_new = |new: &Skipped| replaced.iter().all(|known| known.index != new.index);
        let new: Vec<Skipped> = notice.replaced.into_iter().filter(is_new).collect();
        replaced.extend(new);
    }
    Ok(Shared { batch, samples, replaced })
}

fn exchange(group: &dyn Group, notice: &Notice) -> Result<Vec<Notice>> {
    let unreadable = |e: serde_json::Error| TrainError::Group(e.to_string());
    let mine = serde_json::to_vec(notice).map_err(unreadable)?;
    let all = group.exchange(mine)?;
    all.iter().map(|bytes| serde_json::from_slice(bytes).map_err(unreadable)).collect()
}

/// What any of the ranks says.
pub(crate) fn any<const N: usize>(group: &dyn Group, mine: [bool; N]) -> Result<[bool; N]> {
    if group.size() == 1 {
        return Ok(mine);
    }
    let all = group.exchange(mine.map(u8::from).to_vec())?;
    Ok(std::array::from_fn(|i| all.iter().any(|flags| flags.get(i) == Some(&1))))
}

/// Refuses ranks whose weights are not the same bits: then their processors compute differently, and the mean of
/// their gradients is that of no model.
pub(crate) fn same_weights(group: &dyn Group, checksum: u64, step: u64) -> Result<()> {
    let all = group.exchange(checksum.to_le_bytes().to_vec())?;
    if all.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    let reason = format!("the weights of the workers differ after step {step}");
    Err(TrainError::Group(reason))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lejepa_core::{View, ViewSpec, Views};

    use super::*;
    use crate::group::Threads;

    /// What each of two ranks gets.
    fn both<T: Send>(work: impl Fn(Threads) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let start = |rank| scope.spawn(|| work(rank));
            let threads: Vec<_> = Threads::group(2).into_iter().map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn batch(sample: usize) -> Batch {
        let spec = Arc::new(ViewSpec::multi_crop(1, [1, 1], 0, [1, 1]));
        let views = Views::multi_crop(vec![View::new([1, 1], vec![0.0]).unwrap()], vec![]);
        let mut batch = Batch::new(spec, vec![sample], vec![views]).unwrap();
        let skipped =
            |index, name: &str| Skipped { index, name: name.into(), reason: "bad".into() };
        batch.replaced = vec![skipped(7, "both"), skipped(sample, "one")];
        batch
    }

    #[test]
    fn every_rank_knows_the_samples_of_all() {
        for shared in both(|rank| share(&rank, Ok(batch(rank.rank()))).unwrap()) {
            assert_eq!(shared.samples, [0, 1]);
            let replaced: Vec<usize> = shared.replaced.iter().map(|s| s.index).collect();
            assert_eq!(replaced, [7, 0, 1]);
        }
    }

    #[test]
    fn an_error_of_one_rank_ends_all() {
        let errors = both(|rank| {
            let mine = match rank.rank() {
                0 => Ok(batch(0)),
                _ => Err(TrainError::Device("lost".into())),
            };
            share(&rank, mine).err().unwrap().to_string()
        });
        assert_eq!(errors, ["worker 1 failed: the device failed: lost", "the device failed: lost"]);
    }

    #[test]
    fn flags_and_weights_are_compared() {
        let flags = both(|rank| any(&rank, [rank.rank() == 1, false]).unwrap());
        assert_eq!(flags, [[true, false]; 2]);
        assert!(both(|rank| same_weights(&rank, 5, 1)).iter().all(Result::is_ok));
        assert!(both(|rank| same_weights(&rank, rank.rank() as u64, 1)).iter().all(Result::is_err));
    }
}
