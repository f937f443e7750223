//! Linear probes and nearest neighbours: fitted on some rows, they predict others.

use burn::module::Module;
use burn::nn::loss::{BinaryCrossEntropyLossConfig, CrossEntropyLossConfig, MseLoss, Reduction};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use lejepa_core::{Purpose, Seed};
use rand::seq::SliceRandom;

use super::labelled::{Answers, Labelled};
use super::scores::mean;
use crate::Result;
use crate::config::ProbeConfig;
use crate::schedule::half_cosine;

/// Test rows compared with all training rows at once.
const CHUNK: usize = 512;

/// What k-nearest neighbours predict, `[test rows, width]`: for each class or tag the share of their votes, weighted by
/// exp(cosine similarity / T) (Wu et al., arXiv 1805.01978), and of numbers the weighted mean.
pub(crate) fn knn(
    train: &Labelled,
    test: &Labelled,
    config: &ProbeConfig,
    device: &Device,
) -> Result<Vec<f32>> {
    let device = device.clone().without_autodiff();
    let against = train.unit(&device).transpose();
    let queries = test.unit(&device);
    let (n, k) = (train.len(), config.neighbours.min(train.len()));
    let width = train.answers.width();
    let mut predicted = Vec::with_capacity(test.len() * width);
    for start in (0..test.len()).step_by(CHUNK) {
        let count = CHUNK.min(test.len() - start);
        let similar = queries.clone().narrow(0, start, count).matmul(against.clone());
        let similar = similar.try_into_vec_as::<f32>()?;
        for row in similar.chunks_exact(n) {
            let mut order: Vec<usize> = (0..n).collect();
            // Equal similarities go by index, so that the result does not depend on the sort.
            let closer = |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then(a.cmp(b));
            order.select_nth_unstable_by(k - 1, closer);
            order.truncate(k);
            order.sort_unstable_by(closer);
            let (mut votes, mut all) = (vec![0f64; width], 0.0);
            for i in order {
                // The largest similarity is 1: what is far below does not overflow, whatever the temperature.
                let weight = ((f64::from(row[i]) - 1.0) / config.temperature).exp();
                all += weight;
                match &train.answers {
                    Answers::Classes(classes, _) => votes[classes[i] as usize] += weight,
                    Answers::Tags(tags, _) => {
                        tags[i].iter().for_each(|&tag| votes[tag as usize] += weight);
                    }
                    Answers::Numbers(numbers) => votes[0] += weight * numbers[i],
                }
            }
            predicted
                .extend(votes.into_iter().map(|vote| (vote / all.max(f64::MIN_POSITIVE)) as f32));
        }
    }
    Ok(predicted)
}

#[derive(Module, Debug)]
struct Classifier {
    linear: Linear,
}

/// Rows in one step of the linear probe; all of them where there are no more.
const BATCH: usize = 1024;

/// What a linear probe on standardised features predicts, `[test rows, width]`: logits of classes and tags, and numbers.
///
/// Of several weight decays the best one on a fifth of the training samples is taken.
pub(crate) fn linear(
    train: &Labelled,
    test: &Labelled,
    config: &ProbeConfig,
    device: &Device,
) -> Result<Vec<f32>> {
    let mut best = (config.weight_decay.first().copied().unwrap_or(0.0), f64::NEG_INFINITY);
    if config.weight_decay.len() > 1 && train.len() >= 10 {
        let (fitted, held_out) = train.divided();
        for &decay in &config.weight_decay {
            let predicted = regression(&fitted, &held_out, config, decay, device)?;
            let score = mean(&held_out.answers.parts(&predicted));
            if score > best.1 {
                best = (decay, score);
            }
        }
    }
    regression(train, test, config, best.0, device)
}

/// What is to be learnt, on a device.
pub(super) enum Targets {
    Classes(Tensor<1, Int>),
    Tags(Tensor<2, Int>),
    Numbers(Tensor<2>),
}

