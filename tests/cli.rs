//! The command line: what it says, what it refuses, and how it ends.

mod common;

use std::path::Path;
use std::process::Command;

use common::{run as lejepa, stderr, stdout};

/// A refusal: this exit code, one `error:` line that says this, and a hint that says that.
#[track_caller]
fn refused(dir: &Path, words: &[&str], code: i32, says: &str, hints: &str) {
    let out = lejepa(dir, words);
    let text = stderr(&out);
    assert_eq!(out.status.code(), Some(code), "{words:?}: {text}");
    let error = text.lines().find(|l| l.starts_with("error:")).unwrap_or_else(|| panic!("{text}"));
    assert!(error.contains(says), "{words:?}: {text}");
    assert!(text.contains(hints), "{words:?}: {text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn help_teaches() {
    let d = tempfile::tempdir().unwrap();
    for words in [vec!["--help"], vec!["train", "--help"], vec!["probe", "--help"]] {
        let out = lejepa(d.path(), &words);
        assert!(out.status.success());
        assert!(stdout(&out).contains("Usage:"));
    }
    assert!(stdout(&lejepa(d.path(), &["--help"])).contains("Examples:"));
    assert_eq!(lejepa(d.path(), &[]).status.code(), Some(2));
}

/// `./x commands` keeps the outputs on the page; this keeps the commands.
#[test]
fn every_command_is_shown_with_its_output() {
    let page = include_str!("../docs/commands.md");
    let d = tempfile::tempdir().unwrap();
    let help = stdout(&lejepa(d.path(), &["--help"]));
    let listed = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    // Names begin two columns in, the rest of a description further on.
    let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let names = listed.lines().filter(is_name).filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let shown = format!("\n$ lejepa {name} ");
        let alone = format!("\n$ lejepa {name}\n");
        assert!(page.contains(&shown) || page.contains(&alone), "{name} is not on the page");
    }
}

