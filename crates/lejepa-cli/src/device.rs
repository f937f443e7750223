//! The one place that names backends.

use burn::tensor::Device;

use crate::error::CliError;

/// The device a user named, and in words what it is.
pub(crate) fn choose(words: &str) -> Result<(Device, String), CliError> {
    let (kind, index) = match words.split_once(':') {
        None => (words, 0),
        Some((kind, n)) => match n.parse::<usize>() {
            Ok(n) => (kind, n),
            Err(_) => return Err(unknown(words)),
        },
    };
    match kind {
        "auto" => Ok(automatic()),
        "cpu" if !words.contains(':') => Ok(cpu()),
        "wgpu" => wgpu(index, words.contains(':')),
        "cuda" => cuda(index),
        _ => Err(unknown(words)),
    }
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
    let cards = std::panic::catch_unwind(Device::enumerate_physical);
    std::panic::set_hook(print);
    let devices = cards.ok()?.into_iter().flat_map(|card| {
        let name = card.name;
        card.devices.into_vec().into_iter().map(move |device| (device, name.clone()))
    });
    // `false` sorts before `true`.
    devices.min_by_key(|(device, _)| !format!("{device:?}").contains("Cuda"))
}

#[cfg(feature = "wgpu")]
fn wgpu(index: usize, named: bool) -> Result<(Device, String), CliError> {
    use burn::tensor::DeviceKind;
    let kind = if named { DeviceKind::DiscreteGpu(index) } else { DeviceKind::DefaultDevice };
    Ok((Device::wgpu(kind), if named { format!("wgpu:{index}") } else { "wgpu".into() }))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(_: usize, _: bool) -> Result<(Device, String), CliError> {
    Err(absent("wgpu"))
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<(Device, String), CliError> {
    Ok((Device::cuda(index), format!("cuda:{index}")))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<(Device, String), CliError> {
    Err(absent("cuda"))
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
