//! Reading files of embeddings back.

use std::path::Path;

use npyz::{NpyFile, Order};

use super::{NamedEmbeddings, NamedLabels, NamedNumbers, PLACES};
use crate::{Result, TrainError};

impl NamedEmbeddings {
    /// Reads what [`NamedEmbeddings::write`] wrote, or a folder of tables. Of a `.npy` the names are those of the
    /// `.paths.txt` beside it, or else numbers.
    ///
    /// # Errors
    /// [`TrainError::Io`]; [`TrainError::Corrupt`] for anything else.
    pub fn read(file: &Path) -> Result<Self> {
        let corrupt = |reason: String| TrainError::Corrupt { path: file.to_path_buf(), reason };
        let ending = file.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        if file.is_dir() {
            return folder(file);
        }
        match ending.as_str() {
            "npy" => {
                let bytes = std::fs::read(file).map_err(TrainError::io("read", file))?;
                let names = std::fs::read_to_string(file.with_extension("paths.txt"));
                npy(&bytes, names.ok()).map_err(corrupt)
            }
            "csv" => {
                let text = std::fs::read_to_string(file).map_err(TrainError::io("read", file))?;
                csv(&text).map_err(corrupt)
            }
            #[cfg(feature = "parquet")]
            "parquet" => {
                let opened = std::fs::File::open(file).map_err(TrainError::io("read", file))?;
                let read = crate::guard::catch_panics(|| super::table::read(opened));
                read.and_then(|table| table).map_err(corrupt)
            }
            _ => Err(corrupt(
                "no file of embeddings: .npy, .csv or .parquet of `lejepa embed`".into(),
            )),
        }
    }
}

/// The rows of another table below those of the first, if they have the same columns.
fn append(all: &mut NamedEmbeddings, more: NamedEmbeddings) -> Result<(), String> {
    fn columns(of: &NamedEmbeddings) -> (usize, Vec<&str>) {
        let labels = of.labels.iter().map(|column| column.name.as_str());
        (of.dim, of.places.iter().map(|column| column.name.as_str()).chain(labels).collect())
    }
    if columns(all) != columns(&more) {
        return Err("its columns are not those of the tables beside it".into());
    }
    all.names.extend(more.names);
    all.values.extend(more.values);
    for (column, more) in all.places.iter_mut().zip(more.places) {
        column.values.extend(more.values);
    }
    for (column, more) in all.labels.iter_mut().zip(more.labels) {
        column.words.extend(more.words);
    }
    Ok(())
}

/// All tables of a folder.
fn folder(folder: &Path) -> Result<NamedEmbeddings> {
    let mut all: Option<NamedEmbeddings> = None;
    for file in super::hub::shards(folder) {
        let one = NamedEmbeddings::read(&file)?;
        match &mut all {
            Some(all) => {
                append(all, one).map_err(|reason| TrainError::Corrupt { path: file, reason })?;
            }
            none => *none = Some(one),
        }
    }
    let reason = "no folder of embeddings: it has no data/*.parquet".to_string();
    all.ok_or(TrainError::Corrupt { path: folder.to_path_buf(), reason })
}

/// A matrix of floats.
fn npy(bytes: &[u8], names: Option<String>) -> Result<NamedEmbeddings, String> {
    let broken = |e: &dyn std::fmt::Display| format!("no NumPy file of a matrix of floats ({e})");
    let file = NpyFile::new(bytes).map_err(|e| broken(&e))?;
    let (shape, order) = (file.shape().to_vec(), file.order());
    let [rows, dim] = shape[..] else { return Err(broken(&format!("its shape is {shape:?}"))) };
    let (rows, dim) = (rows as usize, dim as usize);
    let narrow = |values: std::io::Result<Vec<f64>>| {
        values.map(|values| values.into_iter().map(|v| v as f32).collect::<Vec<f32>>())
    };
    let values = match file.try_data::<f32>() {
        Ok(values) => values.collect(),
        Err(file) => narrow(file.into_vec::<f64>()),
    };
    let mut values: Vec<f32> = values.map_err(|e| broken(&e))?;
    if dim == 0 || rows.checked_mul(dim) != Some(values.len()) {
        return Err(broken(&format!("its shape is {shape:?}")));
    }
    if order == Order::Fortran {
        let columns = values;
        values = (0..rows * dim).map(|i| columns[i % dim * rows + i / dim]).collect();
    }
    let names: Vec<String> = match names {
        Some(text) => text.lines().map(String::from).collect(),
        None => (0..rows).map(|row| row.to_string()).collect(),
    };
    if names.len() != rows {
        return Err(format!("{rows} rows, but {} names in the .paths.txt beside it", names.len()));
    }
    let (labels, skipped, places) = (Vec::new(), Vec::new(), Vec::new());
    Ok(NamedEmbeddings { dim, names, values, places, labels, skipped })
}

fn csv(text: &str) -> Result<NamedEmbeddings, String> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| e.to_string())?.clone();
    let labels: Vec<usize> =
        (0..header.len()).filter(|at| header[*at].starts_with("label_")).collect();
    let is_value = |at: &usize| {
        header[*at]
            .strip_prefix('e')
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let columns: Vec<usize> = (0..header.len()).filter(is_value).collect();
    let places: Vec<usize> =
        (1..header.len()).filter(|at| PLACES.contains(&&header[*at])).collect();
    if header.get(0) != Some("path") || columns.is_empty() {
        return Err("no file of embeddings: its columns are not path, e0, e1, ...".into());
    }
    let mut out = NamedEmbeddings {
        dim: columns.len(),
        names: Vec::new(),
        values: Vec::new(),
        places: places
            .iter()
            .map(|at| NamedNumbers { name: header[*at].to_string(), values: Vec::new() })
            .collect(),
        labels: labels
            .iter()
            .map(|at| NamedLabels {
                name: header[*at]["label_".len()..].to_string(),
                words: Vec::new(),
            })
            .collect(),
        skipped: Vec::new(),
    };
    for record in reader.records() {
        let record = record.map_err(|e| e.to_string())?;
        out.names.push(record[0].to_string());
        for (column, at) in out.places.iter_mut().zip(&places) {
            let value = record[*at].parse();
            column.values.push(value.map_err(|_| format!("a row without {}", column.name))?);
        }
        for (column, at) in out.labels.iter_mut().zip(&labels) {
            column.words.push(Some(record[*at].to_string()).filter(|word| !word.is_empty()));
        }
        for at in &columns {
            let number = record[*at].parse();
            out.values.push(
                number.map_err(|_| format!("`{}` is no number", record[*at].escape_debug()))?,
            );
        }
    }
    Ok(out)
}
