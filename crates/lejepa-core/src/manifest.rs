//! Manifests: files that name samples, with labels and splits.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::labels::{LabelColumn, TAG_SEPARATOR};
use crate::listing::has_extension;
use crate::{Error, Result};

mod bare_names;

/// A sample that a manifest names.
pub(crate) struct Row {
    pub(crate) line: u64,
    pub(crate) path: String,
    /// A value for each label column; of tags all of them.
    pub(crate) labels: Vec<Option<String>>,
    pub(crate) split: Option<String>,
    /// The part of the file that is the sample.
    pub(crate) span: Option<Range<Duration>>,
    pub(crate) fold: Option<String>,
}

/// What a manifest holds.
pub(crate) struct Manifest {
    /// The label columns.
    pub(crate) columns: Vec<LabelColumn>,
    pub(crate) rows: Vec<Row>,
    /// Columns that are not read.
    pub(crate) unread: Vec<String>,
    /// Names without an ending that no file has, of lines that are left out.
    pub(crate) missing: Vec<String>,
}

/// Columns by the names that published data sets and annotation programs give them, in lower case, the first that is
/// there. Those of Raven's selection tables have units.
const PATH: &[&str] = &[
    "path",
    "filename",
    "file_name",
    "slice_file_name",
    "fname",
    "ytid",
    "file",
    "audio",
    "begin path",
    "begin file",
];
const LABEL: &[&str] = &["category", "class", "annotation", "species"];
const START: &[&str] = &["file offset (s)", "start", "start_time", "onset", "begin time (s)"];
const END: &[&str] = &["end", "end_time", "offset", "end time (s)"];
const BEGIN: &str = "begin time (s)";

/// Folders, relative to that of the manifest, in which published data sets keep the files that it names.
const PLACES: &[&str] =
    &["", "audio", "../audio", "clips", "fold{}", "audio/fold{}", "../audio/fold{}"];

/// The folder that the paths of a manifest are relative to, where its own holds none of them: as ESC-50, UrbanSound8K
/// and Common Voice are laid out. `{}` is the fold.
pub(crate) fn place_of(base: &Path, rows: &[Row]) -> &'static str {
    let holds = |place: &&&str| rows.iter().take(3).all(|row| placed(base, place, row).exists());
    PLACES.iter().find(holds).copied().unwrap_or("")
}

/// The file of a row in such a folder.
pub(crate) fn placed(base: &Path, place: &str, row: &Row) -> PathBuf {
    let place = place.replace("{}", row.fold.as_deref().unwrap_or_default());
    base.join(place).join(&row.path)
}

/// Seconds of the start and the end of a sample within its file.
fn span(
    file: &Path,
    line: u64,
    start: Option<f64>,
    end: Option<f64>,
) -> Result<Option<Range<Duration>>> {
    if start.is_none() && end.is_none() {
        return Ok(None);
    }
    let start = start.unwrap_or(0.0);
    let parse = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    let parsed = match end {
        Some(end) => parse(start).zip(parse(end)),
        None => parse(start).map(|start| (start, Duration::MAX)),
    };
    match parsed {
        Some((start, end)) if start < end => Ok(Some(start..end)),
        _ => Err(error(file, line, format!("no part of a file: from {start} to {end:?} s"))),
    }
}

/// A number, or nothing where the field is empty.
fn seconds(file: &Path, line: u64, field: Option<String>) -> Result<Option<f64>> {
    let Some(field) = field.filter(|field| !field.is_empty()) else { return Ok(None) };
    let bad = |_| error(file, line, format!("`{}` is no number of seconds", field.escape_debug()));
    field.parse().map(Some).map_err(bad)
}

pub(crate) fn error(file: &Path, line: u64, reason: String) -> Error {
    Error::path(
        file,
        // What is quoted from the file may run over lines.
        format!("line {line}: {}", reason.split_whitespace().collect::<Vec<_>>().join(" ")),
        "a manifest has the fields path, and optionally label (or several, label_NAME), tags, value and split (train or test)",
    )
}

/// What manifests end in.
const EXTENSIONS: &[&str] = &["csv", "tsv", "txt", "jsonl", "ndjson"];

/// Whether this is a manifest by its name.
pub(crate) fn is_named(file: &Path) -> bool {
    has_extension(file, EXTENSIONS)
}

