//! A configuration with what every key means beside it.

use lejepa_core::{Value, config};
use lejepa_nn::ProjectorConfig;
use lejepa_objective::ObjectiveConfig;

use crate::resolved::Resolved;

impl Resolved {
    /// What every key means: dotted keys with their words.
    pub fn docs(&self) -> std::collections::BTreeMap<String, String> {
        let here = |name| config::field_docs(include_str!("config.rs"), name);
        let sampler = self.sampler.map_or_else(Vec::new, |s| (s.docs)());
        let mut docs = std::collections::BTreeMap::new();
        for (section, found) in [
            ("", here("Settings")),
            ("data", here("DataConfig")),
            ("train", here("TrainConfig")),
            ("checkpoint", here("CheckpointConfig")),
            ("probe", here("ProbeConfig")),
            ("objective", ObjectiveConfig::docs()),
            ("objective", (self.statistic.docs)()),
            ("projector", ProjectorConfig::docs()),
            ("encoder", (self.encoder.docs)()),
            ("sampler", sampler),
            (self.modality.name, (self.modality.docs)()),
        ] {
            for (key, words) in found {
                let dotted = if section.is_empty() { key } else { format!("{section}.{key}") };
                docs.insert(dotted, words);
            }
        }
        for (key, words) in [
            (
                "objective.statistic",
                format!("{}. Others: `lejepa statistics`.", self.statistic.about),
            ),
            ("encoder.name", format!("{}. Others: `lejepa encoders`.", self.encoder.about)),
            ("sampler.name", "`default` is the modality's own. Others: `lejepa samplers`.".into()),
        ] {
            docs.insert(key.into(), words);
        }
        docs
    }

    /// The configuration as TOML text with what every key means above it.
    pub fn to_commented_toml(&self) -> String {
        let docs = self.docs();
        let line = |prefix: &str, key: &str, value: &Value| {
            let words = docs.get(&format!("{prefix}{key}")).map_or("", String::as_str);
            let comment: String = wrapped(words, 96).iter().map(|w| format!("# {w}\n")).collect();
            format!("{comment}{key} = {value}\n")
        };
        let mut out = String::new();
        for (key, value) in self.table.iter().filter(|(_, v)| !v.is_table()) {
            out.push_str(&line("", key, value));
        }
        for (section, table) in self.table.iter().filter_map(|(k, v)| Some((k, v.as_table()?))) {
            out.push_str(&format!("\n[{section}]\n"));
            for (key, value) in table {
                out.push_str(&line(&format!("{section}."), key, value));
            }
        }
        out
    }
}

/// Words in lines of at most `width` letters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}
