//! The registry: what is linked into this binary, by kind and name.

use std::collections::BTreeMap;

use crate::component::{Builds, Component, Entry, Kind, Origin, Registration};
use crate::{Error, Result};

/// Components by kind and name.
///
/// [`Registry::discover`] takes what is linked; [`Registry::empty`] with [`Registry::with`] takes exactly
/// what is named. Both are used the same way afterwards.
///
/// ```
/// use lejepa_core::{Registry, kind, origin};
#[doc = include_str!("doc/waves.txt")]
/// // `Waves` is a `Modality`, `Neighbours` a `ViewsKind` for it.
/// let registry = Registry::empty()
///     .with::<kind::Modality, Waves>(origin!())?
///     .with::<kind::Views, Neighbours>(origin!())?;
/// let waves = registry.find::<kind::Modality>("waves", None)?;
/// assert_eq!((waves.build().rule)().extensions, ["wave"]);
///
/// // A modality brings its default views along.
/// let names: Vec<_> = registry.all::<kind::Views>().map(|r| r.meta().name).collect();
/// assert_eq!(names, ["default", "neighbours"]);
///
/// let error = registry.find::<kind::Modality>("image", None).unwrap_err();
/// assert_eq!(error.to_string(), "unknown modality `image`; known: waves");
/// # Ok::<(), lejepa_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Registry {
    components: BTreeMap<(&'static str, &'static str, Option<&'static str>), Registration>,
}

impl Registry {
    /// A registry of nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Everything that crates linked into this binary have registered.
    ///
    /// # Errors
    /// [`Error::Duplicate`] where two crates claim one name. Which of them is called first does not depend
    /// on link order.
    pub fn discover() -> Result<Self> {
        let mut registry = Self::empty();
        for item in inventory::iter::<Registration> {
            registry.add(*item)?;
        }
        Ok(registry)
    }

    /// Adds component `T` as one of kind `K`, as registered by the crate `origin!()` names.
    ///
    /// # Errors
    /// [`Error::Duplicate`] where the name is taken.
    pub fn with<K: Builds<T>, T: Component>(mut self, origin: Origin) -> Result<Self> {
        self.add(Registration::of::<K, T>(origin))?;
        Ok(self)
    }

    /// Adds a registration, and what comes with it.
    ///
    /// # Errors
    /// [`Error::Duplicate`] where the name is taken.
    pub fn add(&mut self, item: Registration) -> Result<()> {
        let key = (item.kind(), item.meta().name, item.meta().scope);
        if let Some(old) = self.components.insert(key, item) {
            return Err(item.duplicate(&old));
        }
        item.brings().map_or(Ok(()), |brought| self.add(brought))
    }

    /// Adds a registration unless there is a component of its kind and name.
    pub fn add_if_absent(&mut self, item: Registration) {
        let key = (item.kind(), item.meta().name, item.meta().scope);
        self.components.entry(key).or_insert(item);
    }

    /// All components, sorted by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = &Registration> {
        self.components.values()
    }

    /// All components of kind `K`, sorted by name.
    pub fn all<K: Kind>(&self) -> impl Iterator<Item = &Registration> {
        self.components.values().filter(|item| item.kind() == K::WORD)
    }

    /// The component of this kind and name that fits a modality: one made for it before one made for all.
    ///
    /// # Errors
    /// [`Error::Unknown`], which lists those that fit; its hint says how a plugin is linked.
    pub fn find<K: Kind>(&self, name: &str, modality: Option<&str>) -> Result<&'static Entry<K>> {
        let fits =
            || self.all::<K>().filter(|r| r.meta().scope.is_none_or(|s| modality == Some(s)));
        fits()
            .filter(|item| item.meta().name == name)
            .max_by_key(|item| item.meta().scope.is_some())
            .and_then(Registration::entry)
            .ok_or_else(|| {
                let mut known: Vec<String> = fits().map(|r| r.meta().name.to_string()).collect();
                known.dedup();
                Error::Unknown { kind: K::WORD, name: name.to_string(), known }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, Modality, NoConfig, OpenOptions, Source, View, ViewRng, ViewSampler};
    use crate::{ViewSpec, Views, kind};

    struct Nothing;

    impl Component for Nothing {
        const NAME: &'static str = "nothing";
        const ABOUT: &'static str = "no data";
        type Config = NoConfig;
    }

    impl Modality for Nothing {
        const EXTENSIONS: &'static [&'static str] = &[];
        type Sample = ();
        fn open(_: &NoConfig, _: Source) -> Result<Box<dyn Dataset<Item = ()>>> {
            Err(Error::Data { reason: "no such data".into(), hint: String::new() })
        }
        fn sampler(_: &NoConfig) -> Result<Box<dyn ViewSampler<Sample = ()>>> {
            Ok(Box::new(Empty))
        }
    }

    struct Empty;

    impl ViewSampler for Empty {
        type Sample = ();
        fn spec(&self) -> ViewSpec {
            ViewSpec::multi_crop(2, [1, 1], 0, [1, 1])
        }
        fn views(&self, (): &(), _: &mut ViewRng) -> Result<Views> {
            Ok(Views::default())
        }
        fn eval_view(&self, (): &()) -> Result<View> {
            View::new([1, 1], vec![0.0])
        }
    }

    const ONE: Origin = Origin { krate: "crate-one", version: "1.0.0" };
    const TWO: Origin = Origin { krate: "crate-two", version: "0.2.0" };

    fn nothing(origin: Origin) -> Registration {
        Registration::of::<kind::Modality, Nothing>(origin)
    }

    #[test]
    fn a_name_twice_is_an_error_that_names_both_crates() {
        for (first, second) in [(ONE, TWO), (TWO, ONE)] {
            let mut registry = Registry::empty();
            registry.add(nothing(first)).unwrap();
            let error = registry.add(nothing(second)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("crate-one 1.0.0 and by crate-two 0.2.0"), "{text}");
            assert!(error.hint().unwrap().contains("rename"));
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_and_says_how_to_link() {
        let registry = Registry::empty().with::<kind::Modality, Nothing>(ONE).unwrap();
        let error = registry.find::<kind::Modality>("nothng", None).unwrap_err();
        assert!(error.to_string().contains("known: nothing"), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("did you mean `nothing`") && hint.contains("use that_crate as _;"));
        let none = Registry::empty().find::<kind::Modality>("x", None).unwrap_err().to_string();
        assert!(none.contains("no plugin is linked"), "{none}");
    }

    #[test]
    fn unknown_keys_of_a_section_are_refused() {
        let registry = Registry::empty().with::<kind::Modality, Nothing>(ONE).unwrap();
        let views = registry.find::<kind::Views>("default", Some("nothing")).unwrap();
        let pipeline =
            |section: &str| (views.build().build)(&section.parse().unwrap(), &toml::Table::new());
        let error = pipeline("colour = 3").err().unwrap();
        assert!(error.to_string().contains("colour"), "{error}");
        let opened = pipeline("").unwrap().open(Source::Demo, &OpenOptions::default());
        assert_eq!(opened.err().unwrap().to_string(), "no such data");
    }
}
