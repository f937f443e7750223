//! Embeddings of any number of samples into files.

use std::ops::Range;
use std::path::{Path, PathBuf};

use lejepa_core::{Error, Split, ViewSource, Windows};
use sha2::{Digest, Sha256};

use crate::export::Embedder;
use crate::named::stream::{Parts, hidden};
use crate::named::{Format, NamedEmbeddings, hub};
use crate::observe::{Event, Observer};
use crate::skipped::Skipped;
use crate::windows::name_windows;
use crate::{Result, TrainError};

/// Samples that are embedded between two writes.
const PART: usize = 4096;

/// What [`Embedder::embed_to`] wrote.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EmbeddedFile {
    /// Rows of the file.
    pub rows: usize,
    /// Width of an embedding.
    pub dim: usize,
    /// Samples that could not be read.
    pub skipped: Vec<Skipped>,
}

/// Progress of a part as that of the whole.
struct Shifted<'a> {
    observer: &'a mut dyn Observer,
    start: usize,
    total: usize,
}

impl Observer for Shifted<'_> {
    fn event(&mut self, event: Event<'_>) {
        self.observer.event(match event {
            Event::Embedding { done, .. } => {
                Event::Embedding { done: self.start + done, total: self.total }
            }
            other => other,
        });
    }
}

pub(crate) fn nothing_read(total: usize, skipped: &[Skipped]) -> TrainError {
    let why = skipped.first().map_or(String::new(), |s| format!(": {}", s.reason));
    TrainError::Core(Error::Data {
        reason: format!("none of the {total} samples can be read{why}"),
        hint: "check data.source, and that it is of the kind the encoder was trained on".into(),
    })
}

/// A file and the samples in it, by parts that are embedded one after the other.
struct Target {
    file: PathBuf,
    parts: Range<usize>,
}

/// Parts of at most [`PART`] samples for a file, or for a file of each split where a folder is asked for.
fn plan(source: &dyn ViewSource, output: &Path, format: Format) -> (Vec<Vec<usize>>, Vec<Target>) {
    let all = 0..source.len();
    let groups: Vec<(PathBuf, Vec<usize>)> = match format {
        Format::Folder => [Split::Train, Split::Test]
            .into_iter()
            .map(|split| {
                // What the data does not split is for training.
                let is_of = |&i: &usize| source.split(i).unwrap_or(Split::Train) == split;
                (hub::shard(&hidden(output), split), all.clone().filter(is_of).collect())
            })
            .collect(),
        _ => vec![(output.to_path_buf(), all.collect())],
    };
    let (mut parts, mut targets) = (Vec::new(), Vec::new());
    for (file, samples) in groups {
        let start = parts.len();
        parts.extend(samples.chunks(PART).map(<[usize]>::to_vec));
        targets.push(Target { file, parts: start..parts.len() });
    }
    (parts, targets)
}

impl Embedder {
    /// Embeds every sample into a file, as [`Embedder::embed`] and [`NamedEmbeddings::write`] do, in memory that does
    /// not grow with their number. An interrupted call leaves `FILE.parts` behind, from which the same call goes on.
    ///
    /// # Errors
    /// As those two.
    pub fn embed_to(
        &self,
        source: &str,
        file: &Path,
        observer: &mut dyn Observer,
    ) -> Result<EmbeddedFile> {
        NamedEmbeddings::check(file)?;
        self.embed_parts_to(self.source(source)?.as_ref(), None, file, observer)
    }

    /// Into a file by parts. Of windows, what they are windows of.
    pub(crate) fn embed_parts_to(
        &self,
        source: &dyn ViewSource,
        windows: Option<(&Windows, &dyn ViewSource)>,
        file: &Path,
        observer: &mut dyn Observer,
    ) -> Result<EmbeddedFile> {
        let (total, format) = (source.len(), NamedEmbeddings::check(file)?);
        let (samples, targets) = plan(source, file, format);
        let parts = Parts::open(file, &self.fingerprint(source)?)?;
        let before = (0..samples.len()).filter(|part| parts.has(*part)).count();
        if before > 0 {
            let count = samples.len();
            observer.event(Event::Note(&format!("{before} of {count} parts were embedded before")));
        }
        let mut start = 0;
        for (part, indices) in samples.iter().enumerate() {
            if !parts.has(part) {
                let mut shifted = Shifted { observer, start, total };
                let mut made = self.embed_part(source, indices, &mut shifted)?;
                if let Some((windows, whole)) = windows {
                    name_windows(&mut made, indices, source, windows, whole);
                }
                parts.write(part, &made)?;
            }
            start += indices.len();
        }
        let mut made = EmbeddedFile { rows: 0, dim: 0, skipped: Vec::new() };
        if format == Format::Folder {
            hub::begin(&hidden(file))?;
        }
        let mut rows = Vec::new();
        for Target { file, parts: range } in &targets {
            let one = parts.join(range.clone(), file)?;
            rows.push(one.rows);
            made.rows += one.rows;
            made.dim = made.dim.max(one.dim);
            made.skipped.extend(one.skipped);
        }
        if format == Format::Folder && made.rows > 0 {
            hub::finish(&hidden(file), file, self.resolved(), made.dim, [rows[0], rows[1]])?;
        }
        parts.remove()?;
        if made.rows == 0 { Err(nothing_read(total, &made.skipped)) } else { Ok(made) }
    }

    /// What tells whether parts are of this encoder and these samples.
    fn fingerprint(&self, source: &dyn ViewSource) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.resolved().to_toml()?);
        for index in 0..source.len() {
            hash.update(source.name(index));
        }
        let first = (0..source.len()).find_map(|index| {
            let made = self.embed_part(source, &[index], &mut crate::Silent).ok()?;
            (!made.values.is_empty()).then_some(made.values)
        });
        first.iter().flatten().for_each(|v| hash.update(v.to_le_bytes()));
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
