//! The configuration of a run: general sections, layered with what plugins and users say.

use lejepa_core::{
    DEFAULT_SAMPLER, EncoderEntry, Error, ModalityEntry, Registry, SamplerEntry, Source,
    StatisticEntry, StatisticKind, Table, Value, ViewSource, config,
};
use lejepa_nn::ProjectorConfig;
use lejepa_objective::statistics::EppsPulley;
use lejepa_objective::{Objective, ObjectiveConfig};
use serde::{Deserialize, Serialize};

use crate::{Result, TrainError};

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
    /// Whether every file is read once before training starts: `auto` (up to 20,000 files), `full`
    /// or `off`.
    pub scan: Scan,
    /// Share of samples, 0 to 1, that may turn bad after the scan before the run stops.
    pub max_bad: f64,
    /// Share of labelled samples, 0 to 1, held out for probes where the data names no split.
    pub test_share: f64,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            source: "demo".into(),
            workers: 0,
            prefetch: 4,
            cache_mib: 1024,
            scan: Scan::Auto,
            max_bad: 0.05,
            test_share: 0.2,
        }
    }
}

/// `[train]`: length of the run and the optimiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the data; ignored where `steps` is set. 0 chooses: 30, or as many as make 300
    /// steps.
    pub epochs: f64,
    /// Steps; 0 means as many as `epochs` make.
    pub steps: u64,
    /// Samples per step, at least 2; made smaller where there are fewer samples.
    pub batch: usize,
    /// Peak learning rate of AdamW, above 0.
    pub lr: f64,
    /// Learning rate at the end over the peak, 0 to 1.
    pub lr_end: f64,
    /// Share of the steps, 0 to 1, over which the learning rate rises to its peak.
    pub warmup: f64,
    /// Decoupled weight decay of matrices and filters, at least 0; biases and norms have none.
    pub weight_decay: f64,
    /// Decay of AdamW's first and second moments, each in 0..1.
    pub betas: [f64; 2],
    /// Steps between lines of metrics, at least 1.
    pub log_every: u64,
    /// In how many bits the encoder's matrix products are done on a CPU: `f32`, or `bf16`, which is
    /// quicker where the processor has it (AMX) and makes no difference elsewhere.
    pub precision: Bits,
    /// `full` keeps what the way back needs; `checkpoint` works much of it out again, which takes
    /// less memory and more time.
    pub memory: Memory,
    /// Parts, at least 1, in which the encoder works through a batch to need less memory. The loss
    /// remains that of the whole batch; the step takes about a third longer.
    pub accumulate: usize,
    /// Weights to start from: a run folder, one of its checkpoints, or a file of weights. Empty
    /// starts from random ones.
    pub init: String,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 0.0,
            steps: 0,
            batch: 64,
            lr: 1e-3,
            lr_end: 1e-3,
            warmup: 0.1,
            weight_decay: 0.05,
            betas: [0.9, 0.999],
            log_every: 10,
            precision: Bits::F32,
            memory: Memory::Full,
            accumulate: 1,
            init: String::new(),
        }
    }
}

/// In how many bits matrix products are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bits {
    /// 32.
    #[default]
    F32,
    /// bf16 factors, sums in 32 bits.
    Bf16,
}

impl From<Bits> for lejepa_kernels::Precision {
    fn from(bits: Bits) -> Self {
        match bits {
            Bits::F32 => Self::F32,
            Bits::Bf16 => Self::Bf16,
        }
    }
}

/// What is done about the memory of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// All that the way back needs is kept.
    #[default]
    Full,
    /// Much of it is worked out again.
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
    /// Checkpoints kept, at least 1; older ones are removed.
    pub keep: usize,
    /// Whether the checkpoint with the lowest smoothed loss is kept as well.
    pub best: bool,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { minutes: 5.0, steps: 0, keep: 2, best: true }
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
    /// Weight decay of the linear probe, at least 0.
    pub weight_decay: f64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            neighbours: 20,
            temperature: 0.07,
            steps: 500,
            lr: 0.01,
            weight_decay: 1e-3,
        }
    }
}

