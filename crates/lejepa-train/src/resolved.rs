//! From a request in words to a whole, checked configuration.

use lejepa_core::{
    DEFAULT_SAMPLER, EncoderEntry, Error, ModalityEntry, Registry, SamplerEntry, Source,
    StatisticEntry, StatisticKind, Table, Value, ViewSource, config,
};
use lejepa_objective::Objective;
use lejepa_objective::statistics::EppsPulley;

use crate::config::Settings;
use crate::{Result, TrainError};

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
    #[doc = include_str!("doc/resolved.txt")]
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
