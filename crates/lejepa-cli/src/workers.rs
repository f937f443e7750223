//! The processes that `mpirun` started, as workers of one run.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;

use lejepa_train::{Alone, Group, RunDir, TrainError};

use crate::args::Command;
use crate::error::CliError;

/// What launchers say of the number of processes and of a process's place on its machine: Open MPI, MPICH and
/// those that descend from it, Slurm.
const SIZE: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];
#[cfg(feature = "cuda")]
const LOCAL_RANK: [&str; 3] = ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"];

fn variable(names: [&str; 3]) -> Option<usize> {
    names.iter().find_map(|name| std::env::var(name).ok()?.parse().ok())
}

/// The place of this process among those of its machine: which graphics card is its own.
#[cfg(feature = "cuda")]
pub(crate) fn local_rank() -> usize {
    variable(LOCAL_RANK).unwrap_or(0)
}

/// This process as a worker.
pub(crate) struct Workers {
    group: Arc<dyn Group>,
    #[cfg(feature = "mpi")]
    world: Option<lejepa_mpi::World>,
    /// Whether all workers know of the error that ends them.
    known: Cell<bool>,
}

impl Workers {
    /// Joins the others, where there are any.
    pub(crate) fn join(command: &Command) -> Result<Self, CliError> {
        let processes = variable(SIZE).unwrap_or(1);
        if processes > 1 && !matches!(command, Command::Train(_) | Command::Resume(_)) {
            return Err(CliError::Usage(
                format!("{processes} processes were started, each of which would do all of this"),
                "only `train` and `resume` divide their work among processes".into(),
            ));
        }
        #[cfg(not(feature = "mpi"))]
        if processes > 1 {
            return Err(CliError::Usage(
                format!(
                    "{processes} processes were started, and this binary was built without MPI"
                ),
                "build it with `cargo build --release --features mpi`".into(),
            ));
        }
        #[cfg(feature = "mpi")]
        if processes > 1 {
            let world = lejepa_mpi::World::join()?;
            let joined = world.group().size();
            if joined != processes {
                return Err(CliError::Usage(
                    format!("{processes} processes were started, of which MPI connects {joined}"),
                    "start them by the mpirun of this MPI library, or by `srun --mpi=pmix`".into(),
                ));
            }
            let known = Cell::new(false);
            return Ok(Self { group: world.group(), world: Some(world), known });
        }
        Ok(Self {
            group: Arc::new(Alone),
            #[cfg(feature = "mpi")]
            world: None,
            known: Cell::new(false),
        })
    }

    pub(crate) fn group(&self) -> Arc<dyn Group> {
        self.group.clone()
    }

    /// Whether this is the process that speaks and writes.
    pub(crate) fn is_root(&self) -> bool {
        self.group.rank() == 0
    }

    /// How many there are, where there are several; `others` are threads of this process.
    pub(crate) fn words(&self, others: usize) -> String {
        match self.group.size() + others {
            1 => String::new(),
            size => format!(" · {size} workers"),
        }
    }

    /// A run folder, made by one process.
    pub(crate) fn run_dir(
        &self,
        make: impl FnOnce() -> Result<RunDir, CliError>,
    ) -> Result<RunDir, CliError> {
        if self.group.size() == 1 {
            return make();
        }
        let made = self.is_root().then(make);
        let path = match &made {
            Some(Ok(run)) => run.path().to_string_lossy().into_owned().into_bytes(),
            _ => Vec::new(),
        };
        let said = self.group.exchange(path)?.into_iter().next().unwrap_or_default();
        if said.is_empty() {
            self.known.set(true);
        }
        match made {
            Some(made) => made,
            None if said.is_empty() => Err(CliError::Elsewhere),
            None => {
                let path = PathBuf::from(String::from_utf8_lossy(&said).into_owned());
                Ok(RunDir::at(&path))
            }
        }
    }

    /// Reports an error, by one of the workers, and ends the others where they do not know of it.
    pub(crate) fn report(&self, error: &CliError, json: bool) {
        use TrainError::{Interrupted, NotFinite, TooFewLeft, TooManyBad, Worker};
        let is_known = self.known.get()
            || matches!(
                error,
                CliError::Elsewhere
                    | CliError::Train(
                        Interrupted { .. }
                            | NotFinite { .. }
                            | TooFewLeft { .. }
                            | TooManyBad { .. }
                            | Worker { .. }
                    )
            );
        if self.is_root() {
            error.report(json);
        } else if !is_known {
            // What is wrong everywhere is said by rank 0, which ends this process in the meantime.
            std::thread::sleep(std::time::Duration::from_secs(1));
            crate::output::errln!("worker {}:", self.group.rank());
            error.report(false);
        }
        #[cfg(feature = "mpi")]
        if let Some(world) = self.world.as_ref().filter(|_| !is_known) {
            world.abort(error.exit_code());
        }
    }
}
