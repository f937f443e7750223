//! Every command on a run of every modality, the example's own among them.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{small, stderr, stdout};

/// A training of a modality, and what is done with it.
struct Bench<'a> {
    program: PathBuf,
    dir: &'a Path,
    modality: &'a str,
    refused: Refused,
}

/// What a word of the refusal is, where there is one.
#[derive(Default)]
struct Refused {
    pca: Option<&'static str>,
    dense: Option<&'static str>,
    graph: Option<&'static str>,
}

/// Of the perceptron and of the example's encoder.
const PLAIN: Refused =
    Refused { pca: Some("dense features"), dense: Some("dense features"), graph: Some("ONNX") };

impl Bench<'_> {
    fn run(&self, words: &[&str]) -> Output {
        Command::new(&self.program).current_dir(self.dir).args(words).output().unwrap()
    }

    /// A command that must succeed, without a panic or a warning that tells of one.
    #[track_caller]
    fn works(&self, words: &str) -> String {
        let words: Vec<&str> = words.split_whitespace().collect();
        let out = self.run(&words);
        let said = stderr(&out);
        assert!(out.status.success(), "{} {words:?}: {said}", self.modality);
        assert!(!said.contains("panicked"), "{} {words:?}: {said}", self.modality);
        stdout(&out)
    }

    /// A command that this run has nothing for: wrong use, and a sentence that says so.
    #[track_caller]
    fn is_refused(&self, words: &str, reason: &str) {
        let words: Vec<&str> = words.split_whitespace().collect();
        let out = self.run(&words);
        assert_eq!(out.status.code(), Some(2), "{} {words:?}", self.modality);
        let said = stderr(&out);
        assert!(said.contains(reason) && !said.contains("panicked"), "{words:?}: {said}");
    }

    #[track_caller]
    fn is_there(&self, file: &str) {
        let size = std::fs::metadata(self.dir.join(file)).map_or(0, |m| m.len());
        assert!(size > 0, "{}: {file}", self.modality);
    }

    /// Everything that can be done without files, from a training to a map.
    fn everything(&self, train: &[&str]) {
        let modality = self.modality;
        let out = self.run(&[train, &["-o", "r", "--device", "cpu"]].concat());
        assert!(out.status.success(), "{modality}: {}", stderr(&out));
        self.works("resume r --steps 8");
        assert!(self.works(&format!("data demo --modality {modality}")).contains("samples"));
        assert!(self.works(&format!("config show --modality {modality}")).contains("[objective]"));
        self.works(&format!("views --modality {modality} --samples 1"));
        assert!(self.works("runs .").contains('r'));
        assert!(!self.works("judge r").is_empty());
        self.works("report r --samples 20");
        self.is_there("r/report.html");
        let table = self.works("probe r --classes");
        for row in ["trained", "untrained", "raw"] {
            assert!(table.contains(row), "{modality}: {table}");
        }
        self.works("export r");
        self.is_there("r/export/config.json");
        self.works("embed r --data demo -o e.parquet");
        self.works("embed r/export --data demo -o e.npy");
        self.is_there("e.parquet");
        let names = std::fs::read_to_string(self.dir.join("e.paths.txt")).unwrap();
        let name = names.lines().next().unwrap();
        let near = self.run(&["neighbours", name, "--index", "e.npy"]);
        assert!(near.status.success(), "{modality}: {}", stderr(&near));
        // The query itself is no neighbour of itself.
        assert_eq!(
            stdout(&near).lines().filter(|l| l.contains("0.") || l.contains("1.")).count(),
            5
        );
        assert!(self.works("inspect r r/export e.parquet e.npy").lines().count() >= 4);
        for (words, refused) in [
            ("pca r --samples 1", self.refused.pca),
            ("embed r --data demo --dense -o d.parquet", self.refused.dense),
            ("export r --format onnx -o onnx", self.refused.graph),
        ] {
            match refused {
                Some(reason) => self.is_refused(words, reason),
                None => drop(self.works(words)),
            }
        }
        if modality == "world" {
            assert!(self.works("plan r --episodes 1").contains("random"));
        } else {
            self.is_refused("plan r --episodes 1", "environment");
        }
        let sweep = ["sweep", "--grid", "objective.lambda=0.05,0.2"];
        let out = self.run(&[&sweep, &train[1..], &["--device", "cpu"]].concat());
        assert!(out.status.success(), "{modality}: {}", stderr(&out));
    }
}

fn short(modality: &str) -> [&str; 7] {
    ["train", "--modality", modality, "--steps", "4", "--batch", "16"]
}

/// A test for each, so that they run side by side.
fn every_command_works(modality: &str, train: &[&str], refused: Refused) {
    let d = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_lejepa").into();
    Bench { program, dir: d.path(), modality, refused }.everything(train);
}

#[test]
fn every_command_works_on_a_run_of_images() {
    every_command_works("image", &small(&short("image")), Refused::default());
}

#[test]
fn every_command_works_on_a_run_of_sounds() {
    every_command_works("audio", &small(&short("audio")), Refused::default());
}

#[test]
fn every_command_works_on_a_run_of_clips() {
    every_command_works("video", &small(&short("video")), Refused::default());
}

#[test]
fn every_command_works_on_a_run_of_a_world() {
    every_command_works("world", &small(&short("world")), PLAIN);
}

#[test]
fn every_command_works_on_a_run_of_films() {
    let refused = Refused { pca: None, dense: Some("one stream"), graph: Some("several encoders") };
    let sets = ["encoder.picture.width=8", "encoder.sound.width=8", "probe.steps=50"];
    let sets: Vec<&str> = sets.into_iter().flat_map(|set| ["--set", set]).collect();
    every_command_works("film", &[&short("film")[..], &sets].concat(), refused);
}

/// The example's program lies beside this one when the whole workspace is built.
#[test]
fn every_command_works_on_a_run_of_the_examples_modality() {
    let program = Path::new(env!("CARGO_BIN_EXE_lejepa")).with_file_name("accelerometer");
    if !program.is_file() {
        eprintln!("the example is not built: use `--workspace`");
        return;
    }
    let d = tempfile::tempdir().unwrap();
    let modality = "accelerometer";
    Bench { program, dir: d.path(), modality, refused: PLAIN }.everything(&short(modality));
}
