//! Finding samples: a folder walked by extension, or a manifest that names them.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::blob::{Blob, BlobStore, file_stamp};
use crate::folders::{self, Found, Layout};
use crate::labels::{LabelColumn, Labels, Split};
use crate::manifest::{self, Manifest};
use crate::{Error, Result};

/// What counts as one sample of a modality.
#[derive(Clone, Copy, Debug)]
pub struct SampleRule {
    /// File extensions in lower case, without the dot.
    pub extensions: &'static [&'static str],
    /// Whether this folder is one sample as a whole.
    pub is_sample_dir: fn(&Path) -> bool,
    /// Whether a file that begins with these bytes, up to 512, is a sample although its name does not say so.
    pub recognises: fn(&[u8]) -> bool,
}

impl SampleRule {
    /// Files with these extensions, and nothing else.
    pub const fn new(extensions: &'static [&'static str]) -> Self {
        Self { extensions, is_sample_dir: |_| false, recognises: |_| false }
    }
}

/// The samples found under a source, in a fixed order, with what their place says about them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// Files, or folders that are one sample (a folder of video frames).
    pub paths: Vec<PathBuf>,
    /// Label columns; empty where nothing says what the classes are.
    pub labels: Vec<Labels>,
    /// The split of each path where the source says it.
    pub splits: Vec<Option<Split>>,
    /// The part of each file that is the sample; empty where all samples are whole files.
    pub spans: Vec<Option<Range<Duration>>>,
    /// The fold of each path; empty where the source has none.
    pub folds: Vec<Option<String>>,
    /// What a user should know of how the source was read, a line each.
    pub notes: Vec<String>,
}

impl Listing {
    /// Every sample below `root`, sorted by path.
    ///
    /// Labels come from sub-folder names: `root/cat/1.png` is a `cat`. Where top folders are called train and
    /// test, val or the like ([`Split::parse`]) they are the split, and the next level is the label; what is
    /// in neither has no label. So it is where each class has such folders. A folder that holds all others is
    /// seen through. What was taken for what, and what was passed over, is in [`Listing::notes`].
    ///
    /// # Errors
    /// [`Error::Path`] where `root` cannot be read. Folders below it that cannot be are passed over.
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
    /// let rule = SampleRule::new(&["png"]);
    /// let listing = Listing::from_folder(root.path(), rule)?;
    /// assert_eq!(listing.paths[1], root.path().join("train/dog/1.png"));
    /// assert_eq!(listing.labels[0].names(), ["cat", "dog"]);
    /// assert_eq!([0, 1, 2].map(|i| listing.labels[0].class(i)), [Some(0), Some(1), Some(0)]);
    /// assert_eq!(listing.splits, [Some(Split::Train), Some(Split::Train), Some(Split::Test)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_folder(root: &Path, rule: SampleRule) -> Result<Self> {
        Ok(Self::with_archives(root, rule)?.0)
    }

    /// [`Listing::from_folder`], and the archives on the way, in order.
    pub(crate) fn with_archives(root: &Path, rule: SampleRule) -> Result<(Self, Vec<PathBuf>)> {
        let mut found = Found::default();
        folders::walk(root, rule, &mut found)?;
        Ok(Self::of_found(root, found))
    }

    pub(crate) fn of_found(root: &Path, found: Found) -> (Self, Vec<PathBuf>) {
        let Found { mut paths, passed_over, recognised, mut archives } = found;
        archives.sort();
        paths.sort();
        let parts: Vec<Vec<String>> = paths.iter().map(|p| folders::between(root, p)).collect();
        let Layout { splits, words, mut notes } = Layout::of(&parts);
        notes.extend(recognised.notes("taken for samples by their content:", root));
        notes.extend(passed_over.notes("passed over", root));
        let labels = LabelColumn::class().labels(&words).into_iter().collect();
        (Self { paths, labels, splits, notes, ..Self::default() }, archives)
    }

    /// The samples that a CSV (with a header) or JSON-lines file names: `path`, and optionally
    /// `label`, `split`, `fold`, and `start` and `end` in seconds of samples that are parts of a file. Further columns
    /// of labels are called `label_NAME`. Paths are relative to the manifest. Names of columns and folders that published
    /// data sets use (ESC-50, UrbanSound8K) are known, and so are Raven's selection tables and Audacity's labels.
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
    /// assert_eq!(listing.labels[0].names(), ["cat", "dog"]);
    /// assert_eq!(listing.splits, [Some(Split::Train), Some(Split::Test)]);
    ///
    /// std::fs::write(&file, "path,split\n1.wav,nowhere\n")?;
    /// let error = Listing::from_manifest(&file).unwrap_err();
    /// assert!(error.to_string().ends_with("line 2: unknown split `nowhere`"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_manifest(file: &Path) -> Result<Self> {
        Self::of_manifest(file, manifest::read(file)?)
    }

    pub(crate) fn of_manifest(file: &Path, manifest: Manifest) -> Result<Self> {
        let base = file.parent().unwrap_or(Path::new("."));
        let mut listing = Self::default();
        let mut words: Vec<Vec<Option<String>>> = vec![Vec::new(); manifest.columns.len()];
        let mut lines = HashMap::new();
        let mut again = 0;
        let place = manifest::place_of(base, &manifest.rows);
        for row in manifest.rows {
            let full = manifest::placed(base, place, &row);
            let word = |label: Option<String>| {
                label.filter(|l| !l.is_empty()).map(|l| folders::composed(&l))
            };
            let labels: Vec<Option<String>> = row.labels.into_iter().map(word).collect();
            let split = match row.split.as_deref().map(str::trim) {
                None | Some("") => None,
                Some(word) => Some(Split::parse(word).ok_or_else(|| {
                    let reason = format!("unknown split `{}`", word.escape_debug());
                    manifest::error(file, row.line, reason)
                })?),
            };
            let said = (labels.clone(), split);
            let key = (row.path.clone(), row.span.clone());
            if let Some((line, before)) = lines.get(&key) {
                if *before != said {
                    let reason = format!(
                        "`{}` has another label or split than in line {line}",
                        row.path.escape_debug()
                    );
                    return Err(manifest::error(file, row.line, reason));
                }
                again += 1;
                continue;
            }
            listing.paths.push(full);
            listing.spans.push(row.span);
            listing.folds.push(row.fold);
            lines.insert(key, (row.line, said));
            words.iter_mut().zip(labels).for_each(|(column, label)| column.push(label));
            listing.splits.push(split);
        }
        if listing.spans.iter().all(Option::is_none) {
            listing.spans.clear();
        }
        if listing.folds.iter().all(Option::is_none) {
            listing.folds.clear();
        }
        if !place.is_empty() {
            listing.notes.push(format!("files are looked for in {}", place.replace("{}", "N")));
        }
        if again > 0 {
            let note = format!("{again} lines of the manifest name a file again and are left out");
            listing.notes.push(note);
        }
        if let Some(first) = manifest.missing.first() {
            let count = manifest.missing.len();
            let lines = if count == 1 { "line names" } else { "lines name" };
            let note =
                format!("{count} {lines} no file that is there and are left out, e.g. {first}");
            listing.notes.push(note.escape_debug().to_string());
        }
        if !manifest.unread.is_empty() {
            let names = manifest.unread.join(", ");
            let note = format!(
                "fields that are not read: {names}; label_NAME is a column of labels, tags_NAME of several, value_NAME of numbers"
            );
            listing.notes.push(note.escape_debug().to_string());
        }
        let columns = manifest.columns.iter().zip(&words);
        listing.labels = columns.filter_map(|(column, words)| column.labels(words)).collect();
        Ok(listing)
    }
}

