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
///
/// ```
/// # use lejepa_core::{View, ViewRng, ViewSpec, Views};
/// use lejepa_core::{Dataset, Error, FileDataset, Modality, Result, Source, ViewSampler, Window};
/// use serde::{Deserialize, Serialize};
///
/// /// Numbers in text files.
/// struct Numbers;
///
/// #[derive(Default, Serialize, Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct NoKeys {}
///
/// # struct Start;
/// # impl ViewSampler for Start {
/// #     type Sample = Vec<f32>;
/// #     fn spec(&self) -> ViewSpec {
/// #         ViewSpec { globals: 2, locals: 0, global: vec![1, 4], local: vec![1, 4] }
/// #     }
/// #     fn views(&self, numbers: &Vec<f32>, _: &mut ViewRng) -> Result<Views> {
/// #         let start = self.eval_view(numbers)?;
/// #         Ok(Views { globals: vec![start.clone(), start], locals: vec![] })
/// #     }
/// #     fn eval_view(&self, numbers: &Vec<f32>) -> Result<View> {
/// #         View::new([1, 4], numbers.iter().copied().take(4).collect())
/// #     }
/// # }
/// impl Modality for Numbers {
///     const NAME: &'static str = "numbers";
///     const ABOUT: &'static str = "numbers in text files";
///     const EXTENSIONS: &'static [&'static str] = &["txt"];
///     type Config = NoKeys;
///     type Sample = Vec<f32>;
///     fn open(_: &NoKeys, source: Source) -> Result<Box<dyn Dataset<Item = Vec<f32>>>> {
///         let Source::Files(listing) = source else {
///             return Err(Error::Data { reason: "there is no demo".into(), hint: String::new() });
///         };
///         let bytes = |item: &Vec<f32>| 4 * item.len();
///         Ok(Box::new(FileDataset::new(listing, bytes, |path, _| {
///             let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
///             let number = |word: &str| word.parse::<f32>().map_err(|e| e.to_string());
///             text.split_whitespace().map(number).collect()
///         })))
///     }
///     fn sampler(_: &NoKeys) -> Result<Box<dyn ViewSampler<Sample = Vec<f32>>>> {
///         Ok(Box::new(Start))
///     }
/// }
///
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("a.txt"), "3 1 4 1 5 9")?;
/// let source = Source::resolve(&folder.path().to_string_lossy(), Numbers::rule())?;
/// let item = Numbers::open(&NoKeys {}, source)?.item(0, Window::Centre)?;
/// let view = Numbers::sampler(&NoKeys {})?.eval_view(&item)?;
/// assert_eq!(view.data()[..], [3.0, 1.0, 4.0, 1.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use lejepa_core::{Purpose, Result, Seed, View, ViewRng, ViewSampler, ViewSpec, Views};
/// use rand::RngExt;
///
/// /// Stretches of 8 values, louder or softer.
/// struct Stretches;
///
/// fn cut(wave: &[f32], start: usize, gain: f32) -> Result<View> {
///     View::new([1, 8], wave[start..start + 8].iter().map(|x| gain * x).collect())
/// }
///
/// impl ViewSampler for Stretches {
///     type Sample = Vec<f32>;
///     fn spec(&self) -> ViewSpec {
///         ViewSpec { globals: 2, locals: 0, global: vec![1, 8], local: vec![1, 8] }
///     }
///     fn views(&self, wave: &Vec<f32>, rng: &mut ViewRng) -> Result<Views> {
///         let mut globals = Vec::new();
///         for _ in 0..2 {
///             let start = rng.random_range(0..=wave.len() - 8);
///             globals.push(cut(wave, start, rng.random_range(0.5..=2.0))?);
///         }
///         Ok(Views { globals, locals: vec![] })
///     }
///     fn eval_view(&self, wave: &Vec<f32>) -> Result<View> {
///         cut(wave, 0, 1.0)
///     }
/// }
///
/// let wave: Vec<f32> = (0..64).map(|t| t as f32).collect();
/// let draw = |seed: u64| Stretches.views(&wave, &mut Seed(seed).rng(Purpose::Views, &[]));
/// Stretches.spec().check(&draw(0)?)?;
/// assert_eq!(draw(0)?, draw(0)?);
/// assert_ne!(draw(0)?, draw(1)?);
/// assert_eq!(Stretches.eval_view(&wave)?.data()[..], wave[..8]);
/// # Ok::<(), lejepa_core::Error>(())
/// ```
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
