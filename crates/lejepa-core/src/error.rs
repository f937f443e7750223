//! The one error type of the plugin border: what went wrong, where, and what to do next.

use std::path::{Path, PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a user's words, a user's files and an encoder.
///
/// Every message is one line. [`Error::hint`] adds what to do next where that is known.
///
/// ```
/// use lejepa_core::Error;
/// use std::path::Path;
///
/// let error = Error::path(Path::new("pictures"), "no such folder", "check --data");
/// assert_eq!(error.to_string(), "pictures: no such folder");
/// assert_eq!(error.hint().as_deref(), Some("check --data"));
///
/// let error = Error::sample("a.wav", "has no samples");
/// assert_eq!(error.to_string(), "a.wav: has no samples");
///
/// let error = Error::bad_value("train.epochs", "must be at least 1");
/// assert_eq!(error.to_string(), "configuration key `train.epochs`: must be at least 1");
/// assert_eq!(error.hint(), None);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is not registered: a modality, an encoder, a component or a statistic.
    #[error("unknown {kind} `{name}`; known: {}", list(.known))]
    Unknown {
        /// `"modality"`, `"encoder"`, `"statistic"`, `"statistic"`.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// The known names, sorted.
        known: Vec<String>,
    },
    /// Two crates registered the same name.
    #[error("{kind} `{name}` is registered twice: by {first} and by {second}")]
    Duplicate {
        /// `"modality"`, `"encoder"`, `"statistic"`, `"statistic"`.
        kind: &'static str,
        /// The name both claim.
        name: String,
        /// Crate and version of one claimant.
        first: String,
        /// Crate and version of the other.
        second: String,
    },
    /// A configuration key that nothing reads.
    #[error("unknown configuration key `{key}`{}", did_you_mean(.nearest))]
    UnknownKey {
        /// The dotted key.
        key: String,
        /// The closest key that exists, dotted.
        nearest: Option<String>,
    },
    /// A configuration value of the wrong type or out of range.
    #[error("configuration key `{key}`: {reason}")]
    BadValue {
        /// The dotted key.
        key: String,
        /// What is wrong with the value, and what is allowed.
        reason: String,
    },
    /// A file or folder that is missing, unreadable or not what it should be.
    #[error("{}: {reason}", .path.display())]
    Path {
        /// The path in question.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do next; empty where nothing sensible can be said.
        hint: String,
    },
    /// One sample that cannot be turned into views. The loader counts, names and replaces it.
    #[error("{name}: {reason}")]
    Sample {
        /// Path or identifier of the sample.
        name: String,
        /// Why it was refused.
        reason: String,
    },
    /// Data that as a whole cannot be trained on.
    #[error("{reason}")]
    Data {
        /// What is wrong.
        reason: String,
        /// What to do next.
        hint: String,
    },
    /// A tensor or view whose shape is not what its consumer takes.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Whose input it was.
        what: String,
        /// The accepted shape, as text.
        expected: String,
        /// The shape that came.
        got: Vec<usize>,
    },
}

impl Error {
    /// An [`Error::Path`] for `path`.
    pub fn path(path: &Path, reason: impl ToString, hint: impl Into<String>) -> Self {
        Self::Path { path: path.to_path_buf(), reason: reason.to_string(), hint: hint.into() }
    }

    /// An [`Error::Sample`] named `name`.
    pub fn sample(name: impl Into<String>, reason: impl ToString) -> Self {
        Self::Sample { name: name.into(), reason: reason.to_string() }
    }

    /// An [`Error::BadValue`] for the dotted `key`.
    pub fn bad_value(key: impl Into<String>, reason: impl ToString) -> Self {
        Self::BadValue { key: key.into(), reason: reason.to_string() }
    }

    /// What to do next, in one line, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { kind, name, known } => {
                let near = nearest(name, known.iter().map(String::as_str));
                let near = near.map_or(String::new(), |n| format!("did you mean `{n}`? "));
                Some(format!(
                    "{near}a {kind} from another crate is linked by `use that_crate as _;` in the binary's main.rs"
                ))
            }
            Self::Duplicate { .. } => {
                Some("link only one of the two crates, or rename one registration".into())
            }
            Self::UnknownKey { .. } => {
                Some("`lejepa config show` prints every key with its default value".into())
            }
            Self::Path { hint, .. } | Self::Data { hint, .. } if !hint.is_empty() => {
                Some(hint.clone())
            }
            _ => None,
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none (no plugin is linked)".into() } else { names.join(", ") }
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |n| format!("; did you mean `{n}`?"))
}

/// The candidate most like `word`, if any is close enough to be a plausible typing error.
///
/// ```
/// use lejepa_core::nearest;
/// assert_eq!(nearest("adio", ["image", "audio", "video"]), Some("audio"));
/// assert_eq!(nearest("zzz", ["image", "audio", "video"]), None);
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(word, c), c))
        .filter(|(score, _)| *score >= 0.78)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}
