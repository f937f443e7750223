//! Decoded samples on disk: what took long to fetch and decode is read back at once, in later epochs and later runs.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::dataset::{Dataset, Decoded, Window};
use crate::facts::Facts;
use crate::labels::{Labels, Split};
use crate::{Error, Result};

/// How samples of a modality are written to bytes, exactly, and read back.
///
/// ```
/// use lejepa_core::Codec;
///
/// const TEXT: Codec<String> = Codec {
///     encode: |text| text.clone().into_bytes(),
///     decode: |bytes| String::from_utf8(bytes.to_vec()).ok(),
/// };
/// let bytes = (TEXT.encode)(&"meow".to_string());
/// assert_eq!((TEXT.decode)(&bytes).as_deref(), Some("meow"));
/// assert_eq!((TEXT.decode)(&[0xff]), None);
/// ```
#[derive(Debug)]
pub struct Codec<S> {
    /// The bytes of a sample.
    pub encode: fn(&S) -> Vec<u8>,
    /// The sample of these bytes; `None` where they are not what `encode` gave.
    pub decode: fn(&[u8]) -> Option<S>,
}

impl<S> Clone for Codec<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Codec<S> {}

/// A folder for decoded samples, shared by any number of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCache {
    /// The folder; it is made where it is missing.
    pub folder: PathBuf,
    /// Most bytes of files in it.
    pub limit: u64,
}

/// What every file of the cache begins with; the number is that of the format.
const MAGIC: &[u8; 8] = b"lejepa\0\x01";

/// A data set whose whole items are kept in a [`DiskCache`].
pub(crate) struct CachedDataset<S> {
    dataset: Box<dyn Dataset<Item = S>>,
    codec: Codec<S>,
    folder: PathBuf,
    limit: u64,
    used: AtomicU64,
}

impl<S> CachedDataset<S> {
    /// `fingerprint` says how items are decoded; those decoded otherwise are removed, the oldest first, where the
    /// folder holds too much.
    pub(crate) fn new(
        dataset: Box<dyn Dataset<Item = S>>,
        codec: Codec<S>,
        cache: &DiskCache,
        fingerprint: &str,
    ) -> Result<Self> {
        let folder = cache.folder.join(&hex(fingerprint)[..16]);
        let hint = "data.disk_cache names a folder that this user may write to";
        fs::create_dir_all(&folder).map_err(|e| Error::path(&cache.folder, e, hint))?;
        let mut parts: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
        for entry in fs::read_dir(&cache.folder).into_iter().flatten().flatten() {
            let changed = entry.metadata().and_then(|m| m.modified());
            // Anything else in the folder is not ours to remove.
            if entry.path().is_dir() && is_part(&entry.path()) {
                let size = size_of(&entry.path());
                parts.push((changed.unwrap_or(SystemTime::UNIX_EPOCH), entry.path(), size));
            }
        }
        parts.sort();
        let mut used: u64 = parts.iter().map(|(.., size)| size).sum();
        for (_, part, size) in parts {
            if used >= cache.limit && part != folder && fs::remove_dir_all(&part).is_ok() {
                used -= size;
            }
        }
        Ok(Self { dataset, codec, folder, limit: cache.limit, used: AtomicU64::new(used) })
    }

    fn path(&self, stamp: &str) -> PathBuf {
        let name = hex(stamp);
        self.folder.join(&name[..2]).join(&name[2..])
    }

    fn read(&self, path: &Path) -> Option<Decoded<S>> {
        let bytes = fs::read(path).ok()?;
        let (head, body) = bytes.split_at_checked(MAGIC.len() + 4)?;
        let whole =
            head.starts_with(MAGIC) && head[MAGIC.len()..] == crc32c::crc32c(body).to_le_bytes();
        let (lengths, rest) = body.split_at_checked(16).filter(|_| whole)?;
        let number = |at: Range<usize>| lengths[at].try_into().map(u64::from_le_bytes).ok();
        let (memory, facts) =
            (usize::try_from(number(0..8)?).ok()?, usize::try_from(number(8..16)?).ok()?);
        let (facts, sample) = rest.split_at_checked(facts)?;
        let decoded = Decoded::whole((self.codec.decode)(sample)?, memory);
        Some(decoded.with_facts(facts_of(facts)?))
    }

