//! The configuration of a run: general sections, layered with what plugins and users say.

use lejepa_core::Error;
use lejepa_nn::ProjectorConfig;
use lejepa_objective::ObjectiveConfig;
use serde::{Deserialize, Serialize};

use crate::Result;

/// Whether every file is read once before training starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scan {
    /// Where there are at most 20,000 files.
    #[default]
    Auto,
    /// Always.
    Full,
    /// Never: bad files are found, counted and replaced while training.
    Off,
}

/// `[data]`: where samples come from and how they are loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// `demo`, a folder, or a manifest (`.csv`, `.jsonl`).
    pub source: String,
    /// Loader threads; 0 chooses. Results do not depend on it.
    pub workers: usize,
    /// Batches prepared ahead, at least 1.
    pub prefetch: usize,
    /// Decoded samples kept in memory, in MiB.
    pub cache_mib: usize,
    /// A folder for decoded samples, which later epochs and runs read back; empty for none.
    pub disk_cache: String,
    /// Most that the folder `disk_cache` holds, in GiB, above 0. When it is full, further samples are decoded each time.
    pub disk_cache_gib: f64,
    /// Whether every file is read once before training starts: `auto` (up to 20,000 files), `full`
    /// or `off`.
    pub scan: Scan,
    /// Share of samples, 0 to 1, that may turn bad after the scan before the run stops; at 1 it goes on
    /// while there is one good sample.
    pub max_bad: f64,
    /// Share of labelled samples, 0 to 1, held out for probes where the data names no split.
    pub test_share: f64,
    /// The fold that is held out where the data has folds and no split; empty for the last.
    pub fold: String,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            source: "demo".into(),
            workers: 0,
            prefetch: 4,
            cache_mib: 1024,
            disk_cache: String::new(),
            disk_cache_gib: 50.0,
            scan: Scan::Auto,
            max_bad: 1.0,
            test_share: 0.2,
            fold: String::new(),
        }
    }
}

/// `[train]`: the length of the run, the learning rate, and how a step is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the data; ignored where `steps` is set. 0 chooses: 30, or as many as make 300
    /// steps.
    pub epochs: f64,
    /// Steps; 0 means as many as `epochs` make.
    pub steps: u64,
    /// Minutes that the whole run may take, 0 or 0.1 to 100,000. The steps that fit are found from the
    /// first ones and become `steps`. Ignored where `steps` is set; 0 is no limit.
    pub minutes: f64,
    /// Samples per step, at least 2; made smaller where there are fewer samples.
    pub batch: usize,
    /// Peak learning rate, above 0; `[schedule]` says how it gets there and what comes after.
    pub lr: f64,
    /// Steps between lines of metrics, at least 1.
    pub log_every: u64,
    /// Precision of the encoder's matrix products: `f32`, or `bf16`, which is faster on processors (AMX, AVX512-BF16)
    /// and graphics cards that have it and makes no difference elsewhere.
    pub precision: Precision,
    /// `full` saves all activations for the backward pass; `checkpoint` recomputes many of them, which
    /// takes less memory and more time.
    pub memory: Memory,
    /// Microbatches, at least 1, in which the encoder works through a batch to need less memory. With a
    /// gradient cache the loss remains that of the whole batch; the step takes about a third longer.
    pub microbatches: usize,
    /// Weights to start from: a run folder, one of its checkpoints, or a file of weights. Empty
    /// starts from random ones.
    pub init: String,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 0.0,
            steps: 0,
            minutes: 0.0,
            batch: 64,
            lr: 1e-3,
            log_every: 10,
            precision: Precision::F32,
            memory: Memory::Full,
            microbatches: 1,
            init: String::new(),
        }
    }
}

/// Precision of matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit factors.
    #[default]
    F32,
    /// bf16 factors, accumulated in 32 bits.
    Bf16,
}

impl From<Precision> for lejepa_kernels::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

/// Which activations a step saves for its backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// All of them.
    #[default]
    Full,
    /// Some; the rest is recomputed.
    Checkpoint,
}

/// `[checkpoint]`: what is saved, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Minutes between checkpoints; 0 saves none by the clock.
    pub minutes: f64,
    /// Steps between checkpoints; 0 saves none by the count. One is always saved at the end.
    pub steps: u64,
    /// Checkpoints kept, at least 1, not counting those that callbacks pin; older ones are removed.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { minutes: 5.0, steps: 0, keep: 2 }
    }
}

