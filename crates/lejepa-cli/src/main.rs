//! The `lejepa` binary: the plugins it links, and nothing else.

use std::process::ExitCode;

#[cfg(feature = "audio")]
use lejepa_audio as _;
#[cfg(feature = "image")]
use lejepa_image as _;
#[cfg(feature = "video")]
use lejepa_video as _;

// A training step allocates and frees the same large tensors over and over; the system's allocator
// hands their pages back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lejepa_cli::main()
}
