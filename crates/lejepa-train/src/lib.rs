//! The LeJEPA trainer: from a configuration to a run folder with a probed encoder.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | the general settings; [`Request`] → [`Resolved`]: strict layers of them |
//! | [`data`] | which samples are trained on, which are probed on |
//! | [`loader`] | batches of views, the same for any number of threads |
//! | [`model`] | encoder and projector as one burn module |
//! | [`step`] | one step of it |
//! | [`trainer`] | the loop |
//! | [`export()`], [`Embedder`] | what applications take from a run |
//! | [`checkpoint`], [`rundir`] | what is on the disk |
//! | [`mod@embed`], [`mod@probe`] | frozen embeddings and what they know |
//! | [`observe`] | what a run tells whoever watches it |
//!
//! ```no_run
//! use burn::tensor::Device;
//! use lejepa_core::Registry;
//! use lejepa_train::{Request, RunDir, Silent, Start, train};
//! use std::sync::atomic::AtomicBool;
//!
//! # fn main() -> lejepa_train::Result<()> {
//! let registry = Registry::discover()?;
//! let request = Request { assignments: vec!["modality=audio".into()], ..Request::default() };
//! let resolved = request.resolve(&registry)?;
//! let run = RunDir::create("runs/first".as_ref())?;
//! let never = AtomicBool::new(false);
//! let outcome = train(&resolved, &Device::flex(), &run, Start::New, &never, &mut Silent)?;
//! println!("SIGReg {:.3}", outcome.last.sigreg);
//! # Ok(())
//! # }
//! ```

mod adamw;
pub mod checkpoint;
mod compare;
pub mod config;
mod conformance;
pub mod data;
pub mod embed;
mod error;
mod events;
mod explain;
mod export;
pub mod loader;
pub mod model;
mod monitor;
pub mod observe;
mod prepared;
pub mod probe;
mod report;
mod resolved;
pub mod rundir;
mod schedule;
pub mod step;
pub mod trainer;

pub use config::Settings;
pub use error::{Result, TrainError};
pub use export::{Embedder, NamedEmbeddings, export};
pub use model::Model;
pub use observe::{Event, Observer, Silent, StepMetrics};
pub use prepared::{Prepared, ProbeComparison};
pub use resolved::{Request, Resolved};
pub use rundir::RunDir;
pub use schedule::learning_rate;
pub use step::{Learner, Pass};
pub use trainer::{Outcome, Start, train};
