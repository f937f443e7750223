//! Embeddings with the names of their samples, and the files that they are written to.

use std::path::Path;

use lejepa_core::Error;
use serde::{Deserialize, Serialize};

use crate::rundir::write_atomically;
use crate::skipped::Skipped;
use crate::{Result, TrainError};

pub(crate) mod hub;
mod read;
pub(crate) mod stream;
#[cfg(feature = "parquet")]
mod table;

/// What embeddings are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A matrix of NumPy, with the names in a file of lines.
    Npy,
    /// A table of words.
    Csv,
    /// A table of lists.
    #[cfg(feature = "parquet")]
    Parquet,
    /// A folder of such tables, one for each split, with a card, as model hubs lay data sets out. Needs the feature
    /// `parquet`.
    Folder,
}

impl Format {
    fn is_file(self) -> bool {
        self != Self::Folder
    }
}

/// Formats by the endings of files.
const ENDINGS: &[(&str, Format)] = &[
    ("npy", Format::Npy),
    ("csv", Format::Csv),
    #[cfg(feature = "parquet")]
    ("parquet", Format::Parquet),
];

/// A column of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedLabels {
    /// What the classes are of.
    pub name: String,
    /// The class of each row, where it has one.
    pub words: Vec<Option<String>>,
}

/// A column of numbers that say where in its sample a row is: `start` and `end` of a window in seconds; `frame`, `row` and
/// `column` of a cell of dense features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NamedNumbers {
    /// What they are.
    pub name: String,
    /// One for each row.
    pub values: Vec<f64>,
}

impl NamedNumbers {
    pub(crate) fn new(name: &str, values: Vec<f64>) -> Self {
        Self { name: name.into(), values }
    }
}

impl NamedLabels {
    pub(crate) fn new(name: &str, words: Vec<Option<String>>) -> Self {
        Self { name: name.into(), words }
    }
}

/// Names of [`NamedNumbers`].
const PLACES: [&str; 5] = ["start", "end", "frame", "row", "column"];

/// Embeddings with the names of their samples.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NamedEmbeddings {
    /// Width of a row.
    pub dim: usize,
    /// Path or identifier of each row's sample.
    pub names: Vec<String>,
    /// Row-major values, `names.len() · dim`.
    pub values: Vec<f32>,
    /// Where in its sample each row is, where a sample has several rows.
    pub places: Vec<NamedNumbers>,
    /// Classes of the samples, for each column of labels.
    pub labels: Vec<NamedLabels>,
    /// Samples that could not be read.
    pub skipped: Vec<Skipped>,
}

impl NamedEmbeddings {
    /// Writes `.npy` (a float matrix, with the names in a second file, one per line), `.csv` (the column `path`, then
    /// `label_NAME` for each column of labels, then one column per dimension) or, with the feature `parquet`, `.parquet`
    /// (the columns `path`, `embedding`, a list of floats, and one of words for each column of labels). Where in its sample
    /// a row is stands in columns after the path, and in the names of `.npy` files.
    ///
    /// # Errors
    /// [`TrainError::OutputExists`]; [`TrainError::Core`] for another ending; [`TrainError::Io`].
    pub fn write(&self, file: &Path) -> Result<()> {
        match Self::check(file)? {
            Format::Csv => {
                return write_atomically(file, (self.csv_header() + &self.csv_rows()).as_bytes());
            }
            #[cfg(feature = "parquet")]
            Format::Parquet => return write_atomically(file, &table::parquet(self, file)?),
            Format::Folder => {
                let hint = "give a file: what is in memory has no splits";
                return Err(Error::path(file, "a folder of embeddings", hint).into());
            }
            Format::Npy => {}
        }
        write_atomically(file, &self.npy())?;
        write_atomically(&file.with_extension("paths.txt"), self.lines_of_names().as_bytes())
    }

