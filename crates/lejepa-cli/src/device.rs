//! The one place that names backends.

use std::cell::OnceCell;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use std::sync::{Arc, OnceLock};

use burn::tensor::Device;

use crate::error::CliError;

/// A device that this build has, not opened yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Auto,
    Cpu,
    #[cfg(feature = "wgpu")]
    Wgpu(Graphics, Option<usize>),
    #[cfg(feature = "cuda")]
    Cuda(usize),
}

/// What wgpu works by.
#[cfg(feature = "wgpu")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Graphics {
    /// What there is.
    Any,
    #[cfg(feature = "vulkan")]
    Vulkan,
    #[cfg(feature = "metal")]
    Metal,
}

#[cfg(feature = "wgpu")]
impl Graphics {
    fn name(self) -> &'static str {
        match self {
            Self::Any => "wgpu",
            #[cfg(feature = "vulkan")]
            Self::Vulkan => "vulkan",
            #[cfg(feature = "metal")]
            Self::Metal => "metal",
        }
    }

    fn device(self, kind: burn::tensor::DeviceKind) -> Device {
        match self {
            Self::Any => Device::wgpu(kind),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Device::vulkan(kind),
            #[cfg(feature = "metal")]
            Self::Metal => Device::metal(kind),
        }
    }
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
        ("wgpu", index) => Ok(Choice::Wgpu(Graphics::Any, index)),
        #[cfg(feature = "vulkan")]
        ("vulkan", index) => Ok(Choice::Wgpu(Graphics::Vulkan, index)),
        #[cfg(feature = "metal")]
        ("metal", index) => Ok(Choice::Wgpu(Graphics::Metal, index)),
        #[cfg(feature = "cuda")]
        ("cuda", index) => Ok(Choice::Cuda(index.unwrap_or_else(crate::workers::local_rank))),
        #[cfg(not(feature = "wgpu"))]
        ("wgpu", _) => Err(absent("wgpu")),
        #[cfg(not(feature = "vulkan"))]
        ("vulkan", _) => Err(absent("vulkan")),
        #[cfg(not(feature = "metal"))]
        ("metal", _) => Err(absent("metal")),
        #[cfg(not(feature = "cuda"))]
        ("cuda", _) => Err(absent("cuda")),
        _ => Err(unknown(words)),
    }
}

/// Reads what a user wrote where several devices may share a run: `cuda:0,1`, or `cpu:0,0` for two workers.
pub(crate) fn choose_several(words: &str) -> Result<Vec<Choice>, CliError> {
    let Some((kind, indices)) = words.split_once(':').filter(|(_, rest)| rest.contains(',')) else {
        return Ok(vec![choose(words)?]);
    };
    let mut all = Vec::new();
    for index in indices.split(',') {
        let one = match (kind, index) {
            ("cpu", "0") => Choice::Cpu,
            _ => choose(&format!("{kind}:{index}"))?,
        };
        if one != Choice::Cpu && all.contains(&one) {
            let message = format!("device {kind}:{index} is named twice");
            return Err(CliError::Usage(message, "name each device once: cuda:0,1".into()));
        }
        all.push(one);
    }
    Ok(all)
}

/// Opens the devices after the first, and adds their names to its own.
pub(crate) fn open_others(
    choices: &[Choice],
    first: &str,
    group: usize,
) -> Result<(Vec<Device>, String), CliError> {
    let others = choices.get(1..).unwrap_or_default();
    if !others.is_empty() && group > 1 {
        return Err(CliError::Usage(
            format!("{group} processes were started, and {} devices are named", choices.len()),
            "a process has one device: leave --device at cuda, or start one process".into(),
        ));
    }
    let mut names = first.to_string();
    let mut devices = Vec::new();
    for choice in others {
        let (device, name) = open(*choice)?;
        names.push_str(" + ");
        names.push_str(&name);
        devices.push(device);
    }
    Ok((devices, names))
}

/// A device that is opened when it is first asked for.
pub(crate) struct Opening {
    choice: Choice,
    opened: OnceCell<Result<(Device, String), Unusable>>,
}

/// Why a device does not compute, and what to do about it.
pub(crate) type Unusable = (String, &'static str);

impl Opening {
    pub(crate) fn new(choice: Choice) -> Self {
        Self { choice, opened: OnceCell::new() }
    }

    /// The device and its name.
    pub(crate) fn device(&self) -> Result<&(Device, String), CliError> {
        let opened = self.opened.get_or_init(|| try_open(self.choice));
        opened.as_ref().map_err(|(message, hint)| CliError::Device(message.clone(), hint))
    }

    /// Whether a graphics card computes, or would if it could be opened.
    pub(crate) fn is_gpu(&self) -> bool {
        self.device().map_or(true, |(device, _)| *device != Device::flex())
    }
}

/// Opens a device and names it.
pub(crate) fn open(choice: Choice) -> Result<(Device, String), CliError> {
    try_open(choice).map_err(|(message, hint)| CliError::Device(message, hint))
}

/// Opens a device, or says why it does not compute and what to do about it.
pub(crate) fn try_open(choice: Choice) -> Result<(Device, String), Unusable> {
    match choice {
        Choice::Auto => Ok(automatic()),
        Choice::Cpu => Ok(cpu()),
        #[cfg(feature = "wgpu")]
        Choice::Wgpu(graphics, index) => {
            use burn::tensor::DeviceKind;
            let kind = index.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu);
            let name = graphics.name();
            let name = index.map_or(name.into(), |n| format!("{name}:{n}"));
            let hint = "it takes a driver for Vulkan, Metal or DirectX 12; --device cpu needs none";
            computing(name, hint, || graphics.device(kind))
        }
        #[cfg(feature = "cuda")]
        Choice::Cuda(n) => {
            let hint = if cfg!(feature = "cuda-nvrtc") {
                "it takes NVIDIA's driver and a CUDA toolkit with NVRTC and its headers, found by \
                 CUDA_PATH or under /usr/local/cuda; --device cpu needs neither"
            } else {
                "it takes NVIDIA's driver and libdevice.10.bc of a CUDA toolkit, found by \
                 CUDA_PATH or under /usr/local/cuda; --device cpu needs neither"
            };
            computing(format!("cuda:{n}"), hint, || Device::cuda(n))
        }
    }
}

