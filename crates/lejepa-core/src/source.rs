//! Where samples come from.

use std::path::Path;
use std::sync::Arc;

use crate::archives::{self, Archive, Archives};
use crate::blob::BlobStore;
use crate::listing::{Listing, SampleRule};
use crate::{Error, Result, remote};

/// Where a modality's data comes from.
#[derive(Clone)]
#[non_exhaustive]
pub enum Source {
    /// The plugin's built-in labelled data.
    Demo,
    /// Samples to be decoded: the files of a [`Listing`], the members of archives, ...
    Blobs(Arc<dyn BlobStore>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Demo => f.write_str("Demo"),
            Self::Blobs(store) => write!(f, "Blobs({} samples)", store.len()),
        }
    }
}

/// Whether a run uses the built-in data, which is known before any data is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceKind {
    /// The plugin's built-in data.
    Demo,
    /// The user's data.
    Files,
}

/// What `data.source` calls the built-in data.
pub const DEMO: &str = "demo";

impl SourceKind {
    /// The kind of what a user wrote for `data.source`.
    ///
    /// ```
    /// use lejepa_core::SourceKind;
    ///
    /// assert_eq!(SourceKind::of("demo"), SourceKind::Demo);
    /// assert_eq!(SourceKind::of("photos/2024"), SourceKind::Files);
    /// ```
    pub fn of(source: &str) -> Self {
        if source == DEMO { Self::Demo } else { Self::Files }
    }
}

impl Source {
    /// What a user should know of how the samples were found, a line each.
    pub fn notes(&self) -> &[String] {
        match self {
            Self::Demo => &[],
            Self::Blobs(store) => store.notes(),
        }
    }

    /// Resolves what a user wrote: `demo`, a folder, a manifest (`.csv`, `.jsonl`), an archive of samples
    /// (`.tar`, `.parquet`), or the URL of one of these in a store that a [`Scheme`](crate::Scheme) reads. A folder of
    /// archives without loose samples is all of them.
    ///
    /// # Errors
    /// [`Error::Path`] for a path that is missing, unreadable, or holds no sample of this kind, and for the URL of a
    /// store that this program does not read.
    ///
    /// ```
    /// use lejepa_core::{SampleRule, Source};
    ///
    /// const PNG: SampleRule = SampleRule::new(&["png"]);
    /// assert!(matches!(Source::resolve("demo", PNG)?, Source::Demo));
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().to_string_lossy();
    /// assert!(Source::resolve(&path, PNG).is_err());
    ///
    /// std::fs::write(folder.path().join("1.png"), "")?;
    /// let Source::Blobs(store) = Source::resolve(&path, PNG)? else { panic!("not the demo") };
    /// assert_eq!(store.path(0), Some(folder.path().join("1.png")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolve(source: &str, rule: SampleRule) -> Result<Self> {
        if SourceKind::of(source) == SourceKind::Demo {
            return Ok(Self::Demo);
        }
        if let Some(scheme) = remote::scheme(source) {
            return Ok(Self::Blobs(remote::resolve(scheme, source, rule)?));
        }
        let path = Path::new(source);
        let meta = std::fs::metadata(path).map_err(|e| {
            Error::path(
                path,
                if e.kind() == std::io::ErrorKind::NotFound {
                    "no such file or folder".to_string()
                } else {
                    e.to_string()
                },
                "data.source takes a folder, a manifest (.csv or .jsonl), an archive (.tar or .parquet), or `demo` for the \
                 built-in data",
            )
        })?;
        let (listing, archives) = if meta.is_dir() {
            Listing::with_archives(path, rule)?
        } else if archives::is_archive(path) {
            (Listing::default(), vec![path.to_path_buf()])
        } else {
            (Listing::from_manifest(path)?, Vec::new())
        };
        if listing.paths.is_empty() && !archives.is_empty() {
            let archives = archives.into_iter().map(Archive::file).collect();
            return Ok(Self::Blobs(Arc::new(Archives::open(archives, path, rule)?)));
        }
        if listing.paths.is_empty() {
            return Err(listing.nothing(path, rule));
        }
        Ok(Self::Blobs(Arc::new(listing)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: SampleRule = SampleRule::new(&["png"]);

    #[test]
    fn missing_and_empty_sources_are_errors_with_hints() {
        let d = tempfile::tempdir().unwrap();
        for words in [d.path().to_str().unwrap(), "/no/such/place"] {
            let e = Source::resolve(words, RULE).unwrap_err();
            assert!(e.hint().is_some(), "{e}");
            assert!(!e.to_string().contains('\n'));
        }
        assert!(matches!(Source::resolve("demo", RULE).unwrap(), Source::Demo));
    }
}
