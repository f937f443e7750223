//! Whatever a user can set wrong is refused by its key, in `config show` and in `train` alike, before
//! anything is made or opened.

mod common;

use std::path::Path;

use common::{run, stderr, stdout};
use serde_json::Value;

/// Keys whose every text is a value: where data and weights are is looked up later.
const FREE: [&str; 4] = ["data.source", "data.disk_cache", "data.fold", "train.init"];

/// Every key with its value, dotted.
fn keys(prefix: &str, table: &Value, out: &mut Vec<(String, Value)>) {
    for (key, value) in table.as_object().unwrap() {
        let dotted = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(_) => keys(&dotted, value, out),
            value => out.push((dotted, value.clone())),
        }
    }
}

/// Values of the right kind that no setting should take, or of another kind.
fn bad(value: &Value) -> &'static [&'static str] {
    match value {
        Value::Bool(_) => &["maybe"],
        Value::Number(n) if n.is_f64() => &["nan", "-1e300"],
        Value::Number(_) => &["-1", "1.5"],
        Value::String(_) => &["no-such-word"],
        _ => &["[nan]", "[nan, nan]", "[nan, nan, nan]", "[-1]", "[0, 0]"],
    }
}

#[test]
fn every_key_refuses_a_bad_value_before_anything_is_made() {
    let d = tempfile::tempdir().unwrap();
    let mut done = std::collections::BTreeSet::new();
    let mut unchecked = Vec::new();
    for modality in ["image", "audio", "video"] {
        for encoder in ["vit", "mlp", "resnet", "convnext"] {
            let chosen = ["--modality", modality, "--encoder", encoder];
            let words = [&["config", "show", "--json"], &chosen[..]].concat();
            let out = run(d.path(), &words);
            let text = stdout(&out);
            let table: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            let mut all = Vec::new();
            keys("", &table, &mut all);
            assert!(all.len() > 50, "{all:?}");
            for (key, value) in all {
                // An encoder's keys for each encoder, a modality's for each modality, the rest once.
                let of = if key.starts_with("encoder.") { encoder } else { modality };
                if FREE.contains(&key.as_str()) || !done.insert((key.clone(), of)) {
                    continue;
                }
                if !is_checked(d.path(), &chosen, &key, &value) {
                    unchecked.push(key);
                }
            }
        }
    }
    assert!(unchecked.is_empty(), "these keys take everything: {unchecked:?}");
    assert!(std::fs::read_dir(d.path()).unwrap().next().is_none(), "something was left behind");
}

/// Whether a bad value is refused at all; how it is refused is asserted.
fn is_checked(folder: &Path, chosen: &[&str], key: &str, value: &Value) -> bool {
    let mut refused = 0;
    for bad in bad(value) {
        let set = format!("{key}={bad}");
        let words = [chosen, &["--set", set.as_str()]].concat();
        let shown = run(folder, &[&["config", "show"], &words[..]].concat());
        if shown.status.success() {
            continue;
        }
        refused += 1;
        let text = stderr(&shown);
        let last = key.rsplit('.').next().unwrap();
        assert_eq!(shown.status.code(), Some(2), "{set}: {text}");
        assert!(text.contains(last) || text.contains(bad), "{set}: {text}");
        let trained = run(folder, &[&["train", "--steps", "1"], &words[..]].concat());
        assert_eq!(trained.status.code(), Some(2), "{set}: {}", stderr(&trained));
    }
    refused > 0
}
