//! What a run says of itself: its facts at the start, its rates on the way.

use std::time::{Duration, Instant};

use burn::module::Module;
use burn::tensor::Device;
use lejepa_objective::{Gauge, Objective};
use serde_json::json;

use crate::Result;
use crate::dotted::text;
use crate::model::Model;
use crate::observe::{Event, Observer};
use crate::order::Order;
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
    let settings = resolved.settings();
    let plan = &prepared.plan;
    let held_out = plan.held_out.len();
    for line in [format!(
        "data      {} · {} samples to train on, {held_out} held out, {} skipped",
        settings.data.source,
        plan.pretrain.len(),
        plan.skipped.len()
    )]
    .into_iter()
    .chain(plan.census.lines().into_iter().map(|line| format!("          {line}")))
    .chain([
        format!("views     {}", views(resolved.spec())),
        format!(
            "encoder   {} · {:.2} M parameters, embedding {}; projector {:.2} M, projection {}",
            resolved.encoder_names().join(", "),
            model.encoders.num_params() as f64 / 1e6,
            model.dim(),
            model.projectors.num_params() as f64 / 1e6,
            settings.projector.output
        ),
        format!("loss      {}; {}", objective.convention(), prediction(resolved, model)),
        format!(
            "gauge     SIGReg is {:.4} for Gaussian embeddings, {:.4} at total collapse",
            gauge.gaussian, gauge.collapsed
        ),
        format!(
            "length    {total} steps of {} samples, {} steps an epoch",
            order.batch(),
            order.steps_per_epoch()
        ),
    ]) {
        observer.event(Event::Note(&line));
    }
    for warning in plan.census.warnings() {
        observer.event(Event::Warning(&warning));
    }
    if order.batch() < settings.train.batch {
        observer.event(Event::Warning(&format!(
            "only {} samples: the batch is {} instead of {}",
            plan.pretrain.len(),
            order.batch(),
            settings.train.batch
        )));
    }
    if model.encoders.iter().any(|e| settings.projector.output > e.dim()) {
        observer.event(Event::Warning(
            "the projection is wider than the embedding: SIGReg cannot be satisfied through a linear map",
        ));
    }
    Ok(())
}

/// The prediction term and its parameters, where it has any.
fn prediction(resolved: &Resolved, model: &Model) -> String {
    let name = text(resolved.table(), "prediction.name").unwrap_or_default();
    match model.prediction.num_params() {
        0 => format!("prediction by {name}"),
        n => format!("prediction by {name}, {:.2} M parameters", n as f64 / 1e6),
    }
}

/// The groups of views in one line.
fn views(spec: &lejepa_core::ViewSpec) -> String {
    let group = |group: &lejepa_core::Group| {
        let of = if group.is_variable() { "up to " } else { "" };
        format!("{} {} {of}{:?}", group.count, group.name, group.max_shape())
    };
    spec.groups().iter().map(group).collect::<Vec<_>>().join(", ")
}

/// Times and rates between two lines of metrics.
pub(crate) struct Meter {
    batch: usize,
    since: Instant,
    pub(crate) waited: Duration,
    pub(crate) steps: u64,
}

impl Meter {
    pub(crate) fn new(batch: usize) -> Self {
        Self { batch, since: Instant::now(), waited: Duration::ZERO, steps: 0 }
    }

    /// The rates since the last logged line, from where they count anew.
    pub(crate) fn rates(&mut self) -> [(&'static str, f64); 2] {
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        let rates = [
            ("samples_per_s", self.steps as f64 * self.batch as f64 / seconds),
            ("loader_share", (self.waited.as_secs_f64() / seconds).min(1.0)),
        ];
        (self.since, self.waited, self.steps) = (Instant::now(), Duration::ZERO, 0);
        rates
    }
}

/// `run.json` but for the status.
pub(crate) fn run_info(resolved: &Resolved, device: &Device, workers: usize) -> serde_json::Value {
    let started = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let components: Vec<String> = resolved.origins();
    json!({
        "lejepa": env!("CARGO_PKG_VERSION"),
        "burn": "0.22.1",
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "processors": std::thread::available_parallelism().map_or(1, usize::from),
        "device": format!("{device:?}"),
        "workers": workers,
        "seed": resolved.settings().seed,
        "modality": resolved.modality().name(),
        "encoders": resolved.encoder_names(),
        "components": components,
        "started_unix_s": started,
    })
}

/// `run.json` with a status.
pub(crate) fn with_status(info: &serde_json::Value, status: &str) -> serde_json::Value {
    let mut info = info.clone();
    info["status"] = json!(status);
    info
}
