//! What plugins submit: each thing as a row of function pointers, made from a type.

use burn::tensor::Device;
use toml::Table;

use crate::config::{self, Docs, Section};
use crate::listing::{SampleRule, Source};
use crate::modality::{Modality, ViewSampler};
use crate::source::{SampledDataset, ViewSource};
use crate::statistic::{BoxedStatistic, StatisticKind};
use crate::{BoxedEncoder, Result, ViewSpec};

/// A family of encoders that can be chosen by name, for one modality or for all.
///
/// ```
/// # use burn::module::Module;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn::tensor::{Device, Tensor};
/// # use lejepa_core::Encoder;
/// use lejepa_core::{BoxedEncoder, EncoderKind, Error, Result, ViewSpec};
/// use serde::{Deserialize, Serialize};
///
/// /// A linear layer on the mean of each channel: an `Encoder<3>`.
/// #[derive(Module, Debug)]
/// struct Means {
///     linear: Linear,
///     #[module(skip)]
///     width: usize,
/// }
/// # impl Encoder<3> for Means {
/// #     fn encode(&self, x: Tensor<3>) -> Tensor<2> {
/// #         self.linear.forward(x.mean_dim(2).squeeze_dim::<2>(2))
/// #     }
/// #     fn dim(&self) -> usize { self.width }
/// # }
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(deny_unknown_fields, default)]
/// struct Config {
///     width: usize,
/// }
/// # impl Default for Config {
/// #     fn default() -> Self { Self { width: 64 } }
/// # }
///
/// impl EncoderKind for Means {
///     const NAME: &'static str = "means";
///     const ABOUT: &'static str = "a linear layer on the mean of each channel";
///     type Config = Config;
///     fn build(config: &Config, views: &ViewSpec, device: &Device) -> Result<BoxedEncoder> {
///         if config.width == 0 {
///             return Err(Error::bad_value("encoder.width", "must be at least 1"));
///         }
///         let linear = LinearConfig::new(views.channels(), config.width).init(device);
///         Ok(BoxedEncoder::new::<3>(Means { linear, width: config.width }))
///     }
/// }
///
/// let views = ViewSpec { globals: 2, locals: 0, global: vec![3, 16], local: vec![3, 16] };
/// let encoder = Means::build(&Config::default(), &views, &Device::flex())?;
/// assert_eq!(encoder.dim(), 64);
/// assert!(Means::build(&Config { width: 0 }, &views, &Device::flex()).is_err());
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub trait EncoderKind: 'static {
    /// The name on the command line, e.g. `"vit"`.
    const NAME: &'static str;
    /// One line for `lejepa encoders`.
    const ABOUT: &'static str;
    /// The only modality this encoder is for; `None` where any grid will do.
    const MODALITY: Option<&'static str> = None;

    /// Its keys in the `[encoder]` section, beside `name`.
    type Config: Section;

    /// What its keys mean, for `lejepa config show`.
    fn docs() -> Docs {
        Docs::new()
    }

    /// Builds the encoder for views of this specification.
    ///
    /// # Errors
    /// [`Error::BadValue`](crate::Error::BadValue) for settings or view shapes that it cannot serve.
    fn build(config: &Self::Config, views: &ViewSpec, device: &Device) -> Result<BoxedEncoder>;
}

