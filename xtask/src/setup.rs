//! System packages: found, installed where that is allowed, named where it is not.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What of the optional system libraries is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// FFmpeg's development files and what generates bindings to them.
    pub(crate) ffmpeg: bool,
    /// A Vulkan driver; a software one will do.
    pub(crate) vulkan: bool,
    /// Open MPI or another MPI with its compiler wrapper, and what generates bindings to it.
    pub(crate) mpi: bool,
}

/// The libraries that video-rs links, by their pkg-config names.
const FFMPEG: [&str; 7] = [
    "libavcodec",
    "libavformat",
    "libavutil",
    "libavfilter",
    "libavdevice",
    "libswscale",
    "libswresample",
];

const FFMPEG_PACKAGES: [&str; 10] = [
    "pkg-config",
    "clang",
    "libclang-dev",
    "libavcodec-dev",
    "libavformat-dev",
    "libavutil-dev",
    "libavfilter-dev",
    "libavdevice-dev",
    "libswscale-dev",
    "libswresample-dev",
];

const VULKAN_PACKAGES: [&str; 2] = ["libvulkan1", "mesa-vulkan-drivers"];

const MPI_PACKAGES: [&str; 4] = ["clang", "libclang-dev", "openmpi-bin", "libopenmpi-dev"];

/// Installs what is missing where it can, and says what is there in the end.
///
/// Nothing here is needed to build the default features, so a failure to install is a note.
pub(crate) fn setup() -> Result<Found, String> {
    let mut missing: Vec<&str> = Vec::new();
    if !ffmpeg() {
        missing.extend(FFMPEG_PACKAGES);
    }
    if !vulkan() {
        missing.extend(VULKAN_PACKAGES);
    }
    if !mpi() {
        missing.extend(MPI_PACKAGES);
    }
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        install(&missing);
    }
    Ok(found())
}

/// The features that tests and benchmarks build with, so that nothing is compiled twice.
pub(crate) fn features(found: &Found) -> String {
    let features = [
        (true, "lejepa-cli/object-store"),
        (found.ffmpeg, "lejepa-cli/ffmpeg"),
        (found.vulkan, "lejepa-cli/wgpu"),
        (found.mpi, "lejepa-cli/mpi"),
    ];
    let features: Vec<&str> = features.iter().filter(|f| f.0).map(|f| f.1).collect();
    features.join(",")
}

/// What is there, without an attempt to install more.
pub(crate) fn found() -> Found {
    Found { ffmpeg: ffmpeg(), vulkan: vulkan(), mpi: mpi() }
}

/// A Python that has `package`: the machine's own, or that of a virtual environment, made where it can be. Only
/// tests and benchmarks that compare with Python programs need one.
pub(crate) fn python(name: &str, package: &str, indices: &[&[&str]]) -> Result<PathBuf, String> {
    let folder = crate::target().join(name);
    let python = folder.join("bin/python");
    let import = match package {
        // It refuses a PyTorch for another CUDA, of which nothing here uses any.
        "torchaudio" => "import torch; torch.version.cuda = None; import torchaudio".into(),
        _ => format!("import {package}"),
    };
    let works = |python: &Path| quiet(Command::new(python).args(["-c", &import]));
    for python in [python.as_path(), Path::new("python3")] {
        if works(python) {
            return Ok(python.into());
        }
    }
    eprintln!("making a virtual environment with {package} in {}", folder.display());
    if !quiet(Command::new("python3").args(["-m", "venv"]).arg(&folder)) {
        let hint = "sudo apt-get install -y python3-venv";
        return Err(format!("python3 -m venv failed (Debian, Ubuntu: {hint})"));
    }
    for index in indices {
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "--retries", "1", "numpy", package]);
        if quiet(install.args(*index)) && works(&python) {
            return Ok(python);
        }
    }
    Err(format!("pip could not install {package}"))
}

fn ffmpeg() -> bool {
    let libraries = quiet(Command::new("pkg-config").arg("--exists").args(FFMPEG));
    libraries && quiet(Command::new("clang").arg("--version"))
}

fn mpi() -> bool {
    let programs = ["mpicc", "mpirun", "clang"];
    programs.iter().all(|program| quiet(Command::new(program).arg("--version")))
}

fn vulkan() -> bool {
    ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"]
        .iter()
        .any(|folder| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
}

fn install(packages: &[&str]) {
    let by_hand = format!("sudo apt-get update && sudo apt-get install -y {}", packages.join(" "));
    if !quiet(Command::new("apt-get").arg("--version")) {
        eprintln!(
            "note: no apt-get here; on Debian or Ubuntu the packages are: {}",
            packages.join(" ")
        );
        return;
    }
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.starts_with(b"0\n"));
    if !root && !quiet(Command::new("sudo").args(["-n", "true"])) {
        eprintln!("note: optional packages are missing and need an administrator:\n  {by_hand}");
        return;
    }
    eprintln!("installing {}", packages.join(" "));
    let apt = |words: &[&str]| {
        let mut command = if root {
            Command::new("apt-get")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "apt-get"]);
            sudo
        };
        command.env("DEBIAN_FRONTEND", "noninteractive").args(words).stdout(Stdio::null());
        command.status().is_ok_and(|s| s.success())
    };
    let install: Vec<&str> = ["install", "-y", "--no-install-recommends"]
        .into_iter()
        .chain(packages.iter().copied())
        .collect();
    if !(apt(&["update"]) && apt(&install)) {
        eprintln!("note: optional packages could not be installed; by hand:\n  {by_hand}");
    }
}

fn quiet(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}
