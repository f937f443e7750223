//! What a run says of itself: its facts at the start, its rates on the way.

use std::time::{Duration, Instant};

use burn::tensor::Device;
use lejepa_objective::{Gauge, Objective};
use serde_json::json;

use crate::Result;
use crate::loader::Order;
use crate::model::Model;
use crate::observe::{Event, Observer, StepMetrics};
use crate::prepared::Prepared;
use crate::resolved::Resolved;

/// Says what is trained on what with which loss.
pub(crate) fn describe(
    resolved: &Resolved,
    prepared: &Prepared,
    model: &Model,
    order: &Order,
    total: u64,
    (objective, gauge): (&Objective, Gauge),
    observer: &mut dyn Observer,
) -> Result<()> {
    use burn::module::Module;
    let settings = &resolved.settings;
    let (plan, views) = (&prepared.plan, prepared.source.spec());
    let held_out = plan.probes.first().map_or(0, |p| p.test.len());
    for line in [
        format!(
            "data      {} · {} samples to train on, {held_out} held out, {} skipped",
            settings.data.source,
            plan.pretrain.len(),
            plan.skipped.len()
        ),
        format!(
            "views     {} global {:?}, {} local {:?}",
            views.globals, views.global, views.locals, views.local
        ),
        format!(
            "encoder   {} · {:.2} M parameters, embedding {}; projector {:.2} M, projection {}",
            resolved.encoder.name,
            model.encoder.num_params() as f64 / 1e6,
            model.encoder.dim(),
            model.projector.num_params() as f64 / 1e6,
            settings.projector.output
        ),
        format!("loss      {}", objective.convention()),
        format!(
            "gauge     SIGReg is {:.4} for Gaussian embeddings, {:.4} at total collapse",
            gauge.gaussian, gauge.collapsed
        ),
        format!(
            "length    {total} steps of {} samples, {} steps an epoch",
            order.batch,
            order.steps_per_epoch()
        ),
    ] {
        observer.event(Event::Note(&line));
    }
    if order.batch < settings.train.batch {
        observer.event(Event::Warning(&format!(
            "only {} samples: the batch is {} instead of {}",
            plan.pretrain.len(),
            order.batch,
            settings.train.batch
        )));
    }
    if settings.projector.output > model.encoder.dim() {
        observer.event(Event::Warning(
            "the projection is wider than the embedding: SIGReg cannot be satisfied through a linear map",
        ));
    }
    Ok(())
}

/// The three losses of a step as numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) loss: f64,
    pub(crate) prediction: f64,
    pub(crate) sigreg: f64,
}

/// Times and rates between two lines of metrics.
pub(crate) struct Meter {
    batch: usize,
    per_epoch: u64,
    since: Instant,
    pub(crate) waited: Duration,
    pub(crate) steps: u64,
}

impl Meter {
    pub(crate) fn new(batch: usize, per_epoch: u64) -> Self {
        Self { batch, per_epoch, since: Instant::now(), waited: Duration::ZERO, steps: 0 }
    }

    /// A line of metrics, and the start of the next interval.
    pub(crate) fn line(
        &mut self,
        step: u64,
        lr: f64,
        numbers: Numbers,
        effective_rank: f64,
    ) -> StepMetrics {
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        let metrics = StepMetrics {
            step,
            epoch: step as f64 / self.per_epoch as f64,
            loss: numbers.loss,
            prediction: numbers.prediction,
            sigreg: numbers.sigreg,
            effective_rank,
            lr,
            samples_per_s: self.steps as f64 * self.batch as f64 / seconds,
            loader_share: (self.waited.as_secs_f64() / seconds).min(1.0),
        };
        (self.since, self.waited, self.steps) = (Instant::now(), Duration::ZERO, 0);
        metrics
    }
}

/// `run.json` but for the status.
pub(crate) fn run_info(resolved: &Resolved, device: &Device) -> serde_json::Value {
    let started = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    json!({
        "lejepa": env!("CARGO_PKG_VERSION"),
        "burn": "0.22.1",
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "processors": std::thread::available_parallelism().map_or(1, usize::from),
        "device": format!("{device:?}"),
        "seed": resolved.settings.seed,
        "modality": { "name": resolved.modality.name, "crate": resolved.modality.origin.to_string() },
        "encoder": { "name": resolved.encoder.name, "crate": resolved.encoder.origin.to_string() },
        "started_unix_s": started,
    })
}

/// `run.json` with a status.
pub(crate) fn with_status(info: &serde_json::Value, status: &str) -> serde_json::Value {
    let mut info = info.clone();
    info["status"] = json!(status);
    info
}
