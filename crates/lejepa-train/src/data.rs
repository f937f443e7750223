//! Which samples are pretrained on and which are probed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lejepa_core::{Error, Facts, LabelKind, Labels, Purpose, Seed, SourceKind, Split, ViewSource};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::census::{Census, Division};
use crate::config::{DataConfig, Scan};
use crate::folds;
use crate::guard::guarded;
use crate::observe::{Event, Observer};
use crate::skipped::Skipped;
use crate::{Result, TrainError};

/// One label column, divided for probing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProbeSet {
    /// The column.
    pub labels: Arc<Labels>,
    /// Samples that probes are fitted on; each has a label.
    pub train: Vec<usize>,
    /// Samples that probes are scored on.
    pub test: Vec<usize>,
}

/// The samples of a run, divided.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DataPlan {
    /// Indices that are pretrained on, ascending.
    pub pretrain: Vec<usize>,
    /// Usable samples that are not, ascending: those that probes are scored on, and others that the data says to hold out.
    pub held_out: Vec<usize>,
    /// One probe set a label column.
    pub probes: Vec<ProbeSet>,
    /// What the scan found unusable.
    pub skipped: Vec<Skipped>,
    /// What the data hold.
    pub census: Census,
}

/// Above this many files the automatic scan is not worth its time.
const SCAN_LIMIT: usize = 20_000;

impl DataPlan {
    /// Scans the source where wanted and divides what is usable.
    ///
    /// # Errors
    /// [`Error::Data`] where fewer than two usable samples are left to pretrain on.
    ///
    /// ```
    #[doc = include_str!("doc/resolved.txt")]
    /// use lejepa_train::data::DataPlan;
    ///
    /// use lejepa_core::{Source, SourceKind};
    ///
    /// let digits = resolved.open(Source::Demo)?;
    /// let config = &resolved.settings().data;
    /// let plan = DataPlan::new(digits.as_ref(), SourceKind::Demo, config, &mut Silent)?;
    /// assert_eq!(plan.probes[0].labels.names().len(), 10);
    /// assert!(plan.skipped.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(
        source: &dyn ViewSource,
        kind: SourceKind,
        config: &DataConfig,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        check_fold(source, config)?;
        let plan = Self::of(source, kind, config, observer);
        if plan.pretrain.len() >= 2 {
            return Ok(plan);
        }
        let first =
            plan.skipped.first().map_or(String::new(), |s| format!("; {}: {}", s.name, s.reason));
        Err(TrainError::Core(Error::Data {
            reason: format!(
                "{} usable samples to train on, at least 2 are needed ({} skipped{first})",
                plan.pretrain.len(),
                plan.skipped.len()
            ),
            hint: "check data.source and modality; `data.source = \"demo\"` uses the built-in data"
                .into(),
        }))
    }

    /// As [`DataPlan::new`], whether there is enough to train on or not.
    pub fn of(
        source: &dyn ViewSource,
        kind: SourceKind,
        config: &DataConfig,
        observer: &mut dyn Observer,
    ) -> Self {
        let scan = match config.scan {
            // Generated data has no files that could be bad.
            _ if kind == SourceKind::Demo => false,
            Scan::Auto => source.len() <= SCAN_LIMIT,
            Scan::Full => true,
            Scan::Off => false,
        };
        let Scanned { skipped, facts } =
            if scan { scan_all(source, observer) } else { Scanned::default() };
        let copies = if scan { source.copies() } else { Vec::new() };
        let mut usable = vec![true; source.len()];
        for s in &skipped {
            if let Some(slot) = usable.get_mut(s.index) {
                *slot = false;
            }
        }
        let splits = divide(source, &usable, config, &copies);
        let of = |split| -> Vec<usize> {
            (0..source.len()).filter(|&i| usable[i] && splits[i] == split).collect()
        };
        let (pretrain, held_out) = (of(Split::Train), of(Split::Test));
        let probes = source
            .labels()
            .iter()
            .map(|column| {
                let labelled = |samples: &[usize]| {
                    samples.iter().copied().filter(|&i| column.has(i)).collect()
                };
                ProbeSet {
                    labels: Arc::new(column.clone()),
                    train: labelled(&pretrain),
                    test: labelled(&held_out),
                }
            })
            .filter(|p| !p.train.is_empty() && !p.test.is_empty())
            .collect();
        let division = Division { usable: &usable, splits: &splits, copies: &copies };
        let census = Census::new(source, &division, &skipped, scan.then_some(&facts));
        Self { pretrain, held_out, probes, skipped, census }
    }
}

