//! Samples in stores that are named by URLs: S3, a web server, ...

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archives::{self, Archive, Archives};
use crate::blob::{Blob, BlobStore};
use crate::folders::Found;
use crate::labels::{Labels, Split};
use crate::listing::{Listing, SampleRule};
use crate::ranges::RangeRead;
use crate::{Error, Result, folders, manifest};

/// An object of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name in the store.
    pub key: String,
    /// Its length in bytes.
    pub length: u64,
}

/// A store whose objects are read by ranges. Shared by the loader's workers.
pub trait Objects: Debug + Send + Sync {
    /// All objects whose names begin with the folder `prefix`, or with anything if it is empty; in any order.
    ///
    /// # Errors
    /// What the store says; `Unsupported` if it has no listing.
    fn list(&self, prefix: &str) -> io::Result<Vec<Object>>;

    /// Length of an object in bytes.
    ///
    /// # Errors
    /// What the store says; `NotFound` if there is no such object.
    fn length(&self, key: &str) -> io::Result<u64>;

    /// Bytes of an object.
    ///
    /// # Errors
    /// What the store says.
    fn read(&self, key: &str, range: Range<u64>) -> io::Result<Vec<u8>>;
}

/// The store of a URL, and the URL's key in it.
pub type Reached = (Arc<dyn Objects>, String);

/// A way to reach stores by URL. A crate submits it: `inventory::submit!(Scheme { .. })`.
///
/// ```
/// use std::io;
/// use std::ops::Range;
/// use std::sync::Arc;
///
/// use lejepa_core::{Object, Objects, SampleRule, Scheme, Source, inventory};
///
/// /// A store of two samples.
/// #[derive(Debug)]
/// struct Memory;
///
/// impl Objects for Memory {
///     fn list(&self, prefix: &str) -> io::Result<Vec<Object>> {
///         let key = |class| Object { key: format!("{prefix}/{class}/1.txt"), length: 3 };
///         Ok(vec![key("cat"), key("dog")])
///     }
///     fn length(&self, _: &str) -> io::Result<u64> {
///         Ok(3)
///     }
///     fn read(&self, key: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
///         Ok(key.bytes().skip(5).skip(range.start as usize).take(range.count()).collect())
///     }
/// }
///
/// inventory::submit!(Scheme { names: &["memory"], open: |_| Ok((Arc::new(Memory), "pets".into())) });
///
/// let Source::Blobs(store) = Source::resolve("memory://host/pets", SampleRule::new(&["txt"]))? else {
///     panic!("not the demo")
/// };
/// assert_eq!(store.name(1), "memory://host/pets/dog/1.txt");
/// assert_eq!(store.labels()[0].names(), ["cat", "dog"]);
/// assert_eq!(store.blob(1)?.read()?[..], *b"dog");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Scheme {
    /// What URLs begin with, e.g. `s3` of `s3://bucket/photos`.
    pub names: &'static [&'static str],
    /// Reaches the store of a URL, and tells the URL's key in it. Opens no connection.
    pub open: fn(&str) -> io::Result<Reached>,
}

inventory::collect!(Scheme);

/// The scheme of a URL; `None` for paths. Of one letter it is a drive of Windows.
pub(crate) fn scheme(source: &str) -> Option<&str> {
    let (scheme, _) = source.split_once("://")?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.len() > 1 && scheme.chars().all(is_word)).then_some(scheme)
}

/// An object that is read by ranges.
#[derive(Debug)]
struct Opened {
    store: Arc<dyn Objects>,
    object: Object,
}

impl RangeRead for Opened {
    fn length(&self) -> io::Result<u64> {
        Ok(self.object.length)
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.object.length.min(at.saturating_add(buffer.len() as u64));
        if at >= end {
            return Ok(0);
        }
        let bytes = self.store.read(&self.object.key, at..end)?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn block(&self) -> usize {
        64 << 10
    }
}

/// The samples of a listing whose paths are URLs.
struct Remote {
    listing: Listing,
    store: Arc<dyn Objects>,
    /// What all URLs begin with before the key.
    base: String,
    /// The length of each object, in the order of the listing, if a listing of the store told them.
    lengths: Vec<u64>,
}

impl BlobStore for Remote {
    fn len(&self) -> usize {
        self.listing.len()
    }

