//! A checkpoint holds everything: a model loaded from one goes on as the one that was saved.

use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use lejepa_core::{
    Component, Dataset, Decoded, Error, Modality, NoConfig, Registry, Source, View, ViewRng,
    ViewSampler, ViewSpec, Views, Window, kind,
};
use lejepa_nn::{MlpKind, ResNetKind, VitKind};
use lejepa_train::{
    Event, Model, Observer, Request, RunDir, Start, TrainError, Trainer, checkpoint,
};
use rand::RngExt;

/// Noise of sixteen values; views are the noise with other noise on it.
struct Noise;

struct Data;

impl Dataset for Data {
    type Item = Vec<f32>;
    fn len(&self) -> usize {
        50
    }
    fn name(&self, index: usize) -> String {
        format!("noise {index}")
    }
    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Vec<f32>>, Error> {
        let noise = (0..16).map(|i| ((index * 31 + i * 17) % 23) as f32 / 11.0 - 1.0).collect();
        Ok(Decoded::whole(noise, 64))
    }
}

impl ViewSampler for Data {
    type Sample = Vec<f32>;
    fn spec(&self) -> ViewSpec {
        ViewSpec::multi_crop(2, [1, 16], 1, [1, 8])
    }
    fn views(&self, x: &Vec<f32>, rng: &mut ViewRng) -> Result<Views, Error> {
        let mut view = |n: usize| {
            View::new([1, n], x[..n].iter().map(|v| v + rng.random_range(-0.1..0.1)).collect())
        };
        Ok(Views::multi_crop(vec![view(16)?, view(16)?], vec![view(8)?]))
    }
    fn eval_view(&self, x: &Vec<f32>) -> Result<View, Error> {
        View::new([1, 16], x.clone())
    }
}

impl Component for Noise {
    const NAME: &'static str = "noise";
    const ABOUT: &'static str = "noise";
    type Config = NoConfig;
}

impl Modality for Noise {
    const EXTENSIONS: &'static [&'static str] = &[];
    type Sample = Vec<f32>;
    fn open(_: &NoConfig, _: Source) -> Result<Box<dyn Dataset<Item = Vec<f32>>>, Error> {
        Ok(Box::new(Data))
    }
    fn sampler(_: &NoConfig) -> Result<Box<dyn ViewSampler<Sample = Vec<f32>>>, Error> {
        Ok(Box::new(Data))
    }
}

fn registry() -> Registry {
    let me = lejepa_core::origin!();
    Registry::empty()
        .with::<kind::Modality, Noise>(me)
        .and_then(|r| r.with::<kind::Encoder, MlpKind>(me))
        .and_then(|r| r.with::<kind::Encoder, VitKind>(me))
        .and_then(|r| r.with::<kind::Encoder, ResNetKind>(me))
        .unwrap()
}

/// Asks for a stop after so many steps, and keeps the losses.
struct StopAfter<'a>(u64, &'a AtomicBool);

impl Observer for StopAfter<'_> {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Metrics(m) = event
            && m.step + 1 == self.0
        {
            self.1.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

fn losses(run: &RunDir) -> Vec<u64> {
    let text = std::fs::read_to_string(run.metrics_file()).unwrap();
    let value = |l: &str| serde_json::from_str::<serde_json::Value>(l).unwrap();
    text.lines().map(|l| value(l)["loss"].as_f64().unwrap().to_bits()).collect()
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bits() {
    let registry = registry();
    for encoder in ["mlp", "vit", "resnet"] {
        let mut assignments: Vec<String> = [
            "modality=noise",
            "train.steps=12",
            "train.batch=8",
            "train.log_every=1",
            "projector.hidden=16",
            "projector.output=8",
            "objective.slices=16",
        ]
        .map(String::from)
        .into();
        assignments.push(format!("encoder.name={encoder}"));
        assignments.push(format!("encoder.width={}", if encoder == "resnet" { 2 } else { 12 }));
        if encoder == "vit" {
            assignments.push("encoder.drop_path=0.3".into());
        }
        let resolved = Request { assignments, ..Request::default() }.resolve(&registry).unwrap();
        let d = tempfile::tempdir().unwrap();
        let device = Device::flex();
        let never = AtomicBool::new(false);
        let whole = RunDir::create(&d.path().join("whole")).unwrap();
        Trainer::new(&resolved, &device)
            .observer(&mut StopAfter(0, &never))
            .run(&whole, Start::New)
            .unwrap();

        let cut = RunDir::create(&d.path().join("cut")).unwrap();
        let stop = AtomicBool::new(false);
        let end = Trainer::new(&resolved, &device)
            .stop(&stop)
            .observer(&mut StopAfter(5, &stop))
            .run(&cut, Start::New);
        assert!(matches!(end, Err(TrainError::Interrupted { step: 5, .. })), "{end:?}");
        Trainer::new(&resolved, &device)
            .observer(&mut StopAfter(0, &never))
            .run(&cut, Start::Resume)
            .unwrap();
        assert_eq!(losses(&whole), losses(&cut), "{encoder}");
    }
}

#[test]
fn a_loaded_model_trains_like_the_saved_one() {
    let registry = registry();
    let request = Request {
        assignments: vec!["modality=noise".into(), "encoder.name=mlp".into()],
        ..Request::default()
    };
    let resolved = request.resolve(&registry).unwrap();
    let device = Device::flex().autodiff();
    let model = resolved.model(&device).unwrap();
    let d = tempfile::tempdir().unwrap();
    let run = RunDir::create(&d.path().join("r")).unwrap();
    let optimizer = burn::optim::AdamWConfig::new().init();
    let state = checkpoint::State {
        version: checkpoint::VERSION,
        step: 1,
        total: 2,
        seed: 0,
        config: resolved.table().clone(),
        data: checkpoint::Fingerprint::of(["a".to_string()].into_iter()),
        scanned_out: Vec::new(),
        turned_bad: Vec::new(),
        ended: false,
    };
    let mut contents = checkpoint::Contents::new(&model, &optimizer, &state);
    contents.callbacks.push(("mine".into(), vec![1, 2, 3]));
    let saved = checkpoint::save(&run, &contents, &resolved.settings().checkpoint).unwrap();
    assert_eq!(checkpoint::load_callback(&saved, "mine").unwrap(), Some(vec![1, 2, 3]));
    assert_eq!(checkpoint::load_callback(&saved, "other").unwrap(), None);
    checkpoint::verify(&saved).unwrap();
    let other = resolved.model(&device).unwrap();
    let loaded = checkpoint::load_model(&saved, other).unwrap();
    assert_eq!(loaded.num_params(), model.num_params());
    let x = Tensor::<2>::random([6, 16], Distribution::Default, &device);
    let run = |m: &Model| {
        let z = m.projectors[0].forward(m.encoders[0].encode(x.clone(), &[1, 16]).unwrap());
        assert!(z.is_autodiff(), "gradients flow");
        z.into_data()
    };
    assert_eq!(run(&model), run(&loaded));
    assert_eq!(checkpoint::load_state(&saved).unwrap(), state);
    // A damaged file is an error, not a panic.
    let file = saved.join("model.bpk");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let other = resolved.model(&device).unwrap();
    assert!(matches!(checkpoint::load_model(&saved, other), Err(TrainError::Corrupt { .. })));
    assert!(matches!(checkpoint::verify(&saved), Err(TrainError::Corrupt { .. })));
}
