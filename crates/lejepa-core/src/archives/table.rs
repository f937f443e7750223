//! Parquet tables whose cells are encoded pictures, sounds or films, as the Hugging Face hub stores data sets: a
//! struct of `bytes` and `path`, and columns of labels.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use serde_json::Value;

use super::{Contents, Entry};
use crate::blob::Blob;
use crate::labels::{LabelColumn, LabelKind, TAG_SEPARATOR};
use crate::listing::{SampleRule, has_extension};
use crate::ranges::{self, RangeRead, RangeReader};
use crate::{Error, Result};

/// Cells that are looked at to find the column of samples.
const LOOKED_AT: usize = 16;

/// Values that are read at once.
const BATCH: usize = 4096;

/// What several threads read from, each at its own place.
struct Shared {
    source: Arc<dyn RangeRead>,
    length: u64,
}

impl Length for Shared {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Shared {
    type T = RangeReader;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(RangeReader::new(self.source.clone(), start..self.length))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let left = self.length.saturating_sub(start);
        if length as u64 > left {
            return Err(ParquetError::EOF("the file is cut short".into()));
        }
        let bytes = ranges::read_all(self.source.as_ref(), start..start + length as u64)?;
        Ok(bytes.into())
    }
}

/// An open table.
pub(super) struct Table {
    reader: SerializedFileReader<Shared>,
    /// The column of encoded samples.
    bytes: usize,
    /// The column of their file names.
    path: Option<usize>,
    /// First row of each row group, and the number of rows.
    starts: Vec<usize>,
}

/// The reader panics on some damage instead of refusing it.
fn guarded<T>(read: impl FnOnce() -> ParquetResult<T>) -> ParquetResult<T> {
    let caught = catch_unwind(AssertUnwindSafe(read));
    caught.unwrap_or_else(|_| Err(ParquetError::General("the table is damaged".into())))
}

fn column_name(column: &ColumnDescriptor) -> String {
    column.path().string()
}

fn is_text(column: &ColumnDescriptor) -> bool {
    let logical = matches!(column.logical_type_ref(), Some(LogicalType::String));
    logical || column.converted_type() == ConvertedType::UTF8
}

