//! Several processes that share a run: the run of one process, whoever is slow, killed or gone.
#![cfg(unix)]

mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{json_on_cpu as json, stderr};
use serde_json::Value;

/// `mpirun` with so many processes of `lejepa`. More than there are processors, and as root, which is what
/// containers have: both are refused by default.
fn mpirun(dir: &Path, processes: usize, words: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command.current_dir(dir).args(["--oversubscribe", "-np", &processes.to_string()]);
    command.arg(env!("CARGO_BIN_EXE_lejepa")).args(words);
    // Waiting processes would take the processors from those that compute, and from the other tests.
    command.env("OMPI_MCA_mpi_yield_when_idle", "1");
    for allow in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
        command.env(allow, "1");
    }
    command
}

#[track_caller]
fn succeed(out: Output) -> String {
    assert!(out.status.success(), "{}\n{}", stderr(&out), common::stdout(&out));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A training of a few small steps with an encoder.
fn tiny<'a>(modality: &'a str, encoder: &'a str, steps: &'a str, output: &'a str) -> Vec<&'a str> {
    let mut words = vec!["train", "--modality", modality, "--steps", steps, "--output", output];
    words.extend(["--encoder", encoder]);
    for setting in [
        "encoder.width=12",
        "device=cpu",
        "callbacks.quality.enabled=false",
        // Small steps: larger ones amplify what is rounded otherwise.
        "train.lr=0.00002",
        "train.batch=9",
        "train.log_every=1",
        "projector.hidden=16",
        "projector.output=8",
        "objective.slices=16",
        "checkpoint.steps=5",
        "probe.enabled=false",
        "data.scan=off",
    ] {
        words.extend(["--set", setting]);
    }
    words
}

/// Losses of all steps.
fn losses(run: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap();
    text.lines().map(line).collect()
}

#[track_caller]
fn close(ours: &Path, theirs: &Path) {
    let (ours, theirs) = (losses(ours), losses(theirs));
    assert_eq!(ours.len(), theirs.len());
    for (step, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "step {}: {a} {b}", step + 1);
    }
    // Not the same run by being no run at all.
    assert!(ours.windows(2).any(|pair| pair[0] != pair[1]));
}

/// Two processes have the losses of one, over 50 steps.
fn agrees(modality: &str, encoder: &str) {
    let d = tempfile::tempdir().unwrap();
    json(d.path(), &tiny(modality, encoder, "50", "one"));
    succeed(mpirun(d.path(), 2, &tiny(modality, encoder, "50", "two")).output().unwrap());
    close(&d.path().join("two"), &d.path().join("one"));
    let info = std::fs::read_to_string(d.path().join("two/run.json")).unwrap();
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!((&info["workers"], &info["status"]), (&2.into(), &"finished".into()));
}

#[test]
fn pictures_with_batch_norm() {
    agrees("image", "convnet");
}

#[test]
fn sounds_with_a_transformer() {
    agrees("audio", "vit");
}

#[test]
fn clips_with_a_transformer() {
    agrees("video", "vit");
}

#[test]
fn two_then_one_then_three_workers() {
    let d = tempfile::tempdir().unwrap();
    let words = |steps, output| tiny("image", "convnet", steps, output);
    json(d.path(), &words("24", "one"));
    let mut first = mpirun(d.path(), 2, &words("24", "many"));
    let mut child = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_step(&d.path().join("many"), 6);
    assert!(signal(child.id(), "KILL"));
    child.wait().unwrap();
    wait_until_free(&d.path().join("many"));
    let mut second = Command::new(env!("CARGO_BIN_EXE_lejepa"));
    second.current_dir(d.path()).args(["resume", "many", "--device", "cpu"]);
    let mut child = second.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_step(&d.path().join("many"), 13);
    assert!(signal(child.id(), "KILL"));
    child.wait().unwrap();
    succeed(mpirun(d.path(), 3, &["resume", "many", "--device", "cpu"]).output().unwrap());
    close(&d.path().join("many"), &d.path().join("one"));
}

#[test]
fn a_worker_that_is_lost_ends_the_run_and_leaves_its_checkpoint() {
    let d = tempfile::tempdir().unwrap();
    let words = tiny("image", "convnet", "4000", "run");
    let mut command = mpirun(d.path(), 2, &words);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let run_dir = d.path().join("run");
    wait_for_step(&run_dir, 12);
    let workers = children(child.id());
    assert_eq!(workers.len(), 2, "{workers:?}");
    // A slow worker is waited for.
    assert!(signal(workers[1], "STOP"));
    std::thread::sleep(Duration::from_millis(700));
    let before = losses(&run_dir).len();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(losses(&run_dir).len(), before, "the others do not go on alone");
    assert!(signal(workers[1], "CONT"));
    wait_for_step(&run_dir, before as u64 + 5);
    // The one that does not write.
    assert!(signal(workers[1], "KILL"));
    let began = Instant::now();
    assert!(!child.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(30));
    wait_until_free(&run_dir);
    let done = losses(&run_dir).len() as u64;
    // It goes on from the newest checkpoint, here to be interrupted again.
    let mut rest = Command::new(env!("CARGO_BIN_EXE_lejepa"));
    rest.current_dir(d.path()).args(["resume", "run", "--device", "cpu"]).stderr(Stdio::null());
    let mut child = rest.stdout(Stdio::null()).spawn().unwrap();
    wait_for_step(&run_dir, done + 3);
    assert!(signal(child.id(), "INT"));
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn what_is_wrong_is_said_once() {
    let d = tempfile::tempdir().unwrap();
    for (words, code, says) in [
        (vec!["train", "--modality", "image", "--data", "nowhere", "--output", "a"], 1, "nowhere"),
        (vec!["train", "--modality", "image", "--set", "train.batch=1"], 2, "train.batch"),
        (vec!["modalities"], 2, "processes were started"),
    ] {
        let out = mpirun(d.path(), 2, &words).output().unwrap();
        let text = stderr(&out);
        assert_eq!(out.status.code(), Some(code), "{words:?}: {text}");
        let lines = text.lines().filter(|l| l.starts_with("error:") && l.contains(says)).count();
        assert!((1..=2).contains(&lines), "{words:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    assert!(!d.path().join("a").exists());
}

fn wait_for_step(run: &Path, step: u64) {
    let began = Instant::now();
    loop {
        let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
        if text.lines().count() as u64 >= step {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{step} steps of {}", run.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for processes that lost their launcher.
fn wait_until_free(run: &Path) {
    let run = lejepa_train::RunDir::open(run).unwrap();
    let began = Instant::now();
    while run.is_running() {
        assert!(began.elapsed() < Duration::from_secs(60), "{} is in use", run.path().display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(process: u32, name: &str) -> bool {
    Command::new("kill")
        .args([&format!("-{name}"), &process.to_string()])
        .status()
        .unwrap()
        .success()
}

/// Processes that a process started, in the order of their numbers.
fn children(of: u32) -> Vec<u32> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // After the name, which is in parentheses and may hold anything: state, parent.
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        if parent == Some(of) {
            all.push(process);
        }
    }
    all.sort_unstable();
    all
}
