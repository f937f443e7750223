//! From a request to a whole, checked configuration.

use std::fmt::Write as _;
use std::sync::Arc;

use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use lejepa_core::{
    Advice, BoxedEncoder, BoxedPrediction, BuildContext, DEFAULT_VIEWS, DiskCache, Entry, Error,
    Kind, MAIN_STREAM, OpenOptions, OptimizerContext, Pipeline, PredictionContext, Registration,
    Registry, Schedule, Source, SourceKind, SurveyContext, Table, Value, ViewSource, ViewSpec,
    check_preset, config, kind, origin,
};
use lejepa_objective::statistics::EppsPulley;
use lejepa_objective::{CentrePrediction, Objective};

use crate::adamw::AdamWKind;
use crate::callback::{Callback, CallbackContext, Callbacks};
use crate::callbacks::{Best, Ema, Monitor, OnlineProbe};
use crate::config::Settings;
use crate::dotted::{advised, at, insert, lay_over, own_keys, remove, section, text};
use crate::schedule::Cosine;
use crate::{Result, TrainError};

/// What a user asked for, from least to most specific.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// A configuration file, parsed.
    pub file: Option<Table>,
    /// `key=value` assignments in order, as [`config::assign`] takes them.
    pub assignments: Vec<String>,
    /// What was chosen by the data, over the modality's recipe and under the file.
    pub advice: Advice,
}

impl Request {
    /// Assignments with space between them: `modality=image train.steps=100`.
    pub fn parse(words: &str) -> Self {
        let assignments = words.split_whitespace().map(String::from).collect();
        Self { assignments, ..Self::default() }
    }
}

/// A complete configuration with the components it names, checked before any data is opened.
///
/// The table is the one store of it; everything else is derived from it.
#[derive(Clone)]
pub struct Resolved {
    table: Table,
    settings: Settings,
    registry: Registry,
    modality: &'static Entry<kind::Modality>,
    /// One for each stream, with the section of its keys.
    encoders: Vec<(String, &'static Entry<kind::Encoder>)>,
    views: &'static Entry<kind::Views>,
    statistic: &'static Entry<kind::Statistic>,
    prediction: &'static Entry<kind::Prediction>,
    optimizer: &'static Entry<kind::Optimizer>,
    schedule: &'static Entry<kind::Schedule>,
    pipeline: Arc<dyn Pipeline>,
}

/// A registry with the components that a run has by default, whatever an explicit one holds.
fn with_defaults(registry: &Registry) -> Registry {
    let mut registry = registry.clone();
    for item in [
        Registration::of::<kind::Statistic, EppsPulley>(origin!()),
        Registration::of::<kind::Prediction, CentrePrediction>(origin!()),
        Registration::of::<kind::Optimizer, AdamWKind>(origin!()),
        Registration::of::<kind::Schedule, Cosine>(origin!()),
        Registration::of::<Callbacks, Best>(origin!()),
        Registration::of::<Callbacks, Ema>(origin!()),
        Registration::of::<Callbacks, Monitor>(origin!()),
        Registration::of::<Callbacks, OnlineProbe>(origin!()),
    ] {
        registry.add_if_absent(item);
    }
    registry
}

/// The layers of a configuration while they are laid over each other.
struct Layers<'a> {
    request: &'a Request,
    registry: &'a Registry,
    modality: &'static str,
    recipe: Table,
    file: Table,
    table: Table,
}

impl Layers<'_> {
    /// Chooses the component of a section by its `name`, and adds its keys with their defaults.
    ///
    /// Keys that the recipe or the file has for another component are dropped: they tune that one.
    fn choose<K: Kind>(&mut self, section: &str, default: &str) -> Result<&'static Entry<K>> {
        let key = format!("{section}.name");
        let of_recipe = text(&self.recipe, &key).unwrap_or(default).to_string();
        let name = self.request.choice(&key, &of_recipe)?;
        let entry = self.registry.find::<K>(&name, Some(self.modality))?;
        if name != of_recipe {
            remove(&mut self.recipe, section);
        }
        if text(&self.file, &key).is_some_and(|of_file| of_file != name) {
            remove(&mut self.file, section);
        }
        let mut keys = Table::new();
        keys.insert("name".into(), Value::String(name));
        keys.extend(entry.meta().defaults()?);
        insert(&mut self.table, section, keys);
        Ok(entry)
    }
}

