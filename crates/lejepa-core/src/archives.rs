//! Samples inside other files: members of tar shards (WebDataset), rows of Parquet tables (Hugging Face).

#[cfg(feature = "parquet")]
mod table;
mod tar;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::blob::{Blob, BlobStore, file_stamp};
use crate::folders::{self, Layout, Tally};
use crate::labels::{LabelColumn, Labels, Split};
use crate::listing::SampleRule;
use crate::ranges::RangeRead;
use crate::{Error, Result};

/// Whether a file may hold samples.
pub(crate) fn is_archive(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase());
    name.is_some_and(|name| {
        name.ends_with(".parquet") || name.contains(".tar") || name.ends_with(".tgz")
    })
}

/// A file of samples, here or in a store.
#[derive(Debug)]
pub(crate) struct Archive {
    /// Its path or URL.
    pub(crate) path: PathBuf,
    /// How it is read, if it is no file of this system.
    pub(crate) object: Option<Arc<dyn RangeRead>>,
}

impl Archive {
    pub(crate) fn file(path: PathBuf) -> Self {
        Self { path, object: None }
    }

    fn open(&self) -> io::Result<Arc<dyn RangeRead>> {
        match &self.object {
            Some(object) => Ok(object.clone()),
            None => Ok(Arc::new(File::open(&self.path)?)),
        }
    }

    fn stamp(&self) -> Option<String> {
        match &self.object {
            Some(object) => Some(format!("{} {}", self.path.display(), object.length().ok()?)),
            None => file_stamp(&self.path),
        }
    }

    fn part(&self, name: String, bytes: Range<u64>) -> Blob<'_> {
        match &self.object {
            Some(object) => Blob::ranges(name, object.clone(), Some(bytes)),
            None => Blob::part(name, self.path.as_path(), bytes),
        }
    }
}

/// A sample within a file, before labels and splits of all files are put together.
#[derive(Debug, Default)]
struct Entry {
    /// Its path within the file.
    name: String,
    /// Its bytes in the file, or nothing for a row of a table.
    bytes: Range<u64>,
    /// A label for each column of the file.
    words: Vec<Option<String>>,
}

/// What a file holds.
#[derive(Default)]
struct Contents {
    entries: Vec<Entry>,
    /// The columns of labels.
    columns: Vec<LabelColumn>,
    /// Entries that are stored together, if not all are.
    chunks: Vec<Range<usize>>,
    passed_over: Tally,
    /// What was read until damage ended it.
    damage: Option<String>,
    #[cfg(feature = "parquet")]
    table: Option<table::Table>,
}

/// The samples of several archives, in their order.
pub(crate) struct Archives {
    files: Vec<Archive>,
    #[cfg(feature = "parquet")]
    tables: Vec<Option<table::Table>>,
    /// What changes with each file.
    stamps: Vec<Option<String>>,
    /// Index of the first sample of each file, and the number of samples.
    starts: Vec<usize>,
    names: Vec<String>,
    bytes: Vec<Range<u64>>,
    labels: Vec<Labels>,
    splits: Vec<Option<Split>>,
    chunks: Vec<Range<usize>>,
    notes: Vec<String>,
}

fn read(archive: &Archive, rule: SampleRule) -> Result<Contents> {
    let file = archive.path.as_path();
    let name = file.to_string_lossy().to_lowercase();
    let open = || {
        let hint = "is the file readable by this user?";
        archive.open().map_err(|e| Error::path(file, e, hint))
    };
    if name.ends_with(".parquet") {
        #[cfg(feature = "parquet")]
        return table::read(file, open()?, rule);
        #[cfg(not(feature = "parquet"))]
        return Err(Error::path(
            file,
            "this program reads no Parquet tables",
            "build it with the feature `parquet`, or write the samples as files",
        ));
    }
    if !name.ends_with(".tar") {
        return Err(Error::path(
            file,
            "samples cannot be read out of a compressed archive in any order",
            "decompress it (gunzip, unzstd): pictures and sounds are compressed already",
        ));
    }
    tar::read(file, open()?, rule)
}

/// The split that the name of a file says: `train-00001-of-00005`, `imagenet-val-000`.
fn split_of(root: &Path, file: &Path) -> Option<String> {
    let stem = file.file_stem()?.to_string_lossy().into_owned();
    let mut words = folders::between(root, file);
    words.extend(stem.split(['-', '_', '.']).map(String::from));
    words.into_iter().rev().find(|word| Split::parse(word).is_some())
}

