//! What tests of the command line share.

// Each file of tests uses some of it.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs a command of `lejepa` in a folder.
pub(crate) fn run(dir: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lejepa")).current_dir(dir).args(words).output().unwrap()
}

pub(crate) fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

pub(crate) fn stdout(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Runs a command that must succeed and reads the JSON on its last line.
#[track_caller]
pub(crate) fn json(dir: &Path, words: &[&str]) -> Value {
    let out = run(dir, &[words, &["--json"]].concat());
    assert!(out.status.success(), "{words:?}: {}", stderr(&out));
    serde_json::from_str(stdout(&out).lines().last().unwrap()).unwrap()
}

/// [`json`] of a command that takes a device: the CPU, whatever else there is.
#[track_caller]
pub(crate) fn json_on_cpu(dir: &Path, words: &[&str]) -> Value {
    json(dir, &[words, &["--device", "cpu"]].concat())
}

/// Keys that keep a run to seconds.
const SMALL: [&str; 10] = [
    "--set",
    "encoder.width=24",
    "--set",
    "encoder.depth=2",
    "--set",
    "projector.hidden=64",
    "--set",
    "objective.slices=64",
    "--set",
    "probe.steps=50",
];

/// A training that takes seconds.
pub(crate) fn small<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [words, &SMALL].concat()
}

/// A run of small pictures in a folder `r`.
pub(crate) fn train(dir: &Path) {
    let mut words = vec!["train", "--modality", "image", "--steps", "5", "--output", "r"];
    for setting in [
        "train.batch=16",
        "encoder.width=12",
        "encoder.depth=1",
        "projector.hidden=16",
        "objective.slices=16",
        "probe.enabled=false",
        "checkpoint.steps=2",
    ] {
        words.extend(["--set", setting]);
    }
    json(dir, &words);
}

/// Six pictures, one of them with an odd name, and a file that is none.
pub(crate) fn pictures(dir: &Path) {
    std::fs::create_dir(dir).unwrap();
    for i in 0..6u8 {
        let picture =
            image::GrayImage::from_fn(20, 20, |x, y| image::Luma([(x as u8 * 9 * i) ^ y as u8]));
        picture.save(dir.join(format!("{i}, \"x\".png"))).unwrap();
    }
    std::fs::write(dir.join("bad.png"), "no picture").unwrap();
}
