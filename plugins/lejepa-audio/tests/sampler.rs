//! A view sampler of another crate for sounds, chosen by name: what the guide for plugin authors shows.

use lejepa_audio::{AudioConfig, AudioModality, Waveform};
use lejepa_core::{
    Error, Purpose, Registration, Registry, Result, SamplerEntry, SamplerKind, Seed, View, ViewRng,
    ViewSampler, ViewSpec, Views, register_sampler,
};
// Linked for the encoder that a configuration names.
use lejepa_nn as _;
use lejepa_train::Request;
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Loudness over time, of the first and of the second half.
struct Halves;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HalvesConfig {
    /// Values in a view, at least 1.
    cells: usize,
}

impl Default for HalvesConfig {
    fn default() -> Self {
        Self { cells: 32 }
    }
}

struct Sampler {
    cells: usize,
    gain: f32,
}

impl Sampler {
    fn view(&self, sound: &[f32], gain: f32) -> Result<View> {
        let cell = (sound.len() / self.cells).max(1);
        let loud =
            |c: &[f32]| gain * (c.iter().map(|x| x * x).sum::<f32>() / c.len() as f32).sqrt();
        let mut values: Vec<f32> = sound.chunks(cell).take(self.cells).map(loud).collect();
        values.resize(self.cells, 0.0);
        View::new([1, self.cells], values)
    }
}

impl ViewSampler for Sampler {
    type Sample = Waveform;
    fn spec(&self) -> ViewSpec {
        let shape = vec![1, self.cells];
        ViewSpec { globals: 2, locals: 0, global: shape.clone(), local: shape }
    }
    fn views(&self, sound: &Waveform, rng: &mut ViewRng) -> Result<Views> {
        let (first, second) = sound.samples().split_at(sound.samples().len() / 2);
        let mut gain = || 1.0 + self.gain * rng.random_range(-0.1f32..0.1);
        Ok(Views {
            globals: vec![self.view(first, gain())?, self.view(second, gain())?],
            locals: vec![],
        })
    }
    fn eval_view(&self, sound: &Waveform) -> Result<View> {
        self.view(sound.samples(), 1.0)
    }
}

impl SamplerKind for Halves {
    const NAME: &'static str = "halves";
    const ABOUT: &'static str = "the first and the second half";
    type Modality = AudioModality;
    type Config = HalvesConfig;
    fn build(
        config: &HalvesConfig,
        audio: &AudioConfig,
    ) -> Result<Box<dyn ViewSampler<Sample = Waveform>>> {
        if config.cells == 0 {
            return Err(Error::bad_value("sampler.cells", "must be at least 1"));
        }
        Ok(Box::new(Sampler { cells: config.cells, gain: audio.gain_db as f32 }))
    }
}

register_sampler!(Halves);

fn resolve(words: &[&str]) -> lejepa_train::Result<lejepa_train::Resolved> {
    let mut assignments = vec!["modality=audio".to_string(), "encoder.name=mlp".into()];
    assignments.extend(words.iter().map(ToString::to_string));
    Request { file: None, assignments }.resolve(&Registry::discover()?)
}

#[test]
fn a_sampler_of_another_crate_takes_the_place_of_the_modalitys_own() {
    let own = resolve(&[]).unwrap();
    let shape = |r: &lejepa_train::Resolved| {
        r.open(lejepa_core::Source::Demo).unwrap().spec().global.clone()
    };
    assert_eq!(shape(&own), [1, 64, 96]);
    let halves = resolve(&["sampler.name=halves", "sampler.cells=40"]).unwrap();
    assert_eq!(shape(&halves), [1, 40]);
    let source = halves.open(lejepa_core::Source::Demo).unwrap();
    let views = source.views(3, &mut Seed(0).rng(Purpose::Views, &[])).unwrap();
    assert_eq!((views.globals.len(), views.globals[0].shape()), (2, &[1, 40][..]));
    assert_ne!(views.globals[0], views.globals[1]);
    // The choice is part of the configuration that is written, and is read back.
    let text = halves.to_toml().unwrap();
    assert!(text.contains("[sampler]\nname = \"halves\"\ncells = 40"), "{text}");
    let again = lejepa_train::Resolved::load(text.parse().unwrap(), &Registry::discover().unwrap());
    assert_eq!(shape(&again.unwrap()), [1, 40]);
}

#[test]
fn wrong_words_about_samplers_are_errors() {
    let says = |words: &[&str]| {
        let error = resolve(words).err().unwrap();
        format!("{error} {}", error.hint().unwrap_or_default())
    };
    let unknown = says(&["sampler.name=halvs"]);
    assert!(unknown.contains("unknown sampler `halvs`; known: default, halves"), "{unknown}");
    assert!(unknown.contains("did you mean `halves`"), "{unknown}");
    let key = says(&["sampler.name=halves", "sampler.cell=3"]);
    assert!(key.contains("did you mean `sampler.cells`"), "{key}");
    let key = says(&["sampler.cells=3"]);
    assert!(key.contains("unknown configuration key `sampler.cells`"), "{key}");
    // A value that only the sampler can judge.
    let zero = resolve(&["sampler.name=halves", "sampler.cells=0"]).unwrap();
    let error = zero.open(lejepa_core::Source::Demo).err().unwrap().to_string();
    assert!(error.contains("sampler.cells"), "{error}");
    // A name that two crates claim for one modality.
    let twin = SamplerEntry::of::<Halves>(lejepa_core::Origin { krate: "b", version: "0.2.0" });
    let registry = Registry::discover().unwrap();
    let error = registry.with(Registration::Sampler(twin)).err().unwrap().to_string();
    assert!(error.contains("sampler `halves` is registered twice"), "{error}");
}
