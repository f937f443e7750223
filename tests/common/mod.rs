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