    /// Refuses a file that could not be made, before the work is done; or its format, by its ending. What has none is a
    /// folder.
    ///
    /// # Errors
    /// [`TrainError::OutputExists`]; [`TrainError::Core`] for another ending, and a folder that is not there.
    pub fn check(file: &Path) -> Result<Format> {
        let ending = file.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        let format = ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, format)| *format);
        #[cfg(feature = "parquet")]
        let format = format.or_else(|| file.extension().is_none().then_some(Format::Folder));
        let Some(format) = format else {
            let known: Vec<&str> = ENDINGS.iter().map(|(known, _)| *known).collect();
            let reason = format!("the output ends in none of .{}", known.join(", ."));
            let hint = "give the file one of these endings";
            return Err(TrainError::Core(Error::path(file, &reason, hint)));
        };
        let is_there = match std::fs::read_dir(file) {
            Ok(mut entries) => format.is_file() || entries.next().is_some(),
            Err(_) => file.exists(),
        };
        let has_names = format == Format::Npy && file.with_extension("paths.txt").exists();
        if is_there || has_names {
            return Err(TrainError::OutputExists(file.to_path_buf()));
        }
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let hint = "make the folder first, or choose another";
            return Err(TrainError::Core(Error::path(folder, "no such folder", hint)));
        }
        Ok(format)
    }

    /// NumPy's format, version 1.0.
    fn npy(&self) -> Vec<u8> {
        let mut out = npy_header(self.names.len(), self.dim, 0);
        out.extend(self.values.iter().flat_map(|v| v.to_le_bytes()));
        out
    }

    /// A line for each row, whatever is in a name.
    fn lines_of_names(&self) -> String {
        let line = |(at, name): (usize, &String)| {
            let name = name.replace('\n', "\\n").replace('\r', "\\r");
            let place = |column: &NamedNumbers| {
                let value = column.values.get(at).copied().unwrap_or_default();
                format!("{} {value}", column.name)
            };
            let places: Vec<String> = self.places.iter().map(place).collect();
            match places.is_empty() {
                true => name + "\n",
                false => format!("{name}[{}]\n", places.join(", ")),
            }
        };
        self.names.iter().enumerate().map(line).collect()
    }

    fn csv_header(&self) -> String {
        let mut text = "path".to_string();
        for place in &self.places {
            text.push_str(&format!(",{}", place.name));
        }
        for labels in &self.labels {
            text.push_str(&format!(",{}", quoted(&format!("label_{}", labels.name))));
        }
        for i in 0..self.dim {
            text.push_str(&format!(",e{i}"));
        }
        text + "\n"
    }

    fn csv_rows(&self) -> String {
        let mut text = String::new();
        let rows = self.names.iter().zip(self.values.chunks_exact(self.dim.max(1)));
        for (at, (name, row)) in rows.enumerate() {
            text.push_str(&quoted(name));
            for place in &self.places {
                text.push_str(&format!(",{}", place.values.get(at).copied().unwrap_or_default()));
            }
            for labels in &self.labels {
                let word = labels.words.get(at).and_then(Option::as_deref);
                text.push_str(&format!(",{}", word.map_or_else(String::new, quoted)));
            }
            for value in row {
                text.push_str(&format!(",{value}"));
            }
            text.push('\n');
        }
        text
    }
}

fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}

