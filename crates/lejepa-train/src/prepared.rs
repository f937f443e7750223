//! A configuration brought together with its data.

use std::sync::Arc;

use burn::tensor::Device;
use lejepa_core::{Seed, Source, ViewSource};

use crate::Result;
use crate::checkpoint::DataPrint;
use crate::config::Settings;
use crate::data::{DataPlan, Skipped};
use crate::loader::Order;
use crate::model::Model;
use crate::observe::{Event, Observer};
use crate::probe::{ProbeResult, Scores, probe};
use crate::resolved::Resolved;

/// Probes of the trained encoder beside the same probes of the untrained one.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ProbeComparison {
    /// The trained encoder's result.
    #[serde(flatten)]
    pub trained: ProbeResult,
    /// The accuracies of the encoder as it was before the first step.
    pub untrained: Scores,
}

/// A configuration brought together with its data: what training and probing have in common.
pub struct Prepared {
    /// Views by index.
    pub source: Arc<dyn ViewSource>,
    /// Which samples are used for what.
    pub plan: DataPlan,
}

impl Prepared {
    /// Opens the data, scans it and divides it.
    ///
    /// # Errors
    /// Whatever is wrong with the source or the modality's section.
    ///
    /// ```
    #[doc = include_str!("doc/resolved.txt")]
    /// use lejepa_train::Prepared;
    ///
    /// let prepared = Prepared::new(&resolved, &mut Silent)?;
    /// assert_eq!(prepared.source.len(), 1797);
    /// // Probes are off in this configuration, so there is nothing to compare.
    /// let model = lejepa_train::Model::init(&resolved, prepared.source.spec(), &Device::flex())?;
    /// let (rows, _) = prepared.compare(&resolved, &model, &Device::flex(), &mut Silent)?;
    /// assert!(rows.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(resolved: &Resolved, observer: &mut dyn Observer) -> Result<Self> {
        let data = &resolved.settings.data;
        let origin = Source::resolve(&data.source, (resolved.modality.rule)())?;
        let source: Arc<dyn ViewSource> = Arc::from(resolved.open(origin.clone())?);
        let plan = DataPlan::new(source.as_ref(), &origin, data, observer)?;
        for skipped in &plan.skipped {
            observer.event(Event::Skipped(skipped));
        }
        Ok(Self { source, plan })
    }

    /// Probes the encoder against every label column; says so where there is none.
    ///
    /// # Errors
    /// A device failure.
    pub fn compare(
        &self,
        resolved: &Resolved,
        trained: &Model,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<(Vec<ProbeComparison>, Vec<Skipped>)> {
        let config = &resolved.settings.probe;
        if !config.enabled {
            return Ok((Vec::new(), Vec::new()));
        }
        if self.plan.probes.is_empty() {
            observer.event(Event::Note(
                "no labels, so no probe: put samples into one folder per class, or give a manifest with a label column",
            ));
            return Ok((Vec::new(), Vec::new()));
        }
        let source = self.source.as_ref();
        let sets = &self.plan.probes;
        let (after, skipped) = probe(trained, source, sets, config, device, observer)?;
        let untrained = Model::init(resolved, source.spec(), device)?;
        let (before, _) = probe(&untrained, source, sets, config, device, observer)?;
        let rows = after
            .into_iter()
            .zip(before)
            .map(|(trained, before)| ProbeComparison { trained, untrained: before.scores })
            .collect();
        Ok((rows, skipped))
    }

    pub(crate) fn print(&self) -> DataPrint {
        DataPrint::of(self.plan.pretrain.iter().map(|&i| self.source.name(i)))
    }

    pub(crate) fn order(&self, settings: &Settings) -> Order {
        Order {
            batch: settings.train.batch.min(self.plan.pretrain.len()),
            indices: Arc::new(self.plan.pretrain.clone()),
            seed: Seed(settings.seed),
        }
    }
}