    /// Keeps an item. What goes wrong costs time later, and nothing else.
    fn write(&self, path: &Path, decoded: &Decoded<S>) {
        let facts = bytes_of(&decoded.facts);
        let sample = (self.codec.encode)(&decoded.item);
        let mut body = Vec::with_capacity(16 + facts.len() + sample.len());
        body.extend((decoded.bytes as u64).to_le_bytes());
        body.extend((facts.len() as u64).to_le_bytes());
        body.extend(facts);
        body.extend(sample);
        let size = (body.len() + MAGIC.len() + 4) as u64;
        if self.used.fetch_add(size, Ordering::Relaxed) + size > self.limit {
            self.used.fetch_sub(size, Ordering::Relaxed);
            return;
        }
        let write = || -> std::io::Result<()> {
            let folder = path.parent().unwrap_or(&self.folder);
            fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(MAGIC)?;
            file.write_all(&crc32c::crc32c(&body).to_le_bytes())?;
            file.write_all(&body)?;
            file.persist(path).map_err(|e| e.error)?;
            Ok(())
        };
        if write().is_err() {
            // A full disk: what is there serves on.
            self.used.store(self.limit, Ordering::Relaxed);
        }
    }
}

impl<S: Send + Sync + 'static> Dataset for CachedDataset<S> {
    type Item = S;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn name(&self, index: usize) -> String {
        self.dataset.name(index)
    }

    fn item(&self, index: usize, window: Window<'_>) -> Result<Decoded<S>> {
        let Some(path) = self.dataset.stamp(index).map(|stamp| self.path(&stamp)) else {
            return self.dataset.item(index, window);
        };
        if let Some(decoded) = self.read(&path) {
            return Ok(decoded);
        }
        let decoded = self.dataset.item(index, window)?;
        if decoded.is_whole {
            self.write(&path, &decoded);
        }
        Ok(decoded)
    }

    fn labels(&self) -> &[Labels] {
        self.dataset.labels()
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.dataset.split(index)
    }

    fn chunks(&self) -> Vec<Range<usize>> {
        self.dataset.chunks()
    }

    fn copies(&self) -> Vec<Vec<usize>> {
        self.dataset.copies()
    }

    fn stamp(&self, index: usize) -> Option<String> {
        self.dataset.stamp(index)
    }

    fn fold(&self, index: usize) -> Option<&str> {
        self.dataset.fold(index)
    }
}

