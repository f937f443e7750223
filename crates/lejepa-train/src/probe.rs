//! Probes: how much a frozen embedding says about labels that training never saw.

use std::collections::HashMap;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use lejepa_core::{Purpose, Seed, ViewSource};
use rand::seq::SliceRandom;

use crate::Result;
use crate::config::ProbeConfig;
use crate::data::ProbeSet;
use crate::embed::embed;
use crate::model::Model;
use crate::observe::Observer;
use crate::schedule::half_cosine;
use crate::skipped::Skipped;

/// Accuracies of one label column, 0 to 1.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Scores {
    /// Of a linear classifier on standardised embeddings.
    pub linear: f64,
    /// Of the weighted vote of the nearest neighbours by cosine.
    pub knn: f64,
}

/// The result of probing one label column.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct ProbeResult {
    /// Name of the label column.
    pub name: String,
    /// Number of classes.
    pub classes: usize,
    /// Samples that the probes were fitted on.
    pub train: usize,
    /// Samples that they were scored on.
    pub test: usize,
    /// Share of the most frequent class among the test samples: what guessing gives.
    pub chance: f64,
    /// Accuracies.
    pub scores: Scores,
}

/// Embeds all probe samples once and probes every label column.
///
/// # Errors
/// A device failure.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
/// use lejepa_train::{data::DataPlan, probe::probe};
///
/// let device = Device::flex();
/// let (digits, settings) = (resolved.open(lejepa_core::Source::Demo)?, resolved.settings());
/// let plan = DataPlan::new(digits.as_ref(), lejepa_core::SourceKind::Demo, &settings.data, &mut Silent)?;
/// let model = resolved.model(&device)?;
/// let (sets, config) = (&plan.probes, &settings.probe);
/// let (results, skipped) = probe(&model, digits.as_ref(), sets, config, &device, &mut Silent)?;
/// assert_eq!((results[0].classes, skipped.len()), (10, 0));
/// // Even an encoder that has learnt nothing knows more than guessing.
/// assert!(results[0].scores.knn > results[0].chance);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn probe(
    model: &Model,
    source: &dyn ViewSource,
    sets: &[ProbeSet],
    config: &ProbeConfig,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<(Vec<ProbeResult>, Vec<Skipped>)> {
    let mut indices: Vec<usize> =
        sets.iter().flat_map(|s| s.train.iter().chain(&s.test)).map(|&(i, _)| i).collect();
    indices.sort_unstable();
    indices.dedup();
    let embeddings = embed(model, source, &indices, device, observer)?;
    let rows = embeddings.rows();
    let mut results = Vec::new();
    for set in sets {
        let train = Labelled::new(&rows, &set.train, embeddings.dim);
        let test = Labelled::new(&rows, &set.test, embeddings.dim);
        if train.labels.is_empty() || test.labels.is_empty() {
            continue;
        }
        let classes = set.classes.len();
        let mut counts = vec![0usize; classes];
        test.labels.iter().for_each(|&l| counts[l as usize] += 1);
        let most = counts.into_iter().max().unwrap_or(0);
        results.push(ProbeResult {
            name: set.name.clone(),
            classes,
            train: train.labels.len(),
            test: test.labels.len(),
            chance: most as f64 / test.labels.len() as f64,
            scores: Scores {
                linear: linear(&train, &test, classes, config, device)?,
                knn: knn(&train, &test, classes, config, device)?,
            },
        });
    }
    Ok((results, embeddings.skipped))
}

/// Embeddings with labels.
#[derive(Debug, Clone)]
pub struct Labelled {
    dim: usize,
    values: Vec<f32>,
    labels: Vec<u32>,
}

impl Labelled {
    fn new(rows: &HashMap<usize, &[f32]>, members: &[(usize, u32)], dim: usize) -> Self {
        let mut out = Self { dim, values: Vec::new(), labels: Vec::new() };
        for (index, label) in members {
            if let Some(row) = rows.get(index) {
                out.values.extend_from_slice(row);
                out.labels.push(*label);
            }
        }
        out
    }

