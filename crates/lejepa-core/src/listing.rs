//! Finding samples: a folder walked by extension, or a manifest that names them.

use std::path::{Path, PathBuf};

use crate::blob::{Blob, BlobStore};
use crate::labels::{Labels, Split};
use crate::{Error, Result};

/// What counts as one sample of a modality.
#[derive(Clone, Copy)]
pub struct SampleRule {
    /// File extensions in lower case, without the dot.
    pub extensions: &'static [&'static str],
    /// Whether this folder is one sample as a whole.
    pub is_sample_dir: fn(&Path) -> bool,
}

/// The samples found under a source, in a fixed order, with what their place says about them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Files, or folders that are one sample (a folder of video frames).
    pub paths: Vec<PathBuf>,
    /// Label columns; empty where nothing says what the classes are.
    pub labels: Vec<Labels>,
    /// The split of each path where the source says it.
    pub splits: Vec<Option<Split>>,
}

impl Listing {
    /// Every sample below `root`, sorted by path.
    ///
    /// Labels come from sub-folder names: `root/cat/1.png` is a `cat`. Where all the top folders are
    /// called train, test, val or the like they are the split, and the next level is the label.
    ///
    /// # Errors
    /// [`Error::Path`] where a folder cannot be read.
    ///
    /// ```
    /// use lejepa_core::{Listing, SampleRule, Split};
    ///
    /// let root = tempfile::tempdir()?;
    /// for name in ["train/cat", "train/dog", "val/cat"] {
    ///     let folder = root.path().join(name);
    ///     std::fs::create_dir_all(&folder)?;
    ///     std::fs::write(folder.join("1.png"), "")?;
    /// }
    ///
    /// let rule = SampleRule { extensions: &["png"], is_sample_dir: |_| false };
    /// let listing = Listing::from_folder(root.path(), rule)?;
    /// assert_eq!(listing.paths[1], root.path().join("train/dog/1.png"));
    /// assert_eq!(listing.labels[0].classes, ["cat", "dog"]);
    /// assert_eq!(listing.labels[0].ids, [Some(0), Some(1), Some(0)]);
    /// assert_eq!(listing.splits, [Some(Split::Train), Some(Split::Train), Some(Split::Test)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_folder(root: &Path, rule: SampleRule) -> Result<Self> {
        let mut paths = Vec::new();
        walk(root, rule, 0, &mut paths)?;
        paths.sort();
        let parts: Vec<Vec<String>> = paths.iter().map(|p| folders_between(root, p)).collect();
        let is_split = |words: &[String]| words.first().is_some_and(|w| Split::parse(w).is_some());
        let splits_on_top = !parts.is_empty() && parts.iter().all(|p| is_split(p));
        let level = usize::from(splits_on_top);
        let splits = parts
            .iter()
            .map(|p| splits_on_top.then(|| p.first().and_then(|w| Split::parse(w))).flatten())
            .collect();
        let words: Vec<Option<String>> = parts.iter().map(|p| p.get(level).cloned()).collect();
        Ok(Self { paths, labels: labels(&words), splits })
    }

    /// The samples that a CSV (with a header) or JSON-lines file names: `path`, and optionally
    /// `label` and `split`. Paths are relative to the manifest.
    ///
    /// # Errors
    /// [`Error::Path`] with the line number for anything malformed.
    ///
    /// ```
    /// use lejepa_core::{Listing, Split};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let file = folder.path().join("sounds.csv");
    /// std::fs::write(&file, "path,label,split\n1.wav,dog,train\n2.wav,cat,test\n")?;
    ///
    /// let listing = Listing::from_manifest(&file)?;
    /// assert_eq!(listing.paths[0], folder.path().join("1.wav"));
    /// assert_eq!(listing.labels[0].classes, ["cat", "dog"]);
    /// assert_eq!(listing.splits, [Some(Split::Train), Some(Split::Test)]);
    ///
    /// std::fs::write(&file, "path,split\n1.wav,nowhere\n")?;
    /// let error = Listing::from_manifest(&file).unwrap_err();
    /// assert!(error.to_string().ends_with("line 2: unknown split `nowhere`"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_manifest(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).map_err(|e| {
            Error::path(
                file,
                e,
                "data.source takes a folder or a manifest in UTF-8 (.csv or .jsonl)",
            )
        })?;
        let ext = file.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        let rows = match ext.as_str() {
            "csv" => csv_rows(file, &text)?,
            "jsonl" | "ndjson" => jsonl_rows(file, &text)?,
            _ => {
                return Err(Error::path(
                    file,
                    "not a folder and not a manifest",
                    "data.source takes a folder, or a manifest whose name ends in .csv or .jsonl",
                ));
            }
        };
        let base = file.parent().unwrap_or(Path::new("."));
        let mut listing = Self::default();
        let mut words = Vec::new();
        for row in rows {
            listing.paths.push(base.join(row.path));
            words.push(row.label.filter(|l| !l.is_empty()));
            let split = match row.split.as_deref().map(str::trim) {
                None | Some("") => None,
                Some(word) => Some(Split::parse(word).ok_or_else(|| {
                    manifest_error(
                        file,
                        row.line,
                        format!("unknown split `{}`", word.escape_debug()),
                    )
                })?),
            };
            listing.splits.push(split);
        }
        listing.labels = labels(&words);
        Ok(listing)
    }
}