/// The device, if it computes: a missing driver shows at the first kernel only, by a panic in foreign code.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn computing(
    name: String,
    hint: &'static str,
    open: impl FnOnce() -> Device,
) -> Result<(Device, String), Unusable> {
    let open = || {
        let device = open();
        // An exponential, because CUDA's comes from a library of the toolkit.
        let one = burn::tensor::Tensor::<1>::zeros([2], &device).exp().mean().into_data();
        (device, one.try_to_vec::<f32>().is_ok_and(|one| one == [1.0]))
    };
    match tried(open) {
        Ok((device, true)) => Ok((device, name)),
        Ok((_, false)) => Err((format!("device {name} computes wrong numbers"), hint)),
        Err(reason) => Err((format!("device {name} cannot be used: {reason}"), hint)),
    }
}

/// What `probe` returns, or the first line of the first panic, which may be in a thread of a driver's. Where a driver
/// is missing, foreign code may panic rather than find nothing.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn tried<T>(probe: impl FnOnce() -> T) -> Result<T, String> {
    let reason = Arc::new(OnceLock::<String>::new());
    let seen = reason.clone();
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let line = panic.payload_as_str().and_then(|words| words.lines().next());
        seen.get_or_init(|| line.unwrap_or("its driver failed").into());
    }));
    let found = quietly(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(probe)));
    std::panic::set_hook(print);
    found.map_err(|_| reason.get().cloned().unwrap_or_default())
}

/// The kinds of devices, with how this binary opens them.
pub(crate) fn all() -> [(&'static str, Option<Choice>); 3] {
    [("cpu", Some(Choice::Cpu)), ("wgpu", choose("wgpu").ok()), ("cuda", choose("cuda").ok())]
}

fn unknown(words: &str) -> CliError {
    let near = match words.split(':').next() {
        Some("dx12" | "webgpu") => Some("wgpu"),
        Some("gpu" | "nvidia") => Some("cuda"),
        _ => lejepa_core::nearest(words, ["auto", "cpu", "wgpu", "vulkan", "metal", "cuda"]),
    };
    let near = near.map_or(String::new(), |n| format!("did you mean `{n}`? "));
    CliError::Usage(
        format!("unknown device `{words}`"),
        format!(
            "{near}devices are auto, cpu, wgpu[:n], vulkan[:n], metal[:n] and cuda[:n]; cuda:0,1 divides a run \
             among both"
        ),
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
    return card().unwrap_or_else(|| {
        let (device, name) = cpu();
        (device, format!("{name} (no graphics card found)"))
    });
    #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
    cpu()
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn card() -> Option<(Device, String)> {
    let cards = tried(Device::enumerate_physical);
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

#[cfg(not(all(feature = "wgpu", feature = "vulkan", feature = "metal", feature = "cuda")))]
fn absent(feature: &str) -> CliError {
    // It takes Vulkan or Metal where it finds them.
    let instead = if feature != "cuda" && cfg!(feature = "wgpu") { "wgpu" } else { "cpu" };
    CliError::Usage(
        format!("this binary was built without {feature}"),
        format!(
            "build it with `cargo build --release --features {feature}`, or use --device {instead}"
        ),
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
        let hint = |words: &str| match choose(words) {
            Err(CliError::Usage(_, hint)) => hint,
            _ => String::new(),
        };
        assert!(hint("webgpu").contains("did you mean `wgpu`?"), "{}", hint("webgpu"));
        #[cfg(all(feature = "wgpu", not(feature = "metal")))]
        assert!(hint("metal").contains("or use --device wgpu"), "{}", hint("metal"));
        #[cfg(feature = "vulkan")]
        assert_eq!(choose("vulkan:1").unwrap(), Choice::Wgpu(Graphics::Vulkan, Some(1)));
        assert!(hint("gpu").contains("did you mean `cuda`?"));
    }

    #[test]
    fn several_devices_are_a_list() {
        assert_eq!(choose_several("cpu:0,0").unwrap(), [Choice::Cpu, Choice::Cpu]);
        assert_eq!(choose_several("cpu").unwrap(), [Choice::Cpu]);
        for words in ["cpu:0,1", "cpu:,0", "cpu,cpu", "cpu:0", "gpu:0,1"] {
            assert!(choose_several(words).is_err(), "{words}");
        }
        #[cfg(feature = "wgpu")]
        {
            assert_eq!(choose_several("wgpu:0,1").unwrap().len(), 2);
            assert!(choose_several("wgpu:1,1").is_err());
        }
        assert!(open_others(&[Choice::Cpu; 2], "cpu", 2).is_err());
        let (devices, names) = open_others(&[Choice::Cpu; 2], "cpu", 1).unwrap();
        assert_eq!((devices.len(), names.starts_with("cpu + cpu")), (1, true));
    }
}
