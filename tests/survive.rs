//! Runs that survive: kills at any moment, damaged checkpoints, full disks, wrong folders.
#![cfg(unix)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{json_on_cpu as json, run, stderr};
// Linked for what they register.
use lejepa_audio as _;
use lejepa_core::{Purpose, Seed};
use lejepa_image as _;
use lejepa_nn as _;
use lejepa_video as _;
use rand::RngExt;
use serde_json::Value;

/// A training that writes a checkpoint every few steps and takes milliseconds a step.
fn tiny<'a>(modality: &'a str, steps: &'a str, output: &'a str) -> Vec<&'a str> {
    let mut words = vec!["train", "--modality", modality, "--steps", steps, "--output", output];
    for setting in [
        "train.batch=8",
        "train.log_every=1",
        "encoder.width=12",
        "encoder.depth=1",
        "encoder.name=vit",
        "encoder.drop_path=0.2",
        "projector.hidden=16",
        "projector.output=8",
        "objective.slices=16",
        "checkpoint.steps=3",
        "probe.enabled=false",
        "data.scan=off",
    ] {
        words.extend(["--set", setting]);
    }
    words
}

/// The lines of metrics but for what the clock decides.
fn metrics(run: &Path) -> Vec<Vec<u64>> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let keys = ["step", "loss", "prediction", "sigreg", "effective_rank", "lr"];
    text.lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap())
        .map(|m| keys.iter().map(|k| m[*k].as_f64().unwrap().to_bits()).collect())
        .collect()
}

/// Every weight of the checkpoint at `step`, to the bit. The files themselves also hold numbers that
/// name the parameters, which are drawn afresh in every process.
fn weights(run: &Path, step: u64) -> Vec<u32> {
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::tensor::{Device, Tensor};
    use lejepa_core::Registry;
    use lejepa_train::{RunDir, checkpoint};
    struct Bits(Vec<u32>);
    impl ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>().map(f32::to_bits));
        }
    }
    let run = RunDir::open(run).unwrap();
    let resolved = run.config(&Registry::discover().unwrap()).unwrap();
    let model = resolved.model(&Device::flex()).unwrap();
    let model = checkpoint::load_model(&checkpoint::path(&run, step), model).unwrap();
    let mut bits = Bits(Vec::new());
    model.visit(&mut bits);
    bits.0
}

