//! Two workers that share a step: losses and gradients are those of one worker with the whole batch.
//!
//! `cargo run --release -p lejepa --example two-ranks`

use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use lejepa::prelude::{Learner, Model, Registry, Request, Seed};
use lejepa::train::{Batch, Order, Result, Threads, make_batch};
// Linked to register the modality `image`.
use lejepa_image as _;

/// A vision transformer: batch norm within an encoder would see the samples of one rank only.
const SETTINGS: &str = "modality=image encoder.name=vit encoder.width=24 encoder.depth=2 \
    projector.hidden=64 projector.output=16 objective.slices=64";

const BATCH: usize = 8;
/// Largest relative error.
const TOLERANCE: f32 = 1e-4;

/// Reads the gradients of parameters, or the parameters themselves where none are given.
struct Read<'a>(Option<&'a GradientsParams>, Vec<Tensor<1>>);

impl ModuleVisitor for Read<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = match self.0 {
            Some(gradients) => gradients.get::<D>(param.id),
            None => Some(param.val()),
        };
        if let Some(value) = value {
            self.1.push(value.reshape([-1]));
        }
    }
}

fn read(model: &Model, gradients: Option<&GradientsParams>) -> Result<Vec<Vec<f32>>> {
    let mut read = Read(gradients, Vec::new());
    model.visit(&mut read);
    numbers(read.1)
}

fn numbers(tensors: Vec<Tensor<1>>) -> Result<Vec<Vec<f32>>> {
    tensors.into_iter().map(|tensor| Ok(tensor.detach().try_into_vec_as::<f32>()?)).collect()
}

/// What a worker has to show for one step.
struct Report {
    /// The loss and its terms.
    losses: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
    /// Parameters and running statistics after the update.
    weights: Vec<Vec<f32>>,
}

fn step(learner: Learner, batch: &Batch) -> Result<Report> {
    let pass = learner.pass(batch, 0)?;
    let terms = pass.losses.terms.iter().map(|(_, term)| term);
    let losses = numbers(terms.chain([&pass.losses.total]).cloned().collect())?;
    let gradients = read(&learner.model, Some(&pass.gradients))?;
    let learner = learner.update(1e-3, pass.gradients);
    Ok(Report { losses, gradients, weights: read(&learner.model.valid(), None)? })
}

fn norm(values: impl Iterator<Item = f32>) -> f32 {
    values.map(|x| x.powi(2)).sum::<f32>().sqrt()
}

/// Refuses a vector that is off by more than the tolerance. The gradient of a shift before a batch norm is 0 but
/// for rounding, so norms below `floor` count as `floor`.
fn compare(mine: &[Vec<f32>], whole: &[Vec<f32>], floor: f32) -> Result<(), String> {
    if whole.is_empty() || !mine.iter().map(Vec::len).eq(whole.iter().map(Vec::len)) {
        return Err("the numbers are not those of the same things".into());
    }
    for (mine, whole) in mine.iter().zip(whole) {
        let scale = norm(whole.iter().copied()).max(floor);
        let error = norm(mine.iter().zip(whole).map(|(a, b)| a - b)) / scale;
        if error.is_nan() || error > TOLERANCE {
            return Err(format!("{} numbers are off by {error:.1e} of their norm", mine.len()));
        }
    }
    Ok(())
}

fn bits(all: &[Vec<f32>]) -> Vec<u32> {
    all.iter().flatten().map(|x| x.to_bits()).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let resolved = Request::parse(SETTINGS).resolve(&Registry::discover()?)?;
    let device = Device::flex();
    let source = resolved.open_configured()?;
    let order = Order::new((0..source.len()).collect(), BATCH, Seed(0));
    let initial = read(&resolved.model(&device)?, None)?;
    let batch = make_batch(source.as_ref(), &order, 0, 0..BATCH)?;
    let alone = step(resolved.learner(&device)?, &batch)?;

    // Learners are made one after the other: all threads draw initial weights from one generator.
    let mut workers = Vec::new();
    for (rank, places) in Threads::group(2).into_iter().zip([0..4, 4..BATCH]) {
        let learner = resolved.learner(&device)?.in_group(Arc::new(rank));
        workers.push((learner, make_batch(source.as_ref(), &order, 0, places)?));
    }
    let ended = std::thread::scope(|scope| {
        let start = |(learner, batch): (Learner, Batch)| scope.spawn(move || step(learner, &batch));
        let threads: Vec<_> = workers.into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let mut ranks = Vec::new();
    for report in ended {
        ranks.push(report.map_err(|_| "a rank panicked")??);
    }

    let largest = alone.gradients.iter().map(|x| norm(x.iter().copied())).fold(0.0, f32::max);
    for rank in &ranks {
        compare(&rank.losses, &alone.losses, 0.0)?;
        compare(&rank.gradients, &alone.gradients, 0.01 * largest)?;
    }
    println!("losses and gradients of each rank: within {TOLERANCE} of those of one worker");
    let [first, second] = &ranks[..] else { return Err("there are not two ranks".into()) };
    // The first entry is a parameter of the encoder.
    if first.weights.first() == initial.first() {
        return Err("the update moved nothing".into());
    }
    if bits(&first.weights) != bits(&second.weights) {
        return Err("the ranks have different weights after the update".into());
    }
    println!("after the update: the same weights on both ranks, to the bit");
    Ok(())
}
