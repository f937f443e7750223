//! What applications take from a run: exports and embeddings, by the command line and as a library.

mod common;

use std::path::Path;

use burn::tensor::Device;
use common::{json, json_on_cpu, run, small, stderr, stdout};
use lejepa_core::Registry;
use lejepa_core::ViewSampler as _;
// Linked for what it registers.
use lejepa_audio as _;
use lejepa_image as _;
use lejepa_nn as _;
use lejepa_train::{Embedder, NamedEmbeddings, RunDir, Silent};
use lejepa_video as _;
use serde_json::Value;

fn train(dir: &Path) {
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

fn pictures(dir: &Path) {
    std::fs::create_dir(dir).unwrap();
    for i in 0..6u8 {
        let picture =
            image::GrayImage::from_fn(20, 20, |x, y| image::Luma([(x as u8 * 9 * i) ^ y as u8]));
        picture.save(dir.join(format!("{i}, \"x\".png"))).unwrap();
    }
    std::fs::write(dir.join("bad.png"), "no picture").unwrap();
}

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

/// What the Python in an export's `README.md` prints; `None` where these packages are not there.
fn snippet(folder: &Path, packages: &str) -> Option<String> {
    let python = |code: &str| {
        let mut python = std::process::Command::new("python3");
        python.args(["-c", code]).current_dir(folder).output()
    };
    let is_there = python(&format!("import {packages}")).is_ok_and(|out| out.status.success());
    if !is_there {
        eprintln!("NOT RUN: python3 has not all of {packages}");
        return None;
    }
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let code = readme.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let out = python(code).unwrap();
    assert!(out.status.success(), "{code}\n{}", stderr(&out));
    Some(stdout(&out).trim().to_string())
}

#[test]
fn the_python_of_exports_runs() {
    let d = tempfile::tempdir().unwrap();
    let small = ["encoder.width=8", "encoder.depths=[1, 1, 1, 1]", "encoder.patch=1"];
    for (encoder, settings, width) in [
        (
            "vit",
            &[
                "encoder.width=24",
                "encoder.depth=2",
                "encoder.pool=cls",
                "encoder.positions=learned",
            ][..],
            24,
        ),
        ("resnet", &["encoder.stem=large"], 512),
        ("convnext", &small, 64),
    ] {
        let words = ["train", "--modality", "image", "--encoder", encoder, "-o", encoder];
        let mut words = [&words[..], &["--steps", "2", "--batch", "4"]].concat();
        settings.iter().for_each(|setting| words.extend(["--set", setting]));
        words.extend(["--set", "probe.enabled=false", "--set", "image.local_size=16"]);
        words.extend(["--set", "image.global_size=32"]);
        json_on_cpu(d.path(), &words);
        let (timm, onnx) = (format!("{encoder}-timm"), format!("{encoder}-onnx"));
        json(d.path(), &["export", encoder, "--format", "timm", "-o", &timm]);
        json(d.path(), &["export", encoder, "--format", "onnx", "-o", &onnx]);
        if let Some(shape) = snippet(&d.path().join(timm), "timm, torch, safetensors") {
            assert_eq!(shape, format!("torch.Size([2, {width}])"));
        }
        if let Some(shape) = snippet(&d.path().join(onnx), "onnxruntime, numpy") {
            assert_eq!(shape, format!("(2, {width})"));
        }
    }
}

#[test]
fn weights_go_to_timm_and_start_a_run_again() {
    let d = tempfile::tempdir().unwrap();
    pictures(&d.path().join("p"));
    let train = |output: &str, words: &[&str]| {
        let base = ["train", "--modality", "image", "--steps", "2", "--batch", "8", "-o", output];
        json_on_cpu(d.path(), &small(&[&base[..], words].concat()))
    };
    let vit =
        ["--encoder", "vit", "--set", "encoder.pool=cls", "--set", "encoder.positions=learned"];
    train("r", &vit);
    json(d.path(), &["export", "r", "--format", "timm", "-o", "x"]);
    let card: Value =
        serde_json::from_slice(&std::fs::read(d.path().join("x/config.json")).unwrap()).unwrap();
    assert_eq!(card["architecture"], "vit_tiny_patch16_224");
    assert_eq!(
        (&card["model_args"]["embed_dim"], &card["model_args"]["depth"]),
        (&24.into(), &2.into())
    );
    assert_eq!(card["pretrained_cfg"]["mean"].as_array().map(Vec::len), Some(1));
    let readme = std::fs::read_to_string(d.path().join("x/README.md")).unwrap();
    assert!(readme.contains("timm.create_model"));

    // The architecture is that of the weights, without a word of it.
    let base = ["train", "--modality", "image", "--steps", "1", "--batch", "8", "-o", "again"];
    let from = ["--init", "x/model.safetensors", "--set", "projector.hidden=64"];
    let out = run(d.path(), &[&base[..], &from, &["--device", "cpu"]].concat());
    assert!(out.status.success(), "{}", stderr(&out));
    let config = std::fs::read_to_string(d.path().join("again/config.toml")).unwrap();
    for line in ["name = \"vit\"", "width = 24", "pool = \"cls\"", "positions = \"learned\""] {
        assert!(config.contains(line), "{line}");
    }
    assert!(stderr(&out).contains("weights   of the encoder from"), "{}", stderr(&out));
    assert!(stdout(&out).contains("\n  initial "), "{}", stdout(&out));

    // An encoder that timm has not leaves nothing behind.
    train("m", &["--encoder", "mlp"]);
    let refused = run(d.path(), &["export", "m", "--format", "timm", "-o", "y"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("only vit, resnet and convnext"), "{}", stderr(&refused));
    assert!(!d.path().join("y").exists());
    // Nor does a file that is no weights.
    std::fs::write(d.path().join("bad.safetensors"), b"\x08\0\0\0\0\0\0\0{\"a\":1}}").unwrap();
    let words =
        [&base[..7], &["-o", "bad", "--init", "bad.safetensors", "--device", "cpu"]].concat();
    let refused = run(d.path(), &words);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("bad.safetensors: no safetensors"), "{}", stderr(&refused));
    assert!(!d.path().join("bad").exists());
}

#[test]
fn views_are_written_as_pictures_and_films() {
    let d = tempfile::tempdir().unwrap();
    pictures(&d.path().join("p"));
    let out = json(d.path(), &["views", "--modality", "image", "--data", "p", "-o", "v"]);
    assert_eq!(out["files"].as_array().map(Vec::len), Some(6));
    assert_eq!(out["skipped"].as_array().map(Vec::len), Some(1));
    // Views of 20 and 12 pixels, enlarged; two global ones beside each other and four local ones.
    let sheet = image::open(d.path().join(out["files"][0].as_str().unwrap())).unwrap();
    assert_eq!(
        (sheet.width(), sheet.height()),
        (4 * (12 * 8 + 4) + 4, 2 * (20 * 8 + 4) + 12 * 8 + 8)
    );
    // The same seed gives the same views.
    json(d.path(), &["views", "--modality", "image", "--data", "p", "-o", "w"]);
    for file in out["files"].as_array().unwrap() {
        let file = Path::new(file.as_str().unwrap());
        let other = Path::new("w").join(file.file_name().unwrap());
        let read = |path: &Path| std::fs::read(d.path().join(path)).unwrap();
        assert_eq!(read(file), read(&other));
    }

    // One file, by name.
    let one = ["views", "p/1, \"x\".png", "--modality", "image", "-o", "one"];
    assert_eq!(json(d.path(), &one)["files"].as_array().map(Vec::len), Some(1));
    for (modality, endings) in [("audio", &["png"][..]), ("video", &["png", "gif"])] {
        let words = ["views", "--modality", modality, "--samples", "2", "-o", modality];
        let out = json(d.path(), &words);
        let files = out["files"].as_array().unwrap();
        assert_eq!(files.len(), 2 * endings.len(), "{files:?}");
        for file in files {
            let file = d.path().join(file.as_str().unwrap());
            let picture = image::open(&file).unwrap().into_luma8();
            let levels: std::collections::BTreeSet<u8> = picture.pixels().map(|p| p.0[0]).collect();
            assert!(levels.len() > 20, "{}: {}", file.display(), levels.len());
        }
    }
    let refused = |words: &[&str], code: i32, says: &str| {
        let out = run(d.path(), words);
        assert_eq!(out.status.code(), Some(code), "{words:?}: {}", stderr(&out));
        assert!(stderr(&out).contains(says), "{words:?}: {}", stderr(&out));
    };
    refused(&["views", "--modality", "image", "--data", "p", "-o", "v"], 2, "already exists");
    refused(&["views", "none.png", "--modality", "image", "-o", "x"], 1, "no such file");
    assert!(!d.path().join("x").exists());
}

#[test]
fn principal_components_of_dense_features_are_pictures() {
    let d = tempfile::tempdir().unwrap();
    for (modality, encoder, endings) in [
        ("image", "vit", &["png"][..]),
        ("audio", "convnet", &["png"]),
        ("video", "resnet", &["png", "gif"]),
    ] {
        let words = ["train", "--modality", modality, "--encoder", encoder, "-o", modality];
        let more = ["--steps", "1", "--batch", "8", "--set", "probe.enabled=false"];
        json_on_cpu(d.path(), &[&words[..], &more, &["--set", "encoder.width=24"]].concat());
        let folder = format!("pca-{modality}");
        let out = json(d.path(), &["pca", modality, "--samples", "3", "-o", &folder]);
        let files = out["files"].as_array().unwrap();
        assert_eq!(files.len(), 3 * endings.len(), "{files:?}");
        let shares = out["explained"]["main"].as_array().unwrap();
        let sum: f64 = shares.iter().map(|share| share.as_f64().unwrap()).sum();
        assert!(shares.len() == 3 && sum > 0.0 && sum <= 1.0, "{shares:?}");
        for file in files {
            let picture = image::open(d.path().join(file.as_str().unwrap())).unwrap().into_rgb8();
            let colours: std::collections::BTreeSet<[u8; 3]> =
                picture.pixels().map(|p| p.0).filter(|[r, g, b]| r != g || g != b).collect();
            assert!(colours.len() > 3, "{file}: {}", colours.len());
        }
    }
    let refused = run(d.path(), &["pca", "image", "-o", "pca-image"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
}

#[test]
fn onnx_files_give_the_embeddings_of_their_run() {
    let d = tempfile::tempdir().unwrap();
    let has_runtime =
        std::process::Command::new("python3").args(["-c", "import onnxruntime"]).output();
    let has_runtime = has_runtime.is_ok_and(|out| out.status.success());
    if !has_runtime {
        eprintln!("python3 has no onnxruntime: the graphs are written, but not run");
    }
    let registry = Registry::discover().unwrap();
    let vit = ["encoder.width=24", "encoder.depth=2"];
    let rope = ["encoder.positions=rope", "encoder.mlp=swiglu", "encoder.registers=2"];
    let rope = [&vit[..], &rope, &["encoder.heads=2"]].concat();
    let cls = [&vit[..], &["encoder.pool=cls", "encoder.registers=2"]].concat();
    for (i, (modality, encoder, settings)) in [
        ("image", "convnet", &["encoder.width=8"][..]),
        ("image", "resnet", &["encoder.width=4"]),
        ("image", "resnet", &["encoder.width=4", "encoder.depth=50", "encoder.stem=large"]),
        ("image", "vit", &vit),
        ("image", "vit", &cls),
        ("image", "vit", &rope),
        ("image", "convnext", &["encoder.width=4", "encoder.depths=[1, 1, 2, 1]"]),
        (
            "image",
            "convnext",
            &["encoder.width=4", "encoder.depths=[1, 1, 2, 1]", "encoder.version=1"],
        ),
        ("audio", "convnet", &["encoder.width=8", "encoder.head=frequency", "encoder.hidden=32"]),
        ("video", "convnet", &["encoder.width=4", "encoder.stages=3"]),
        ("video", "convnet", &["encoder.width=4", "encoder.head=frequency", "encoder.hidden=32"]),
        ("video", "resnet", &["encoder.width=4"]),
        ("video", "vit", &vit),
        (
            "video",
            "vit",
            &["encoder.width=24", "encoder.depth=2", "encoder.heads=1", "encoder.positions=rope"],
        ),
        ("video", "convnext", &["encoder.width=4", "encoder.depths=[1, 1, 2, 1]"]),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("r{i}");
        let mut words = vec!["train", "--modality", modality, "--encoder", encoder, "-o", &name];
        words.extend(["--steps", "2", "--batch", "8", "--set", "probe.enabled=false"]);
        settings.iter().for_each(|setting| words.extend(["--set", setting]));
        json_on_cpu(d.path(), &words);
        let folder = format!("x{i}");
        json(d.path(), &["export", &name, "--format", "onnx", "-o", &folder]);
        let folder = d.path().join(folder);
        let card: Value =
            serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();

        let run = d.path().join(&name);
        let embedder = Embedder::open(&run, &registry, &Device::flex()).unwrap();
        let view = embedder.source("demo").unwrap().eval_view(3).unwrap();
        assert_eq!(card["input"]["shape"], serde_json::json!(view.shape()));
        let embedding = embedder.embed_view(&view).unwrap();
        let section = &card["config"][modality];
        let first =
            |key: &str| section[key].get(0).unwrap_or(&section[key]).as_f64().unwrap() as f32;
        let values = view.data();
        let plain = values.iter().map(|v| v * first("std") + first("mean"));
        let write = |file: &str, values: Vec<f32>| {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            std::fs::write(folder.join(file), bytes).unwrap();
        };
        write("input", plain.collect());
        write("output", embedding);
        if has_runtime {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/onnx_check.py");
            let mut python = std::process::Command::new("python3");
            python.arg(script).args(["model.onnx", "input", "output"]).current_dir(&folder);
            let out = python.output().unwrap();
            assert!(out.status.success(), "{modality} {encoder}: {}{}", stdout(&out), stderr(&out));
        }
    }
    // A graph that begins with samples; "r8" is of sounds.
    let run_of = |name: &str| d.path().join(name);
    let words = ["export", "r8", "--format", "onnx", "--front-end", "-o", "front"];
    json(d.path(), &words);
    let embedder = Embedder::open(&run_of("r8"), &registry, &Device::flex()).unwrap();
    let card = std::fs::read(run_of("front").join("config.json")).unwrap();
    let card: Value = serde_json::from_slice(&card).unwrap();
    let count = card["input"]["shape"][0].as_u64().unwrap() as usize;
    let wave: Vec<f32> =
        (0..count).map(|i| 0.3 * (0.05 * i as f32 + 1e-6 * (i * i) as f32).sin()).collect();
    let section: lejepa_audio::AudioConfig =
        serde_json::from_value(card["config"]["audio"].clone()).unwrap();
    let sampler = lejepa_audio::AudioSampler::new(&section).unwrap();
    let view = sampler.eval_view(&lejepa_audio::Waveform::new(wave.clone()).unwrap()).unwrap();
    let bytes = |values: Vec<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    std::fs::write(run_of("front").join("input"), bytes(wave)).unwrap();
    let embedding = embedder.embed_view(&view).unwrap();
    std::fs::write(run_of("front").join("output"), bytes(embedding)).unwrap();
    if has_runtime {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/onnx_check.py");
        let mut python = std::process::Command::new("python3");
        python.arg(script).args(["model.onnx", "input", "output"]).current_dir(run_of("front"));
        let out = python.output().unwrap();
        assert!(out.status.success(), "front end: {}{}", stdout(&out), stderr(&out));
    }
    let refused = run(d.path(), &["export", "r0", "--format", "onnx", "--front-end", "-o", "z"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    // What has no graph leaves nothing behind.
    let words = ["train", "--modality", "image", "--encoder", "mlp", "--steps", "1", "-o", "m"];
    json_on_cpu(d.path(), &[&words[..], &["--set", "probe.enabled=false"]].concat());
    let refused = run(d.path(), &["export", "m", "--format", "onnx", "-o", "y"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(!d.path().join("y").exists());
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
