//! Checkpoints: one folder each, written under a temporary name, synced, then renamed; `latest` and `best`
//! point to complete ones. Every file is listed with its SHA-256 in `SHA256SUMS`, which `sha256sum -c` reads too.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use burn::tensor::Bytes;
use lejepa_core::Table;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::CheckpointConfig;
use crate::guard::catch_panics;
use crate::model::Model;
use crate::rundir::{RunDir, sync_folder, write_atomically, write_synced};
use crate::skipped::Skipped;
use crate::{Result, TrainError};

/// Everything but weights and moments that a run needs to continue as if it had never stopped.
///
/// Random streams need nothing: shuffling, views, directions, dropout and replacements are all
/// addressed by the seed and the step (see `lejepa_core::Purpose`), and so is the place in the data.
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
    /// The configuration it was trained with.
    pub config: Table,
    /// What the samples were, to notice data that changed.
    pub data: Fingerprint,
    /// Samples that the scan before training left out.
    pub scanned_out: Vec<Skipped>,
    /// Samples that turned bad during training and were replaced.
    pub turned_bad: Vec<Skipped>,
    /// Whether a callback ended the run here.
    pub ended: bool,
}

/// What goes into a checkpoint.
#[non_exhaustive]
pub struct Contents<'a> {
    /// The weights.
    pub model: &'a Model,
    /// The optimizer with its moments.
    pub optimizer: &'a ModuleOptimizer,
    /// All else.
    pub state: &'a State,
    /// States of callbacks by name.
    pub callbacks: Vec<(String, Vec<u8>)>,
    /// Weights to evaluate in place of the trained ones.
    pub evaluated: Option<Model>,
    /// Checkpoints that must not be removed, each with the name of the marker that points to it.
    pub pinned: Vec<(String, u64)>,
}

impl<'a> Contents<'a> {
    /// A checkpoint without callbacks.
    pub fn new(model: &'a Model, optimizer: &'a ModuleOptimizer, state: &'a State) -> Self {
        let (callbacks, pinned) = (Vec::new(), Vec::new());
        Self { model, optimizer, state, callbacks, evaluated: None, pinned }
    }
}

/// Number and names of the samples that are trained on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// How many there are.
    pub samples: usize,
    /// SHA-256 of their names, in order.
    pub names: String,
}

impl Fingerprint {
    /// The fingerprint of samples of these names.
    ///
    /// ```
    /// use lejepa_train::checkpoint::Fingerprint;
    ///
    /// let of = |names: &[&str]| Fingerprint::of(names.iter().map(|n| n.to_string()));
    /// assert_eq!(of(&["a", "b"]).samples, 2);
    /// assert_ne!(of(&["a", "b"]), of(&["a", "c"]));
    /// ```
    pub fn of(names: impl Iterator<Item = String>) -> Self {
        let mut hash = Sha256::new();
        let mut samples = 0;
        for name in names {
            hash.update(name.as_bytes());
            hash.update([0]);
            samples += 1;
        }
        Self { samples, names: hex(&hash.finalize()) }
    }
}

/// The format this program writes.
pub const VERSION: u32 = 3;

const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const EVALUATED: &str = "evaluated.bpk";
const CALLBACKS: &str = "callbacks";
const STATE: &str = "state.json";
const SUMS: &str = "SHA256SUMS";

