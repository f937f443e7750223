//! A configuration with its data.

use std::sync::Arc;

use lejepa_core::{Seed, SourceKind, ViewSource};

use crate::Result;
use crate::checkpoint::Fingerprint;
use crate::config::Settings;
use crate::data::DataPlan;
use crate::observe::{Event, Observer};
use crate::order::Order;
use crate::resolved::Resolved;

/// A configuration with its data: what training and probing have in common.
#[non_exhaustive]
pub struct Prepared {
    /// Views by index.
    pub source: Arc<dyn ViewSource>,
    /// Which samples are used for what.
    pub plan: DataPlan,
}

impl Prepared {
    /// Opens the configured data, scans it and divides it.
    ///
    /// # Errors
    /// Whatever is wrong with the source.
    ///
    /// ```
    #[doc = include_str!("doc/resolved.txt")]
    /// use lejepa_train::{Prepared, compare_probes};
    ///
    /// let prepared = Prepared::new(&resolved, &mut Silent)?;
    /// assert_eq!(prepared.source.len(), 1797);
    /// // Probes are off in this configuration, so there is nothing to compare.
    /// let device = Device::flex();
    /// let model = resolved.model(&device)?;
    /// let (rows, _) = compare_probes(&prepared, &resolved, &model, &device, &mut Silent)?;
    /// assert!(rows.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(resolved: &Resolved, observer: &mut dyn Observer) -> Result<Self> {
        let source = Arc::from(resolved.open_configured()?);
        let kind = SourceKind::of(&resolved.settings().data.source);
        Self::of(source, kind, resolved.settings(), observer)
    }

    /// The same for data that is open already.
    ///
    /// # Errors
    /// Too few samples that can be used.
    pub fn of(
        source: Arc<dyn ViewSource>,
        kind: SourceKind,
        settings: &Settings,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let plan = DataPlan::new(source.as_ref(), kind, &settings.data, observer)?;
        for skipped in &plan.skipped {
            observer.event(Event::Skipped(skipped));
        }
        Ok(Self { source, plan })
    }

    /// The fingerprint of the samples that are trained on, by their names below the folder that holds them all:
    /// data may move.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let names: Vec<String> = self.plan.pretrain.iter().map(|&i| self.source.name(i)).collect();
        let folder = |name: &String| name.rfind(['/', '\\']).map_or(0, |at| at + 1);
        let mut shared = names.first().map_or("", |name| &name[..folder(name)]);
        while let Some(other) = names.iter().find(|name| !name.starts_with(shared)) {
            let same = shared.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
            shared = shared.get(..same).unwrap_or_default();
            shared = &shared[..folder(&shared.to_string())];
        }
        Fingerprint::of(names.iter().map(|name| name[shared.len()..].to_string()))
    }

    pub(crate) fn order(&self, settings: &Settings) -> Order {
        let order =
            Order::new(self.plan.pretrain.clone(), settings.train.batch, Seed(settings.seed));
        order.with_chunks(&self.source.chunks())
    }
}
