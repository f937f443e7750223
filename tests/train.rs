//! Training through the command line.

mod common;

use std::path::Path;
use std::process::Command;

use common::{json_on_cpu as json, run, small};
use serde_json::Value;

fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// The parts of metrics that do not depend on the clock.
fn losses(run: &Path) -> Vec<[f64; 4]> {
    metrics(run)
        .iter()
        .map(|m| ["step", "loss", "prediction", "sigreg"].map(|k| m[k].as_f64().unwrap()))
        .collect()
}

#[test]
fn digits_beat_the_untrained_encoder() {
    let d = tempfile::tempdir().unwrap();
    let out = json(d.path(), &["train", "--modality", "image", "--epochs", "12", "--output", "r"]);
    let knn = |key: &str| out["probe"]["knn"][key].as_f64().unwrap();
    assert!(knn("trained") > knn("untrained") + 0.05, "{}", out["probe"]);
    assert!(out["probe"]["linear"]["trained"].as_f64().unwrap() > 0.85, "{}", out["probe"]);
    assert_eq!(out["skipped"].as_array().unwrap().len(), 0);
    // The run folder holds what it should, and the probe of the saved run is the same.
    let run = d.path().join("r");
    for file in ["config.toml", "run.json", "metrics.jsonl", "checkpoints/latest"] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let info: Value =
        serde_json::from_str(&std::fs::read_to_string(run.join("run.json")).unwrap()).unwrap();
    assert_eq!(info["status"], "finished");
    let again = json(d.path(), &["probe", "r"]);
    assert_eq!(again["probe"]["knn"], out["probe"]["knn"]);
    assert_eq!(again["probe"]["linear"], out["probe"]["linear"]);
    // A finished run is not overwritten.
    assert_eq!(run_code(d.path(), &["train", "--output", "r"]), Some(2));
}

fn run_code(dir: &Path, words: &[&str]) -> Option<i32> {
    run(dir, words).status.code()
}

