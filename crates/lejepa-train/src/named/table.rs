//! Parquet files of embeddings.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::record::Field;
use parquet::schema::types::{Type, TypePtr};

use super::{NamedEmbeddings, NamedLabels, NamedNumbers, PLACES};
use crate::{Result, TrainError};

/// Rows of a group, which readers take into memory together.
const GROUP: usize = 16_384;

pub(super) fn parquet(all: &NamedEmbeddings, file: &Path) -> Result<Vec<u8>> {
    written(all).map_err(|error| failed(file, &error))
}

fn words(name: &str) -> ParquetResult<TypePtr> {
    let column = Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(Some(LogicalType::String));
    Ok(Arc::new(column.build()?))
}

fn numbers(name: &str) -> ParquetResult<TypePtr> {
    let column =
        Type::primitive_type_builder(name, Physical::DOUBLE).with_repetition(Repetition::REQUIRED);
    Ok(Arc::new(column.build()?))
}

/// `embedding` is a list as all readers know it: a group of three levels.
fn list() -> ParquetResult<TypePtr> {
    let element = Type::primitive_type_builder("element", Physical::FLOAT)
        .with_repetition(Repetition::REQUIRED)
        .build()?;
    let values = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(element)])
        .build()?;
    let list = Type::group_type_builder("embedding")
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(LogicalType::List))
        .with_fields(vec![Arc::new(values)])
        .build()?;
    Ok(Arc::new(list))
}

fn written(all: &NamedEmbeddings) -> ParquetResult<Vec<u8>> {
    let mut out = Vec::new();
    let mut writer = opened(&mut out, all)?;
    append(&mut writer, all)?;
    writer.close()?;
    Ok(out)
}

/// A writer of tables with the columns of `first`.
fn opened<W: Write + Send>(
    out: W,
    first: &NamedEmbeddings,
) -> ParquetResult<SerializedFileWriter<W>> {
    let mut fields = vec![words("path")?];
    for place in &first.places {
        fields.push(numbers(&place.name)?);
    }
    fields.push(list()?);
    for labels in &first.labels {
        // Readers take the first of two columns of one name.
        let name = labels.name.as_str();
        let taken = ["path", "embedding"].contains(&name) || PLACES.contains(&name);
        fields.push(words(&if taken {
            format!("label_{}", labels.name)
        } else {
            labels.name.clone()
        })?);
    }
    let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("lejepa ", env!("CARGO_PKG_VERSION")).into())
        .build();
    SerializedFileWriter::new(out, schema, Arc::new(properties))
}

fn append<W: Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    all: &NamedEmbeddings,
) -> ParquetResult<()> {
    for start in (0..all.names.len()).step_by(GROUP) {
        let rows = start..all.names.len().min(start + GROUP);
        let mut group = writer.next_row_group()?;
        let names = all.names[rows.clone()].iter().map(|name| Some(name.as_str()));
        write_words(&mut group, names)?;
        for place in &all.places {
            if let Some(mut column) = group.next_column()? {
                let values = &place.values[rows.clone()];
                column.typed::<DoubleType>().write_batch(values, None, None)?;
                column.close()?;
            }
        }
        if let Some(mut column) = group.next_column()? {
            let values = &all.values[rows.start * all.dim..rows.end * all.dim];
            let repeated: Vec<i16> =
                (0..values.len()).map(|i| i16::from(i % all.dim != 0)).collect();
            let defined = vec![1; values.len()];
            column.typed::<FloatType>().write_batch(values, Some(&defined), Some(&repeated))?;
            column.close()?;
        }
        for labels in &all.labels {
            write_words(&mut group, labels.words[rows.clone()].iter().map(Option::as_deref))?;
        }
        group.close()?;
    }
    Ok(())
}

/// A table that parts are appended to.
pub(super) struct TableWriter {
    writer: SerializedFileWriter<std::fs::File>,
    file: std::path::PathBuf,
}

