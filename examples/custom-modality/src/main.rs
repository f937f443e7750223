//! The `lejepa` command line with accelerometer in it.

use std::process::ExitCode;

// A dependency that no code names is not linked, and what is not linked is not registered.
use lejepa_image as _;
use accelerometer as _;

fn main() -> ExitCode {
    lejepa_cli::main()
}
