//! What a LeJEPA modality plugs into: the traits [`Modality`], [`ViewSampler`], [`Dataset`] and
//! [`Encoder`], the [`Registry`], and the data types that pass between them.
//!
//! Data flows one way: a [`Source`] names samples, a [`Dataset`] decodes one, a [`ViewSampler`]
//! makes [`Views`] of it, an [`Encoder`] embeds them. A configuration becomes a [`Pipeline`], which knows
//! the shapes of views before any data is opened. The trainer sees data as a [`ViewSource`] and the
//! backbone as a [`BoxedEncoder`], so it is compiled once for every modality.
//!
//! | module | what it holds |
//! |---|---|
//! | `component`, [`kind`], `registry` | what can be registered, and is found by name |
//! | [`config`] | strict layers of configuration |
//! | `modality`, `sampler`, `pipeline` | a kind of data, its views, both from a configuration |
//! | `blob`, `listing`, `source`, `dataset`, `labels`, `facts`, `copies` | where samples are and how they are decoded |
//! | `view`, `values`, `views`, `spec` | a view, the views of a sample, what they promise to be |
//! | `view_source` | a data set and a sampler as the trainer sees them |
//! | `encoder`, `features`, `prediction`, `statistic`, `optimizer` | what a trainer is put together from |
//! | `erased` | burn modules without their type |
//! | `rng` | random streams addressed by what they are for |
//! | [`testing`] | the conformance suite of a modality |
//!
//! # A modality in full
//!
//! ```
//! use lejepa_core::{
//!     Component, Dataset, Decoded, Error, Modality, OpenOptions, Result, Source, View, ViewRng, ViewSampler,
//!     ViewSpec, Views, Window, kind, register,
//! };
//! use rand::RngExt;
//! use serde::{Deserialize, Serialize};
//!
//! /// Sine waves: three frequencies are three classes; a view is a stretch of the wave.
//! struct Waves;
//!
//! #[derive(Serialize, Deserialize)]
//! #[serde(deny_unknown_fields, default)]
//! struct Config {
//!     /// Samples per view.
//!     window: usize,
//! }
//!
//! impl Default for Config {
//!     fn default() -> Self {
//!         Self { window: 32 }
//!     }
//! }
//!
//! struct Demo;
//!
//! impl Dataset for Demo {
//!     type Item = Vec<f32>;
//!     fn len(&self) -> usize {
//!         30
//!     }
//!     fn name(&self, index: usize) -> String {
//!         format!("wave {index}")
//!     }
//!     fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Vec<f32>>> {
//!         let pitch = 0.1 * (1 + index % 3) as f32;
//!         Ok(Decoded::whole((0..128).map(|t| (pitch * t as f32).sin()).collect(), 512))
//!     }
//! }
//!
//! struct Stretches(usize);
//!
//! impl Stretches {
//!     fn cut(&self, wave: &[f32], at: usize) -> Result<View> {
//!         View::new([1, self.0], wave[at..at + self.0].to_vec())
//!     }
//! }
//!
//! impl ViewSampler for Stretches {
//!     type Sample = Vec<f32>;
//!     fn spec(&self) -> ViewSpec {
//!         ViewSpec::multi_crop(2, [1, self.0], 0, [1, self.0])
//!     }
//!     fn views(&self, wave: &Vec<f32>, rng: &mut ViewRng) -> Result<Views> {
//!         let mut globals = Vec::new();
//!         for _ in 0..2 {
//!             globals.push(self.cut(wave, rng.random_range(0..=wave.len() - self.0))?);
//!         }
//!         Ok(Views::multi_crop(globals, vec![]))
//!     }
//!     fn eval_view(&self, wave: &Vec<f32>) -> Result<View> {
//!         self.cut(wave, 0)
//!     }
//! }
//!
//! impl Component for Waves {
//!     const NAME: &'static str = "waves";
//!     const ABOUT: &'static str = "sine waves";
//!     type Config = Config;
//! }
//!
//! impl Modality for Waves {
//!     const EXTENSIONS: &'static [&'static str] = &[];
//!     type Sample = Vec<f32>;
//!     fn open(_: &Config, source: Source) -> Result<Box<dyn Dataset<Item = Vec<f32>>>> {
//!         match source {
//!             Source::Demo => Ok(Box::new(Demo)),
//!             _ => Err(Error::Data {
//!                 reason: "waves have no file format".into(),
//!                 hint: "data.source = \"demo\" is all there is".into(),
//!             }),
//!         }
//!     }
//!     fn sampler(config: &Config) -> Result<Box<dyn ViewSampler<Sample = Vec<f32>>>> {
//!         if !(1..=128).contains(&config.window) {
//!             return Err(Error::bad_value("waves.window", "must lie in 1..=128"));
//!         }
//!         Ok(Box::new(Stretches(config.window)))
//!     }
//! }
//!
//! register!(kind::Modality: Waves);
//!
//! # fn main() -> Result<()> {
//! let registry = lejepa_core::Registry::discover()?;
//! let section = registry.find::<kind::Modality>("waves", None)?.meta().defaults()?;
//! let views = registry.find::<kind::Views>("default", Some("waves"))?;
//! let pipeline = (views.build().build)(&section, &lejepa_core::Table::new())?;
//! assert_eq!(pipeline.spec().shape(), [1, 32]);
//! let source = pipeline.open(Source::Demo, &OpenOptions::default())?;
//! assert_eq!(source.eval_view(0)?.shape(), [1, 32]);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod advice;
mod archives;
mod blob;
mod component;
pub mod config;
mod copies;
mod dataset;
mod disk_cache;
mod encoder;
mod environment;
mod erased;
mod error;
mod facts;
mod features;
mod folders;
mod front_end;
pub mod kind;
mod labels;
mod listing;
mod manifest;
mod modality;
mod optimizer;
mod pipeline;
mod prediction;
mod published;
mod ranges;
mod registry;
mod remote;
mod rng;
mod sampler;
mod source;
mod spec;
mod statistic;
pub mod testing;
mod values;
mod view;
mod view_source;
mod views;
mod views_kind;
mod windows;