pub(super) fn read(file: &Path, source: Arc<dyn RangeRead>, rule: SampleRule) -> Result<Contents> {
    let bad = |reason: String| {
        Error::path(file, reason, "is it a Parquet table with a column of encoded samples?")
    };
    let say = |e: ParquetError| bad(e.to_string().lines().next().unwrap_or_default().to_string());
    let length = source.length().map_err(|e| bad(e.to_string()))?;
    let reader = guarded(|| SerializedFileReader::new(Shared { source, length })).map_err(say)?;
    let meta = reader.metadata().clone();
    let mut starts = vec![0];
    for group in meta.row_groups() {
        let rows = usize::try_from(group.num_rows()).map_err(|e| bad(e.to_string()))?;
        starts.push(starts.last().copied().unwrap_or(0) + rows);
    }
    let schema = meta.file_metadata().schema_descr();
    let flat = |index: usize| schema.column(index).max_rep_level() == 0;
    let mut table = Table { reader, bytes: 0, path: None, starts };
    let candidates: Vec<usize> = (0..schema.num_columns())
        .filter(|&index| {
            let column = schema.column(index);
            flat(index) && column.physical_type() == Type::BYTE_ARRAY && !is_text(&column)
        })
        .collect();
    // The path beside the bytes.
    let beside = |bytes: usize| {
        let name = column_name(&schema.column(bytes));
        let path = format!("{}.path", name.strip_suffix(".bytes")?);
        (0..schema.num_columns()).find(|&i| column_name(&schema.column(i)) == path && flat(i))
    };
    let rows = table.starts.last().copied().unwrap_or(0);
    let holds_samples = |column: usize| {
        let cell = |row| table.cell(row, column).ok().flatten();
        (0..rows.min(LOOKED_AT)).any(|row| {
            let is_known = cell(row)
                .is_some_and(|cell| (rule.recognises)(&cell.data()[..cell.len().min(512)]));
            let name = beside(column).and_then(|path| table.cell(row, path).ok().flatten());
            let name = name.and_then(|name| Some(name.as_utf8().ok()?.to_string()));
            is_known || name.is_some_and(|name| has_extension(Path::new(&name), rule.extensions))
        })
    };
    let found = candidates.iter().copied().find(|&column| holds_samples(column));
    let Some(bytes) = found.or(candidates.first().copied()) else {
        let names: Vec<String> =
            (0..schema.num_columns()).map(|index| column_name(&schema.column(index))).collect();
        return Err(bad(format!("no column holds bytes; it has {}", names.join(", "))));
    };
    let path = beside(bytes);
    (table.bytes, table.path) = (bytes, path);

    let names = class_names(meta.file_metadata().key_value_metadata().map_or(&[][..], |all| all));
    let mut contents = Contents::default();
    let mut columns = Vec::new();
    for index in 0..schema.num_columns() {
        let column = schema.column(index);
        let name = column_name(&column);
        // A list is a group whose elements are the column.
        let name = match flat(index) {
            true => name.as_str(),
            false => name.split('.').next().unwrap_or_default(),
        };
        let classes = names.iter().find(|(feature, _)| *feature == name).map(|(_, names)| names);
        let kind = if flat(index) { LabelKind::Classes } else { LabelKind::Tags };
        let of_class = || classes.is_some().then(|| LabelColumn { name: name.into(), kind });
        let Some(found) = LabelColumn::of_field(name).or_else(of_class) else { continue };
        if index == bytes || Some(index) == path || column.max_rep_level() > 1 {
            continue;
        }
        let words = guarded(|| table.words(index, found.kind)).map_err(say)?;
        let Some(words) = words else { continue };
        let named = |id: &str| match classes {
            Some(names) => names.get(id.parse::<usize>().ok()?).cloned(),
            None => Some(id.to_string()),
        };
        let word =
            |word: Option<String>| {
                let word = word.filter(|word| !word.is_empty())?;
                if !word.ends_with(TAG_SEPARATOR) {
                    return named(&word);
                }
                let parts: Option<Vec<String>> =
                    word.split_terminator(TAG_SEPARATOR).skip(1).map(named).collect();
                Some(parts?.iter().fold(TAG_SEPARATOR.to_string(), |all, part| {
                    format!("{all}{part}{TAG_SEPARATOR}")
                }))
            };
        contents.columns.push(found);
        columns.push(words.into_iter().map(word).collect::<Vec<_>>());
    }
    contents.entries = (0..rows)
        .map(|row| Entry {
            name: row.to_string(),
            bytes: 0..0,
            words: columns.iter().map(|words| words.get(row).cloned().flatten()).collect(),
        })
        .collect();
    contents.chunks = table.starts.windows(2).map(|pair| pair[0]..pair[1]).collect();
    contents.table = Some(table);
    Ok(contents)
}

/// Names of classes by feature, from the metadata that `datasets` writes.
fn class_names(all: &[parquet::file::metadata::KeyValue]) -> Vec<(String, Vec<String>)> {
    let text = all.iter().find(|pair| pair.key == "huggingface").and_then(|p| p.value.as_deref());
    let Some(Ok(meta)) = text.map(serde_json::from_str::<Value>) else { return Vec::new() };
    let Some(features) = meta["info"]["features"].as_object() else { return Vec::new() };
    let names = |(feature, meta): (&String, &Value)| {
        // A list has its elements' type within.
        let meta = meta.get("feature").unwrap_or(meta);
        let names = meta["names"].as_array()?;
        let names = names.iter().map(|name| name.as_str().map(String::from));
        Some((feature.clone(), names.collect::<Option<Vec<_>>>()?))
    };
    features.iter().filter_map(names).collect()
}

impl Table {
    /// One cell, `None` where it is null. Reads the headers of the pages before it and one page.
    fn cell(&self, row: usize, column: usize) -> ParquetResult<Option<ByteArray>> {
        guarded(|| self.read_cell(row, column))
    }

    fn read_cell(&self, row: usize, column: usize) -> ParquetResult<Option<ByteArray>> {
        let group = self.starts.partition_point(|&start| start <= row).saturating_sub(1);
        let group_reader = self.reader.get_row_group(group)?;
        let ColumnReader::ByteArrayColumnReader(mut reader) =
            group_reader.get_column_reader(column)?
        else {
            return Err(ParquetError::General("the column holds no bytes".into()));
        };
        reader.skip_records(row - self.starts[group])?;
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        reader.read_records(1, Some(&mut levels), None, &mut values)?;
        Ok(values.pop())
    }