impl Request {
    /// Lays general defaults, the modality's recipe, the file and the assignments over each other.
    ///
    /// # Errors
    /// Unknown keys and names with the nearest match; values of the wrong type or out of range, of every
    /// section.
    ///
    /// ```
    #[doc = include_str!("doc/resolved.txt")]
    /// assert_eq!(resolved.settings().train.batch, 8);
    /// assert_eq!(resolved.objective()?.config().slices, 16);
    /// // Shapes are known before any data is opened.
    /// assert_eq!(resolved.spec().channels(), 1);
    /// let source = resolved.open(lejepa_core::Source::Demo)?;
    /// assert_eq!(source.len(), 1797);
    /// // It is saved whole, and read back as it was.
    /// let table = lejepa_train::rundir::parse_toml("config.toml".as_ref(), &resolved.to_toml()?)?;
    /// assert_eq!(lejepa_train::Resolved::load(table, &registry)?.table(), resolved.table());
    /// assert!(resolved.to_commented_toml().contains("Samples per step"));
    /// assert!(resolved.docs()["train.lr"].contains("learning rate"));
    /// // Typing errors come back with the nearest key.
    /// let typo = Request { assignments: vec!["modality=image".into(), "train.stepz=1".into()], ..Request::default() };
    /// assert!(typo.resolve(&registry).err().is_some_and(|e| e.to_string().contains("train.steps")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolve(&self, registry: &Registry) -> Result<Resolved> {
        let registry = &with_defaults(registry);
        let settings = Settings::default();
        let name = self.choice("modality", &settings.modality)?;
        let modality = registry.find::<kind::Modality>(&name, None)?;
        let name = modality.name();
        if COMPONENTS.contains(&name) || config::defaults::<Settings>("")?.contains_key(name) {
            let reason = format!("`{name}` is the name of a section of the configuration");
            return Err(Error::bad_value("modality", reason).into());
        }
        let file = self.file.clone().unwrap_or_default();
        if let Some(other) = text(&file, "modality").filter(|other| *other != name) {
            let reason =
                format!("the configuration file is for `{other}`, the command asks for `{name}`");
            return Err(Error::bad_value("modality", reason).into());
        }
        let source = SourceKind::of(&self.choice("data.source", &settings.data.source)?);
        check_preset(&self.choice("preset", &settings.preset)?, modality.build().presets)?;
        let mut layers = Layers {
            request: self,
            registry,
            modality: name,
            recipe: advised((modality.build().recipe)(source), &self.advice),
            file,
            table: config::defaults::<Settings>("")?,
        };
        layers.table.insert(name.into(), Value::Table(modality.meta().defaults()?));
        layers.table.insert("modality".into(), Value::String(name.into()));
        let views = layers.choose::<kind::Views>("views", DEFAULT_VIEWS)?;
        lay_over(&mut layers.recipe, (views.build().recipe)());
        let streams = modality.build().streams;
        let sections: Vec<String> = match streams {
            [] => vec!["encoder".into()],
            streams => streams.iter().map(|stream| format!("encoder.{stream}")).collect(),
        };
        let mut encoders = Vec::new();
        for section in sections {
            let entry = layers.choose(&section, "vit")?;
            encoders.push((section, entry));
        }
        let statistic = layers.choose("statistic", "epps_pulley")?;
        let prediction = layers.choose("prediction", "centre")?;
        let optimizer = layers.choose("optimizer", "adamw")?;
        let schedule = layers.choose("schedule", "cosine")?;
        for item in registry.all::<Callbacks>() {
            let Some(entry) = item.entry::<Callbacks>() else { continue };
            let mut keys = Table::new();
            keys.insert("enabled".into(), Value::Boolean(entry.build().enabled));
            keys.extend(entry.meta().defaults()?);
            insert(&mut layers.table, &format!("callbacks.{}", entry.name()), keys);
        }
        let Layers { mut recipe, mut file, mut table, .. } = layers;
        // Another measure of length takes the place of the recipe's.
        if self.sets("train.epochs") || self.sets("train.minutes") {
            remove(&mut recipe, "train.steps");
        }
        if let Some(Value::Table(callbacks)) = file.get_mut("callbacks") {
            // A callback of a crate that is not linked does not matter while it is off.
            let is_on =
                |section: &Value| section.get("enabled").and_then(Value::as_bool) == Some(true);
            let known = |name: &str| registry.find::<Callbacks>(name, None).is_ok();
            callbacks.retain(|name, section| known(name) || is_on(section) || !section.is_table());
        }
        config::overlay(&mut table, &recipe, "")?;
        config::overlay(&mut table, &file, "")?;
        for assignment in &self.assignments {
            config::assign(&mut table, assignment)?;
        }
        let pipeline = (views.build().build)(&section(&table, name), &own_keys(&table, "views"))?;
        let resolved = Resolved {
            settings: settings_of(&table)?,
            table,
            registry: registry.clone(),
            modality,
            encoders,
            views,
            statistic,
            prediction,
            optimizer,
            schedule,
            pipeline: Arc::from(pipeline),
        };
        resolved.validate()?;
        Ok(resolved)
    }

    /// The last word on a key that has to be known before the layers can be built.
    pub(crate) fn choice(&self, key: &str, default: &str) -> Result<String> {
        let assigned = self.assignments.iter().rev().find_map(|assignment| {
            let (k, value) = assignment.split_once('=')?;
            (k.trim() == key).then(|| config::text_value(value))
        });
        let in_file = || self.file.as_ref().and_then(|f| text(f, key)).map(ToString::to_string);
        Ok(assigned.or_else(in_file).unwrap_or_else(|| default.to_string()))
    }
}

