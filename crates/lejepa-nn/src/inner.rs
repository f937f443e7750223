//! Encoders within encoders: given by words, built by the registry.

use lejepa_core::config::assign;
use lejepa_core::{
    BoxedEncoder, BuildContext, Error, Registry, Result, Table, Value, ViewSpec, kind,
};

/// Builds the encoder that `words` name, for `views`: a name with its settings, such as `resnet depth=18`, or the name
/// of a published size. `key` is the setting that holds the words, of the encoder `outer`.
pub(crate) fn inner(
    key: &'static str,
    words: &str,
    outer: &str,
    views: &ViewSpec,
    at: &BuildContext<'_>,
) -> Result<BoxedEncoder> {
    let discovered;
    let registry = match at.registry {
        Some(registry) => registry,
        None => {
            discovered = Registry::discover()?;
            &discovered
        }
    };
    let bad = |reason: String| Error::bad_value(key, reason);
    let mut words = words.split_whitespace();
    let first = words.next().ok_or_else(|| bad("is empty".into()))?;
    let sizes = registry.all::<kind::Encoder>().find_map(|item| {
        let sizes = item.entry::<kind::Encoder>()?.build().sizes;
        let (_, settings) = sizes.iter().find(|(name, _)| *name == first)?;
        Some((item.meta().name, *settings))
    });
    let (name, published) = sizes.unwrap_or((first, ""));
    if name == outer {
        return Err(bad(format!("`{outer}` cannot contain itself")));
    }
    let entry = registry.find::<kind::Encoder>(name, None).map_err(|e| bad(e.to_string()))?;
    let mut own = entry.meta().defaults()?;
    for word in published.split_whitespace().chain(words) {
        assign(&mut own, word).map_err(|e| bad(e.to_string()))?;
    }
    let at = BuildContext::new(views, at.device).with_registry(registry);
    (entry.build().build)(&own, &at).map_err(|e| bad(e.to_string()))
}

/// An encoder's settings, with its `name`, as the words that [`inner`] reads.
pub(crate) fn words(encoder: &Table) -> Option<String> {
    let mut words = encoder.get("name")?.as_str()?.to_string();
    for (key, value) in encoder.iter().filter(|(key, _)| *key != "name") {
        let value = match value {
            Value::String(text) => text.clone(),
            value => value.to_string().replace(' ', ""),
        };
        words.push_str(&format!(" {key}={value}"));
    }
    Some(words)
}
