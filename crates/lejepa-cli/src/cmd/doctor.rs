//! `lejepa doctor`: what this binary can do on this machine, and how to get what it cannot.

mod check;

use std::collections::BTreeSet;

use lejepa_core::{Registry, kind};
use serde_json::{Value, json};

use crate::args::{Args, DoctorArgs};
use crate::device;
use crate::error::CliError;
use crate::output::outln;

/// An optional feature of the command line but for devices, and what it is for.
const FEATURES: [(&str, bool, &str); 7] = [
    ("image", cfg!(feature = "image"), "pictures"),
    ("audio", cfg!(feature = "audio"), "sounds"),
    ("video", cfg!(feature = "video"), "GIF and folders of frames"),
    ("parquet", cfg!(feature = "parquet"), "tables of files and of embeddings"),
    (
        "ffmpeg",
        cfg!(feature = "ffmpeg"),
        "video files; AAC of any profile, WMA, AMR and other sounds",
    ),
    ("object-store", cfg!(feature = "object-store"), "data in S3, GCS, Azure and on web servers"),
    ("mpi", cfg!(feature = "mpi"), "runs that processes of mpirun share"),
];

pub(super) fn run(args: &Args, words: &DoctorArgs, registry: &Registry) -> Result<Value, CliError> {
    match &words.check {
        Some(devices) => check::run(args, devices, words.steps, registry),
        None => Ok(look(args, registry)),
    }
}

fn look(args: &Args, registry: &Registry) -> Value {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let vectors = format!("{:?}", lejepa_kernels::arch());
    let vectors = match vectors.split(['(', ' ']).next().unwrap_or_default() {
        "V4" => "AVX-512",
        "V3" => "AVX2",
        "Neon" => "NEON",
        _ => "no vector instructions",
    };
    let say = |name: &str, words: &str| {
        if !args.json {
            outln!("{name:<10} {words}");
        }
    };
    say("lejepa", env!("CARGO_PKG_VERSION"));
    let arch = std::env::consts::ARCH;
    say("processor", &format!("{arch}, {threads} threads, kernels for {vectors}"));
    let mut devices = Vec::new();
    for (name, choice) in device::all() {
        let state = match choice {
            None => Err(("not in this binary".to_string(), how(name))),
            Some(choice) => device::try_open(choice)
                .map(|(_, name)| name)
                .map_err(|(reason, hint)| (reason, hint.to_string())),
        };
        match &state {
            Ok(words) => say("device", &format!("{words}: works")),
            Err((reason, hint)) => {
                say("device", &format!("{name}: {reason}"));
                say("", &format!("  hint: {hint}"));
            }
        }
        devices.push(json!({
            "name": name, "works": state.is_ok(),
            "reason": state.as_ref().err().map(|(reason, _)| reason),
        }));
    }
    let auto = device::try_open(device::Choice::Auto).map(|(_, name)| name).unwrap_or_default();
    say("", &format!("--device auto takes {auto}"));
    for (name, is_there, about) in FEATURES {
        say("feature", &format!("{name}: {}, for {about}", if is_there { "yes" } else { "no" }));
        if !is_there {
            say("", &format!("  hint: {}", how(name)));
        }
    }
    let mut crates = BTreeSet::new();
    crates.extend(registry.all::<kind::Modality>().map(|row| row.origin().to_string()));
    crates.extend(registry.all::<kind::Views>().map(|row| row.origin().to_string()));
    crates.extend(registry.all::<kind::Encoder>().map(|row| row.origin().to_string()));
    crates.extend(registry.all::<kind::Statistic>().map(|row| row.origin().to_string()));
    crates.extend(registry.all::<kind::Prediction>().map(|row| row.origin().to_string()));
    for name in &crates {
        say("plugin", name);
    }
    let features: Vec<Value> =
        FEATURES.map(|(name, is_there, _)| json!({ "name": name, "works": is_there })).to_vec();
    json!({
        "lejepa": env!("CARGO_PKG_VERSION"), "threads": threads, "kernels": vectors,
        "devices": devices, "auto": auto, "features": features, "plugins": crates,
    })
}

/// How to get a feature.
fn how(feature: &str) -> String {
    let packages = match feature {
        "ffmpeg" => "; it needs FFmpeg's development packages, which `./x setup` installs",
        "cuda" => "; it needs the network while it is built",
        "mpi" => "; it needs an MPI library with its headers, which `./x setup` installs",
        _ => "",
    };
    format!("cargo install --path crates/lejepa-cli --features {feature}{packages}")
}