/// A view sampler that can be chosen by name for an existing modality: `sampler.name = "NAME"`.
///
/// ```
/// # use lejepa_core::{Dataset, Modality, Purpose, Seed, Source, Table};
/// use lejepa_core::{Result, SamplerKind, View, ViewRng, ViewSampler, ViewSpec, Views};
/// use rand::RngExt;
/// use serde::{Deserialize, Serialize};
#[doc = include_str!("doc/waves.txt")]
/// /// Two stretches that follow each other.
/// struct Neighbours;
///
/// #[derive(Default, Serialize, Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct NoKeys {}
///
/// impl ViewSampler for Neighbours {
///     type Sample = Vec<f32>;
///     fn views(&self, wave: &Vec<f32>, rng: &mut ViewRng) -> Result<Views> {
///         let start = rng.random_range(0..=wave.len() - 16);
///         let cut = |from: usize| View::new([1, 8], wave[from..from + 8].to_vec());
///         Ok(Views { globals: vec![cut(start)?, cut(start + 8)?], locals: vec![] })
///     }
///     // ...
/// #     fn spec(&self) -> ViewSpec {
/// #         ViewSpec { globals: 2, locals: 0, global: vec![1, 8], local: vec![1, 8] }
/// #     }
/// #     fn eval_view(&self, wave: &Vec<f32>) -> Result<View> {
/// #         View::new([1, 8], wave[..8].to_vec())
/// #     }
/// }
///
/// impl SamplerKind for Neighbours {
///     const NAME: &'static str = "neighbours";
///     const ABOUT: &'static str = "two stretches that follow each other";
///     type Modality = Waves;
///     type Config = NoKeys;
///     // The first are the sampler's keys, the second those of the modality `Waves`.
///     fn build(_: &NoKeys, _: &Table) -> Result<Box<dyn ViewSampler<Sample = Vec<f32>>>> {
///         Ok(Box::new(Neighbours))
///     }
/// }
///
/// let sampler = Neighbours::build(&NoKeys {}, &Table::new())?;
/// let wave: Vec<f32> = (0..64).map(|t| t as f32).collect();
/// let views = sampler.views(&wave, &mut Seed(0).rng(Purpose::Views, &[]))?;
/// assert_eq!(views.globals[1].data()[0], views.globals[0].data()[0] + 8.0);
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub trait SamplerKind: 'static {
    /// The name on the command line, e.g. `"eeg_crops"`. `"default"` is the modality's own.
    const NAME: &'static str;
    /// One line for `lejepa samplers`.
    const ABOUT: &'static str;

    /// Whose samples it makes views of.
    type Modality: Modality;
    /// Its keys in the `[sampler]` section, beside `name`.
    type Config: Section;

    /// What its keys mean, for `lejepa config show`.
    fn docs() -> Docs {
        Docs::new()
    }

    /// Builds the sampler. `modality` is the modality's own section, which says how samples were
    /// read.
    ///
    /// # Errors
    /// [`Error::BadValue`](crate::Error::BadValue) for settings out of range.
    fn build(
        config: &Self::Config,
        modality: &<Self::Modality as Modality>::Config,
    ) -> Result<Box<dyn ViewSampler<Sample = <Self::Modality as Modality>::Sample>>>;
}

/// A view sampler as a row of function pointers, made from a type by [`SamplerEntry::of`].
#[derive(Clone, Copy)]
pub struct SamplerEntry {
    /// [`SamplerKind::NAME`].
    pub name: &'static str,
    /// [`SamplerKind::ABOUT`].
    pub about: &'static str,
    /// [`Modality::NAME`] of the modality it is for.
    pub modality: &'static str,
    /// Crate and version that registered it.
    pub origin: Origin,
    /// Defaults of its keys in the `[sampler]` section.
    pub defaults: fn() -> Result<Table>,
    /// What its keys mean.
    pub docs: fn() -> Docs,
    /// Opens a source with the modality's section, the sampler's keys and a cache budget in bytes.
    pub open: OpenWithSampler,
}

/// [`SamplerEntry::open`].
pub type OpenWithSampler = fn(&Table, &Table, Source, usize) -> Result<Box<dyn ViewSource>>;

impl SamplerEntry {
    /// The entry of `S`; `origin` is the registering crate.
    ///
    /// ```
    /// use lejepa_core::{SamplerEntry, origin};
    #[doc = include_str!("doc/waves.txt")]
    /// // `Halves` is a `SamplerKind` for the modality `waves`.
    /// let entry = SamplerEntry::of::<Halves>(origin!());
    /// assert_eq!((entry.modality, entry.name), ("waves", "halves"));
    /// assert!((entry.defaults)()?.is_empty());
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub const fn of<S: SamplerKind>(origin: Origin) -> Self {
        Self {
            name: S::NAME,
            about: S::ABOUT,
            modality: S::Modality::NAME,
            origin,
            defaults: || config::defaults::<S::Config>("sampler"),
            docs: S::docs,
            open: |table, keys, source, budget| {
                let modality = config::parse(S::Modality::NAME, table)?;
                let sampler = S::build(&config::parse("sampler", keys)?, &modality)?;
                let dataset = S::Modality::open(&modality, source)?;
                Ok(Box::new(SampledDataset::new(dataset, sampler, budget)?))
            },
        }
    }
}

