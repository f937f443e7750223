//! Why a run could not start, go on or be read.

use std::path::{Path, PathBuf};

/// `Result` with this crate's [`TrainError`].
pub type Result<T, E = TrainError> = std::result::Result<T, E>;

/// What stops a run. Every message is one line; [`TrainError::hint`] says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Configuration, registry or data.
    #[error(transparent)]
    Core(#[from] lejepa_core::Error),
    /// The objective's settings or input.
    #[error(transparent)]
    Objective(#[from] lejepa_objective::ObjectiveError),
    /// A file of the run folder could not be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// `"create"`, `"write"`, `"read"`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file of the run folder does not hold what it should.
    #[error("{}: {reason}", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The output folder already holds something.
    #[error("{} already exists and is not empty", .0.display())]
    OutputExists(PathBuf),
    /// The folder is not a run.
    #[error("{} is not a run folder: {reason}", .path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// Another process works in the run folder.
    #[error("{} is in use by another process{}", .path.display(), .by)]
    Locked {
        /// The run folder.
        path: PathBuf,
        /// " (process 123)", or nothing where it is not known.
        by: String,
    },
    /// A checkpoint or weights of something else.
    #[error("{what}: {}", .differences.join("; "))]
    Mismatch {
        /// What does not fit.
        what: &'static str,
        /// What differs, one sentence each.
        differences: Vec<String>,
    },
    /// Training has left the numbers: NaN or infinity in a loss, an embedding or a parameter.
    #[error("step {step}: {what}")]
    NotFinite {
        /// Which tensor or loss, and its value.
        what: String,
        /// The step at which it was seen, from 1.
        step: u64,
        /// The newest checkpoint, which is from before.
        saved: Option<PathBuf>,
    },
    /// More samples turned bad during training than the run may have.
    #[error(
        "{bad} of {total} samples became unusable during training, more than data.max_bad = {limit}; the last one: {last}"
    )]
    TooManyBad {
        /// How many turned bad.
        bad: usize,
        /// Of how many.
        total: usize,
        /// The configured share.
        limit: f64,
        /// Name and reason of the last one.
        last: String,
    },
    /// So many samples turned bad that no batch is left.
    #[error(
        "fewer than a batch of {batch} of {total} samples are still usable; the last that is not: {last}"
    )]
    TooFewLeft {
        /// How many there were.
        total: usize,
        /// Samples of a step.
        batch: usize,
        /// Name and reason of the last bad one.
        last: String,
    },
    /// Data at another place are not those of the run.
    #[error(
        "these are not the data of the run: it has {theirs} samples to train on, here are {ours}, or other names"
    )]
    OtherData {
        /// Samples that the run trains on.
        theirs: usize,
        /// Samples that are there.
        ours: usize,
    },
    /// The device failed to compute or to hand back data.
    #[error("the device failed: {0}")]
    Device(String),
    /// Workers of a group that do not reach each other, or do not agree.
    #[error("the workers of the group failed: {0}")]
    Group(String),
    /// Another worker of the group has no batch.
    #[error("worker {rank} failed: {reason}")]
    Worker {
        /// Its rank, from 0.
        rank: usize,
        /// Its error.
        reason: String,
    },
    /// Asked to stop; what was reached is saved.
    #[error("stopped at step {step}; everything up to it is saved in {}", .run.display())]
    Interrupted {
        /// Steps done.
        step: u64,
        /// The run folder.
        run: PathBuf,
    },
}

impl TrainError {
    /// For `map_err` on file operations.
    ///
    /// ```
    /// use lejepa_train::TrainError;
    ///
    /// let file = std::path::Path::new("nowhere/run.json");
    /// let error = std::fs::read(file).map_err(TrainError::io("read", file)).unwrap_err();
    /// assert!(error.to_string().contains("nowhere/run.json"));
    /// // Not of every error is it known what to do next.
    /// assert_eq!(error.hint(), None);
    /// assert!(TrainError::OutputExists("runs/a".into()).hint().is_some());
    /// ```
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// What to do next, in one line, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Core(e) => e.hint(),
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    Some("choose a writable folder".into())
                }
                std::io::ErrorKind::StorageFull => {
                    Some("free some disk space; what was saved before is intact".into())
                }
                _ => None,
            },
            Self::OutputExists(_) => Some(
                "runs are never overwritten: choose another folder".into(),
            ),
            Self::Locked { .. } => {
                Some("wait until it is done, or choose another folder".into())
            }
            Self::Mismatch { .. } => Some(
                "make the settings equal, or start a new run; train.init takes weights of the same model"
                    .into(),
            ),
            Self::Corrupt { .. } => {
                Some("the file was damaged or edited: restore it, or start a new run".into())
            }
            Self::NotARun { .. } => Some(
                "give the folder that a training named at its end, e.g. runs/image-001".into(),
            ),
            Self::NotFinite { saved, .. } => {
                let saved = saved.as_ref().map_or("nothing was saved before".into(), |path| {
                    format!("the last good checkpoint is {}", path.display())
                });
                Some(format!("lower train.lr or raise schedule.warmup; {saved}"))
            }
            Self::TooManyBad { .. } => {
                Some("all steps are saved; repair the data, or resume with a higher data.max_bad".into())
            }
            Self::TooFewLeft { .. } => {
                Some("all steps are saved; see whether the data are still in their place, and resume".into())
            }
            Self::OtherData { .. } => Some(
                "data.source has to hold the same files below it; train.init starts a new run from the weights".into(),
            ),
            Self::Interrupted { run, .. } => Some(format!("resume {}", run.display())),
            Self::Device(_) => Some("try device = \"cpu\", or a smaller train.batch".into()),
            _ => None,
        }
    }
}

impl From<burn::tensor::TensorReadError> for TrainError {
    fn from(e: burn::tensor::TensorReadError) -> Self {
        Self::Device(e.to_string())
    }
}