impl Targets {
    pub(super) fn new(answers: &Answers, device: &Device) -> Self {
        let (mean, deviation) = answers.moments();
        match answers {
            Answers::Classes(all, _) => {
                let ids: Vec<i32> = all.iter().map(|&class| class as i32).collect();
                Self::Classes(Tensor::from_data(TensorData::new(ids, [all.len()]), device))
            }
            Answers::Tags(all, count) => {
                let row = |tags: &Vec<u32>| {
                    let mut row = vec![0i32; *count];
                    tags.iter().for_each(|&tag| row[tag as usize] = 1);
                    row
                };
                let cells: Vec<i32> = all.iter().flat_map(row).collect();
                Self::Tags(Tensor::from_data(TensorData::new(cells, [all.len(), *count]), device))
            }
            Answers::Numbers(all) => {
                let cells: Vec<f32> = all.iter().map(|v| ((v - mean) / deviation) as f32).collect();
                Self::Numbers(Tensor::from_data(TensorData::new(cells, [all.len(), 1]), device))
            }
        }
    }

    pub(super) fn select(&self, rows: Tensor<1, Int>) -> Self {
        match self {
            Self::Classes(all) => Self::Classes(all.clone().select(0, rows)),
            Self::Tags(all) => Self::Tags(all.clone().select(0, rows)),
            Self::Numbers(all) => Self::Numbers(all.clone().select(0, rows)),
        }
    }

    /// Cross entropy, of each tag with its absence; squared error of numbers.
    pub(super) fn loss(&self, predicted: Tensor<2>, device: &Device) -> Tensor<1> {
        match self {
            Self::Classes(all) => {
                CrossEntropyLossConfig::new().init(device).forward(predicted, all.clone())
            }
            Self::Tags(all) => BinaryCrossEntropyLossConfig::new()
                .with_logits(true)
                .init(device)
                .forward(predicted, all.clone()),
            Self::Numbers(all) => MseLoss::new().forward(predicted, all.clone(), Reduction::Mean),
        }
    }
}

/// Numbers are learnt in units of their deviation.
pub(super) fn in_units(answers: &Answers, mut predicted: Vec<f32>) -> Vec<f32> {
    if matches!(answers, Answers::Numbers(_)) {
        let (mean, deviation) = answers.moments();
        predicted.iter_mut().for_each(|v| *v = (f64::from(*v) * deviation + mean) as f32);
    }
    predicted
}

/// The rows of a step's batch: all, or some that are drawn.
pub(super) fn batch(
    order: &mut [i32],
    size: usize,
    step: usize,
    device: &Device,
) -> Option<Tensor<1, Int>> {
    if order.len() <= size {
        return None;
    }
    order.shuffle(&mut Seed(0).rng(Purpose::Probe, &[step as u64]));
    Some(Tensor::from_data(TensorData::new(order[..size].to_vec(), [size]), device))
}