/// A modality as a row of function pointers, made from a type by [`ModalityEntry::of`].
#[derive(Clone, Copy)]
pub struct ModalityEntry {
    /// [`Modality::NAME`].
    pub name: &'static str,
    /// [`Modality::ABOUT`].
    pub about: &'static str,
    /// Crate and version that registered it.
    pub origin: Origin,
    /// What counts as a sample.
    pub rule: fn() -> SampleRule,
    /// Defaults of the modality's own section.
    pub defaults: fn() -> Result<Table>,
    /// What its keys mean.
    pub docs: fn() -> Docs,
    /// [`Modality::recipe`].
    pub recipe: fn(bool) -> Table,
    /// Opens a source with the modality's section and a cache budget in bytes.
    pub open: fn(&Table, Source, usize) -> Result<Box<dyn ViewSource>>,
}

impl ModalityEntry {
    /// The entry of `M`; `origin` is the registering crate.
    ///
    /// ```
    /// use lejepa_core::{ModalityEntry, origin};
    #[doc = include_str!("doc/waves.txt")]
    /// // `Waves` is a `Modality`.
    /// let entry = ModalityEntry::of::<Waves>(origin!());
    /// assert_eq!((entry.name, entry.origin.krate), ("waves", "lejepa-core"));
    /// assert_eq!((entry.rule)().extensions, ["wave"]);
    /// ```
    pub const fn of<M: Modality>(origin: Origin) -> Self {
        Self {
            name: M::NAME,
            about: M::ABOUT,
            origin,
            rule: M::rule,
            defaults: || config::defaults::<M::Config>(M::NAME),
            docs: M::docs,
            recipe: M::recipe,
            open: |table, source, budget| {
                let config: M::Config = config::parse(M::NAME, table)?;
                let sampler = M::sampler(&config)?;
                let dataset = M::open(&config, source)?;
                Ok(Box::new(SampledDataset::new(dataset, sampler, budget)?))
            },
        }
    }
}

/// An encoder as a row of function pointers, made from a type by [`EncoderEntry::of`].
#[derive(Clone, Copy)]
pub struct EncoderEntry {
    /// [`EncoderKind::NAME`].
    pub name: &'static str,
    /// [`EncoderKind::ABOUT`].
    pub about: &'static str,
    /// [`EncoderKind::MODALITY`].
    pub modality: Option<&'static str>,
    /// Crate and version that registered it.
    pub origin: Origin,
    /// Defaults of its keys in the `[encoder]` section.
    pub defaults: fn() -> Result<Table>,
    /// What its keys mean.
    pub docs: fn() -> Docs,
    /// Builds it from those keys.
    pub build: fn(&Table, &ViewSpec, &Device) -> Result<BoxedEncoder>,
}

impl EncoderEntry {
    /// The entry of `E`; `origin` is the registering crate.
    ///
    /// ```
    /// # use burn::module::Module;
    /// # use burn::tensor::{Device, Tensor};
    /// # use lejepa_core::{BoxedEncoder, Encoder, EncoderKind, Result, Table, ViewSpec};
    /// use lejepa_core::{EncoderEntry, origin};
    /// # #[derive(Module, Debug)]
    /// # struct Means {
    /// #     #[module(skip)]
    /// #     channels: usize,
    /// # }
    /// # impl Encoder<3> for Means {
    /// #     fn encode(&self, x: Tensor<3>) -> Tensor<2> { x.mean_dim(2).squeeze_dim::<2>(2) }
    /// #     fn dim(&self) -> usize { self.channels }
    /// # }
    /// # impl EncoderKind for Means {
    /// #     const NAME: &'static str = "means";
    /// #     const ABOUT: &'static str = "the mean of each channel";
    /// #     type Config = Table;
    /// #     fn build(_: &Table, views: &ViewSpec, _: &Device) -> Result<BoxedEncoder> {
    /// #         Ok(BoxedEncoder::new::<3>(Means { channels: views.channels() }))
    /// #     }
    /// # }
    ///
    /// // `Means` is an `EncoderKind`.
    /// let entry = EncoderEntry::of::<Means>(origin!());
    /// let views = ViewSpec { globals: 2, locals: 0, global: vec![3, 16], local: vec![3, 16] };
    /// let encoder = (entry.build)(&(entry.defaults)()?, &views, &Device::flex())?;
    /// assert_eq!(encoder.dim(), 3);
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub const fn of<E: EncoderKind>(origin: Origin) -> Self {
        Self {
            name: E::NAME,
            about: E::ABOUT,
            modality: E::MODALITY,
            origin,
            defaults: || config::defaults::<E::Config>("encoder"),
            docs: E::docs,
            build: |table, views, device| {
                E::build(&config::parse("encoder", table)?, views, device)
            },
        }
    }
}

