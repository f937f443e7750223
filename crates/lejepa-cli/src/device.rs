//! The one place that names backends.

use burn::tensor::Device;

use crate::error::CliError;

/// A device that this build has, not opened yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Auto,
    Cpu,
    #[cfg(feature = "wgpu")]
    Wgpu(Option<usize>),
    #[cfg(feature = "cuda")]
    Cuda(usize),
}

/// Reads what a user wrote. Opens nothing: drivers are slow to start and chatty.
pub(crate) fn choose(words: &str) -> Result<Choice, CliError> {
    let (kind, index) = match words.split_once(':') {
        None => (words, None),
        Some((kind, n)) => match n.parse::<usize>() {
            Ok(n) => (kind, Some(n)),
            Err(_) => return Err(unknown(words)),
        },
    };
    match (kind, index) {
        ("auto", None) => Ok(Choice::Auto),
        ("cpu", None) => Ok(Choice::Cpu),
        #[cfg(feature = "wgpu")]
        ("wgpu", index) => Ok(Choice::Wgpu(index)),
        #[cfg(feature = "cuda")]
        ("cuda", index) => Ok(Choice::Cuda(index.unwrap_or(0))),
        #[cfg(not(feature = "wgpu"))]
        ("wgpu", _) => Err(absent("wgpu")),
        #[cfg(not(feature = "cuda"))]
        ("cuda", _) => Err(absent("cuda")),
        _ => Err(unknown(words)),
    }
}

/// Opens a device and names it.
pub(crate) fn open(choice: Choice) -> (Device, String) {
    match choice {
        Choice::Auto => automatic(),
        Choice::Cpu => cpu(),
        #[cfg(feature = "wgpu")]
        Choice::Wgpu(None) => {
            (Device::wgpu(burn::tensor::DeviceKind::DefaultDevice), "wgpu".into())
        }
        #[cfg(feature = "wgpu")]
        Choice::Wgpu(Some(n)) => {
            (Device::wgpu(burn::tensor::DeviceKind::DiscreteGpu(n)), format!("wgpu:{n}"))
        }
        #[cfg(feature = "cuda")]
        Choice::Cuda(n) => (Device::cuda(n), format!("cuda:{n}")),
    }
}

/// Whether a graphics card computes.
pub(crate) fn is_gpu(device: &Device) -> bool {
    *device != Device::flex()
}

fn unknown(words: &str) -> CliError {
    let near = lejepa_core::nearest(words, ["auto", "cpu", "wgpu", "cuda"]);
    let near = near.map_or(String::new(), |n| format!("did you mean `{n}`? "));
    CliError::Usage(
        format!("unknown device `{words}`"),
        format!("{near}devices are auto, cpu, wgpu[:n] and cuda[:n]"),
    )
}

fn cpu() -> (Device, String) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    (Device::flex(), format!("cpu, {threads} threads"))
}

/// A graphics card where this build can use one, by CUDA rather than by wgpu; else the CPU.
/// Vulkan drivers that run on the CPU are no cards and are slower than the CPU backend.
fn automatic() -> (Device, String) {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if let Some((device, name)) = card() {
        return (device, name);
    }
    cpu()
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn card() -> Option<(Device, String)> {
    // Where a driver is missing, foreign code may panic rather than find nothing.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let cards = quietly(|| std::panic::catch_unwind(Device::enumerate_physical));
    std::panic::set_hook(print);
    let devices = cards.ok()?.into_iter().flat_map(|card| {
        let name = card.name;
        card.devices.into_vec().into_iter().map(move |device| (device, name.clone()))
    });
    // `false` sorts before `true`.
    devices.min_by_key(|(device, _)| !format!("{device:?}").contains("Cuda"))
}

/// Runs `probe` without what C libraries write to standard error: on a machine without a desktop they complain
/// of a missing session, once for each driver. Nothing else runs yet that could have something to say.
#[cfg(all(unix, any(feature = "wgpu", feature = "cuda")))]
fn quietly<T>(probe: impl FnOnce() -> T) -> T {
    let silenced = || {
        let saved = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3)?;
        let sink = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
        rustix::stdio::dup2_stderr(sink)?;
        Ok::<_, std::io::Error>(saved)
    };
    let saved = silenced().ok();
    let found = probe();
    // It was open a moment ago, so that this cannot fail but for a signal.
    if let Some(saved) = saved {
        while rustix::stdio::dup2_stderr(&saved) == Err(rustix::io::Errno::INTR) {}
    }
    found
}

#[cfg(all(not(unix), any(feature = "wgpu", feature = "cuda")))]
fn quietly<T>(probe: impl FnOnce() -> T) -> T {
    probe()
}

#[cfg(not(all(feature = "wgpu", feature = "cuda")))]
fn absent(feature: &str) -> CliError {
    CliError::Usage(
        format!("this binary was built without {feature}"),
        format!("build it with `cargo build --release --features {feature}`, or use --device cpu"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_strictly() {
        assert!(choose("cpu").is_ok());
        assert!(choose("auto").is_ok());
        for words in ["cpu:1", "gpu", "wgpu:x", "cuda:", ""] {
            assert!(choose(words).is_err(), "{words}");
        }
    }
}