/// Reads a CSV or JSON-lines file.
pub(crate) fn read(file: &Path) -> Result<Manifest> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        Error::path(file, e, "data.source takes a folder or a manifest in UTF-8 (.csv or .jsonl)")
    })?;
    parse(file, &text)
}

/// The rows of a manifest's text; `file` says its kind and is named in errors.
pub(crate) fn parse(file: &Path, text: &str) -> Result<Manifest> {
    let ext = file.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    // Editors on Windows begin a file with a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    match ext.as_str() {
        "csv" | "tsv" => csv_rows(file, text),
        "txt" => annotations(file, text),
        "jsonl" | "ndjson" => jsonl_rows(file, text),
        _ => Err(Error::path(
            file,
            "not a folder and not a manifest",
            "data.source takes a folder, a manifest whose name ends in .csv, .tsv or .jsonl, or annotations in a .txt",
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
        // Annotation programs put commas and brackets into names of columns between tabs.
        (_, _, true) if text.lines().next().is_some_and(|h| h.contains("(s)\t")) => b'\t',
        _ => b',',
    }
}

fn csv_rows(file: &Path, text: &str) -> Result<Manifest> {
    let plain = bare_names::without_comments(text);
    let text = plain.as_deref().unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .delimiter(delimiter(text))
        .from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| error(file, 1, e.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|h| h.eq_ignore_ascii_case(name));
    let first = |names: &[&str]| names.iter().find_map(|name| column(name));
    let path_at =
        first(PATH).ok_or_else(|| error(file, 1, "the header has no column `path`".into()))?;
    let (split_at, fold_at) = (column("split"), column("fold"));
    // UrbanSound8K and AudioSet tell where in another recording their files were cut out.
    let is_cut =
        ["slice_file_name", "ytid"].iter().any(|n| header[path_at].eq_ignore_ascii_case(n));
    let of_span = |names: &[&str]| first(names).filter(|_| !is_cut);
    let (start_at, end_at) = (of_span(START), of_span(END));
    // Raven counts from the start of a sequence of files; the offset within the file has a column of its own.
    let begin_at = column(BEGIN).filter(|at| start_at.is_some_and(|start| start != *at));
    let of_field = |(at, field)| Some((at, LabelColumn::of_field(field)?));
    let mut labels: Vec<(usize, LabelColumn)> =
        header.iter().enumerate().filter_map(of_field).collect();
    if labels.is_empty() {
        labels.extend(first(LABEL).map(|at| (at, LabelColumn::class())));
    }
    let known = [Some(path_at), split_at, fold_at, start_at, end_at, begin_at];
    let is_read =
        |at: &usize| known.contains(&Some(*at)) || labels.iter().any(|(label, _)| label == at);
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
        let labels = labels.iter().map(|(at, _)| field(Some(*at))).collect();
        let number = |at| seconds(file, line, field(at));
        let (start, mut end) = (number(start_at)?, number(end_at)?);
        if let (Some(start), Some(begin), Some(end)) = (start, number(begin_at)?, &mut end) {
            *end += start - begin;
        }
        let span = span(file, line, start, end)?;
        let fold = field(fold_at).filter(|fold| !fold.is_empty());
        rows.push(Row { line, path, labels, split: field(split_at), span, fold });
    }
    let columns = labels.into_iter().map(|(_, column)| column).collect();
    let mut missing = Vec::new();
    if ["fname", "ytid"].iter().any(|name| header[path_at].eq_ignore_ascii_case(name)) {
        missing = bare_names::complete(file, &mut rows);
    }
    Ok(Manifest { columns, rows, unread, missing })
}

