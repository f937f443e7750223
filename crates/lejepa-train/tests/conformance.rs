//! The conformance suite: a sound modality passes, and every rule catches who breaks it.

use lejepa_core::testing::{Rule, check_modality, violations};
use std::sync::Arc;

use lejepa_core::{
    BlobStore, Component, Dataset, Decoded, Error, Labels, Modality, Result, Source, SourceKind,
    Table, View, ViewRng, ViewSampler, ViewSpec, Views, Window, config,
};
// Linked for the encoders and for the checks that train.
use lejepa_nn as _;
use lejepa_train as _;
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Which rule a modality breaks; `NONE` breaks none.
const NONE: u8 = 0;
const NAMES: u8 = 1;
const CONFIG: u8 = 2;
const DEMO: u8 = 3;
const LABELS: u8 = 4;
const SHAPES: u8 = 5;
const FINITE: u8 = 6;
const RANDOM: u8 = 7;
const SAME: u8 = 8;
const BROKEN: u8 = 9;
const PANICS: u8 = 10;
const RECIPE: u8 = 11;
const GRADIENTS: u8 = 12;
const LEARNS: u8 = 13;

/// Waves of three frequencies, read from text files of numbers.
struct Waves<const FLAW: u8>;

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Strict {
    window: usize,
}

