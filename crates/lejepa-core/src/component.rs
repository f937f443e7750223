//! What can be registered: one trait, one entry, one macro for every kind.

use std::any::Any;
use std::fmt::{self, Debug, Display, Formatter};

use toml::Table;

use crate::config::{self, Docs, Section};
use crate::{Error, Result};

/// Something that is chosen by name: a modality, an encoder, a statistic, ...
///
/// In addition, a component implements the trait of its [`kind`](crate::kind), and its crate registers it
/// with [`register!`](crate::register).
pub trait Component: 'static {
    /// The name in the configuration: lower case, e.g. `"audio"`.
    const NAME: &'static str;
    /// One line for lists of components.
    const ABOUT: &'static str;
    /// Its section of the configuration, without `name`.
    type Config: Section;

    /// What the keys of its section mean; see [`field_docs`](config::field_docs).
    fn docs() -> Docs {
        Docs::new()
    }
}

/// Configuration without keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// A kind of component and the type of its builder. [`kind`](crate::kind) lists those of this crate.
pub trait Kind: 'static {
    /// Its name in messages: `"encoder"`.
    const WORD: &'static str;
    /// A function pointer, or a few of them, that builds one from its section.
    type Build: Copy + Send + Sync + 'static;
}

/// How a component of type `T` is built as one of this kind. A kind implements it once, for all types
/// with the kind's trait.
pub trait Builds<T: Component>: Kind {
    /// The only modality it is for, where it is not for all.
    const SCOPE: Option<&'static str> = None;
    /// The builder.
    const BUILD: &'static Self::Build;
    /// Another component that comes with this one.
    const BRINGS: Option<fn(Origin) -> Registration> = None;
}

/// A type-erased component.
pub struct Entry<K: Kind> {
    meta: Meta,
    build: &'static K::Build,
}

/// Metadata of a component.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Meta {
    /// [`Component::NAME`].
    pub name: &'static str,
    /// [`Component::ABOUT`].
    pub about: &'static str,
    /// [`Builds::SCOPE`].
    pub scope: Option<&'static str>,
    defaults: fn() -> Result<Table>,
    docs: fn() -> Docs,
}

impl Meta {
    /// The default values of its section.
    ///
    /// # Errors
    /// [`Error::BadValue`] where they cannot be written as TOML: a fault of the component.
    pub fn defaults(&self) -> Result<Table> {
        (self.defaults)()
    }

    /// What the keys of its section mean.
    pub fn docs(&self) -> Docs {
        (self.docs)()
    }
}

struct Of<K, T>(std::marker::PhantomData<(K, T)>);

impl<K: Builds<T>, T: Component> Of<K, T> {
    const META: Meta = Meta {
        name: T::NAME,
        about: T::ABOUT,
        scope: K::SCOPE,
        defaults: || config::defaults::<T::Config>(K::WORD),
        docs: T::docs,
    };
    const ENTRY: &'static Entry<K> = &Entry { meta: Self::META, build: K::BUILD };
}

impl<K: Kind> Entry<K> {
    /// The entry of component `T`.
    pub const fn of<T: Component>() -> &'static Self
    where
        K: Builds<T>,
    {
        Of::<K, T>::ENTRY
    }

    /// Its metadata.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// [`Component::NAME`].
    pub fn name(&self) -> &'static str {
        self.meta.name
    }

    /// The builder.
    pub fn build(&self) -> K::Build {
        *self.build
    }
}

impl<K: Kind> Debug for Entry<K> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", K::WORD, self.meta.name)
    }
}

/// A crate and its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Name of the crate.
    pub krate: &'static str,
    /// Its version.
    pub version: &'static str,
}

impl Display for Origin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.krate, self.version)
    }
}

/// A component of some kind and the crate that registers it: what [`register!`](crate::register) submits.
#[derive(Clone, Copy)]
pub struct Registration {
    kind: &'static str,
    meta: &'static Meta,
    entry: &'static (dyn Any + Send + Sync),
    origin: Origin,
    brings: Option<fn(Origin) -> Self>,
}

impl Registration {
    /// Component `T` as one of kind `K`, registered by the crate [`origin!`](crate::origin) names.
    pub const fn of<K: Builds<T>, T: Component>(origin: Origin) -> Self {
        let entry = Of::<K, T>::ENTRY;
        Self { kind: K::WORD, meta: &entry.meta, entry, origin, brings: K::BRINGS }
    }

    /// The kind's word.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The component's metadata.
    pub fn meta(&self) -> &'static Meta {
        self.meta
    }

    /// Who registered it.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What comes with it.
    pub(crate) fn brings(&self) -> Option<Self> {
        self.brings.map(|brings| brings(self.origin))
    }

    /// The entry, where it is of kind `K`.
    pub fn entry<K: Kind>(&self) -> Option<&'static Entry<K>> {
        self.entry.downcast_ref()
    }

    pub(crate) fn duplicate(&self, other: &Self) -> Error {
        let mut two = [self.origin.to_string(), other.origin.to_string()];
        two.sort();
        let [first, second] = two;
        Error::Duplicate { kind: self.kind, name: self.meta.name.to_string(), first, second }
    }
}

impl Debug for Registration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` of {}", self.kind, self.meta.name, self.origin)
    }
}

inventory::collect!(Registration);

/// Registers all that a crate brings, each as `kind: type`.
///
/// ```
/// use lejepa_core::{Registry, kind, register};
#[doc = include_str!("doc/waves.txt")]
/// // `Neighbours` is a `ViewsKind` for the modality `Waves`. A crate with both writes
/// // `register!(kind::Modality: Waves, kind::Views: Neighbours);`.
/// register!(kind::Views: Neighbours);
///
/// # fn main() -> lejepa_core::Result<()> {
/// let registry = Registry::discover()?;
/// assert_eq!(registry.find::<kind::Views>("neighbours", Some("waves"))?.name(), "neighbours");
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! register {
    ($($kind:path: $component:ty),+ $(,)?) => {
        $($crate::inventory::submit! {
            $crate::Registration::of::<$kind, $component>($crate::origin!())
        })+
    };
}

/// The crate that this is written in, and its version.
///
/// ```
/// assert_eq!(lejepa_core::origin!().krate, "lejepa-core");
/// ```
#[macro_export]
macro_rules! origin {
    () => {
        $crate::Origin { krate: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") }
    };
}