#[test]
fn the_binary_links_exactly_the_official_plugins() {
    let d = tempfile::tempdir().unwrap();
    let names = |command: &str| -> Vec<String> {
        let out = lejepa(d.path(), &[command, "--json"]);
        let value: serde_json::Value = serde_json::from_str(stdout(&out).trim()).unwrap();
        let rows = value[command].as_array().unwrap().clone();
        rows.iter().map(|r| r["name"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(names("modalities"), ["audio", "film", "image", "video", "world"]);
    let encoders = ["convnet", "convnext", "filterbank", "frames", "mlp", "resnet", "vit"];
    assert_eq!(names("encoders"), encoders);
    let text = stdout(&lejepa(d.path(), &["modalities"]));
    assert!(text.contains("lejepa-audio 0.1.0"), "{text}");
}

#[test]
fn encoders_of_published_sizes_have_published_figures() {
    let d = tempfile::tempdir().unwrap();
    let out = lejepa(d.path(), &["encoders", "--all", "--json"]);
    let value: serde_json::Value = serde_json::from_str(stdout(&out).trim()).unwrap();
    let sizes = value["sizes"].as_array().unwrap();
    // Parameters by timm 1.0.31 without classifiers, GMACs as in the papers and in timm's tables. The position that
    // timm adds to a class token is part of the token here, and a ResNet's running statistics are counted.
    for (name, parameters, macs) in [
        ("vit_tiny_patch16", 5_524_416 - 192, 1.26),
        ("vit_small_patch16", 21_665_664 - 384, 4.61),
        ("vit_base_patch16", 85_798_656 - 768, 17.58),
        ("vit_large_patch16", 303_301_632 - 1024, 61.60),
        ("vit_huge_patch14", 630_764_800 - 1280, 167.40),
        ("resnet18", 11_176_512 + 2 * 4_800, 1.82),
        ("resnet50", 23_508_032 + 2 * 26_560, 4.11),
        ("resnet101", 42_500_160 + 2 * 52_672, 7.83),
        ("convnext_tiny", 27_820_128, 4.47),
        ("convnext_large", 196_230_336, 34.40),
        ("convnextv2_atto", 3_387_400, 0.55),
        ("convnextv2_huge", 657_472_640, 115.0),
    ] {
        let found = sizes.iter().find(|size| size["name"] == name).unwrap();
        assert_eq!(found["parameters"], parameters, "{name}");
        let counted = found["multiply_adds"].as_f64().unwrap() / 1e9;
        assert!((counted / macs - 1.0).abs() < 0.02, "{name}: {counted}");
    }
    let text = stdout(&lejepa(d.path(), &["encoders", "--all"]));
    assert!(text.contains("resnet encoder.depth=50 encoder.stem=large"), "{text}");
}

#[test]
fn a_reader_that_goes_away_does_not_end_a_training() {
    let d = tempfile::tempdir().unwrap();
    let words = "train --modality image --device cpu --encoder mlp --steps 5 --batch 16 -o r --set probe.enabled=false";
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_lejepa"))
        .args(words.split(' '))
        .current_dir(d.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().unwrap().success());
    let info = std::fs::read_to_string(d.path().join("r/run.json")).unwrap();
    assert!(info.contains("finished"), "{info}");
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_a_full_disk_swallowed_are_no_success() {
    let d = tempfile::tempdir().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_lejepa"))
        .args(["encoders", "--json"])
        .current_dir(d.path())
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    assert!(stderr(&out).contains("cannot write to stdout"), "{}", stderr(&out));
}

#[test]
fn unknown_words_name_the_nearest() {
    let d = tempfile::tempdir().unwrap();
    let dir = d.path();
    refused(
        dir,
        &["train", "--modality", "adio"],
        2,
        "audio, film, image, video",
        "did you mean `audio`",
    );
    refused(
        dir,
        &["train", "--modality", "seismic"],
        2,
        "unknown modality",
        "use that_crate as _;",
    );
    refused(dir, &["train", "--encoder", "resnt"], 2, "unknown encoder", "did you mean `resnet`");
    refused(
        dir,
        &["train", "--set", "train.epoch=3"],
        2,
        "did you mean `train.epochs`",
        "config show",
    );
    refused(dir, &["train", "--set", "epochs=3"], 2, "did you mean `train.epochs`", "config show");
    refused(dir, &["train", "--set", "train.epochs=many"], 2, "expected float", "");
    refused(dir, &["train", "--set", "objective.mix=concave"], 2, "concave", "");
    refused(dir, &["train", "--lambda", "1.5"], 2, "objective.lambda", "");
    refused(dir, &["train", "--batch", "1"], 2, "train.batch", "");
    refused(dir, &["train", "--device", "cdua"], 2, "unknown device", "did you mean `cuda`");
    refused(dir, &["train", "--modalty", "image"], 2, "--modalty", "--modality");
    refused(dir, &["tran"], 2, "tran", "train");
    assert!(!dir.join("runs").exists(), "a refused command leaves nothing behind");
}

#[test]
fn bad_places_are_one_line_errors() {
    let d = tempfile::tempdir().unwrap();
    let dir = d.path();
    refused(dir, &["train", "--data", "no/such"], 1, "no such file or folder", "--data takes");
    std::fs::create_dir(dir.join("empty")).unwrap();
    refused(dir, &["train", "--data", "empty"], 1, "no usable files", "--modality");
    std::fs::write(dir.join("file.xyz"), "x").unwrap();
    refused(dir, &["train", "--data", "file.xyz"], 1, "not a folder and not a manifest", ".csv");
    std::fs::create_dir(dir.join("full")).unwrap();
    std::fs::write(dir.join("full/x"), "x").unwrap();
    refused(dir, &["train", "--output", "full"], 2, "already exists", "never overwritten");
    // A file where a folder would have to be: nobody can write there, not even root.
    refused(dir, &["train", "--output", "file.xyz/run"], 1, "cannot create", "");
    refused(dir, &["train", "--config", "no.toml"], 1, "cannot read", "");
    std::fs::write(dir.join("bad.toml"), "seed = 1\n[train\n").unwrap();
    refused(dir, &["train", "--config", "bad.toml"], 1, "line 2", "");
    std::fs::write(dir.join("odd.toml"), "[trian]\nlr = 1.0\n").unwrap();
    refused(dir, &["train", "--config", "odd.toml"], 2, "did you mean `train`", "");
    refused(dir, &["probe", "empty"], 1, "not a run folder", "lejepa train");
    refused(dir, &["probe", "nowhere"], 1, "no such folder", "");
}

#[test]
fn the_shown_configuration_is_accepted_and_repeats_itself() {
    let d = tempfile::tempdir().unwrap();
    for modality in ["image", "audio", "video"] {
        let words = ["config", "show", "--modality", modality, "--encoder", "mlp", "--seed", "9"];
        let first = lejepa(d.path(), &words);
        assert!(first.status.success(), "{}", stderr(&first));
        std::fs::write(d.path().join("c.toml"), &first.stdout).unwrap();
        let again = lejepa(d.path(), &["config", "show", "--config", "c.toml"]);
        assert_eq!(stdout(&first), stdout(&again), "{}", stderr(&again));
        assert!(stdout(&first).contains("seed = 9"));
    }
}

#[test]
fn errors_are_json_too() {
    let d = tempfile::tempdir().unwrap();
    let out = lejepa(d.path(), &["train", "--modality", "adio", "--json"]);
    let text = stdout(&out);
    let value: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert!(value["error"].as_str().unwrap().contains("unknown modality"));
}

#[test]
fn statistics_are_listed_chosen_and_strict() {
    let d = tempfile::tempdir().unwrap();
    let out = lejepa(d.path(), &["statistics", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let names: Vec<_> = listed["statistics"].as_array().unwrap().iter().collect();
    assert!(names.iter().any(|s| s["name"] == "epps_pulley" && s["crate"] == "lejepa-objective"));

    let show = |words: &[&str]| {
        let mut all = vec!["config", "show"];
        all.extend(words);
        let out = lejepa(d.path(), &all);
        (
            out.status.code(),
            String::from_utf8_lossy(&out.stdout).into_owned(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    let (code, text, _) = show(&[]);
    assert_eq!(code, Some(0));
    assert!(text.contains("name = \"epps_pulley\"") && text.contains("knots = 17"), "{text}");
    let moments = "statistic.name=moments";
    let (code, text, _) = show(&["--set", moments, "--set", "statistic.k_max=6"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("k_max = 6") && !text.contains("knots"), "{text}");
    // A configuration that was written is one that can be read, also for another statistic.
    std::fs::write(d.path().join("c.toml"), &text).unwrap();
    let (code, again, _) = show(&["--config", "c.toml"]);
    assert_eq!((code, &again), (Some(0), &text));
    let (code, other, _) = show(&["--config", "c.toml", "--set", "statistic.name=watson"]);
    assert!(code == Some(0) && !other.contains("k_max"), "{other}");

    for (words, says) in [
        (["--set", moments, "--set", "statistic.knots=5"], "unknown configuration key"),
        (["--set", moments, "--set", "statistic.k_max=0"], "statistic.k_max"),
        (["--set", "statistic.name=momens", "--set", "seed=1"], "did you mean `moments`"),
        (["--set", "objective.clip=-1", "--set", "seed=1"], "objective.clip"),
    ] {
        let (code, _, error) = show(&words);
        assert!(code == Some(2) && error.contains(says), "{words:?}: {code:?} {error}");
    }
}

/// The example is what `new-plugin` writes for a member of a workspace, so that neither grows stale.
#[test]
fn the_example_is_what_new_plugin_writes() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/custom-modality");
    let d = tempfile::tempdir().unwrap();
    std::fs::write(d.path().join("Cargo.toml"), "[workspace]\nmembers = [\"examples/*\"]\n")
        .unwrap();
    // At the same depth below a checkout as the example.
    let fake = d.path().join("crates/lejepa-core");
    std::fs::create_dir_all(&fake).unwrap();
    std::fs::write(fake.join("Cargo.toml"), "").unwrap();
    let words =
        ["new-plugin", "accelerometer", "-o", "examples/custom-modality", "--lejepa", "../.."];
    let out = lejepa(d.path(), &words);
    assert!(out.status.success(), "{}", stderr(&out));
    let made = d.path().join("examples/custom-modality");
    for file in [
        "Cargo.toml",
        ".gitignore",
        "README.md",
        "src/lib.rs",
        "src/series.rs",
        "src/demo.rs",
        "src/encoder.rs",
        "src/main.rs",
        "tests/conformance.rs",
    ] {
        let read = |folder: &Path| std::fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(read(&made), read(&example), "{file}: make the example anew");
    }
    refused(d.path(), &words, 2, "already exists", "hint");
    // Where the workspace does not list it, and where there is none, it is the root of its own, with a profile.
    let alone = tempfile::tempdir().unwrap();
    for folder in [d.path(), alone.path()] {
        let out = lejepa(folder, &["new-plugin", "accelerometer"]);
        assert!(out.status.success(), "{}", stderr(&out));
        let manifest = std::fs::read_to_string(folder.join("accelerometer/Cargo.toml")).unwrap();
        let sections: Vec<&str> = manifest.lines().filter(|line| line.starts_with('[')).collect();
        let expected =
            ["package", "workspace", "dependencies", "dev-dependencies", "profile.release"];
        assert_eq!(sections, expected.map(|name| format!("[{name}]")), "{manifest}");
    }
    for name in ["My-Sensor", "a--b", "9x", "image", "", "über"] {
        refused(d.path(), &["new-plugin", name], 2, "is no name for a plugin", "my-sensor");
    }
    refused(
        d.path(),
        &["new-plugin", "x", "--lejepa", "/"],
        1,
        "is no checkout",
        "crates/lejepa-core",
    );
}

/// Two versions of the core would be two registries that do not see each other: cargo refuses them.
#[test]
fn two_versions_of_the_core_cannot_be_linked() {
    let d = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let manifest = std::fs::read_to_string(root.join("crates/lejepa-core/Cargo.toml")).unwrap();
    let links = manifest.lines().find(|l| l.starts_with("links = ")).unwrap();
    // Empty crates with the core's name and its `links` line are enough for cargo to decide.
    for version in ["0.1.0", "0.2.0"] {
        let folder = d.path().join(version);
        std::fs::create_dir_all(folder.join("src")).unwrap();
        std::fs::write(folder.join("src/lib.rs"), "").unwrap();
        std::fs::write(folder.join("build.rs"), "fn main() {}").unwrap();
        let text = format!("[package]\nname = \"lejepa-core\"\nversion = \"{version}\"\n{links}\n");
        std::fs::write(folder.join("Cargo.toml"), text).unwrap();
    }
    std::fs::create_dir_all(d.path().join("src")).unwrap();
    std::fs::write(d.path().join("src/lib.rs"), "").unwrap();
    let text = "[package]\nname = \"both\"\nversion = \"0.1.0\"\n[dependencies]\n\
                a = { package = \"lejepa-core\", path = \"0.1.0\" }\n\
                b = { package = \"lejepa-core\", path = \"0.2.0\" }\n";
    std::fs::write(d.path().join("Cargo.toml"), text).unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args(["generate-lockfile", "--offline"])
        .current_dir(d.path())
        .output()
        .unwrap();
    assert!(!out.status.success());
    let says = "links to the native library `lejepa-core`";
    assert!(stderr(&out).contains(says), "{}", stderr(&out));
}

/// Every key of every official section says what it means.
#[test]
fn every_key_is_explained() {
    let d = tempfile::tempdir().unwrap();
    let statistics = lejepa(d.path(), &["statistics", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&statistics.stdout).unwrap();
    let mut choices: Vec<Vec<String>> = Vec::new();
    for modality in ["image", "audio", "video"] {
        for encoder in ["vit", "mlp", "resnet"] {
            choices.push(vec![format!("modality={modality}"), format!("encoder.name={encoder}")]);
        }
    }
    for statistic in listed["statistics"].as_array().unwrap() {
        let name = statistic["name"].as_str().unwrap();
        choices.push(vec![format!("statistic.name={name}")]);
    }
    for choice in choices {
        let words: Vec<&str> = choice.iter().flat_map(|c| ["--set", c.as_str()]).collect();
        let out = lejepa(d.path(), &[&["config", "show"], words.as_slice()].concat());
        assert!(out.status.success(), "{}", stderr(&out));
        let text = stdout(&out);
        let mut explained = false;
        for line in text.lines() {
            if line.contains(" = ") && !line.starts_with('#') {
                assert!(explained, "{choice:?}: `{line}` is not explained");
            }
            explained = line.starts_with("# ");
            assert!(line.chars().count() <= 120 || !explained, "{line}");
        }
    }
}

#[test]
fn runs_are_listed_with_what_differs() {
    let d = tempfile::tempdir().unwrap();
    refused(d.path(), &["runs"], 1, "runs", "the folder that holds them");
    for (name, rate) in [("a", "train.lr=0.001"), ("b", "train.lr=1e-9")] {
        let words = ["train", "--modality", "image", "--steps", "20", "--set", rate, "-o", name];
        common::json_on_cpu(d.path(), &common::small(&words));
    }
    let out = common::json(d.path(), &["runs", ".", "--sort", "loss"]);
    let rows = out["runs"].as_array().unwrap();
    let paths: Vec<&str> = rows.iter().map(|row| row["run"].as_str().unwrap()).collect();
    assert_eq!(paths, ["./a", "./b"]);
    for row in rows {
        assert_eq!((&row["status"], &row["steps"]), (&"finished".into(), &20.into()));
        let linear = row["probes"][0]["scores"]["linear"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&linear) && row["final"]["loss"].is_f64());
        let keys: Vec<&String> = row["settings"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["train.lr"]);
    }
    let text = stdout(&lejepa(d.path(), &["runs", "a", "b"]));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("run  status") && lines[1].starts_with("a    finished"), "{text}");
    assert!(text.contains("train.lr") && text.contains("0.001"), "{text}");
}

#[test]
fn doctor_checks_a_device_against_the_cpu() {
    let d = tempfile::tempdir().unwrap();
    let out = common::json(d.path(), &["doctor", "--check", "cpu", "--steps", "4"]);
    assert_eq!(out["failed"], 0, "{out}");
    let rows = out["checks"][0]["rows"].as_array().unwrap();
    for what in ["SIGReg 3x33x17, 5 slices", "training, audio", "training, world"] {
        let row = rows.iter().find(|row| row["what"] == what).unwrap();
        // The CPU repeats itself to the bit.
        for difference in row["differences"].as_array().unwrap() {
            assert_eq!(difference[1], 0.0, "{row}");
        }
        assert!(row["speed"][1].as_f64().unwrap() > 0.0, "{row}");
    }
    let named = |part: &str| rows.iter().find(|row| row["what"].as_str().unwrap().contains(part));
    assert_eq!(named("killed and resumed").unwrap()["differences"][0][1], 0.0);
    assert!(named("bf16").unwrap()["differences"][0][1].as_f64().unwrap() > 0.0);
    let out = lejepa(d.path(), &["doctor", "--check", "gpu"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("unknown device `gpu`"), "{}", stderr(&out));
}

#[test]
fn doctor_says_what_works_and_how_to_get_the_rest() {
    let d = tempfile::tempdir().unwrap();
    let out = common::json(d.path(), &["doctor"]);
    let works = |list: &str, name: &str| -> bool {
        let all = out[list].as_array().unwrap();
        all.iter().find(|row| row["name"] == name).unwrap()["works"].as_bool().unwrap()
    };
    assert!(works("devices", "cpu") && works("features", "audio"));
    assert_eq!(works("features", "ffmpeg"), cfg!(feature = "ffmpeg"));
    // A build with CUDA finds a card or says why not.
    assert!(cfg!(feature = "cuda") || !works("devices", "cuda"), "{out}");
    assert!(out["plugins"].as_array().unwrap().contains(&"lejepa-audio 0.1.0".into()), "{out}");
    let text = stdout(&lejepa(d.path(), &["doctor"]));
    assert!(
        text.contains("--device auto takes") && text.contains("feature    audio: yes"),
        "{text}"
    );
    assert!(cfg!(feature = "cuda") || text.contains("--features cuda"), "{text}");
}
