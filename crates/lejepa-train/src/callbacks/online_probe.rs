//! A linear and a k-NN probe that learn while the encoder does.

use lejepa_core::config::{Docs, field_docs};
use lejepa_core::{Component, Error, LabelKind};
use lejepa_kernels::{Matrix, Precision, product};
use serde::{Deserialize, Serialize};

use super::state::{from_json, to_json, unreadable};
use burn::tensor::Tensor;

use crate::Result;
use crate::batch::Batch;
use crate::callback::{AfterStep, Callback, CallbackContext, CallbackKind, Flow};
use crate::step::Pass;

/// `[callbacks.online_probe]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnlineProbeConfig {
    /// Embeddings, at least 1, among which neighbours are looked for: those of the last samples.
    pub bank: usize,
    /// Neighbours that vote, at least 1.
    pub neighbours: usize,
    /// Learning rate of the linear probe, above 0.
    pub lr: f64,
    /// Weight of a step in the logged accuracies, in 0..=1 without 0.
    pub smoothing: f64,
}

impl Default for OnlineProbeConfig {
    fn default() -> Self {
        Self { bank: 1024, neighbours: 20, lr: 0.1, smoothing: 0.05 }
    }
}

/// Predicts the label of each sample of a batch from its embedding, then learns from it: `probe_linear` and
/// `probe_knn` are the smoothed shares of right predictions. An embedding is that of the target views'
/// mean, standardised by running statistics. A sample is never among its own neighbours.
///
/// It sees training samples only, so it says whether features get better, not how well they generalise;
/// that is what the probes at the end of a run are for. Without labels it does nothing.
pub struct OnlineProbe {
    config: OnlineProbeConfig,
    /// The class of each sample.
    labels: Vec<Option<u32>>,
    classes: usize,
    state: State,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// Running mean and variance of each dimension.
    moments: Vec<(f32, f32)>,
    /// `[classes, dim + 1]`, the last column being the bias.
    weights: Vec<f32>,
    /// Sample and class of each place of the bank.
    members: Vec<(usize, u32)>,
    /// Their standardised embeddings of unit length, `[members, dim]`. Saved as bytes: there are many.
    #[serde(skip)]
    bank: Vec<f32>,
    /// The place that the next embedding takes: that of the oldest, once the bank is full.
    next: usize,
    linear: Option<f64>,
    knn: Option<f64>,
}

impl Component for OnlineProbe {
    const NAME: &'static str = "online_probe";
    const ABOUT: &'static str =
        "linear and k-NN accuracy on the labels of training samples, as it trains";
    type Config = OnlineProbeConfig;

    fn docs() -> Docs {
        field_docs(include_str!("online_probe.rs"), "OnlineProbeConfig")
    }
}

impl CallbackKind for OnlineProbe {
    const ENABLED: bool = true;

    fn validate(config: &OnlineProbeConfig) -> lejepa_core::Result<()> {
        for (key, ok, reason) in [
            ("bank", config.bank >= 1, "must be at least 1"),
            ("neighbours", config.neighbours >= 1, "must be at least 1"),
            ("lr", config.lr > 0.0 && config.lr.is_finite(), "must be above 0"),
            (
                "smoothing",
                config.smoothing > 0.0 && config.smoothing <= 1.0,
                "must lie in 0..=1, above 0",
            ),
        ] {
            if !ok {
                return Err(Error::bad_value(format!("callbacks.online_probe.{key}"), reason));
            }
        }
        Ok(())
    }

    fn build(config: OnlineProbeConfig, at: &CallbackContext<'_>) -> Result<Box<dyn Callback>> {
        let column = at.labels().iter().find(|column| column.kind() == LabelKind::Classes);
        Ok(Box::new(Self {
            config,
            labels: column.map_or_else(Vec::new, |column| {
                (0..column.len()).map(|index| column.class(index)).collect()
            }),
            classes: column.map_or(0, |column| column.names().len()),
            state: State::default(),
        }))
    }
}

