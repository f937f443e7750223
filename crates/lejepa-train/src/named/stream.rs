//! Embeddings of any number of samples in bounded memory: parts on disk, which an interrupted command goes on from,
//! and then one file.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Format, NamedEmbeddings, NamedLabels, NamedNumbers};
use crate::embed_files::EmbeddedFile;
use crate::rundir::write_atomically;
use crate::skipped::Skipped;
use crate::{Result, TrainError};

/// A part as it lies on disk, but for its values, which follow.
#[derive(Serialize, Deserialize)]
struct Header {
    dim: usize,
    names: Vec<String>,
    places: Vec<NamedNumbers>,
    labels: Vec<(String, Vec<Option<String>>)>,
    skipped: Vec<Skipped>,
}

/// A folder of parts beside the file that they become.
pub(crate) struct Parts {
    folder: PathBuf,
}

impl Parts {
    /// The parts of `file`. Those that were made of something else, as `fingerprint` says, are removed.
    pub(crate) fn open(file: &Path, fingerprint: &str) -> Result<Self> {
        let mut name = file.file_name().unwrap_or_default().to_os_string();
        name.push(".parts");
        let folder = file.with_file_name(name);
        let key = folder.join("fingerprint");
        if fs::read_to_string(&key).is_ok_and(|found| found != fingerprint) {
            fs::remove_dir_all(&folder).map_err(TrainError::io("remove", &folder))?;
        }
        fs::create_dir_all(&folder).map_err(TrainError::io("create", &folder))?;
        write_atomically(&key, fingerprint.as_bytes())?;
        Ok(Self { folder })
    }

    fn path(&self, part: usize) -> PathBuf {
        self.folder.join(format!("{part:08}"))
    }

    pub(crate) fn has(&self, part: usize) -> bool {
        self.path(part).is_file()
    }

    pub(crate) fn write(&self, part: usize, made: &NamedEmbeddings) -> Result<()> {
        let labels = made.labels.iter().map(|c| (c.name.clone(), c.words.clone())).collect();
        let header = Header {
            dim: made.dim,
            names: made.names.clone(),
            places: made.places.clone(),
            labels,
            skipped: made.skipped.clone(),
        };
        let path = self.path(part);
        let header = serde_json::to_vec(&header)
            .map_err(|e| TrainError::Corrupt { path: path.clone(), reason: e.to_string() })?;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(made.values.iter().flat_map(|v| v.to_le_bytes()));
        write_atomically(&path, &bytes)
    }

    pub(crate) fn read(&self, part: usize) -> Result<NamedEmbeddings> {
        let path = self.path(part);
        let bytes = fs::read(&path).map_err(TrainError::io("read", &path))?;
        let parse = || {
            let (length, rest) = bytes.split_first_chunk::<8>()?;
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            let (header, values) = rest.split_at_checked(length)?;
            let header: Header = serde_json::from_slice(header).ok()?;
            let (values, []) = values.as_chunks::<4>() else { return None };
            (values.len() == header.dim * header.names.len()).then(|| NamedEmbeddings {
                dim: header.dim,
                names: header.names,
                values: values.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                places: header.places,
                labels: header
                    .labels
                    .into_iter()
                    .map(|(name, words)| NamedLabels { name, words })
                    .collect(),
                skipped: header.skipped,
            })
        };
        let reason =
            "a part of embeddings that is not whole: remove it and embed again".to_string();
        parse().ok_or(TrainError::Corrupt { path, reason })
    }

    /// Parts as one file, if they have rows. Returns what was skipped, the number of rows and their width.
    pub(crate) fn join(&self, parts: Range<usize>, file: &Path) -> Result<EmbeddedFile> {
        let (mut skipped, mut rows, mut dim) = (Vec::new(), 0, 0);
        let mut writer: Option<Writer> = None;
        for part in parts {
            let made = self.read(part)?;
            skipped.extend(made.skipped.iter().cloned());
            rows += made.names.len();
            if made.names.is_empty() {
                continue;
            }
            dim = made.dim;
            match &mut writer {
                Some(writer) => writer.push(&made)?,
                none => none.insert(Writer::create(file, &made)?).push(&made)?,
            }
        }
        if let Some(writer) = writer {
            writer.finish()?;
        }
        Ok(EmbeddedFile { rows, dim, skipped })
    }

    pub(crate) fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).map_err(TrainError::io("remove", &self.folder))
    }
}

/// A file that rows are appended to, under another name until it is whole.
struct Writer {
    file: PathBuf,
    temporary: PathBuf,
    kind: Kind,
    rows: usize,
    dim: usize,
}

enum Kind {
    Csv(BufWriter<File>),
    /// The matrix, and the names.
    Npy(BufWriter<File>, BufWriter<File>),
    #[cfg(feature = "parquet")]
    Parquet(super::table::TableWriter),
}

/// Bytes of the header of a `.npy` file whose number of rows is written last.
const NPY_HEADER: usize = 128;