/// Saves a checkpoint after step `contents.state.step`, and removes those that neither `config.keep` nor
/// a pin keeps.
///
/// # Errors
/// [`TrainError::Io`]; the checkpoints before are intact then.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
#[doc = include_str!("doc/run.txt")]
/// use lejepa_train::checkpoint;
///
/// let learner = resolved.learner(&Device::flex())?;
/// let latest = checkpoint::latest(&run)?;
/// let (model, optimizer) = learner.into_parts();
/// let model = checkpoint::load_weights(&latest.join("model.bpk"), model)?;
/// let optimizer = checkpoint::load_optimizer(&latest, optimizer)?;
/// let text = std::fs::read(latest.join("state.json"))?;
/// let state = checkpoint::State { step: 5, ..checkpoint::parse_state(&text)? };
/// let contents = checkpoint::Contents::new(&model, &optimizer, &state);
/// let saved = checkpoint::save(&run, &contents, &resolved.settings().checkpoint)?;
/// assert_eq!(checkpoint::newest_whole(&run)?.0, saved);
/// // One that is damaged is named, and the one before it is taken.
/// std::fs::write(saved.join("state.json"), "{}")?;
/// let (whole, damaged) = checkpoint::newest_whole(&run)?;
/// assert_eq!((whole, damaged.len()), (latest, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn save(run: &RunDir, contents: &Contents<'_>, config: &CheckpointConfig) -> Result<PathBuf> {
    let all = run.checkpoints();
    let state = contents.state;
    let name = name(state.step);
    let (temporary, target) = (all.join(format!(".{name}.tmp")), all.join(&name));
    let corrupt =
        |file: &str, reason: String| TrainError::Corrupt { path: target.join(file), reason };
    let record = |file: &str, bytes: Result<Bytes, burn::store::RecordError>| {
        bytes.map_err(|e| corrupt(file, e.to_string()))
    };
    // `valid` first: batch norm holds back its last update until somebody asks for it.
    let weights = |file, model: &Model| record(file, model.valid().into_record().into_bytes());
    let _ = fs::remove_dir_all(&temporary);
    fs::create_dir_all(&temporary).map_err(TrainError::io("create", &temporary))?;
    let written = || -> Result<()> {
        let mut sums = String::new();
        let mut write = |file: &str, content: &[u8]| {
            sums += &format!("{}  {file}\n", hex(&Sha256::digest(content)));
            write_synced(&temporary.join(file), content)
        };
        write(MODEL, &weights(MODEL, contents.model)?)?;
        write(OPTIMIZER, &record(OPTIMIZER, contents.optimizer.into_bytes())?)?;
        if let Some(model) = &contents.evaluated {
            write(EVALUATED, &weights(EVALUATED, model)?)?;
        }
        if !contents.callbacks.is_empty() {
            let folder = temporary.join(CALLBACKS);
            fs::create_dir_all(&folder).map_err(TrainError::io("create", &folder))?;
            for (callback, state) in &contents.callbacks {
                write(&format!("{CALLBACKS}/{callback}"), state)?;
            }
            sync_folder(&folder)?;
        }
        let json = serde_json::to_vec_pretty(state).map_err(|e| corrupt(STATE, e.to_string()))?;
        write(STATE, &json)?;
        write_synced(&temporary.join(SUMS), sums.as_bytes())?;
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
    // Those of earlier checkpoints too: a crash may have come between a checkpoint and its marker.
    for (marker, step) in contents.pinned.iter().filter(|(_, step)| path(run, *step).is_dir()) {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if marker == "latest" || marker.is_empty() || !marker.chars().all(plain) {
            let reason = format!("`{marker}` cannot be the marker of a checkpoint");
            return Err(lejepa_core::Error::bad_value("callbacks", reason).into());
        }
        write_atomically(&all.join(marker), self::name(*step).as_bytes())?;
    }
    let pinned = |step: &u64| contents.pinned.iter().any(|(_, pinned)| pinned == step);
    let (before, after): (Vec<u64>, Vec<u64>) =
        steps(run)?.into_iter().partition(|step| *step <= state.step);
    // Later ones were damaged, or the run would have gone on from them.
    let old = before.into_iter().rev().skip(config.keep.max(1)).filter(|s| !pinned(s));
    for old in old.chain(after) {
        let path = all.join(self::name(old));
        fs::remove_dir_all(&path).map_err(TrainError::io("remove", &path))?;
    }
    Ok(target)
}