/// The header of a NumPy file of 32-bit floats, version 1.0: a multiple of 64 bytes, at least `least`.
fn npy_header(rows: usize, dim: usize, least: usize) -> Vec<u8> {
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    // Magic, version and length are ten bytes, and a line ends it.
    let whole = (10 + header.len() + 1).next_multiple_of(64).max(least);
    header.push_str(&" ".repeat(whole - 10 - header.len() - 1));
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_of_embeddings() {
        let e = NamedEmbeddings {
            dim: 2,
            names: vec!["a.png".into(), "b \"x\".png".into()],
            values: vec![1.0, -0.5, 0.25, 3.0],
            places: Vec::new(),
            labels: vec![NamedLabels { name: "kind".into(), words: vec![None, Some("x".into())] }],
            skipped: vec![],
        };
        let d = tempfile::tempdir().unwrap();
        e.write(&d.path().join("e.csv")).unwrap();
        let text = fs::read_to_string(d.path().join("e.csv")).unwrap();
        assert_eq!(
            text,
            "path,\"label_kind\",e0,e1\n\"a.png\",,1,-0.5\n\"b \"\"x\"\".png\",\"x\",0.25,3\n"
        );
        assert_eq!(NamedEmbeddings::read(&d.path().join("e.csv")).unwrap(), e);
        e.write(&d.path().join("e.npy")).unwrap();
        let bytes = fs::read(d.path().join("e.npy")).unwrap();
        assert_eq!((bytes.len() - 16) % 64, 0);
        assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
        assert_eq!(bytes[bytes.len() - 4..], 3.0f32.to_le_bytes());
        let names = fs::read_to_string(d.path().join("e.paths.txt")).unwrap();
        assert_eq!(names.lines().count(), 2);
        let read = NamedEmbeddings::read(&d.path().join("e.npy")).unwrap();
        assert_eq!((&read.names, &read.values, read.labels.len()), (&e.names, &e.values, 0));
        // Rows and names cannot part, whatever is in a name.
        let odd =
            NamedEmbeddings { names: vec!["a\nb.png".into(), "c\rd.png".into()], ..e.clone() };
        odd.write(&d.path().join("odd.npy")).unwrap();
        let names = fs::read_to_string(d.path().join("odd.paths.txt")).unwrap();
        assert_eq!(names, "a\\nb.png\nc\\rd.png\n");
        assert!(matches!(e.write(&d.path().join("e.npy")), Err(TrainError::OutputExists(_))));
        assert!(e.write(&d.path().join("e.txt")).is_err());
        // As NumPy has doubles, column by column.
        let header = "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 2), }\n";
        let mut columns = b"\x93NUMPY\x01\x00".to_vec();
        columns.extend((header.len() as u16).to_le_bytes());
        columns.extend(header.as_bytes());
        columns.extend([1.0f64, 0.25, -0.5, 3.0].iter().flat_map(|v| v.to_le_bytes()));
        fs::write(d.path().join("f.npy"), columns).unwrap();
        let read = NamedEmbeddings::read(&d.path().join("f.npy")).unwrap();
        assert_eq!((&read.names[1], &read.values), (&"1".to_string(), &e.values));
        let huge = |shape: &str| {
            let header =
                format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
            [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()]
                .concat()
        };
        fs::write(d.path().join("c.npy"), huge("(9223372036854775808, 2)")).unwrap();
        fs::write(d.path().join("d.npy"), huge("(9223372036854775807, 0)")).unwrap();
        for name in ["c.npy", "d.npy"] {
            assert!(NamedEmbeddings::read(&d.path().join(name)).is_err(), "{name}");
        }
        for (name, bytes) in [
            ("a.npy", &b"\x93NUMPY\x01\x00\xff\xff{"[..]),
            ("b.npy", b"not one"),
            ("a.csv", b"path,e0\nx,one\n"),
            ("b.csv", b"label\nx\n"),
            ("a.parquet", b"PAR1"),
        ] {
            fs::write(d.path().join(name), bytes).unwrap();
            assert!(NamedEmbeddings::read(&d.path().join(name)).is_err(), "{name}");
        }
        #[cfg(feature = "parquet")]
        {
            use parquet::file::reader::{FileReader, SerializedFileReader};
            e.write(&d.path().join("e.parquet")).unwrap();
            assert_eq!(NamedEmbeddings::read(&d.path().join("e.parquet")).unwrap(), e);
            let file = fs::File::open(d.path().join("e.parquet")).unwrap();
            let table = SerializedFileReader::new(file).unwrap();
            let rows = table.get_row_iter(None).unwrap();
            let rows: Vec<String> = rows.map(|row| row.unwrap().to_string()).collect();
            assert_eq!(rows[0], r#"{path: "a.png", embedding: [1.0, -5E-1], kind: null}"#);
            assert_eq!(rows[1], "{path: \"b \"x\".png\", embedding: [0.25, 3.0], kind: \"x\"}");
        }
    }
}
