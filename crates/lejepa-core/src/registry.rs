//! The registry: what is linked into this binary, by name.

use std::collections::BTreeMap;

use crate::entry::{
    DEFAULT_SAMPLER, EncoderEntry, EncoderKind, ModalityEntry, Origin, Registration, SamplerEntry,
    SamplerKind, StatisticEntry,
};
use crate::modality::Modality;
use crate::statistic::StatisticKind;
use crate::{Error, Result};

/// Modalities, encoders, view samplers and statistics by name.
///
/// [`Registry::discover`] takes what is linked; [`Registry::empty`] with [`Registry::modality`],
/// [`Registry::encoder`] and their like takes exactly what is named. Both are used the
/// same way afterwards.
///
/// ```
/// # use burn::tensor::Tensor;
/// # use lejepa_core::{BoxedStatistic, Result, Statistic, StatisticKind};
/// # use serde::{Deserialize, Serialize};
/// use lejepa_core::{Registry, origin, register_statistic};
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
/// register_statistic!(MeanSquare);
///
/// # fn main() -> Result<()> {
/// let linked = Registry::discover()?;
/// assert_eq!(linked.find_statistic("mean_square")?.name, "mean_square");
///
/// let named = Registry::empty().statistic::<MeanSquare>(origin!())?;
/// let names: Vec<&str> = named.statistics().map(|s| s.name).collect();
/// assert_eq!(names, ["mean_square"]);
/// assert_eq!(named.modalities().count(), 0);
/// assert_eq!((named.encoders().count(), named.samplers().count()), (0, 0));
/// assert!(named.find_modality("image").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    modalities: BTreeMap<&'static str, ModalityEntry>,
    encoders: BTreeMap<(&'static str, Option<&'static str>), EncoderEntry>,
    statistics: BTreeMap<&'static str, StatisticEntry>,
    samplers: BTreeMap<(&'static str, &'static str), SamplerEntry>,
}

impl Registry {
    /// A registry of nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Everything that crates linked into this binary have registered.
    ///
    /// # Errors
    /// [`Error::Duplicate`] where two crates claim one name.
    pub fn discover() -> Result<Self> {
        inventory::iter::<Registration>.into_iter().try_fold(Self::empty(), |r, item| r.with(*item))
    }

    /// Adds modality `M`, as registered by the crate `origin!()` names.
    ///
    /// # Errors
    /// [`Error::Duplicate`] where the name is taken.
    ///
    /// ```
    /// use lejepa_core::{Registry, origin};
    #[doc = include_str!("doc/waves.txt")]
    /// // `Waves` is a `Modality`.
    /// let registry = Registry::empty().modality::<Waves>(origin!())?;
    /// assert_eq!((registry.find_modality("waves")?.rule)().extensions, ["wave"]);
    /// let error = registry.find_modality("image").err().map(|e| e.to_string());
    /// assert_eq!(error.as_deref(), Some("unknown modality `image`; known: waves"));
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn modality<M: Modality>(self, origin: Origin) -> Result<Self> {
        self.with(Registration::Modality(ModalityEntry::of::<M>(origin)))
    }

    /// Adds encoder `E`.
    ///
    /// # Errors
    /// [`Error::Duplicate`] where the name is taken.
    ///
    /// ```
    /// # use burn::module::Module;
    /// # use burn::tensor::{Device, Tensor};
    /// # use lejepa_core::{BoxedEncoder, Encoder, EncoderKind, Result, Table, ViewSpec};
    /// use lejepa_core::{Registry, origin};
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
    /// // `Means` is an `EncoderKind` for all modalities.
    /// let registry = Registry::empty().encoder::<Means>(origin!())?;
    /// assert_eq!(registry.find_encoder("means", "image")?.modality, None);
    /// assert!(registry.find_encoder("vit", "image").is_err());
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn encoder<E: EncoderKind>(self, origin: Origin) -> Result<Self> {
        self.with(Registration::Encoder(EncoderEntry::of::<E>(origin)))
    }