fn killed_twenty_times(modality: &str) {
    let d = tempfile::tempdir().unwrap();
    let steps = "120";
    json(d.path(), &tiny(modality, steps, "whole"));
    let mut rng = Seed(modality.len() as u64).rng(Purpose::Demo, &[]);
    let mut kills = 0;
    let cut = d.path().join("cut");
    let mut wait = 350;
    while kills < 20 {
        let began = cut.join("checkpoints/latest").exists();
        let workers = ["1", "2", "3"][kills % 3];
        let words = if began {
            vec!["resume", "cut", "--workers", workers]
        } else {
            // Killed before its first checkpoint: nothing to go on from.
            let _ = std::fs::remove_dir_all(&cut);
            tiny(modality, steps, "cut")
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_lejepa"))
            .current_dir(d.path())
            .args(words)
            .args(["--device", "cpu"])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(20..wait)));
        if child.try_wait().unwrap().is_some() {
            // It was done before the kill: begin another one, and kill earlier.
            std::fs::remove_dir_all(&cut).unwrap();
            wait = (wait * 3 / 4).max(60);
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    if cut.join("checkpoints/latest").exists() {
        json(d.path(), &["resume", "cut"]);
    } else {
        let _ = std::fs::remove_dir_all(&cut);
        json(d.path(), &tiny(modality, steps, "cut"));
    }
    let whole = d.path().join("whole");
    assert_eq!(metrics(&whole).len(), 120);
    assert!(metrics(&whole) == metrics(&cut), "{modality}: the metrics differ");
    let (a, b) = (weights(&whole, 120), weights(&cut, 120));
    assert!(a.len() > 1000 && a == b, "{modality}: the weights differ");
    assert!(a != weights(&whole, 117), "the weights are not looked at");
    // Nothing is left of the writes that were cut off.
    let rubbish: Vec<_> = std::fs::read_dir(cut.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.ends_with(".tmp"))
        .collect();
    assert!(rubbish.is_empty(), "{rubbish:?}");
}

#[test]
fn an_image_run_survives_twenty_kills() {
    killed_twenty_times("image");
}

#[test]
fn an_audio_run_survives_twenty_kills() {
    killed_twenty_times("audio");
}

#[test]
fn a_video_run_survives_twenty_kills() {
    killed_twenty_times("video");
}

/// A finished run of 12 steps with checkpoints at 9 and 12.
fn finished(dir: &Path, name: &str) {
    json(dir, &tiny("image", "12", name));
    for step in [9, 12] {
        assert!(dir.join(name).join(format!("checkpoints/step-{step:08}")).is_dir());
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let d = tempfile::tempdir().unwrap();
    finished(d.path(), "r");
    let whole = metrics(&d.path().join("r"));
    let newest = d.path().join("r/checkpoints/step-00000012");
    for file in ["model.bpk", "optimizer.bpk", "state.json", "SHA256SUMS"] {
        let path = newest.join(file);
        let good = std::fs::read(&path).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 0x10;
        for bad in [flipped, good[..good.len() / 2].to_vec(), Vec::new()] {
            std::fs::write(&path, &bad).unwrap();
            let out = run(d.path(), &["resume", "r", "--device", "cpu"]);
            let text = stderr(&out);
            assert!(out.status.success(), "{file}: {text}");
            assert!(text.contains("damaged, so the one before it is used"), "{file}: {text}");
            assert!(text.contains("resuming  at step 9"), "{file}: {text}");
            assert_eq!(metrics(&d.path().join("r")), whole, "{file}");
        }
    }
    // Both damaged: an error that names the file, and says what can be done.
    for step in [9, 12] {
        let file = d.path().join(format!("r/checkpoints/step-{step:08}/model.bpk"));
        std::fs::write(file, "rubbish").unwrap();
    }
    let out = run(d.path(), &["resume", "r", "--device", "cpu"]);
    let text = stderr(&out);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("model.bpk: its checksum is wrong"), "{text}");
    assert!(text.contains("hint:"), "{text}");
}

#[test]
fn checksums_are_those_of_sha256sum() {
    let d = tempfile::tempdir().unwrap();
    finished(d.path(), "r");
    let checkpoint = d.path().join("r/checkpoints/step-00000012");
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(checkpoint)
        .output();
    match checked {
        Ok(out) => assert!(out.status.success(), "{}", stderr(&out)),
        Err(e) => eprintln!("sha256sum is not here: {e}"),
    }
}

#[test]
fn a_full_disk_is_reported_and_the_last_checkpoint_is_whole() {
    let d = tempfile::tempdir().unwrap();
    let disk = d.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = |words: &[&str]| {
        Command::new(words[0]).args(&words[1..]).stderr(Stdio::null()).status().unwrap().success()
    };
    let at = disk.to_str().unwrap();
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=700k", "none", at]) {
        eprintln!("no right to mount a small disk: this is not tested here");
        return;
    }
    let words = tiny("image", "400", "disk/r");
    let out = run(d.path(), &[words, vec!["--set", "checkpoint.keep=1000"]].concat());
    let text = stderr(&out);
    let outcome = std::panic::catch_unwind(|| {
        assert_eq!(out.status.code(), Some(1), "{text}");
        assert!(text.contains("No space left on device"), "{text}");
        assert!(text.contains("free some disk space"), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        // With space again the run goes on from its last whole checkpoint.
        assert!(mount(&["mount", "-o", "remount,size=64m", at]));
        let resumed = json(d.path(), &["resume", "disk/r"]);
        assert_eq!(resumed["steps"], 400);
        assert_eq!(metrics(&disk.join("r")).len(), 400);
        // A disk that cannot be written at all.
        assert!(mount(&["mount", "-o", "remount,ro", at]));
        let fresh = tiny("image", "3", "disk/new");
        for words in [vec!["resume", "disk/r", "--device", "cpu"], fresh] {
            let text = stderr(&run(d.path(), &words));
            assert!(text.contains("Read-only file system"), "{text}");
            assert!(text.contains("choose a writable folder"), "{text}");
        }
    });
    mount(&["umount", "-l", at]);
    if let Err(e) = outcome {
        std::panic::resume_unwind(e);
    }
}

#[test]
fn an_unwritable_folder_is_reported() {
    let d = tempfile::tempdir().unwrap();
    finished(d.path(), "r");
    // Permissions do not bind an administrator; a file where a folder has to be binds everyone.
    let checkpoints = d.path().join("r/checkpoints");
    std::fs::rename(&checkpoints, d.path().join("kept")).unwrap();
    std::fs::write(&checkpoints, "in the way").unwrap();
    let out = run(d.path(), &["resume", "r", "--device", "cpu"]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    assert!(stderr(&out).contains("r/checkpoints"), "{}", stderr(&out));
    let out = run(d.path(), &tiny("image", "3", "r/config.toml/x"));
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    assert!(stderr(&out).contains("error: cannot create"), "{}", stderr(&out));
}

#[test]
fn a_run_in_use_is_left_alone() {
    let d = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lejepa"))
        .current_dir(d.path())
        .args(tiny("image", "100000", "r"))
        .args(["--device", "cpu"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !d.path().join("r/checkpoints/latest").exists() {
        std::thread::sleep(Duration::from_millis(10));
        assert!(child.try_wait().unwrap().is_none(), "the run ended early");
    }
    let overwrite = [tiny("image", "3", "r"), vec!["--overwrite"]].concat();
    for words in [vec!["resume", "r", "--device", "cpu"], overwrite] {
        let out = run(d.path(), &words);
        assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
        let says = format!("r is in use by another process (process {})", child.id());
        assert!(stderr(&out).contains(&says), "{}", stderr(&out));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The claim ends with the process.
    let out = run(d.path(), &[tiny("image", "3", "r"), vec!["--overwrite"]].concat());
    assert!(out.status.success(), "{}", stderr(&out));
    assert_eq!(metrics(&d.path().join("r")).len(), 3);
    let out = run(d.path(), &tiny("image", "3", "r"));
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    assert!(stderr(&out).contains("--overwrite"), "{}", stderr(&out));
}

#[test]
fn a_checkpoint_of_something_else_is_refused_with_the_differences() {
    let d = tempfile::tempdir().unwrap();
    finished(d.path(), "r");
    let config = d.path().join("r/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let changed = text.replace("width = 12", "width = 24").replace("lr = 0.001", "lr = 0.002");
    std::fs::write(&config, &changed).unwrap();
    let out = run(d.path(), &["resume", "r", "--device", "cpu"]);
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    for says in ["encoder.width is 12 there and 24 here", "train.lr is 0.001 there and 0.002 here"]
    {
        assert!(stderr(&out).contains(says), "{}", stderr(&out));
    }
    // What does not change the result may change.
    let free = text.replace("keep = 2", "keep = 3").replace("workers = 0", "workers = 2");
    assert_ne!(free, text);
    std::fs::write(&config, &free).unwrap();
    json(d.path(), &["resume", "r"]);
    // Weights for another model.
    let words = [tiny("image", "3", "other"), vec!["--init", "r", "--set", "encoder.width=24"]];
    let out = run(d.path(), &words.concat());
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    assert!(stderr(&out).contains("encoder.width is 12 there and 24 here"), "{}", stderr(&out));
    let out = run(d.path(), &[tiny("audio", "3", "sound"), vec!["--init", "r"]].concat());
    assert!(stderr(&out).contains(r#"modality is "image" there"#), "{}", stderr(&out));
}

#[test]
fn a_run_starts_from_the_weights_of_another() {
    let d = tempfile::tempdir().unwrap();
    json(d.path(), &tiny("image", "60", "first"));
    let begin = |init: Option<&str>, name: &str| {
        let mut words = tiny("image", "1", name);
        words.extend(["--seed", "5"]);
        if let Some(init) = init {
            words.extend(["--init", init]);
        }
        json(d.path(), &words)["final"]["loss"].as_f64().unwrap()
    };
    let fresh = begin(None, "fresh");
    let from_run = begin(Some("first"), "a");
    let from_checkpoint = begin(Some("first/checkpoints/step-00000060"), "b");
    let from_file = begin(Some("first/checkpoints/step-00000060/model.bpk"), "c");
    assert!(from_run < 0.8 * fresh, "{from_run} {fresh}");
    assert_eq!((from_run, from_run), (from_checkpoint, from_file));
    // It is a separate run: its metrics begin at its first step, its configuration repeats it.
    assert_eq!(metrics(&d.path().join("a")).len(), 1);
    let words = ["train", "--config", "a/config.toml", "--output", "again"];
    assert_eq!(json(d.path(), &words)["final"]["loss"].as_f64().unwrap(), from_run);
    let out = run(d.path(), &[tiny("image", "1", "x"), vec!["--init", "nowhere"]].concat());
    assert!(stderr(&out).contains("nowhere: no such file or folder"), "{}", stderr(&out));
    std::fs::write(d.path().join("text.bpk"), "not weights").unwrap();
    let out = run(d.path(), &[tiny("image", "1", "y"), vec!["--init", "text.bpk"]].concat());
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    assert!(stderr(&out).contains("text.bpk: "), "{}", stderr(&out));
}

#[test]
fn the_best_checkpoint_is_kept() {
    let d = tempfile::tempdir().unwrap();
    // A learning rate that is too high for a small model: the end is not the best.
    let mut words = tiny("image", "40", "r");
    words.extend(["--set", "train.lr=0.3", "--set", "schedule.end=1.0"]);
    json(d.path(), &words);
    let all = d.path().join("r/checkpoints");
    let best = std::fs::read_to_string(all.join("best")).unwrap();
    assert!(all.join(&best).is_dir(), "{best}");
    let kept = std::fs::read_dir(&all).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir());
    assert!((2..=3).contains(&kept.count()));
    let step: u64 = best.trim_start_matches("step-").parse().unwrap();
    let words = |which: &'static str| ["probe", "r", "--checkpoint", which];
    assert_eq!(json(d.path(), &words("best"))["step"], step);
    assert_eq!(json(d.path(), &words("latest"))["step"], 40);
    let out = run(d.path(), &words("5000"));
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    assert!(stderr(&out).contains("there are latest, best"), "{}", stderr(&out));
}

#[test]
fn a_collapse_is_reported() {
    let d = tempfile::tempdir().unwrap();
    let mut words = tiny("image", "300", "r");
    words.extend(["--lambda", "0", "--set", "train.lr=0.003", "--set", "checkpoint.steps=0"]);
    let out = json(d.path(), &words);
    let warnings = out["warnings"].to_string();
    assert!(warnings.contains("collapse: at step"), "{warnings} {}", out["final"]);
    let mut words = tiny("image", "300", "healthy");
    words.extend(["--set", "checkpoint.steps=0", "--set", "train.batch=32"]);
    let out = json(d.path(), &words);
    assert!(!out["warnings"].to_string().contains("collapse"), "{out}");
    assert!(out["final"]["effective_rank"].as_f64().unwrap() > 3.0, "{out}");
}

#[test]
fn a_loss_without_gradients_is_reported() {
    let d = tempfile::tempdir().unwrap();
    let mut words = tiny("image", "2", "r");
    words.extend(["--lambda", "1", "--set", "objective.clip=1e9"]);
    let out = json(d.path(), &words);
    let warnings = out["warnings"].to_string();
    assert!(warnings.contains("does not depend on the views [0, 1,"), "{warnings}");
    assert!(warnings.contains("does not depend on the parameters encoders.0."), "{warnings}");
    let out = json(d.path(), &tiny("image", "2", "healthy"));
    assert_eq!(out["warnings"].to_string(), "[]");
}

#[test]
fn changed_data_is_reported() {
    let d = tempfile::tempdir().unwrap();
    let pictures = d.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    for i in 0..24u8 {
        let picture =
            image::GrayImage::from_fn(20, 20, |x, y| image::Luma([(x as u8 * i) ^ y as u8]));
        picture.save(pictures.join(format!("{i:02}.png"))).unwrap();
    }
    let mut words = tiny("image", "9", "r");
    words.extend(["--data", "pictures", "--set", "data.scan=full"]);
    json(d.path(), &words);
    std::fs::remove_file(pictures.join("03.png")).unwrap();
    let out = run(d.path(), &["resume", "r", "--device", "cpu"]);
    assert!(out.status.success(), "{}", stderr(&out));
    let says = "the data has changed since the run began: 24 samples to train on then, 23 now";
    assert!(stderr(&out).contains(says), "{}", stderr(&out));
}

/// TensorBoard's own reader sees every line once, also after a resume.
#[test]
fn tensorboard_reads_the_curves() {
    // `./x test` makes a virtual environment with TensorBoard in it and names its Python here.
    let python = std::env::var("LEJEPA_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import tensorboard"]).output();
    let python = found.is_ok_and(|o| o.status.success()).then_some(python);
    let d = tempfile::tempdir().unwrap();
    finished(d.path(), "r");
    let damaged = d.path().join("r/checkpoints/step-00000012/model.bpk");
    std::fs::write(damaged, "rubbish").unwrap();
    json(d.path(), &["resume", "r"]);
    let files = std::fs::read_dir(d.path().join("r")).unwrap();
    let events = files.filter(|e| {
        e.as_ref().unwrap().file_name().to_string_lossy().starts_with("events.out.tfevents.")
    });
    assert_eq!(events.count(), 2);
    let Some(python) = python else {
        eprintln!("TensorBoard is not here: its reader is not tried");
        return;
    };
    let script = "
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
a = EventAccumulator(sys.argv[1]); a.Reload()
print(*[e.step for e in a.Scalars('sigreg')])";
    let out =
        Command::new(python).args(["-c", script, "r"]).current_dir(d.path()).output().unwrap();
    let steps = String::from_utf8_lossy(&out.stdout);
    let want: Vec<String> = (1..=12).map(|s| s.to_string()).collect();
    assert_eq!(steps.trim(), want.join(" "), "{}", stderr(&out));
}
