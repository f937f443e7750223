//! The two traits a kind of data implements: [`Modality`] and [`ViewSampler`].

use std::path::Path;

use toml::Table;

use crate::config::{Docs, Section};
use crate::dataset::Dataset;
use crate::listing::{SampleRule, Source};
use crate::{Result, View, ViewRng, ViewSpec, Views};

/// A kind of data: how it is read, how views are made of it, and which settings suit it.
///
/// Implement it on an empty struct and register it with
/// [`register_modality!`](crate::register_modality). See [`crate`] for a whole example.
pub trait Modality: 'static {
    /// The name on the command line: lower case, e.g. `"audio"`.
    const NAME: &'static str;
    /// One line for `lejepa modalities`.
    const ABOUT: &'static str;
    /// File extensions in lower case, without the dot.
    const EXTENSIONS: &'static [&'static str];

    /// The `[NAME]` section of the configuration: reading and view sampling.
    type Config: Section;
    /// One decoded item.
    type Sample: Send + Sync + 'static;

    /// Opens the built-in demo or listed files.
    ///
    /// # Errors
    /// Anything wrong with the configuration or with the source as a whole. A single bad file is
    /// not an error here: it is one when [`Dataset::item`] meets it.
    fn open(config: &Self::Config, source: Source)
    -> Result<Box<dyn Dataset<Item = Self::Sample>>>;

    /// The view sampler for this configuration.
    ///
    /// # Errors
    /// [`Error::BadValue`](crate::Error::BadValue) for settings out of range.
    fn sampler(config: &Self::Config) -> Result<Box<dyn ViewSampler<Sample = Self::Sample>>>;

    /// What the keys of its section mean, for `lejepa config show`; see
    /// [`field_docs`](crate::config::field_docs).
    fn docs() -> Docs {
        Docs::new()
    }

    /// Settings of other sections (`train`, `encoder`, ...) that suit this modality, laid over the
    /// general defaults and under the user's own. `demo` says whether the built-in data is used.
    fn recipe(demo: bool) -> Table {
        let _ = demo;
        Table::new()
    }

    /// Whether a folder is one sample as a whole, such as a folder of video frames.
    fn is_sample_dir(path: &Path) -> bool {
        let _ = path;
        false
    }

    /// What counts as one sample of this modality.
    fn rule() -> SampleRule {
        SampleRule { extensions: Self::EXTENSIONS, is_sample_dir: Self::is_sample_dir }
    }
}

/// Makes views of a sample.
///
/// The objective asks that all views of one sample are embedded near each other. So what differs
/// between views (crop, gain, colour, noise) is what the encoder learns to ignore, and what they
/// share is what it learns to keep.
pub trait ViewSampler: Send + Sync {
    /// What [`Dataset::item`] decodes.
    type Sample;

    /// Number and shapes of views; constant for one sampler.
    fn spec(&self) -> ViewSpec;

    /// Random views of `sample`. The same `rng` state must give the same views.
    ///
    /// # Errors
    /// [`Error::Sample`](crate::Error::Sample) for a sample that no view can be made of.
    fn views(&self, sample: &Self::Sample, rng: &mut ViewRng) -> Result<Views>;

    /// The one view used to embed a sample: no randomness, shape of a global view.
    ///
    /// # Errors
    /// As [`ViewSampler::views`].
    fn eval_view(&self, sample: &Self::Sample) -> Result<View>;
}
