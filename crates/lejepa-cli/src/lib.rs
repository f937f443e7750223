//! The `lejepa` command line as a library, so that a binary with other plugins is three lines:
//!
//! ```no_run
//! use lejepa_image as _; // a plugin that nothing names is not linked
//!
//! fn main() -> std::process::ExitCode {
//!     lejepa_cli::main()
//! }
//! ```
//!
//! A training step allocates and frees large tensors over and over: on Linux the `lejepa` binary uses
//! jemalloc, configured to keep its pages, and such a binary may do the same (see `crates/lejepa-cli/src/main.rs`).
//!
//! One file per command, in `cmd/`.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod args;
mod cmd;
mod console;
mod device;
mod error;
mod output;
mod sheet;
mod workers;

use std::process::ExitCode;

use clap::Parser;

// The general backbones come with every binary.
use lejepa_nn as _;

use crate::output::outln;

/// Runs the command line of this process and says how it ended: 0 success, 1 failure, 2 wrong use
/// or configuration, 130 interrupted.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     lejepa_cli::main()
/// }
/// ```
pub fn main() -> ExitCode {
    let args = args::Args::parse();
    // A panic that is caught becomes a skipped sample and is reported as one.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !lejepa_train::is_guarded() {
            print(panic);
        }
    }));
    let workers = match workers::Workers::join(&args.command) {
        Ok(workers) => workers,
        Err(e) => {
            e.report(args.json);
            return ExitCode::from(e.exit_code());
        }
    };
    match cmd::run(&args, &workers) {
        Ok(result) => {
            if args.json && workers.is_root() {
                outln!("{result}");
            }
            if output::is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(e) => {
            workers.report(&e, args.json);
            ExitCode::from(e.exit_code())
        }
    }
}
