//! Folders of samples: what is in them, what is passed over, and what their names say.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::archives;
use crate::labels::Split;
use crate::listing::{SampleRule, has_extension};
use crate::{Error, Result};

/// No real data set nests deeper than this.
const MAX_DEPTH: usize = 32;

/// Folders of programs and systems, which hold thumbnails, copies and deleted files. Hidden ones are passed
/// over as well.
const NOT_DATA: [&str; 7] = [
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "__macosx",
    "lost+found",
    "system volume information",
    "thumbnails",
];

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) passed_over: Tally,
    /// Files that are samples by their content.
    pub(crate) recognised: Tally,
    /// Files that may hold samples.
    pub(crate) archives: Vec<PathBuf>,
}

/// What was found, by kind: how often, and an example.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<String, (usize, PathBuf)>);

impl Tally {
    pub(crate) fn add(&mut self, reason: impl Into<String>, path: &Path) {
        let (count, _) = self.0.entry(reason.into()).or_insert_with(|| (0, path.to_path_buf()));
        *count += 1;
    }

    pub(crate) fn extend(&mut self, other: Self) {
        for (reason, (count, path)) in other.0 {
            self.0.entry(reason).or_insert((0, path)).0 += count;
        }
    }

    /// A line for each kind.
    pub(crate) fn notes(&self, what: &str, root: &Path) -> Vec<String> {
        let note = |(kind, (count, path)): (&String, &(usize, PathBuf))| {
            let path = path.strip_prefix(root).unwrap_or(path);
            format!("{what} {count} {kind}, e.g. {}", path.display().to_string().escape_debug())
        };
        self.0.iter().map(note).collect()
    }
}

impl Found {
    /// A file that is judged by its name alone.
    pub(crate) fn add(&mut self, path: PathBuf, rule: SampleRule) {
        if has_extension(&path, rule.extensions) {
            return self.paths.push(path);
        }
        self.passed_over.add(kind_of(&path), &path);
        if archives::is_archive(&path) {
            self.archives.push(path);
        }
    }
}

/// What a file is called that is no sample.
fn kind_of(path: &Path) -> String {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let of = |e: String| format!("files .{}", e.escape_debug());
    extension.map_or("files without an extension".into(), of)
}

/// Whether no folder below `root` is hidden or known to hold no data, and neither is the file.
pub(crate) fn is_data(root: &Path, path: &Path) -> bool {
    let Ok(rest) = path.strip_prefix(root) else { return true };
    rest.components().all(|part| {
        let name = part.as_os_str().to_string_lossy().to_lowercase();
        !name.starts_with('.') && !NOT_DATA.contains(&name.as_str())
    })
}

/// All samples below `root`, in no order.
pub(crate) fn walk(root: &Path, rule: SampleRule, found: &mut Found) -> Result<()> {
    let read = |e: std::io::Error| Error::path(root, e, "is the folder readable by this user?");
    let entries = std::fs::read_dir(root).map_err(read)?;
    visit(root, entries, rule, 0, found);
    Ok(())
}

fn visit(dir: &Path, entries: std::fs::ReadDir, rule: SampleRule, depth: usize, found: &mut Found) {
    for entry in entries {
        let Ok(entry) = entry else {
            found.passed_over.add("entries that cannot be read", dir);
            continue;
        };
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if name.starts_with('.') {
            continue;
        }
        let kind = match entry.file_type() {
            // What a link points to counts.
            Ok(kind) if kind.is_symlink() => std::fs::metadata(&path).map(|m| m.file_type()),
            kind => kind,
        };
        let Ok(kind) = kind else {
            found.passed_over.add("links to nothing", &path);
            continue;
        };
        if kind.is_dir() {
            if NOT_DATA.contains(&name.as_str()) {
                found.passed_over.add("folders of thumbnails, copies or deleted files", &path);
            } else if depth >= MAX_DEPTH || is_loop(&path) {
                found.passed_over.add("folders that lead back to a folder above", &path);
            } else if (rule.is_sample_dir)(&path) {
                // The folder is a sample, so that what it nests is not looked at.
                for folder in inner_folders(&path) {
                    found.passed_over.add("folders inside a sample", &folder);
                }
                found.paths.push(path);
            } else if let Ok(entries) = std::fs::read_dir(&path) {
                visit(&path, entries, rule, depth + 1, found);
            } else {
                found.passed_over.add("folders that cannot be read", &path);
            }
        } else if !has_extension(&path, rule.extensions) {
            if kind.is_file() && start_of(&path).is_some_and(|start| (rule.recognises)(&start)) {
                found.recognised.add(kind_of(&path), &path);
                found.paths.push(path);
            } else {
                found.add(path, rule);
            }
        } else if kind.is_file() {
            found.paths.push(path);
        } else {
            // To open a pipe is to wait for a writer.
            found.passed_over.add("pipes, sockets and devices", &path);
        }
    }
}

