//! Settings that follow from the data, and runs of a given time.

mod common;

use std::path::Path;

use common::{json_on_cpu as json, run, small, stderr};
use serde_json::Value;

/// Sixty grey pictures of 24×24 pixels in two classes: strokes across or along a light ground.
fn pictures(dir: &Path) {
    for (class, across) in [("across", true), ("along", false)] {
        std::fs::create_dir_all(dir.join("data").join(class)).unwrap();
        for i in 0..30u32 {
            let ink = |x: u32, y: u32| (if across { y } else { x } + i) % 12 < 3;
            let picture = image::GrayImage::from_fn(24, 24, |x, y| {
                image::Luma([if ink(x, y) { 20 + i as u8 } else { 220 }])
            });
            picture.save(dir.join(format!("data/{class}/{i}.png"))).unwrap();
        }
    }
}

fn config(run: &Path) -> lejepa_core::Table {
    std::fs::read_to_string(run.join("config.toml")).unwrap().parse().unwrap()
}

#[test]
fn choices_are_explained_written_down_and_yield_to_the_user() {
    let d = tempfile::tempdir().unwrap();
    pictures(d.path());
    let words = ["train", "--data", "data", "--steps", "2", "--output", "r", "--device", "cpu"];
    let out = run(d.path(), &small(&words));
    let said = stderr(&out);
    assert!(out.status.success(), "{said}");
    assert!(
        said.contains("image.global_size = 24: the median shorter side is 24 pixels"),
        "{said}"
    );
    let chosen = config(&d.path().join("r"));
    assert_eq!(chosen["image"]["channels"].as_integer(), Some(1));
    assert_eq!(chosen["encoder"]["name"].as_str(), Some("convnet"));
    assert_eq!(chosen["train"]["lr"].as_float(), Some(2e-3));
    assert!((chosen["image"]["std"][0].as_float().unwrap() - 0.33).abs() < 0.1);

    // A key of the user's own stands, and is not announced as chosen.
    let own = [&words[..6], &["o", "--device", "cpu", "--set", "image.global_size=16"]].concat();
    let out = run(d.path(), &small(&own));
    assert!(out.status.success() && !stderr(&out).contains("image.global_size ="));
    assert_eq!(config(&d.path().join("o"))["image"]["global_size"].as_integer(), Some(16));

    // So does an encoder that a key belongs to, and all of a configuration file.
    let patch = [&words[..6], &["p", "--device", "cpu", "--set", "encoder.patch=[4]"]].concat();
    assert!(run(d.path(), &small(&patch)).status.success());
    let patched = config(&d.path().join("p"));
    assert_eq!(patched["encoder"]["name"].as_str(), Some("vit"));
    assert_eq!(patched["train"]["lr"].as_float(), Some(1e-3));
    let again = ["train", "--config", "r/config.toml", "--output", "again", "--device", "cpu"];
    let out = run(d.path(), &again);
    assert!(out.status.success() && !stderr(&out).contains("chosen"), "{}", stderr(&out));
    assert_eq!(config(&d.path().join("again")), chosen);
}

#[test]
fn presets_are_named_none_chooses_nothing_and_unknown_ones_are_refused() {
    let d = tempfile::tempdir().unwrap();
    pictures(d.path());
    let show = |preset: &str| {
        let words = ["config", "show", "--data", "data", "--preset", preset, "--json"];
        let out = run(d.path(), &words);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        (out.status.code(), serde_json::from_str::<Value>(&text).unwrap_or_default(), stderr(&out))
    };
    let (_, none, _) = show("none");
    assert_eq!(none["image"]["global_size"], 64);
    assert_eq!(none["encoder"]["name"], "vit");
    let (_, scientific, _) = show("scientific");
    assert_eq!(scientific["image"]["quarter_turn"], 0.75);
    let (code, _, said) = show("scientifique");
    assert_eq!(code, Some(2));
    assert!(said.contains("did you mean `scientific`"), "{said}");
}

#[test]
fn the_minutes_become_steps_with_which_the_run_repeats() {
    let d = tempfile::tempdir().unwrap();
    let words = ["train", "--minutes", "0.1", "--set", "probe.enabled=false"];
    let began = std::time::Instant::now();
    let out = json(d.path(), &small(&[&words[..], &["--output", "a"]].concat()));
    assert!(began.elapsed().as_secs() < 60, "six seconds were asked for");
    let steps = config(&d.path().join("a"))["train"]["steps"].as_integer().unwrap();
    assert!(steps >= 1 && out["steps"] == steps, "{steps} {}", out["steps"]);
    let again = ["train", "--config", "a/config.toml", "--output", "b"];
    let again = json(d.path(), &again);
    assert_eq!(again["steps"], steps);
    assert_eq!(again["final"], out["final"]);
    // Either a time or a length.
    let both = run(d.path(), &["train", "--minutes", "1", "--steps", "5"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn weights_of_a_run_bring_its_views_and_model_to_other_data() {
    let d = tempfile::tempdir().unwrap();
    pictures(d.path());
    let first = ["--steps", "2", "--output", "a", "--device", "cpu", "--set", "encoder.width=8"];
    let words = [&["train", "--data", "data"], &first[..]].concat();
    let out = run(d.path(), &words);
    assert!(out.status.success(), "{}", stderr(&out));
    // Other pictures, which would be viewed otherwise.
    std::fs::create_dir_all(d.path().join("other")).unwrap();
    for i in 0..40u8 {
        let pixel = |x: u32, y: u32| image::Rgb([i, (x * 4) as u8, (y * 4) as u8]);
        let picture = image::RgbImage::from_fn(60, 60, pixel);
        picture.save(d.path().join(format!("other/{i}.png"))).unwrap();
    }
    let words = ["train", "--data", "other", "--init", "a", "--steps", "2", "--output", "b"];
    let out = run(d.path(), &[&words[..], &["--device", "cpu"]].concat());
    assert!(out.status.success(), "{}", stderr(&out));
    let (a, b) = (config(&d.path().join("a")), config(&d.path().join("b")));
    assert_eq!((&a["image"], &a["encoder"]), (&b["image"], &b["encoder"]));
}
