//! Tar shards as WebDataset has them: consecutive members whose names differ after the first dot are one sample.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::{Contents, Entry};
use crate::labels::LabelColumn;
use crate::listing::{SampleRule, has_extension};
use crate::manifest::word_of;
use crate::ranges::{RangeRead, RangeReader};
use crate::{Error, Result};

/// Labels beside a sample are at most this long.
const MAX_LABEL: u64 = 1 << 16;

/// The files of one sample.
#[derive(Default)]
struct Group {
    /// The name up to the first dot of its last part.
    key: String,
    sample: Option<Entry>,
    /// What `.cls` says, and the labels of `.json`.
    labels: Vec<(LabelColumn, String)>,
}

pub(super) fn read(file: &Path, opened: Arc<dyn RangeRead>, rule: SampleRule) -> Result<Contents> {
    let unreadable = |e: std::io::Error| Error::path(file, e, "is the file readable by this user?");
    let length = opened.length().map_err(unreadable)?;
    let mut archive = ::tar::Archive::new(RangeReader::new(opened, 0..length));
    let mut contents = Contents::default();
    let mut group = Group::default();
    let damage = |e: std::io::Error| {
        let reason = e.to_string();
        Some(reason.lines().next().unwrap_or_default().to_string())
    };
    let entries = archive.entries_with_seek().map_err(unreadable)?;
    for entry in entries {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                contents.damage = damage(error);
                break;
            }
        };
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.trim_start_matches("./");
        let (folder, name) =
            path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
        if name.is_empty() || name.starts_with('.') {
            continue;
        }
        let (stem, kind) = name.split_once('.').unwrap_or((name, ""));
        let key = if folder.is_empty() { stem.to_string() } else { format!("{folder}/{stem}") };
        if key != group.key {
            finish(&mut contents, std::mem::replace(&mut group, Group { key, ..Group::default() }));
        }
        let start = entry.raw_file_position();
        let is_sample = has_extension(Path::new(name), rule.extensions);
        match kind {
            _ if is_sample && group.sample.is_none() => {
                let bytes = start..start + entry.size();
                group.sample = Some(Entry { name: path.to_string(), bytes, words: Vec::new() });
            }
            "cls" | "json" if entry.size() <= MAX_LABEL => {
                let mut text = String::new();
                if entry.read_to_string(&mut text).is_ok() {
                    match kind {
                        "cls" => group.labels.push((LabelColumn::class(), text.trim().to_string())),
                        _ => group.labels.extend(labels_of(&text)),
                    }
                }
            }
            _ if is_sample => {
                contents.passed_over.add("further files of a sample", Path::new(path))
            }
            _ => {
                let reason = match Path::new(name).extension() {
                    Some(kind) => format!("files .{}", kind.to_string_lossy().escape_debug()),
                    None => "files without an extension".into(),
                };
                contents.passed_over.add(reason, Path::new(path));
            }
        }
    }
    finish(&mut contents, group);
    // A member that reaches beyond the end is not whole.
    if contents.entries.last().is_some_and(|last| last.bytes.end > length) {
        contents.entries.pop();
        contents.damage = Some("it ends within a member".into());
    }
    Ok(contents)
}

/// Labels in a JSON object.
fn labels_of(text: &str) -> Vec<(LabelColumn, String)> {
    let Ok(serde_json::Value::Object(all)) = serde_json::from_str(text) else { return Vec::new() };
    let label = |(key, value): (String, serde_json::Value)| {
        let column = match key.as_str() {
            "class" | "cls" => LabelColumn::class(),
            _ => LabelColumn::of_field(&key)?,
        };
        Some((column, word_of(&value).ok().flatten()?))
    };
    all.into_iter().filter_map(label).collect()
}

fn finish(contents: &mut Contents, group: Group) {
    let Some(mut sample) = group.sample else { return };
    for (column, word) in group.labels {
        let known = contents.columns.iter().position(|known| *known == column);
        let at = known.unwrap_or_else(|| {
            contents.columns.push(column);
            contents.columns.len() - 1
        });
        sample.words.resize(sample.words.len().max(at + 1), None);
        sample.words[at] = Some(word).filter(|word| !word.is_empty());
    }
    contents.entries.push(sample);
}