/// The first bytes of a file.
fn start_of(path: &Path) -> Option<Vec<u8>> {
    let mut start = Vec::new();
    std::fs::File::open(path).ok()?.take(512).read_to_end(&mut start).ok()?;
    Some(start)
}

fn inner_folders(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
    let hidden = |p: &PathBuf| p.file_name().is_some_and(|n| n.as_encoded_bytes()[0] == b'.');
    entries.filter(move |p| p.is_dir() && !hidden(p))
}

/// Whether a folder is a link to one above it.
fn is_loop(path: &Path) -> bool {
    let is_link = path.symlink_metadata().is_ok_and(|m| m.file_type().is_symlink());
    let target = || path.canonicalize().ok();
    let above = || path.parent()?.canonicalize().ok();
    is_link && target().zip(above()).is_some_and(|(target, above)| above.starts_with(target))
}

/// The names of the folders between `root` and a sample.
pub(crate) fn between(root: &Path, path: &Path) -> Vec<String> {
    let Ok(rest) = path.strip_prefix(root) else { return Vec::new() };
    let mut parts: Vec<String> =
        rest.components().map(|c| composed(&c.as_os_str().to_string_lossy())).collect();
    parts.pop();
    parts
}

/// A name with its accents composed (NFC): file systems differ in how they store one name.
pub(crate) fn composed(name: &str) -> String {
    ComposingNormalizerBorrowed::new_nfc().normalize(name).into_owned()
}

/// What folder names were taken for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Layout {
    pub(crate) splits: Vec<Option<Split>>,
    pub(crate) words: Vec<Option<String>>,
    pub(crate) notes: Vec<String>,
}

impl Layout {
    /// From the folders above each sample.
    pub(crate) fn of(parts: &[Vec<String>]) -> Self {
        let mut level = 0;
        // A folder around all others says nothing.
        while let Some(name) = parts.first().and_then(|p| p.get(level))
            && Split::parse(name).is_none()
            && parts.iter().all(|p| p.get(level) == Some(name))
            && parts.iter().any(|p| p.len() > level + 1)
        {
            level += 1;
        }
        let mut notes = Vec::new();
        if level > 0 {
            let around = parts.first().map_or(String::new(), |p| p[..level].join("/"));
            notes.push(format!("the folder {around} holds all others and says nothing"));
        }
        let split_at = |level: usize| -> Vec<Option<Split>> {
            parts.iter().map(|p| p.get(level).and_then(|w| Split::parse(w))).collect()
        };
        let has = |splits: &[Option<Split>], split| splits.contains(&Some(split));
        let both = |splits: &[Option<Split>]| has(splits, Split::Train) && has(splits, Split::Test);
        let (above, below) = (split_at(level), split_at(level + 1));
        let (mut splits, label_at, split_level) =
            if both(&above) || !parts.is_empty() && above.iter().all(Option::is_some) {
                (above, level + 1, Some(level))
            } else if both(&below) && below.iter().all(Option::is_some) {
                (below, level, Some(level + 1))
            } else {
                (vec![None; parts.len()], level, None)
            };
        let mut words: Vec<Option<String>> =
            parts.iter().map(|p| p.get(label_at).cloned()).collect();
        if let Some(at) = split_level {
            notes.extend(explain(parts, &splits, at));
            for (word, split) in words.iter_mut().zip(&splits) {
                if split.is_none() {
                    *word = None;
                }
            }
            if !both(&splits) {
                notes.push("all samples are of one split, so a share of them is held out".into());
                splits.fill(None);
            }
        }
        Self { splits, words, notes }
    }
}

