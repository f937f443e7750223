//! Samples that could not be used.

use lejepa_core::{Error, ViewSource};

/// A sample that could not be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Skipped {
    /// Index in the source.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Skipped {
    pub(crate) fn new(source: &dyn ViewSource, index: usize, error: Error) -> Self {
        match error {
            Error::Sample { name, reason } => Self { index, name, reason },
            other => Self { index, name: source.name(index), reason: other.to_string() },
        }
    }
}