/// `[probe]`: how embeddings are scored against labels at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Whether to probe where labels exist.
    pub enabled: bool,
    /// Neighbours that vote, at least 1.
    pub neighbours: usize,
    /// Temperature of their votes, above 0.
    pub temperature: f64,
    /// Steps of the linear probe, at least 1.
    pub steps: usize,
    /// Learning rate of the linear probe, above 0.
    pub lr: f64,
    /// Weight decays of the linear probe, at least one, each 0 or above: the best on a fifth of the
    /// training labels is taken.
    pub weight_decay: Vec<f64>,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            neighbours: 20,
            temperature: 0.07,
            steps: 500,
            lr: 0.01,
            weight_decay: vec![1e-3, 0.1, 1.0],
        }
    }
}

/// The general sections, typed. Those of components stay in the table of [`Resolved`](crate::Resolved).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The modality's name.
    pub modality: String,
    /// `auto` chooses settings by the data, `none` leaves the bare defaults; or a preset of the
    /// modality (`lejepa list preset`). Matters only while a run is begun.
    pub preset: String,
    /// The seed every random stream follows from; 0 to 2^63 − 1.
    pub seed: u64,
    /// `auto`, `cpu`, `wgpu[:n]`, `vulkan[:n]`, `metal[:n]` or `cuda[:n]`; or several that share each step, as `cuda:0,1`.
    pub device: String,
    /// `[data]`.
    pub data: DataConfig,
    /// `[train]`.
    pub train: TrainConfig,
    /// `[objective]`.
    pub objective: ObjectiveConfig,
    /// `[projector]`.
    pub projector: ProjectorConfig,
    /// `[checkpoint]`.
    pub checkpoint: CheckpointConfig,
    /// `[probe]`.
    pub probe: ProbeConfig,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            modality: "image".into(),
            preset: lejepa_core::AUTO.into(),
            seed: 0,
            device: "auto".into(),
            data: DataConfig::default(),
            train: TrainConfig::default(),
            objective: ObjectiveConfig::default(),
            projector: ProjectorConfig::default(),
            checkpoint: CheckpointConfig::default(),
            probe: ProbeConfig::default(),
        }
    }
}

impl Settings {
    pub(crate) fn validate(&self) -> Result<()> {
        let (d, t, p) = (&self.data, &self.train, &self.probe);
        let (unit, minutes) = (0.0..=1.0, self.checkpoint.minutes);
        let is_decay = |decay: &f64| *decay >= 0.0 && decay.is_finite();
        let decays = !p.weight_decay.is_empty() && p.weight_decay.iter().all(is_decay);
        let fits = t.minutes == 0.0 || (0.1..=1e5).contains(&t.minutes);
        let rules: [(&str, bool, &str); 17] = [
            ("train.minutes", fits, "must be 0 or from 0.1 to 100000"),
            ("data.prefetch", d.prefetch >= 1, "must be at least 1"),
            ("data.max_bad", unit.contains(&d.max_bad), "must lie in 0..=1"),
            ("data.disk_cache_gib", d.disk_cache_gib > 0.0, "must be above 0"),
            ("data.test_share", (0.0..1.0).contains(&d.test_share), "must lie in 0..1"),
            ("train.epochs", t.epochs >= 0.0 && t.epochs.is_finite(), "must be at least 0"),
            ("train.batch", t.batch >= 2, "must be at least 2"),
            ("train.lr", t.lr > 0.0 && t.lr.is_finite(), "must be above 0"),
            ("train.microbatches", t.microbatches >= 1, "must be at least 1"),
            ("train.log_every", t.log_every >= 1, "must be at least 1"),
            ("checkpoint.minutes", minutes >= 0.0 && minutes.is_finite(), "must be at least 0"),
            ("checkpoint.keep", self.checkpoint.keep >= 1, "must be at least 1"),
            ("probe.neighbours", p.neighbours >= 1, "must be at least 1"),
            ("probe.temperature", p.temperature > 0.0, "must be above 0"),
            ("probe.steps", p.steps >= 1, "must be at least 1"),
            ("probe.lr", p.lr > 0.0, "must be above 0"),
            ("probe.weight_decay", decays, "must be numbers of at least 0, one or more"),
        ];
        for (key, ok, reason) in rules {
            if !ok {
                return Err(Error::bad_value(key, reason).into());
            }
        }
        Ok(())
    }
}
