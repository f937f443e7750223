//! `lejepa runs`: what came of runs, and in which settings they differ.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lejepa_core::{Table, Value as Setting};
use lejepa_train::RunDir;
use lejepa_train::rundir::parse_toml;
use serde_json::{Value, json};

use crate::args::{Args, RunOrder, RunsArgs};
use crate::error::CliError;
use crate::output::outln;

/// Settings in which runs differ that are not what they compute.
const INCIDENTAL: [&str; 7] = [
    "data.workers",
    "data.prefetch",
    "data.cache_mib",
    "data.disk_cache",
    "checkpoint.",
    "device",
    "train.log_every",
];

/// A run as a row.
struct Row {
    path: PathBuf,
    status: String,
    info: Value,
    /// The last line of its log.
    last: BTreeMap<String, f64>,
    steps: u64,
    settings: BTreeMap<String, String>,
}

pub(super) fn run(args: &Args, words: &RunsArgs) -> Result<Value, CliError> {
    let mut rows = found(&words.folders)?.iter().map(Row::of).collect::<Result<Vec<_>, _>>()?;
    let key = |row: &Row| match words.sort {
        RunOrder::Name => 0.0,
        // The best first; what is not known comes last.
        RunOrder::Linear => row.probe("linear").map_or(f64::MAX, |v| -v),
        RunOrder::Knn => row.probe("knn").map_or(f64::MAX, |v| -v),
        RunOrder::Loss => row.last.get("loss").copied().unwrap_or(f64::MAX),
    };
    rows.sort_by(|a, b| key(a).total_cmp(&key(b)));
    let differing = differing(&rows);
    if !args.json {
        print(&rows, &differing);
    }
    Ok(json!({ "runs": rows.iter().map(|row| row.json(&differing)).collect::<Vec<_>>() }))
}

/// The runs of folders that are runs or hold some.
pub(super) fn found(folders: &[PathBuf]) -> Result<Vec<RunDir>, CliError> {
    let mut runs = Vec::new();
    for folder in folders {
        let before = runs.len();
        match RunDir::open(folder) {
            Ok(run) => runs.push(run),
            Err(_) => runs.append(&mut within(folder)?),
        }
        if runs.len() == before {
            let hint = "name run folders, or the folder that holds them";
            return Err(lejepa_core::Error::path(folder, "holds no runs", hint).into());
        }
    }
    Ok(runs)
}

/// The runs in a folder, by name.
fn within(folder: &Path) -> Result<Vec<RunDir>, CliError> {
    let reason = |e: std::io::Error| {
        let hint = "name run folders, or the folder that holds them (train makes `runs`)";
        lejepa_core::Error::path(folder, e.to_string(), hint)
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(reason)? {
        paths.push(entry.map_err(reason)?.path());
    }
    paths.sort();
    Ok(paths.iter().filter_map(|path| RunDir::open(path).ok()).collect())
}

impl Row {
    fn of(run: &RunDir) -> Result<Self, CliError> {
        let info = run.info();
        let status = match info["status"].as_str().unwrap_or("unknown") {
            // A process that was killed could not say so.
            "running" if !run.is_running() => "killed",
            status => status,
        };
        let settings = settings(run)?;
        let last = run.last_metrics();
        let scalars = ["loss", "prediction", "sigreg", "effective_rank"];
        Ok(Self {
            path: run.path().to_path_buf(),
            status: status.to_string(),
            steps: last.as_ref().map_or(0, |metrics| metrics.step),
            last: last
                .iter()
                .flat_map(|m| scalars.map(|name| (name.to_string(), m.get(name))))
                .filter(|(_, value)| value.is_finite())
                .collect(),
            info,
            settings,
        })
    }

    /// An accuracy of the first column of labels.
    fn probe(&self, kind: &str) -> Option<f64> {
        self.info["probes"][0]["scores"][kind].as_f64()
    }

    fn json(&self, differing: &[String]) -> Value {
        let settings: BTreeMap<&String, Option<&String>> =
            differing.iter().map(|key| (key, self.settings.get(key))).collect();
        json!({
            "run": self.path.display().to_string(),
            "status": self.status,
            "modality": self.info["modality"],
            "encoders": self.info["encoders"],
            "steps": self.steps,
            "final": self.last,
            "probes": self.info["probes"],
            "settings": settings,
        })
    }
}

/// The settings of a run by their dotted keys.
pub(super) fn settings(run: &RunDir) -> Result<BTreeMap<String, String>, CliError> {
    let file = run.config_file();
    let text = std::fs::read_to_string(&file)
        .map_err(lejepa_train::TrainError::io("read", &file))
        .map_err(CliError::Train)?;
    let mut settings = BTreeMap::new();
    flatten("", &parse_toml(&file, &text)?, &mut settings);
    Ok(settings)
}

fn flatten(prefix: &str, table: &Table, out: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let dotted = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Setting::Table(table) => flatten(&dotted, table, out),
            value => drop(out.insert(dotted, value.to_string())),
        }
    }
}

/// Keys whose values are not the same in all runs.
fn differing(rows: &[Row]) -> Vec<String> {
    let keys: std::collections::BTreeSet<&String> =
        rows.iter().flat_map(|row| row.settings.keys()).collect();
    let differs = |key: &str| {
        let first = rows.first().and_then(|row| row.settings.get(key));
        rows.iter().any(|row| row.settings.get(key) != first)
    };
    let matters = |key: &str| !INCIDENTAL.iter().any(|start| key.starts_with(start));
    keys.into_iter().filter(|key| matters(key) && differs(key)).cloned().collect()
}

fn print(rows: &[Row], differing: &[String]) {
    let percent = |value: Option<f64>| value.map_or("-".into(), |v| format!("{:.1}", 100.0 * v));
    let number = |row: &Row, name: &str, digits: usize| {
        row.last.get(name).map_or("-".to_string(), |v| format!("{v:.digits$}"))
    };
    let words = |value: &Value| match value {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("+"),
        value => value.as_str().unwrap_or("-").to_string(),
    };
    let head = [
        "run", "status", "data", "encoder", "steps", "loss", "sigreg", "rank", "linear %", "k-NN %",
    ];
    let mut table = vec![head.map(String::from).to_vec()];
    for row in rows {
        table.push(vec![
            row.path.display().to_string(),
            row.status.clone(),
            words(&row.info["modality"]),
            words(&row.info["encoders"]),
            row.steps.to_string(),
            number(row, "loss", 4),
            number(row, "sigreg", 3),
            number(row, "effective_rank", 1),
            percent(row.probe("linear")),
            percent(row.probe("knn")),
        ]);
    }
    lines(&table, 4);
    if differing.is_empty() {
        return;
    }
    outln!("\nsettings that differ");
    let mut table = Vec::new();
    for key in differing {
        let values = rows.iter().map(|row| row.settings.get(key).map_or("-", String::as_str));
        table.push(std::iter::once(key.clone()).chain(values.map(short)).collect());
    }
    let names = rows.iter().map(|row| row.path.file_name().unwrap_or_default().to_string_lossy());
    table.insert(0, std::iter::once(String::new()).chain(names.map(Into::into)).collect());
    lines(&table, usize::MAX);
}

/// The start of a long value.
fn short(value: &str) -> String {
    const MOST: usize = 28;
    match value.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_string(),
    }
}

/// Prints columns, those from `numbers` on aligned to the right.
pub(super) fn lines(table: &[Vec<String>], numbers: usize) {
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| {
        table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in table {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column >= numbers { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        outln!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
