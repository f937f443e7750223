//! Two workers that share a step: losses and gradients are those of one worker with the whole batch.
//!
//! `cargo run --release -p lejepa --example two-ranks`

use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use lejepa::core::{Registry, Seed};
use lejepa::train::{Batch, Learner, Model, Order, Request, Result, Threads, make_batch};
// Linked to register the modality `image`.
use lejepa_image as _;

/// A vision transformer: batch norm within an encoder would see the samples of one rank only.
const SETTINGS: &str = "modality=image encoder.name=vit encoder.width=24 encoder.depth=2 \
    projector.hidden=64 projector.output=16 objective.slices=64";

const BATCH: usize = 8;
/// The samples of each rank.
const PLACES: [std::ops::Range<usize>; 2] = [0..4, 4..8];
/// Largest relative error.
const TOLERANCE: f64 = 1e-4;

/// Numbers and what they are called; a parameter by its dotted name.
type Named = (String, Vec<f32>);

/// Reads the gradients of parameters, or the parameters themselves where none are given.
struct Read<'a> {
    gradients: Option<&'a GradientsParams>,
    path: Vec<String>,
    found: Vec<(String, Tensor<1>)>,
}

impl ModuleVisitor for Read<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = match self.gradients {
            Some(gradients) => gradients.get::<D>(param.id),
            None => Some(param.val()),
        };
        if let Some(value) = value {
            let count = value.shape().num_elements();
            self.found.push((self.path.join("."), value.reshape([count])));
        }
    }
}

fn read(model: &Model, gradients: Option<&GradientsParams>) -> Result<Vec<Named>> {
    let mut read = Read { gradients, path: Vec::new(), found: Vec::new() };
    model.visit(&mut read);
    let found = read.found.into_iter();
    found.map(|(name, value)| Ok((name, value.try_into_vec_as::<f32>()?))).collect()
}

/// What a worker has to show for one step.
struct Report {
    /// The loss and its terms.
    losses: Vec<Named>,
    gradients: Vec<Named>,
    /// Parameters and running statistics after the update.
    weights: Vec<Named>,
}

fn step(learner: Learner, batch: &Batch) -> Result<Report> {
    let pass = learner.pass(batch, 0)?;
    let mut losses = vec![("loss".to_string(), pass.losses.total.clone())];
    losses.extend(pass.losses.terms.iter().map(|(name, term)| (name.to_string(), term.clone())));
    let losses = losses.into_iter();
    let losses = losses.map(|(name, value)| Ok((name, value.detach().try_into_vec_as::<f32>()?)));
    let losses = losses.collect::<Result<Vec<Named>>>()?;
    let gradients = read(&learner.model, Some(&pass.gradients))?;
    let learner = learner.update(1e-3, pass.gradients);
    let weights = read(&learner.model.valid(), None)?;
    Ok(Report { losses, gradients, weights })
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

fn names(all: &[Named]) -> Vec<(&str, usize)> {
    all.iter().map(|(name, values)| (name.as_str(), values.len())).collect()
}

/// The largest error of a vector over its norm. The gradient of a shift before a batch norm is 0 but for
/// rounding, so norms below `floor` count as `floor`.
fn largest_error(mine: &[Named], whole: &[Named], floor: f64) -> Result<f64, String> {
    if whole.is_empty() || names(mine) != names(whole) {
        return Err(format!("{:?} instead of {:?}", names(mine), names(whole)));
    }
    let mut largest = 0.0f64;
    for ((name, mine), (_, whole)) in mine.iter().zip(whole) {
        let scale = norm(whole.iter().copied()).max(floor);
        let error = norm(mine.iter().zip(whole).map(|(a, b)| a - b)) / scale;
        if error.is_nan() || error > TOLERANCE {
            return Err(format!("{name} is off by {error:.1e} of its norm"));
        }
        largest = largest.max(error);
    }
    Ok(largest)
}

fn bits(all: &[Named]) -> Vec<u32> {
    all.iter().flat_map(|(_, values)| values).map(|x| x.to_bits()).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let assignments = SETTINGS.split_whitespace().map(String::from).collect();
    let request = Request { assignments, ..Request::default() };
    let resolved = request.resolve(&Registry::discover()?)?;
    let device = Device::flex();
    let source = resolved.open_configured()?;
    let order = Order::new((0..source.len()).collect(), BATCH, Seed(0));

    let initial = read(&resolved.model(&device)?, None)?;
    let batch = make_batch(source.as_ref(), &order, 0, 0..BATCH)?;
    let alone = step(resolved.learner(&device)?, &batch)?;

    // Learners are made one after the other: all threads draw initial weights from one generator.
    let mut workers = Vec::new();
    for (rank, places) in Threads::group(PLACES.len()).into_iter().zip(PLACES) {
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

    let norms = alone.gradients.iter().map(|(_, x)| norm(x.iter().copied()));
    let floor = 0.01 * norms.fold(0.0, f64::max);
    for (rank, report) in ranks.iter().enumerate() {
        let losses = largest_error(&report.losses, &alone.losses, 0.0)?;
        let gradients = largest_error(&report.gradients, &alone.gradients, floor)?;
        println!(
            "rank {rank}: {} losses within {losses:.1e}, {} gradients within {gradients:.1e}",
            report.losses.len(),
            report.gradients.len()
        );
    }
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