impl Writer {
    fn create(file: &Path, first: &NamedEmbeddings) -> Result<Self> {
        let temporary = hidden(file);
        let opened = File::create(&temporary).map_err(TrainError::io("create", &temporary))?;
        let kind = match NamedEmbeddings::check(file)? {
            Format::Csv => {
                let mut out = BufWriter::new(opened);
                out.write_all(first.csv_header().as_bytes())
                    .map_err(TrainError::io("write", &temporary))?;
                Kind::Csv(out)
            }
            #[cfg(feature = "parquet")]
            Format::Parquet => Kind::Parquet(super::table::TableWriter::new(opened, first, file)?),
            _ => {
                let names = hidden(&file.with_extension("paths.txt"));
                let names = File::create(&names).map_err(TrainError::io("create", &names))?;
                let mut out = BufWriter::new(opened);
                out.write_all(&[0; NPY_HEADER]).map_err(TrainError::io("write", &temporary))?;
                Kind::Npy(out, BufWriter::new(names))
            }
        };
        Ok(Self { file: file.to_path_buf(), temporary, kind, rows: 0, dim: first.dim })
    }

    fn push(&mut self, part: &NamedEmbeddings) -> Result<()> {
        self.rows += part.names.len();
        let failed = TrainError::io("write", &self.file);
        match &mut self.kind {
            Kind::Csv(out) => out.write_all(part.csv_rows().as_bytes()).map_err(failed),
            Kind::Npy(out, names) => {
                let values: Vec<u8> = part.values.iter().flat_map(|v| v.to_le_bytes()).collect();
                out.write_all(&values)
                    .and_then(|()| names.write_all(part.lines_of_names().as_bytes()))
                    .map_err(failed)
            }
            #[cfg(feature = "parquet")]
            Kind::Parquet(table) => table.push(part),
        }
    }

    fn finish(self) -> Result<()> {
        let Self { file, temporary, kind, rows, dim } = self;
        let failed = |action| TrainError::io(action, &file);
        let synced =
            |out: BufWriter<File>| out.into_inner().map_err(|e| e.into_error())?.sync_all();
        match kind {
            Kind::Csv(out) => synced(out).map_err(failed("write"))?,
            Kind::Npy(mut out, names) => {
                let header = super::npy_header(rows, dim, NPY_HEADER);
                out.seek(SeekFrom::Start(0))
                    .and_then(|_| out.write_all(&header))
                    .and_then(|()| synced(out))
                    .and_then(|()| synced(names))
                    .map_err(failed("write"))?;
                let names = file.with_extension("paths.txt");
                fs::rename(hidden(&names), &names).map_err(failed("write"))?;
            }
            #[cfg(feature = "parquet")]
            Kind::Parquet(table) => table.finish()?,
        }
        fs::rename(&temporary, &file).map_err(failed("write"))
    }
}

/// What a file or a folder is called while it is made.
pub(crate) fn hidden(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    file.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(start: usize, rows: usize) -> NamedEmbeddings {
        let name = |i: usize| format!("{}.png", start + i);
        NamedEmbeddings {
            dim: 3,
            names: (0..rows).map(name).collect(),
            values: (0..3 * rows).map(|v| (3 * start + v) as f32 * 0.5).collect(),
            places: [("start", 0.0), ("end", 5.0)]
                .map(|(name, after)| {
                    let time = |i| (start + i) as f64 * 2.5 + after;
                    NamedNumbers::new(name, (0..rows).map(time).collect())
                })
                .to_vec(),
            labels: vec![NamedLabels {
                name: "kind".into(),
                words: (0..rows).map(|i| (i % 2 == 0).then(|| "even, \"x\"".to_string())).collect(),
            }],
            skipped: Vec::new(),
        }
    }

    #[test]
    fn parts_become_the_file_that_one_write_makes() {
        let d = tempfile::tempdir().unwrap();
        let endings = [
            "npy",
            "csv",
            #[cfg(feature = "parquet")]
            "parquet",
        ];
        for ending in endings {
            let file = d.path().join(format!("e.{ending}"));
            let parts = Parts::open(&file, "a").unwrap();
            parts.write(1, &part(5, 4)).unwrap();
            parts.write(0, &part(0, 5)).unwrap();
            assert!(parts.has(1) && !parts.has(2));
            // What was made of something else is not taken up.
            let other = Parts::open(&file, "b").unwrap();
            assert!(!other.has(1));
            other.write(0, &part(0, 5)).unwrap();
            let again = Parts::open(&file, "b").unwrap();
            assert!(again.has(0));
            again.write(1, &part(5, 4)).unwrap();
            let joined = again.join(0..2, &file).unwrap();
            again.remove().unwrap();
            assert_eq!((joined.rows, joined.dim), (9, 3));
            let mut all = part(0, 9);
            all.labels[0].words =
                [part(0, 5), part(5, 4)].iter().flat_map(|p| p.labels[0].words.clone()).collect();
            let read = NamedEmbeddings::read(&file).unwrap();
            // Of a matrix the times are in the names.
            let want = match ending {
                "npy" => NamedEmbeddings {
                    labels: Vec::new(),
                    places: Vec::new(),
                    names: (0..9)
                        .map(|i| {
                            let time = 2.5 * i as f64;
                            format!("{i}.png[start {time}, end {}]", time + 5.0)
                        })
                        .collect(),
                    ..all.clone()
                },
                _ => all.clone(),
            };
            assert_eq!(read, want);
            if ending == "csv" {
                let whole = d.path().join("whole.csv");
                all.write(&whole).unwrap();
                assert_eq!(fs::read(&file).unwrap(), fs::read(whole).unwrap());
            }
            let left: Vec<_> =
                fs::read_dir(d.path()).unwrap().flatten().map(|e| e.file_name()).collect();
            assert!(
                left.iter().all(|n| !n.to_string_lossy().contains(".tmp")
                    && !n.to_string_lossy().contains("parts")),
                "{left:?}"
            );
        }
    }
}
