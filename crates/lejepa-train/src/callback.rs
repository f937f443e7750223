//! What happens after a step: the trait [`Callback`], and what registers one.

use std::sync::Arc;

use indexmap::IndexMap;
use lejepa_core::{Component, Kind, Labels, Table, ViewSource, config};
use lejepa_objective::Gauge;

use crate::Result;
use crate::batch::Batch;
use crate::config::Settings;
use crate::model::Model;
use crate::step::{Learner, Pass};
use burn::tensor::Tensor;

/// Named numbers of a step, in the order in which they are logged.
pub type Scalars = IndexMap<String, f64>;

/// Whether a run continues after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Continue.
    Continue,
    /// Save, probe and end as if this had been the last step. The run is finished then: resuming it only
    /// reports it again.
    Stop,
}

/// Sees a run after each step.
///
/// What it keeps between steps goes into checkpoints by [`Callback::save`], so that a run that is resumed
/// goes on to the same bits.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
/// use lejepa_train::{AfterStep, Callback, Flow};
///
/// /// Ends a run whose SIGReg is low enough.
/// struct LowSigreg(f64);
///
/// impl Callback for LowSigreg {
///     fn name(&self) -> &str {
///         "low_sigreg"
///     }
///     fn after_step(&mut self, at: &mut AfterStep<'_>) -> lejepa_train::Result<Flow> {
///         let sigreg = at.scalars.get("sigreg").copied().unwrap_or(f64::MAX);
///         Ok(if sigreg < self.0 { Flow::Stop } else { Flow::Continue })
///     }
/// }
///
/// let run = RunDir::create(&folder.path().join("stopped"))?;
/// let device = Device::flex();
/// let trainer = Trainer::new(&resolved, &device).callback(Box::new(LowSigreg(1e9)));
/// let outcome = trainer.run(&run, Start::New)?;
/// assert_eq!(outcome.steps, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Callback: Send {
    /// A name for its state in checkpoints, unique within a run: lower case, digits, `_`.
    fn name(&self) -> &str;

    /// Numbers of a pass that [`Callback::after_step`] wants on the host, in [`AfterStep::read`]. They are read
    /// from the device together with the losses: a read of its own would make the device wait twice.
    fn read(&self, pass: &Pass, batch: &Batch) -> Option<Tensor<1>> {
        let _ = (pass, batch);
        None
    }

    /// Called after the parameters moved.
    ///
    /// # Errors
    /// What should end the run as failed.
    fn after_step(&mut self, at: &mut AfterStep<'_>) -> Result<Flow>;

    /// Called before a checkpoint is written after step `step`.
    fn before_save(&mut self, step: u64) {
        let _ = step;
    }

    /// Checkpoints that must not be removed, each with the name of a marker file that points to it.
    fn pinned(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    /// State to go into the checkpoint.
    ///
    /// # Errors
    /// State that cannot be read from its device or written.
    fn save(&self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Restores what [`Callback::save`] returned.
    ///
    /// # Errors
    /// State that cannot be read.
    fn load(&mut self, state: &[u8]) -> Result<()> {
        let _ = state;
        Ok(())
    }

    /// Other weights to probe and export than the trained ones, such as their moving average.
    ///
    /// # Errors
    /// Weights that cannot be read.
    fn evaluated(&self) -> Result<Option<Model>> {
        Ok(None)
    }
}

/// What a [`Callback`] sees.
#[non_exhaustive]
pub struct AfterStep<'a> {
    /// Steps done.
    pub step: u64,
    /// Steps of the run.
    pub total: u64,
    /// Whether this step's scalars are logged anyway; those of a step that a callback stops at are too.
    pub is_logged: bool,
    /// Model, optimizer and objective after the update.
    pub learner: &'a Learner,
    /// The views and samples of the step; in a group, those of this rank.
    pub batch: &'a Batch,
    /// Indices of all samples of the step, in the order of the embeddings: in a group, of all ranks.
    pub samples: &'a [usize],
    /// The embeddings before the update, detached: for each stream `[views of the stream, samples, dim]`.
    pub embeddings: &'a [Tensor<3>],
    /// The projections, `[views, samples, dim]`.
    pub projections: &'a Tensor<3>,
    /// The values of [`Callback::read`]; empty where it returned nothing.
    pub read: &'a [f32],
    /// Losses and rates of the step. What is added here is logged.
    pub scalars: &'a mut Scalars,
    /// Warnings for the user.
    pub warnings: &'a mut Vec<String>,
}

/// What a callback is built for.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct CallbackContext<'a> {
    /// The general settings.
    pub settings: &'a Settings,
    /// The data, to keep where views are wanted later.
    pub source: &'a Arc<dyn ViewSource>,
    /// Samples that are trained on, ascending.
    pub trained_on: &'a [usize],
    /// Usable samples that are not, ascending.
    pub held_out: &'a [usize],
    /// Steps of the run.
    pub total: u64,
    /// What SIGReg's values mean.
    pub gauge: Gauge,
    /// The model with its initial weights.
    pub model: &'a Model,
}