/// The general sections, typed. What modality, encoder and statistic add stays in tables for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The modality's name.
    pub modality: String,
    /// The seed every random stream follows from; 0 to 2^63 − 1.
    pub seed: u64,
    /// `auto`, `cpu`, `wgpu[:n]` or `cuda[:n]`.
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
    fn validate(&self) -> Result<()> {
        let (d, t, p) = (&self.data, &self.train, &self.probe);
        let unit = 0.0..=1.0;
        let rules: [(&str, bool, &str); 19] = [
            ("data.prefetch", d.prefetch >= 1, "must be at least 1"),
            ("data.max_bad", unit.contains(&d.max_bad), "must lie in 0..=1"),
            ("data.test_share", (0.0..1.0).contains(&d.test_share), "must lie in 0..1"),
            ("train.epochs", t.epochs >= 0.0 && t.epochs.is_finite(), "must be at least 0"),
            ("train.batch", t.batch >= 2, "must be at least 2"),
            ("train.lr", t.lr > 0.0 && t.lr.is_finite(), "must be above 0"),
            ("train.lr_end", unit.contains(&t.lr_end), "must lie in 0..=1"),
            ("train.warmup", unit.contains(&t.warmup), "must lie in 0..=1"),
            ("train.weight_decay", t.weight_decay >= 0.0, "must be at least 0"),
            ("train.betas", t.betas.iter().all(|b| (0.0..1.0).contains(b)), "must lie in 0..1"),
            ("train.accumulate", t.accumulate >= 1, "must be at least 1"),
            ("train.log_every", t.log_every >= 1, "must be at least 1"),
            ("checkpoint.minutes", self.checkpoint.minutes >= 0.0, "must be at least 0"),
            ("checkpoint.keep", self.checkpoint.keep >= 1, "must be at least 1"),
            ("probe.neighbours", p.neighbours >= 1, "must be at least 1"),
            ("probe.temperature", p.temperature > 0.0, "must be above 0"),
            ("probe.steps", p.steps >= 1, "must be at least 1"),
            ("probe.lr", p.lr > 0.0, "must be above 0"),
            ("probe.weight_decay", p.weight_decay >= 0.0, "must be at least 0"),
        ];
        for (key, ok, reason) in rules {
            if !ok {
                return Err(Error::bad_value(key, reason).into());
            }
        }
        Ok(())
    }
}

/// What a user asked for, from least to most specific.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `--config FILE`, parsed.
    pub file: Option<Table>,
    /// `key=value` assignments in order; options of the command line come here too.
    pub assignments: Vec<String>,
}

/// A complete configuration with the plugins it names.
#[derive(Clone)]
pub struct Resolved {
    /// The general sections.
    pub settings: Settings,
    /// Everything, as it is written to `config.toml`.
    pub table: Table,
    /// The modality.
    pub modality: ModalityEntry,
    /// The encoder.
    pub encoder: EncoderEntry,
    /// The statistic.
    pub statistic: StatisticEntry,
    /// The view sampler, where it is not the modality's own.
    pub sampler: Option<SamplerEntry>,
}

