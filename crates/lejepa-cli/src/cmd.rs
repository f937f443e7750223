//! The commands.

mod data;
mod doctor;
mod export;
mod inspect;
mod judge;
mod list;
mod manual;
mod neighbours;
mod pca;
mod plan;
mod plugin;
mod probe;
mod report;
mod resume;
mod runs;
mod scores;
mod show;
mod sweep;
mod train;
mod views;

use std::path::PathBuf;

use lejepa_core::Registry;
use lejepa_train::{RunDir, checkpoint};
use serde_json::{Value, json};

use crate::args::{Args, Command, ConfigArgs, ConfigCommand, ListKind};
use crate::error::CliError;
use crate::workers::Workers;

/// Rejects an unknown `LEJEPA_SIMD`, which would be ignored.
fn check_simd_variable() -> Result<(), CliError> {
    let key = lejepa_kernels::SIMD_VARIABLE;
    let Some(word) = std::env::var_os(key) else { return Ok(()) };
    let known = lejepa_kernels::NARROWER;
    if word.is_empty() || known.iter().any(|known| word == *known) {
        return Ok(());
    }
    let message = format!("the environment variable {key} is `{}`", word.to_string_lossy());
    let hint = format!(
        "use {}, or unset it for the widest vectors",
        known.map(|k| format!("`{k}`")).join(" or ")
    );
    Err(CliError::Usage(message, hint))
}

/// Runs a command; its result as JSON is printed only where the user asked for it.
pub(crate) fn run(args: &Args, workers: &Workers) -> Result<Value, CliError> {
    if let Command::Completions { shell } = &args.command {
        use clap::CommandFactory;
        let mut command = Args::command();
        // With --json the last line of stdout is JSON and the script would be in its way.
        let mut out: Box<dyn std::io::Write> =
            if args.json { Box::new(std::io::stderr()) } else { Box::new(std::io::stdout()) };
        clap_complete::generate(*shell, &mut command, "lejepa", &mut out);
        return Ok(json!({ "shell": shell.to_string() }));
    }
    if let Command::Man { folder } = &args.command {
        return manual::run(args, folder);
    }
    if let Command::NewPlugin(words) = &args.command {
        return plugin::run(args, words);
    }
    check_simd_variable()?;
    let registry = Registry::discover()?;
    match &args.command {
        Command::Train(train) => train::run(args, train, &registry, workers),
        Command::Views(words) => views::run(args, words, &registry),
        Command::Pca(words) => pca::run(args, words, &registry),
        Command::Data(words) => data::run(args, words, &registry),
        Command::Runs(words) => runs::run(args, words),
        Command::Judge(words) => judge::run(args, words, &registry),
        Command::Report(words) => report::run(args, words, &registry),
        Command::Sweep(words) => sweep::run(args, words, &registry),
        Command::Neighbours(words) => neighbours::run(args, words, &registry),
        Command::Inspect(words) => inspect::run(args, words, &registry),
        Command::Doctor(words) => doctor::run(args, words, &registry),
        Command::Resume(resume) => resume::run(args, resume, &registry, workers),
        Command::Plan(words) => plan::run(args, words, &registry),
        Command::Probe(probe) => probe::run(args, probe, &registry),
        Command::Export(words) => export::export_run(args, words, &registry),
        Command::Embed(words) => export::embed(args, words, &registry),
        Command::Modalities => Ok(list::list(args, ListKind::Modality, &registry)),
        Command::Encoders { all: true } => list::sizes(args, &registry),
        Command::Encoders { all: false } => Ok(list::list(args, ListKind::Encoder, &registry)),
        Command::Statistics => Ok(list::list(args, ListKind::Statistic, &registry)),
        Command::List { kind } => Ok(list::list(args, *kind, &registry)),
        Command::Config { command: ConfigCommand::Show(config) } => {
            show::run(args, config, &registry)
        }
        Command::NewPlugin(_) | Command::Man { .. } | Command::Completions { .. } => {
            Ok(Value::Null)
        }
    }
}

/// The configuration that the command line asks for.
pub(crate) fn request(config: &ConfigArgs) -> Result<lejepa_train::Request, CliError> {
    let file = match &config.config {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(lejepa_train::TrainError::io("read", path))
                .map_err(CliError::Train)?;
            Some(lejepa_train::rundir::parse_toml(path, &text)?)
        }
    };
    let assignments = config.assignments();
    Ok(lejepa_train::Request { file, assignments, ..lejepa_train::Request::default() })
}

/// The folder of the checkpoint that a user names: `latest`, `best`, or a step.
pub(crate) fn checkpoint(run: &RunDir, words: &str) -> Result<PathBuf, CliError> {
    match words {
        "latest" => Ok(checkpoint::latest(run)?),
        "best" => Ok(checkpoint::best(run)?),
        words => {
            let steps = checkpoint::steps(run)?;
            let Some(step) = words.parse().ok().filter(|s| steps.contains(s)) else {
                let known: Vec<String> = steps.iter().map(u64::to_string).collect();
                return Err(CliError::Usage(
                    format!("no checkpoint `{words}` in {}", run.path().display()),
                    format!("there are latest, best, {}", known.join(", ")),
                ));
            };
            let path = checkpoint::path(run, step);
            checkpoint::verify(&path)?;
            Ok(path)
        }
    }
}
