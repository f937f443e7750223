//! Manifests of AudioSet and FSD50K, which name files without ending and folder.

use std::collections::BTreeMap;
use std::path::Path;

use super::Row;

/// A table whose header is the last of the comments before it, as AudioSet's; nothing where there are no comments.
pub(super) fn without_comments(text: &str) -> Option<String> {
    let comments = text.lines().take_while(|line| line.starts_with('#')).count();
    let header = text.lines().nth(comments.checked_sub(1)?)?.trim_start_matches('#');
    let rows = text.lines().skip(comments);
    // A quote after a space does not quote.
    Some(
        std::iter::once(header)
            .chain(rows)
            .fold(String::new(), |all, line| all + &line.replace(", \"", ",\"") + "\n"),
    )
}

/// Gives rows the file of their name: in the folder of the manifest, those in it or those beside it, with an ending,
/// with a `Y` before it (as downloaders write) or with more after an underscore. Rows without a file are taken out, and
/// their names returned; all stay where no file is found at all.
pub(super) fn complete(manifest: &Path, rows: &mut Vec<Row>) -> Vec<String> {
    let base = manifest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files = BTreeMap::new();
    for (place, folder) in [("", base.to_path_buf()), ("../", base.join(".."))] {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        for name in names {
            if folder.join(&name).is_dir() {
                let within = std::fs::read_dir(folder.join(&name)).into_iter().flatten().flatten();
                for file in within {
                    let file = file.file_name().to_string_lossy().into_owned();
                    add(&mut files, &file, format!("{place}{name}/{file}"));
                }
            } else if place.is_empty() {
                let path = name.clone();
                add(&mut files, &name, path);
            }
        }
    }
    let find = |name: &str| {
        let exact = files.get(name).or_else(|| files.get(&format!("Y{name}")));
        let start = format!("{name}_");
        let longer =
            || files.range(start.clone()..).next().filter(|(stem, _)| stem.starts_with(&start));
        exact.or_else(|| longer().map(|(_, path)| path)).cloned()
    };
    if !rows.iter().any(|row| find(&row.path).is_some()) {
        return Vec::new();
    }
    let mut missing = Vec::new();
    rows.retain_mut(|row| match find(&row.path) {
        Some(path) => {
            row.path = path;
            true
        }
        None => {
            missing.push(row.path.clone());
            false
        }
    });
    missing
}

/// Files by their name without its ending; tables and texts are no samples.
fn add(files: &mut BTreeMap<String, String>, name: &str, path: String) {
    let Some((stem, ending)) = name.rsplit_once('.') else { return };
    if !["csv", "tsv", "txt", "json", "jsonl", "md"].contains(&ending.to_ascii_lowercase().as_str())
    {
        files.entry(stem.to_string()).or_insert(path);
    }
}
