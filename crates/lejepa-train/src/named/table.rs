//! Parquet files of embeddings.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use super::NamedEmbeddings;
use crate::{Result, TrainError};

/// Rows of a group, which readers take into memory together.
const GROUP: usize = 16_384;

pub(super) fn parquet(all: &NamedEmbeddings, file: &Path) -> Result<Vec<u8>> {
    written(all).map_err(|error| {
        let source = std::io::Error::other(error.to_string());
        TrainError::io("write the table", file)(source)
    })
}

fn words(name: &str) -> ParquetResult<TypePtr> {
    let column = Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(Some(LogicalType::String));
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
    let mut fields = vec![words("path")?, list()?];
    for labels in &all.labels {
        // Readers take the first of two columns of one name.
        let taken = ["path", "embedding"].contains(&labels.name.as_str());
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
    let mut out = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut out, schema, Arc::new(properties))?;
    for start in (0..all.names.len()).step_by(GROUP) {
        let rows = start..all.names.len().min(start + GROUP);
        let mut group = writer.next_row_group()?;
        let names = all.names[rows.clone()].iter().map(|name| Some(name.as_str()));
        write_words(&mut group, names)?;
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
    writer.close()?;
    Ok(out)
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
