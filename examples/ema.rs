//! The built-in callback `ema`: a run that is interrupted and resumed evaluates the same weights, to the
//! bit, as one that is not.
//!
//! `cargo run --release -p lejepa --example ema`

use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use lejepa::core::Registry;
use lejepa::train::embed::embed;
use lejepa::train::{
    Embedder, Event, Model, Observer, Request, Resolved, Result, RunDir, Silent, Start, TrainError,
    Trainer, checkpoint,
};
// Linked to register the modality `image`.
use lejepa_image as _;

const SETTINGS: &str = "modality=image encoder.name=mlp encoder.width=48 encoder.depth=2 \
    projector.hidden=64 projector.output=32 objective.slices=64 train.steps=40 \
    probe.enabled=false callbacks.ema.enabled=true callbacks.ema.decay=0.9";

/// Asks for an interruption after a step.
struct InterruptAfter<'a>(u64, &'a AtomicBool);

impl Observer for InterruptAfter<'_> {
    fn event(&mut self, event: Event<'_>) {
        if matches!(event, Event::Step(step) if step == self.0) {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

/// The parameters and running statistics of a model, one after the other.
#[derive(Default)]
struct Flat(Vec<Tensor<1>>);

impl ModuleVisitor for Flat {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let count = value.shape().num_elements();
        self.0.push(value.reshape([count]));
    }
}

fn numbers(model: &Model) -> Result<Vec<f32>> {
    let mut flat = Flat::default();
    model.visit(&mut flat);
    Ok(Tensor::cat(flat.0, 0).try_into_vec_as::<f32>()?)
}

/// The weights in one file of a run's newest checkpoint.
fn load(run: &RunDir, file: &str, resolved: &Resolved) -> Result<Model> {
    let path = checkpoint::latest(run)?.join(file);
    checkpoint::load_weights(&path, resolved.model(&Device::flex())?)
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    !a.is_empty() && a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::discover()?;
    let resolved = Request::parse(SETTINGS).resolve(&registry)?;
    let folder = tempfile::tempdir()?;
    let device = Device::flex();
    let whole = RunDir::create(&folder.path().join("whole"))?;
    Trainer::new(&resolved, &device).run(&whole, Start::New)?;

    let cut = RunDir::create(&folder.path().join("cut"))?;
    let interrupt = AtomicBool::new(false);
    let mut observer = InterruptAfter(resolved.settings().train.steps / 2, &interrupt);
    match Trainer::new(&resolved, &device)
        .stop(&interrupt)
        .observer(&mut observer)
        .run(&cut, Start::New)
    {
        Err(TrainError::Interrupted { step, .. }) => println!("interrupted after step {step}"),
        Err(other) => return Err(other.into()),
        Ok(_) => return Err("the run was not interrupted".into()),
    }
    Trainer::new(&resolved, &device).run(&cut, Start::Resume)?;

    let (trained, averaged) =
        (load(&whole, "model.bpk", &resolved)?, load(&whole, "evaluated.bpk", &resolved)?);
    let (weights, average) = (numbers(&trained)?, numbers(&averaged)?);
    let resumed = [load(&cut, "model.bpk", &resolved)?, load(&cut, "evaluated.bpk", &resolved)?];
    let [weights_cut, average_cut] = [numbers(&resumed[0])?, numbers(&resumed[1])?];
    assert!(same_bits(&weights, &weights_cut), "the trained weights differ after resuming");
    assert!(same_bits(&average, &average_cut), "the average differs after resuming");
    let distance = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
    let apart = weights.iter().zip(&average).map(distance).sum::<f64>().sqrt();
    println!("{} numbers, equal to the bit after resuming", weights.len());
    println!("distance of the average from the trained weights: {apart:.4}");
    assert!(apart > 0.0, "the average is the trained weights");

    // An embedder uses the average.
    let embedded = Embedder::open(whole.path(), &registry, &device)?.embed("demo", &mut Silent)?;
    let again = Embedder::open(cut.path(), &registry, &device)?.embed("demo", &mut Silent)?;
    assert!(same_bits(&embedded.values, &again.values), "the embeddings differ after resuming");
    let source = resolved.open_configured()?;
    let all: Vec<usize> = (0..source.len()).collect();
    let by_average = embed(&averaged, source.as_ref(), &all, &device, &mut Silent)?;
    let by_trained = embed(&trained, source.as_ref(), &all, &device, &mut Silent)?;
    assert!(same_bits(&embedded.values, &by_average.values), "the average was not used");
    assert!(!same_bits(&embedded.values, &by_trained.values), "the trained weights were used");
    println!("{} embeddings, all by the average", embedded.names.len());
    Ok(())
}