    fn name(&self, index: usize) -> String {
        self.listing.name(index)
    }

    fn blob(&self, index: usize) -> Result<Blob<'_>> {
        let name = self.name(index);
        let failed = |e: io::Error| Error::sample(name.clone(), e);
        let path = self.listing.paths.get(index).map_or(String::new(), |p| p.display().to_string());
        let key = path.strip_prefix(&self.base).unwrap_or(&path).to_string();
        let length = match self.lengths.get(index) {
            Some(length) => *length,
            None => self.store.length(&key).map_err(failed)?,
        };
        let object = Object { key, length };
        let opened = Arc::new(Opened { store: self.store.clone(), object });
        let blob = Blob::ranges(name.clone(), opened, None);
        Ok(match self.listing.spans.get(index).cloned().flatten() {
            Some(span) => blob.with_span(span),
            None => blob,
        })
    }

    fn length(&self, _: usize) -> Option<u64> {
        // Copies are not worth a download.
        None
    }

    fn stamp(&self, index: usize) -> Option<String> {
        Some(format!("{} {:?}", self.name(index), self.lengths.get(index)))
    }

    fn labels(&self) -> &[Labels] {
        self.listing.labels()
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.listing.split(index)
    }

    fn fold(&self, index: usize) -> Option<&str> {
        self.listing.fold(index)
    }

    fn notes(&self) -> &[String] {
        self.listing.notes()
    }
}

/// A URL that a store is reached by.
struct Place {
    store: Arc<dyn Objects>,
    url: String,
    key: String,
}

impl Place {
    fn open(scheme: &str, url: &str) -> Result<Self> {
        let found = inventory::iter::<Scheme>().find(|known| known.names.contains(&scheme));
        let Some(found) = found else {
            let mut names: Vec<&str> =
                inventory::iter::<Scheme>().flat_map(|known| known.names).copied().collect();
            names.sort_unstable();
            return Err(match names.is_empty() {
                true => Error::path(
                    Path::new(url),
                    "this program reads no URLs",
                    "build it with the feature `object-store`, or name a folder, a manifest or an archive",
                ),
                false => Error::path(
                    Path::new(url),
                    format!("no store is reached by {scheme}://"),
                    format!("URLs begin with {}://", names.join("://, ")),
                ),
            });
        };
        let failed = |e| Error::path(Path::new(url), e, "is the URL complete?");
        let (store, key) = (found.open)(url).map_err(failed)?;
        Ok(Self { store, url: url.trim_end_matches('/').to_string(), key })
    }

    /// What is before the key in every URL of the store.
    fn base(&self) -> String {
        let host = || self.url.split('/').take(3).collect::<Vec<_>>().join("/") + "/";
        self.url.strip_suffix(&self.key).map_or_else(host, String::from)
    }

    /// The URL with its key as the store spells it.
    fn root(&self) -> PathBuf {
        PathBuf::from(self.base() + &self.key)
    }

    fn failed(&self, error: io::Error) -> Error {
        let hint = match error.kind() {
            io::ErrorKind::Unsupported => {
                "name an archive (.tar, .parquet) or a manifest (.csv, .jsonl)"
            }
            io::ErrorKind::NotFound => "is the name right, and may this user read it?",
            _ => "are the credentials in the environment, and can the store be reached?",
        };
        Error::path(Path::new(&self.url), error, hint)
    }

    fn archive(&self) -> Result<Archive> {
        let length = self.store.length(&self.key).map_err(|e| self.failed(e))?;
        let object = Object { key: self.key.clone(), length };
        let opened = Opened { store: self.store.clone(), object };
        Ok(Archive { path: PathBuf::from(&self.url), object: Some(Arc::new(opened)) })
    }

