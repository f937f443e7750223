//! `cargo xtask bench learn`: what the command that a new user types learns on each corpus.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::{round, table_of, write};
use crate::{cargo, run, setup};

/// A corpus: its name, its modality, and the manifests with its label columns. The built-in data have none.
type Corpus = (&'static str, &'static str, &'static [&'static str]);

const CORPORA: [Corpus; 11] = [
    ("image", "image", &[]),
    ("audio", "audio", &[]),
    ("video", "video", &[]),
    ("shapes", "image", &["manifest.csv"]),
    ("digits28", "image", &["manifest.csv"]),
    ("emoji", "image", &["manifest.csv"]),
    ("spoken", "audio", &["manifest.csv", "manifest-voice.csv"]),
    ("prompts", "audio", &["manifest.csv", "manifest-word.csv"]),
    ("environment", "audio", &["manifest.csv"]),
    ("motion", "video", &["manifest.csv", "manifest-digit.csv"]),
    ("reversed", "video", &["manifest.csv"]),
];

const KEYS: [&str; 16] = [
    "corpus",
    "labels",
    "minutes",
    "seeds",
    "seconds",
    "steps",
    "linear",
    "linear_sd",
    "linear_untrained",
    "linear_raw",
    "knn",
    "knn_sd",
    "knn_untrained",
    "knn_raw",
    "supervised",
    "encoder",
];

struct Wanted {
    json: bool,
    minutes: f64,
    seeds: u64,
    corpora: Vec<String>,
    fresh: bool,
    /// Whether the same encoder is trained on the labels too, for as long.
    supervised: bool,
}

fn parse(words: &[String]) -> Result<Wanted, String> {
    let mut wanted = Wanted {
        json: false,
        minutes: 5.0,
        seeds: 3,
        corpora: Vec::new(),
        fresh: false,
        supervised: true,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = |what: &str| -> Result<f64, String> {
            let value = words.next().and_then(|w| w.parse().ok()).filter(|v: &f64| *v > 0.0);
            value.ok_or_else(|| format!("{what} takes a number above 0"))
        };
        match word.as_str() {
            "--json" => wanted.json = true,
            "--fresh" => wanted.fresh = true,
            "--no-supervised" => wanted.supervised = false,
            "--minutes" => wanted.minutes = number("--minutes")?,
            "--seeds" => wanted.seeds = number("--seeds")? as u64,
            "--corpus" => {
                let name = words.next().ok_or("--corpus takes a name")?;
                if !CORPORA.iter().any(|(known, ..)| known == name) {
                    let known: Vec<&str> = CORPORA.iter().map(|(name, ..)| *name).collect();
                    return Err(format!("no corpus `{name}`; there are {}", known.join(", ")));
                }
                wanted.corpora.push(name.clone());
            }
            other => return Err(format!("unknown word `{other}`\n\n{}", crate::HELP)),
        }
    }
    Ok(wanted)
}

/// Trains on each corpus and seed what is not in the file of results yet, and writes the table.
pub(super) fn learn(words: &[String]) -> Result<(), String> {
    let wanted = parse(words)?;
    let found = setup::setup()?;
    let mut build =
        cargo(&["build", "--release", "--workspace", "--bins", "--example", "train_supervised"]);
    build.args(["--features", &setup::features(&found)]);
    run(&mut build)?;
    let folder = crate::target().join("learn");
    let kept = folder.join("results.jsonl");
    if wanted.fresh && kept.exists() {
        std::fs::remove_file(&kept).map_err(|e| format!("{}: {e}", kept.display()))?;
    }
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let is_wanted =
        |name: &str| wanted.corpora.is_empty() || wanted.corpora.iter().any(|c| c == name);
    for corpus in CORPORA.iter().filter(|(name, ..)| is_wanted(name)) {
        let (name, _, manifests) = *corpus;
        if !manifests.is_empty() && !crate::corpus(name)? {
            eprintln!("skipped {name}: it cannot be had here");
            continue;
        }
        for seed in 0..wanted.seeds {
            let is_done = |row: &Value| {
                row["corpus"] == name && row["minutes"] == wanted.minutes && row["seed"] == seed
            };
            if results(&kept).iter().any(is_done) {
                continue;
            }
            for row in train(&folder, corpus, &wanted, seed)? {
                eprintln!("{row}");
                append(&kept, &row)?;
            }
        }
    }
    let all = results(&kept);
    let rows: Vec<Value> = CORPORA
        .iter()
        .flat_map(|(name, _, manifests)| manifests_of(manifests).iter().map(move |m| (*name, *m)))
        .filter_map(|(name, manifest)| summary(&all, name, manifest, wanted.minutes))
        .collect();
    write("learn.csv", table_of(&KEYS, &rows))?;
    super::print(wanted.json, &json!({ "learn": rows }))
}

fn manifests_of(manifests: &'static [&'static str]) -> &'static [&'static str] {
    if manifests.is_empty() { &["demo"] } else { manifests }
}

