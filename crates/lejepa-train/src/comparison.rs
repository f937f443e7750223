//! Probes of the trained encoder compared with those of the untrained one and of raw features.

use burn::tensor::Device;
use lejepa_core::ViewSource;
use rayon::prelude::*;

use crate::Result;
use crate::begin::initial_weights;
use crate::data::ProbeSet;
use crate::embed::Embeddings;
use crate::guard::guarded;
use crate::model::Model;
use crate::observe::{Event, Observer, Silent};
use crate::prepared::Prepared;
use crate::probe::{ProbeKind, ProbeResult, Scores, members, probe, score};
use crate::resolved::Resolved;
use crate::skipped::Skipped;

/// Probes of the trained encoder and the same probes of the untrained one and of raw features.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct ProbeComparison {
    /// The trained encoder's result.
    #[serde(flatten)]
    pub trained: ProbeResult,
    /// The accuracies of the encoder with the weights that the run started from (`train.init`).
    pub initial: Option<Scores>,
    /// The accuracies of the encoder with new, random weights.
    pub untrained: Scores,
    /// The accuracies of features without an encoder
    /// ([`ViewSampler::raw_features`](lejepa_core::ViewSampler::raw_features)).
    pub raw: Scores,
}

impl ProbeComparison {
    /// Which of the three won, in a sentence for each probe. A difference counts where its 95 % interval
    /// leaves 0 out.
    pub fn verdict(&self) -> String {
        let sentence = |name: &str, kind: ProbeKind| {
            let ours = &self.trained.scores;
            let of = |scores: &Scores| match kind {
                ProbeKind::Linear => scores.linear,
                ProbeKind::Knn => scores.knn,
            };
            let (rival, win, scores) = if of(&self.raw) >= of(&self.untrained) {
                ("raw features", "win", &self.raw)
            } else {
                ("the untrained encoder", "wins", &self.untrained)
            };
            let (difference, [low, high]) = ours.above(scores, kind);
            let interval = format!(
                "{:+.1} points, 95 % interval {:+.1} to {:+.1}",
                100.0 * difference,
                100.0 * low,
                100.0 * high
            );
            if low > 0.0 {
                format!("{name}: the trained encoder wins over {rival} ({interval})")
            } else if high < 0.0 {
                format!("{name}: {rival} {win} over the trained encoder ({interval})")
            } else {
                format!("{name}: trained and {rival} cannot be told apart ({interval})")
            }
        };
        let linear = sentence("linear", ProbeKind::Linear);
        format!("{linear}; {}.", sentence("k-NN", ProbeKind::Knn))
    }
}

/// Probes `trained`, the same model with the weights it started from and with random ones, and raw features; and samples that could not be
/// read. Nothing where probes are off or there are no labels.
///
/// # Errors
/// A device that fails.
pub fn compare_probes(
    prepared: &Prepared,
    resolved: &Resolved,
    trained: &Model,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<(Vec<ProbeComparison>, Vec<Skipped>)> {
    let config = &resolved.settings().probe;
    if !config.enabled {
        return Ok((Vec::new(), Vec::new()));
    }
    if prepared.plan.probes.is_empty() {
        observer.event(Event::Note(&prepared.plan.census.why_no_probe()));
        return Ok((Vec::new(), Vec::new()));
    }
    observer.event(Event::Note("probing the trained encoder, an untrained one and raw features"));
    let source = prepared.source.as_ref();
    let sets = &prepared.plan.probes;
    let (after, skipped) = probe(trained, source, sets, config, device, observer)?;
    let untrained = resolved.model(device)?;
    let (before, _) = probe(&untrained, source, sets, config, device, observer)?;
    let raw = score(&raw_features(source, sets), sets, config, device)?;
    // The weights may be gone by now: a row is less than a run.
    let from = &resolved.settings().train.init;
    let started = (!from.is_empty())
        .then(|| initial_weights(from, resolved, resolved.model(device)?, &mut Silent))
        .and_then(Result::ok);
    let mut initial = match started {
        Some(model) => probe(&model, source, sets, config, device, observer)?.0.into_iter(),
        None => Vec::new().into_iter(),
    };
    let rows = after.into_iter().zip(before).zip(raw);
    let rows = rows.map(|((trained, before), raw)| ProbeComparison {
        trained,
        initial: initial.next().map(|row| row.scores),
        untrained: before.scores,
        raw: raw.scores,
    });
    Ok((rows.collect(), skipped))
}

/// Most raw features of a sample: neighbours are averaged where there are more.
const RAW_WIDTH: usize = 1024;

pub(crate) fn raw_features(source: &dyn ViewSource, sets: &[ProbeSet]) -> Embeddings {
    let of = |&index: &usize| -> Option<(usize, Vec<f32>)> {
        let views = guarded(|| source.checked_eval_views(index), || source.name(index)).ok()?;
        let features: Vec<f32> = views.iter().flat_map(|view| source.raw_features(view)).collect();
        let width = features.len().div_ceil(RAW_WIDTH).max(1);
        let mean = |cells: &[f32]| cells.iter().sum::<f32>() / cells.len() as f32;
        Some((index, features.chunks(width).map(mean).collect()))
    };
    let all: Vec<_> = members(sets).par_iter().filter_map(of).collect();
    let dim = all.first().map_or(0, |(_, features)| features.len());
    let mut out = Embeddings { dim, ..Embeddings::default() };
    // Views of varying length have features of varying number.
    for (index, mut features) in all {
        features.resize(dim, 0.0);
        out.indices.push(index);
        out.values.extend(features);
    }
    out
}
