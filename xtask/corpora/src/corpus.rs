//! A corpus while it is made: its folder, its rows, its manifests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Why a corpus was not made.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What it is made of cannot be had here.
    Skipped(String),
    /// Anything else.
    Failed(String),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

/// The split of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Split {
    Train,
    Test,
}

impl Split {
    /// `Test` where `test` holds.
    pub(crate) fn test_if(test: bool) -> Self {
        if test { Self::Test } else { Self::Train }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// One file and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Relative to the corpus.
    pub(crate) path: String,
    /// One word for each column of the corpus; empty where the file has no such label.
    pub(crate) labels: Vec<String>,
    pub(crate) split: Split,
}

/// How a further label column splits the files, where not as the first does.
type Resplit = fn(&Row) -> Split;

/// A folder that fills up, and the rows of its manifest.
pub(crate) struct Corpus {
    name: &'static str,
    folder: PathBuf,
    columns: Vec<&'static str>,
    resplits: BTreeMap<&'static str, Resplit>,
    rows: Vec<Row>,
}

impl Corpus {
    /// An empty folder at `partial`; what an interrupted run left there is removed.
    pub(crate) fn create(name: &'static str, partial: &Path) -> Result<Self, String> {
        if partial.exists() {
            fs::remove_dir_all(partial).map_err(|e| said(partial, e))?;
        }
        fs::create_dir_all(partial).map_err(|e| said(partial, e))?;
        Ok(Self {
            name,
            folder: partial.to_path_buf(),
            columns: vec!["class"],
            resplits: BTreeMap::new(),
            rows: Vec::new(),
        })
    }

    /// Its name, from which its random numbers follow.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Names the label columns; without this there is one, `class`.
    pub(crate) fn columns(&mut self, names: &[&'static str]) {
        self.columns = names.to_vec();
    }

    /// Gives the manifest of one further column its own split. A column whose classes are kept apart
    /// by the main split, such as the speaker, could not be scored with that.
    pub(crate) fn resplit(&mut self, column: &'static str, split: Resplit) {
        self.resplits.insert(column, split);
    }

    /// Where the file `path` goes; its folders are made.
    pub(crate) fn place(&self, path: &str) -> Result<PathBuf, String> {
        let file = self.folder.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(|e| said(parent, e))?;
        }
        Ok(file)
    }

    /// Adds a file that was written to its `place`.
    pub(crate) fn add(&mut self, path: String, labels: &[&str], split: Split) {
        let labels = labels.iter().map(|word| (*word).to_string()).collect();
        self.push(Row { path, labels, split });
    }

    /// `add`, for a row that is there already.
    pub(crate) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Writes the manifests and renames the folder; returns the counts in words.
    pub(crate) fn finish(self, folder: &Path) -> Result<String, Failure> {
        if let Some(row) = self.rows.iter().find(|r| r.labels.len() != self.columns.len()) {
            return Err(format!("{}: not one label for each column", row.path).into());
        }
        self.write("manifest.csv", 0, true)?;
        for (at, column) in self.columns.iter().enumerate().skip(1) {
            self.write(&format!("manifest-{column}.csv"), at, false)?;
        }
        fs::rename(&self.folder, folder).map_err(|e| said(folder, e))?;
        let of = |split: Split| self.rows.iter().filter(|r| r.split == split).count();
        let (train, test) = (of(Split::Train), of(Split::Test));
        let bare = self.rows.iter().filter(|r| r.labels.iter().all(String::is_empty)).count();
        let bare = if bare > 0 { format!(" ({bare} without a label)") } else { String::new() };
        Ok(format!("{train} train{bare}, {test} test"))
    }

    /// A manifest whose `label` is the column at `at`. Where there are several, the main one has
    /// each under its own name as well.
    fn write(&self, file: &str, at: usize, main: bool) -> Result<(), String> {
        let path = self.folder.join(file);
        let mut writer = csv::Writer::from_path(&path).map_err(|e| said(&path, e))?;
        let named: &[&str] = if main && self.columns.len() > 1 { &self.columns } else { &[] };
        let header = ["path", "label", "split"].into_iter().chain(named.iter().copied());
        writer.write_record(header).map_err(|e| said(&path, e))?;
        let resplit = self.columns.get(at).and_then(|column| self.resplits.get(column));
        for row in &self.rows {
            let split = resplit.map_or(row.split, |f| f(row));
            let label = row.labels.get(at).map_or("", String::as_str);
            let words = [row.path.as_str(), label, split.word()].into_iter();
            let more = row.labels.iter().take(named.len()).map(String::as_str);
            writer.write_record(words.chain(more)).map_err(|e| said(&path, e))?;
        }
        writer.flush().map_err(|e| said(&path, e))
    }
}

/// An error with the path it is about.
pub(crate) fn said(path: &Path, error: impl std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_columns_have_manifests_of_their_own() {
        let out = tempfile::tempdir().unwrap();
        let mut corpus = Corpus::create("words", &out.path().join("words.partial")).unwrap();
        corpus.columns(&["digit", "voice"]);
        corpus.resplit("voice", |row| Split::test_if(row.path == "a.wav"));
        corpus.add("a.wav".into(), &["one", "f1"], Split::Train);
        corpus.add("b.wav".into(), &["", ""], Split::Test);
        let folder = out.path().join("words");
        assert_eq!(corpus.finish(&folder).unwrap(), "1 train (1 without a label), 1 test");
        assert_eq!(
            fs::read_to_string(folder.join("manifest.csv")).unwrap(),
            "path,label,split,digit,voice\na.wav,one,train,one,f1\nb.wav,,test,,\n"
        );
        assert_eq!(
            fs::read_to_string(folder.join("manifest-voice.csv")).unwrap(),
            "path,label,split\na.wav,f1,test\nb.wav,,train\n"
        );
    }
}