    /// All values of a column of numbers or text as words, the elements of a list after and between separators; `None`
    /// for other types. Negative classes are none.
    fn words(&self, column: usize, kind: LabelKind) -> ParquetResult<Option<Vec<Option<String>>>> {
        let is_number = kind == LabelKind::Numbers;
        let mut words: Vec<Option<String>> = Vec::new();
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group)?;
            let rows = group.metadata().num_rows();
            let described = group.metadata().column(column).column_descr();
            let (max, is_list) = (described.max_def_level(), described.max_rep_level() > 0);
            let rows = usize::try_from(rows).unwrap_or(0);
            let before = words.len();
            /// Values with the nulls between them.
            macro_rules! all {
                ($reader:expr, $word:expr) => {{
                    let (mut values, mut defined, mut repeated) =
                        (Vec::new(), Vec::new(), Vec::new());
                    while words.len() < before + rows {
                        let (records, ..) = $reader.read_records(
                            BATCH,
                            (max > 0).then_some(&mut defined),
                            is_list.then_some(&mut repeated),
                            &mut values,
                        )?;
                        if records == 0 {
                            break;
                        }
                        let mut present = values.drain(..);
                        for i in 0..if is_list { repeated.len() } else { records } {
                            let level = defined.get(i).copied().unwrap_or(max);
                            let value = if level == max { present.next() } else { None };
                            let word: Option<String> = value.and_then($word);
                            if !is_list {
                                words.push(word);
                                continue;
                            }
                            if repeated[i] == 0 {
                                words.push((level > 0).then(|| TAG_SEPARATOR.to_string()));
                            }
                            if let (Some(Some(list)), Some(word)) = (words.last_mut(), word) {
                                list.push_str(&word);
                                list.push(TAG_SEPARATOR);
                            }
                        }
                        drop(present);
                        defined.clear();
                        repeated.clear();
                    }
                }};
            }
            match group.get_column_reader(column)? {
                ColumnReader::Int64ColumnReader(mut reader) => {
                    all!(reader, |n: i64| (n >= 0 || is_number).then(|| n.to_string()));
                }
                ColumnReader::Int32ColumnReader(mut reader) => {
                    all!(reader, |n: i32| (n >= 0 || is_number).then(|| n.to_string()));
                }
                ColumnReader::FloatColumnReader(mut reader) => {
                    all!(reader, |v: f32| is_number.then(|| v.to_string()));
                }
                ColumnReader::DoubleColumnReader(mut reader) => {
                    all!(reader, |v: f64| is_number.then(|| v.to_string()));
                }
                ColumnReader::BoolColumnReader(mut reader) => {
                    all!(reader, |b: bool| Some(b.to_string()));
                }
                ColumnReader::ByteArrayColumnReader(mut reader) => {
                    all!(reader, |bytes: ByteArray| Some(bytes.as_utf8().ok()?.to_string()));
                }
                _ => return Ok(None),
            }
            words.resize(before + rows, None);
        }
        Ok(Some(words))
    }

    /// The sample of a row, with the extension of its file name.
    pub(super) fn blob(&self, name: String, row: usize) -> Result<Blob<'static>> {
        let refused = |e: ParquetError| {
            let reason = e.to_string().lines().next().unwrap_or_default().to_string();
            Error::sample(name.clone(), reason)
        };
        let bytes = self.cell(row, self.bytes).map_err(refused)?;
        let bytes = bytes.ok_or_else(|| Error::sample(name.clone(), "its cell has no bytes"))?;
        let path = self.path.and_then(|path| self.cell(row, path).ok().flatten());
        let path = path.and_then(|path| Some(path.as_utf8().ok()?.to_string()));
        let extension = path.as_deref().and_then(|path| Path::new(path).extension()?.to_str());
        let named = extension.map_or(name.clone(), |extension| format!("{name}.{extension}"));
        Ok(Blob::bytes(named, bytes.data().to_vec()))
    }
}