impl<'a> CallbackContext<'a> {
    /// Label columns of the data.
    pub fn labels(&self) -> &'a [Labels] {
        self.source.labels()
    }
}

/// A [`Callback`] that a configuration can switch on: `callbacks.NAME.enabled = true`.
pub trait CallbackKind: Component {
    /// Whether it is on unless the configuration says otherwise.
    const ENABLED: bool = false;

    /// Refuses settings out of range, before any data is opened.
    ///
    /// # Errors
    /// [`Error::BadValue`](lejepa_core::Error::BadValue).
    fn validate(config: &Self::Config) -> lejepa_core::Result<()> {
        let _ = config;
        Ok(())
    }

    /// Builds the callback for a run.
    ///
    /// # Errors
    /// Data or settings that it cannot serve.
    fn build(config: Self::Config, at: &CallbackContext<'_>) -> Result<Box<dyn Callback>>;
}

/// The kind of callbacks: `register!(lejepa_train::Callbacks: Mine)`.
pub struct Callbacks;

/// How a callback is checked and built from its section.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct CallbackBuild {
    /// [`CallbackKind::ENABLED`].
    pub enabled: bool,
    /// [`CallbackKind::validate`].
    pub validate: fn(&Table) -> lejepa_core::Result<()>,
    /// [`CallbackKind::build`].
    pub build: fn(&Table, &CallbackContext<'_>) -> Result<Box<dyn Callback>>,
}

impl Kind for Callbacks {
    const WORD: &'static str = "callback";
    type Build = CallbackBuild;
}

impl<T: CallbackKind> lejepa_core::Builds<T> for Callbacks {
    const BUILD: &'static CallbackBuild =
        &CallbackBuild { enabled: T::ENABLED, validate: validate::<T>, build: build::<T> };
}

fn section<T: Component>(own: &Table) -> lejepa_core::Result<T::Config> {
    config::parse(&format!("callbacks.{}", T::NAME), own)
}

fn validate<T: CallbackKind>(own: &Table) -> lejepa_core::Result<()> {
    T::validate(&section::<T>(own)?)
}

fn build<T: CallbackKind>(own: &Table, at: &CallbackContext<'_>) -> Result<Box<dyn Callback>> {
    T::build(section::<T>(own)?, at)
}

/// Names of callbacks are names of files, and unique.
pub(crate) fn check_names(callbacks: &[Box<dyn Callback>]) -> Result<()> {
    for (i, callback) in callbacks.iter().enumerate() {
        let name = callback.name();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(bad_name(format!("`{name}` is not made of a-z, 0-9 and _")));
        }
        if callbacks[..i].iter().any(|other| other.name() == name) {
            return Err(bad_name(format!("two callbacks have the name `{name}`")));
        }
    }
    Ok(())
}

fn bad_name(reason: String) -> crate::TrainError {
    lejepa_core::Error::bad_value("callbacks", reason).into()
}
