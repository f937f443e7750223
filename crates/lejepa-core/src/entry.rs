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
