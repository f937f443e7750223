//! Probes: how much a frozen embedding says about labels that training never saw.

use burn::tensor::Device;
use lejepa_core::{LabelKind, ViewSource};

use crate::Result;
use crate::config::ProbeConfig;
use crate::data::ProbeSet;
use crate::embed::{Embeddings, embed};
use crate::model::Model;
use crate::observe::Observer;
use crate::skipped::Skipped;

mod attentive;
mod fit;
mod labelled;
mod scores;

pub use attentive::{AttentiveScores, attentive};
pub(crate) use labelled::Labelled;
pub use scores::{ClassScore, ProbeKind, Scores};
pub(crate) use scores::{mean, wilson};

use scores::Predictions;

/// The result of probing one label column.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct ProbeResult {
    /// Name of the label column.
    pub name: String,
    /// Whether it holds classes, tags or numbers, and so what the scores are.
    pub kind: LabelKind,
    /// Number of classes or tags; 0 of numbers.
    pub classes: usize,
    /// Samples that the probes were fitted on.
    pub train: usize,
    /// Samples that they were scored on.
    pub test: usize,
    /// What guessing gives: the share of the most frequent class among the test samples; the mean share of samples that
    /// have a tag; 0 of numbers.
    pub chance: f64,
    /// How good the probes are.
    pub scores: Scores,
    /// Names of classes or tags.
    #[serde(skip)]
    names: Vec<String>,
    /// Of classes.
    #[serde(skip)]
    predictions: Predictions,
    /// Of tags: which are scored, and how many test samples have each.
    #[serde(skip)]
    tags: Vec<(u32, usize)>,
}

impl ProbeResult {
    /// What the probes make of each class or tag; nothing of numbers.
    pub fn per_class(&self) -> Vec<ClassScore> {
        match self.kind {
            LabelKind::Classes => self.predictions.per_class(&self.names),
            LabelKind::Tags => {
                let row = |(at, (tag, test)): (usize, &(u32, usize))| ClassScore {
                    name: self.names[*tag as usize].clone(),
                    test: *test,
                    linear: self.scores.assessed[0].parts[at],
                    knn: self.scores.assessed[1].parts[at],
                    taken_for: None,
                };
                self.tags.iter().enumerate().map(row).collect()
            }
            LabelKind::Numbers => Vec::new(),
        }
    }

    /// How many test samples of each class (row) a probe takes for each (column); nothing of tags and numbers.
    pub fn confusion(&self, kind: ProbeKind) -> Vec<Vec<u32>> {
        match self.kind {
            LabelKind::Classes => self.predictions.confusion(self.classes, kind),
            _ => Vec::new(),
        }
    }
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
/// assert_eq!(results[0].per_class().len(), 10);
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
        let train = Labelled::new(&rows, &set.train, &set.labels, features.dim);
        let test = Labelled::new(&rows, &set.test, &set.labels, features.dim);
        if train.is_empty() || test.is_empty() {
            continue;
        }
        let linear = fit::linear(&train, &test, config, device)?;
        let knn = fit::knn(&train, &test, config, device)?;
        let assessed = [&linear, &knn].map(|predicted| test.answers.assess(predicted));
        // Each tag of the test samples is had by all or by none.
        if assessed[0].parts.is_empty() {
            continue;
        }
        let [of_linear, of_knn] = assessed;
        results.push(ProbeResult {
            name: set.labels.name.clone(),
            kind: set.labels.kind(),
            classes: set.labels.names().len(),
            train: train.len(),
            test: test.len(),
            chance: test.answers.chance(),
            scores: Scores::new(of_linear, of_knn),
            names: set.labels.names().to_vec(),
            predictions: test.answers.predictions([&linear, &knn]),
            tags: test.answers.scored_tags(),
        });
    }
    Ok(results)
}

/// All samples that a set of probes needs, ascending.
pub(crate) fn members(sets: &[ProbeSet]) -> Vec<usize> {
    let mut indices: Vec<usize> =
        sets.iter().flat_map(|s| s.train.iter().chain(&s.test)).copied().collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}
