//! What changes how a step is computed must not change what it computes.

mod common;

use std::path::Path;
use std::process::Command;

use common::stderr;
use lejepa_kernels::{NARROWER, SIMD_VARIABLE};
use serde_json::Value;

/// Total loss, prediction loss and SIGReg of four steps.
fn losses(encoder: &str, words: &[&str], variable: Option<(&str, &str)>) -> Vec<[f64; 3]> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lejepa"));
    let fixed = "train --modality image --device cpu --steps 4 --batch 24 --output run --set \
                 train.log_every=1 --set probe.enabled=false --set objective.slices=64 --set \
                 projector.hidden=48 --set schedule.warmup=0 --set encoder.width=24";
    command.args(fixed.split_whitespace()).args(["--encoder", encoder]).args(words);
    command.envs(variable);
    let out = command.current_dir(folder.path()).output().unwrap();
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    read(&folder.path().join("run"))
}

fn read(run: &Path) -> Vec<[f64; 3]> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
    lines.map(|m| ["loss", "prediction", "sigreg"].map(|key| m[key].as_f64().unwrap())).collect()
}

/// A width at which products are taken in quarters.
const WIDE: [&str; 4] = ["--set", "encoder.width=192", "--set", "encoder.depth=1"];

#[track_caller]
fn assert_close(a: &[[f64; 3]], b: &[[f64; 3]], share: f64) {
    assert_eq!([a.len(), b.len()], [4, 4]);
    for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
        assert!((a - b).abs() <= share * b.abs(), "{a} is not {b} to {share}");
    }
}

#[test]
fn a_batch_in_parts_is_the_whole_batch() {
    let whole = losses("vit", &[], None);
    // 24 samples in 5 parts: not all of the same size.
    assert_close(&losses("vit", &["--microbatches", "5"], None), &whole, 1e-4);
    let both = ["--microbatches", "5", "--memory", "checkpoint"];
    assert_close(&losses("vit", &both, None), &whole, 1e-4);
    // More parts than samples: one sample each.
    assert_close(&losses("vit", &["--microbatches", "99"], None), &whole, 1e-4);
    let vit = whole;
    // That there are parts shows in batch norm, which sees one at a time.
    let [whole, parts] = [&[][..], &["--microbatches", "5"]].map(|w| losses("resnet", w, None));
    assert!((parts[0][0] - whole[0][0]).abs() > 1e-3 * whole[0][0], "{parts:?} {whole:?}");
    // The mean of the parts' statistics would be far off: SIGReg grows with the samples.
    let small = losses("vit", &["--set", "train.batch=5"], None);
    assert!((small[0][2] - vit[0][2]).abs() > 0.2 * vit[0][2], "{small:?} {vit:?}");
}

#[test]
fn checkpointing_changes_no_bit() {
    let bf16 = &["--precision", "bf16"][..];
    for (encoder, words) in [("vit", &[][..]), ("vit", &WIDE), ("resnet", &[]), ("resnet", bf16)] {
        let full = losses(encoder, words, None);
        let spared = [words, &["--memory", "checkpoint"]].concat();
        assert_eq!(losses(encoder, &spared, None), full, "{encoder} {words:?}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let bf16 = &["--precision", "bf16"][..];
    for (encoder, words) in [
        ("vit", &[][..]),
        ("vit", &WIDE),
        ("resnet", &[]),
        ("vit", bf16),
        ("resnet", bf16),
        ("mlp", &[]),
    ] {
        let [one, three] =
            ["1", "3"].map(|n| losses(encoder, words, Some(("RAYON_NUM_THREADS", n))));
        assert_eq!(three, one, "{encoder} {words:?}");
    }
}

#[test]
fn narrower_vectors_give_nearly_the_same() {
    for (encoder, words) in [("vit", &[][..]), ("vit", &WIDE), ("resnet", &[])] {
        let widest = losses(encoder, words, None);
        for width in NARROWER {
            let narrow = losses(encoder, words, Some((SIMD_VARIABLE, width)));
            // That they are narrower shows in the order of sums.
            #[cfg(target_arch = "x86_64")]
            if width == "scalar" && is_x86_feature_detected!("avx2") {
                assert_ne!(narrow, widest, "{encoder}: the variable is not read");
            }
            // AdamW makes full steps of gradients that are nothing but rounding: later steps differ more.
            assert_close(&narrow, &widest, 0.02);
            for (narrow, widest) in narrow[0].iter().zip(widest[0]) {
                assert!((narrow - widest).abs() <= 1e-4 * widest, "{encoder}: {narrow} {widest}");
            }
        }
    }
}

#[test]
fn bf16_is_near_to_32_bits() {
    for encoder in ["vit", "resnet"] {
        let exact = losses(encoder, &[], None);
        let near = losses(encoder, &["--precision", "bf16"], None);
        assert_close(&near[..], &exact, 0.05);
        if lejepa_kernels::Precision::Bf16.is_native() {
            assert_ne!(near, exact, "{encoder}: nothing was rounded");
        }
    }
}

/// How a command ends under an environment variable, and what it says.
fn ends(word: &str, variable: (&str, &str)) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lejepa"));
    let out = command.arg(word).envs([variable]).output().unwrap();
    (out.status.code(), stderr(&out))
}

#[test]
fn unknown_vectors_are_refused() {
    let (code, text) = ends("modalities", (SIMD_VARIABLE, "avx1024"));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("`avx1024`") && text.contains("`avx2` or `scalar`"), "{text}");
    assert_eq!(ends("modalities", (SIMD_VARIABLE, "scalar")).0, Some(0));
}

/// The allocator reports its settings.
#[test]
#[cfg(target_os = "linux")]
fn free_pages_are_kept() {
    let (_, text) = ends("--version", ("_RJEM_MALLOC_CONF", "confirm_conf:true"));
    assert!(text.contains("Set conf value: dirty_decay_ms:-1"), "{text}");
}

#[test]
fn unknown_ways_are_refused() {
    for words in [["--precision", "fp8"], ["--memory", "none"], ["--microbatches", "0"]] {
        let out = Command::new(env!("CARGO_BIN_EXE_lejepa"))
            .args(["config", "show", "--modality", "image"])
            .args(words)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{words:?}: {text}");
        assert!(text.contains(words[0].trim_start_matches('-')), "{words:?}: {text}");
    }
}
