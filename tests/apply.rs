//! What applications take from a run: exports, weights, graphs, pictures of views and of features.

mod common;

use std::path::Path;

use burn::tensor::Device;
use common::{json, json_on_cpu, pictures, run, small, stderr, stdout};
use lejepa_core::Registry;
use lejepa_core::ViewSampler as _;
// Linked for what it registers.
use lejepa_audio as _;
use lejepa_image as _;
use lejepa_nn as _;
use lejepa_train::Embedder;
use lejepa_video as _;
use serde_json::Value;

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
    for line in
        ["name = \"vit\"", "width = 24", "heads = 3", "pool = \"cls\"", "positions = \"learned\""]
    {
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
    for (modality, endings) in [("audio", &["png", "wav"][..]), ("video", &["png", "gif"])] {
        let words = ["views", "--modality", modality, "--samples", "2", "-o", modality];
        let out = json(d.path(), &words);
        let files = out["files"].as_array().unwrap();
        assert_eq!(files.len(), 2 * endings.len(), "{files:?}");
        for file in files {
            let file = d.path().join(file.as_str().unwrap());
            if file.extension().is_some_and(|e| e == "wav") {
                // The evaluation view, two global and four local ones, each with a pause.
                let mut sound = hound::WavReader::open(&file).unwrap();
                let rate = sound.spec().sample_rate;
                assert!(sound.duration() > 7 * rate * 2 / 5 + 5 * rate, "{}", sound.duration());
                let loud = sound.samples::<i16>().filter(|v| v.as_ref().unwrap().abs() > 1000);
                assert!(loud.count() > rate as usize / 4);
                continue;
            }
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