/// A statistic as a row of function pointers, made from a type by [`StatisticEntry::of`].
#[derive(Clone, Copy)]
pub struct StatisticEntry {
    /// [`StatisticKind::NAME`].
    pub name: &'static str,
    /// [`StatisticKind::ABOUT`].
    pub about: &'static str,
    /// Crate and version that registered it.
    pub origin: Origin,
    /// Defaults of its keys in the `[objective]` section.
    pub defaults: fn() -> Result<Table>,
    /// What its keys mean.
    pub docs: fn() -> Docs,
    /// Builds it from those keys.
    pub build: fn(&Table) -> Result<BoxedStatistic>,
}

impl StatisticEntry {
    /// The entry of `S`; `origin` is the registering crate.
    ///
    /// ```
    /// # use burn::tensor::Tensor;
    /// # use lejepa_core::{BoxedStatistic, Result, Statistic, StatisticKind};
    /// # use serde::{Deserialize, Serialize};
    /// use lejepa_core::{StatisticEntry, config, origin};
    /// # #[derive(Debug, Clone, Default, Serialize, Deserialize)]
    /// # #[serde(deny_unknown_fields)]
    /// # struct MeanSquare {}
    /// # impl Statistic for MeanSquare {
    /// #     fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
    /// #         (projections.square().mean_dim(1) - 1.0).square().squeeze_dim::<2>(1)
    /// #     }
    /// # }
    /// # impl StatisticKind for MeanSquare {
    /// #     const NAME: &'static str = "mean_square";
    /// #     const ABOUT: &'static str = "distance of the mean square from 1";
    /// #     type Config = Self;
    /// #     fn build(config: &Self) -> Result<BoxedStatistic> {
    /// #         Ok(BoxedStatistic::sliced(config.clone()))
    /// #     }
    /// # }
    ///
    /// // `MeanSquare` is a `StatisticKind`.
    /// let entry = StatisticEntry::of::<MeanSquare>(origin!());
    /// assert!((entry.build)(&(entry.defaults)()?).is_ok());
    /// assert!((entry.build)(&config::recipe("no_such_key = 1")).is_err());
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub const fn of<S: StatisticKind>(origin: Origin) -> Self {
        Self {
            name: S::NAME,
            about: S::ABOUT,
            origin,
            defaults: || config::defaults::<S::Config>("objective"),
            docs: S::docs,
            build: |table| S::build(&config::parse("objective", table)?),
        }
    }
}

/// The crate that registered something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its name on crates.io.
    pub krate: &'static str,
    /// Its version.
    pub version: &'static str,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.krate, self.version)
    }
}

/// What a plugin submits; made by the `register_*!` macros.
#[derive(Clone, Copy)]
pub enum Registration {
    /// A modality.
    Modality(ModalityEntry),
    /// An encoder.
    Encoder(EncoderEntry),
    /// A statistic.
    Statistic(StatisticEntry),
    /// A view sampler.
    Sampler(SamplerEntry),
}

inventory::collect!(Registration);

/// What `sampler.name` says where the modality's own sampler is meant.
pub const DEFAULT_SAMPLER: &str = "default";

/// Registers a [`Modality`] with every binary that links this crate.
///
/// A dependency that no code names is not linked: the binary says `use my_plugin as _;`.
#[macro_export]
macro_rules! register_modality {
    ($modality:ty) => {
        $crate::inventory::submit! {
            $crate::Registration::Modality($crate::ModalityEntry::of::<$modality>($crate::origin!()))
        }
    };
}

/// Registers an [`EncoderKind`] with every binary that links this crate.
#[macro_export]
macro_rules! register_encoder {
    ($encoder:ty) => {
        $crate::inventory::submit! {
            $crate::Registration::Encoder($crate::EncoderEntry::of::<$encoder>($crate::origin!()))
        }
    };
}

/// Registers a [`StatisticKind`] with every binary that links this crate.
#[macro_export]
macro_rules! register_statistic {
    ($statistic:ty) => {
        $crate::inventory::submit! {
            $crate::Registration::Statistic($crate::StatisticEntry::of::<$statistic>($crate::origin!()))
        }
    };
}

/// Registers a [`SamplerKind`] with every binary that links this crate.
#[macro_export]
macro_rules! register_sampler {
    ($sampler:ty) => {
        $crate::inventory::submit! {
            $crate::Registration::Sampler($crate::SamplerEntry::of::<$sampler>($crate::origin!()))
        }
    };
}

/// The [`Origin`] of the crate this macro is written in.
#[macro_export]
macro_rules! origin {
    () => {
        $crate::Origin { krate: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") }
    };
}
