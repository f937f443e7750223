//! Readers of what users and crashes leave behind: whatever the bytes, an error or a value, never a
//! panic.
//!
//! The files of `tests/corpus` are read as they are and with random edits. `PROPTEST_CASES` sets how
//! many edits are tried: for a soak `PROPTEST_CASES=1000000 cargo nextest run -E 'binary(hostile)'`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use lejepa_core::{
    Component, Dataset, Error, Listing, Modality, Registry, Result, SampleRule, Source, Table,
    View, ViewRng, ViewSampler, ViewSpec, Views, kind,
};
use lejepa_train::{Model, Request, RunDir, checkpoint, rundir};
use proptest::prelude::*;

/// A modality for configurations to name; its data is never opened.
struct Image;

#[derive(serde::Serialize, serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Section {
    size: usize,
    name: String,
}

impl Component for Image {
    const NAME: &'static str = "image";
    const ABOUT: &'static str = "nothing";
    type Config = Section;
}

impl Modality for Image {
    const EXTENSIONS: &'static [&'static str] = &["png"];
    type Sample = ();
    fn open(_: &Section, _: Source) -> Result<Box<dyn Dataset<Item = ()>>> {
        Err(Error::Data { reason: "none".into(), hint: String::new() })
    }
    fn sampler(_: &Section) -> Result<Box<dyn ViewSampler<Sample = ()>>> {
        Ok(Box::new(Nothing))
    }
}

struct Nothing;

impl ViewSampler for Nothing {
    type Sample = ();
    fn spec(&self) -> ViewSpec {
        spec()
    }
    fn views(&self, (): &(), _: &mut ViewRng) -> Result<Views> {
        Ok(Views::default())
    }
    fn eval_view(&self, (): &()) -> Result<View> {
        View::new([1, 8], vec![0.0; 8])
    }
}

fn spec() -> ViewSpec {
    ViewSpec::multi_crop(2, [1, 8], 0, [1, 8])
}

fn registry() -> Registry {
    use lejepa_nn as _;
    Registry::discover().unwrap().with::<kind::Modality, Image>(lejepa_core::origin!()).unwrap()
}

fn corpus(ending: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let fits = |p: &PathBuf| p.to_string_lossy().ends_with(ending);
    let found: Vec<Vec<u8>> =
        paths.into_iter().filter(fits).map(|p| std::fs::read(p).unwrap()).collect();
    assert!(!found.is_empty(), "no corpus for {ending}");
    found
}

/// A change to a file, placed by a share of its length.
#[derive(Debug, Clone)]
enum Edit {
    Set(f64, u8),
    Flip(f64, u8),
    Insert(f64, Vec<u8>),
    Remove(f64, usize),
    Repeat(f64, usize),
    Cut(f64),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = 0.0..1.0f64;
    let words = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..12),
        prop::sample::select(vec![
            "=",
            "[",
            "]]",
            "\"",
            "\"\"\"",
            "\n",
            ",",
            "{",
            "}",
            ":",
            "nan",
            "-inf",
            "1e999",
            "-1",
            "18446744073709551616",
            "\u{0}",
            "\\ud800",
            "null",
            "true",
            "'",
            "\u{feff}",
            "🦀",
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
    ];
    let edit = prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(a, b)| Edit::Set(a, b)),
        (at.clone(), 0u8..8).prop_map(|(a, b)| Edit::Flip(a, b)),
        (at.clone(), words).prop_map(|(a, w)| Edit::Insert(a, w)),
        (at.clone(), 1usize..40).prop_map(|(a, n)| Edit::Remove(a, n)),
        (at.clone(), 1usize..200).prop_map(|(a, n)| Edit::Repeat(a, n)),
        at.prop_map(Edit::Cut),
    ];
    prop::collection::vec(edit, 0..6)
}

fn apply(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let at = |share: &f64| ((share * bytes.len() as f64) as usize).min(bytes.len());
        match edit {
            Edit::Set(a, value) => {
                let i = at(a);
                if let Some(b) = bytes.get_mut(i) {
                    *b = *value;
                }
            }
            Edit::Flip(a, bit) => {
                let i = at(a);
                if let Some(b) = bytes.get_mut(i) {
                    *b ^= 1 << bit;
                }
            }
            Edit::Insert(a, words) => {
                let i = at(a);
                bytes.splice(i..i, words.iter().copied());
            }
            Edit::Remove(a, n) => {
                let i = at(a);
                let end = (i + n).min(bytes.len());
                bytes.drain(i..end);
            }
            Edit::Repeat(a, n) => {
                let i = at(a);
                let part = bytes[i..(i + n).min(bytes.len())].to_vec();
                bytes.splice(i..i, part);
            }
            Edit::Cut(a) => {
                let i = at(a);
                bytes.truncate(i);
            }
        }
    }
    bytes
}

