//! Embeddings into files: of samples, of windows of them, as data sets of a hub.

mod common;

use std::path::Path;

use burn::tensor::Device;
use common::{json, json_on_cpu, pictures, run, small, stderr, stdout, train};
use lejepa_core::Registry;
// Linked for what it registers.
use lejepa_audio as _;
use lejepa_image as _;
use lejepa_nn as _;
use lejepa_train::{Embedder, NamedEmbeddings, RunDir, Silent};
use lejepa_video as _;
use serde_json::Value;

#[test]
fn an_export_embeds_like_its_run() {
    let d = tempfile::tempdir().unwrap();
    train(d.path());
    pictures(&d.path().join("p"));
    let out = json(d.path(), &["export", "r"]);
    assert_eq!(out["export"], "r/export");
    for file in ["model.safetensors", "config.json", "README.md"] {
        assert!(d.path().join("r/export").join(file).is_file(), "{file}");
    }
    let card: Value =
        serde_json::from_slice(&std::fs::read(d.path().join("r/export/config.json")).unwrap())
            .unwrap();
    assert_eq!(
        (&card["model_type"], &card["hidden_size"], &card["step"]),
        (&"lejepa".into(), &12.into(), &5.into())
    );
    json(d.path(), &["export", "r", "--checkpoint", "4", "--output", "four"]);

    let from_run = json(d.path(), &["embed", "r", "--data", "p", "--output", "run.csv"]);
    assert_eq!((&from_run["samples"], &from_run["dim"]), (&6.into(), &12.into()));
    assert!(from_run["skipped"][0]["name"].as_str().unwrap().ends_with("bad.png"));
    json(d.path(), &["embed", "r/export", "--data", "p", "--output", "export.csv"]);
    json(d.path(), &["embed", "four", "--data", "p", "--output", "four.csv"]);
    let read = |f: &str| std::fs::read_to_string(d.path().join(f)).unwrap();
    assert_eq!(read("run.csv"), read("export.csv"));
    assert_ne!(read("run.csv"), read("four.csv"));
    assert_eq!(read("run.csv").lines().count(), 7);
    json(d.path(), &["embed", "r/export", "--data", "p", "--output", "e.npy"]);
    assert_eq!(read("e.paths.txt").lines().count(), 6);
    assert_eq!(std::fs::metadata(d.path().join("e.npy")).unwrap().len() % 64, 6 * 12 * 4 % 64);

    // The same by library calls, sample by sample.
    let registry = Registry::discover().unwrap();
    let embedder = Embedder::open(&d.path().join("r/export"), &registry, &Device::flex()).unwrap();
    let words = d.path().join("p");
    let all = embedder.embed(words.to_str().unwrap(), &mut Silent).unwrap();
    assert_eq!((all.names.len(), all.dim, embedder.dim()), (6, 12, 12));
    let source = embedder.source(words.to_str().unwrap()).unwrap();
    let index = (0..source.len()).find(|&i| source.name(i) == all.names[2]).unwrap();
    let one = embedder.embed_view(&source.eval_view(index).unwrap()).unwrap();
    for (a, b) in one.iter().zip(&all.values[24..36]) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    assert!(one.iter().any(|x| x.abs() > 1e-3));
    let run = RunDir::open(&d.path().join("r")).unwrap();
    assert!(
        lejepa_train::export(&run, &d.path().join("nowhere"), &d.path().join("x"), &registry)
            .is_err()
    );
}

#[test]
fn what_cannot_be_exported_or_embedded_is_reported() {
    let d = tempfile::tempdir().unwrap();
    train(d.path());
    json(d.path(), &["export", "r"]);
    let refused = |words: &[&str], code: i32, says: &str| {
        let out = run(d.path(), words);
        assert_eq!(out.status.code(), Some(code), "{words:?}: {}", stderr(&out));
        assert!(stderr(&out).contains(says), "{words:?}: {}", stderr(&out));
    };
    refused(&["export", "r"], 2, "already exists");
    refused(&["export", "nowhere"], 1, "no such folder");
    refused(&["export", "r", "--checkpoint", "77", "-o", "y"], 2, "no checkpoint `77`");
    refused(&["embed", "r", "--data", "demo", "--output", "x.txt"], 1, "in none of .npy, .csv");
    refused(&["embed", "r", "--data", "none", "--output", "x.csv"], 1, "none");
    std::fs::create_dir(d.path().join("bad")).unwrap();
    std::fs::write(d.path().join("bad/1.png"), "x").unwrap();
    refused(&["embed", "r", "--data", "bad", "--output", "x.csv"], 1, "none of the 1 samples");
    std::fs::write(d.path().join("r/export/model.safetensors"), "rubbish").unwrap();
    refused(&["embed", "r/export", "--data", "demo", "--output", "x.csv"], 1, "model.safetensors");
    std::fs::write(d.path().join("r/export/config.json"), "{}").unwrap();
    refused(&["embed", "r/export", "--data", "demo", "--output", "x.csv"], 1, "config.json");
    assert!(!d.path().join("x.csv").exists());
}

