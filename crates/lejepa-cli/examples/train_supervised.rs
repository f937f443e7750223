//! The supervised row of `cargo xtask bench learn`.
//!
//! `train_supervised RUN MINUTES` trains the encoder of a run anew, with a linear classifier on top, on the labels
//! that its probes are fitted on, for so many minutes, on the run's own views, and prints the accuracy on
//! the samples that its probes are scored on.

use std::path::Path;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use lejepa_audio as _;
use lejepa_core::{Purpose, Registry, Seed};
use lejepa_image as _;
use lejepa_nn as _;
use lejepa_train::embed::embed;
use lejepa_train::{Batch, Model, Prepared, RunDir, Silent};
use lejepa_video as _;
use rand::seq::SliceRandom;
use rayon::prelude::*;

/// The allocator of the `lejepa` binary.
#[cfg(target_os = "linux")]
#[path = "../src/allocator.rs"]
mod allocator;

type Failure = Box<dyn std::error::Error>;

#[derive(Module, Debug)]
struct Classifier {
    model: Model,
    head: Linear,
}

const LEARNING_RATE: f64 = 1e-3;
const WEIGHT_DECAY: f32 = 0.05;

fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let (run, minutes) = (words.next().ok_or("no RUN")?, words.next().ok_or("no MINUTES")?);
    let registry = Registry::discover()?;
    let resolved = RunDir::open(Path::new(&run))?.config(&registry)?;
    let prepared = Prepared::new(&resolved, &mut Silent)?;
    let set = prepared.plan.probes.first().ok_or("no labels")?;
    let class = |i| set.labels.class(i).unwrap_or(0);
    let device = Device::flex().autodiff();
    let model = resolved.model(&device)?;
    let head = LinearConfig::new(model.dim(), set.labels.names().len()).init(&device);
    let mut net = Classifier { model, head };
    let mut optimizer: ModuleOptimizer = AdamWConfig::new().with_weight_decay(WEIGHT_DECAY).init();
    let loss = CrossEntropyLossConfig::new().init(&device);
    let source = prepared.source.as_ref();
    let settings = resolved.settings();
    let seed = Seed(settings.seed);
    let mut order = set.train.clone();
    let batch = settings.train.batch.min(order.len());
    let total = Duration::from_secs_f64(60.0 * minutes.parse::<f64>()?);
    let (began, mut step) = (Instant::now(), 0u64);
    let per_pass = (order.len() / batch).max(1) as u64;
    while began.elapsed() < total {
        if step % per_pass == 0 {
            order.shuffle(&mut seed.rng(Purpose::Shuffle, &[step]));
        }
        let at = (step % per_pass) as usize * batch;
        let members = &order[at..at + batch];
        let views = members
            .par_iter()
            .map(|&i| {
                source.checked_views(i, &[], &mut seed.rng(Purpose::Views, &[step, i as u64]))
            })
            .collect::<lejepa_core::Result<Vec<_>>>()?;
        let samples = members.to_vec();
        let views = Batch::new(source.spec().clone(), samples, views)?;
        let embeddings = net.model.embed_batch(&views, &device)?.swap_remove(0);
        let [views, n, dim] = embeddings.dims();
        let rows = embeddings.reshape([views * n, dim]);
        let labels: Vec<i32> = members.iter().map(|&i| class(i) as i32).collect();
        let labels = TensorData::new(labels.repeat(views), [views * n]);
        let labels = Tensor::<1, Int>::from_data(labels, &device);
        let gradients = loss.forward(net.head.forward(rows), labels).backward();
        let gradients = GradientsParams::from_grads(gradients, &net);
        let done = began.elapsed().as_secs_f64() / total.as_secs_f64();
        let lr = LEARNING_RATE * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos());
        net = optimizer.step(lr.max(1e-6), net, gradients);
        step += 1;
    }
    let embedded = embed(&net.model, source, &set.test, &device, &mut Silent)?;
    let plain = device.clone().without_autodiff();
    let rows = TensorData::new(embedded.values.clone(), [embedded.indices.len(), embedded.dim]);
    let logits = net.valid().head.forward(Tensor::<2>::from_data(rows, &plain));
    let guesses = logits.argmax(1).into_data();
    let right = embedded
        .indices
        .iter()
        .zip(guesses.iter::<i64>())
        .filter(|(i, guess)| i64::from(class(**i)) == *guess)
        .count();
    println!("{}", right as f64 / embedded.indices.len().max(1) as f64);
    Ok(())
}
