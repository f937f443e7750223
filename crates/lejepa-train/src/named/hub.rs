//! Embeddings as a folder that model hubs read as a data set: `data/SPLIT-00000-of-00001.parquet` and a card with their
//! names, after <https://huggingface.co/docs/hub/datasets-manual-configuration>.

use std::fs;
use std::path::{Path, PathBuf};

use lejepa_core::Split;

use crate::resolved::Resolved;
use crate::rundir::write_atomically;
use crate::{Result, TrainError};

const DATA: &str = "data";

fn word(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Test => "test",
    }
}

/// The table of a split.
pub(crate) fn shard(folder: &Path, split: Split) -> PathBuf {
    folder.join(DATA).join(format!("{}-00000-of-00001.parquet", word(split)))
}

/// The tables of a folder, in order of their names; none where it is no such folder.
pub(super) fn shards(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join(DATA)).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|file| file.extension().is_some_and(|e| e == "parquet"))
        .collect();
    files.sort();
    files
}

/// An empty folder for tables.
pub(crate) fn begin(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(TrainError::io("remove", folder))?;
    }
    let data = folder.join(DATA);
    fs::create_dir_all(&data).map_err(TrainError::io("create", &data))
}

/// Writes the card of a folder whose tables are whole, and gives it its name. `rows` are those for training and for tests.
pub(crate) fn finish(
    made: &Path,
    folder: &Path,
    resolved: &Resolved,
    dim: usize,
    rows: [usize; 2],
) -> Result<()> {
    let splits: Vec<(&str, usize)> = [Split::Train, Split::Test]
        .into_iter()
        .map(word)
        .zip(rows)
        .filter(|(_, rows)| *rows > 0)
        .collect();
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let card = card(&name, resolved, dim, &splits);
    write_atomically(&made.join("README.md"), card.as_bytes())?;
    fs::rename(made, folder).map_err(TrainError::io("create", folder))
}

fn card(name: &str, resolved: &Resolved, dim: usize, splits: &[(&str, usize)]) -> String {
    let files = splits
        .iter()
        .map(|(split, _)| format!("  - split: {split}\n    path: {DATA}/{split}-*\n"))
        .collect::<String>();
    let rows: Vec<String> =
        splits.iter().map(|(split, rows)| format!("{rows} rows of `{split}`")).collect();
    format!(
        "---\nconfigs:\n- config_name: default\n  data_files:\n{files}tags:\n- embeddings\n- lejepa\n---\n\n\
         # Embeddings of {modality} samples\n\n\
         {rows}, each with a `path` and an `embedding` of {dim} numbers, by `{encoder}`, which was pretrained without \
         labels with LeJEPA (arXiv 2511.08544) by lejepa {version}.\n\n\
         ```python\nfrom datasets import load_dataset\n\nrows = load_dataset(\"{name}\", split=\"{first}\")\n```\n",
        modality = resolved.modality().name(),
        rows = rows.join(", "),
        encoder = resolved.encoder_names().join(", "),
        version = env!("CARGO_PKG_VERSION"),
        first = splits.first().map_or("train", |(split, _)| *split),
    )
}
