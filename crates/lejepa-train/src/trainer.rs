//! The training loop: one straight line from a configuration to a probed run folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::module::ParamGroup;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use lejepa_core::{Purpose, Seed, Source, ViewSource};
use lejepa_objective::ObjectiveError;
use serde_json::json;

use crate::checkpoint::{self, State};
use crate::config::{Resolved, Settings};
use crate::data::{DataPlan, Skipped};
use crate::loader::{Batch, Loader, Order};
use crate::model::{Model, scalar};
use crate::observe::{Event, Observer, StepMetrics};
use crate::probe::{ProbeResult, Scores, probe};
use crate::rundir::RunDir;
use crate::schedule::learning_rate;
use crate::{Result, TrainError};

/// What a finished run has to show.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The run folder.
    pub run: PathBuf,
    /// Steps done.
    pub steps: u64,
    /// Metrics of the last step.
    pub last: StepMetrics,
    /// Samples that were left out or replaced, each once.
    pub skipped: Vec<Skipped>,
    /// A row per label column; empty where there are no labels.
    pub probes: Vec<ProbeComparison>,
}

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
    pub fn new(resolved: &Resolved, observer: &mut dyn Observer) -> Result<Self> {
        let data = &resolved.settings.data;
        let origin = Source::resolve(&data.source, (resolved.modality.rule)())?;
        let budget = data.cache_mib.saturating_mul(1 << 20);
        let source =
            (resolved.modality.open)(&resolved.modality_section(), origin.clone(), budget)?;
        let source: Arc<dyn ViewSource> = Arc::from(source);
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

    fn order(&self, settings: &Settings) -> Order {
        Order {
            batch: settings.train.batch.min(self.plan.pretrain.len()),
            indices: Arc::new(self.plan.pretrain.clone()),
            seed: Seed(settings.seed),
        }
    }
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

/// Trains to the end, saves, probes. `stop` asks for an orderly end after the current step.
///
/// # Errors
/// See [`TrainError`]; [`TrainError::Interrupted`] where `stop` was set.
pub fn train(
    resolved: &Resolved,
    device: &Device,
    run: &RunDir,
    start: Start,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    if start == Start::New {
        crate::rundir::write_atomically(&run.config_file(), resolved.to_toml()?.as_bytes())?;
    }
    let info = run_info(resolved, device);
    run.write_info(&with_status(&info, "running"))?;
    let result = train_and_probe(resolved, device, run, start, stop, observer);
    let status = match &result {
        Ok(_) => "finished",
        Err(TrainError::Interrupted { .. }) => "interrupted",
        Err(_) => "failed",
    };
    // The reason of a failure matters more than that it could not be noted.
    let noted = run.write_info(&with_status(&info, status));
    let outcome = result?;
    noted?;
    Ok(outcome)
}

fn train_and_probe(
    resolved: &Resolved,
    device: &Device,
    run: &RunDir,
    start: Start,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let settings = &resolved.settings;
    let prepared = Prepared::new(resolved, observer)?;
    let learning = device.clone().autodiff();
    let views = prepared.source.spec().clone();
    let mut model = Model::init(resolved, &views, &learning)?;
    let mut optimizer = optimizer(settings, &model);
    let order = prepared.order(settings);
    let total = steps(settings, &order);
    describe(resolved, &prepared, &model, &order, total, observer)?;

    let objective = resolved.objective()?;
    let seed = Seed(settings.seed);
    let workers = workers(settings.data.workers);
    let mut first = 0;
    if start == Start::Resume {
        let saved = checkpoint::latest(run)?;
        first = checkpoint::load_state(&saved)?.step.min(total);
        model = checkpoint::load_model(&saved, model)?;
        optimizer = checkpoint::load_optimizer(&saved, optimizer)?;
        // Steps after the checkpoint are done again, so their lines must not be there twice.
        run.truncate_metrics(first)?;
        observer.event(Event::Note(&format!("resuming  at step {first} from {}", saved.display())));
    }
    let mut loader = Loader::start(
        prepared.source.clone(),
        order.clone(),
        first..total,
        workers,
        settings.data.prefetch,
    )?;
    let mut meter = Meter::new(order.batch, order.steps_per_epoch());
    let mut skipped = prepared.plan.skipped.clone();
    let mut last = if first == total { run.last_metrics() } else { None };
    let mut saved_at = Instant::now();
    observer.event(Event::Start { step: first, total });
    for step in first..total {
        let waiting = Instant::now();
        let batch = loader.next_batch()?;
        meter.waited += waiting.elapsed();
        account(&batch, &loader, &order, settings, &mut skipped, observer)?;

        // Whatever the encoder draws in this step is addressed by the step, like all else.
        learning.seed(seed.derive(Purpose::Encoder, &[step]));
        let z = model.project(batch, &views, &learning)?;
        let losses = objective
            .loss(z, views.globals, seed, step)
            .map_err(|e| not_finite(e, &model, step + 1, run))?;
        let gradients = GradientsParams::from_grads(losses.total.backward(), &model);
        let t = &settings.train;
        let lr = learning_rate(step, total, t.lr, t.lr_end, t.warmup);
        model = optimizer.step(lr, model, gradients);

        let done = step + 1;
        let stopping = stop.load(Ordering::Relaxed) && done < total;
        let minutes = settings.checkpoint.minutes;
        let due = minutes > 0.0 && saved_at.elapsed() >= Duration::from_secs_f64(minutes * 60.0);
        let saving = done == total || stopping || due;
        meter.steps += 1;
        if saving || done == 1 || done.is_multiple_of(t.log_every) {
            let metrics = meter.read(done, lr, losses, run)?;
            run.append_metrics(&metrics)?;
            observer.event(Event::Metrics(&metrics));
            last = Some(metrics);
        }
        if saving {
            // A checkpoint is there to go on from: one with NaN in it would be worse than none.
            if let Some(name) = model.first_not_finite() {
                let what = format!("the parameter {name} has values that are not finite");
                let saved = checkpoint::latest(run).ok();
                return Err(TrainError::NotFinite { what, step: done, saved });
            }
            let state =
                State { version: checkpoint::VERSION, step: done, total, seed: settings.seed };
            let path = checkpoint::save(run, &model, &optimizer, &state, settings.checkpoint.keep)?;
            saved_at = Instant::now();
            observer.event(Event::Saved(&path));
        }
        observer.event(Event::Step(done));
        if stopping {
            return Err(TrainError::Interrupted { step: done, run: run.path().to_path_buf() });
        }
    }
    drop(loader);
    observer.event(Event::End);

    let (probes, unread) = prepared.compare(resolved, &model, device, observer)?;
    for s in unread {
        if skipped.iter().all(|known| known.index != s.index) {
            observer.event(Event::Skipped(&s));
            skipped.push(s);
        }
    }
    let last = last.ok_or_else(|| {
        TrainError::Core(lejepa_core::Error::Data {
            reason: "the run has no steps".into(),
            hint: "raise train.epochs or train.steps".into(),
        })
    })?;
    Ok(Outcome { run: run.path().to_path_buf(), steps: total, last, skipped, probes })
}

/// Adds step, parameter and checkpoint to the objective's complaint about NaN or infinity.
fn not_finite(error: ObjectiveError, model: &Model, step: u64, run: &RunDir) -> TrainError {
    if !matches!(error, ObjectiveError::NotFinite { .. }) {
        return error.into();
    }
    let cause = model.first_not_finite().map_or(String::new(), |name| {
        format!("; so does the parameter {name}: the step before was too large")
    });
    let saved = checkpoint::latest(run).ok();
    TrainError::NotFinite { what: format!("{error}{cause}"), step, saved }
}

/// Names what was replaced and stops where it is too much.
fn account(
    batch: &Batch,
    loader: &Loader,
    order: &Order,
    settings: &Settings,
    skipped: &mut Vec<Skipped>,
    observer: &mut dyn Observer,
) -> Result<()> {
    for s in &batch.replaced {
        observer.event(Event::Skipped(s));
        skipped.push(s.clone());
    }
    let (bad, total, limit) = (loader.bad(), order.indices.len(), settings.data.max_bad);
    match batch.replaced.last() {
        Some(s) if bad as f64 > limit * total as f64 => Err(TrainError::TooManyBad {
            bad,
            total,
            limit,
            last: format!("{}: {}", s.name, s.reason),
        }),
        _ => Ok(()),
    }
}

/// AdamW with weight decay on matrices and filters only.
fn optimizer(settings: &Settings, model: &Model) -> ModuleOptimizer {
    let t = &settings.train;
    let config = AdamWConfig::new()
        .with_beta_1(t.betas[0] as f32)
        .with_beta_2(t.betas[1] as f32)
        .with_epsilon(1e-8);
    let undecayed = ParamGroup::from_paths(model.undecayed());
    config.clone().with_weight_decay(t.weight_decay as f32).init().with_group(
        undecayed,
        config.with_weight_decay(0.0).build(),
        None,
    )
}

fn steps(settings: &Settings, order: &Order) -> u64 {
    let per_epoch = order.steps_per_epoch();
    match (settings.train.steps, settings.train.epochs) {
        (0, 0.0) => (30 * per_epoch).max(300),
        (0, epochs) => ((epochs * per_epoch as f64).round() as u64).max(1),
        (steps, _) => steps,
    }
}

/// Loader threads where the user leaves the choice: half the processors, since on a CPU the step
/// itself wants them all.
fn workers(wanted: usize) -> usize {
    match wanted {
        0 => (std::thread::available_parallelism().map_or(1, usize::from) / 2).clamp(1, 8),
        n => n,
    }
}

fn describe(
    resolved: &Resolved,
    prepared: &Prepared,
    model: &Model,
    order: &Order,
    total: u64,
    observer: &mut dyn Observer,
) -> Result<()> {
    use burn::module::Module;
    let settings = &resolved.settings;
    let (plan, views) = (&prepared.plan, prepared.source.spec());
    let objective = resolved.objective()?;
    let gauge = objective.gauge(views.views(), order.batch, settings.projector.output);
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

/// Times and rates between two lines of metrics.
struct Meter {
    batch: usize,
    per_epoch: u64,
    since: Instant,
    waited: Duration,
    steps: u64,
}

impl Meter {
    fn new(batch: usize, per_epoch: u64) -> Self {
        Self { batch, per_epoch, since: Instant::now(), waited: Duration::ZERO, steps: 0 }
    }

    /// Reads the losses from the device, which waits for it, and starts the next interval.
    fn read(
        &mut self,
        step: u64,
        lr: f64,
        losses: lejepa_objective::Losses,
        run: &RunDir,
    ) -> Result<StepMetrics> {
        let (loss, prediction, sigreg) =
            (scalar(losses.total)?, scalar(losses.prediction)?, scalar(losses.sigreg)?);
        for (what, value) in [("prediction", prediction), ("sigreg", sigreg), ("loss", loss)] {
            if !value.is_finite() {
                let what = format!("the {what} is {value}");
                let saved = checkpoint::latest(run).ok();
                return Err(TrainError::NotFinite { what, step, saved });
            }
        }
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        let metrics = StepMetrics {
            step,
            epoch: step as f64 / self.per_epoch as f64,
            loss,
            prediction,
            sigreg,
            lr,
            samples_per_s: self.steps as f64 * self.batch as f64 / seconds,
            loader_share: (self.waited.as_secs_f64() / seconds).min(1.0),
        };
        (self.since, self.waited, self.steps) = (Instant::now(), Duration::ZERO, 0);
        Ok(metrics)
    }
}

fn run_info(resolved: &Resolved, device: &Device) -> serde_json::Value {
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

fn with_status(info: &serde_json::Value, status: &str) -> serde_json::Value {
    let mut info = info.clone();
    info["status"] = json!(status);
    info
}
