//! Probes of the trained encoder compared with those of the untrained one.

use burn::tensor::Device;

use crate::Result;
use crate::model::Model;
use crate::observe::{Event, Observer};
use crate::prepared::Prepared;
use crate::probe::{ProbeResult, Scores, probe};
use crate::resolved::Resolved;
use crate::skipped::Skipped;

/// Probes of the trained encoder and the same probes of the untrained one.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct ProbeComparison {
    /// The trained encoder's result.
    #[serde(flatten)]
    pub trained: ProbeResult,
    /// The accuracies of the encoder as it was before the first step.
    pub untrained: Scores,
}

/// Probes `trained` and the same model with its initial weights; and samples that could not be read.
/// Nothing where probes are off or there are no labels.
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
        observer.event(Event::Note(
            "no labels, so no probe: put samples into one folder per class, or give a manifest with a label column",
        ));
        return Ok((Vec::new(), Vec::new()));
    }
    let source = prepared.source.as_ref();
    let sets = &prepared.plan.probes;
    let (after, skipped) = probe(trained, source, sets, config, device, observer)?;
    let untrained = resolved.model(device)?;
    let (before, _) = probe(&untrained, source, sets, config, device, observer)?;
    let rows = after
        .into_iter()
        .zip(before)
        .map(|(trained, before)| ProbeComparison { trained, untrained: before.scores })
        .collect();
    Ok((rows, skipped))
}
