//! Checkpoints: a folder each, written beside, synced, then renamed; `latest` names a whole one.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use burn::tensor::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::rundir::{RunDir, sync_folder, write_atomically, write_synced};
use crate::{Result, TrainError};

/// What a run needs beside weights and moments to go on. Random streams need nothing: they are
/// addressed by the seed and the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Format of the checkpoint folder.
    pub version: u32,
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// The run's seed.
    pub seed: u64,
}

/// The format this program writes.
pub const VERSION: u32 = 1;

const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";

/// Saves a checkpoint of `state.step` and removes all but the newest `keep`.
///
/// # Errors
/// [`TrainError::Io`]; the checkpoints before are intact then.
pub fn save(
    run: &RunDir,
    model: &Model,
    optimizer: &ModuleOptimizer,
    state: &State,
    keep: usize,
) -> Result<PathBuf> {
    let all = run.checkpoints();
    let name = format!("step-{:08}", state.step);
    let (temporary, target) = (all.join(format!(".{name}.tmp")), all.join(&name));
    let _ = fs::remove_dir_all(&temporary);
    fs::create_dir_all(&temporary).map_err(TrainError::io("create", &temporary))?;
    let written = || -> Result<()> {
        // `valid` first: batch norm holds back its last update until somebody asks for it.
        let weights = model.valid().into_record().into_bytes();
        write_bytes(&temporary.join(MODEL), weights)?;
        write_bytes(&temporary.join(OPTIMIZER), optimizer.into_bytes())?;
        let json = serde_json::to_vec_pretty(state)
            .map_err(|e| TrainError::Corrupt { path: target.clone(), reason: e.to_string() })?;
        write_synced(&temporary.join(STATE), &json)?;
        if target.exists() {
            fs::remove_dir_all(&target).map_err(TrainError::io("replace", &target))?;
        }
        fs::rename(&temporary, &target).map_err(TrainError::io("write", &target))?;
        sync_folder(&all)?;
        write_atomically(&all.join("latest"), name.as_bytes())
    };
    written().inspect_err(|_| {
        let _ = fs::remove_dir_all(&temporary);
    })?;
    for old in steps(run)?.iter().rev().skip(keep.max(1)) {
        let path = all.join(format!("step-{old:08}"));
        fs::remove_dir_all(&path).map_err(TrainError::io("remove", &path))?;
    }
    Ok(target)
}

fn write_bytes(file: &Path, bytes: Result<Bytes, burn::store::RecordError>) -> Result<()> {
    let bytes = bytes
        .map_err(|e| TrainError::Corrupt { path: file.to_path_buf(), reason: e.to_string() })?;
    write_synced(file, &bytes)
}

/// Steps of the checkpoints of a run, ascending.
///
/// # Errors
/// [`TrainError::Io`] where the folder cannot be read.
pub fn steps(run: &RunDir) -> Result<Vec<u64>> {
    let all = run.checkpoints();
    let entries = match fs::read_dir(&all) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(TrainError::io("read", &all)(e)),
    };
    let mut steps: Vec<u64> = entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
        .collect();
    steps.sort_unstable();
    Ok(steps)
}

/// The folder of the newest checkpoint, which `latest` names.
///
/// # Errors
/// [`TrainError::NotARun`] where nothing has been saved yet.
pub fn latest(run: &RunDir) -> Result<PathBuf> {
    let all = run.checkpoints();
    let named = fs::read_to_string(all.join("latest")).ok().map(|n| all.join(n.trim()));
    if let Some(path) = named.filter(|p| p.join(STATE).is_file()) {
        return Ok(path);
    }
    let newest = steps(run)?.last().map(|s| all.join(format!("step-{s:08}")));
    newest.ok_or_else(|| TrainError::NotARun {
        path: run.path().to_path_buf(),
        reason: "it has no checkpoint".into(),
    })
}

/// Reads the state of a checkpoint.
///
/// # Errors
/// [`TrainError::Io`], or [`TrainError::Corrupt`] for another format.
pub fn load_state(checkpoint: &Path) -> Result<State> {
    let file = checkpoint.join(STATE);
    let text = fs::read(&file).map_err(TrainError::io("read", &file))?;
    let corrupt = |reason: String| TrainError::Corrupt { path: file.clone(), reason };
    let state: State = serde_json::from_slice(&text).map_err(|e| corrupt(e.to_string()))?;
    if state.version != VERSION {
        return Err(corrupt(format!("format {}, this program reads {VERSION}", state.version)));
    }
    Ok(state)
}

/// Loads the weights of a checkpoint into `model`.
///
/// # Errors
/// [`TrainError::Corrupt`] where the file is damaged or of another architecture.
pub fn load_model(checkpoint: &Path, model: Model) -> Result<Model> {
    let file = checkpoint.join(MODEL);
    let corrupt = |reason: String| TrainError::Corrupt { path: file.clone(), reason };
    let bytes = fs::read(&file).map_err(TrainError::io("read", &file))?;
    let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes))
        .map_err(|e| corrupt(e.to_string()))?;
    model.try_load_record(record).map_err(|e| corrupt(e.to_string()))
}

/// Loads the moments of a checkpoint into `optimizer`.
///
/// # Errors
/// [`TrainError::Corrupt`] where the file is damaged.
pub fn load_optimizer(checkpoint: &Path, optimizer: ModuleOptimizer) -> Result<ModuleOptimizer> {
    let file = checkpoint.join(OPTIMIZER);
    let bytes = fs::read(&file).map_err(TrainError::io("read", &file))?;
    optimizer
        .from_bytes(Bytes::from_bytes_vec(bytes))
        .map_err(|e| TrainError::Corrupt { path: file.clone(), reason: e.to_string() })
}
