//! The `lejepa` command line with the modality `accelerometer`.

use std::process::ExitCode;

// Cargo links only dependencies that code names, and only linked crates are registered.
use lejepa_image as _;

use accelerometer as _;

fn main() -> ExitCode {
    lejepa_cli::main()
}
