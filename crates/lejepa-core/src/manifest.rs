//! Manifests: files that name samples, with labels and splits.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, Result};

/// A sample that a manifest names.
pub(crate) struct Row {
    pub(crate) line: u64,
    pub(crate) path: String,
    /// A value for each label column.
    pub(crate) labels: Vec<Option<String>>,
    pub(crate) split: Option<String>,
    /// The part of the file that is the sample.
    pub(crate) span: Option<Range<Duration>>,
    pub(crate) fold: Option<String>,
}

/// What a manifest holds.
pub(crate) struct Manifest {
    /// Names of the label columns.
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// Columns that are not read.
    pub(crate) unread: Vec<String>,
}

/// Columns by the names that published data sets and annotation programs give them, in lower case, the first that is
/// there. Those of Raven's selection tables have units.
const PATH: &[&str] = &[
    "path",
    "filename",
    "file_name",
    "slice_file_name",
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
    // UrbanSound8K tells where in another recording its files were cut out.
    let is_cut = header[path_at].eq_ignore_ascii_case("slice_file_name");
    let of_span = |names: &[&str]| first(names).filter(|_| !is_cut);
    let (start_at, end_at) = (of_span(START), of_span(END));
    // Raven counts from the start of a sequence of files; the offset within the file has a column of its own.
    let begin_at = column(BEGIN).filter(|at| start_at.is_some_and(|start| start != *at));
    let mut labels: Vec<(usize, &str)> =
        header.iter().enumerate().filter_map(|(at, field)| Some((at, column_of(field)?))).collect();
    if labels.is_empty() {
        labels.extend(first(LABEL).map(|at| (at, "class")));
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
        let labels = labels.iter().map(|&(at, _)| field(Some(at))).collect();
        let number = |at| seconds(file, line, field(at));
        let (start, mut end) = (number(start_at)?, number(end_at)?);
        if let (Some(start), Some(begin), Some(end)) = (start, number(begin_at)?, &mut end) {
            *end += start - begin;
        }
        let span = span(file, line, start, end)?;
        let fold = field(fold_at).filter(|fold| !fold.is_empty());
        rows.push(Row { line, path, labels, split: field(split_at), span, fold });
    }
    let columns = labels.into_iter().map(|(_, name)| name.to_string()).collect();
    Ok(Manifest { columns, rows, unread })
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
    Ok(Manifest { columns: vec!["class".into()], rows, unread: Vec::new() })
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
        let (mut span_of, mut fold) = ([None; 2], None);
        for (field, value) in &row.others {
            match field.as_str() {
                "start" => span_of[0] = value.as_f64(),
                "end" => span_of[1] = value.as_f64(),
                "fold" => fold = word(value).ok().flatten(),
                _ => {}
            }
            if ["start", "end", "fold"].contains(&field.as_str()) {
                continue;
            }
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
        let span = span(file, number, span_of[0], span_of[1])?;
        rows.push(Row { line: number, path: row.path, labels, split: row.split, span, fold });
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
    fn parts_of_files_are_read_from_the_tables_of_annotation_programs() {
        let d = tempfile::tempdir().unwrap();
        std::fs::write(d.path().join("dawn.wav"), "").unwrap();
        let read = |name: &str, text: &str| {
            let file = d.path().join(name);
            std::fs::write(&file, text).unwrap();
            let rows = read(&file)?.rows;
            Ok::<_, Error>(
                rows.iter()
                    .map(|row| {
                        let span = row.span.clone().unwrap();
                        let label = row.labels[0].clone().unwrap_or_default();
                        (row.path.clone(), span.start.as_secs_f64(), span.end.as_secs_f64(), label)
                    })
                    .collect::<Vec<_>>(),
            )
        };
        let row =
            |path: &str, from, to, label: &str| (path.to_string(), from, to, label.to_string());
        // Audacity, with a spectral selection.
        let audacity = "0.5\t1.25\trobin\n\\\t1000\t2000\n3\t4\twren, singing\n";
        let found =
            [row("dawn.wav", 0.5, 1.25, "robin"), row("dawn.wav", 3.0, 4.0, "wren, singing")];
        assert_eq!(read("dawn.txt", audacity).unwrap(), found);
        // Raven, of one recording, and of several with offsets.
        let raven = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tSpecies\n1\tS, 1\t2.5\t3.0\t900\trobin\n";
        assert_eq!(
            read("dawn.Table.1.selections.txt", raven).unwrap(),
            [row("dawn.wav", 2.5, 3.0, "robin")]
        );
        let raven = "Begin Time (s)\tEnd Time (s)\tBegin Path\tFile Offset (s)\tAnnotation\n100\t101.5\tb.wav\t40\twren\n";
        assert_eq!(read("all.txt", raven).unwrap(), [row("b.wav", 40.0, 41.5, "wren")]);
        let csv = "path,start,end,label\na.wav,1,2.5,x\n";
        assert_eq!(read("a.csv", csv).unwrap(), [row("a.wav", 1.0, 2.5, "x")]);
        let json = "{\"path\":\"a.wav\",\"start\":1,\"end\":2.5,\"label\":\"x\"}\n";
        assert_eq!(read("a.jsonl", json).unwrap(), [row("a.wav", 1.0, 2.5, "x")]);
        for (name, text, says) in [
            ("noon.txt", "0\t1\tx\n", "no recording `noon.*`"),
            ("dawn.txt", "1\t1\tx\n", "line 1: no part of a file"),
            ("b.csv", "path,start,end\na.wav,2,one\n", "line 2: `one` is no number"),
            ("b.csv", "path,start,end\na.wav,-1,1\n", "line 2: no part of a file"),
        ] {
            let error = read(name, text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn published_layouts_are_known() {
        use crate::Listing;
        let d = tempfile::tempdir().unwrap();
        let touch = |name: &str| {
            let file = d.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        };
        touch("esc/audio/1-1-A-0.wav");
        touch("urban/audio/fold5/7-3.wav");
        let write = |name: &str, text: &str| {
            touch(name);
            std::fs::write(d.path().join(name), text).unwrap();
            Listing::from_manifest(&d.path().join(name)).unwrap()
        };
        let esc = write(
            "esc/meta/esc50.csv",
            "filename,fold,target,category,esc10,src_file,take\n1-1-A-0.wav,1,0,dog,True,1,A\n",
        );
        assert!(esc.paths[0].is_file(), "{:?}", esc.paths);
        assert_eq!((esc.folds[0].as_deref(), esc.spans.len()), (Some("1"), 0));
        let urban = write(
            "urban/metadata/UrbanSound8K.csv",
            "slice_file_name,fsID,start,end,salience,fold,classID,class\n7-3.wav,7,1.5,5.5,1,5,3,dog_bark\n",
        );
        assert!(urban.paths[0].is_file() && urban.spans.is_empty(), "{:?}", urban.paths);
        assert_eq!(urban.folds, [Some("5".to_string())]);
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