impl Default for Strict {
    fn default() -> Self {
        Self { window: 32 }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Lax {
    window: usize,
}

impl Default for Lax {
    fn default() -> Self {
        Self { window: 32 }
    }
}

struct Data<const FLAW: u8> {
    files: Option<Arc<dyn BlobStore>>,
    labels: Vec<Labels>,
}

impl<const FLAW: u8> Dataset for Data<FLAW> {
    type Item = Vec<f32>;
    fn len(&self) -> usize {
        self.files.as_ref().map_or(48, |files| files.len())
    }
    fn name(&self, index: usize) -> String {
        format!("{index}")
    }
    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Vec<f32>>> {
        self.wave(index).map(|wave| Decoded::whole(wave, 512))
    }
    fn labels(&self) -> &[Labels] {
        &self.labels
    }
}

impl<const FLAW: u8> Data<FLAW> {
    fn wave(&self, index: usize) -> Result<Vec<f32>> {
        let Some(files) = &self.files else {
            if FLAW == DEMO && index > 0 {
                return Err(Error::sample("wave", "cannot be made"));
            }
            let frequency = [0.11, 0.23, 0.41][index % 3];
            return Ok((0..128).map(|t| (frequency * (t + index) as f32).sin()).collect());
        };
        let blob = files.blob(index)?;
        let bytes = blob.read().map_err(|e| Error::sample("f", e))?;
        let text = String::from_utf8(bytes.into_owned()).map_err(|e| Error::sample("f", e));
        match (FLAW, text) {
            (BROKEN, _) => Ok(vec![0.5; 128]),
            (PANICS, text) => Ok(text.unwrap().lines().map(|l| l.parse().unwrap()).collect()),
            (_, Err(e)) => Err(e),
            (_, Ok(text)) => {
                let values: Result<Vec<f32>, _> = text.lines().map(str::parse).collect();
                match values {
                    Ok(v) if v.len() >= 64 => Ok(v),
                    _ => Err(Error::sample("f", "is no list of numbers")),
                }
            }
        }
    }
}

struct Cut<const FLAW: u8>(usize);

impl<const FLAW: u8> Cut<FLAW> {
    fn cut(&self, wave: &[f32], at: usize) -> Result<View> {
        let mut values = wave[at..at + self.0].to_vec();
        if FLAW == FINITE {
            values[3] = f32::NAN;
        }
        View::new([1, self.0], values)
    }
}

impl<const FLAW: u8> ViewSampler for Cut<FLAW> {
    type Sample = Vec<f32>;
    fn spec(&self) -> ViewSpec {
        let local = if FLAW == SHAPES { self.0 / 2 } else { self.0 };
        ViewSpec::multi_crop(2, [1, self.0], 1, [1, local])
    }
    fn views(&self, wave: &Vec<f32>, rng: &mut ViewRng) -> Result<Views> {
        let mut at = |_| match FLAW {
            SAME => 0,
            RANDOM => rand::random_range(0..=wave.len() - self.0),
            _ => rng.random_range(0..=wave.len() - self.0),
        };
        // Different places always, so that views differ.
        let mut places = [at(0), at(1), at(2)];
        if FLAW != SAME {
            while places[1] == places[0] {
                places[1] = at(1);
            }
        }
        let globals = vec![self.cut(wave, places[0])?, self.cut(wave, places[1])?];
        Ok(Views::multi_crop(globals, vec![self.cut(wave, places[2])?]))
    }
    fn eval_view(&self, wave: &Vec<f32>) -> Result<View> {
        self.cut(wave, 0)
    }
}

macro_rules! modality {
    ($flaw:ident, $name:literal, $config:ty) => {
        impl Component for Waves<$flaw> {
            const NAME: &'static str = $name;
            const ABOUT: &'static str = "waves";
            type Config = $config;
        }

        impl Modality for Waves<$flaw> {
            const EXTENSIONS: &'static [&'static str] = &["wave"];
            type Sample = Vec<f32>;
            fn open(_: &$config, source: Source) -> Result<Box<dyn Dataset<Item = Vec<f32>>>> {
                let words: Vec<_> = (0..48).map(|i| Some(format!("c{}", i % 3))).collect();
                let count = if $flaw == LABELS { 40 } else { 48 };
                let labels = vec![Labels::from_words("frequency", &words[..count])];
                let files = match source {
                    Source::Demo => None,
                    Source::Blobs(store) => Some(store),
                    _ => return Err(Error::Data { reason: "no such source".into(), hint: String::new() }),
                };
                Ok(Box::new(Data::<$flaw> { files, labels }))
            }
            fn sampler(config: &$config) -> Result<Box<dyn ViewSampler<Sample = Vec<f32>>>> {
                Ok(Box::new(Cut::<$flaw>(config.window)))
            }
            fn recipe(_: SourceKind) -> Table {
                config::recipe(match $flaw {
                    LEARNS => "[train]\nlr = 1e-30\n[encoder]\nwidth = 12\nheads = 2",
                    RECIPE => "[train]\nlearning_rate = 0.1",
                    GRADIENTS => "[encoder]\nwidth = 12\nheads = 2\n[objective]\nlambda = 1.0\nclip = 1e9",
                    _ => "[encoder]\nwidth = 12\nheads = 2\ndepth = 1\n[projector]\nhidden = 32\noutput = 8",
                })
            }
        }
    };
}

modality!(NONE, "waves", Strict);
modality!(NAMES, "Waves!", Strict);
modality!(CONFIG, "waves", Lax);
modality!(DEMO, "waves", Strict);
modality!(LABELS, "waves", Strict);
modality!(SHAPES, "waves", Strict);
modality!(FINITE, "waves", Strict);
modality!(RANDOM, "waves", Strict);
modality!(SAME, "waves", Strict);
modality!(BROKEN, "waves", Strict);
modality!(PANICS, "waves", Strict);
modality!(RECIPE, "waves", Strict);
modality!(GRADIENTS, "waves", Strict);
modality!(LEARNS, "waves", Strict);

#[test]
fn a_sound_modality_passes() {
    check_modality::<Waves<NONE>>();
}

#[track_caller]
fn breaks<const FLAW: u8>(rule: Rule)
where
    Waves<FLAW>: Modality,
{
    let found = violations::<Waves<FLAW>>();
    assert!(found.iter().any(|v| v.rule == rule), "{rule:?} is not among {found:?}");
}

#[test]
fn every_rule_catches_who_breaks_it() {
    breaks::<NAMES>(Rule::Names);
    breaks::<CONFIG>(Rule::Config);
    breaks::<DEMO>(Rule::Demo);
    breaks::<LABELS>(Rule::Labels);
    breaks::<SHAPES>(Rule::Shapes);
    breaks::<FINITE>(Rule::Finite);
    breaks::<RANDOM>(Rule::Deterministic);
    breaks::<SAME>(Rule::ViewsDiffer);
    breaks::<BROKEN>(Rule::BrokenFiles);
    breaks::<PANICS>(Rule::BrokenFiles);
    breaks::<RECIPE>(Rule::Recipe);
    breaks::<GRADIENTS>(Rule::Gradients);
    breaks::<LEARNS>(Rule::Learns);
}

#[test]
#[should_panic(expected = "the modality `waves` breaks")]
fn the_assertion_panics_with_a_list() {
    check_modality::<Waves<SAME>>();
}