#[test]
fn every_modality_trains_with_every_encoder() {
    let d = tempfile::tempdir().unwrap();
    for modality in ["image", "audio", "video"] {
        for encoder in ["vit", "mlp", "resnet"] {
            let name = format!("{modality}-{encoder}");
            let mut words = vec![
                "train",
                "--modality",
                modality,
                "--encoder",
                encoder,
                "--steps",
                "3",
                "--batch",
                "8",
                "--output",
                &name,
                "--set",
                "projector.hidden=32",
                "--set",
                "objective.slices=32",
                "--set",
                "probe.enabled=false",
                "--set",
            ];
            words.push(if encoder == "resnet" { "encoder.width=4" } else { "encoder.width=24" });
            if encoder == "vit" {
                words.extend(["--set", "encoder.depth=1"]);
            }
            let out = json(d.path(), &words);
            assert_eq!(out["steps"], 3);
            assert!(out["final"]["loss"].as_f64().unwrap().is_finite());
            assert_eq!(out["probe"], Value::Null);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run_with_any_number_of_workers() {
    let d = tempfile::tempdir().unwrap();
    let base = [
        "train",
        "--modality",
        "audio",
        "--steps",
        "6",
        "--batch",
        "16",
        "--set",
        "train.log_every=1",
        "--set",
        "probe.enabled=false",
    ];
    let mut all = Vec::new();
    for (name, workers, seed) in [("a", "1", "3"), ("b", "4", "3"), ("c", "2", "4")] {
        let more = ["--output", name, "--workers", workers, "--seed", seed];
        json(d.path(), &small(&[&base[..], &more].concat()));
        all.push(losses(&d.path().join(name)));
    }
    assert_eq!(all[0].len(), 6);
    assert_eq!(all[0], all[1]);
    assert_ne!(all[0], all[2]);
    // The saved configuration repeats the run.
    json(d.path(), &["train", "--config", "a/config.toml", "--output", "e"]);
    assert_eq!(all[0], losses(&d.path().join("e")));
}

#[test]
fn a_run_stops_where_the_loss_is_no_number() {
    let d = tempfile::tempdir().unwrap();
    let out = run(
        d.path(),
        &small(&[
            "train",
            "--modality",
            "image",
            "--steps",
            "60",
            "--output",
            "r",
            "--set",
            "train.lr=1e30",
            "--set",
            "schedule.warmup=0.0",
            "--device",
            "cpu",
        ]),
    );
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{text}");
    for words in
        ["error: step 2: the embeddings hold", "lower train.lr", "nothing was saved before"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let info = std::fs::read_to_string(d.path().join("r/run.json")).unwrap();
    assert!(info.contains("\"failed\""), "{info}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_says_so() {
    let d = tempfile::tempdir().unwrap();
    let words = small(&[
        "train",
        "--modality",
        "image",
        "--epochs",
        "500",
        "--output",
        "r",
        "--device",
        "cpu",
    ]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_lejepa"))
        .current_dir(d.path())
        .args(&words)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let begun = d.path().join("r/metrics.jsonl");
    while !begun.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(child.try_wait().unwrap().is_none(), "the run ended early");
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(130), "{text}");
    assert!(text.contains("stopped at step"), "{text}");
    assert!(d.path().join("r/checkpoints/latest").is_file());
    assert!(text.contains("lejepa resume r"), "{text}");
    // What was saved can be probed.
    json(d.path(), &["probe", "r"]);
}

#[cfg(unix)]
#[test]
fn a_killed_run_resumes_to_the_same_numbers() {
    let d = tempfile::tempdir().unwrap();
    // Batch norm throughout, and a checkpoint at every step: the clock has always moved on.
    let words = |name: &'static str| {
        [
            "train",
            "--modality",
            "image",
            "--encoder",
            "resnet",
            "--steps",
            "40",
            "--batch",
            "16",
            "--set",
            "encoder.width=4",
            "--set",
            "projector.hidden=32",
            "--set",
            "objective.slices=64",
            "--set",
            "train.log_every=1",
            "--set",
            "checkpoint.minutes=1e-9",
            "--set",
            "probe.enabled=false",
            "--output",
            name,
        ]
    };
    json(d.path(), &words("whole"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_lejepa"))
        .current_dir(d.path())
        .args(words("cut"))
        .args(["--device", "cpu"])
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let latest = d.path().join("cut/checkpoints/latest");
    while !latest.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(child.try_wait().unwrap().is_none(), "the run ended early");
    }
    std::thread::sleep(std::time::Duration::from_millis(150));
    child.kill().unwrap();
    child.wait().unwrap();
    let out = json(d.path(), &["resume", "cut", "--workers", "3"]);
    assert_eq!(out["steps"], 40);
    let (whole, cut) = (losses(&d.path().join("whole")), losses(&d.path().join("cut")));
    assert_eq!(whole.len(), 40);
    assert_eq!(whole, cut);
    // A run that is done has nothing left to do, and says the same again.
    let again = json(d.path(), &["resume", "cut"]);
    assert_eq!(again["final"], out["final"]);
}

/// A GPU backend gives the same losses as the CPU. In CI the device is a software Vulkan driver.
#[cfg(feature = "wgpu")]
#[test]
fn wgpu_agrees_with_the_cpu() {
    let d = tempfile::tempdir().unwrap();
    let words = |device: &'static str| {
        [
            "train",
            "--modality",
            "image",
            "--encoder",
            "mlp",
            "--steps",
            "3",
            "--batch",
            "8",
            "--set",
            "encoder.width=16",
            "--set",
            "encoder.depth=1",
            "--set",
            "projector.hidden=16",
            "--set",
            "projector.output=8",
            "--set",
            "objective.slices=16",
            "--set",
            "train.log_every=1",
            "--set",
            "probe.enabled=false",
            "--device",
            device,
            "--output",
            device,
        ]
    };
    for device in ["cpu", "wgpu"] {
        let out = run(d.path(), &words(device));
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{device}: {errors}");
    }
    let (cpu, gpu) = (losses(&d.path().join("cpu")), losses(&d.path().join("wgpu")));
    assert_eq!(cpu.len(), 3);
    for (c, g) in cpu.iter().zip(&gpu) {
        for (c, g) in c.iter().zip(g) {
            assert!((c / g - 1.0).abs() < 1e-3, "{c} {g}");
        }
    }
}

#[test]
fn workers_that_share_a_run_make_that_of_one() {
    let d = tempfile::tempdir().unwrap();
    let mut base = vec!["--modality", "image", "--steps", "6"];
    for setting in [
        "encoder.width=24",
        "encoder.depth=1",
        "projector.hidden=32",
        "objective.slices=32",
        "probe.steps=20",
        "checkpoint.steps=2",
        // Small steps: larger ones amplify what is rounded otherwise.
        "train.lr=0.00002",
        "train.log_every=1",
    ] {
        base.extend(["--set", setting]);
    }
    let train = |name: &str, device: &str, batch: &str| {
        run(
            d.path(),
            &[&["train", "-o", name, "--device", device, "--set", batch], &base[..]].concat(),
        )
    };
    for (name, device) in [("one", "cpu"), ("two", "cpu:0,0")] {
        let out = train(name, device, "train.batch=16");
        assert!(out.status.success(), "{}", common::stderr(&out));
    }
    let (one, two) = (losses(&d.path().join("one")), losses(&d.path().join("two")));
    assert_eq!((one.len(), two.len()), (6, 6));
    for (a, b) in one.iter().flatten().zip(two.iter().flatten()) {
        assert!((a - b).abs() < 1e-4 * (1.0 + a.abs()), "{a} {b}");
    }
    // It goes on with one, and with three.
    for (device, steps) in [("cpu", 8), ("cpu:0,0,0", 10)] {
        let more = ["resume", "two", "--steps", "2", "--device", device];
        assert_eq!(common::json(d.path(), &more)["steps"].as_u64(), Some(steps));
    }
    // More workers than samples of a step: an error of all, and nobody waits.
    let out = train("few", "cpu:0,0,0", "train.batch=2");
    let errors = common::stderr(&out);
    assert!(!out.status.success() && !errors.contains("panicked"), "{errors}");
}

#[cfg(feature = "wgpu")]
#[test]
fn a_device_that_is_not_there_is_one_line_and_leaves_nothing() {
    let d = tempfile::tempdir().unwrap();
    let words = ["train", "--modality", "image", "--device", "wgpu:63", "--output", "run"];
    let out = run(d.path(), &words);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{errors}");
    assert!(errors.starts_with("error: device wgpu:63 cannot be used: "), "{errors}");
    assert!(errors.contains("hint:") && !errors.contains("panicked"), "{errors}");
    assert!(!d.path().join("run").exists());
}

/// Drivers of graphics cards complain of a missing desktop, once each.
#[cfg(all(unix, feature = "wgpu"))]
#[test]
fn a_machine_without_a_display_is_no_news() {
    let d = tempfile::tempdir().unwrap();
    let words = ["train", "--modality", "image", "--device", "auto", "--steps", "1", "-o", "run"];
    let words = [&words[..], &["--set", "probe.enabled=false"]].concat();
    let mut lejepa = std::process::Command::new(env!("CARGO_BIN_EXE_lejepa"));
    lejepa.current_dir(d.path()).args(common::small(&words));
    for variable in ["XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY"] {
        lejepa.env_remove(variable);
    }
    let out = lejepa.output().unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{errors}");
    assert!(!errors.contains("XDG_RUNTIME_DIR") && !errors.contains("error"), "{errors}");
}
