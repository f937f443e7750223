//! An attentive probe: cross attention of one learnt query over dense features, then a linear layer (Bardes et al.,
//! arXiv 2404.08471, section 4.3; here without an MLP).

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use lejepa_core::{LabelKind, Purpose, Seed};
use rand::RngExt;

use super::fit::{Targets, batch, in_units};
use super::labelled::Labelled;
use super::members;
use super::scores::Assessed;
use crate::Result;
use crate::config::ProbeConfig;
use crate::data::ProbeSet;
use crate::dense::{Cells, cells};
use crate::model::Model;
use crate::observe::Observer;
use crate::prepared::Prepared;
use crate::resolved::Resolved;
use crate::schedule::half_cosine;

/// Scores of attentive probes of one label column, with 95 % intervals.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct AttentiveScores {
    /// The label column.
    pub label: String,
    /// What it holds, and so what the scores are; see [`Scores`](super::Scores).
    pub kind: LabelKind,
    /// The trained encoder.
    pub trained: f64,
    /// Its interval.
    pub trained_interval: [f64; 2],
    /// The encoder with new, random weights.
    pub untrained: f64,
    /// Its interval.
    pub untrained_interval: [f64; 2],
}

/// Attentive probes of the trained encoder and of its untrained self, for each column of labels.
///
/// # Errors
/// [`TrainError::Core`](crate::TrainError::Core) where the encoder has no dense features or there are several streams;
/// a device that fails.
pub fn attentive(
    prepared: &Prepared,
    resolved: &Resolved,
    trained: &Model,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Vec<AttentiveScores>> {
    let (source, sets) = (prepared.source.as_ref(), &prepared.plan.probes);
    let (config, indices) = (&resolved.settings().probe, members(sets));
    let untrained = resolved.model(device)?;
    let mut all = Vec::new();
    for model in [trained, &untrained] {
        let cells = cells(&model.encoders, source, &indices, device, observer)?;
        let of = |set| assess(&cells, set, config, device);
        all.push(sets.iter().map(of).collect::<Result<Vec<_>>>()?);
    }
    let rows = sets.iter().zip(&all[0]).zip(&all[1]);
    let rows = rows.filter(|((_, trained), _)| !trained.parts.is_empty());
    let score =
        |((set, trained), untrained): ((&ProbeSet, &Assessed), &Assessed)| AttentiveScores {
            label: set.labels.name.clone(),
            kind: set.labels.kind(),
            trained: trained.score(),
            trained_interval: trained.interval(),
            untrained: untrained.score(),
            untrained_interval: untrained.interval(),
        };
    Ok(rows.map(score).collect())
}

fn assess(
    cells: &Cells,
    set: &ProbeSet,
    config: &ProbeConfig,
    device: &Device,
) -> Result<Assessed> {
    let rows = cells.rows();
    let width = cells.count * cells.dim;
    let train = Labelled::new(&rows, &set.train, &set.labels, width);
    let test = Labelled::new(&rows, &set.test, &set.labels, width);
    if train.is_empty() || test.is_empty() {
        return Ok(Assessed::default());
    }
    Ok(test.answers.assess(&fitted(&train, &test, cells.count, config, device)?))
}

#[derive(Module, Debug)]
struct Attentive {
    /// `[dim, heads]`: a query for each head, times its key matrix.
    query: Param<Tensor<2>>,
    /// `[heads, dim, dim / heads]`.
    value: Param<Tensor<3>>,
    head: Linear,
}

impl Attentive {
    fn new(dim: usize, width: usize, device: &Device) -> Self {
        let heads = [8, 4, 2].into_iter().find(|heads| dim.is_multiple_of(*heads)).unwrap_or(1);
        let mut rng = Seed(0).rng(Purpose::Probe, &[dim as u64, 1]);
        // Uniform, with the variance that keeps that of the cells.
        let reach = (3.0 / dim as f32).sqrt();
        let value: Vec<f32> = (0..dim * dim).map(|_| rng.random_range(-reach..reach)).collect();
        let value = TensorData::new(value, [heads, dim, dim / heads]);
        Self {
            // All cells alike, at first.
            query: Param::from_tensor(Tensor::zeros([dim, heads], device)),
            value: Param::from_tensor(Tensor::from_data(value, device)),
            head: LinearConfig::new(dim, width).with_initializer(Initializer::Zeros).init(device),
        }
    }

    /// `[B, cells, dim] -> [B, width]`.
    fn forward(&self, cells: Tensor<3>) -> Tensor<2> {
        let [batch, _, dim] = cells.dims();
        let query = self.query.val();
        let [_, heads] = query.dims();
        let scale = ((dim / heads) as f64).sqrt();
        let weights = softmax(cells.clone().matmul(query.unsqueeze::<3>()) / scale, 1);
        // [heads, B, dim], times the values' matrices.
        let pooled = weights.swap_dims(1, 2).matmul(cells).swap_dims(0, 1);
        let values = pooled.matmul(self.value.val()).swap_dims(0, 1);
        self.head.forward(values.reshape([batch, dim]))
    }
}

const BATCH: usize = 128;
/// Passes over the training samples, and the bounds of the steps that they are.
const EPOCHS: usize = 40;
const STEPS: std::ops::RangeInclusive<usize> = 500..=2000;
/// The linear probe's learning rate is for weights that begin at 0.
const LR_SHARE: f64 = 0.5;
const WEIGHT_DECAY: f32 = 0.01;

/// What a probe that was fitted on `train` predicts, `[test rows, width]`.
fn fitted(
    train: &Labelled,
    test: &Labelled,
    cells: usize,
    config: &ProbeConfig,
    device: &Device,
) -> Result<Vec<f32>> {
    let plain = device.clone().without_autodiff();
    let learning = plain.clone().autodiff();
    let dim = train.dim / cells.max(1);
    let moments = moments(train, dim);
    let rows = |set: &Labelled, rows: &[usize], device: &Device| {
        let values = rows.iter().flat_map(|&row| &set.values[row * set.dim..(row + 1) * set.dim]);
        let scaled = values.enumerate().map(|(i, v)| {
            let (mean, deviation) = moments[i % dim];
            (v - mean) / deviation
        });
        let data = TensorData::new(scaled.collect::<Vec<f32>>(), [rows.len(), cells, dim]);
        Tensor::<3>::from_data(data, device)
    };
    let targets = Targets::new(&train.answers, &learning);
    let mut model = Attentive::new(dim, train.answers.width(), &learning);
    let mut optimizer: ModuleOptimizer =
        AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(WEIGHT_DECAY).init();
    let mut order: Vec<i32> = (0..train.len() as i32).collect();
    let steps = (EPOCHS * train.len()).div_ceil(BATCH).clamp(*STEPS.start(), *STEPS.end());
    for step in 0..steps {
        let drawn = batch(&mut order, BATCH, step, &learning);
        let taken: Vec<usize> = order.iter().take(BATCH).map(|&row| row as usize).collect();
        let predicted = model.forward(rows(train, &taken, &learning));
        let loss = match drawn {
            None => targets.loss(predicted, &learning),
            Some(drawn) => targets.select(drawn).loss(predicted, &learning),
        };
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let lr = LR_SHARE * config.lr * half_cosine(step as f64 / (steps as f64 - 1.0).max(1.0));
        model = optimizer.step(lr, model, gradients);
    }
    let model = model.valid();
    let mut predicted = Vec::with_capacity(test.len() * train.answers.width());
    for some in (0..test.len()).collect::<Vec<_>>().chunks(BATCH) {
        predicted.extend(model.forward(rows(test, some, &plain)).try_into_vec_as::<f32>()?);
    }
    Ok(in_units(&train.answers, predicted))
}

/// Mean and standard deviation of each number of a cell; 1 where it does not vary.
fn moments(train: &Labelled, dim: usize) -> Vec<(f32, f32)> {
    let n = (train.values.len() / dim.max(1)).max(1) as f64;
    let (mut sums, mut squares) = (vec![0f64; dim], vec![0f64; dim]);
    for cell in train.values.chunks_exact(dim.max(1)) {
        for ((sum, square), v) in sums.iter_mut().zip(&mut squares).zip(cell) {
            *sum += f64::from(*v);
            *square += f64::from(*v).powi(2);
        }
    }
    let moment = |(sum, square): (f64, f64)| {
        let mean = sum / n;
        let deviation = (square / n - mean * mean).max(0.0).sqrt();
        (mean as f32, if deviation > 1e-6 { deviation as f32 } else { 1.0 })
    };
    sums.into_iter().zip(squares).map(moment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::labelled::Answers;
    use crate::probe::mean;

    /// Of eight cells one holds the class, anywhere: their mean says little, attention finds it.
    #[test]
    fn attention_finds_the_cell_that_tells() {
        let (cells, dim) = (8, 16);
        let set = |n: usize, stream: u64| {
            let mut rng = Seed(4).rng(Purpose::Probe, &[stream]);
            let (mut values, mut classes) = (Vec::new(), Vec::new());
            for _ in 0..n {
                let class: u32 = rng.random_range(0..4);
                let place = rng.random_range(0..cells);
                classes.push(class);
                for cell in 0..cells {
                    for d in 0..dim {
                        let noise = rng.random_range(-1.0..1.0f32);
                        // A marked cell tells by its first four numbers; in the others they are noise.
                        values.push(match (cell == place, d) {
                            (true, 4) => 4.0,
                            (true, d) if d < 4 => {
                                if d == class as usize {
                                    2.0
                                } else {
                                    -2.0
                                }
                            }
                            (false, d) if d < 4 => 4.0 * noise,
                            _ => noise,
                        });
                    }
                }
            }
            Labelled { dim: cells * dim, values, answers: Answers::Classes(classes, 4) }
        };
        let (train, test) = (set(600, 0), set(200, 1));
        let config = ProbeConfig::default();
        let device = Device::flex();
        let predicted = fitted(&train, &test, cells, &config, &device).unwrap();
        let right = mean(&test.answers.parts(&predicted));
        let pooled = |set: &Labelled| {
            let row = |row: &[f32]| -> Vec<f32> {
                (0..dim).map(|d| row.iter().skip(d).step_by(dim).sum()).collect()
            };
            let values = set.values.chunks_exact(cells * dim).flat_map(row).collect();
            Labelled { dim, values, answers: set.answers.clone() }
        };
        let (train, test) = (pooled(&train), pooled(&test));
        let linear = super::super::fit::linear(&train, &test, &config, &device).unwrap();
        let mean_of = mean(&test.answers.parts(&linear));
        assert!(right > 0.95 && right > mean_of + 0.2, "{right}, linear on the mean {mean_of}");
    }
}
