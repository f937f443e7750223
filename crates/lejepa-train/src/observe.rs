//! What a run reports to its observer.

use std::path::Path;

use crate::callback::Scalars;
use crate::skipped::Skipped;

/// A line of metrics.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct StepMetrics {
    /// Steps done.
    pub step: u64,
    /// Passes over the data done.
    pub epoch: f64,
    /// Named numbers: `loss` and its terms, `effective_rank` (of the projections), `lr`, `samples_per_s`,
    /// `loader_share` (of the time spent waiting for data), and what callbacks add.
    #[serde(flatten)]
    pub scalars: Scalars,
}

impl StepMetrics {
    /// The number of this name; NaN where there is none.
    pub fn get(&self, name: &str) -> f64 {
        self.scalars.get(name).copied().unwrap_or(f64::NAN)
    }
}

/// Something worth telling.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A fact about the run, one line.
    Note(&'a str),
    /// Something that the user should look at, one line.
    Warning(&'a str),
    /// Files looked at so far.
    Scan {
        /// Files looked at.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// A sample that is left out or replaced; reported once per sample.
    Skipped(&'a Skipped),
    /// Training begins at `step` of `total`.
    Start {
        /// Steps done before.
        step: u64,
        /// Steps in all.
        total: u64,
        /// What values of SIGReg mean.
        gauge: lejepa_objective::Gauge,
    },
    /// A step is done.
    Step(u64),
    /// A line of metrics.
    Metrics(&'a StepMetrics),
    /// Something was saved.
    Saved(&'a Path),
    /// Embedding samples for probes.
    Embedding {
        /// Samples done.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// Training is over; probes may follow.
    End,
}

/// Takes the events of a run, in order, on the thread that trains.
///
/// ```
/// use lejepa_train::{Event, Observer};
///
/// /// Counts steps.
/// struct Count(u64);
///
/// impl Observer for Count {
///     fn event(&mut self, event: Event<'_>) {
///         if let Event::Step(_) = event {
///             self.0 += 1;
///         }
///     }
/// }
///
/// let mut count = Count(0);
/// count.event(Event::Step(1));
/// assert_eq!(count.0, 1);
/// ```
pub trait Observer {
    /// Called for every event.
    fn event(&mut self, event: Event<'_>);
}

/// Ignores everything.
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: Event<'_>) {}
}
