//! All processes that `mpirun` started, as a group.

use std::sync::{Arc, Mutex, PoisonError};

use lejepa_train::{Group, Result, TrainError};
use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::CommunicatorCollectives;
use mpi::{Count, Threading};

/// Numbers of one call: MPI counts in 32 bits.
const MOST: usize = 1 << 28;

/// This process as one of those that `mpirun` started. Dropping it waits for the others to end.
pub struct World {
    _universe: Universe,
    group: Arc<Ranks>,
}

impl World {
    /// Joins the other processes. A process that was not started by `mpirun` is a world of one. Once in a process.
    ///
    /// # Errors
    /// [`TrainError::Group`] where this process has joined before, or the library allows only calls of one thread.
    pub fn join() -> Result<Self> {
        let joined = mpi::initialize_with_threading(Threading::Serialized);
        let Some((universe, threading)) = joined else {
            return Err(TrainError::Group("this process has joined MPI before".into()));
        };
        if threading < Threading::Serialized {
            return Err(TrainError::Group("the MPI library was built for single threads".into()));
        }
        let world = universe.world();
        let [rank, size] = [world.rank(), world.size()].map(|n| usize::try_from(n).unwrap_or(0));
        let group = Arc::new(Ranks { rank, size, turn: Mutex::new(()) });
        Ok(Self { _universe: universe, group })
    }

    /// The workers.
    pub fn group(&self) -> Arc<dyn Group> {
        self.group.clone()
    }

    /// Ends all processes at once, for an error that the others do not know of.
    pub fn abort(&self, code: u8) -> ! {
        SimpleCommunicator::world().abort(code.into())
    }
}

/// Errors of MPI itself end all processes, as is its default.
struct Ranks {
    rank: usize,
    size: usize,
    /// Held during a call, which only one thread may make.
    turn: Mutex<()>,
}

impl Ranks {
    fn call<T>(&self, work: impl FnOnce(SimpleCommunicator) -> T) -> T {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        work(SimpleCommunicator::world())
    }

    fn sum_all<T: Copy + Default + mpi::traits::Equivalence>(&self, values: &mut [T]) {
        for part in values.chunks_mut(MOST) {
            let mine = part.to_vec();
            self.call(|world| world.all_reduce_into(&mine[..], part, SystemOperation::sum()));
        }
    }
}

impl Group for Ranks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, mine: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let too_much = || TrainError::Group("more than 2 GiB to exchange in a step".into());
        let own = Count::try_from(mine.len()).map_err(|_| too_much())?;
        let mut counts = vec![0 as Count; self.size];
        self.call(|world| world.all_gather_into(&own, &mut counts[..]));
        let mut starts = Vec::with_capacity(self.size);
        let mut total: Count = 0;
        for count in &counts {
            starts.push(total);
            total = total.checked_add(*count).ok_or_else(too_much)?;
        }
        let mut all = vec![0u8; usize::try_from(total).unwrap_or(0)];
        {
            let mut parts = PartitionMut::new(&mut all[..], &counts[..], &starts[..]);
            self.call(|world| world.all_gather_varcount_into(&mine[..], &mut parts));
        }
        let mut rest = &all[..];
        let mut take = |count: &Count| {
            let (part, after) = rest.split_at(usize::try_from(*count).unwrap_or(0));
            rest = after;
            part.to_vec()
        };
        Ok(counts.iter().map(&mut take).collect())
    }

    fn sum_in_place(&self, values: &mut [f64]) -> Result<()> {
        self.sum_all(values);
        Ok(())
    }

    fn sum_in_place_f32(&self, values: &mut [f32]) -> Result<()> {
        self.sum_all(values);
        Ok(())
    }
}
