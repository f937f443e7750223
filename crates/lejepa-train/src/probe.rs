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
use crate::embed::{Embeddings, embed};
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
    /// 95 % interval of `linear` (Wilson 1927).
    pub linear_interval: [f64; 2],
    /// 95 % interval of `knn`.
    pub knn_interval: [f64; 2],
    /// Which test samples each probe has right.
    #[serde(skip)]
    hits: [Vec<bool>; 2],
}

/// A probe, in the order of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// Linear.
    Linear,
    /// Nearest neighbours.
    Knn,
}

impl Scores {
    fn new(linear: Vec<bool>, knn: Vec<bool>) -> Self {
        Self {
            linear: share(&linear),
            knn: share(&knn),
            linear_interval: wilson(&linear),
            knn_interval: wilson(&knn),
            hits: [linear, knn],
        }
    }

    /// By how much these scores are above those of `other` on the same test samples, with a 95 % interval of the
    /// paired difference.
    pub fn above(&self, other: &Self, kind: ProbeKind) -> (f64, [f64; 2]) {
        let (ours, theirs) = (&self.hits[kind as usize], &other.hits[kind as usize]);
        let n = ours.len().min(theirs.len()).max(1) as f64;
        let count = |which: fn(bool, bool) -> bool| {
            ours.iter().zip(theirs).filter(|(a, b)| which(**a, **b)).count() as f64
        };
        let (only_ours, only_theirs) = (count(|a, b| a && !b), count(|a, b| !a && b));
        let difference = (only_ours - only_theirs) / n;
        let variance = (only_ours + only_theirs) / n - difference * difference;
        let reach = 1.96 * (variance.max(0.0) / n).sqrt();
        (difference, [difference - reach, difference + reach])
    }
}

fn share(hits: &[bool]) -> f64 {
    hits.iter().filter(|hit| **hit).count() as f64 / hits.len().max(1) as f64
}

fn wilson(hits: &[bool]) -> [f64; 2] {
    let (n, p, z) = (hits.len().max(1) as f64, share(hits), 1.96f64);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let reach = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    [(centre - reach).max(0.0), (centre + reach).min(1.0)]
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
    let embeddings = embed(model, source, &members(sets), device, observer)?;
    Ok((score(&embeddings, sets, config, device)?, embeddings.skipped))
}

/// Probes features that are computed already.
pub(crate) fn score(
    features: &Embeddings,
    sets: &[ProbeSet],
    config: &ProbeConfig,
    device: &Device,
) -> Result<Vec<ProbeResult>> {
    let rows = features.rows();
    let mut results = Vec::new();
    for set in sets {
        let train = Labelled::new(&rows, &set.train, features.dim);
        let test = Labelled::new(&rows, &set.test, features.dim);
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
            scores: Scores::new(
                linear(&train, &test, classes, config, device)?,
                knn(&train, &test, classes, config, device)?,
            ),
        });
    }
    Ok(results)
}

/// All samples that a set of probes needs, ascending.
pub(crate) fn members(sets: &[ProbeSet]) -> Vec<usize> {
    let mut indices: Vec<usize> =
        sets.iter().flat_map(|s| s.train.iter().chain(&s.test)).map(|&(i, _)| i).collect();
    indices.sort_unstable();
    indices.dedup();
    indices
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

    /// Four fifths and one fifth of the rows, at random.
    fn divided(&self) -> (Self, Self) {
        let mut order: Vec<usize> = (0..self.labels.len()).collect();
        order.shuffle(&mut Seed(0).rng(Purpose::Probe, &[u64::MAX]));
        let of = |rows: &[usize]| Self {
            dim: self.dim,
            values: rows
                .iter()
                .flat_map(|&i| &self.values[i * self.dim..(i + 1) * self.dim])
                .copied()
                .collect(),
            labels: rows.iter().map(|&i| self.labels[i]).collect(),
        };
        let (held_out, fitted) = order.split_at(order.len() / 5);
        (of(fitted), of(held_out))
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
) -> Result<Vec<bool>> {
    let device = device.clone().without_autodiff();
    let against = train.unit(&device).transpose();
    let queries = test.unit(&device);
    let (n, k) = (train.labels.len(), config.neighbours.min(train.labels.len()));
    let mut right = Vec::with_capacity(test.labels.len());
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
            right.push(best == label as usize);
        }
    }
    Ok(right)
}

#[derive(Module, Debug)]
struct Classifier {
    linear: Linear,
}

/// Rows in one step of the linear probe; all of them where there are no more.
const BATCH: usize = 1024;