impl BlobStore for Listing {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn name(&self, index: usize) -> String {
        self.paths.get(index).map_or_else(|| format!("#{index}"), |p| p.display().to_string())
    }

    fn blob(&self, index: usize) -> Result<Blob<'_>> {
        let no_item = || Error::sample(format!("#{index}"), "no such item");
        Ok(Blob::file(self.paths.get(index).ok_or_else(no_item)?.as_path()))
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.splits.get(index).copied().flatten()
    }
}

fn labels(words: &[Option<String>]) -> Vec<Labels> {
    let column = Labels::from_words("class", words);
    // One class only says nothing that a probe could learn.
    if column.classes.len() < 2 { Vec::new() } else { vec![column] }
}

/// Symbolic links could make a loop; no real data set nests deeper than this.
const MAX_DEPTH: usize = 32;

fn walk(dir: &Path, rule: SampleRule, depth: usize, out: &mut Vec<PathBuf>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::path(
            dir,
            "folders nest too deep",
            "is there a link to a parent folder?",
        ));
    }
    let read = |e| Error::path(dir, e, "is the folder readable by this user?");
    let entries = std::fs::read_dir(dir).map_err(|e| read(e.to_string()))?;
    for entry in entries {
        let path = entry.map_err(|e| read(e.to_string()))?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            if (rule.is_sample_dir)(&path) {
                out.push(path);
            } else {
                walk(&path, rule, depth + 1, out)?;
            }
        } else if has_extension(&path, rule.extensions) {
            out.push(path);
        }
    }
    Ok(())
}

/// Whether the path ends in one of these extensions, in any case.
///
/// ```
/// use lejepa_core::has_extension;
/// use std::path::Path;
///
/// assert!(has_extension(Path::new("a/b.PNG"), &["jpg", "png"]));
/// assert!(!has_extension(Path::new("a/png"), &["jpg", "png"]));
/// ```
pub fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| extensions.contains(&e.to_ascii_lowercase().as_str()))
}

fn folders_between(root: &Path, path: &Path) -> Vec<String> {
    let Ok(rest) = path.strip_prefix(root) else { return Vec::new() };
    let mut parts: Vec<String> =
        rest.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    parts.pop();
    parts
}

struct Row {
    line: u64,
    path: String,
    label: Option<String>,
    split: Option<String>,
}

fn manifest_error(file: &Path, line: u64, reason: String) -> Error {
    Error::path(
        file,
        // What is quoted from the file may run over lines.
        format!("line {line}: {}", reason.split_whitespace().collect::<Vec<_>>().join(" ")),
        "a manifest has the fields path, and optionally label and split (train or test)",
    )
}