fn results(kept: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(kept).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn append(kept: &Path, row: &Value) -> Result<(), String> {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(kept);
    file.and_then(|mut file| writeln!(file, "{row}"))
        .map_err(|e| format!("{}: {e}", kept.display()))
}

/// A run with no option but these, and a row of results for each label column.
fn train(folder: &Path, corpus: &Corpus, wanted: &Wanted, seed: u64) -> Result<Vec<Value>, String> {
    let (name, modality, manifests) = *corpus;
    let minutes = wanted.minutes;
    let output = folder.join(format!("{name}-{seed}"));
    let data = |manifest: &str| crate::root().join(".data").join(name).join(manifest);
    let mut words = vec!["train".to_string(), "--modality".into(), modality.into()];
    if let Some(first) = manifests.first() {
        words.extend(["--data".into(), data(first).display().to_string()]);
    }
    words
        .extend(["--minutes", &minutes.to_string(), "--seed", &seed.to_string()].map(String::from));
    words.extend(["--overwrite".into(), "--output".into(), output.display().to_string()]);
    let began = Instant::now();
    let trained = lejepa(&words)?;
    let seconds = began.elapsed().as_secs_f64();
    let encoder = std::fs::read_to_string(output.join("config.toml")).unwrap_or_default();
    let encoder = encoder.lines().skip_while(|l| *l != "[encoder]").nth(1).unwrap_or_default();
    let encoder = encoder.trim_start_matches("name = ").trim_matches('"').to_string();
    let supervised = match wanted.supervised {
        true => Some(supervised(&output, minutes)?),
        false => None,
    };
    let mut rows = Vec::new();
    for manifest in manifests_of(manifests) {
        let is_own = manifests.first() == Some(manifest) || manifests.is_empty();
        let probe = if is_own {
            trained["probe"].clone()
        } else {
            let run = output.display().to_string();
            let other = data(manifest).display().to_string();
            lejepa(&["probe".into(), run, "--data".into(), other])?["probe"].clone()
        };
        rows.push(json!({
            "corpus": name, "labels": manifest, "minutes": minutes, "seed": seed,
            "seconds": seconds, "steps": trained["steps"], "encoder": encoder, "probe": probe, "supervised": supervised.filter(|_| is_own),
        }));
    }
    Ok(rows)
}

/// The accuracy of the same encoder, trained on the labels for as long.
fn supervised(run: &Path, minutes: f64) -> Result<f64, String> {
    let program = crate::target().join("release/examples/train_supervised");
    let output =
        Command::new(program).arg(run).arg(minutes.to_string()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| format!("train_supervised could not be started: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| format!("train_supervised ended with {}", output.status))
}

/// The last line of what the program prints with `--json`.
fn lejepa(words: &[String]) -> Result<Value, String> {
    let program: PathBuf = crate::target().join("release/lejepa");
    eprintln!("$ lejepa {}", words.join(" "));
    let mut command = Command::new(program);
    let output = command.args(words).args(["--json", "--quiet"]).stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| format!("lejepa could not be started: {e}"))?;
    if !output.status.success() {
        return Err(format!("lejepa {} ended with {}", words.join(" "), output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|e| format!("what lejepa printed is not JSON: {e}"))
}

/// Mean and standard deviation over the seeds of one label column.
fn summary(all: &[Value], name: &str, manifest: &str, minutes: f64) -> Option<Value> {
    let of: Vec<&Value> = all
        .iter()
        .filter(|r| r["corpus"] == name && r["labels"] == manifest && r["minutes"] == minutes)
        .collect();
    let n = of.len() as f64;
    if of.is_empty() {
        return None;
    }
    let numbers = |path: &str| -> Vec<f64> {
        of.iter().filter_map(|r| r.pointer(path).and_then(Value::as_f64)).collect()
    };
    let mean = |path: &str| numbers(path).iter().sum::<f64>() / n;
    let percent = |path: &str| round(100.0 * mean(path));
    let deviation = |path: &str| {
        let (values, mean) = (numbers(path), mean(path));
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        round(100.0 * (squares / (n - 1.0).max(1.0)).sqrt())
    };
    Some(json!({
        "corpus": name, "labels": manifest.trim_end_matches(".csv"), "minutes": minutes,
        "seeds": of.len(), "seconds": round(mean("/seconds")), "steps": round(mean("/steps")),
        "linear": percent("/probe/linear/trained"), "linear_sd": deviation("/probe/linear/trained"),
        "linear_untrained": percent("/probe/linear/untrained"),
        "linear_raw": percent("/probe/linear/raw"),
        "knn": percent("/probe/knn/trained"), "knn_sd": deviation("/probe/knn/trained"),
        "knn_untrained": percent("/probe/knn/untrained"), "knn_raw": percent("/probe/knn/raw"),
        "encoder": of[0]["encoder"],
        "supervised": numbers("/supervised").first().map(|_| percent("/supervised")),
    }))
}