impl Callback for OnlineProbe {
    fn name(&self) -> &str {
        Self::NAME
    }

    /// The mean of the targets of the first stream, or of all of its views where it has none.
    fn read(&self, pass: &Pass, batch: &Batch) -> Option<Tensor<1>> {
        let embeddings = pass.embeddings.first().filter(|_| !self.labels.is_empty())?;
        let spec = batch.spec();
        let first = spec.stream(spec.streams().first().copied().unwrap_or_default());
        let [views, ..] = embeddings.dims();
        let targets = first.targets();
        let targets = if targets.is_empty() { (0..views).collect() } else { targets };
        let count = targets.len() as f64;
        let of_view = |view| embeddings.clone().narrow(0, view, 1);
        let sum = targets.into_iter().map(of_view).reduce(|a, b| a + b)?;
        Some((sum / count).flatten(0, 2))
    }

    fn after_step(&mut self, at: &mut AfterStep<'_>) -> Result<Flow> {
        if self.labels.is_empty() {
            return Ok(Flow::Continue);
        }
        let Some(embeddings) = at.embeddings.first() else { return Ok(Flow::Continue) };
        let [_, _, dim] = embeddings.dims();
        let labelled: Vec<(usize, u32, &[f32])> = at
            .samples
            .iter()
            .zip(at.read.chunks_exact(dim.max(1)))
            .filter_map(|(&sample, row)| Some((sample, (*self.labels.get(sample)?)?, row)))
            .collect();
        self.learn(&labelled, dim);
        let named = [("probe_linear", self.state.linear), ("probe_knn", self.state.knn)];
        for (name, value) in named {
            if let Some(value) = value {
                at.scalars.insert(name.into(), value);
            }
        }
        Ok(Flow::Continue)
    }

    fn save(&self) -> Result<Option<Vec<u8>>> {
        let Some(state) = to_json(&self.state, Self::NAME)? else { return Ok(None) };
        let mut bytes = (state.len() as u64).to_le_bytes().to_vec();
        bytes.extend(state);
        bytes.extend(self.state.bank.iter().flat_map(|v| v.to_le_bytes()));
        Ok(Some(bytes))
    }

