//! Where a run begins and what it ends with.

use std::path::PathBuf;

use crate::comparison::ProbeComparison;
use crate::observe::StepMetrics;
use crate::retrieval::Retrieval;
use crate::skipped::Skipped;

/// Result of a finished run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome {
    /// The run folder.
    pub run: PathBuf,
    /// Steps done.
    pub steps: u64,
    /// Metrics of the last step.
    pub last: StepMetrics,
    /// Samples that were left out or replaced, each once.
    pub skipped: Vec<Skipped>,
    /// Warnings that were given on the way.
    pub warnings: Vec<String>,
    /// A row per label column; empty where there are no labels.
    pub probes: Vec<ProbeComparison>,
    /// How well streams find each other; empty where there is one.
    pub retrieval: Vec<Retrieval>,
}

/// Where a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From the initial weights, in a new run folder.
    New,
    /// From the run folder's newest checkpoint. On a CPU the run goes on to the same bits as one
    /// that was never interrupted.
    Resume,
}