fn hex(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a folder is named as those of the cache.
fn is_part(folder: &Path) -> bool {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    name.is_some_and(|name| name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Bytes of all files below a folder.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size_of(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

fn bytes_of(facts: &Facts) -> Vec<u8> {
    // Bits, since JSON has no NaN.
    let numbers: Vec<(&str, u64)> =
        facts.numbers().iter().map(|(name, value)| (name.as_ref(), value.to_bits())).collect();
    serde_json::to_vec(&(numbers, facts.remarks())).unwrap_or_default()
}

fn facts_of(bytes: &[u8]) -> Option<Facts> {
    let (numbers, remarks): (Vec<(String, u64)>, Vec<String>) =
        serde_json::from_slice(bytes).ok()?;
    let with = |facts: Facts, (name, bits)| facts.number(name, f64::from_bits(bits));
    Some(numbers.into_iter().fold(Facts::new(), with).remarks_of(remarks))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::{BlobDataset, Listing};

    const TEXT: Codec<String> = Codec {
        encode: |text| text.clone().into_bytes(),
        decode: |bytes| String::from_utf8(bytes.to_vec()).ok(),
    };

    /// Texts that count how often they are decoded. Short ones are whole.
    fn open(
        files: &[PathBuf],
        cache: &DiskCache,
        fingerprint: &str,
    ) -> (CachedDataset<String>, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let listing = Listing { paths: files.to_vec(), ..Listing::default() };
        let texts = BlobDataset::new(Arc::new(listing), move |blob, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            let bytes = blob.read().map_err(|e| e.to_string())?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let facts = Facts::new().number("letters", f64::NAN).remark("a \"text\"");
            let memory = text.len();
            Ok(match memory < 100 {
                true => Decoded::whole(text, memory),
                false => Decoded::part(text, memory),
            }
            .with_facts(facts))
        });
        (CachedDataset::new(Box::new(texts), TEXT, cache, fingerprint).unwrap(), count)
    }

    fn all(data: &CachedDataset<String>) -> Vec<String> {
        (0..data.len()).map(|i| data.item(i, Window::Centre).unwrap().item).collect()
    }

    #[test]
    fn items_are_decoded_once_until_their_file_or_its_decoding_changes() {
        let d = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..3).map(|i| d.path().join(i.to_string())).collect();
        let texts = ["one".to_string(), "two".into(), "three ".repeat(40)];
        files.iter().zip(&texts).for_each(|(file, text)| fs::write(file, text).unwrap());
        let cache = DiskCache { folder: d.path().join("cache"), limit: 1 << 20 };
        let (data, count) = open(&files, &cache, "as it is");
        assert_eq!((all(&data), all(&data)), (texts.to_vec(), texts.to_vec()));
        // The long text is a part, which another window would give otherwise.
        assert_eq!(count.load(Ordering::Relaxed), 4);

        let (data, count) = open(&files, &cache, "as it is");
        let decoded = data.item(0, Window::Centre).unwrap();
        assert_eq!((decoded.bytes, decoded.is_whole, decoded.facts.remarks().len()), (3, true, 1));
        assert!(decoded.facts.numbers()[0].1.is_nan());
        assert_eq!(count.load(Ordering::Relaxed), 0);
        fs::write(&files[0], "another").unwrap();
        assert_eq!(data.item(0, Window::Centre).unwrap().item, "another");
        assert_eq!(count.load(Ordering::Relaxed), 1);

        let (data, count) = open(&files, &cache, "otherwise");
        data.item(1, Window::Centre).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn damage_is_decoded_again_and_the_limit_holds() {
        let d = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..8).map(|i| d.path().join(i.to_string())).collect();
        files.iter().for_each(|file| fs::write(file, "some words").unwrap());
        let folder = d.path().join("cache");
        let (data, _) = open(&files, &DiskCache { folder: folder.clone(), limit: 1 << 20 }, "a");
        all(&data);
        let path = data.path(&data.stamp(0).unwrap());
        let whole = fs::read(&path).unwrap();
        for damage in
            [&whole[..whole.len() - 1], &whole[..9], &[], &[whole.as_slice(), b"!"].concat()]
        {
            fs::write(&path, damage).unwrap();
            let (data, count) =
                open(&files, &DiskCache { folder: folder.clone(), limit: 1 << 20 }, "a");
            assert_eq!(data.item(0, Window::Centre).unwrap().item, "some words");
            assert_eq!(count.load(Ordering::Relaxed), 1);
        }

        // Room for four: what was decoded otherwise makes way, and the rest is decoded again.
        let limit = 4 * whole.len() as u64;
        fs::write(folder.join("notes.txt"), "mine").unwrap();
        let (data, count) = open(&files, &DiskCache { folder: folder.clone(), limit }, "b");
        assert_eq!(size_of(&folder), 4);
        all(&data);
        all(&data);
        assert_eq!(count.load(Ordering::Relaxed), 8 + 4);
        assert_eq!(size_of(&folder), limit + 4);
    }
}