impl TableWriter {
    pub(super) fn new(out: std::fs::File, first: &NamedEmbeddings, file: &Path) -> Result<Self> {
        let writer = opened(out, first).map_err(|e| failed(file, &e))?;
        Ok(Self { writer, file: file.to_path_buf() })
    }

    pub(super) fn push(&mut self, part: &NamedEmbeddings) -> Result<()> {
        append(&mut self.writer, part).map_err(|e| failed(&self.file, &e))
    }

    pub(super) fn finish(self) -> Result<()> {
        let file = self.writer.into_inner().map_err(|e| failed(&self.file, &e))?;
        file.sync_all().map_err(TrainError::io("write", &self.file))
    }
}

fn failed(file: &Path, error: &ParquetError) -> TrainError {
    let source = std::io::Error::other(error.to_string());
    TrainError::io("write the table", file)(source)
}

/// The next column, of words.
fn write_words<'w>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    words: impl Iterator<Item = Option<&'w str>>,
) -> ParquetResult<()> {
    let words: Vec<Option<&str>> = words.collect();
    let levels: Vec<i16> = words.iter().map(|word| i16::from(word.is_some())).collect();
    let words: Vec<ByteArray> = words.into_iter().flatten().map(ByteArray::from).collect();
    if let Some(mut column) = group.next_column()? {
        column.typed::<ByteArrayType>().write_batch(&words, Some(&levels), None)?;
        column.close()?;
    }
    Ok(())
}

/// Reads a table of [`parquet`].
pub(super) fn read(file: std::fs::File) -> std::result::Result<NamedEmbeddings, String> {
    let one_line = |e: ParquetError| e.to_string().lines().next().unwrap_or_default().to_string();
    let reader = SerializedFileReader::new(file).map_err(one_line)?;
    let mut out = NamedEmbeddings {
        dim: 0,
        names: Vec::new(),
        values: Vec::new(),
        places: Vec::new(),
        labels: Vec::new(),
        skipped: Vec::new(),
    };
    for row in reader.get_row_iter(None).map_err(one_line)? {
        let row = row.map_err(one_line)?;
        let is_first = out.names.is_empty();
        let (mut name, mut embedding, mut labels) = (None, None, Vec::new());
        let mut places = Vec::new();
        for (column, field) in row.get_column_iter() {
            match (column.as_str(), field) {
                ("path", Field::Str(path)) => name = Some(path.clone()),
                (name, Field::Double(value)) if PLACES.contains(&name) => {
                    places.push((name.to_string(), *value));
                }
                ("embedding", Field::ListInternal(list)) => {
                    let values = list.elements().iter().map(|v| match v {
                        Field::Float(v) => Some(*v),
                        _ => None,
                    });
                    embedding = values.collect::<Option<Vec<f32>>>();
                }
                (name, Field::Str(word)) => labels.push((name.to_string(), Some(word.clone()))),
                (name, Field::Null) => labels.push((name.to_string(), None)),
                _ => {}
            }
        }
        let (Some(name), Some(embedding)) = (name, embedding) else {
            return Err("no table of embeddings: it has no columns path and embedding".into());
        };
        if is_first {
            out.dim = embedding.len();
            let column =
                |(name, _): &(String, _)| NamedLabels { name: name.clone(), words: Vec::new() };
            out.labels = labels.iter().map(column).collect();
            let place =
                |(name, _): &(String, _)| NamedNumbers { name: name.clone(), values: Vec::new() };
            out.places = places.iter().map(place).collect();
        }
        let counts = (embedding.len(), labels.len(), places.len());
        if counts != (out.dim, out.labels.len(), out.places.len()) {
            return Err(format!("row {} has another width than the first", out.names.len()));
        }
        out.names.push(name);
        for (column, (_, value)) in out.places.iter_mut().zip(places) {
            column.values.push(value);
        }
        out.values.extend(embedding);
        for (column, (_, word)) in out.labels.iter_mut().zip(labels) {
            column.words.push(word);
        }
    }
    Ok(out)
}
