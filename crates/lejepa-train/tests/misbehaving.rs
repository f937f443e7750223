//! Data that turns bad or slow while a run is under way.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use lejepa_core::{
    Component, Dataset, Decoded, Error, Modality, Registry, Result, Source, View, ViewRng,
    ViewSampler, ViewSpec, Views, Window, kind,
};
use lejepa_nn::MlpKind;
use lejepa_train::{
    Event, Observer, Outcome, Request, Resolved, RunDir, Start, TrainError, Trainer,
};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Samples that pass the scan and fail in training, or take their time.
struct Fickle;

#[derive(Debug, Clone, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Samples below this index are bad once training has begun.
    bad: usize,
    /// Milliseconds that views of a sample take.
    slow_ms: u64,
}

struct Data;

impl Dataset for Data {
    type Item = usize;
    fn len(&self) -> usize {
        50
    }
    fn name(&self, index: usize) -> String {
        format!("sample {index}")
    }
    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<usize>> {
        Ok(Decoded::whole(index, 8))
    }
}

impl ViewSampler for Config {
    type Sample = usize;
    fn spec(&self) -> ViewSpec {
        ViewSpec::multi_crop(2, [1, 8], 0, [1, 8])
    }
    fn views(&self, index: &usize, rng: &mut ViewRng) -> Result<Views> {
        if *index < self.bad {
            return Err(Error::sample("", "No such file or directory"));
        }
        std::thread::sleep(std::time::Duration::from_millis(self.slow_ms));
        let mut view = || {
            let value =
                |i: usize| ((index * 7 + i * 3) % 11) as f32 / 5.0 + rng.random_range(-0.1..0.1);
            View::new([1, 8], (0..8).map(value).collect())
        };
        Ok(Views::multi_crop(vec![view()?, view()?], vec![]))
    }
    fn eval_view(&self, index: &usize) -> Result<View> {
        View::new([1, 8], vec![*index as f32; 8])
    }
}

impl Component for Fickle {
    const NAME: &'static str = "fickle";
    const ABOUT: &'static str = "samples that turn bad";
    type Config = Config;
}

impl Modality for Fickle {
    const EXTENSIONS: &'static [&'static str] = &[];
    type Sample = usize;
    fn open(_: &Config, _: Source) -> Result<Box<dyn Dataset<Item = usize>>> {
        Ok(Box::new(Data))
    }
    fn sampler(config: &Config) -> Result<Box<dyn ViewSampler<Sample = usize>>> {
        Ok(Box::new(config.clone()))
    }
}

fn resolved(words: &[&str]) -> Resolved {
    let me = lejepa_core::origin!();
    let registry = Registry::empty()
        .with::<kind::Modality, Fickle>(me)
        .and_then(|r| r.with::<kind::Encoder, MlpKind>(me))
        .unwrap();
    let mut assignments: Vec<String> = [
        "modality=fickle",
        "encoder.name=mlp",
        "encoder.width=8",
        "encoder.depth=1",
        "projector.hidden=8",
        "projector.output=4",
        "objective.slices=8",
        "train.steps=20",
        "train.batch=10",
        "train.log_every=1",
    ]
    .map(String::from)
    .into();
    assignments.extend(words.iter().map(ToString::to_string));
    Request { assignments, ..Request::default() }.resolve(&registry).unwrap()
}

/// What a run reported.
#[derive(Default)]
struct Reported {
    skipped: Vec<String>,
    losses: Vec<u64>,
}

impl Observer for Reported {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Skipped(s) => self.skipped.push(format!("{}: {}", s.name, s.reason)),
            Event::Metrics(m) => self.losses.push(m.get("loss").to_bits()),
            _ => {}
        }
    }
}

fn go(words: &[&str]) -> (Result<Outcome, TrainError>, Reported) {
    let d = tempfile::tempdir().unwrap();
    let run = RunDir::create(&d.path().join("r")).unwrap();
    let mut reported = Reported::default();
    let result = Trainer::new(&resolved(words), &Device::flex())
        .observer(&mut reported)
        .run(&run, Start::New);
    (result, reported)
}

#[test]
fn samples_that_turn_bad_are_replaced_named_once_and_listed() {
    let (one, reported) = go(&["fickle.bad=2", "data.workers=1"]);
    let outcome = one.unwrap();
    let mut names: Vec<&str> = outcome.skipped.iter().map(|s| s.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["sample 0", "sample 1"]);
    assert_eq!(reported.skipped.len(), 2, "{:?}", reported.skipped);
    assert!(reported.skipped[0].ends_with(": No such file or directory"));
    // The replacement is a matter of seed and step, not of who was quicker.
    let (_, again) = go(&["fickle.bad=2", "data.workers=4"]);
    assert_eq!(reported.losses, again.losses);
    let (_, without) = go(&["data.workers=1"]);
    assert_ne!(reported.losses, without.losses);
}

#[test]
fn more_than_the_allowed_share_stops_the_run() {
    let (result, _) = go(&["fickle.bad=5", "data.max_bad=0.05"]);
    let error = result.unwrap_err();
    assert!(matches!(error, TrainError::TooManyBad { total: 50, .. }), "{error}");
    assert!(error.to_string().contains("sample "), "{error}");
    assert!(error.hint().unwrap().contains("data.max_bad"), "{error}");
    go(&["fickle.bad=5", "data.max_bad=0.2"]).0.unwrap();
}

#[test]
fn bad_samples_never_end_a_run_until_fewer_than_a_batch_are_left() {
    let (outcome, one) = go(&["fickle.bad=40", "data.workers=1"]);
    assert_eq!(outcome.unwrap().skipped.len(), 40);
    assert_eq!(one.losses.len(), 20);
    assert_eq!(one.losses, go(&["fickle.bad=40", "data.workers=3"]).1.losses);
    for bad in ["fickle.bad=41", "fickle.bad=50"] {
        let error = go(&[bad]).0.unwrap_err();
        let is_right = matches!(error, TrainError::TooFewLeft { total: 50, batch: 10, .. });
        assert!(is_right && error.hint().is_some(), "{bad}: {error}");
    }
}

#[test]
fn what_turned_bad_is_remembered_across_an_interruption() {
    let d = tempfile::tempdir().unwrap();
    let run = RunDir::create(&d.path().join("r")).unwrap();
    let resolved = resolved(&["fickle.bad=2"]);
    let stop = AtomicBool::new(false);
    struct Until<'a>(&'a AtomicBool);
    impl Observer for Until<'_> {
        fn event(&mut self, event: Event<'_>) {
            if matches!(event, Event::Metrics(m) if m.step == 14) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
    }
    let cut = Trainer::new(&resolved, &Device::flex())
        .stop(&stop)
        .observer(&mut Until(&stop))
        .run(&run, Start::New);
    assert!(matches!(cut, Err(TrainError::Interrupted { .. })), "{cut:?}");
    let mut reported = Reported::default();
    let whole = Trainer::new(&resolved, &Device::flex())
        .observer(&mut reported)
        .run(&run, Start::Resume)
        .unwrap();
    assert_eq!(whole.skipped.len(), 2, "all are listed at the end");
    assert!(reported.skipped.is_empty(), "and none is named a second time: {:?}", reported.skipped);
}

#[test]
fn a_starved_loader_is_warned_of() {
    let (slow, _) = go(&["fickle.slow_ms=3", "data.workers=1"]);
    let warnings = slow.unwrap().warnings;
    assert!(warnings.iter().any(|w| w.starts_with("starved loader")), "{warnings:?}");
}