    /// Adds statistic `S`.
    ///
    /// # Errors
    /// [`Error::Duplicate`] where the name is taken.
    ///
    /// ```
    /// # use burn::tensor::Tensor;
    /// # use lejepa_core::{BoxedStatistic, Result, Statistic, StatisticKind};
    /// # use serde::{Deserialize, Serialize};
    /// use lejepa_core::{Registry, origin};
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
    /// let registry = Registry::empty().statistic::<MeanSquare>(origin!())?;
    /// let entry = registry.find_statistic("mean_square")?;
    /// assert!((entry.build)(&(entry.defaults)()?).is_ok());
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn statistic<S: StatisticKind>(self, origin: Origin) -> Result<Self> {
        self.with(Registration::Statistic(StatisticEntry::of::<S>(origin)))
    }

    /// Adds view sampler `S`.
    ///
    /// # Errors
    /// [`Error::Duplicate`] where the name is taken for its modality.
    ///
    /// ```
    /// use lejepa_core::{Registry, origin};
    #[doc = include_str!("doc/waves.txt")]
    /// // `Halves` is a `SamplerKind` for the modality `waves`.
    /// let registry = Registry::empty().sampler::<Halves>(origin!())?;
    /// assert_eq!(registry.find_sampler("halves", "waves")?.map(|s| s.name), Some("halves"));
    /// assert!(registry.find_sampler("halves", "image").is_err());
    /// // The modality's own sampler has no entry.
    /// assert!(registry.find_sampler("default", "waves")?.is_none());
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn sampler<S: SamplerKind>(self, origin: Origin) -> Result<Self> {
        self.with(Registration::Sampler(SamplerEntry::of::<S>(origin)))
    }

    /// Adds one registration.
    ///
    /// # Errors
    /// [`Error::Duplicate`] where the name is taken. Which of the two is called first does not
    /// depend on link order.
    ///
    /// ```
    /// # use burn::tensor::Tensor;
    /// # use lejepa_core::{BoxedStatistic, Result, Statistic, StatisticKind};
    /// # use serde::{Deserialize, Serialize};
    /// use lejepa_core::{Error, Registration, Registry, StatisticEntry, origin};
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
    /// let item = Registration::Statistic(StatisticEntry::of::<MeanSquare>(origin!()));
    /// let registry = Registry::empty().with(item)?;
    /// assert!(registry.find_statistic("mean_square").is_ok());
    /// assert!(matches!(registry.with(item), Err(Error::Duplicate { .. })));
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn with(mut self, item: Registration) -> Result<Self> {
        let (kind, name, origin, old) = match item {
            Registration::Modality(m) => {
                ("modality", m.name, m.origin, self.modalities.insert(m.name, m).map(|o| o.origin))
            }
            Registration::Encoder(e) => {
                let old = self.encoders.insert((e.name, e.modality), e);
                ("encoder", e.name, e.origin, old.map(|o| o.origin))
            }
            Registration::Sampler(s) => {
                let old = self.samplers.insert((s.modality, s.name), s);
                ("sampler", s.name, s.origin, old.map(|o| o.origin))
            }
            Registration::Statistic(s) => {
                ("statistic", s.name, s.origin, self.statistics.insert(s.name, s).map(|o| o.origin))
            }
        };
        match old {
            None => Ok(self),
            Some(old) => {
                let mut two = [old.to_string(), origin.to_string()];
                two.sort();
                let [first, second] = two;
                Err(Error::Duplicate { kind, name: name.to_string(), first, second })
            }
        }
    }

    /// All modalities, sorted by name.
    pub fn modalities(&self) -> impl Iterator<Item = &ModalityEntry> {
        self.modalities.values()
    }

    /// All encoders, sorted by name.
    pub fn encoders(&self) -> impl Iterator<Item = &EncoderEntry> {
        self.encoders.values()
    }

    /// All view samplers beside the modalities' own, sorted by modality and name.
    pub fn samplers(&self) -> impl Iterator<Item = &SamplerEntry> {
        self.samplers.values()
    }

    /// The view sampler of this name for `modality`; `None` for `"default"`, the modality's own.
    ///
    /// # Errors
    /// [`Error::Unknown`] listing the samplers of this modality.
    pub fn find_sampler(&self, name: &str, modality: &str) -> Result<Option<&SamplerEntry>> {
        if name == DEFAULT_SAMPLER {
            return Ok(None);
        }
        let fits = || self.samplers.values().filter(|s| s.modality == modality);
        fits().find(|s| s.name == name).map(Some).ok_or_else(|| Error::Unknown {
            kind: "sampler",
            name: name.to_string(),
            known: [DEFAULT_SAMPLER]
                .into_iter()
                .chain(fits().map(|s| s.name))
                .map(String::from)
                .collect(),
        })
    }

