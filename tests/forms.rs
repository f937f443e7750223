//! Other forms of views and encoders than the defaults: samples of sounds, recordings of many lengths, frames of clips.

mod common;

use std::path::Path;

use common::{json_on_cpu as json, run, stderr};

const RATE: u32 = 8000;

/// Tones that rise or fall, of these lengths in milliseconds.
fn sounds(dir: &Path, lengths: &[u32]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    for (class, slope) in [("rise", 1.0), ("fall", -1.0)] {
        std::fs::create_dir_all(dir.join(class)).unwrap();
        for i in 0..24u32 {
            let file = dir.join(class).join(format!("{i}.wav"));
            let mut writer = hound::WavWriter::create(file, spec).unwrap();
            let count = lengths[i as usize % lengths.len()] * RATE / 1000;
            let base = 600.0 + 20.0 * f64::from(i);
            let mut phase = 0.0f64;
            for t in 0..count {
                let at = f64::from(t) / f64::from(count) - 0.5;
                phase += std::f64::consts::TAU * (base + slope * 800.0 * at) / f64::from(RATE);
                writer.write_sample((8000.0 * phase.sin()) as i16).unwrap();
            }
            writer.finalize().unwrap();
        }
    }
}

const SMALL: [&str; 12] = [
    "--steps",
    "3",
    "--set",
    "train.batch=8",
    "--set",
    "projector.hidden=16",
    "--set",
    "projector.output=8",
    "--set",
    "objective.slices=16",
    "--set",
    "probe.steps=20",
];

fn train(dir: &Path, words: &[&str]) -> serde_json::Value {
    json(dir, &[&["train"], words, &SMALL[..]].concat())
}

#[test]
fn samples_of_sounds_are_views() {
    let d = tempfile::tempdir().unwrap();
    sounds(&d.path().join("s"), &[900]);
    let words = [
        "--modality",
        "audio",
        "--data",
        "s",
        "-o",
        "r",
        "--set",
        "audio.sample_rate=8000",
        "--set",
        "views.name=waveform",
        "--set",
        "encoder.spectrogram=convnet width=8 stages=3 head=frequency hidden=32",
        "--set",
        "encoder.filters=32",
    ];
    let out = train(d.path(), &words);
    assert!(out["probe"]["linear"]["trained"].is_number(), "{out}");
    let config = std::fs::read_to_string(d.path().join("r/config.toml")).unwrap();
    assert!(config.contains("name = \"filterbank\"") && config.contains("name = \"waveform\""));
    // Embeddings, views, and an encoder that the user names all the same.
    json(d.path(), &["embed", "r", "--data", "s", "-o", "e.npy"]);
    let views = ["views", "--modality", "audio", "--data", "s", "--samples", "1", "-o", "v"];
    let views = [&views[..], &["--set", "views.name=waveform"]].concat();
    let files = common::json(d.path(), &views)["files"].clone();
    assert_eq!(files.as_array().map(Vec::len), Some(2), "{files}");
    let own = ["--encoder", "vit", "--set", "encoder.patch=[64]", "--set", "audio.n_fft=512"];
    let base = ["--modality", "audio", "--data", "s", "-o", "w", "--set", "views.name=waveform"];
    let fit = ["--set", "audio.hop=64", "--set", "audio.global_frames=89"];
    let local = ["--set", "audio.local_frames=41", "--set", "encoder.width=24"];
    train(d.path(), &[&base[..], &own, &fit, &local].concat());
    let config = std::fs::read_to_string(d.path().join("w/config.toml")).unwrap();
    assert!(config.contains("name = \"vit\""), "{config}");
}

#[test]
fn recordings_of_many_lengths_are_masked() {
    let d = tempfile::tempdir().unwrap();
    sounds(&d.path().join("s"), &[150, 400, 900]);
    for (name, encoder) in [
        ("c", &["encoder.width=8", "encoder.stages=3"][..]),
        ("t", &["encoder.name=vit", "encoder.width=24", "encoder.depth=1"]),
        ("n", &["encoder.name=resnet", "encoder.width=4"]),
    ] {
        let mut words = vec!["--modality", "audio", "--data", "s", "-o", name];
        words.extend(["--set", "audio.short=mask", "--set", "audio.sample_rate=8000"]);
        words.extend(encoder.iter().flat_map(|key| ["--set", *key]));
        let out = train(d.path(), &words);
        assert!(out["probe"]["linear"]["trained"].is_number(), "{out}");
        // What is beside a recording in a batch does not change its embedding.
        let both = format!("{name}-all.csv");
        json(d.path(), &["embed", name, "--data", "s", "-o", &both]);
        let one = format!("{name}-one.csv");
        json(d.path(), &["embed", name, "--data", "s/rise/0.wav", "-o", &one]);
        let numbers = |file: &str| -> Vec<f32> {
            let text = std::fs::read_to_string(d.path().join(file)).unwrap();
            let line = text.lines().find(|line| line.contains("rise/0.wav")).unwrap();
            line.split(',')
                .filter_map(|cell| cell.trim_matches(['"', '[', ']']).parse().ok())
                .collect()
        };
        let (all, alone) = (numbers(&both), numbers(&one));
        assert!(all.len() > 8 && all.len() == alone.len(), "{} {}", all.len(), alone.len());
        for (a, b) in all.iter().zip(&alone) {
            assert!((a - b).abs() < 1e-3 * (1.0 + b.abs()), "{name}: {a} {b}");
        }
    }
    let words = ["train", "--modality", "audio", "--data", "s", "-o", "x", "--encoder", "mlp"];
    let out = run(d.path(), &[&words[..], &["--set", "audio.short=mask"]].concat());
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("length"), "{}", stderr(&out));
    assert!(!d.path().join("x").exists());
}

#[test]
fn frames_of_clips_take_weights_of_pictures() {
    let d = tempfile::tempdir().unwrap();
    let vit = ["encoder.name=vit", "encoder.width=64", "encoder.depth=1", "encoder.heads=1"];
    let vit = vit.iter().chain(&["encoder.patch=[4]", "encoder.pool=cls"]);
    let vit: Vec<&str> =
        vit.chain(&["encoder.positions=learned"]).flat_map(|key| ["--set", *key]).collect();
    train(d.path(), &[&["--modality", "image", "-o", "p"], &vit[..]].concat());
    let exported = run(d.path(), &["export", "p", "--format", "timm", "-o", "t"]);
    assert!(exported.status.success(), "{}", stderr(&exported));

    let base = ["--modality", "video", "-o", "c", "--encoder", "frames", "--init"];
    let words = [&base[..], &["t/model.safetensors", "--set", "encoder.causal=true"]].concat();
    let out = train(d.path(), &words);
    assert!(out["probe"]["linear"]["trained"].is_number(), "{out}");
    let config = std::fs::read_to_string(d.path().join("c/config.toml")).unwrap();
    let frame = config.lines().find(|line| line.starts_with("frame = ")).unwrap();
    assert!(frame.contains("vit ") && frame.contains("width=64"), "{frame}");
    json(d.path(), &["resume", "c", "--steps", "5"]);
}
