//! What a sample is decoded from: a file, a part of a file, or bytes in memory.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::ranges::{self, RangeRead, RangeReader};
use crate::{Labels, Result, Split};

/// Read and seek at once, on any thread.
pub trait ReadSeek: Read + Seek + Send + Sync {}

impl<T: Read + Seek + Send + Sync> ReadSeek for T {}

/// The encoded bytes of one sample and the name that they go by.
///
/// A decoder that reads a `Blob` takes files, members of an archive and cells of a table alike.
///
/// ```
/// use std::io::Read;
/// use lejepa_core::Blob;
///
/// let mut blob = Blob::bytes("shard-3.tar/cat.TXT", &b"meow"[..]);
/// assert_eq!((blob.name(), blob.extension().as_str(), blob.len()?), ("shard-3.tar/cat.TXT", "txt", 4));
/// assert_eq!(blob.read()?[..], *b"meow");
/// let mut text = String::new();
/// blob.open()?.read_to_string(&mut text)?;
/// assert_eq!(text, "meow");
/// assert!(blob.path().is_none());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Blob<'a> {
    name: Cow<'a, str>,
    content: Content<'a>,
    span: Option<Range<Duration>>,
}

#[derive(Debug, Clone)]
enum Content<'a> {
    Path(Cow<'a, Path>),
    Bytes(Cow<'a, [u8]>),
    Part(Cow<'a, Path>, Range<u64>),
    Ranges(Arc<dyn RangeRead>, Option<Range<u64>>),
}

impl<'a> Blob<'a> {
    /// A whole file, or a folder where the modality takes one for a sample.
    pub fn file(path: impl Into<Cow<'a, Path>>) -> Self {
        let path = path.into();
        Self { name: path.display().to_string().into(), content: Content::Path(path), span: None }
    }

    /// Bytes in memory, e.g. a cell of a table.
    pub fn bytes(name: impl Into<Cow<'a, str>>, bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { name: name.into(), content: Content::Bytes(bytes.into()), span: None }
    }

    /// A range of a file, e.g. a member of an archive that is not compressed.
    pub fn part(
        name: impl Into<Cow<'a, str>>,
        path: impl Into<Cow<'a, Path>>,
        range: Range<u64>,
    ) -> Self {
        Self { name: name.into(), content: Content::Part(path.into(), range), span: None }
    }

    /// What is read by ranges, e.g. an object of a store, or a part of it.
    pub fn ranges(
        name: impl Into<Cow<'a, str>>,
        source: Arc<dyn RangeRead>,
        part: Option<Range<u64>>,
    ) -> Self {
        Self { name: name.into(), content: Content::Ranges(source, part), span: None }
    }

    /// Only this part of the recording is the sample, from its start; an end of [`Duration::MAX`] is that of the
    /// recording. Kinds of data without time take no notice.
    #[must_use]
    pub fn with_span(mut self, span: Range<Duration>) -> Self {
        self.span = Some(span);
        self
    }

    /// The part of the recording that is the sample, if not all of it is.
    pub fn span(&self) -> Option<Range<Duration>> {
        self.span.clone()
    }

    /// The name that messages give, with the extension.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file extension, in lower case.
    pub fn extension(&self) -> String {
        let extension = Path::new(self.name.as_ref()).extension();
        extension.map_or_else(String::new, |e| e.to_string_lossy().to_ascii_lowercase())
    }

    /// The path, where the whole file is the sample. For decoders that can only open files.
    pub fn path(&self) -> Option<&Path> {
        match &self.content {
            Content::Path(path) => Some(path),
            _ => None,
        }
    }

    /// Length in bytes.
    ///
    /// # Errors
    /// What the system says of a file.
    pub fn len(&self) -> io::Result<u64> {
        match &self.content {
            Content::Path(path) => Ok(std::fs::metadata(path)?.len()),
            Content::Bytes(bytes) => Ok(bytes.len() as u64),
            Content::Part(_, range) | Content::Ranges(_, Some(range)) => {
                Ok(range.end.saturating_sub(range.start))
            }
            Content::Ranges(source, None) => source.length(),
        }
    }

    /// Whether there are no bytes.
    ///
    /// # Errors
    /// As [`Blob::len`].
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Opens the bytes to read some of them.
    ///
    /// # Errors
    /// What the system says of a file.
    pub fn open(&self) -> io::Result<Box<dyn ReadSeek + '_>> {
        match &self.content {
            Content::Bytes(bytes) => Ok(Box::new(Cursor::new(bytes.as_ref()))),
            _ => Ok(self.open_owned()?),
        }
    }

    /// As [`Blob::open`], but with nothing borrowed: bytes in memory are copied.
    ///
    /// # Errors
    /// What the system says of a file.
    pub fn open_owned(&self) -> io::Result<Box<dyn ReadSeek>> {
        Ok(match &self.content {
            Content::Path(path) => Box::new(File::open(path)?),
            Content::Bytes(bytes) => Box::new(Cursor::new(bytes.to_vec())),
            Content::Part(path, range) => {
                Box::new(RangeReader::new(Arc::new(File::open(path)?), range.clone()))
            }
            Content::Ranges(source, part) => {
                let part = part.clone().map_or_else(|| Ok(0..source.length()?), io::Result::Ok)?;
                Box::new(RangeReader::new(source.clone(), part))
            }
        })
    }

    /// All bytes.
    ///
    /// # Errors
    /// What the system says of a file.
    pub fn read(&self) -> io::Result<Cow<'_, [u8]>> {
        Ok(Cow::Owned(match &self.content {
            Content::Bytes(bytes) => return Ok(Cow::Borrowed(bytes)),
            Content::Path(path) => std::fs::read(path)?,
            Content::Part(path, range) => ranges::read_all(&File::open(path)?, range.clone())?,
            Content::Ranges(source, part) => {
                let part = part.clone().map_or_else(|| Ok(0..source.length()?), io::Result::Ok)?;
                ranges::read_all(source.as_ref(), part)?
            }
        }))
    }
}

