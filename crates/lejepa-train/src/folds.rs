//! Cross-validation of probes over the folds of a data set.

use burn::tensor::Device;

use crate::Result;
use crate::comparison::raw_features;
use crate::data::ProbeSet;
use crate::embed::embed;
use crate::model::Model;
use crate::observe::Observer;
use crate::prepared::Prepared;
use crate::probe::{Scores, members, score};
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
            let with = all.filter(|(index, _)| source.fold(*index).is_some());
            let (test, train) =
                with.partition(|(index, _)| source.fold(*index) == Some(fold.as_str()));
            sets.push((fold, ProbeSet { test, train, ..set.clone() }));
        }
    }
    sets.retain(|(_, set)| !set.train.is_empty() && !set.test.is_empty());
    let (folds, sets): (Vec<&String>, Vec<ProbeSet>) = sets.into_iter().unzip();
    let (config, indices) = (&resolved.settings().probe, members(&sets));
    let after = score(&embed(trained, source, &indices, device, observer)?, &sets, config, device)?;
    let untrained = resolved.model(device)?;
    let before =
        score(&embed(&untrained, source, &indices, device, observer)?, &sets, config, device)?;
    let raw = score(&raw_features(source, &sets), &sets, config, device)?;
    let rows = after.into_iter().zip(before).zip(raw).zip(folds);
    Ok(rows
        .map(|(((trained, untrained), raw), fold)| FoldScores {
            label: trained.name,
            fold: fold.clone(),
            trained: trained.scores,
            untrained: untrained.scores,
            raw: raw.scores,
        })
        .collect())
}