fn csv_rows(file: &Path, text: &str) -> Result<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| manifest_error(file, 1, e.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|h| h.eq_ignore_ascii_case(name));
    let path_at = column("path")
        .ok_or_else(|| manifest_error(file, 1, "the header has no column `path`".into()))?;
    let (label_at, split_at) = (column("label"), column("split"));
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| {
            let line = e.position().map_or(0, csv::Position::line);
            manifest_error(file, line, e.to_string())
        })?;
        let field = |at: Option<usize>| at.and_then(|i| record.get(i)).map(str::to_owned);
        let line = record.position().map_or(0, csv::Position::line);
        let path = field(Some(path_at))
            .filter(|p| !p.is_empty())
            .ok_or_else(|| manifest_error(file, line, "no path".into()))?;
        rows.push(Row { line, path, label: field(label_at), split: field(split_at) });
    }
    Ok(rows)
}

#[derive(serde::Deserialize)]
struct JsonRow {
    path: String,
    label: Option<serde_json::Value>,
    split: Option<String>,
}

fn jsonl_rows(file: &Path, text: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let number = i as u64 + 1;
        let row: JsonRow =
            serde_json::from_str(line).map_err(|e| manifest_error(file, number, e.to_string()))?;
        let label = match row.label {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(s)) => Some(s),
            Some(v @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => {
                Some(v.to_string())
            }
            Some(_) => return Err(manifest_error(file, number, "`label` is not a word".into())),
        };
        rows.push(Row { line: number, path: row.path, label, split: row.split });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: SampleRule = SampleRule { extensions: &["png"], is_sample_dir: |_| false };

    fn touch(dir: &Path, names: &[&str]) {
        for n in names {
            let p = dir.join(n);
            std::fs::create_dir_all(p.parent().unwrap()).unwrap();
            std::fs::write(p, b"x").unwrap();
        }
    }

    #[test]
    fn folders_are_labels_and_order_is_fixed() {
        let d = tempfile::tempdir().unwrap();
        touch(d.path(), &["b/2.png", "a/1.PNG", "a/skip.txt", ".hidden/3.png", "c/deep/4.png"]);
        let l = Listing::from_folder(d.path(), RULE).unwrap();
        assert_eq!(l.paths.len(), 3);
        assert_eq!(l.labels[0].classes, ["a", "b", "c"]);
        assert_eq!(l.labels[0].ids, [Some(0), Some(1), Some(2)]);
        assert!(l.splits.iter().all(Option::is_none));
    }

    #[test]
    fn split_folders_are_not_labels() {
        let d = tempfile::tempdir().unwrap();
        touch(d.path(), &["train/a/1.png", "val/b/2.png"]);
        let l = Listing::from_folder(d.path(), RULE).unwrap();
        assert_eq!(l.splits, [Some(Split::Train), Some(Split::Test)]);
        assert_eq!(l.labels[0].classes, ["a", "b"]);
    }

    #[test]
    fn manifests_agree() {
        let d = tempfile::tempdir().unwrap();
        std::fs::write(d.path().join("m.csv"), "path,label,split\nx.png,a,train\ny.png,b,test\n")
            .unwrap();
        std::fs::write(
            d.path().join("m.jsonl"),
            "{\"path\":\"x.png\",\"label\":\"a\",\"split\":\"train\"}\n\n{\"path\":\"y.png\",\"label\":\"b\",\"split\":\"val\"}\n",
        )
        .unwrap();
        let a = Listing::from_manifest(&d.path().join("m.csv")).unwrap();
        let b = Listing::from_manifest(&d.path().join("m.jsonl")).unwrap();
        assert_eq!(a, b);
        assert_eq!(a.labels[0].ids, [Some(0), Some(1)]);
    }

    #[test]
    fn manifest_errors_name_the_line() {
        let d = tempfile::tempdir().unwrap();
        let p = d.path().join("m.csv");
        for (text, says) in [
            ("label\na\n", "no column `path`"),
            ("path,split\nx.png,nowhere\n", "line 2: unknown split `nowhere`"),
            ("path,label\n,a\n", "line 2: no path"),
        ] {
            std::fs::write(&p, text).unwrap();
            let e = Listing::from_manifest(&p).unwrap_err().to_string();
            assert!(e.contains(says), "{e}");
        }
    }
}
