//! The commands.

mod list;
mod probe;
mod resume;
mod show;
mod train;

use lejepa_core::Registry;
use serde_json::{Value, json};

use crate::args::{Args, Command, ConfigArgs, ConfigCommand};
use crate::error::CliError;

/// Runs a command; its result as JSON is printed only where the user asked for it.
pub(crate) fn run(args: &Args) -> Result<Value, CliError> {
    if let Command::Completions { shell } = &args.command {
        use clap::CommandFactory;
        let mut command = Args::command();
        // With --json the last line of stdout is JSON and the script would be in its way.
        let mut out: Box<dyn std::io::Write> =
            if args.json { Box::new(std::io::stderr()) } else { Box::new(std::io::stdout()) };
        clap_complete::generate(*shell, &mut command, "lejepa", &mut out);
        return Ok(json!({ "shell": shell.to_string() }));
    }
    let registry = Registry::discover()?;
    match &args.command {
        Command::Train(train) => train::run(args, train, &registry),
        Command::Resume(resume) => resume::run(args, resume, &registry),
        Command::Probe(probe) => probe::run(args, probe, &registry),
        Command::Modalities => Ok(list::modalities(args, &registry)),
        Command::Encoders => Ok(list::encoders(args, &registry)),
        Command::Statistics => Ok(list::statistics(args, &registry)),
        Command::Config { command: ConfigCommand::Show(config) } => {
            show::run(args, config, &registry)
        }
        Command::Completions { .. } => Ok(Value::Null),
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
    Ok(lejepa_train::Request { file, assignments: config.assignments() })
}
