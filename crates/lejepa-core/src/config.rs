//! Configuration as strict layers of TOML tables.
//!
//! A section is a struct that serialises to a table with every key present. Layers (a plugin's
//! recipe, a file, command-line overrides) may only touch keys that exist, so a typing error is an
//! error with a suggestion and never a silently ignored option.

pub mod check;

use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

use crate::{Error, Result, nearest};

/// A group of configuration keys: plain data with a default for every key.
///
/// Derive `Serialize`, `Deserialize` (with `#[serde(deny_unknown_fields, default)]`) and implement
/// `Default`. Do not use `Option`: a key that is absent by default could not be overridden by name.
///
/// ```
/// use lejepa_core::{Section, config};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(deny_unknown_fields, default)]
/// struct Cut {
///     window: usize,
///     gain: f64,
/// }
///
/// impl Default for Cut {
///     fn default() -> Self {
///         Self { window: 32, gain: 0.2 }
///     }
/// }
///
/// // That makes `Cut` a section: there is nothing else to implement.
/// fn keys<S: Section>() -> lejepa_core::Result<Vec<String>> {
///     Ok(config::defaults::<S>("cut")?.keys().cloned().collect())
/// }
/// assert_eq!(keys::<Cut>()?, ["window", "gain"]);
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub trait Section: Serialize + DeserializeOwned + Default + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Default + Send + Sync + 'static> Section for T {}

/// The default values of a section as a table.
///
/// # Errors
/// [`Error::BadValue`] where the section cannot be written as TOML: a fault of the plugin.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use lejepa_core::config;
///
/// #[derive(Default, Serialize, Deserialize)]
/// #[serde(deny_unknown_fields, default)]
/// struct Cut {
///     window: usize,
/// }
///
/// let table = config::defaults::<Cut>("cut")?;
/// assert_eq!(table["window"].as_integer(), Some(0));
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub fn defaults<T: Section>(name: &str) -> Result<Table> {
    Table::try_from(T::default()).map_err(|e| Error::bad_value(name, one_line(&e.to_string())))
}

/// Reads a section from its table; `name` is its dotted place, for messages.
///
/// # Errors
/// [`Error::BadValue`] for an unknown key, a wrong type or an unknown variant.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use lejepa_core::config::{parse, recipe};
///
/// #[derive(Debug, Default, Serialize, Deserialize)]
/// #[serde(deny_unknown_fields, default)]
/// struct Cut {
///     window: usize,
/// }
///
/// let cut: Cut = parse("cut", &recipe("window = 64"))?;
/// assert_eq!(cut.window, 64);
///
/// let error = parse::<Cut>("cut", &recipe("windows = 64")).unwrap_err();
/// assert!(error.to_string().contains("`windows`"));
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub fn parse<T: Section>(name: &str, table: &Table) -> Result<T> {
    serde_path_to_error::deserialize(Value::Table(table.clone())).map_err(|e| {
        let path = e.path().to_string();
        // There is no path for an unknown field or for the section as a whole.
        let key = match (path.as_str(), name) {
            (".", "") => "configuration".to_string(),
            (".", name) => name.to_string(),
            (path, name) => join(name, path),
        };
        Error::bad_value(key, one_line(e.inner().message()))
    })
}

/// Keys with what they mean.
pub type Docs = Vec<(String, String)>;

/// What the fields of `struct name` are documented with, read from the source it is written in, so
/// that it is said once: `field_docs(include_str!("config.rs"), "MyConfig")`.
///
/// ```
/// let source = "pub struct Cut {\n    /// Length,\n    /// 8 to 64.\n    pub window: usize,\n}\n";
/// let docs = lejepa_core::config::field_docs(source, "Cut");
/// assert_eq!(docs, [("window".to_string(), "Length, 8 to 64.".to_string())]);
/// ```
pub fn field_docs(source: &str, name: &str) -> Docs {
    let begins = |line: &str| {
        let rest = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("struct ");
        rest.and_then(|r| r.strip_prefix(name)).is_some_and(|r| r.trim() == "{")
    };
    let mut docs = Docs::new();
    let mut words: Vec<&str> = Vec::new();
    let lines = source.lines().map(str::trim).skip_while(|l| !begins(l)).skip(1);
    for line in lines.take_while(|l| *l != "}") {
        if let Some(text) = line.strip_prefix("///") {
            words.push(text.trim());
        } else if let Some((key, _)) = line.split_once(':').filter(|_| !line.starts_with('#')) {
            let key = key.trim().trim_start_matches("pub ").trim();
            docs.push((key.to_string(), words.join(" ").replace("[`", "`").replace("`]", "`")));
            words.clear();
        }
    }
    docs
}

