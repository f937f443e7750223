//! A configuration with the documentation of its keys.

use lejepa_core::{Value, config};
use lejepa_nn::ProjectorConfig;
use lejepa_objective::ObjectiveConfig;

use crate::resolved::Resolved;

impl Resolved {
    /// What every key means: dotted keys with their words.
    pub fn docs(&self) -> std::collections::BTreeMap<String, String> {
        let here = |name| config::field_docs(include_str!("config.rs"), name);
        let mut docs = std::collections::BTreeMap::new();
        let mut add = |section: &str, found: config::Docs| {
            for (key, words) in found {
                let dotted = if section.is_empty() { key } else { format!("{section}.{key}") };
                docs.insert(dotted, words);
            }
        };
        for (section, found) in [
            ("", here("Settings")),
            ("data", here("DataConfig")),
            ("train", here("TrainConfig")),
            ("checkpoint", here("CheckpointConfig")),
            ("probe", here("ProbeConfig")),
            ("objective", ObjectiveConfig::docs()),
            ("projector", ProjectorConfig::docs()),
        ] {
            add(section, found);
        }
        for (section, meta) in self.metas() {
            add(&section, meta.docs());
            if section.starts_with("callbacks.") {
                add(&section, vec![("enabled".into(), format!("{}.", meta.about))]);
            } else if section != self.modality().name() {
                let kind = section.split('.').next().unwrap_or_default();
                let others = format!("{}. Others: `lejepa list {kind}`.", meta.about);
                add(&section, vec![("name".into(), others)]);
            }
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
        for (key, value) in self.table().iter().filter(|(_, v)| !v.is_table()) {
            out.push_str(&line("", key, value));
        }
        sections("", self.table(), &mut |section, table| {
            out.push_str(&format!("\n[{section}]\n"));
            for (key, value) in table.iter().filter(|(_, v)| !v.is_table()) {
                out.push_str(&line(&format!("{section}."), key, value));
            }
        });
        out
    }
}

/// Calls `each` with every section that has keys, by its dotted name.
fn sections(
    prefix: &str,
    table: &lejepa_core::Table,
    each: &mut dyn FnMut(&str, &lejepa_core::Table),
) {
    for (name, inner) in table.iter().filter_map(|(k, v)| Some((k, v.as_table()?))) {
        let dotted = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if inner.values().any(|value| !value.is_table()) {
            each(&dotted, inner);
        }
        sections(&dotted, inner, each);
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