impl Request {
    /// Lays general defaults, the modality's recipe, the file and the assignments over each other.
    ///
    /// # Errors
    /// Unknown keys and names with the nearest match; values of the wrong type or out of range.
    ///
    /// ```
    /// # use lejepa_image as _;
    /// # use lejepa_nn as _;
    /// # use burn::tensor::Device;
    /// # use lejepa_core::Registry;
    /// # use lejepa_train::{Request, RunDir, Silent, Start, train};
    /// # let folder = tempfile::tempdir()?;
    /// # let registry = Registry::discover()?;
    /// # let small = "modality=image encoder.width=24 encoder.depth=1 train.steps=2 train.batch=8 \
    /// #              objective.slices=16 projector.hidden=16 probe.enabled=false";
    /// # let assignments = small.split_whitespace().map(String::from).collect();
    /// # let resolved = Request { assignments, ..Request::default() }.resolve(&registry)?;
    /// assert_eq!(resolved.settings.train.batch, 8);
    /// assert_eq!(resolved.objective()?.config().slices, 16);
    /// assert_eq!(resolved.encoder_section()["width"].as_integer(), Some(24));
    /// assert!(resolved.modality_section().contains_key("globals"));
    /// let source = resolved.open(lejepa_core::Source::Demo)?;
    /// assert_eq!(source.len(), 1797);
    /// // What results is saved whole, and is read again as it was.
    /// let table = lejepa_train::rundir::parse_toml("config.toml".as_ref(), &resolved.to_toml()?)?;
    /// assert_eq!(lejepa_train::Resolved::load(table, &registry)?.settings, resolved.settings);
    /// assert!(resolved.to_commented_toml().contains("Samples per step"));
    /// assert!(resolved.docs()["train.lr"].contains("learning rate"));
    /// // Typing errors are told with the nearest key.
    /// let typo = Request { assignments: vec!["modality=image".into(), "train.stepz=1".into()], file: None };
    /// assert!(typo.resolve(&registry).err().is_some_and(|e| e.to_string().contains("train.steps")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolve(&self, registry: &Registry) -> Result<Resolved> {
        let mut table = config::defaults::<Settings>("")?;
        let modality = *registry.find_modality(&self.choice("modality", "image"))?;
        let source = self.choice("data.source", "demo");
        let mut recipe = (modality.recipe)(source == "demo");
        let recipe_encoder = text(&recipe, "encoder.name").unwrap_or("vit").to_string();
        let name = self.choice("encoder.name", &recipe_encoder);
        let encoder = *registry.find_encoder(&name, modality.name)?;
        if name != recipe_encoder {
            // The recipe tunes another encoder than the one that was asked for.
            recipe.remove("encoder");
        }
        let mut section = Table::new();
        section.insert("name".into(), Value::String(name.clone()));
        section.extend((encoder.defaults)()?);
        table.insert("encoder".into(), Value::Table(section));
        table.insert(modality.name.into(), Value::Table((modality.defaults)()?));
        let statistic = self.choice("objective.statistic", "epps_pulley");
        // The objective brings the paper's statistic along, whatever an explicit registry holds.
        let statistic = match registry.find_statistic(&statistic) {
            Err(_) if statistic == EppsPulley::NAME => {
                StatisticEntry::of::<EppsPulley>(lejepa_core::origin!())
            }
            found => *found?,
        };
        add_statistic(&mut table, &statistic)?;
        let sampler = self.choice("sampler.name", DEFAULT_SAMPLER);
        let sampler = registry.find_sampler(&sampler, modality.name)?.copied();
        let mut section = Table::new();
        section.insert("name".into(), Value::String(name_of(&sampler).into()));
        if let Some(sampler) = &sampler {
            section.extend((sampler.defaults)()?);
        }
        table.insert("sampler".into(), Value::Table(section));
        config::overlay(&mut table, &recipe, "")?;
        table.insert("modality".into(), Value::String(modality.name.into()));
        if let Some(file) = &self.file {
            let mut file = file.clone();
            if text(&file, "encoder.name").is_some_and(|n| n != name) {
                file.remove("encoder");
            }
            if text(&file, "sampler.name").is_some_and(|n| n != name_of(&sampler)) {
                file.remove("sampler");
            }
            if text(&file, "modality").is_some_and(|n| n != modality.name) {
                return Err(Error::bad_value(
                    "modality",
                    format!(
                        "the configuration file is for `{}`, the command asks for `{}`",
                        text(&file, "modality").unwrap_or(""),
                        modality.name
                    ),
                )
                .into());
            }
            if let Some(Value::Table(section)) = file.get_mut("objective") {
                let of_file = section.get("statistic").and_then(Value::as_str);
                if let Some(other) = of_file.filter(|n| *n != statistic.name) {
                    // The file tunes another statistic than the one that was asked for.
                    for key in (registry.find_statistic(other)?.defaults)()?.keys() {
                        section.remove(key);
                    }
                    section.remove("statistic");
                }
            }
            config::overlay(&mut table, &file, "")?;
        }
        for assignment in &self.assignments {
            config::assign(&mut table, assignment)?;
        }
        Resolved::from_table(table, modality, encoder, statistic, sampler)
    }

    /// The last word on a key that has to be known before the layers can be built.
    fn choice(&self, key: &str, default: &str) -> String {
        self.assignments
            .iter()
            .rev()
            .find_map(|a| {
                let (k, v) = a.split_once('=')?;
                (k.trim() == key).then(|| v.trim().trim_matches('"').to_string())
            })
            .or_else(|| self.file.as_ref().and_then(|f| text(f, key)).map(ToString::to_string))
            .unwrap_or_else(|| default.to_string())
    }
}