/// Multinomial logistic regression on standardised features: which test samples it has right.
///
/// Of several weight decays the best one on a fifth of the training samples is taken.
pub(crate) fn linear(
    train: &Labelled,
    test: &Labelled,
    classes: usize,
    config: &ProbeConfig,
    device: &Device,
) -> Result<Vec<bool>> {
    let mut best = (config.weight_decay.first().copied().unwrap_or(0.0), -1.0);
    if config.weight_decay.len() > 1 && train.labels.len() >= 10 {
        let (fitted, held_out) = train.divided();
        for &decay in &config.weight_decay {
            let right = share(&regression(&fitted, &held_out, classes, config, decay, device)?);
            if right > best.1 {
                best = (decay, right);
            }
        }
    }
    regression(train, test, classes, config, best.0, device)
}

/// Logistic regression fitted with AdamW from zero weights and a cosine schedule.
fn regression(
    train: &Labelled,
    test: &Labelled,
    classes: usize,
    config: &ProbeConfig,
    weight_decay: f64,
    device: &Device,
) -> Result<Vec<bool>> {
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
        AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(weight_decay as f32).init();
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
    Ok(logits
        .chunks_exact(classes)
        .zip(&test.labels)
        .map(|(row, label)| {
            let best = (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
            best == Some(*label as usize)
        })
        .collect())
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
        assert!(share(&linear(&train, &test, 4, &config, &device).unwrap()) > 0.99);
        assert!(share(&knn(&train, &test, 4, &config, &device).unwrap()) > 0.99);

        let mut noise = clusters(200, 4, 16, 0.2, 0);
        let mut rng = Seed(2).rng(Purpose::Demo, &[2]);
        noise.labels.shuffle(&mut rng);
        let fresh = clusters(100, 4, 16, 0.2, 1);
        assert!(share(&linear(&noise, &fresh, 4, &config, &device).unwrap()) < 0.5);
        assert!(share(&knn(&noise, &fresh, 4, &config, &device).unwrap()) < 0.5);
    }

    #[test]
    fn the_scale_of_a_column_does_not_matter_to_the_linear_probe() {
        let device = Device::flex();
        let config = ProbeConfig { steps: 100, ..ProbeConfig::default() };
        let (mut train, mut test) = (clusters(40, 3, 8, 0.5, 0), clusters(30, 3, 8, 0.5, 1));
        let before = share(&linear(&train, &test, 3, &config, &device).unwrap());
        for set in [&mut train, &mut test] {
            set.values.iter_mut().step_by(8).for_each(|x| *x = *x * 4096.0 + 1024.0);
        }
        let after = share(&linear(&train, &test, 3, &config, &device).unwrap());
        assert!((before - after).abs() < 0.03, "{before} {after}");
    }

    #[test]
    fn intervals_are_those_of_wilson_and_differences_are_paired() {
        let hits = |right: usize| (0..100).map(|i| i < right).collect::<Vec<bool>>();
        let [low, high] = wilson(&hits(50));
        assert!((low - 0.4038).abs() < 1e-3 && (high - 0.5962).abs() < 1e-3, "{low} {high}");
        let (a, b) = (Scores::new(hits(60), hits(60)), Scores::new(hits(50), hits(60)));
        let (difference, [low, high]) = a.above(&b, ProbeKind::Linear);
        assert!((difference - 0.1).abs() < 1e-9 && low > 0.03 && high < 0.17, "{low} {high}");
        assert_eq!(a.above(&b, ProbeKind::Knn), (0.0, [0.0, 0.0]));
    }

    #[test]
    fn the_decay_is_chosen_on_held_out_labels() {
        // Many columns of noise and few rows: without decay the noise is fitted.
        let device = Device::flex();
        let config = |decays: &[f64]| ProbeConfig {
            weight_decay: decays.to_vec(),
            ..ProbeConfig::default()
        };
        let noisy = |stream| {
            let mut set = clusters(10, 2, 200, 6.0, stream);
            let mut rng = Seed(5).rng(Purpose::Demo, &[stream]);
            set.values.iter_mut().for_each(|v| *v += rng.random_range(-1.0..1.0));
            set
        };
        let (train, test) = (noisy(0), clusters(200, 2, 200, 6.0, 9));
        let score =
            |decays: &[f64]| share(&linear(&train, &test, 2, &config(decays), &device).unwrap());
        let fixed: Vec<f64> = [0.0, 4.0].map(|d| score(&[d])).to_vec();
        let chosen = score(&[0.0, 4.0]);
        assert!(fixed.contains(&chosen), "{fixed:?} {chosen}");
    }
}