/// Refuses a fold that the data does not have.
///
/// # Errors
/// [`Error::BadValue`], with the folds that there are.
pub fn check_fold(source: &dyn ViewSource, config: &DataConfig) -> Result<()> {
    if config.fold.is_empty() {
        return Ok(());
    }
    let folds = folds::names(source);
    let known = match folds.is_empty() {
        _ if folds.contains(&config.fold) => return Ok(()),
        true => "the data has no folds".to_string(),
        false => format!("the data has the folds {}", folds.join(", ")),
    };
    Err(Error::bad_value("data.fold", known).into())
}

/// What a scan found: what cannot be used, and the facts of the rest.
#[derive(Default)]
struct Scanned {
    skipped: Vec<Skipped>,
    facts: Vec<(usize, Facts)>,
}

fn scan_all(source: &dyn ViewSource, observer: &mut dyn Observer) -> Scanned {
    let total = source.len();
    let done = AtomicUsize::new(0);
    let mut scanned = Scanned::default();
    // In chunks, so that this thread can report progress.
    let piece = total.div_ceil(50).max(16);
    for start in (0..total).step_by(piece) {
        let end = (start + piece).min(total);
        let found: Vec<_> = (start..end)
            .into_par_iter()
            .map(|index| {
                let result = guarded(|| source.checked_examine(index), || source.name(index));
                done.fetch_add(1, Ordering::Relaxed);
                result.map(|facts| (index, facts)).map_err(|e| Skipped::new(source, index, e))
            })
            .collect();
        for result in found {
            match result {
                Ok(facts) => scanned.facts.push(facts),
                Err(skipped) => scanned.skipped.push(skipped),
            }
        }
        observer.event(Event::Scan { done: done.load(Ordering::Relaxed), total });
    }
    scanned
}

/// The fold that probes are scored on: that of the configuration, or else the last.
fn held_out_fold(source: &dyn ViewSource, config: &DataConfig) -> Option<String> {
    let mut folds = folds::names(source);
    match folds.iter().position(|fold| *fold == config.fold) {
        Some(at) => Some(folds.swap_remove(at)),
        None => folds.pop().filter(|_| !folds.is_empty()),
    }
}

/// The split of every sample: as the data says, or else one of its folds held out, or else a share of each class of the
/// first column of classes held out, or else a share of the samples with tags or a number, or else, where streams may be
/// searched by each other, a share of all. Which samples those are does not depend on the run's seed, so that runs compare.
/// Copies of a sample go where it goes.
fn divide(
    source: &dyn ViewSource,
    usable: &[bool],
    config: &DataConfig,
    copies: &[Vec<usize>],
) -> Vec<Split> {
    let said: Vec<Option<Split>> = (0..source.len()).map(|i| source.split(i)).collect();
    if said.iter().any(Option::is_some) {
        return said.into_iter().map(|s| s.unwrap_or(Split::Train)).collect();
    }
    if let Some(held_out) = held_out_fold(source, config) {
        let of =
            |i| if source.fold(i) == Some(held_out.as_str()) { Split::Test } else { Split::Train };
        return (0..source.len()).map(of).collect();
    }
    let mut splits = vec![Split::Train; source.len()];
    let classes = source.labels().iter().find(|column| column.kind() == LabelKind::Classes);
    let column = classes.or(source.labels().first());
    if column.is_none() && source.spec().streams().len() < 2 {
        return splits;
    }
    let mut of_class = vec![Vec::new(); column.map_or(1, |column| column.names().len().max(1))];
    let is_of = |index: usize| usable[index] && column.is_none_or(|column| column.has(index));
    for index in (0..source.len()).filter(|&index| is_of(index)) {
        // Tags and numbers are one class, and so are samples without labels.
        let class = column.and_then(|column| column.class(index)).unwrap_or(0);
        if let Some(members) = of_class.get_mut(class as usize) {
            members.push(index);
        }
    }
    for (class, mut members) in of_class.into_iter().enumerate() {
        members.shuffle(&mut Seed(0).rng(Purpose::Probe, &[class as u64]));
        let held_out = (members.len() as f64 * config.test_share).round() as usize;
        for &i in members.iter().take(held_out) {
            splits[i] = Split::Test;
        }
    }
    for group in copies {
        let first = group.iter().find(|&&i| usable[i]).map_or(Split::Train, |&i| splits[i]);
        group.iter().for_each(|&i| splits[i] = first);
    }
    splits
}