/// Sections of components, which [`Settings`] does not have.
const COMPONENTS: [&str; 7] =
    ["views", "encoder", "statistic", "prediction", "optimizer", "schedule", "callbacks"];

fn settings_of(table: &Table) -> Result<Settings> {
    let mut general = table.clone();
    let modality = text(table, "modality").unwrap_or_default();
    general.remove(modality);
    for section in COMPONENTS {
        general.remove(section);
    }
    let settings: Settings = config::parse("", &general)?;
    settings.validate()?;
    Ok(settings)
}

impl Resolved {
    /// Reads a complete table, such as the `config.toml` of a run.
    ///
    /// # Errors
    /// As [`Request::resolve`].
    pub fn load(table: Table, registry: &Registry) -> Result<Self> {
        Request { file: Some(table), ..Request::default() }.resolve(registry)
    }

    /// The same configuration with some keys changed.
    ///
    /// # Errors
    /// As [`Request::resolve`].
    pub fn with<'a>(&self, changes: impl IntoIterator<Item = (&'a str, Value)>) -> Result<Self> {
        let mut assignments = Vec::new();
        for (key, value) in changes {
            let mut assignment = format!("{key}=");
            // Strings are written with their quotes, so that every text comes through as it is.
            let _ = write!(assignment, "{value}");
            assignments.push(assignment);
        }
        Request { file: Some(self.table.clone()), assignments, ..Request::default() }
            .resolve(&self.registry)
    }

    /// What [`Request::resolve`] promises: every component accepts its section.
    fn validate(&self) -> Result<()> {
        let host = Device::flex();
        self.objective()?;
        self.schedule()?;
        self.optimizer(&[])?;
        // burn draws weights when they are first read, so modules cost next to nothing here.
        let encoders = self.encoders(&host)?;
        let groups = self.spec().groups();
        for (stream, encoder) in self.spec().streams().into_iter().zip(&encoders) {
            let varies = groups.iter().any(|group| group.stream == stream && group.is_variable());
            if varies && !encoder.takes_lengths() {
                let reason = "this encoder does not support views of varying length";
                return Err(
                    Error::bad_value(format!("{}.name", self.encoder_key(stream)), reason).into()
                );
            }
            self.settings.projector.init(encoder.dim(), &host)?;
        }
        self.prediction(&host)?;
        for item in self.registry.all::<Callbacks>() {
            let Some(entry) = item.entry::<Callbacks>() else { continue };
            self.enabled(entry.name())?;
            (entry.build().validate)(&self.callback_keys(entry.name()))?;
        }
        Ok(())
    }

    /// The general sections.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Everything, as it is written to `config.toml`.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What the components were found in.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The modality.
    pub fn modality(&self) -> &'static Entry<kind::Modality> {
        self.modality
    }

    /// The number and shapes of views.
    pub fn spec(&self) -> &Arc<ViewSpec> {
        self.pipeline.spec()
    }

    /// How an evaluation view comes from a signal, where it is a spectrogram of one.
    pub fn front_end(&self) -> Option<lejepa_core::LogSpectrogram> {
        self.pipeline.front_end()
    }

    /// Names of the encoders, one for each stream.
    pub fn encoder_names(&self) -> Vec<&'static str> {
        self.encoders.iter().map(|(_, entry)| entry.name()).collect()
    }

    /// The section of the encoder of a stream.
    pub fn encoder_key(&self, stream: &str) -> String {
        if stream == MAIN_STREAM || self.encoders.len() == 1 {
            "encoder".into()
        } else {
            format!("encoder.{stream}")
        }
    }

    /// Builds the encoders, one for each stream, with new weights.
    ///
    /// # Errors
    /// Settings or views that an encoder cannot serve.
    pub fn encoders(&self, device: &Device) -> Result<Vec<BoxedEncoder>> {
        let spec = self.spec();
        let streams = spec.streams().into_iter().zip(&self.encoders);
        streams
            .map(|(stream, (key, entry))| {
                let views = spec.stream(stream);
                let at = BuildContext::new(&views, device).with_registry(&self.registry);
                Ok((entry.build().build)(&own_keys(&self.table, key), &at)?)
            })
            .collect()
    }

    /// Builds the prediction term with new weights.
    ///
    /// # Errors
    /// Settings or views that it cannot serve.
    pub fn prediction(&self, device: &Device) -> Result<BoxedPrediction> {
        let at = PredictionContext::new(self.spec(), self.settings.projector.output, device);
        Ok((self.prediction.build())(&own_keys(&self.table, "prediction"), &at)?)
    }

    /// The objective with the chosen statistic.
    ///
    /// # Errors
    /// A setting of the objective or the statistic out of range.
    pub fn objective(&self) -> Result<Objective> {
        let statistic = (self.statistic.build())(&own_keys(&self.table, "statistic"))?;
        Ok(self.settings.objective.init_with(statistic)?)
    }

    /// The optimizer; `undecayed` are the names of the parameters that weight decay spares.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn optimizer(&self, undecayed: &[String]) -> Result<ModuleOptimizer> {
        let at = OptimizerContext::new(undecayed);
        Ok((self.optimizer.build())(&own_keys(&self.table, "optimizer"), &at)?)
    }

    /// The learning-rate schedule.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn schedule(&self) -> Result<Box<dyn Schedule>> {
        Ok((self.schedule.build())(&own_keys(&self.table, "schedule"))?)
    }

    /// The callbacks that are switched on, by name.
    ///
    /// # Errors
    /// Data or settings that one of them cannot serve.
    pub fn callbacks(&self, at: &CallbackContext<'_>) -> Result<Vec<Box<dyn Callback>>> {
        let mut callbacks = Vec::new();
        for item in self.registry.all::<Callbacks>() {
            let Some(entry) = item.entry::<Callbacks>() else { continue };
            if self.enabled(entry.name())? {
                callbacks.push((entry.build().build)(&self.callback_keys(entry.name()), at)?);
            }
        }
        Ok(callbacks)
    }

    fn enabled(&self, callback: &str) -> Result<bool> {
        let key = format!("callbacks.{callback}.enabled");
        let value = at(&self.table, &key).and_then(Value::as_bool);
        Ok(value.ok_or_else(|| Error::bad_value(key, "expected true or false"))?)
    }

    fn callback_keys(&self, callback: &str) -> Table {
        let mut keys = section(&self.table, &format!("callbacks.{callback}"));
        keys.remove("enabled");
        keys
    }

    /// The components of the configuration's sections, for their documentation.
    pub(crate) fn metas(&self) -> Vec<(String, lejepa_core::Meta)> {
        let mut metas = vec![
            (self.modality.name().to_string(), *self.modality.meta()),
            ("views".into(), *self.views.meta()),
            ("statistic".into(), *self.statistic.meta()),
            ("prediction".into(), *self.prediction.meta()),
            ("optimizer".into(), *self.optimizer.meta()),
            ("schedule".into(), *self.schedule.meta()),
        ];
        metas.extend(self.encoders.iter().map(|(key, entry)| (key.clone(), *entry.meta())));
        let callbacks = self.registry.all::<Callbacks>();
        metas.extend(
            callbacks.map(|item| (format!("callbacks.{}", item.meta().name), *item.meta())),
        );
        metas
    }

    /// The components of the configuration and the crates that registered them, for `run.json`.
    pub(crate) fn origins(&self) -> Vec<String> {
        let used: Vec<_> =
            self.metas().into_iter().map(|(_, meta)| (meta.name, meta.scope)).collect();
        let is_used = |item: &&Registration| used.contains(&(item.meta().name, item.meta().scope));
        self.registry.iter().filter(is_used).map(|item| format!("{item:?}")).collect()
    }

    /// Opens the configured data.
    ///
    /// # Errors
    /// Whatever is wrong with the source.
    pub fn open_configured(&self) -> Result<Box<dyn ViewSource>> {
        self.open(self.source()?)
    }

    /// Finds the configured data.
    ///
    /// # Errors
    /// A path that is missing, unreadable, or holds no sample of the modality.
    pub fn source(&self) -> Result<Source> {
        Ok(Source::resolve(&self.settings.data.source, (self.modality.build().rule)())?)
    }

    /// What the modality would choose for these data; see [`lejepa_core::Modality::advise`].
    ///
    /// # Errors
    /// Whatever is wrong with the source.
    pub fn advise(&self, source: Source, at: SurveyContext<'_>) -> Result<Advice> {
        Ok(self.pipeline.advise(source, at)?)
    }

    /// Opens other data.
    ///
    /// # Errors
    /// Whatever is wrong with the source.
    pub fn open(&self, source: Source) -> Result<Box<dyn ViewSource>> {
        let budget = self.settings.data.cache_mib.saturating_mul(1 << 20);
        let data = &self.settings.data;
        let disk = (!data.disk_cache.is_empty()).then(|| DiskCache {
            folder: data.disk_cache.clone().into(),
            limit: (data.disk_cache_gib * f64::from(1 << 30)) as u64,
        });
        let options = OpenOptions::default().cache_bytes(budget).disk_cache(disk);
        Ok(self.pipeline.open(source, &options)?)
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
