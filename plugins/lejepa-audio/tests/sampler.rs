//! Views from another crate for an existing modality, chosen by name: the example of the plugin guide.

use lejepa_audio::{AudioConfig, AudioModality, Waveform};
use lejepa_core::{
    Component, OpenOptions, Origin, Pipeline, Purpose, Registry, Result, Seed, Source, Table, View,
    ViewRng, ViewSampler, ViewSpec, Views, ViewsKind, config, kind, register,
};
// Linked for the encoder that the configuration names.
use lejepa_nn as _;
use lejepa_train::Request;
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Loudness over time of the first and of the second half.
struct Halves;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HalvesConfig {
    /// Values in a view, 1 to 1000.
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
        let loudness =
            |c: &[f32]| gain * (c.iter().map(|x| x * x).sum::<f32>() / c.len() as f32).sqrt();
        let mut values: Vec<f32> = sound.chunks(cell).take(self.cells).map(loudness).collect();
        values.resize(self.cells, 0.0);
        View::new([1, self.cells], values)
    }
}

impl ViewSampler for Sampler {
    type Sample = Waveform;
    fn spec(&self) -> ViewSpec {
        ViewSpec::multi_crop(2, [1, self.cells], 0, [1, self.cells])
    }
    fn views(&self, sound: &Waveform, rng: &mut ViewRng) -> Result<Views> {
        let (first, second) = sound.samples().split_at(sound.samples().len() / 2);
        let mut gain = || 1.0 + self.gain * rng.random_range(-0.1f32..0.1);
        let halves = vec![self.view(first, gain())?, self.view(second, gain())?];
        Ok(Views::multi_crop(halves, vec![]))
    }
    fn eval_view(&self, sound: &Waveform) -> Result<View> {
        self.view(sound.samples(), 1.0)
    }
}

impl Component for Halves {
    const NAME: &'static str = "halves";
    const ABOUT: &'static str = "the first and the second half";
    type Config = HalvesConfig;
}

impl ViewsKind for Halves {
    type Modality = AudioModality;
    fn build(
        config: &HalvesConfig,
        audio: &AudioConfig,
    ) -> Result<Box<dyn ViewSampler<Sample = Waveform>>> {
        config::check::within("views.cells", config.cells, 1..=1000)?;
        Ok(Box::new(Sampler { cells: config.cells, gain: audio.gain_db as f32 }))
    }
}

register!(kind::Views: Halves);

/// The pipeline of the views of this name with these keys of `[views]`.
fn pipeline(name: &str, keys: &str) -> Result<Box<dyn Pipeline>> {
    let registry = Registry::discover()?;
    let audio = registry.find::<kind::Modality>("audio", None)?.meta().defaults()?;
    (registry.find::<kind::Views>(name, Some("audio"))?.build().build)(
        &audio,
        &config::recipe(keys),
    )
}

#[test]
fn registered_views_replace_those_of_the_modality() {
    assert_eq!(pipeline("default", "").unwrap().spec().shape(), [1, 64, 96]);
    let halves = pipeline("halves", "cells = 40").unwrap();
    assert_eq!(halves.spec().shape(), [1, 40]);
    let source = halves.open(Source::Demo, &OpenOptions::default()).unwrap();
    let views = source.checked_views(3, &[], &mut Seed(0).rng(Purpose::Views, &[])).unwrap();
    let [globals] = views.groups() else { panic!("one group") };
    assert_eq!((globals.len(), globals[0].shape()), (2, &[1, 40][..]));
    assert_ne!(globals[0], globals[1]);
}

#[test]
fn values_out_of_range_and_names_taken_twice_are_errors() {
    for (name, keys, says) in [
        ("halves", "cells = 0", "`views.cells`: must be from 1 to 1000, got 0"),
        ("halves", "cell = 3", "`cell`"),
        ("halvs", "", "`halvs`; known: default, halves"),
    ] {
        let error = pipeline(name, keys).err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
    let twin = Origin { krate: "b", version: "0.2.0" };
    let error = Registry::discover().unwrap().with::<kind::Views, Halves>(twin).unwrap_err();
    assert!(error.to_string().contains("`halves` is registered twice"), "{error}");
}

fn resolve(assignments: &[&str]) -> lejepa_train::Result<lejepa_train::Resolved> {
    let mut all = vec!["modality=audio".to_string(), "encoder.name=mlp".into()];
    all.extend(assignments.iter().map(ToString::to_string));
    Request { assignments: all, ..Request::default() }.resolve(&Registry::discover()?)
}

#[test]
fn a_configuration_chooses_views_and_is_strict() {
    let halves = resolve(&["views.name=halves", "views.cells=40"]).unwrap();
    let text = halves.to_toml().unwrap();
    assert!(text.contains("[views]\nname = \"halves\"\ncells = 40"), "{text}");
    let table: Table = text.parse().unwrap();
    let again = lejepa_train::Resolved::load(table, &Registry::discover().unwrap()).unwrap();
    assert_eq!(again.open(Source::Demo).unwrap().spec().shape(), [1, 40]);
    for (assignments, says) in [
        (&["views.name=halvs"][..], "did you mean `halves`"),
        (&["views.name=halves", "views.cell=3"], "did you mean `views.cells`"),
        (&["views.cells=3"], "unknown configuration key `views.cells`"),
    ] {
        let error = resolve(assignments).err().unwrap();
        let text = format!("{error} {}", error.hint().unwrap_or_default());
        assert!(text.contains(says), "{text}");
    }
}