fn name_of(sampler: &Option<SamplerEntry>) -> &'static str {
    sampler.map_or(DEFAULT_SAMPLER, |s| s.name)
}

/// The `[objective]` section has the statistic's name and keys beside the general ones.
fn add_statistic(table: &mut Table, statistic: &StatisticEntry) -> Result<()> {
    let Some(Value::Table(section)) = table.get_mut("objective") else { return Ok(()) };
    section.insert("statistic".into(), Value::String(statistic.name.into()));
    for (key, value) in (statistic.defaults)()? {
        if section.insert(key.clone(), value).is_some() {
            let reason =
                format!("the statistic {} has a key of a name that is taken", statistic.name);
            return Err(Error::bad_value(format!("objective.{key}"), reason).into());
        }
    }
    Ok(())
}

fn text<'a>(table: &'a Table, dotted: &str) -> Option<&'a str> {
    let (head, rest) = dotted.split_once('.').map_or((dotted, None), |(h, r)| (h, Some(r)));
    match (table.get(head)?, rest) {
        (Value::Table(inner), Some(rest)) => text(inner, rest),
        (Value::String(s), None) => Some(s),
        _ => None,
    }
}

impl Resolved {
    /// Reads a complete table, such as the `config.toml` of a run.
    ///
    /// # Errors
    /// As [`Request::resolve`].
    pub fn load(table: Table, registry: &Registry) -> Result<Self> {
        Request { file: Some(table), assignments: Vec::new() }.resolve(registry)
    }

    fn from_table(
        table: Table,
        modality: ModalityEntry,
        encoder: EncoderEntry,
        statistic: StatisticEntry,
        sampler: Option<SamplerEntry>,
    ) -> Result<Self> {
        let mut general = table.clone();
        general.remove("encoder");
        general.remove("sampler");
        general.remove(modality.name);
        if let Some(Value::Table(objective)) = general.get_mut("objective") {
            let own = (statistic.defaults)()?;
            objective.retain(|key, _| key != "statistic" && !own.contains_key(key));
        }
        let settings: Settings = config::parse("configuration", &general)?;
        settings.validate()?;
        let resolved = Self { settings, table, modality, encoder, statistic, sampler };
        resolved.objective()?;
        Ok(resolved)
    }

    /// The objective with the chosen statistic.
    ///
    /// # Errors
    /// A setting of the objective or the statistic out of range.
    pub fn objective(&self) -> Result<Objective> {
        let mut section = self.section("objective");
        let own = (self.statistic.defaults)()?;
        section.retain(|key, _| own.contains_key(key));
        Ok(self.settings.objective.init_with((self.statistic.build)(&section)?)?)
    }

    /// Opens the data: the configured source, or another one.
    ///
    /// # Errors
    /// Whatever is wrong with the source or the sections of modality and sampler.
    pub fn open(&self, source: Source) -> Result<Box<dyn ViewSource>> {
        let budget = self.settings.data.cache_mib.saturating_mul(1 << 20);
        let section = self.modality_section();
        Ok(match &self.sampler {
            None => (self.modality.open)(&section, source, budget)?,
            Some(sampler) => {
                let mut keys = self.section("sampler");
                keys.remove("name");
                (sampler.open)(&section, &keys, source, budget)?
            }
        })
    }

    /// The modality's own section.
    pub fn modality_section(&self) -> Table {
        self.section(self.modality.name)
    }

    /// The encoder's own keys: its section without the name.
    pub fn encoder_section(&self) -> Table {
        let mut section = self.section("encoder");
        section.remove("name");
        section
    }

    fn section(&self, name: &str) -> Table {
        self.table.get(name).and_then(Value::as_table).cloned().unwrap_or_default()
    }

    /// The configuration as TOML text.
    ///
    /// # Errors
    /// [`TrainError::Core`] where a plugin's value cannot be written.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(&self.table)
            .map_err(|e| TrainError::Core(Error::bad_value("configuration", e)))
    }
}