/// Which folders were taken for which split.
fn explain(parts: &[Vec<String>], splits: &[Option<Split>], at: usize) -> Vec<String> {
    let mut counts: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for (part, split) in parts.iter().zip(splits) {
        let name = part.get(at).cloned().unwrap_or_else(|| "files beside the folders".into());
        let role = match split {
            Some(Split::Train) => "trained on",
            Some(Split::Test) => "held out",
            None => "in no split: trained on, without labels",
        };
        *counts.entry((name, role)).or_default() += 1;
    }
    let line = |((name, role), n)| format!("{name}: {n} samples, {role}");
    counts.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: SampleRule = SampleRule::new(&["png"]);

    fn layout(folders: &[&str]) -> Layout {
        let parts = |f: &&str| f.split('/').filter(|p| !p.is_empty()).map(String::from).collect();
        Layout::of(&folders.iter().map(parts).collect::<Vec<Vec<String>>>())
    }

    fn words(layout: &Layout) -> Vec<&str> {
        layout.words.iter().map(|w| w.as_deref().unwrap_or("-")).collect()
    }

    #[test]
    fn splits_stay_splits_beside_loose_files_and_other_folders() {
        use Split::{Test, Train};
        let l = layout(&["train/cat", "val/cat", "", "unlabeled", "train2017/dog", "test_set/dog"]);
        assert_eq!(l.splits, [Some(Train), Some(Test), None, None, Some(Train), Some(Test)]);
        assert_eq!(words(&l), ["cat", "cat", "-", "-", "dog", "dog"]);
        assert!(l.notes.iter().any(|n| n.starts_with("unlabeled: 1 samples, in no split")));
        // Splits below the classes.
        let l = layout(&["cat/train", "cat/test", "dog/train", "dog/test"]);
        assert_eq!(l.splits, [Some(Train), Some(Test), Some(Train), Some(Test)]);
        assert_eq!(words(&l), ["cat", "cat", "dog", "dog"]);
        // A class that is called like a split is not one by itself.
        let l = layout(&["test", "cat", "dog"]);
        assert_eq!((words(&l), &l.splits), (vec!["test", "cat", "dog"], &vec![None; 3]));
    }

    #[test]
    fn folders_around_all_others_are_seen_through() {
        let l = layout(&["data/pets/train/cat", "data/pets/test/dog"]);
        assert_eq!(words(&l), ["cat", "dog"]);
        assert_eq!(l.splits[1], Some(Split::Test));
        assert!(l.notes[0].contains("data/pets"), "{:?}", l.notes);
        assert_eq!(words(&layout(&["pets/cat", "pets/dog"])), ["cat", "dog"]);
        assert_eq!(words(&layout(&["cat", "cat"])), ["cat", "cat"]);
        assert_eq!(layout(&[]), Layout::default());
    }

    #[test]
    fn one_split_alone_says_nothing_of_what_to_hold_out() {
        let l = layout(&["train/cat", "train/dog"]);
        assert_eq!((words(&l), l.splits.clone()), (vec!["cat", "dog"], vec![None; 2]));
        assert!(l.notes.iter().any(|n| n.contains("a share of them is held out")));
    }

    #[test]
    fn content_counts_where_a_name_says_nothing() {
        let d = tempfile::tempdir().unwrap();
        for (name, text) in [("a.png", "?"), ("b.dat", "PNG!"), ("c", "PNG!"), ("d.dat", "no")] {
            std::fs::write(d.path().join(name), text).unwrap();
        }
        let mut found = Found::default();
        let rule = SampleRule { recognises: |start| start.starts_with(b"PNG"), ..RULE };
        walk(d.path(), rule, &mut found).unwrap();
        assert_eq!(found.paths.len(), 3);
        let told = found.recognised.notes("taken", d.path());
        assert_eq!(
            told,
            ["taken 1 files .dat, e.g. b.dat", "taken 1 files without an extension, e.g. c"]
        );
        assert_eq!(found.passed_over.notes("left", d.path()), ["left 1 files .dat, e.g. d.dat"]);
    }

    #[test]
    fn one_name_in_two_unicode_forms_is_one_class() {
        assert_eq!(composed("cafe\u{301}"), "caf\u{e9}");
    }

    #[cfg(unix)]
    #[test]
    fn folders_that_cannot_be_read_are_passed_over_and_named() {
        use std::os::unix::fs::PermissionsExt;
        let d = tempfile::tempdir().unwrap();
        for folder in ["a", "lost+found"] {
            std::fs::create_dir(d.path().join(folder)).unwrap();
            std::fs::write(d.path().join(folder).join("1.png"), b"x").unwrap();
        }
        let closed = d.path().join("lost+found");
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
        let is_root = std::fs::read_dir(&closed).is_ok();
        let mut found = Found::default();
        walk(d.path(), RULE, &mut found).unwrap();
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o755)).unwrap();
        if is_root {
            eprintln!("an administrator reads every folder: what cannot be read is not tried");
            return;
        }
        assert_eq!(found.paths, [d.path().join("a/1.png")]);
        let notes = found.passed_over.notes("passed over", d.path()).join("\n");
        assert!(notes.contains("lost+found"), "{notes}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_data_is_passed_over_and_counted() {
        use std::os::unix::fs::symlink;
        let d = tempfile::tempdir().unwrap();
        for name in ["a/1.png", "a/@eaDir/1.png", "a/.hidden/1.png", "$RECYCLE.BIN/1.png", "b.HEIC"]
        {
            let path = d.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        symlink(d.path(), d.path().join("a/loop")).unwrap();
        symlink("nowhere", d.path().join("a/dangling.png")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(d.path().join("a/s.png")).unwrap();
        let mut found = Found::default();
        walk(d.path(), RULE, &mut found).unwrap();
        assert_eq!(found.paths, [d.path().join("a/1.png")]);
        let notes = found.passed_over.notes("passed over", d.path()).join("\n");
        for says in [
            "1 files .heic, e.g. b.HEIC",
            "2 folders of thumbnails",
            "1 folders that lead back",
            "1 links to nothing",
            "1 pipes, sockets and devices, e.g. a/s.png",
        ] {
            assert!(notes.contains(says), "{notes}");
        }
    }
}