    fn manifest(&self) -> Result<Arc<dyn BlobStore>> {
        let length = self.store.length(&self.key).map_err(|e| self.failed(e))?;
        let bytes = self.store.read(&self.key, 0..length).map_err(|e| self.failed(e))?;
        let file = &self.root();
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::path(file, "not in UTF-8", "save the manifest in UTF-8"))?;
        let text = text.trim_start_matches('\u{feff}');
        let listing = Listing::of_manifest(file, manifest::parse(file, text)?)?;
        let (store, base) = (self.store.clone(), self.base());
        Ok(Arc::new(Remote { listing, store, base, lengths: Vec::new() }))
    }

    fn folder(&self, rule: SampleRule) -> Result<Arc<dyn BlobStore>> {
        let base = self.base();
        let objects = self.store.list(&self.key).map_err(|e| self.failed(e))?;
        let root = &self.root();
        let mut found = Found::default();
        let mut lengths = std::collections::HashMap::new();
        for object in objects {
            let path = PathBuf::from(format!("{base}{}", object.key));
            // Stores may keep an empty object for a folder.
            let is_folder = object.length == 0 && path.extension().is_none();
            if !is_folder && folders::is_data(root, &path) {
                found.add(path.clone(), rule);
                lengths.insert(path, object.length);
            }
        }
        let (listing, archives) = Listing::of_found(root, found);
        if listing.paths.is_empty() && !archives.is_empty() {
            let opened = |path: PathBuf| {
                let url = path.display().to_string();
                let key = url.strip_prefix(&base).unwrap_or(&url).to_string();
                let length = lengths.get(&path).copied().unwrap_or(0);
                let opened = Opened { store: self.store.clone(), object: Object { key, length } };
                Archive { path, object: Some(Arc::new(opened)) }
            };
            let archives = archives.into_iter().map(opened).collect();
            return Ok(Arc::new(Archives::open(archives, root, rule)?));
        }
        if listing.paths.is_empty() {
            return Err(listing.nothing(root, rule));
        }
        let of = |path| lengths.get(path).copied().unwrap_or(0);
        let lengths = listing.paths.iter().map(of).collect();
        Ok(Arc::new(Remote { listing, store: self.store.clone(), base, lengths }))
    }
}

/// The URLs that `prefix{000..012}suffix` stands for, as lists of shards are written.
fn expanded(url: &str) -> Vec<String> {
    let range = || {
        let (before, rest) = url.split_once('{')?;
        let (range, after) = rest.split_once('}')?;
        let (from, to) = range.split_once("..")?;
        let (first, last) = (from.parse::<u32>().ok()?, to.parse::<u32>().ok()?);
        let width = from.len();
        let name = move |n| format!("{before}{n:0width$}{after}");
        Some((first..=last).map(name).flat_map(|url| expanded(&url)).collect())
    };
    range().unwrap_or_else(|| vec![url.to_string()])
}

/// The samples that a URL names.
pub(crate) fn resolve(scheme: &str, url: &str, rule: SampleRule) -> Result<Arc<dyn BlobStore>> {
    let urls = expanded(url);
    if urls.iter().all(|url| archives::is_archive(Path::new(url))) {
        let archive = |url: &String| Place::open(scheme, url)?.archive();
        let archives = urls.iter().map(archive).collect::<Result<_>>()?;
        let root = Path::new(url).parent().unwrap_or(Path::new(url));
        return Ok(Arc::new(Archives::open(archives, root, rule)?));
    }
    let place = Place::open(scheme, url)?;
    let name = url.to_ascii_lowercase();
    match [".csv", ".jsonl", ".ndjson"].iter().any(|end| name.ends_with(end)) {
        true => place.manifest(),
        false => place.folder(rule),
    }
}