impl Listing {
    fn span(&self, index: usize) -> Option<Range<Duration>> {
        self.spans.get(index).cloned().flatten()
    }

    /// The error for a source without samples.
    pub(crate) fn nothing(&self, source: &Path, rule: SampleRule) -> Error {
        let others = self.notes.iter().take(3).map(|note| format!("; {note}")).collect::<String>();
        Error::path(
            source,
            format!("no usable files; looked for .{}{others}", rule.extensions.join(", .")),
            "check data.source and modality; `data.source = \"demo\"` uses the built-in data",
        )
    }
}

impl BlobStore for Listing {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn name(&self, index: usize) -> String {
        let path =
            self.paths.get(index).map_or_else(|| format!("#{index}"), |p| p.display().to_string());
        match self.span(index) {
            Some(span) if span.end == Duration::MAX => {
                format!("{path}[{} s-]", span.start.as_secs_f64())
            }
            Some(span) => {
                format!("{path}[{}-{} s]", span.start.as_secs_f64(), span.end.as_secs_f64())
            }
            None => path,
        }
    }

    fn blob(&self, index: usize) -> Result<Blob<'_>> {
        let no_item = || Error::sample(format!("#{index}"), "no such item");
        let blob = Blob::file(self.paths.get(index).ok_or_else(no_item)?.as_path());
        Ok(match self.span(index) {
            Some(span) => blob.with_span(span),
            None => blob,
        })
    }

    fn stamp(&self, index: usize) -> Option<String> {
        let stamp = file_stamp(self.paths.get(index)?)?;
        Some(self.span(index).map_or(stamp.clone(), |span| format!("{stamp} {span:?}")))
    }

    /// Parts of one file are no copies.
    fn length(&self, index: usize) -> Option<u64> {
        let path =
            self.paths.get(index).filter(|path| !path.is_dir() && self.span(index).is_none())?;
        Some(std::fs::metadata(path).ok()?.len())
    }

    fn fold(&self, index: usize) -> Option<&str> {
        self.folds.get(index)?.as_deref()
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.splits.get(index).copied().flatten()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: SampleRule = SampleRule::new(&["png"]);

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
        assert_eq!(l.labels[0].names(), ["a", "b", "c"]);
        assert_eq!([0, 1, 2].map(|i| l.labels[0].class(i)), [Some(0), Some(1), Some(2)]);
        assert!(l.splits.iter().all(Option::is_none));
    }

    #[test]
    fn split_folders_are_not_labels() {
        let d = tempfile::tempdir().unwrap();
        touch(d.path(), &["train/a/1.png", "val/b/2.png"]);
        let l = Listing::from_folder(d.path(), RULE).unwrap();
        assert_eq!(l.splits, [Some(Split::Train), Some(Split::Test)]);
        assert_eq!(l.labels[0].names(), ["a", "b"]);
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
        assert_eq!([0, 1].map(|i| a.labels[0].class(i)), [Some(0), Some(1)]);
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
