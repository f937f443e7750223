//! World models: training, and planning by them.

use serde_json::Value;

mod common;
use common::{json_on_cpu, run, stderr, stdout};

fn reached(out: &Value, policy: &str) -> f64 {
    out["policies"][policy]["reached"].as_f64().unwrap()
}

#[test]
fn plans_with_a_world_model_reach_goals_that_random_actions_do_not() {
    let d = tempfile::tempdir().unwrap();
    let words = ["train", "--modality", "world", "--steps", "300", "-o", "r", "-q"];
    let quick = ["--set", "probe.steps=60", "--set", "callbacks.quality.enabled=false"];
    let out = json_on_cpu(d.path(), &[&words[..], &quick].concat());
    // Where the agent is can be read off the embeddings.
    for column in out["probe"]["columns"].as_array().unwrap() {
        assert!(column["linear"]["trained"].as_f64().unwrap() > 0.7, "{column}");
    }
    let plan =
        ["plan", "r", "--episodes", "30", "--samples", "150", "--rounds", "6", "--seed", "5"];
    let out = json_on_cpu(d.path(), &plan);
    assert_eq!(reached(&out, "expert"), 1.0);
    assert!(reached(&out, "plan") > reached(&out, "random") + 0.2, "{out}");
    // The same seed, the same episodes.
    assert_eq!(json_on_cpu(d.path(), &plan), out);
    let shown = stdout(&run(d.path(), &plan));
    assert!(shown.contains("reached  (95 % interval)") && shown.contains("expert"), "{shown}");
    let listed = stdout(&run(d.path(), &["list", "environment"]));
    assert!(listed.contains("two_rooms") && listed.contains("for world"), "{listed}");
}

/// The recipe says how many steps; what a user says counts.
#[test]
fn another_length_takes_the_place_of_the_recipes() {
    let d = tempfile::tempdir().unwrap();
    // 9,600 frames in batches of 48.
    for (words, steps) in [(["--epochs", "0.02"], 4), (["--set", "train.epochs=0.01"], 2)] {
        let quick = ["train", "--modality", "world", "-o", "r", "-q", "--overwrite"];
        let out = json_on_cpu(
            d.path(),
            &[&quick[..], &words, &["--set", "probe.enabled=false"]].concat(),
        );
        assert_eq!(out["steps"], steps, "{words:?}");
    }
    let minutes = run(d.path(), &["config", "show", "--modality", "world", "--minutes", "3"]);
    let shown = stdout(&minutes);
    assert!(shown.contains("steps = 0\n") && shown.contains("minutes = 3"), "{shown}");
    let plain = stdout(&run(d.path(), &["config", "show", "--modality", "world"]));
    assert!(plain.contains("steps = 600\n"), "{plain}");
}

#[test]
fn runs_that_are_no_world_model_are_refused() {
    let d = tempfile::tempdir().unwrap();
    let few = ["--steps", "2", "--batch", "8", "--set", "probe.enabled=false", "--device", "cpu"];
    for (modality, more, says) in [
        ("image", &["--encoder", "mlp"][..], "no environment for the modality `image`"),
        ("world", &["--set", "prediction.name=centre"], "does not say what follows"),
    ] {
        let words = ["train", "--modality", modality, "-o", modality];
        let out = run(d.path(), &[&words[..], &few, more].concat());
        assert!(out.status.success(), "{}", stderr(&out));
        let out = run(d.path(), &["plan", modality]);
        assert!(!out.status.success() && stderr(&out).contains(says), "{}", stderr(&out));
    }
}
