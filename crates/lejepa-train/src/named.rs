//! Embeddings with the names of their samples, and the files that they are written to.

use std::path::Path;

use lejepa_core::Error;

use crate::rundir::write_atomically;
use crate::skipped::Skipped;
use crate::{Result, TrainError};

#[cfg(feature = "parquet")]
mod table;

/// Endings of files.
const ENDINGS: &[&str] = &[
    "npy",
    "csv",
    #[cfg(feature = "parquet")]
    "parquet",
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
    /// Classes of the samples, for each column of labels.
    pub labels: Vec<NamedLabels>,
    /// Samples that could not be read.
    pub skipped: Vec<Skipped>,
}

impl NamedEmbeddings {
    /// Writes `.npy` (a float matrix, with the names in a second file, one per line), `.csv` (the column `path`,
    /// then one column per dimension) or, with the feature `parquet`, `.parquet` (the columns `path`, `embedding`, a
    /// list of floats, and one of words for each column of labels).
    ///
    /// # Errors
    /// [`TrainError::OutputExists`]; [`TrainError::Core`] for another ending; [`TrainError::Io`].
    pub fn write(&self, file: &Path) -> Result<()> {
        match Self::check(file)? {
            "csv" => return write_atomically(file, self.csv().as_bytes()),
            #[cfg(feature = "parquet")]
            "parquet" => return write_atomically(file, &table::parquet(self, file)?),
            _ => {}
        }
        write_atomically(file, &self.npy())?;
        // A line for each row, whatever is in a name.
        let line = |name: &String| name.replace('\n', "\\n").replace('\r', "\\r") + "\n";
        let names: String = self.names.iter().map(line).collect();
        write_atomically(&file.with_extension("paths.txt"), names.as_bytes())
    }

    /// Refuses a file that [`NamedEmbeddings::write`] could not make, before the work is done; or its ending.
    ///
    /// # Errors
    /// As [`NamedEmbeddings::write`].
    pub fn check(file: &Path) -> Result<&'static str> {
        let ending = file.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        let Some(ending) = ENDINGS.iter().copied().find(|known| *known == ending) else {
            let reason = format!("the output ends in none of .{}", ENDINGS.join(", ."));
            let hint = "give the file one of these endings";
            return Err(TrainError::Core(Error::path(file, &reason, hint)));
        };
        if file.exists() || ending == "npy" && file.with_extension("paths.txt").exists() {
            return Err(TrainError::OutputExists(file.to_path_buf()));
        }
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let hint = "make the folder first, or choose another";
            return Err(TrainError::Core(Error::path(folder, "no such folder", hint)));
        }
        Ok(ending)
    }

    /// NumPy's format, version 1.0.
    fn npy(&self) -> Vec<u8> {
        let shape = format!("({}, {})", self.names.len(), self.dim);
        let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        // Magic, version and length are ten bytes; all of it is to be a multiple of 64.
        let padding = (64 - (10 + header.len() + 1) % 64) % 64;
        header.push_str(&" ".repeat(padding));
        header.push('\n');
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.as_bytes());
        out.extend(self.values.iter().flat_map(|v| v.to_le_bytes()));
        out
    }

    fn csv(&self) -> String {
        let mut text = "path".to_string();
        for i in 0..self.dim {
            text.push_str(&format!(",e{i}"));
        }
        text.push('\n');
        for (name, row) in self.names.iter().zip(self.values.chunks_exact(self.dim.max(1))) {
            text.push_str(&format!("\"{}\"", name.replace('"', "\"\"")));
            for value in row {
                text.push_str(&format!(",{value}"));
            }
            text.push('\n');
        }
        text
    }
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
            labels: vec![NamedLabels { name: "kind".into(), words: vec![None, Some("x".into())] }],
            skipped: vec![],
        };
        let d = tempfile::tempdir().unwrap();
        e.write(&d.path().join("e.csv")).unwrap();
        let text = fs::read_to_string(d.path().join("e.csv")).unwrap();
        assert_eq!(text, "path,e0,e1\n\"a.png\",1,-0.5\n\"b \"\"x\"\".png\",0.25,3\n");
        e.write(&d.path().join("e.npy")).unwrap();
        let bytes = fs::read(d.path().join("e.npy")).unwrap();
        assert_eq!((bytes.len() - 16) % 64, 0);
        assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
        assert_eq!(bytes[bytes.len() - 4..], 3.0f32.to_le_bytes());
        let names = fs::read_to_string(d.path().join("e.paths.txt")).unwrap();
        assert_eq!(names.lines().count(), 2);
        // Rows and names cannot part, whatever is in a name.
        let odd =
            NamedEmbeddings { names: vec!["a\nb.png".into(), "c\rd.png".into()], ..e.clone() };
        odd.write(&d.path().join("odd.npy")).unwrap();
        let names = fs::read_to_string(d.path().join("odd.paths.txt")).unwrap();
        assert_eq!(names, "a\\nb.png\nc\\rd.png\n");
        assert!(matches!(e.write(&d.path().join("e.npy")), Err(TrainError::OutputExists(_))));
        assert!(e.write(&d.path().join("e.txt")).is_err());
        #[cfg(feature = "parquet")]
        {
            use parquet::file::reader::{FileReader, SerializedFileReader};
            e.write(&d.path().join("e.parquet")).unwrap();
            let file = fs::File::open(d.path().join("e.parquet")).unwrap();
            let table = SerializedFileReader::new(file).unwrap();
            let rows = table.get_row_iter(None).unwrap();
            let rows: Vec<String> = rows.map(|row| row.unwrap().to_string()).collect();
            assert_eq!(rows[0], r#"{path: "a.png", embedding: [1.0, -5E-1], kind: null}"#);
            assert_eq!(rows[1], "{path: \"b \"x\".png\", embedding: [0.25, 3.0], kind: \"x\"}");
        }
    }
}