    fn tensor(&self, values: Vec<f32>, device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, [self.labels.len(), self.dim]), device)
    }

    /// Rows scaled to length one.
    fn unit(&self, device: &Device) -> Tensor<2> {
        let mut values = self.values.clone();
        for row in values.chunks_exact_mut(self.dim.max(1)) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            row.iter_mut().for_each(|x| *x /= norm);
        }
        self.tensor(values, device)
    }

    /// Mean and standard deviation of each column.
    fn moments(&self) -> Vec<(f64, f64)> {
        let n = self.labels.len().max(1) as f64;
        (0..self.dim)
            .map(|d| {
                let column = || self.values.iter().skip(d).step_by(self.dim).map(|&x| f64::from(x));
                let mean = column().sum::<f64>() / n;
                let var = column().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                (mean, var.sqrt())
            })
            .collect()
    }

    /// Columns shifted and scaled by `moments`; a constant column becomes zero.
    fn standardised(&self, moments: &[(f64, f64)], device: &Device) -> Tensor<2> {
        let values = self
            .values
            .iter()
            .enumerate()
            .map(|(i, &x)| {
                let (mean, std) = moments[i % self.dim];
                if std > 1e-8 { ((f64::from(x) - mean) / std) as f32 } else { 0.0 }
            })
            .collect();
        self.tensor(values, device)
    }
}

/// Test rows compared with all training rows at once.
const CHUNK: usize = 512;

/// Accuracy of k-nearest neighbours: cosine similarity, votes weighted by exp(similarity / T)
/// (Wu et al., arXiv 1805.01978).
pub(crate) fn knn(
    train: &Labelled,
    test: &Labelled,
    classes: usize,
    config: &ProbeConfig,
    device: &Device,
) -> Result<f64> {
    let device = device.clone().without_autodiff();
    let against = train.unit(&device).transpose();
    let queries = test.unit(&device);
    let (n, k) = (train.labels.len(), config.neighbours.min(train.labels.len()));
    let mut right = 0;
    for start in (0..test.labels.len()).step_by(CHUNK) {
        let count = CHUNK.min(test.labels.len() - start);
        let similar = queries.clone().narrow(0, start, count).matmul(against.clone());
        let similar = similar.try_into_vec_as::<f32>()?;
        for (row, &label) in similar.chunks_exact(n).zip(&test.labels[start..]) {
            let mut order: Vec<usize> = (0..n).collect();
            // Equal similarities go by index, so that the result does not depend on the sort.
            let closer = |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then(a.cmp(b));
            order.select_nth_unstable_by(k - 1, closer);
            let mut votes = vec![0f64; classes];
            order.truncate(k);
            order.sort_unstable_by(closer);
            for i in order {
                votes[train.labels[i] as usize] += (f64::from(row[i]) / config.temperature).exp();
            }
            let (mut best, mut most) = (0, f64::MIN);
            for (class, &vote) in votes.iter().enumerate() {
                if vote > most {
                    (best, most) = (class, vote);
                }
            }
            right += usize::from(best == label as usize);
        }
    }
    Ok(right as f64 / test.labels.len() as f64)
}

#[derive(Module, Debug)]
struct Classifier {
    linear: Linear,
}

/// Rows in one step of the linear probe; all of them where there are no more.
const BATCH: usize = 4096;