pub use advice::{AUTO, Advice, Choice, NONE, Preset, Survey, SurveyContext, check_preset, median};
pub use blob::{Blob, BlobStore, ReadSeek};
pub use component::{Builds, Component, Entry, Kind, Meta, NoConfig, Origin, Registration};
pub use config::Section;
pub use dataset::{BlobDataset, Dataset, Decoded, Window};
pub use disk_cache::{Codec, DiskCache};
pub use encoder::{BoxedEncoder, BuildContext, Encoder, EncoderKind, ErasedEncoder};
pub use environment::{Environment, EnvironmentKind, Task};
pub use erased::BoxedModule;
pub use error::{Error, Result, nearest};
pub use facts::Facts;
pub use features::{Features, FlatInput, Input, Wants};
pub use front_end::{LogSpectrogram, Sound};
pub use kind::{DEFAULT_VIEWS, EncoderBuild, ModalityBuild};
pub use labels::{LabelKind, LabelValues, Labels, Split};
pub use listing::{Listing, SampleRule, has_extension};
pub use modality::Modality;
pub use optimizer::{OptimizerContext, OptimizerKind, Schedule, ScheduleKind};
pub use pipeline::{OpenOptions, Pipeline, SampledPipeline};
pub use prediction::{
    BoxedPrediction, Embedded, ErasedPrediction, Prediction, PredictionContext, PredictionKind,
};
pub use published::{Array, Arrays, ImportedWeights, Normalization, Published, PublishedModel};
pub use ranges::RangeRead;
pub use registry::Registry;
pub use remote::{Object, Objects, Reached, Scheme};
pub use rng::{Purpose, Seed, ViewRng};
pub use sampler::ViewSampler;
pub use source::{DEMO, Source, SourceKind};
pub use spec::{ContextSpec, Extent, Group, MAIN_STREAM, ViewSpec};
pub use statistic::{BoxedStatistic, MultivariateStatistic, Statistic, StatisticKind};
pub use values::{Levels, Values};
pub use view::View;
pub use view_source::{SampledDataset, ViewSource};
pub use views::Views;
pub use views_kind::ViewsKind;
pub use windows::Windows;

// The macros' expansions need it; plugin authors need not depend on it.
#[doc(hidden)]
pub use inventory;
/// The table type of configuration layers.
pub use toml::{Table, Value};
