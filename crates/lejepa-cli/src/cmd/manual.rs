//! `lejepa man`: manual pages.

use std::path::Path;

use clap::CommandFactory;
use lejepa_train::TrainError;
use serde_json::{Value, json};

use crate::args::Args;
use crate::error::CliError;
use crate::output::outln;

pub(super) fn run(args: &Args, folder: &Path) -> Result<Value, CliError> {
    std::fs::create_dir_all(folder).map_err(TrainError::io("create", folder))?;
    // Pages of sub-commands are named lejepa-NAME.1.
    clap_mangen::generate_to(Args::command(), folder).map_err(TrainError::io("write", folder))?;
    let entries = std::fs::read_dir(folder).map_err(TrainError::io("read", folder))?;
    let pages =
        entries.flatten().filter(|e| e.path().extension().is_some_and(|e| e == "1")).count();
    if !args.json && !args.quiet {
        outln!(
            "{pages} pages in {}; read one with: man {}/lejepa.1",
            folder.display(),
            folder.display()
        );
    }
    Ok(json!({ "folder": folder.display().to_string(), "pages": pages }))
}