fn name(step: u64) -> String {
    format!("step-{step:08}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Steps of the checkpoints of a run, ascending.
///
/// # Errors
/// [`TrainError::Io`] where the folder cannot be read.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
#[doc = include_str!("doc/run.txt")]
/// use lejepa_train::checkpoint;
///
/// assert_eq!(checkpoint::steps(&run)?, [2]);
/// let latest = checkpoint::latest(&run)?;
/// assert_eq!(latest, checkpoint::path(&run, 2));
/// checkpoint::verify(&latest)?;
/// assert_eq!(checkpoint::load_state(&latest)?.step, 2);
/// let model = checkpoint::load_model(&latest, resolved.model(&Device::flex())?)?;
/// assert_eq!(model.dim(), 24);
/// // A damaged checkpoint is recognised.
/// std::fs::write(latest.join("state.json"), "{}")?;
/// assert!(checkpoint::verify(&latest).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

/// The folder of the checkpoint of one step, whether it is there or not.
pub fn path(run: &RunDir, step: u64) -> PathBuf {
    run.checkpoints().join(name(step))
}

/// Compares every file of a checkpoint with its checksum.
///
/// # Errors
/// [`TrainError::Corrupt`] naming the file that is missing, cut short or changed.
pub fn verify(checkpoint: &Path) -> Result<()> {
    let file = checkpoint.join(SUMS);
    let corrupt =
        |path: &Path, reason: String| Err(TrainError::Corrupt { path: path.to_path_buf(), reason });
    let sums = match fs::read_to_string(&file) {
        Ok(sums) => sums,
        Err(e) => return corrupt(&file, e.to_string()),
    };
    let mut listed = Vec::new();
    for line in sums.lines() {
        match line.split_once("  ") {
            Some(pair) => listed.push(pair),
            None => return corrupt(&file, format!("`{line}` is not a sum and a name")),
        }
    }
    let present = [MODEL, OPTIMIZER, STATE].into_iter().map(String::from);
    let optional = [EVALUATED].into_iter().filter(|name| checkpoint.join(name).is_file());
    let callbacks = callbacks(checkpoint)?.into_iter().map(|name| format!("{CALLBACKS}/{name}"));
    for name in present.chain(optional.map(String::from)).chain(callbacks) {
        if !listed.iter().any(|(_, file)| *file == name) {
            return corrupt(&file, format!("does not list {name}"));
        }
    }
    for (sum, name) in listed {
        let path = checkpoint.join(name);
        match fs::read(&path) {
            Ok(content) if hex(&Sha256::digest(&content)) == sum => {}
            Ok(_) => return corrupt(&path, "its checksum is wrong".into()),
            Err(e) => return corrupt(&path, e.to_string()),
        }
    }
    Ok(())
}

/// The newest checkpoint whose files are whole, and what is wrong with newer ones.
///
/// # Errors
/// [`TrainError::NotARun`] where nothing has been saved yet; [`TrainError::Corrupt`] where every
/// checkpoint is damaged.
pub fn newest_whole(run: &RunDir) -> Result<(PathBuf, Vec<TrainError>)> {
    let mut damaged = Vec::new();
    for step in steps(run)?.into_iter().rev() {
        let path = self::path(run, step);
        match verify(&path) {
            Ok(()) => return Ok((path, damaged)),
            Err(error) => damaged.push(error),
        }
    }
    // The newest one's error, which came first, tells most.
    Err(damaged.into_iter().next().unwrap_or_else(|| TrainError::NotARun {
        path: run.path().to_path_buf(),
        reason: "it has no checkpoint".into(),
    }))
}

/// The folder of the newest whole checkpoint.
///
/// # Errors
/// As [`newest_whole`].
pub fn latest(run: &RunDir) -> Result<PathBuf> {
    Ok(newest_whole(run)?.0)
}

/// The folder of the checkpoint with the lowest smoothed loss.
///
/// # Errors
/// [`TrainError::NotARun`] where there is none; [`TrainError::Corrupt`] where it is damaged.
pub fn best(run: &RunDir) -> Result<PathBuf> {
    let all = run.checkpoints();
    let path = fs::read_to_string(all.join("best")).ok().map(|n| all.join(n.trim()));
    let path = path.ok_or_else(|| TrainError::NotARun {
        path: run.path().to_path_buf(),
        reason: "it has no best checkpoint".into(),
    })?;
    verify(&path).map(|()| path)
}

/// Reads the state of a checkpoint.
///
/// # Errors
/// [`TrainError::Io`], or [`TrainError::Corrupt`] for another format.
pub fn load_state(checkpoint: &Path) -> Result<State> {
    let file = checkpoint.join(STATE);
    let text = fs::read(&file).map_err(TrainError::io("read", &file))?;
    parse_state(&text).map_err(|reason| TrainError::Corrupt { path: file, reason })
}

/// Reads a state from the bytes of its file.
///
/// # Errors
/// What is wrong with them.
pub fn parse_state(text: &[u8]) -> Result<State, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let found: Version = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    if found.version != VERSION {
        return Err(format!("format {}, this program reads {VERSION}", found.version));
    }
    serde_json::from_slice(text).map_err(|e| e.to_string())
}

/// Loads the weights of a checkpoint into `model`.
///
/// # Errors
/// [`TrainError::Corrupt`] where the file is damaged or of another architecture.
pub fn load_model(checkpoint: &Path, model: Model) -> Result<Model> {
    load_weights(&checkpoint.join(MODEL), model)
}

/// The weights to probe, embed with and export: those that a callback gave, such as their moving average, or
/// else the trained ones.
///
/// # Errors
/// As [`load_model`].
pub fn load_evaluated(checkpoint: &Path, model: Model) -> Result<Model> {
    let evaluated = checkpoint.join(EVALUATED);
    if evaluated.is_file() {
        load_weights(&evaluated, model)
    } else {
        load_model(checkpoint, model)
    }
}

/// Names of the callbacks that a checkpoint has states of.
///
/// # Errors
/// [`TrainError::Io`] where the folder cannot be read.
pub fn callbacks(checkpoint: &Path) -> Result<Vec<String>> {
    let folder = checkpoint.join(CALLBACKS);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(TrainError::io("read", &folder)(e)),
    };
    let mut names: Vec<String> =
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// The state of a callback; `None` where the checkpoint has none of this name.
///
/// # Errors
/// [`TrainError::Io`] where it cannot be read.
pub fn load_callback(checkpoint: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let path = checkpoint.join(CALLBACKS).join(name);
    match fs::read(&path) {
        Ok(state) => Ok(Some(state)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(TrainError::io("read", &path)(e)),
    }
}

/// Loads a file of weights into `model`.
///
/// # Errors
/// As [`load_model`].
pub fn load_weights(file: &Path, model: Model) -> Result<Model> {
    let corrupt = |reason: String| TrainError::Corrupt { path: file.to_path_buf(), reason };
    let bytes = fs::read(file).map_err(TrainError::io("read", file))?;
    // A damaged file can hold numbers of another type than the parameter has: burn panics then.
    catch_panics(|| {
        let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes))
            .map_err(|e| corrupt(e.to_string()))?;
        model.try_load_record(record).map_err(|e| corrupt(e.to_string()))
    })
    .unwrap_or_else(|words| Err(corrupt(words)))
}

/// Loads the moments of a checkpoint into `optimizer`.
///
/// # Errors
/// [`TrainError::Corrupt`] where the file is damaged.
pub fn load_optimizer(checkpoint: &Path, optimizer: ModuleOptimizer) -> Result<ModuleOptimizer> {
    let file = checkpoint.join(OPTIMIZER);
    let bytes = fs::read(&file).map_err(TrainError::io("read", &file))?;
    let corrupt = |reason: String| TrainError::Corrupt { path: file.clone(), reason };
    catch_panics(|| {
        optimizer.from_bytes(Bytes::from_bytes_vec(bytes)).map_err(|e| corrupt(e.to_string()))
    })
    .unwrap_or_else(|words| Err(corrupt(words)))
}
