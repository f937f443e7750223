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
//! It brings mimalloc as the program's allocator, so such a binary cannot name another one.
//!
//! One file per command: `train`, `resume`, `probe`, `modalities`, `encoders`, `config`, `completions`.

mod args;
mod cmd;
mod console;
mod device;
mod error;

use std::process::ExitCode;

use clap::Parser;

// The general backbones come with every binary.
use lejepa_nn as _;

// A training step allocates and frees the same large tensors over and over; the system's allocator
// hands their pages back each time, and takes them again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h: milliseconds until free pages go back to the system, −1 for
/// never.
const PURGE_DELAY: std::ffi::c_int = 15;

fn keep_pages() {
    // SAFETY: sets a number among mimalloc's options, before this process has threads.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

/// Runs the command line of this process and says how it ended: 0 success, 1 failure, 2 wrong use
/// or configuration, 130 interrupted.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     lejepa_cli::main()
/// }
/// ```
pub fn main() -> ExitCode {
    keep_pages();
    let args = args::Args::parse();
    // A panic that is caught and told as a skipped sample needs no second telling.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !lejepa_train::loader::is_guarded() {
            print(panic);
        }
    }));
    match cmd::run(&args) {
        Ok(result) => {
            if args.json {
                println!("{result}");
            }
            ExitCode::SUCCESS
        }
        Err(e) => {
            e.report(args.json);
            ExitCode::from(e.exit_code())
        }
    }
}