impl Archives {
    /// Reads what the files hold, several at a time.
    ///
    /// # Errors
    /// [`Error::Path`] for a file that cannot be read, and where none holds a sample.
    pub(crate) fn open(files: Vec<Archive>, root: &Path, rule: SampleRule) -> Result<Self> {
        let contents: Vec<Contents> =
            files.par_iter().map(|file| read(file, rule)).collect::<Result<_>>()?;
        let count = contents.iter().map(|c| c.entries.len()).sum();
        let mut columns: Vec<LabelColumn> =
            contents.iter().flat_map(|c| c.columns.clone()).collect();
        columns.sort();
        columns.dedup();
        let mut all = Self {
            stamps: files.iter().map(Archive::stamp).collect(),
            files,
            #[cfg(feature = "parquet")]
            tables: Vec::new(),
            starts: vec![0],
            names: Vec::with_capacity(count),
            bytes: Vec::with_capacity(count),
            labels: Vec::new(),
            splits: Vec::new(),
            chunks: Vec::new(),
            notes: Vec::new(),
        };
        let mut parts: Vec<Vec<String>> = Vec::with_capacity(count);
        let mut words: Vec<Vec<Option<String>>> = vec![Vec::with_capacity(count); columns.len()];
        let mut passed_over = Tally::default();
        for (file, contents) in all.files.iter().map(|file| &file.path).zip(contents) {
            let first = all.names.len();
            let split = split_of(root, file);
            for entry in contents.entries {
                let inner = Path::new(&entry.name);
                parts.push(
                    split.iter().cloned().chain(folders::between("".as_ref(), inner)).collect(),
                );
                for (column, words) in columns.iter().zip(&mut words) {
                    let at = contents.columns.iter().position(|name| name == column);
                    words.push(at.and_then(|at| entry.words.get(at).cloned()).flatten());
                }
                all.names.push(entry.name);
                all.bytes.push(entry.bytes);
            }
            let end = all.names.len();
            all.starts.push(end);
            match contents.chunks.is_empty() {
                true => all.chunks.push(first..end),
                false => all
                    .chunks
                    .extend(contents.chunks.into_iter().map(|c| first + c.start..first + c.end)),
            }
            if let Some(damage) = contents.damage {
                let file = file.display().to_string();
                let note = format!("{}: {damage}; what comes before is read", file.escape_debug());
                all.notes.push(note);
            }
            passed_over.extend(contents.passed_over);
            #[cfg(feature = "parquet")]
            all.tables.push(contents.table);
        }
        if all.names.is_empty() {
            let others = passed_over.notes("passed over", root).into_iter().take(3);
            let others: String = others.map(|note| format!("; {note}")).collect();
            return Err(Error::path(
                root,
                format!(
                    "no samples in {} archives; looked for .{}{others}",
                    all.files.len(),
                    rule.extensions.join(", .")
                ),
                "check data.source and modality",
            ));
        }
        let layout = Layout::of(&parts);
        all.splits = layout.splits;
        all.notes.insert(0, format!("{} samples in {} archives", count, all.files.len()));
        all.notes.extend(layout.notes);
        all.notes.extend(passed_over.notes("passed over in archives:", root));
        all.labels = match columns.is_empty() {
            true => LabelColumn::class().labels(&layout.words).into_iter().collect(),
            false => {
                let columns = columns.iter().zip(&words);
                columns.filter_map(|(column, words)| column.labels(words)).collect()
            }
        };
        Ok(all)
    }

    /// The file of a sample, and its index there.
    fn place(&self, index: usize) -> Option<(usize, usize)> {
        let file = self.starts.partition_point(|&start| start <= index).checked_sub(1)?;
        (index < self.names.len()).then(|| (file, index - self.starts[file]))
    }
}

impl BlobStore for Archives {
    fn len(&self) -> usize {
        self.names.len()
    }

    fn name(&self, index: usize) -> String {
        let Some((file, _)) = self.place(index) else { return format!("#{index}") };
        format!("{}/{}", self.files[file].path.display(), self.names[index])
    }

    fn blob(&self, index: usize) -> Result<Blob<'_>> {
        let name = self.name(index);
        let Some((file, row)) = self.place(index) else {
            return Err(Error::sample(name, "no such item"));
        };
        #[cfg(feature = "parquet")]
        if let Some(Some(table)) = self.tables.get(file) {
            return table.blob(name, row);
        }
        let _ = row;
        Ok(self.files[file].part(name, self.bytes[index].clone()))
    }

    fn length(&self, index: usize) -> Option<u64> {
        // Rows of tables would have to be read, and copies are not worth a download.
        let (file, _) = self.place(index)?;
        let bytes = self.bytes.get(index).filter(|_| self.files[file].object.is_none())?;
        Some(bytes.end - bytes.start).filter(|&length| length > 0)
    }

    fn stamp(&self, index: usize) -> Option<String> {
        let (file, _) = self.place(index)?;
        let bytes = self.bytes.get(index)?;
        Some(format!("{} {} {bytes:?}", self.stamps.get(file)?.as_deref()?, self.names[index]))
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.splits.get(index).copied().flatten()
    }

    fn chunks(&self) -> Vec<Range<usize>> {
        self.chunks.clone()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}

#[cfg(test)]
mod tests;