    fn load(&mut self, state: &[u8]) -> Result<()> {
        let parts = state.split_first_chunk::<8>().and_then(|(length, rest)| {
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        // What is no state is said to be none by its parser.
        let (state, bank) = parts.unwrap_or((&[], &[]));
        self.state = from_json(state, Self::NAME)?;
        let (bank, _) = bank.as_chunks::<4>();
        self.state.bank = bank.iter().map(|v| f32::from_le_bytes(*v)).collect();
        let dim = self.state.moments.len();
        if self.state.bank.len() != self.state.members.len() * dim {
            return Err(unreadable(Self::NAME, "its embeddings are not whole"));
        }
        Ok(())
    }
}

/// Weight of a step in the running statistics.
const MOMENTUM: f32 = 0.05;

impl OnlineProbe {
    /// Predicts, then learns from the answers.
    fn learn(&mut self, labelled: &[(usize, u32, &[f32])], dim: usize) {
        if labelled.is_empty() {
            return;
        }
        let mut rows = self.standardised(labelled, dim);
        let answers = self.nearest_classes(&rows, labelled, dim);
        let knn: Vec<bool> =
            answers.into_iter().zip(labelled).filter_map(|(c, l)| Some(c? == l.1)).collect();
        let right = self.linear_step(&rows, labelled, dim);
        let share = |right: usize, of: usize| (of > 0).then(|| right as f64 / of as f64);
        let smoothing = self.config.smoothing;
        let smooth = |old: &mut Option<f64>, now: Option<f64>| {
            if let Some(now) = now {
                let before = old.unwrap_or(now);
                *old = Some(before + smoothing * (now - before));
            }
        };
        smooth(&mut self.state.linear, share(right, labelled.len()));
        smooth(&mut self.state.knn, share(knn.iter().filter(|right| **right).count(), knn.len()));
        for (row, (sample, label, _)) in rows.chunks_exact_mut(dim).zip(labelled) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            row.iter_mut().for_each(|x| *x /= norm);
            self.remember((*sample, *label), row);
        }
    }

    fn remember(&mut self, member: (usize, u32), row: &[f32]) {
        let state = &mut self.state;
        let at = state.next;
        if at == state.members.len() {
            state.members.push(member);
            state.bank.extend_from_slice(row);
        } else {
            state.members[at] = member;
            state.bank[at * row.len()..][..row.len()].copy_from_slice(row);
        }
        state.next = (at + 1) % self.config.bank;
    }

    /// The embeddings, `[labelled, dim]`.
    fn standardised(&mut self, labelled: &[(usize, u32, &[f32])], dim: usize) -> Vec<f32> {
        let n = labelled.len() as f32;
        let weight = if self.state.moments.is_empty() { 1.0 } else { MOMENTUM };
        self.state.moments.resize(dim, (0.0, 1.0));
        let mut mean = vec![0.0f32; dim];
        let mut spread = vec![0.0f32; dim];
        for (_, _, row) in labelled {
            mean.iter_mut().zip(*row).for_each(|(mean, x)| *mean += x / n);
        }
        for (_, _, row) in labelled {
            let squares = row.iter().zip(&mean).map(|(x, mean)| (x - mean).powi(2) / n);
            spread.iter_mut().zip(squares).for_each(|(spread, square)| *spread += square);
        }
        for ((known, mean), spread) in self.state.moments.iter_mut().zip(mean).zip(spread) {
            known.0 += weight * (mean - known.0);
            known.1 += weight * (spread - known.1);
        }
        let scales: Vec<(f32, f32)> =
            self.state.moments.iter().map(|(mean, v)| (*mean, (v + 1e-6).sqrt().recip())).collect();
        let scaled = |(x, (mean, scale)): (&f32, &(f32, f32))| (x - mean) * scale;
        labelled.iter().flat_map(|(_, _, row)| row.iter().zip(&scales).map(scaled)).collect()
    }

    /// For each row the class that most of the nearest neighbours have; `None` while there are too few.
    fn nearest_classes(
        &self,
        rows: &[f32],
        labelled: &[(usize, u32, &[f32])],
        dim: usize,
    ) -> Vec<Option<u32>> {
        let members = &self.state.members;
        let mut similar = vec![0.0; labelled.len() * members.len()];
        let (a, b) = (Matrix::rows(rows, dim), Matrix::rows(&self.state.bank, dim).transposed());
        let shape = [labelled.len(), members.len(), dim];
        product(&mut similar, members.len(), false, a, b, shape, Precision::F32);
        let mut similar = similar.chunks_exact(members.len().max(1));
        labelled
            .iter()
            .map(|(sample, ..)| {
                let of_sample = similar.next()?.iter().zip(members);
                let others = of_sample.filter(|(_, (other, _))| other != sample);
                let all = others.map(|(similar, (_, label))| (*similar, *label)).collect();
                self.vote(all)
            })
            .collect()
    }

    /// What the nearest of all vote for, by similarity and class.
    fn vote(&self, mut all: Vec<(f32, u32)>) -> Option<u32> {
        if all.len() < self.config.neighbours {
            return None;
        }
        let k = self.config.neighbours - 1;
        all.select_nth_unstable_by(k, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut votes = vec![0u32; self.classes];
        for (_, label) in &all[..=k] {
            if let Some(vote) = votes.get_mut(*label as usize) {
                *vote += 1;
            }
        }
        let most = votes.iter().max()?;
        votes.iter().position(|vote| vote == most).map(|class| class as u32)
    }

    /// One step of softmax regression; how many were right before it.
    fn linear_step(
        &mut self,
        rows: &[f32],
        labelled: &[(usize, u32, &[f32])],
        dim: usize,
    ) -> usize {
        let (classes, width, n) = (self.classes, dim + 1, labelled.len());
        self.state.weights.resize(classes * width, 0.0);
        let mut errors = vec![0.0f32; n * classes];
        let (a, weights) = (Matrix::rows(rows, dim), Matrix::rows(&self.state.weights, width));
        let (b, shape) = (weights.transposed(), [n, classes, dim]);
        product(&mut errors, classes, false, a, b, shape, Precision::F32);
        let mut right = 0;
        for (logits, (_, label, _)) in errors.chunks_exact_mut(classes).zip(labelled) {
            let biases = self.state.weights.iter().skip(dim).step_by(width);
            logits.iter_mut().zip(biases).for_each(|(logit, bias)| *logit += bias);
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            right += usize::from(logits.iter().position(|l| *l == most) == Some(*label as usize));
            logits.iter_mut().for_each(|l| *l = (*l - most).exp());
            let sum: f32 = logits.iter().sum();
            logits.iter_mut().for_each(|l| *l /= sum);
            if let Some(own) = logits.get_mut(*label as usize) {
                *own -= 1.0;
            }
        }
        let mut gradient = vec![0.0f32; classes * width];
        let (a, shape) = (Matrix::rows(&errors, classes).transposed(), [classes, dim, n]);
        product(&mut gradient, width, false, a, Matrix::rows(rows, dim), shape, Precision::F32);
        for errors in errors.chunks_exact(classes) {
            let biases = gradient.iter_mut().skip(dim).step_by(width);
            biases.zip(errors).for_each(|(into, error)| *into += error);
        }
        let step = self.config.lr as f32 / n as f32;
        self.state.weights.iter_mut().zip(gradient).for_each(|(w, g)| *w -= step * g);
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(classes: usize) -> OnlineProbe {
        let config = OnlineProbeConfig { neighbours: 5, ..Default::default() };
        OnlineProbe { config, labels: vec![Some(0)], classes, state: State::default() }
    }

    /// Rows around one of three corners, or around none.
    fn batch(step: usize, clustered: bool) -> Vec<(usize, u32, Vec<f32>)> {
        let noise = |i: usize| ((i * 7919 + 13) % 1000) as f32 / 1000.0 - 0.5;
        (0..32)
            .map(|i| {
                let (sample, label) = (step * 32 + i, (i % 3) as u32);
                let corner = |d: usize| if clustered && d == i % 3 { 2.0 } else { 0.0 };
                let row = (0..4).map(|d| corner(d) + noise(sample * 4 + d)).collect();
                (sample, label, row)
            })
            .collect()
    }

    #[test]
    fn clusters_are_learnt_and_noise_is_not() {
        for (clustered, range) in [(true, 0.9..=1.0), (false, 0.0..=0.6)] {
            let mut probe = probe(3);
            for step in 0..100 {
                let rows = batch(step, clustered);
                let labelled: Vec<_> =
                    rows.iter().map(|(s, l, r)| (*s, *l, r.as_slice())).collect();
                probe.learn(&labelled, 4);
            }
            for value in [probe.state.linear, probe.state.knn] {
                assert!(range.contains(&value.unwrap()), "{clustered}: {value:?}");
            }
            assert_eq!(probe.state.members.len(), 1024);
            assert_eq!(probe.state.bank.len(), 4 * 1024);
        }
    }

    #[test]
    fn its_state_is_restored_to_the_bit() {
        let mut first = probe(3);
        let mut second = probe(3);
        for step in 0..20 {
            let rows = batch(step, true);
            let labelled: Vec<_> = rows.iter().map(|(s, l, r)| (*s, *l, r.as_slice())).collect();
            first.learn(&labelled, 4);
            if step == 9 {
                second.load(&first.save().unwrap().unwrap()).unwrap();
            } else if step > 9 {
                second.learn(&labelled, 4);
            }
        }
        assert_eq!(first.state, second.state);
    }
}
