//! `lejepa inspect`: what a file or folder is, and what is in it.

use std::path::Path;

use lejepa_core::{Error, Registry, kind};
use lejepa_train::{NamedEmbeddings, Request, RunDir, TrainError, checkpoint, tensors_of};
use serde_json::{Value, json};

use crate::args::{Args, InspectArgs};
use crate::error::CliError;
use crate::output::outln;

/// What is known of a file: what it is, and facts by name.
struct Found {
    what: String,
    facts: Vec<(String, String)>,
}

impl Found {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), facts: Vec::new() }
    }

    fn fact(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.facts.push((name.into(), value.to_string()));
        self
    }
}

pub(super) fn run(
    args: &Args,
    words: &InspectArgs,
    registry: &Registry,
) -> Result<Value, CliError> {
    let mut all = Vec::new();
    for file in &words.files {
        if !file.exists() {
            let hint = "check the spelling";
            return Err(Error::path(file, "no such file or folder", hint).into());
        }
        let found = look(file, words.modality.as_deref(), registry)?;
        if !args.json {
            outln!("{}: {}", file.display(), found.what);
            for (name, value) in &found.facts {
                outln!("  {name:<12} {value}");
            }
        }
        let facts: serde_json::Map<String, Value> =
            found.facts.into_iter().map(|(name, value)| (name, value.into())).collect();
        all.push(json!({ "file": file.display().to_string(), "what": found.what, "facts": facts }));
    }
    Ok(json!({ "files": all }))
}

fn look(file: &Path, modality: Option<&str>, registry: &Registry) -> Result<Found, CliError> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    if file.is_dir() {
        if let Ok(run) = RunDir::open(file) {
            return run_folder(&run);
        }
        if file.join("state.json").is_file() {
            let state = checkpoint::load_state(file)?;
            return Ok(Found::new("a checkpoint")
                .fact("step", format!("{} of {}", state.step, state.total)));
        }
        if file.join("config.json").is_file() {
            return exported(&file.join("config.json"));
        }
        if let Ok(embeddings) = NamedEmbeddings::read(file) {
            return Ok(rows(&embeddings));
        }
    }
    if name.ends_with(".safetensors") {
        return tensors(file);
    }
    if [".npy", ".csv", ".parquet"].iter().any(|end| name.ends_with(end))
        && let Ok(embeddings) = NamedEmbeddings::read(file)
    {
        return Ok(rows(&embeddings));
    }
    sample(file, modality, registry)
}

fn rows(embeddings: &NamedEmbeddings) -> Found {
    let columns: Vec<&str> = embeddings.labels.iter().map(|c| c.name.as_str()).collect();
    let found = Found::new("embeddings")
        .fact("rows", embeddings.names.len())
        .fact("dimensions", embeddings.dim);
    match columns.is_empty() {
        true => found,
        false => found.fact("labels", columns.join(", ")),
    }
}

fn run_folder(run: &RunDir) -> Result<Found, CliError> {
    let (info, last) = (run.info(), run.last_metrics());
    let words = |key: &str| match &info[key] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        value => value.as_str().unwrap_or("unknown").to_string(),
    };
    let steps = checkpoint::steps(run)?;
    let steps: Vec<String> = steps.iter().map(u64::to_string).collect();
    let found = Found::new("a run")
        .fact("status", words("status"))
        .fact("modality", words("modality"))
        .fact("encoders", words("encoders"))
        .fact("checkpoints", steps.join(", "));
    Ok(match last {
        Some(m) => found.fact("step", m.step).fact("loss", format!("{:.4}", m.get("loss"))),
        None => found,
    })
}

fn exported(file: &Path) -> Result<Found, CliError> {
    let text = std::fs::read(file).map_err(TrainError::io("read", file))?;
    let card: Value = serde_json::from_slice(&text)
        .map_err(|e| TrainError::Corrupt { path: file.into(), reason: e.to_string() })?;
    let mut found = Found::new("an exported encoder");
    for key in ["modality", "encoders", "hidden_size", "step", "view", "architecture", "input"] {
        if !card[key].is_null() {
            found = found.fact(key, &card[key]);
        }
    }
    Ok(found)
}

fn tensors(file: &Path) -> Result<Found, CliError> {
    let listed = tensors_of(file)?;
    let count: usize = listed.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let mut found = Found::new("weights").fact("tensors", listed.len()).fact("parameters", count);
    for (name, shape) in listed {
        found = found.fact(name, format!("{shape:?}"));
    }
    Ok(found)
}

/// A sample of the first kind of data whose decoder takes it.
fn sample(file: &Path, modality: Option<&str>, registry: &Registry) -> Result<Found, CliError> {
    let mut reasons = Vec::new();
    for item in registry.all::<kind::Modality>() {
        let Some(entry) = item.entry::<kind::Modality>() else { continue };
        let name = entry.name();
        let rule = (entry.build().rule)();
        let fits = match modality {
            Some(wanted) => wanted == name,
            None => {
                lejepa_core::has_extension(file, rule.extensions)
                    || file.is_dir() && (rule.is_sample_dir)(file)
                    || start(file).is_some_and(|start| (rule.recognises)(&start))
            }
        };
        if !fits {
            continue;
        }
        let listed = super::views::listing(&[file.to_path_buf()])?;
        let source = lejepa_core::Value::String(listed.path().display().to_string());
        let assignments = vec![format!("modality={name}"), format!("data.source={source}")];
        let resolved = Request { assignments, ..Request::default() }.resolve(registry)?;
        match resolved.open_configured()?.checked_examine(0) {
            Ok(facts) => {
                let mut found = Found::new(format!("a sample of {name}"));
                for (name, value) in facts.numbers() {
                    found = found.fact(name.as_ref(), value);
                }
                for remark in facts.remarks() {
                    found = found.fact("remark", remark);
                }
                return Ok(found);
            }
            Err(error) => reasons.push(format!("not read as {name}: {error}")),
        }
    }
    let hint = "it takes samples, runs, checkpoints, exports, .safetensors, and embeddings (.npy, .csv, .parquet)";
    match reasons.is_empty() {
        true => Err(Error::path(file, "nothing that this program knows", hint).into()),
        false => Ok(reasons.into_iter().fold(Found::new("damaged"), |f, r| f.fact("reason", r))),
    }
}

/// The first bytes of a file.
fn start(file: &Path) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut start = Vec::new();
    std::fs::File::open(file).ok()?.take(512).read_to_end(&mut start).ok()?;
    Some(start)
}
