//! `lejepa probe`: tags, numbers, further rows, classes, an attentive probe.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

mod common;
use common::{json, json_on_cpu, run, small, stderr, stdout};

/// Pictures of bars: what is labelled follows from how many there are, whether they lie, and how bright they are.
fn bars(dir: &Path) {
    std::fs::create_dir_all(dir.join("bars")).unwrap();
    let mut text = String::from("path,label,tags,value_level,split\n");
    for i in 0..160u32 {
        let (count, lies, level) = (1 + i % 2, i / 2 % 2 == 1, 60 + i * 37 % 190);
        let picture = image::GrayImage::from_fn(16, 16, |x, y| {
            let (along, across) = if lies { (x, y) } else { (y, x) };
            let is_bar = (across + i % 3) % (16 / count) < 3 && along > i % 4;
            image::Luma([if is_bar { level as u8 } else { (x * i + y) as u8 % 16 }])
        });
        picture.save(dir.join(format!("bars/{i:03}.png"))).unwrap();
        let tags = [("pair", count == 2), ("lies", lies), ("bright", level > 150)];
        let tags: Vec<&str> = tags.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
        let split = if i % 5 == 4 { "test" } else { "train" };
        let label = if lies { "lying" } else { "standing" };
        writeln!(text, "bars/{i:03}.png,{label},{},{level},{split}", tags.join(";")).unwrap();
    }
    std::fs::write(dir.join("bars.csv"), text).unwrap();
}

fn trained(dir: &Path, name: &str, more: &[&str]) -> Value {
    let words = ["train", "--modality", "image", "--data", "bars.csv", "--encoder", "vit"];
    let views = ["--set", "image.global_size=16", "--set", "image.local_size=8"];
    let few = ["--set", "encoder.patch=[4]", "--steps", "30", "--batch", "16", "-o", name];
    json_on_cpu(dir, &small(&[&words[..], &views, &few, more].concat()))
}

#[test]
fn tags_and_numbers_are_probed_beside_classes() {
    let d = tempfile::tempdir().unwrap();
    bars(d.path());
    let out = trained(d.path(), "r", &[]);
    let [class, tags, level] = &out["probe"]["columns"].as_array().unwrap()[..] else {
        panic!("{}", out["probe"]);
    };
    assert_eq!(
        (&class["kind"], &tags["kind"], &level["kind"]),
        (&"classes".into(), &"tags".into(), &"numbers".into())
    );
    // A third of the pictures have no tag: that is no label.
    assert!(tags["fitted_on"].as_u64() < class["fitted_on"].as_u64());
    let linear = |column: &Value| column["linear"]["trained"].as_f64().unwrap();
    assert!(linear(class) > 0.8 && linear(tags) > tags["chance"].as_f64().unwrap() + 0.1, "{out}");
    assert!(linear(level) > 0.3 && linear(level) <= 1.0, "{out}");

    let more = ["probe", "r", "--layers", "2", "--attentive", "--classes"];
    let shown = stdout(&run(d.path(), &more));
    for line in [
        "last 2 layers, untrained",
        "mean average precision of 3 tags",
        "variance explained (R²)",
        "attentive probe of `level`",
        "right of each class of `class`",
        "average precision of each tag of `tags`",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let again = json(d.path(), &more);
    assert_eq!(again["probe"]["linear"], out["probe"]["linear"]);
    let further = again["probe"]["columns"][0]["more"].as_array().unwrap();
    assert_eq!(further.len(), 2);
    assert!(further[0]["linear"].as_f64().unwrap() > 0.7, "{further:?}");
    let attentive = again["attentive"].as_array().unwrap();
    assert!(
        attentive.len() == 3 && attentive[0]["trained"].as_f64().unwrap() > 0.8,
        "{attentive:?}"
    );
    // Rows of the confusion matrix are the test samples of a class.
    let table = &again["classes"][0]["confusion"]["linear"];
    let sum: u64 = table
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(sum, class["scored_on"].as_u64().unwrap());
    let of_class = |i: usize| again["classes"][0]["classes"][i]["linear"].as_f64().unwrap();
    assert!((0.5 * (of_class(0) + of_class(1)) - linear(class)).abs() < 0.02, "{again}");

    // Cells instead of samples: four by four of each.
    let made = json_on_cpu(
        d.path(),
        &["embed", "r", "--data", "bars.csv", "--output", "cells.parquet", "--dense"],
    );
    assert_eq!(made["samples"].as_u64(), Some(160 * 16), "{made}");
    let cells = lejepa_train::NamedEmbeddings::read(&d.path().join("cells.parquet")).unwrap();
    let place = |row: usize| {
        cells.places.iter().map(|p| (p.name.as_str(), p.values[row])).collect::<Vec<_>>()
    };
    assert_eq!(place(16 + 6), [("frame", 0.0), ("row", 1.0), ("column", 2.0)]);
    assert_eq!(cells.names[15], cells.names[0]);

    // Embeddings carry labels of every kind.
    json_on_cpu(d.path(), &["embed", "r", "--data", "bars.csv", "--output", "bars.out.csv"]);
    let text = std::fs::read_to_string(d.path().join("bars.out.csv")).unwrap();
    assert!(
        text.starts_with("path,\"label_class\",\"label_tags\",\"label_level\",e0"),
        "{text:.200}"
    );
    assert!(text.contains("\"lies;pair\"") || text.contains("\"bright;lies;pair\""), "{text:.400}");
}

#[test]
fn other_runs_and_weights_are_rows_of_the_same_table() {
    let d = tempfile::tempdir().unwrap();
    bars(d.path());
    let first = trained(d.path(), "a", &[]);
    let second = trained(d.path(), "b", &["--seed", "1", "--set", "encoder.patch=[8]"]);
    json(d.path(), &["export", "b", "-o", "exported"]);
    json(d.path(), &["export", "b", "--format", "timm", "-o", "timm"]);
    let against =
        ["--against", "b", "--against", "exported", "--against", "timm/model.safetensors"];
    let out = json_on_cpu(d.path(), &[&["probe", "a"][..], &against].concat());
    assert_eq!(out["probe"]["linear"]["trained"], first["probe"]["linear"]["trained"]);
    let more = out["probe"]["columns"][0]["more"].as_array().unwrap();
    assert_eq!((more[0]["name"].as_str(), more.len()), (Some("b"), 3));
    for row in &more[..2] {
        assert_eq!(row["linear"], second["probe"]["linear"]["trained"], "{row}");
    }
    // The same weights, with views that are chosen anew.
    assert!(more[2]["linear"].as_f64().unwrap() > 0.5, "{}", more[2]);
    // Several sources, several tables.
    let out = json_on_cpu(d.path(), &["probe", "a", "--data", "bars.csv", "--data", "bars.csv"]);
    let sources = out["sources"].as_array().unwrap();
    assert_eq!(sources.len(), 2);
    assert_eq!(sources[0]["probe"], sources[1]["probe"]);

    let refused = |words: &[&str], says: &str| {
        let out = run(d.path(), words);
        assert!(!out.status.success());
        assert!(
            stderr(&out).contains(says) && !stderr(&out).contains("panicked"),
            "{}",
            stderr(&out)
        );
    };
    refused(&["probe", "a", "--against", "nowhere.safetensors"], "nowhere.safetensors");
    refused(&["probe", "a", "--attentive", "--folds"], "cannot be used with");
    refused(&["probe", "a", "--layers", "0"], "0 is not in 1..=64");
}