/// A recipe written as TOML in a plugin's source.
///
/// Text that is no TOML gives an empty recipe; a plugin's own test should look at one of its keys.
///
/// ```
/// use lejepa_core::config::recipe;
///
/// let table = recipe("[train]\nepochs = 30.0");
/// assert_eq!(table["train"]["epochs"].as_float(), Some(30.0));
/// assert!(recipe("thirty epochs").is_empty());
/// ```
pub fn recipe(text: &str) -> Table {
    text.parse().unwrap_or_default()
}

/// Lays `over` on `base`. Every key of `over` must exist in `base` with a value of the same type.
///
/// # Errors
/// [`Error::UnknownKey`] with the nearest key, or [`Error::BadValue`] for another type.
///
/// ```
/// use lejepa_core::config::{overlay, recipe};
///
/// let mut base = recipe("[train]\nlr = 0.1\nepochs = 3");
/// overlay(&mut base, &recipe("[train]\nepochs = 20"), "")?;
/// assert_eq!(base["train"]["epochs"].as_integer(), Some(20));
/// assert_eq!(base["train"]["lr"].as_float(), Some(0.1));
///
/// let error = overlay(&mut base, &recipe("[train]\nepoch = 20"), "").unwrap_err();
/// assert!(error.to_string().ends_with("did you mean `train.epochs`?"));
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub fn overlay(base: &mut Table, over: &Table, prefix: &str) -> Result<()> {
    for (key, value) in over {
        let dotted = join(prefix, key);
        let Some(slot) = base.get_mut(key) else {
            let near = nearest(key, base.keys().map(String::as_str)).map(|n| join(prefix, n));
            return Err(Error::UnknownKey { key: dotted, nearest: near });
        };
        match (slot, value) {
            (Value::Table(inner), Value::Table(over)) => overlay(inner, over, &dotted)?,
            (slot @ Value::Float(_), Value::Integer(i)) => *slot = Value::Float(*i as f64),
            (slot, value) if slot.same_type(value) => *slot = value.clone(),
            (slot, value) => {
                return Err(Error::bad_value(
                    dotted,
                    format!("expected {}, got {}", slot.type_str(), value.type_str()),
                ));
            }
        }
    }
    Ok(())
}

/// Applies one `a.b.c=value` override, as `--set` takes it. A string needs no quotes.
///
/// # Errors
/// As [`overlay`], and for an assignment without `=`.
///
/// ```
/// use lejepa_core::config::{assign, recipe};
///
/// let mut base = recipe("[train]\nlr = 0.1\nname = 'first'");
/// assign(&mut base, "train.lr=1")?;
/// assign(&mut base, "train.name=second run")?;
/// assert_eq!(base["train"]["lr"].as_float(), Some(1.0));
/// assert_eq!(base["train"]["name"].as_str(), Some("second run"));
///
/// let error = assign(&mut base, "lr=1").unwrap_err();
/// assert!(error.to_string().ends_with("did you mean `train.lr`?"));
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub fn assign(base: &mut Table, assignment: &str) -> Result<()> {
    let (path, words) = assignment.split_once('=').ok_or_else(|| {
        Error::bad_value(assignment, "expected key=value, for example --set train.epochs=20")
    })?;
    let (path, words) = (path.trim(), words.trim());
    // `lookup` reports the unknown part of the path with its neighbours.
    let current = lookup(base, path)?;
    let value = match current {
        Value::String(_) => Value::String(text_value(words)),
        Value::Table(_) => {
            return Err(Error::bad_value(path, "is a section; set one of its keys"));
        }
        _ => format!("v = {words}")
            .parse::<Table>()
            .ok()
            .and_then(|mut t| t.remove("v"))
            .ok_or_else(|| {
                Error::bad_value(path, format!("expected {}, got `{words}`", current.type_str()))
            })?,
    };
    let mut over = Value::Table(Table::new());
    let mut slot = &mut over;
    let keys: Vec<&str> = path.split('.').collect();
    for (i, key) in keys.iter().enumerate() {
        let next = if i + 1 == keys.len() { value.clone() } else { Value::Table(Table::new()) };
        let Value::Table(t) = slot else { break };
        slot = t.entry((*key).to_string()).or_insert(next);
    }
    match over {
        Value::Table(over) => overlay(base, &over, ""),
        _ => Ok(()),
    }
}