/// Accuracy of multinomial logistic regression on standardised embeddings, fitted with AdamW from
/// zero weights and a cosine schedule.
pub(crate) fn linear(
    train: &Labelled,
    test: &Labelled,
    classes: usize,
    config: &ProbeConfig,
    device: &Device,
) -> Result<f64> {
    let plain = device.clone().without_autodiff();
    let learning = plain.clone().autodiff();
    let moments = train.moments();
    let x = train.standardised(&moments, &learning);
    let labels: Vec<i32> = train.labels.iter().map(|&l| l as i32).collect();
    let y = Tensor::<1, Int>::from_data(TensorData::new(labels, [train.labels.len()]), &learning);
    let mut model = Classifier {
        linear: LinearConfig::new(train.dim, classes)
            .with_initializer(Initializer::Zeros)
            .init(&learning),
    };
    let loss = CrossEntropyLossConfig::new().init(&learning);
    let mut optimizer: ModuleOptimizer =
        AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(config.weight_decay as f32).init();
    let mut order: Vec<i32> = (0..train.labels.len() as i32).collect();
    for step in 0..config.steps {
        let (bx, by) = if order.len() <= BATCH {
            (x.clone(), y.clone())
        } else {
            order.shuffle(&mut Seed(0).rng(Purpose::Probe, &[step as u64]));
            let rows = TensorData::new(order[..BATCH].to_vec(), [BATCH]);
            let rows = Tensor::<1, Int>::from_data(rows, &learning);
            (x.clone().select(0, rows.clone()), y.clone().select(0, rows))
        };
        let gradients = loss.forward(model.linear.forward(bx), by).backward();
        let gradients = GradientsParams::from_grads(gradients, &model);
        let lr = config.lr * half_cosine(step as f64 / (config.steps as f64 - 1.0).max(1.0));
        model = optimizer.step(lr, model, gradients);
    }
    let logits = model.valid().linear.forward(test.standardised(&moments, &plain));
    let logits = logits.try_into_vec_as::<f32>()?;
    let right = logits
        .chunks_exact(classes)
        .zip(&test.labels)
        .filter(|(row, label)| {
            let best = (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
            best == Some(**label as usize)
        })
        .count();
    Ok(right as f64 / test.labels.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    /// `classes` clusters in `dim` dimensions, `n` points each, `spread` around random centres.
    fn clusters(n: usize, classes: usize, dim: usize, spread: f32, stream: u64) -> Labelled {
        let mut centre = Seed(1).rng(Purpose::Demo, &[0]);
        let centres: Vec<f32> =
            (0..classes * dim).map(|_| centre.random_range(-1.0..1.0)).collect();
        let mut rng = Seed(1).rng(Purpose::Demo, &[1, stream]);
        let mut out = Labelled { dim, values: vec![], labels: vec![] };
        for i in 0..n * classes {
            let c = i % classes;
            out.labels.push(c as u32);
            for d in 0..dim {
                out.values.push(centres[c * dim + d] + spread * rng.random_range(-1.0..1.0));
            }
        }
        out
    }

    #[test]
    fn probes_find_clusters_and_do_not_find_noise() {
        let device = Device::flex();
        let config = ProbeConfig { steps: 200, ..ProbeConfig::default() };
        let (train, test) = (clusters(40, 4, 16, 0.2, 0), clusters(20, 4, 16, 0.2, 1));
        assert!(linear(&train, &test, 4, &config, &device).unwrap() > 0.99);
        assert!(knn(&train, &test, 4, &config, &device).unwrap() > 0.99);

        let mut noise = clusters(200, 4, 16, 0.2, 0);
        let mut rng = Seed(2).rng(Purpose::Demo, &[2]);
        noise.labels.shuffle(&mut rng);
        let fresh = clusters(100, 4, 16, 0.2, 1);
        assert!(linear(&noise, &fresh, 4, &config, &device).unwrap() < 0.5);
        assert!(knn(&noise, &fresh, 4, &config, &device).unwrap() < 0.5);
    }

    #[test]
    fn the_scale_of_a_column_does_not_matter_to_the_linear_probe() {
        let device = Device::flex();
        let config = ProbeConfig { steps: 100, ..ProbeConfig::default() };
        let (mut train, mut test) = (clusters(40, 3, 8, 0.5, 0), clusters(30, 3, 8, 0.5, 1));
        let before = linear(&train, &test, 3, &config, &device).unwrap();
        for set in [&mut train, &mut test] {
            set.values.iter_mut().step_by(8).for_each(|x| *x = *x * 4096.0 + 1024.0);
        }
        let after = linear(&train, &test, 3, &config, &device).unwrap();
        assert!((before - after).abs() < 0.03, "{before} {after}");
    }
}
