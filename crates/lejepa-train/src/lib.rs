//! The LeJEPA trainer: from a configuration to a run folder with a probed encoder.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | the general settings; [`Request`] → [`Resolved`]: strict layers of them |
//! | `prepared`, [`data`] | a configuration with its data: which samples are trained on, which probed on |
//! | `order`, `loader`, `batch` | which samples make up a step, their views, the same for any number of threads |
//! | `model`, `step`, `flat`, `group` | encoders, projectors and prediction as one burn module; one step of it; ranks |
//! | `trainer`, `run`, `begin` | the loop; a run in progress; where it begins |
//! | `callback`, [`callbacks`] | what happens after a step: monitor, best checkpoint, EMA, online probe |
//! | `adamw`, `schedule` | the optimizer and the learning rate by default |
//! | [`checkpoint`], [`rundir`] | what is on the disk |
//! | [`mod@embed`], [`mod@probe`], `comparison` | frozen embeddings and what they know |
//! | `export` | what applications take from a run |
//! | [`observe`], `report`, `events` | what a run reports: to a program, as text, to TensorBoard |
//!
//! ```no_run
//! use burn::tensor::Device;
//! use lejepa_core::Registry;
//! use lejepa_train::{Request, RunDir, Start, Trainer};
//!
//! # fn main() -> lejepa_train::Result<()> {
//! let registry = Registry::discover()?;
//! let resolved = Request::parse("modality=audio").resolve(&registry)?;
//! let run = RunDir::create("runs/first".as_ref())?;
//! let outcome = Trainer::new(&resolved, &Device::flex()).run(&run, Start::New)?;
//! println!("SIGReg {:.3}", outcome.last.get("sigreg"));
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod adamw;
mod batch;
mod begin;
mod budget;
mod build;
mod callback;
pub mod callbacks;
pub mod census;
pub mod checkpoint;
mod compare;
mod comparison;
pub mod config;
mod conformance;
pub mod data;
mod dense;
mod dotted;
pub mod embed;
mod embed_files;
mod error;
mod events;
mod explain;
mod export;
mod fit;
mod flat;
mod folds;
mod foreign;
mod group;
mod guard;
pub mod judge;
pub mod label_free;
mod loader;
mod model;
mod named;
pub mod observe;
mod order;
mod outcome;
mod planner;
mod prepared;
mod principal;
pub mod probe;
mod readback;
mod report;
mod resolved;
mod retrieval;
mod run;
pub mod rundir;
mod schedule;
mod skipped;
mod step;
mod trainer;
mod transfer;
mod windows;

pub use adamw::{AdamWKind, AdamWSettings};
pub use batch::Batch;
pub use callback::{
    AfterStep, Callback, CallbackBuild, CallbackContext, CallbackKind, Callbacks, Flow, Scalars,
};
pub use comparison::{ProbeComparison, compare_probes};
pub use config::Settings;
pub use dense::probe_layers;
pub use embed::embed_and_project;
pub use embed_files::EmbeddedFile;
pub use error::{Result, TrainError};
pub use export::{Embedder, export};
pub use fit::Fitted;
pub use folds::{FoldScores, ShotScores, cross_validate, few_shots};
pub use foreign::{export_onnx, export_timm, tensors_of};
pub use group::{Alone, Group, Threads};
pub use guard::is_guarded;
pub use loader::{Loader, make_batch};
pub use model::Model;
pub use named::{Format, NamedEmbeddings, NamedLabels, NamedNumbers};
pub use observe::{Event, Observer, Silent, StepMetrics};
pub use order::Order;
pub use outcome::{Outcome, Start};
pub use planner::{Acted, Planner, PlannerConfig, Policy, act};
pub use prepared::Prepared;
pub use principal::principal_components;
pub use resolved::{Request, Resolved};
pub use retrieval::{RECALL_AT, Ranks, Retrieval, retrieval};
pub use rundir::RunDir;
pub use schedule::{Cosine, CosineSettings};
pub use skipped::Skipped;
pub use step::{Assessment, Learner, Pass};
pub use trainer::Trainer;
