//! What a run tells whoever watches it.

use std::path::Path;

use crate::data::Skipped;

/// One line of `metrics.jsonl`: the state of the run after a step.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StepMetrics {
    /// Steps done, from 1.
    pub step: u64,
    /// Passes over the data done.
    pub epoch: f64,
    /// The objective.
    pub loss: f64,
    /// Its prediction term.
    pub prediction: f64,
    /// Its SIGReg term.
    pub sigreg: f64,
    /// How many directions the projections use: 1 to their width, 0 where all are alike.
    #[serde(default)]
    pub effective_rank: f64,
    /// Learning rate of this step.
    pub lr: f64,
    /// Samples a second since the last line.
    pub samples_per_s: f64,
    /// Share of the time since the last line that the step waited for data, 0 to 1.
    pub loader_share: f64,
}

impl StepMetrics {
    /// The curves of a run, by the tags they have in TensorBoard.
    pub(crate) fn scalars(&self) -> [(&'static str, f64); 7] {
        [
            ("loss/total", self.loss),
            ("loss/prediction", self.prediction),
            ("loss/sigreg", self.sigreg),
            ("embedding/effective_rank", self.effective_rank),
            ("train/lr", self.lr),
            ("speed/samples_per_s", self.samples_per_s),
            ("speed/loader_share", self.loader_share),
        ]
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
    /// A sample that is left out or replaced; told once a sample.
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