/// The text that an assignment gives a string: as it stands, or without its quotes where it is a TOML
/// string.
///
/// ```
/// use lejepa_core::config::text_value;
///
/// assert_eq!(text_value(" two words "), "two words");
/// assert_eq!(text_value("'mlp'"), "mlp");
/// assert_eq!(text_value(r#"" a \"b\" ""#), r#" a "b" "#);
/// assert_eq!(text_value("\"half"), "\"half");
/// ```
pub fn text_value(words: &str) -> String {
    let words = words.trim();
    let quoted = words.starts_with(['"', '\'']);
    let parsed = || format!("v = {words}").parse::<Table>().ok()?.remove("v");
    match quoted.then(parsed).flatten() {
        Some(Value::String(text)) => text,
        _ => words.to_string(),
    }
}

fn lookup<'a>(base: &'a Table, path: &str) -> Result<&'a Value> {
    let mut table = base;
    let mut done = String::new();
    let mut keys = path.split('.').peekable();
    while let Some(key) = keys.next() {
        let dotted = join(&done, key);
        match table.get(key) {
            Some(Value::Table(inner)) if keys.peek().is_some() => table = inner,
            Some(value) if keys.peek().is_none() => return Ok(value),
            _ => {
                let near = nearest(key, table.keys().map(String::as_str))
                    .map(|n| join(&done, n))
                    .or_else(|| anywhere(base, "", key));
                return Err(Error::UnknownKey { key: dotted, nearest: near });
            }
        }
        done = dotted;
    }
    Err(Error::UnknownKey { key: path.to_string(), nearest: None })
}

/// The dotted place of a key of this very name elsewhere: `--set epochs=3` means `train.epochs`.
fn anywhere(table: &Table, prefix: &str, key: &str) -> Option<String> {
    table.iter().find_map(|(name, value)| {
        let dotted = join(prefix, name);
        match value {
            _ if name == key && !prefix.is_empty() => Some(dotted),
            Value::Table(inner) => anywhere(inner, &dotted, key),
            _ => None,
        }
    })
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_string() } else { format!("{prefix}.{key}") }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Table {
        "seed = 0\n[train]\nlr = 0.1\nepochs = 3\nname = 'a'\nflag = true\nsizes = [1, 2]"
            .parse()
            .unwrap()
    }

    #[test]
    fn assigns_by_the_type_that_stands_there() {
        let mut t = base();
        for s in ["train.lr=1", "train.epochs = 7", "train.name=3", "train.flag=false", "seed=5"] {
            assign(&mut t, s).unwrap();
        }
        assert_eq!(t["train"]["lr"].as_float(), Some(1.0));
        assert_eq!(t["train"]["epochs"].as_integer(), Some(7));
        assert_eq!(t["train"]["name"].as_str(), Some("3"));
        assert_eq!(t["train"]["flag"].as_bool(), Some(false));
        assign(&mut t, "train.sizes=[3]").unwrap();
        assert_eq!(t["train"]["sizes"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn wrong_words_are_errors_with_the_nearest_key() {
        let mut t = base();
        for (words, says) in [
            ("train.epoch=3", "did you mean `train.epochs`"),
            ("trian.lr=3", "did you mean `train`"),
            ("epochs=3", "did you mean `train.epochs`"),
            ("train.epochs=many", "expected integer"),
            ("train.epochs=1.5", "expected integer"),
            ("train=3", "is a section"),
            ("train.lr", "expected key=value"),
            ("train.lr.x=3", "unknown"),
        ] {
            let e = assign(&mut t, words).unwrap_err().to_string();
            assert!(e.contains(says), "{words}: {e}");
        }
        assert_eq!(t, base());
    }

    #[test]
    fn overlay_is_strict_and_widens_integers() {
        let mut t = base();
        overlay(&mut t, &"[train]\nlr = 2".parse().unwrap(), "").unwrap();
        assert_eq!(t["train"]["lr"].as_float(), Some(2.0));
        assert!(overlay(&mut t, &"[train]\nlearning = 2".parse().unwrap(), "").is_err());
        assert!(overlay(&mut t, &"train = 2".parse().unwrap(), "").is_err());
    }
}
