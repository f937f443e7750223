//! Manifests: files that name samples, with labels and splits.

use std::path::Path;

use crate::{Error, Result};

/// A sample that a manifest names.
pub(crate) struct Row {
    pub(crate) line: u64,
    pub(crate) path: String,
    pub(crate) label: Option<String>,
    pub(crate) split: Option<String>,
}

pub(crate) fn error(file: &Path, line: u64, reason: String) -> Error {
    Error::path(
        file,
        // What is quoted from the file may run over lines.
        format!("line {line}: {}", reason.split_whitespace().collect::<Vec<_>>().join(" ")),
        "a manifest has the fields path, and optionally label and split (train or test)",
    )
}

/// The rows of a CSV or JSON-lines file.
pub(crate) fn rows(file: &Path) -> Result<Vec<Row>> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        Error::path(file, e, "data.source takes a folder or a manifest in UTF-8 (.csv or .jsonl)")
    })?;
    let ext = file.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    // Editors on Windows begin a file with a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    match ext.as_str() {
        "csv" => csv_rows(file, text),
        "jsonl" | "ndjson" => jsonl_rows(file, text),
        _ => Err(Error::path(
            file,
            "not a folder and not a manifest",
            "data.source takes a folder, or a manifest whose name ends in .csv or .jsonl",
        )),
    }
}

/// The separator of a header: a comma, or the semicolon or tab of spreadsheets where it has no comma.
fn delimiter(text: &str) -> u8 {
    let header = text.lines().next().unwrap_or_default();
    let has = |c: char| header.contains(c);
    match (has(','), has(';'), has('\t')) {
        (false, true, _) => b';',
        (false, false, true) => b'\t',
        _ => b',',
    }
}

fn csv_rows(file: &Path, text: &str) -> Result<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .delimiter(delimiter(text))
        .from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| error(file, 1, e.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|h| h.eq_ignore_ascii_case(name));
    let path_at =
        column("path").ok_or_else(|| error(file, 1, "the header has no column `path`".into()))?;
    let (label_at, split_at) = (column("label"), column("split"));
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| {
            let line = e.position().map_or(0, csv::Position::line);
            error(file, line, e.to_string())
        })?;
        let field = |at: Option<usize>| at.and_then(|i| record.get(i)).map(str::to_owned);
        let line = record.position().map_or(0, csv::Position::line);
        let path = field(Some(path_at))
            .filter(|p| !p.is_empty())
            .ok_or_else(|| error(file, line, "no path".into()))?;
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
            serde_json::from_str(line).map_err(|e| error(file, number, e.to_string()))?;
        let label = match row.label {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(s)) => Some(s),
            Some(v @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => {
                Some(v.to_string())
            }
            Some(_) => return Err(error(file, number, "`label` is not a word".into())),
        };
        rows.push(Row { line: number, path: row.path, label, split: row.split });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_and_byte_order_marks_of_other_programs_are_read() {
        let d = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("comma.csv", "path,label\na.png,x; y\n"),
            ("semicolon.csv", "path;label\na.png;x; y\n"),
            ("tab.csv", "\u{feff}path\tlabel\na.png\tx; y\n"),
            ("bom.jsonl", "\u{feff}{\"path\":\"a.png\",\"label\":\"x; y\"}\n"),
        ] {
            let file = d.path().join(name);
            std::fs::write(&file, text).unwrap();
            let rows = rows(&file);
            if name == "semicolon.csv" {
                // Three fields in a row of two: said, with the line.
                assert!(rows.err().is_some_and(|e| e.to_string().contains("line 2")));
                continue;
            }
            let rows = rows.unwrap();
            assert_eq!((rows[0].path.as_str(), rows[0].label.as_deref()), ("a.png", Some("x; y")));
        }
    }
}
