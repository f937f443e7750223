//! The `lejepa` binary: the plugins it links, and nothing else.

#[cfg(target_os = "linux")]
mod allocator;

use std::process::ExitCode;

#[cfg(feature = "audio")]
use lejepa_audio as _;
#[cfg(feature = "film")]
use lejepa_film as _;
#[cfg(feature = "image")]
use lejepa_image as _;
#[cfg(feature = "object-store")]
use lejepa_object_store as _;
#[cfg(feature = "video")]
use lejepa_video as _;
#[cfg(feature = "world")]
use lejepa_world as _;

fn main() -> ExitCode {
    lejepa_cli::main()
}