/// A folder as data sets of the Hugging Face hub are: tables by split, and a card that names them.
#[test]
fn embeddings_are_a_data_set_of_a_hub() {
    let d = tempfile::tempdir().unwrap();
    train(d.path());
    pictures(&d.path().join("p"));
    let rows: String = (0..6)
        .map(|i| {
            let split = if i < 4 { "train" } else { "test" };
            format!("\"{i}, \"\"x\"\".png\",{},{split}\n", ["odd", "even"][(i + 1) % 2])
        })
        .collect();
    std::fs::write(d.path().join("p/manifest.csv"), format!("path,label,split\n{rows}")).unwrap();
    let made = json(d.path(), &["embed", "r", "--data", "p", "--output", "set"]);
    assert_eq!((&made["samples"], &made["dim"]), (&6.into(), &12.into()));
    let mut files: Vec<String> = std::fs::read_dir(d.path().join("set/data"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["test-00000-of-00001.parquet", "train-00000-of-00001.parquet"]);
    let card = std::fs::read_to_string(d.path().join("set/README.md")).unwrap();
    for words in
        ["path: data/train-*", "path: data/test-*", "4 rows of `train`", "2 rows of `test`"]
    {
        assert!(card.contains(words), "{words}: {card}");
    }
    // The same rows as in one table, those of tests first.
    json(d.path(), &["embed", "r", "--data", "p", "--output", "one.parquet"]);
    let read = |name: &str| NamedEmbeddings::read(&d.path().join(name)).unwrap();
    let (set, one) = (read("set"), read("one.parquet"));
    let order = [4, 5, 0, 1, 2, 3];
    assert_eq!(set.names, order.map(|i| one.names[i].clone()));
    assert_eq!(set.labels[0].words, order.map(|i| one.labels[0].words[i].clone()));
    let rows: Vec<&[f32]> = one.values.chunks(12).collect();
    assert_eq!(set.values, order.map(|i| rows[i]).concat());
    // It is an index, and told for what it is.
    let near = json(d.path(), &["neighbours", &set.names[0], "--index", "set", "--top", "2"]);
    assert_eq!(near["queries"][0]["neighbours"].as_array().map(Vec::len), Some(2), "{near}");
    assert!(stdout(&run(d.path(), &["inspect", "set"])).contains("embeddings"));
    // Nothing that is there is written over, and nothing is left beside it.
    let again = run(d.path(), &["embed", "r", "--data", "p", "--output", "set"]);
    assert_eq!(again.status.code(), Some(2), "{}", stderr(&again));
    let left: Vec<_> =
        std::fs::read_dir(d.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("set.")), "{left:?}");
}

/// A sound that rises, from one time to another.
fn rising(file: &Path, seconds: std::ops::Range<f64>) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(file, spec).unwrap();
    for n in (seconds.start * 16_000.0) as usize..(seconds.end * 16_000.0) as usize {
        let time = n as f64 / 16_000.0;
        writer.write_sample((0.3 * (900.0 * time + 300.0 * time * time).sin()) as f32).unwrap();
    }
    writer.finalize().unwrap();
}

#[test]
fn windows_of_recordings_are_embedded_like_files_of_their_own() {
    let d = tempfile::tempdir().unwrap();
    let words = ["train", "--modality", "audio", "--steps", "3", "--batch", "8", "--output", "r"];
    json_on_cpu(d.path(), &small(&[&words[..], &["--set", "probe.enabled=false"]].concat()));
    for folder in ["long/calls", "cut"] {
        std::fs::create_dir_all(d.path().join(folder)).unwrap();
    }
    rising(&d.path().join("long/calls/day.wav"), 0.0..11.0);
    rising(&d.path().join("long/calls/short.wav"), 0.0..2.0);
    std::fs::write(d.path().join("long/calls/bad.wav"), "no sound").unwrap();
    rising(&d.path().join("cut/part.wav"), 2.5..7.5);
    let windows = ["--window", "5", "--hop", "2.5"];
    let embed = |words: &[&str]| json_on_cpu(d.path(), &[&["embed", "r"], words].concat());
    for ending in ["csv", "parquet", "npy"] {
        let file = format!("w.{ending}");
        let made = embed(&[&["--data", "long", "--output", file.as_str()], &windows[..]].concat());
        assert_eq!(made["skipped"].as_array().map(Vec::len), Some(1), "{made}");
    }
    embed(&["--data", "cut", "--output", "cut.csv"]);
    let read = |file: &str| lejepa_train::NamedEmbeddings::read(&d.path().join(file)).unwrap();
    let (table, matrix) = (read("w.csv"), read("w.npy"));
    assert_eq!(table, read("w.parquet"));
    let places: Vec<_> = table.places.iter().map(|c| (c.name.as_str(), &c.values[..])).collect();
    let (starts, ends) = ([0.0, 2.5, 5.0, 0.0], [5.0, 7.5, 10.0, 2.0]);
    assert_eq!(places, [("start", &starts[..]), ("end", &ends[..])]);
    assert!(table.names[..3].iter().all(|name| name.ends_with("day.wav")), "{:?}", table.names);
    assert!(matrix.names[1].ends_with("day.wav[start 2.5, end 7.5]"), "{:?}", matrix.names);
    let of_folder = [Some("calls".to_string())];
    assert!(table.labels.is_empty() || table.labels[0].words[..1] == of_folder);
    // The same samples, so the same vector but for the order of sums.
    let part = read("cut.csv");
    let window = &table.values[table.dim..2 * table.dim];
    let most = window.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    for (a, b) in window.iter().zip(&part.values) {
        assert!((a - b).abs() <= 1e-4 * most, "{a} {b}");
    }
    assert!(window != &table.values[..table.dim]);
    for (words, says) in [
        (&["--data", "long", "--window", "0", "--output", "x.csv"][..], "window of 0"),
        (&["--data", "demo", "--window", "5", "--output", "x.csv"], "no windows"),
        (&["--data", "long", "--hop", "5", "--output", "x.csv"], "--window"),
    ] {
        let out = run(d.path(), &[&["embed", "r"], words].concat());
        assert!(!out.status.success() && stderr(&out).contains(says), "{}", stderr(&out));
    }
}
