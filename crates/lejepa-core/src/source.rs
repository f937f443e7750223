//! Where samples come from.

use std::path::Path;
use std::sync::Arc;

use crate::archives::{self, Archive, Archives};
use crate::blob::BlobStore;
use crate::listing::{Listing, SampleRule, has_extension};
use crate::{Error, Result, manifest, remote};

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
    /// (`.tar`, `.parquet`), or the URL of one of these in a store that a [`Scheme`](crate::Scheme) reads. A folder with a
    /// manifest directly in it (`manifest.csv`, `metadata.csv` or either as `.jsonl`), or with that of ESC-50 or
    /// UrbanSound8K in its place, is what that lists; a folder of archives without loose samples is all of them.
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
            match listed_within(path)? {
                Some(listing) => (listing, Vec::new()),
                None => Listing::with_archives(path, rule)?,
            }
        } else if archives::is_archive(path) {
            (Listing::default(), vec![path.to_path_buf()])
        } else if !manifest::is_named(path) && has_extension(path, rule.extensions) {
            let listing = Listing { paths: vec![path.to_path_buf()], ..Listing::default() };
            (listing, Vec::new())
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

/// Names of manifests that are read without being named. A file called `metadata` may be about anything else.
const WITHIN: [(&str, bool); 6] = [
    ("manifest.csv", true),
    ("manifest.jsonl", true),
    ("metadata.csv", false),
    ("metadata.jsonl", false),
    // ESC-50 and UrbanSound8K as they are published.
    ("meta/esc50.csv", false),
    ("metadata/UrbanSound8K.csv", false),
];

/// What a manifest in a folder lists.
fn listed_within(folder: &Path) -> Result<Option<Listing>> {
    for (name, is_certain) in WITHIN {
        let file = folder.join(name);
        if !file.is_file() {
            continue;
        }
        match Listing::from_manifest(&file) {
            Ok(mut listing) => {
                listing.notes.insert(0, format!("samples are those of {name} in the folder"));
                return Ok(Some(listing));
            }
            Err(error) if is_certain => return Err(error),
            Err(_) => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_may_be_all_of_the_data() {
        let d = tempfile::tempdir().unwrap();
        for name in ["long.wav", "list.csv"] {
            std::fs::write(d.path().join(name), "path,label\nlong.wav,x\nlist.csv,y\n").unwrap();
        }
        let resolve = |name: &str| {
            let file = d.path().join(name);
            Source::resolve(file.to_str().unwrap(), SampleRule::new(&["wav", "csv"]))
        };
        for (name, samples, labels) in [("long.wav", 1, 0), ("list.csv", 2, 1)] {
            let Source::Blobs(store) = resolve(name).unwrap() else { panic!("{name}") };
            assert_eq!((store.len(), store.labels().len()), (samples, labels), "{name}");
        }
        std::fs::write(d.path().join("a.xyz"), "").unwrap();
        assert!(resolve("a.xyz").unwrap_err().to_string().contains("not a manifest"));
    }

    #[test]
    fn a_manifest_in_a_folder_says_what_is_in_it() {
        let d = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.png", "c.png"] {
            std::fs::write(d.path().join(name), name).unwrap();
        }
        let folder = d.path().to_str().unwrap();
        let open = || match Source::resolve(folder, RULE).unwrap() {
            Source::Blobs(store) => store,
            Source::Demo => unreachable!("a folder"),
        };
        // Of something else.
        std::fs::write(d.path().join("metadata.csv"), "station,height\nnorth,12\n").unwrap();
        assert_eq!(open().len(), 3);
        // As hubs lay out folders of files.
        std::fs::write(d.path().join("metadata.csv"), "file_name,label\na.png,x\nb.png,y\n")
            .unwrap();
        let store = open();
        assert_eq!((store.len(), store.labels().len()), (2, 1));
        assert!(store.notes()[0].contains("metadata.csv"), "{:?}", store.notes());
        std::fs::write(d.path().join("manifest.csv"), "path,label\na.png,x\na.png,y\n").unwrap();
        let reason = Source::resolve(folder, RULE).unwrap_err().to_string();
        assert!(reason.contains("another label"), "{reason}");
    }

    #[test]
    fn a_published_set_is_known_by_its_folder() {
        let d = tempfile::tempdir().unwrap();
        for folder in ["audio", "meta"] {
            std::fs::create_dir(d.path().join(folder)).unwrap();
        }
        for name in ["1-7-A-0.wav", "2-8-A-1.wav"] {
            std::fs::write(d.path().join("audio").join(name), name).unwrap();
        }
        let rows = "filename,fold,target,category\n1-7-A-0.wav,1,0,dog\n2-8-A-1.wav,2,1,rain\n";
        std::fs::write(d.path().join("meta/esc50.csv"), rows).unwrap();
        let folder = d.path().to_str().unwrap();
        let Source::Blobs(store) = Source::resolve(folder, SampleRule::new(&["wav"])).unwrap()
        else {
            panic!("a folder")
        };
        assert_eq!((store.len(), store.fold(1)), (2, Some("2")));
        assert_eq!(store.labels()[0].names(), ["dog", "rain"]);
    }

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