/// Annotations beside a recording: a selection table of Raven, or labels of Audacity, which are lines of start, end and
/// label of the recording with the same name. Frequencies of spectral selections (lines that begin with `\`) are passed
/// over.
fn annotations(file: &Path, text: &str) -> Result<Manifest> {
    if text.lines().next().is_some_and(|header| header.to_ascii_lowercase().contains(BEGIN)) {
        let named = PATH.iter().any(|name| {
            let header = text.lines().next().unwrap_or_default().to_ascii_lowercase();
            header.split('\t').any(|column| column.trim() == *name)
        });
        if named {
            return csv_rows(file, text);
        }
        let path = recording_of(file)?;
        let with = |(i, line): (usize, &str)| match i {
            0 => format!("path\t{line}\n"),
            _ => format!("{path}\t{line}\n"),
        };
        return csv_rows(file, &text.lines().enumerate().map(with).collect::<String>());
    }
    let path = recording_of(file)?;
    let mut rows = Vec::new();
    for (i, line) in
        text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('\\'))
    {
        let number = i as u64 + 1;
        let mut fields = line.split('\t').map(|field| field.trim().to_string());
        let mut next = || seconds(file, number, fields.next());
        let (start, end) = (next()?, next()?);
        let span = span(file, number, start, end)?
            .ok_or_else(|| error(file, number, "no start and end".into()))?;
        let label = fields.next();
        let (split, fold) = (None, None);
        rows.push(Row {
            line: number,
            path: path.clone(),
            labels: vec![label],
            split,
            span: Some(span),
            fold,
        });
    }
    Ok(Manifest {
        columns: vec![LabelColumn::class()],
        rows,
        unread: Vec::new(),
        missing: Vec::new(),
    })
}

/// The file beside annotations that they are of: that with the same name up to their own endings.
fn recording_of(file: &Path) -> Result<String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = name.split('.').next().unwrap_or_default().to_string();
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut others: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    others.sort();
    let is_it = |other: &&String| {
        let (start, end) = other.rsplit_once('.').unwrap_or((other.as_str(), ""));
        start == stem && !["txt", "csv", "tsv", "json"].contains(&end.to_ascii_lowercase().as_str())
    };
    others.iter().find(is_it).cloned().ok_or_else(|| {
        let reason =
            format!("no recording `{}.*` lies beside these annotations", stem.escape_debug());
        Error::path(
            file,
            reason,
            "annotations are named as their recording, e.g. dawn.wav and dawn.txt",
        )
    })
}

#[derive(serde::Deserialize)]
struct JsonRow {
    path: String,
    split: Option<String>,
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

/// A label in JSON: a word, a number, or a list of words, which are joined. Other values are none.
pub(crate) fn word_of(value: &serde_json::Value) -> std::result::Result<Option<String>, ()> {
    match value {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(s) => Ok(Some(s.clone())),
        v @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Ok(Some(v.to_string())),
        serde_json::Value::Array(all) => {
            let words: Option<Vec<&str>> = all.iter().map(serde_json::Value::as_str).collect();
            // No tags are another thing than no label.
            let joined = |words: Vec<&str>| {
                words.join(&TAG_SEPARATOR.to_string()) + &TAG_SEPARATOR.to_string()
            };
            words.map(joined).map(Some).ok_or(())
        }
        _ => Err(()),
    }
}

fn jsonl_rows(file: &Path, text: &str) -> Result<Manifest> {
    let (mut rows, mut columns, mut unread) = (Vec::new(), Vec::<LabelColumn>::new(), Vec::new());
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let number = i as u64 + 1;
        let row: JsonRow =
            serde_json::from_str(line).map_err(|e| error(file, number, e.to_string()))?;
        let mut labels = vec![None; columns.len()];
        let (mut span_of, mut fold) = ([None; 2], None);
        for (field, value) in &row.others {
            match field.as_str() {
                "start" => span_of[0] = value.as_f64(),
                "end" => span_of[1] = value.as_f64(),
                "fold" => fold = word_of(value).ok().flatten(),
                _ => {}
            }
            if ["start", "end", "fold"].contains(&field.as_str()) {
                continue;
            }
            let Some(name) = LabelColumn::of_field(field) else {
                if !unread.contains(field) {
                    unread.push(field.clone());
                }
                continue;
            };
            let value = word_of(value).map_err(|()| {
                error(file, number, format!("`{field}` is no word and no list of words"))
            })?;
            match columns.iter().position(|column| *column == name) {
                Some(at) => labels[at] = value,
                None => {
                    columns.push(name);
                    labels.push(value);
                }
            }
        }
        let span = span(file, number, span_of[0], span_of[1])?;
        rows.push(Row { line: number, path: row.path, labels, split: row.split, span, fold });
    }
    // A column that first appears later has no value before.
    rows.iter_mut().for_each(|row: &mut Row| row.labels.resize(columns.len(), None));
    Ok(Manifest { columns, rows, unread, missing: Vec::new() })
}

#[cfg(test)]
mod tests;
