//! A kind of data: the trait [`Modality`].

use std::path::Path;

use toml::Table;

use crate::Result;
use crate::advice::{Advice, Preset, Survey};
use crate::component::Component;
use crate::dataset::Dataset;
use crate::disk_cache::Codec;
use crate::listing::SampleRule;
use crate::sampler::ViewSampler;
use crate::source::{Source, SourceKind};

/// A kind of data: how it is read, how views are made of it, and which settings suit it.
///
/// Implement it on an empty struct and register it: `register!(kind::Modality: Mine)`. See [`crate`] for a
/// whole example.
///
/// ```
/// # use lejepa_core::{View, ViewRng, ViewSpec, Views};
/// use lejepa_core::{BlobDataset, Component, Dataset, Decoded, Error, Modality, NoConfig, Result};
/// use lejepa_core::{Source, ViewSampler, Window};
///
/// /// Numbers in text files.
/// struct Numbers;
///
/// # struct Start;
/// # impl ViewSampler for Start {
/// #     type Sample = Vec<f32>;
/// #     fn spec(&self) -> ViewSpec {
/// #         ViewSpec::multi_crop(2, [1, 4], 0, [1, 4])
/// #     }
/// #     fn views(&self, numbers: &Vec<f32>, _: &mut ViewRng) -> Result<Views> {
/// #         let start = self.eval_view(numbers)?;
/// #         Ok(Views::multi_crop(vec![start.clone(), start], vec![]))
/// #     }
/// #     fn eval_view(&self, numbers: &Vec<f32>) -> Result<View> {
/// #         View::new([1, 4], numbers.iter().copied().take(4).collect())
/// #     }
/// # }
/// impl Component for Numbers {
///     const NAME: &'static str = "numbers";
///     const ABOUT: &'static str = "numbers in text files";
///     type Config = NoConfig;
/// }
///
/// impl Modality for Numbers {
///     const EXTENSIONS: &'static [&'static str] = &["txt"];
///     type Sample = Vec<f32>;
///     fn open(_: &NoConfig, source: Source) -> Result<Box<dyn Dataset<Item = Vec<f32>>>> {
///         let Source::Blobs(store) = source else {
///             return Err(Error::Data { reason: "there is no demo".into(), hint: String::new() });
///         };
///         Ok(Box::new(BlobDataset::new(store, |blob, _| {
///             let bytes = blob.read().map_err(|e| e.to_string())?;
///             let number = |word: &str| word.parse::<f32>().map_err(|e| e.to_string());
///             let text = String::from_utf8_lossy(&bytes);
///             let numbers = text.split_whitespace().map(number).collect::<Result<Vec<_>, _>>()?;
///             let memory = 4 * numbers.len();
///             Ok(Decoded::whole(numbers, memory))
///         })))
///     }
///     fn sampler(_: &NoConfig) -> Result<Box<dyn ViewSampler<Sample = Vec<f32>>>> {
///         Ok(Box::new(Start))
///     }
/// }
///
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("a.txt"), "3 1 4 1 5 9")?;
/// let source = Source::resolve(&folder.path().to_string_lossy(), Numbers::rule())?;
/// let decoded = Numbers::open(&NoConfig {}, source)?.item(0, Window::Centre)?;
/// let view = Numbers::sampler(&NoConfig {})?.eval_view(&decoded.item)?;
/// assert_eq!(view.data()[..], [3.0, 1.0, 4.0, 1.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Its section of the configuration is `[NAME]`: reading and views.
pub trait Modality: Component {
    /// File extensions in lower case, without the dot.
    const EXTENSIONS: &'static [&'static str];
    /// Names of its streams of views, where it has several, in the order of their groups; each has its
    /// own encoder, in `[encoder.STREAM]`. Empty for one stream.
    const STREAMS: &'static [&'static str] = &[];

    /// Presets besides `auto` and `none`, for kinds of content that need different views.
    const PRESETS: &'static [Preset] = &[];

    /// Whether the rows of a view with two axes are drawn from the bottom up, as frequencies are.
    const DRAWS_UPWARDS: bool = false;

    /// How decoded items are kept on disk; `None` keeps none there.
    const CODEC: Option<Codec<Self::Sample>> = None;

    /// One decoded item.
    type Sample: Send + Sync + 'static;

    /// Opens the built-in demo or what a store holds.
    ///
    /// # Errors
    /// Anything wrong with the source as a whole. A single bad file is not an error here: it is one when
    /// [`Dataset::item`] meets it.
    fn open(config: &Self::Config, source: Source)
    -> Result<Box<dyn Dataset<Item = Self::Sample>>>;

    /// The view sampler for this configuration. It is made before any data is opened, and refuses every
    /// value out of range of the whole section, that of reading included.
    ///
    /// # Errors
    /// [`Error::BadValue`](crate::Error::BadValue) for settings out of range.
    fn sampler(config: &Self::Config) -> Result<Box<dyn ViewSampler<Sample = Self::Sample>>>;

    /// Settings of other sections (`train`, `encoder`, ...) that suit this modality, laid over the
    /// general defaults and under the user's own.
    fn recipe(source: SourceKind) -> Table {
        let _ = source;
        Table::new()
    }

    /// Settings of any section that suit these data, with reasons: laid over the recipe and under the
    /// user's own. `config` is the section before. Called before training on a user's own data, unless the
    /// preset is `none`.
    ///
    /// # Errors
    /// Data that no view can be made of.
    fn advise(config: &Self::Config, survey: &Survey<'_, Self::Sample>) -> Result<Advice> {
        let _ = (config, survey);
        Ok(Advice::default())
    }

    /// What of the configuration decides how a file is decoded: items of another text are not taken from the cache on
    /// disk. All of it, unless said otherwise.
    fn decoding(config: &Self::Config) -> String {
        Table::try_from(config).map_or_else(|e| e.to_string(), |table| table.to_string())
    }

    /// Whether a folder is one sample as a whole, such as a folder of video frames.
    fn is_sample_dir(path: &Path) -> bool {
        let _ = path;
        false
    }

    /// Whether a file that begins with these bytes, up to 512, is a sample. Asked where the extension is none of
    /// [`Modality::EXTENSIONS`].
    fn recognises(start: &[u8]) -> bool {
        let _ = start;
        false
    }

    /// What counts as one sample of this modality.
    fn rule() -> SampleRule {
        SampleRule {
            extensions: Self::EXTENSIONS,
            is_sample_dir: Self::is_sample_dir,
            recognises: Self::recognises,
        }
    }
}
