//! Probes of many divisions of a data set: over its folds, and of a few samples of each class.

use burn::tensor::Device;
use lejepa_core::{LabelKind, Purpose, Seed};
use rand::seq::SliceRandom;

use crate::Result;
use crate::comparison::raw_features;
use crate::data::ProbeSet;
use crate::embed::embed;
use crate::model::Model;
use crate::observe::Observer;
use crate::prepared::Prepared;
use crate::probe::{ProbeResult, Scores, members, score};
use crate::resolved::Resolved;

/// Scores of a fold: of probes that were fitted on all others.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct FoldScores {
    /// The label column.
    pub label: String,
    /// The fold that was scored on.
    pub fold: String,
    /// The trained encoder.
    pub trained: Scores,
    /// The encoder with new, random weights.
    pub untrained: Scores,
    /// Features without an encoder.
    pub raw: Scores,
}

/// The folds of usable samples, in natural order: `2` comes before `10`.
pub(crate) fn names(source: &dyn lejepa_core::ViewSource) -> Vec<String> {
    let mut all: Vec<String> =
        (0..source.len()).filter_map(|i| source.fold(i).map(String::from)).collect();
    all.sort_by(|a, b| {
        let number = |word: &String| word.parse::<u64>().unwrap_or(u64::MAX);
        number(a).cmp(&number(b)).then_with(|| a.cmp(b))
    });
    all.dedup();
    all
}

/// Probes each fold with what is fitted on the others, for each column of labels; nothing where the data has less
/// than two folds or no labels.
///
/// # Errors
/// A device that fails.
pub fn cross_validate(
    prepared: &Prepared,
    resolved: &Resolved,
    trained: &Model,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Vec<FoldScores>> {
    let source = prepared.source.as_ref();
    let folds = names(source);
    if folds.len() < 2 {
        return Ok(Vec::new());
    }
    let mut sets: Vec<(&String, ProbeSet)> = Vec::new();
    for set in &prepared.plan.probes {
        for fold in &folds {
            let all = set.train.iter().chain(&set.test).copied();
            let with = all.filter(|index| source.fold(*index).is_some());
            let (test, train) = with.partition(|index| source.fold(*index) == Some(fold.as_str()));
            sets.push((fold, ProbeSet { test, train, ..set.clone() }));
        }
    }
    sets.retain(|(_, set)| !set.train.is_empty() && !set.test.is_empty());
    let (folds, sets): (Vec<&String>, Vec<ProbeSet>) = sets.into_iter().unzip();
    let rows = three(prepared, resolved, trained, &sets, device, observer)?;
    Ok(rows
        .into_iter()
        .zip(folds)
        .map(|((trained, untrained, raw), fold)| FoldScores {
            label: trained.name,
            fold: fold.clone(),
            trained: trained.scores,
            untrained,
            raw,
        })
        .collect())
}

/// Scores of some probe sets, for which samples are embedded once: of the trained encoder, an untrained one and raw
/// features.
fn three(
    prepared: &Prepared,
    resolved: &Resolved,
    trained: &Model,
    sets: &[ProbeSet],
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Vec<(ProbeResult, Scores, Scores)>> {
    let source = prepared.source.as_ref();
    let (config, indices) = (&resolved.settings().probe, members(sets));
    let after = score(&embed(trained, source, &indices, device, observer)?, sets, config, device)?;
    let untrained = resolved.model(device)?;
    let before =
        score(&embed(&untrained, source, &indices, device, observer)?, sets, config, device)?;
    let raw = score(&raw_features(source, sets), sets, config, device)?;
    let rows = after.into_iter().zip(before).zip(raw);
    Ok(rows.map(|((after, before), raw)| (after, before.scores, raw.scores)).collect())
}

/// Draws of the samples that a few-shot probe is fitted on.
const DRAWS: u64 = 5;

/// Scores of probes that are fitted on a few samples of each class.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct ShotScores {
    /// The label column.
    pub label: String,
    /// Samples of each class, as far as a class has so many.
    pub shots: usize,
    /// Which draw of them, from 0.
    pub draw: u64,
    /// The trained encoder.
    pub trained: Scores,
    /// The encoder with new, random weights.
    pub untrained: Scores,
    /// Features without an encoder.
    pub raw: Scores,
}

/// Probes with so many training samples of each class, five draws of each number, all scored on the held-out samples,
/// for each column of classes.
///
/// # Errors
/// A device that fails.
pub fn few_shots(
    prepared: &Prepared,
    resolved: &Resolved,
    trained: &Model,
    shots: &[usize],
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Vec<ShotScores>> {
    let (mut drawn, mut sets) = (Vec::new(), Vec::new());
    let is_of_classes = |set: &&ProbeSet| set.labels.kind() == LabelKind::Classes;
    for set in prepared.plan.probes.iter().filter(is_of_classes) {
        for &shots in shots {
            for draw in 0..DRAWS {
                let mut rng = Seed(0).rng(Purpose::Probe, &[shots as u64, draw]);
                let mut order = set.train.clone();
                order.shuffle(&mut rng);
                let mut left = vec![shots; set.labels.names().len()];
                order.retain(|index| {
                    let class = set.labels.class(*index).and_then(|c| left.get_mut(c as usize));
                    class.filter(|left| **left > 0).map(|left| *left -= 1).is_some()
                });
                if !order.is_empty() {
                    drawn.push((shots, draw));
                    sets.push(ProbeSet { train: order, ..set.clone() });
                }
            }
        }
    }
    let rows = three(prepared, resolved, trained, &sets, device, observer)?.into_iter().zip(drawn);
    Ok(rows
        .map(|((trained, untrained, raw), (shots, draw))| ShotScores {
            label: trained.name,
            shots,
            draw,
            trained: trained.scores,
            untrained,
            raw,
        })
        .collect())
}
