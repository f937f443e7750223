//! What a LeJEPA modality plugs into: the traits [`Modality`], [`ViewSampler`], [`Dataset`] and
//! [`Encoder`], the [`Registry`], and the data types that pass between them.
//!
//! Data flows one way: a [`Source`] names files, a [`Dataset`] decodes an item, a [`ViewSampler`]
//! makes [`Views`] of it, an [`Encoder`] embeds them. The trainer sees the first three as one
//! [`ViewSource`] and the last as a [`BoxedEncoder`], so it is compiled once for every modality.
//!
//! # A modality in full
//!
//! ```
//! use lejepa_core::{
//!     Dataset, Error, Modality, Result, Source, View, ViewRng, ViewSampler, ViewSpec, Views, Window,
//!     register_modality,
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
//!     fn item(&self, index: usize, _: Window<'_>) -> Result<Vec<f32>> {
//!         let pitch = 0.1 * (1 + index % 3) as f32;
//!         Ok((0..128).map(|t| (pitch * t as f32).sin()).collect())
//!     }
//!     fn bytes(&self, item: &Vec<f32>) -> usize {
//!         item.len() * 4
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
//!         ViewSpec { globals: 2, locals: 0, global: vec![1, self.0], local: vec![1, self.0] }
//!     }
//!     fn views(&self, wave: &Vec<f32>, rng: &mut ViewRng) -> Result<Views> {
//!         let mut globals = Vec::new();
//!         for _ in 0..2 {
//!             globals.push(self.cut(wave, rng.random_range(0..=wave.len() - self.0))?);
//!         }
//!         Ok(Views { globals, locals: vec![] })
//!     }
//!     fn eval_view(&self, wave: &Vec<f32>) -> Result<View> {
//!         self.cut(wave, 0)
//!     }
//! }
//!
//! impl Modality for Waves {
//!     const NAME: &'static str = "waves";
//!     const ABOUT: &'static str = "sine waves";
//!     const EXTENSIONS: &'static [&'static str] = &[];
//!     type Config = Config;
//!     type Sample = Vec<f32>;
//!     fn open(_: &Config, source: Source) -> Result<Box<dyn Dataset<Item = Vec<f32>>>> {
//!         match source {
//!             Source::Demo => Ok(Box::new(Demo)),
//!             Source::Files(_) => Err(Error::Data {
//!                 reason: "waves have no file format".into(),
//!                 hint: "use --data demo".into(),
//!             }),
//!         }
//!     }
//!     fn sampler(config: &Config) -> Result<Box<dyn ViewSampler<Sample = Vec<f32>>>> {
//!         Ok(Box::new(Stretches(config.window)))
//!     }
//! }
//!
//! register_modality!(Waves);
//!
//! # fn main() -> Result<()> {
//! let registry = lejepa_core::Registry::discover()?;
//! let waves = registry.find_modality("waves")?;
//! let source = (waves.open)(&(waves.defaults)()?, Source::Demo, 1 << 20)?;
//! assert_eq!(source.eval_view(0)?.shape(), [1, 32]);
//! # Ok(())
//! # }
//! ```

pub mod config;
mod dataset;
mod encoder;
mod entry;
mod error;
mod listing;
mod modality;
mod registry;
mod rng;
mod source;
mod statistic;
pub mod testing;
mod values;
mod view;

pub use config::Section;
pub use dataset::{Dataset, FileDataset, Labels, Split, Window};
pub use encoder::{BoxedEncoder, Encoder};
pub use entry::{
    DEFAULT_SAMPLER, EncoderEntry, EncoderKind, ModalityEntry, OpenWithSampler, Origin,
    Registration, SamplerEntry, SamplerKind, StatisticEntry,
};
pub use error::{Error, Result, nearest};
pub use listing::{Listing, SampleRule, Source, has_extension};
pub use modality::{Modality, ViewSampler};
pub use registry::Registry;
pub use rng::{Purpose, Seed, ViewRng};
pub use source::{SampledDataset, ViewSource};
pub use statistic::{BoxedStatistic, MultivariateStatistic, Statistic, StatisticKind};
pub use values::{Levels, Values};
pub use view::{View, ViewSpec, Views};

// The macros' expansions need it; plugin authors need not depend on it.
#[doc(hidden)]
pub use inventory;
/// The table type of configuration layers.
pub use toml::{Table, Value};
