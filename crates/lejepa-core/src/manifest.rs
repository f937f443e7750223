//! Manifests: files that name samples, with labels and splits.

use std::path::Path;

use crate::{Error, Result};

/// A sample that a manifest names.
pub(crate) struct Row {
    pub(crate) line: u64,
    pub(crate) path: String,
    /// A value for each label column.
    pub(crate) labels: Vec<Option<String>>,
    pub(crate) split: Option<String>,
}

/// What a manifest holds.
pub(crate) struct Manifest {
    /// Names of the label columns.
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// Columns that are not read.
    pub(crate) unread: Vec<String>,
}

/// The name of the label column that a field is, by its name: `label` is the classes, `label_NAME` or `label.NAME`
/// a column of its own.
fn column_of(field: &str) -> Option<&str> {
    let prefix = field.get(..5).filter(|prefix| prefix.eq_ignore_ascii_case("label"))?;
    match field[prefix.len()..].strip_prefix(['_', '.']) {
        None if field.len() == prefix.len() => Some("class"),
        Some(name) if !name.is_empty() => Some(name),
        _ => None,
    }
}

pub(crate) fn error(file: &Path, line: u64, reason: String) -> Error {
    Error::path(
        file,
        // What is quoted from the file may run over lines.
        format!("line {line}: {}", reason.split_whitespace().collect::<Vec<_>>().join(" ")),
        "a manifest has the fields path, and optionally label (or several, label_NAME) and split (train or test)",
    )
}

/// Reads a CSV or JSON-lines file.
pub(crate) fn read(file: &Path) -> Result<Manifest> {
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

fn csv_rows(file: &Path, text: &str) -> Result<Manifest> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .delimiter(delimiter(text))
        .from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| error(file, 1, e.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|h| h.eq_ignore_ascii_case(name));
    let path_at =
        column("path").ok_or_else(|| error(file, 1, "the header has no column `path`".into()))?;
    let split_at = column("split");
    let labels: Vec<(usize, &str)> =
        header.iter().enumerate().filter_map(|(at, field)| Some((at, column_of(field)?))).collect();
    let is_read = |at: &usize| {
        *at == path_at || Some(*at) == split_at || labels.iter().any(|(label, _)| label == at)
    };
    let unread = (0..header.len()).filter(|at| !is_read(at)).map(|at| header[at].to_string());
    let (unread, mut rows) = (unread.collect(), Vec::new());
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
        let labels = labels.iter().map(|&(at, _)| field(Some(at))).collect();
        rows.push(Row { line, path, labels, split: field(split_at) });
    }
    let columns = labels.into_iter().map(|(_, name)| name.to_string()).collect();
    Ok(Manifest { columns, rows, unread })
}

#[derive(serde::Deserialize)]
struct JsonRow {
    path: String,
    split: Option<String>,
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

fn word(value: &serde_json::Value) -> std::result::Result<Option<String>, ()> {
    match value {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(s) => Ok(Some(s.clone())),
        v @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Ok(Some(v.to_string())),
        _ => Err(()),
    }
}

fn jsonl_rows(file: &Path, text: &str) -> Result<Manifest> {
    let (mut rows, mut columns, mut unread) = (Vec::new(), Vec::<String>::new(), Vec::new());
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let number = i as u64 + 1;
        let row: JsonRow =
            serde_json::from_str(line).map_err(|e| error(file, number, e.to_string()))?;
        let mut labels = vec![None; columns.len()];
        for (field, value) in &row.others {
            let Some(name) = column_of(field) else {
                if !unread.contains(field) {
                    unread.push(field.clone());
                }
                continue;
            };
            let value = word(value)
                .map_err(|()| error(file, number, format!("`{field}` is not a word")))?;
            match columns.iter().position(|column| column == name) {
                Some(at) => labels[at] = value,
                None => {
                    columns.push(name.to_string());
                    labels.push(value);
                }
            }
        }
        rows.push(Row { line: number, path: row.path, labels, split: row.split });
    }
    // A column that first appears later has no value before.
    rows.iter_mut().for_each(|row: &mut Row| row.labels.resize(columns.len(), None));
    Ok(Manifest { columns, rows, unread })
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
            let rows = read(&file);
            if name == "semicolon.csv" {
                // Three fields in a row of two: said, with the line.
                assert!(rows.err().is_some_and(|e| e.to_string().contains("line 2")));
                continue;
            }
            let rows = rows.unwrap().rows;
            assert_eq!(
                (rows[0].path.as_str(), rows[0].labels[0].as_deref()),
                ("a.png", Some("x; y"))
            );
        }
    }

    #[test]
    fn several_label_columns_are_read_and_others_are_told() {
        let d = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a.csv", "path,label,Label_speaker,note\na,x,s,n\nb,,t,\n"),
            (
                "a.jsonl",
                "{\"path\":\"a\",\"label\":\"x\",\"note\":[1]}\n{\"path\":\"b\",\"label.speaker\":\"t\"}\n",
            ),
        ] {
            let file = d.path().join(name);
            std::fs::write(&file, text).unwrap();
            let manifest = read(&file).unwrap();
            assert_eq!(manifest.columns, ["class", "speaker"]);
            assert_eq!(manifest.unread, ["note"]);
            assert_eq!(manifest.rows[1].labels[1].as_deref(), Some("t"));
            assert_eq!(manifest.rows[0].labels.len(), 2);
        }
        std::fs::write(d.path().join("b.jsonl"), "{\"path\":\"a\",\"label\":[1]}\n").unwrap();
        assert!(
            read(&d.path().join("b.jsonl")).is_err_and(|e| e.to_string().contains("not a word"))
        );
    }
}