/// Blobs by index, with labels: what [`BlobDataset`](crate::BlobDataset) decodes.
///
/// [`Listing`](crate::Listing) is one of files. Implement it for archives or tables, and every modality
/// reads them.
pub trait BlobStore: Send + Sync {
    /// Number of samples, readable or not.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A name a user recognises.
    fn name(&self, index: usize) -> String;

    /// The bytes of sample `index`.
    ///
    /// # Errors
    /// [`Error::Sample`](crate::Error::Sample) where they cannot be had.
    fn blob(&self, index: usize) -> Result<Blob<'_>>;

    /// Length of sample `index` in bytes, where it is known without reading it; copies are looked for among samples
    /// of equal length.
    fn length(&self, index: usize) -> Option<u64> {
        let blob = self.blob(index).ok()?;
        let is_dir = blob.path().is_some_and(Path::is_dir);
        blob.len().ok().filter(|_| !is_dir)
    }

    /// Label columns; see [`Dataset::labels`](crate::Dataset::labels).
    fn labels(&self) -> &[Labels] {
        &[]
    }

    /// The split of a sample where the data says so.
    fn split(&self, index: usize) -> Option<Split> {
        let _ = index;
        None
    }

    /// The fold of a sample where the data has folds for cross-validation.
    fn fold(&self, index: usize) -> Option<&str> {
        let _ = index;
        None
    }

    /// Samples that are stored together; see [`Dataset::chunks`](crate::Dataset::chunks).
    fn chunks(&self) -> Vec<Range<usize>> {
        Vec::new()
    }

    /// What a user should know of how the samples were found, a line each.
    fn notes(&self) -> &[String] {
        &[]
    }

    /// A text that changes with the bytes of sample `index`: its place, length and time. `None` where nothing tells.
    fn stamp(&self, index: usize) -> Option<String> {
        file_stamp(&self.path(index)?)
    }

    /// The path of sample `index`, where the sample is a whole file or folder.
    fn path(&self, index: usize) -> Option<PathBuf> {
        self.blob(index).ok()?.path().map(Path::to_path_buf)
    }
}

/// The place, length and time of a file; of a folder those of its own entry.
pub(crate) fn file_stamp(path: &Path) -> Option<String> {
    let meta = std::fs::metadata(path).ok()?;
    let place = std::path::absolute(path).ok()?;
    let changed = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{} {} {}", place.display(), meta.len(), changed.as_nanos()))
}

#[cfg(test)]
mod tests {
    use std::io::SeekFrom;

    use super::*;

    #[test]
    fn a_part_of_a_file_reads_and_seeks_like_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        std::fs::write(&path, b"0123456789").unwrap();
        let blob = Blob::part("archive/part", path.as_path(), 3..7);
        assert_eq!(blob.len().unwrap(), 4);
        assert_eq!(blob.read().unwrap()[..], *b"3456");
        let mut reader = blob.open_owned().unwrap();
        let mut rest = String::new();
        assert_eq!(reader.seek(SeekFrom::End(-2)).unwrap(), 2);
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "56");
        assert!(reader.seek(SeekFrom::Start(1)).is_ok());
        assert!(reader.seek(SeekFrom::Current(-2)).is_err());
        // Beyond the end there is nothing, as in a file.
        reader.seek(SeekFrom::Start(9)).unwrap();
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
        assert_eq!(blob.extension(), "");
    }
}