/// Fitted with AdamW from zero weights and a cosine schedule.
fn regression(
    train: &Labelled,
    test: &Labelled,
    config: &ProbeConfig,
    weight_decay: f64,
    device: &Device,
) -> Result<Vec<f32>> {
    let plain = device.clone().without_autodiff();
    let learning = plain.clone().autodiff();
    let moments = train.moments();
    let x = train.standardised(&moments, &learning);
    let targets = Targets::new(&train.answers, &learning);
    let mut model = Classifier {
        linear: LinearConfig::new(train.dim, train.answers.width())
            .with_initializer(Initializer::Zeros)
            .init(&learning),
    };
    let mut optimizer: ModuleOptimizer =
        AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(weight_decay as f32).init();
    let mut order: Vec<i32> = (0..train.len() as i32).collect();
    for step in 0..config.steps {
        let loss = match batch(&mut order, BATCH, step, &learning) {
            None => targets.loss(model.linear.forward(x.clone()), &learning),
            Some(rows) => {
                let predicted = model.linear.forward(x.clone().select(0, rows.clone()));
                targets.select(rows).loss(predicted, &learning)
            }
        };
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let lr = config.lr * half_cosine(step as f64 / (config.steps as f64 - 1.0).max(1.0));
        model = optimizer.step(lr, model, gradients);
    }
    let predicted = model.valid().linear.forward(test.standardised(&moments, &plain));
    Ok(in_units(&train.answers, predicted.try_into_vec_as::<f32>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    fn share(test: &Labelled, predicted: &[f32]) -> f64 {
        mean(&test.answers.parts(predicted))
    }

    /// `classes` clusters in `dim` dimensions, `n` points each, `spread` around random centres.
    fn clusters(n: usize, classes: usize, dim: usize, spread: f32, stream: u64) -> Labelled {
        let mut centre = Seed(1).rng(Purpose::Demo, &[0]);
        let centres: Vec<f32> =
            (0..classes * dim).map(|_| centre.random_range(-1.0..1.0)).collect();
        let mut rng = Seed(1).rng(Purpose::Demo, &[1, stream]);
        let (mut values, mut ids) = (Vec::new(), Vec::new());
        for i in 0..n * classes {
            let c = i % classes;
            ids.push(c as u32);
            for d in 0..dim {
                values.push(centres[c * dim + d] + spread * rng.random_range(-1.0..1.0));
            }
        }
        Labelled { dim, values, answers: Answers::Classes(ids, classes) }
    }

    #[test]
    fn probes_find_clusters_and_do_not_find_noise() {
        let device = Device::flex();
        let config = ProbeConfig { steps: 200, ..ProbeConfig::default() };
        let (train, test) = (clusters(40, 4, 16, 0.2, 0), clusters(20, 4, 16, 0.2, 1));
        assert!(share(&test, &linear(&train, &test, &config, &device).unwrap()) > 0.99);
        assert!(share(&test, &knn(&train, &test, &config, &device).unwrap()) > 0.99);

        let mut noise = clusters(200, 4, 16, 0.2, 0);
        let mut rng = Seed(2).rng(Purpose::Demo, &[2]);
        if let Answers::Classes(ids, _) = &mut noise.answers {
            ids.shuffle(&mut rng);
        }
        let fresh = clusters(100, 4, 16, 0.2, 1);
        assert!(share(&fresh, &linear(&noise, &fresh, &config, &device).unwrap()) < 0.5);
        assert!(share(&fresh, &knn(&noise, &fresh, &config, &device).unwrap()) < 0.5);
    }

    /// Tags and numbers that follow from the clusters and from where in them a row lies.
    #[test]
    fn probes_find_tags_and_numbers() {
        let device = Device::flex();
        let config = ProbeConfig { steps: 300, ..ProbeConfig::default() };
        let of = |n, stream| clusters(n, 4, 16, 0.3, stream);
        let tagged = |mut set: Labelled| {
            let Answers::Classes(ids, _) = &set.answers else { unreachable!() };
            // Two tags of two classes each, and one that none has.
            let tags = ids.iter().map(|id| (0..2).filter(|tag| id >> tag & 1 == 1).collect());
            set.answers = Answers::Tags(tags.collect(), 3);
            set
        };
        let (train, test) = (tagged(of(40, 0)), tagged(of(20, 1)));
        for predicted in
            [linear(&train, &test, &config, &device), knn(&train, &test, &config, &device)]
        {
            let parts = test.answers.parts(&predicted.unwrap());
            assert!(parts.len() == 2 && parts.iter().all(|part| *part > 0.98), "{parts:?}");
        }
        let numbered = |mut set: Labelled| {
            let sums =
                set.values.chunks_exact(16).map(|row| 1e3 + 5.0 * f64::from(row[3] - row[7]));
            set.answers = Answers::Numbers(sums.collect());
            set
        };
        let (train, test) = (numbered(of(100, 0)), numbered(of(30, 1)));
        let explained = share(&test, &linear(&train, &test, &config, &device).unwrap());
        assert!(explained > 0.9, "{explained}");
        let near = share(&test, &knn(&train, &test, &config, &device).unwrap());
        assert!(near > 0.7 && near < explained, "{near}");
    }

    #[test]
    fn the_scale_of_a_column_does_not_matter_to_the_linear_probe() {
        let device = Device::flex();
        let config = ProbeConfig { steps: 100, ..ProbeConfig::default() };
        let (mut train, mut test) = (clusters(40, 3, 8, 0.5, 0), clusters(30, 3, 8, 0.5, 1));
        let before = share(&test, &linear(&train, &test, &config, &device).unwrap());
        for set in [&mut train, &mut test] {
            set.values.iter_mut().step_by(8).for_each(|x| *x = *x * 4096.0 + 1024.0);
        }
        let after = share(&test, &linear(&train, &test, &config, &device).unwrap());
        assert!((before - after).abs() < 0.03, "{before} {after}");
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
        let score = |decays: &[f64]| {
            share(&test, &linear(&train, &test, &config(decays), &device).unwrap())
        };
        let fixed: Vec<f64> = [0.0, 4.0].map(|d| score(&[d])).to_vec();
        let chosen = score(&[0.0, 4.0]);
        assert!(fixed.contains(&chosen), "{fixed:?} {chosen}");
    }
}