fn read_config(bytes: &[u8]) -> Option<Table> {
    let text = String::from_utf8_lossy(bytes);
    let table = rundir::parse_toml(Path::new("c.toml"), &text).ok()?;
    let resolved = Request { file: Some(table), ..Request::default() }.resolve(&registry()).ok()?;
    // What is accepted can be written and read again to the same.
    let written = resolved.to_toml().unwrap();
    let again = rundir::parse_toml(Path::new("c.toml"), &written).unwrap();
    assert_eq!(again.to_string(), resolved.table().to_string());
    Some(resolved.table().clone())
}

fn read_manifest(bytes: &[u8], extension: &str) -> bool {
    let d = tempfile::tempdir().unwrap();
    let file = d.path().join(format!("m.{extension}"));
    std::fs::write(&file, bytes).unwrap();
    let rule = SampleRule::new(&["png"]);
    let _ = Source::resolve(file.to_str().unwrap(), rule);
    match Listing::from_manifest(&file) {
        Ok(listing) => {
            assert_eq!(listing.paths.len(), listing.splits.len());
            true
        }
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "one line: {error}");
            false
        }
    }
}

fn model() -> Model {
    let words = ["encoder.name=mlp", "encoder.width=4", "encoder.depth=1", "projector.hidden=4"];
    let mut assignments: Vec<String> = words.map(String::from).into();
    assignments.push("projector.output=2".into());
    let resolved = Request { assignments, ..Request::default() }.resolve(&registry()).unwrap();
    resolved.model(&Device::flex()).unwrap()
}

/// A small model's file of weights.
fn weights() -> &'static [u8] {
    static FILE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    FILE.get_or_init(|| {
        use burn::module::Module;
        model().into_record().into_bytes().unwrap().to_vec()
    })
}

fn read_weights(bytes: &[u8]) -> bool {
    let d = tempfile::tempdir().unwrap();
    let file = d.path().join("w.bpk");
    std::fs::write(&file, bytes).unwrap();
    checkpoint::load_weights(&file, model()).is_ok()
}

#[test]
fn the_corpus_is_read_as_it_is() {
    assert!(read_config(b"modality = 'image'\n[image]\nsize = 3\n").is_some());
    let read: Vec<bool> = corpus(".toml").iter().map(|b| read_config(b).is_some()).collect();
    assert_eq!(read, [false, true], "config-odd.toml, config.toml");
    assert!(read_manifest(&corpus("manifest.csv")[0], "csv"));
    for bytes in corpus(".csv") {
        read_manifest(&bytes, "csv");
    }
    assert!(read_manifest(&corpus("manifest.jsonl")[0], "jsonl"));
    checkpoint::parse_state(&corpus("state.json")[0]).unwrap();
    assert!(read_weights(weights()));
    assert!(!read_weights(b""));
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn configurations(i in any::<prop::sample::Index>(), edits in edits()) {
        let corpus = corpus(".toml");
        read_config(&apply(corpus[i.index(corpus.len())].clone(), &edits));
    }

    #[test]
    fn assignments(words in "[a-z._]{0,20}(=[-+ a-z0-9.\"\\[\\]{}=]{0,20})?", other in any::<String>()) {
        let assignments = vec![words, other];
        let _ = Request { assignments, ..Request::default() }.resolve(&registry());
    }

    #[test]
    fn manifests(i in any::<prop::sample::Index>(), edits in edits(), csv in any::<bool>()) {
        let extension = if csv { "csv" } else { "jsonl" };
        let corpus = corpus(extension);
        read_manifest(&apply(corpus[i.index(corpus.len())].clone(), &edits), extension);
    }

    #[test]
    fn states(i in any::<prop::sample::Index>(), edits in edits()) {
        let corpus = corpus("state.json");
        if let Ok(state) = checkpoint::parse_state(&apply(corpus[i.index(corpus.len())].clone(), &edits)) {
            // What is read can be written and read to the same.
            let written = serde_json::to_vec(&state).unwrap();
            prop_assert_eq!(checkpoint::parse_state(&written).unwrap(), state);
        }
    }

    #[test]
    fn checkpoints(edits in edits(), which in 0usize..4) {
        let d = tempfile::tempdir().unwrap();
        let run = RunDir::create(&d.path().join("r")).unwrap();
        let folder = checkpoint::path(&run, 7);
        std::fs::create_dir_all(&folder).unwrap();
        let files = ["model.bpk", "optimizer.bpk", "state.json", "SHA256SUMS"];
        for (i, file) in files.iter().enumerate() {
            let content = if i == 2 { corpus("state.json")[0].clone() } else { weights().to_vec() };
            let content = if i == which { apply(content, &edits) } else { content };
            std::fs::write(folder.join(file), content).unwrap();
        }
        let _ = checkpoint::newest_whole(&run).map(|(path, _)| checkpoint::load_state(&path));
    }

    #[test]
    fn weights_with_edits(edits in edits()) {
        read_weights(&apply(weights().to_vec(), &edits));
    }
}