    /// All statistics, sorted by name.
    pub fn statistics(&self) -> impl Iterator<Item = &StatisticEntry> {
        self.statistics.values()
    }

    /// The statistic of this name.
    ///
    /// # Errors
    /// [`Error::Unknown`] listing the known ones.
    pub fn find_statistic(&self, name: &str) -> Result<&StatisticEntry> {
        self.statistics.get(name).ok_or_else(|| Error::Unknown {
            kind: "statistic",
            name: name.to_string(),
            known: self.statistics.keys().map(ToString::to_string).collect(),
        })
    }

    /// The modality of this name.
    ///
    /// # Errors
    /// [`Error::Unknown`], whose hint says how a plugin is linked.
    pub fn find_modality(&self, name: &str) -> Result<&ModalityEntry> {
        self.modalities.get(name).ok_or_else(|| Error::Unknown {
            kind: "modality",
            name: name.to_string(),
            known: self.modalities.keys().map(ToString::to_string).collect(),
        })
    }

    /// The encoder of this name for `modality`: one made for it before one made for all.
    ///
    /// # Errors
    /// [`Error::Unknown`] listing the encoders that this modality can use.
    pub fn find_encoder(&self, name: &str, modality: &str) -> Result<&EncoderEntry> {
        let fits = |e: &&EncoderEntry| e.modality.is_none_or(|m| m == modality);
        self.encoders
            .values()
            .filter(fits)
            .filter(|e| e.name == name)
            .max_by_key(|e| e.modality.is_some())
            .ok_or_else(|| {
                let mut known: Vec<String> =
                    self.encoders.values().filter(fits).map(|e| e.name.to_string()).collect();
                known.dedup();
                Error::Unknown { kind: "encoder", name: name.to_string(), known }
            })
    }
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::*;
    use crate::{Dataset, Source, ViewSampler};

    struct Nothing;

    impl Modality for Nothing {
        const NAME: &'static str = "nothing";
        const ABOUT: &'static str = "no data";
        const EXTENSIONS: &'static [&'static str] = &[];
        type Config = Empty;
        type Sample = ();
        fn open(_: &Empty, _: Source) -> Result<Box<dyn Dataset<Item = ()>>> {
            Err(Error::Data { reason: "nothing".into(), hint: String::new() })
        }
        fn sampler(_: &Empty) -> Result<Box<dyn ViewSampler<Sample = ()>>> {
            Err(Error::Data { reason: "nothing".into(), hint: String::new() })
        }
    }

    #[derive(serde::Serialize, serde::Deserialize, Default)]
    #[serde(deny_unknown_fields)]
    struct Empty {}

    const ONE: Origin = Origin { krate: "crate-one", version: "1.0.0" };
    const TWO: Origin = Origin { krate: "crate-two", version: "0.2.0" };

    #[test]
    fn a_name_twice_is_an_error_that_names_both_crates() {
        for (first, second) in [(ONE, TWO), (TWO, ONE)] {
            let registry = Registry::empty().modality::<Nothing>(first).unwrap();
            let error = registry.modality::<Nothing>(second).err().unwrap();
            let text = error.to_string();
            assert!(text.contains("crate-one 1.0.0 and by crate-two 0.2.0"), "{text}");
            assert!(error.hint().unwrap().contains("rename"));
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_and_says_how_to_link() {
        let registry = Registry::empty().modality::<Nothing>(ONE).unwrap();
        let error = registry.find_modality("nothng").err().unwrap();
        assert!(error.to_string().contains("known: nothing"), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("did you mean `nothing`") && hint.contains("use that_crate as _;"));
        let none = Registry::empty().find_modality("x").err().unwrap().to_string();
        assert!(none.contains("no plugin is linked"), "{none}");
    }

    #[test]
    fn unknown_keys_of_a_section_are_refused() {
        let registry = Registry::empty().modality::<Nothing>(ONE).unwrap();
        let entry = registry.find_modality("nothing").unwrap();
        let table: Table = "colour = 3".parse().unwrap();
        let error = (entry.open)(&table, Source::Demo, 0).err().unwrap();
        assert!(error.to_string().contains("colour"), "{error}");
    }
}
