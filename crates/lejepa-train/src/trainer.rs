//! The training loop: one straight line from a configuration to a probed run folder.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use lejepa_core::Seed;
use lejepa_objective::ObjectiveError;

use crate::checkpoint::{self, Best, State};
use crate::compare;
use crate::config::Settings;
use crate::data::Skipped;
use crate::events::EventFile;
use crate::loader::{Batch, Loader, Order};
use crate::model::{Model, scalar};
use crate::monitor::{self, Monitor, effective_rank};
use crate::observe::{Event, Observer, StepMetrics};
use crate::prepared::{Prepared, ProbeComparison};
use crate::report::{Meter, Numbers, describe, run_info, with_status};
use crate::resolved::Resolved;
use crate::rundir::RunDir;
use crate::schedule::learning_rate;
use crate::step::{Learner, Pass};
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
    /// What the monitors said.
    pub warnings: Vec<String>,
    /// A row per label column; empty where there are no labels.
    pub probes: Vec<ProbeComparison>,
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
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
/// use std::sync::atomic::AtomicBool;
///
/// // `resolved` is a configuration of two steps on the built-in digits.
/// let run = RunDir::create(&folder.path().join("run"))?;
/// let never = AtomicBool::new(false);
/// let outcome = train(&resolved, &Device::flex(), &run, Start::New, &never, &mut Silent)?;
/// assert_eq!(outcome.steps, 2);
/// assert!(outcome.last.sigreg.is_finite() && outcome.skipped.is_empty());
/// // Going on with a finished run does nothing but say so again.
/// let again = train(&resolved, &Device::flex(), &run, Start::Resume, &never, &mut Silent)?;
/// assert_eq!(again.last.loss, outcome.last.loss);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn train(
    resolved: &Resolved,
    device: &Device,
    run: &RunDir,
    start: Start,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let _lock = run.lock()?;
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
    let views = prepared.source.spec().clone();
    let mut learner = Learner::new(resolved, &views, device)?;
    let order = prepared.order(settings);
    let total = steps(settings, &order);
    let gauge = learner.objective.gauge(views.views(), order.batch, settings.projector.output);
    let described = (&learner.objective, gauge);
    describe(resolved, &prepared, &learner.model, &order, total, described, observer)?;

    let seed = Seed(settings.seed);
    let workers = workers(settings.data.workers);
    let mut state = State {
        version: checkpoint::VERSION,
        step: 0,
        total,
        seed: settings.seed,
        config: resolved.table.clone(),
        data: prepared.print(),
        skipped: prepared.plan.skipped.clone(),
        smooth_loss: 0.0,
        best: None,
    };
    match start {
        Start::Resume => {
            let saved = whole_checkpoint(run, observer)?;
            state = go_on(state, checkpoint::load_state(&saved)?, observer)?;
            learner.model = checkpoint::load_model(&saved, learner.model)?;
            learner.optimizer = checkpoint::load_optimizer(&saved, learner.optimizer)?;
            // Steps after the checkpoint are done again, so their lines must not be there twice.
            run.truncate_metrics(state.step)?;
            observer.event(Event::Note(&format!(
                "resuming  at step {} from {}",
                state.step,
                saved.display()
            )));
        }
        Start::New if !settings.train.init.is_empty() => {
            learner.model =
                initial_weights(&settings.train.init, resolved, learner.model, observer)?;
        }
        Start::New => {}
    }
    let first = state.step;
    let mut loader = Loader::start(
        prepared.source.clone(),
        order.clone(),
        first..total,
        workers,
        settings.data.prefetch,
    )?;
    loader.know(&state.skipped[prepared.plan.skipped.len().min(state.skipped.len())..]);
    let mut monitor = Monitor::new(gauge, settings.projector.output, total);
    let mut warnings = Vec::new();
    let mut warn = |text: String, observer: &mut dyn Observer| {
        observer.event(Event::Warning(&text));
        warnings.push(text);
    };
    let mut events = EventFile::create(run.path(), first)?;
    let mut meter = Meter::new(order.batch, order.steps_per_epoch());
    let mut last = if first == total { run.last_metrics() } else { None };
    let mut saved_at = Instant::now();
    observer.event(Event::Start { step: first, total, gauge });
    for step in first..total {
        let waiting = Instant::now();
        let batch = loader.next_batch()?;
        meter.waited += waiting.elapsed();
        account(&batch, &loader, &order, settings, &mut state.skipped, observer)?;

        let Pass { losses, projections: z, gradients } =
            learner.pass(&batch, step).map_err(|e| not_finite(e, &learner.model, step + 1, run))?;
        let numbers = read(&losses, step + 1, run)?;
        if step == 0 {
            for text in unreached(&learner, &gradients, &z, views.globals, seed)? {
                warn(text, observer);
            }
        }
        let t = &settings.train;
        let lr = learning_rate(step, total, t.lr, t.lr_end, t.warmup);
        learner = learner.update(lr, gradients);

        let done = step + 1;
        state.step = done;
        state.smooth_loss = match step {
            0 => numbers.loss,
            _ => state.smooth_loss + SMOOTHING * (numbers.loss - state.smooth_loss),
        };
        let stopping = stop.load(Ordering::Relaxed) && done < total;
        let (minutes, every) = (settings.checkpoint.minutes, settings.checkpoint.steps);
        let due = minutes > 0.0 && saved_at.elapsed() >= Duration::from_secs_f64(minutes * 60.0)
            || every > 0 && done.is_multiple_of(every);
        let saving = done == total || stopping || due;
        meter.steps += 1;
        // Not where a checkpoint happens to be due: the lines are the same for every run.
        if done == total || stopping || done == 1 || done.is_multiple_of(t.log_every) {
            let rank =
                effective_rank(&z.detach().try_into_vec_as::<f32>()?, settings.projector.output);
            let metrics = meter.line(done, lr, numbers, rank);
            run.append_metrics(&metrics)?;
            events.scalars(done, &metrics.scalars())?;
            observer.event(Event::Metrics(&metrics));
            for text in monitor.look(&metrics) {
                warn(text, observer);
            }
            last = Some(metrics);
        }
        if saving {
            // A checkpoint is there to go on from: one with NaN in it would be worse than none.
            if let Some(name) = learner.model.first_not_finite() {
                let what = format!("the parameter {name} has values that are not finite");
                let saved = checkpoint::latest(run).ok();
                return Err(TrainError::NotFinite { what, step: done, saved });
            }
            if state.best.is_none_or(|b| state.smooth_loss < b.loss) {
                state.best = Some(Best { step: done, loss: state.smooth_loss });
            }
            let (model, optimizer) = (&learner.model, &learner.optimizer);
            let path = checkpoint::save(run, model, optimizer, &state, &settings.checkpoint)?;
            saved_at = Instant::now();
            observer.event(Event::Saved(&path));
        }
        observer.event(Event::Step(done));
        if stopping {
            return Err(TrainError::Interrupted { step: done, run: run.path().to_path_buf() });
        }
    }
    let mut skipped = state.skipped;
    drop(loader);
    observer.event(Event::End);

    let (probes, unread) = prepared.compare(resolved, &learner.model, device, observer)?;
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
    Ok(Outcome { run: run.path().to_path_buf(), steps: total, last, skipped, warnings, probes })
}

/// Weight of a step in the smoothed loss.
const SMOOTHING: f64 = 0.02;

/// The newest checkpoint that is whole; says what is wrong with newer ones.
fn whole_checkpoint(run: &RunDir, observer: &mut dyn Observer) -> Result<PathBuf> {
    let (saved, damaged) = checkpoint::newest_whole(run)?;
    for error in damaged {
        observer.event(Event::Warning(&format!(
            "{error}; this checkpoint is damaged, so the one before it is used"
        )));
    }
    Ok(saved)
}

/// The state to go on from, after a look at whether it is still the same run.
fn go_on(fresh: State, saved: State, observer: &mut dyn Observer) -> Result<State> {
    compare::same_run(&saved.config, &fresh.config)?;
    if saved.data != fresh.data {
        observer.event(Event::Warning(&format!(
            "the data has changed since the run began: {} samples to train on then, {} now; the run goes on \
             with what is there, and will differ from one that was not interrupted",
            saved.data.samples, fresh.data.samples
        )));
    }
    Ok(State { step: saved.step.min(fresh.total), total: fresh.total, data: fresh.data, ..saved })
}

/// Weights of another run, of one of its checkpoints, or of a file.
fn initial_weights(
    words: &str,
    resolved: &Resolved,
    model: Model,
    observer: &mut dyn Observer,
) -> Result<Model> {
    let path = PathBuf::from(words);
    let (checkpoint, step) = if path.join("config.toml").is_file() {
        let saved = whole_checkpoint(&RunDir::open(&path)?, observer)?;
        let state = checkpoint::load_state(&saved)?;
        compare::same_model(&state.config, &resolved.table)?;
        (saved, Some(state.step))
    } else if path.is_dir() {
        checkpoint::verify(&path)?;
        let state = checkpoint::load_state(&path)?;
        compare::same_model(&state.config, &resolved.table)?;
        (path, Some(state.step))
    } else {
        (path, None)
    };
    let step = step.map_or(String::new(), |s| format!(" at step {s}"));
    observer.event(Event::Note(&format!("weights   from {}{step}", checkpoint.display())));
    if checkpoint.is_dir() {
        checkpoint::load_model(&checkpoint, model)
    } else {
        checkpoint::load_weights(&checkpoint, model)
    }
}

/// The losses as numbers, which have to be finite.
fn read(losses: &lejepa_objective::Losses, step: u64, run: &RunDir) -> Result<Numbers> {
    let numbers = Numbers {
        loss: scalar(losses.total.clone())?,
        prediction: scalar(losses.prediction.clone())?,
        sigreg: scalar(losses.sigreg.clone())?,
    };
    let named =
        [("prediction", numbers.prediction), ("SIGReg", numbers.sigreg), ("loss", numbers.loss)];
    match named.into_iter().find(|(_, value)| !value.is_finite()) {
        None => Ok(numbers),
        Some((what, value)) => Err(TrainError::NotFinite {
            what: format!("the {what} is {value}"),
            step,
            saved: checkpoint::latest(run).ok(),
        }),
    }
}

/// Views and parameters that the first step's loss does not reach, in words.
fn unreached(
    learner: &Learner,
    gradients: &GradientsParams,
    z: &Tensor<3>,
    globals: usize,
    seed: Seed,
) -> Result<Vec<String>> {
    let (objective, model) = (&learner.objective, &learner.model);
    let mut texts = Vec::new();
    let axes = objective.axes(z, seed, 0);
    let views = monitor::views_without_gradient(objective, z, globals, axes)?;
    if !views.is_empty() {
        texts.push(format!("no gradient: the loss does not depend on the views {views:?}"));
    }
    let parameters = monitor::without_gradient(model, gradients);
    if !parameters.is_empty() {
        texts.push(format!(
            "no gradient: the loss does not depend on the parameters {}",
            parameters.join(", ")
        ));
    }
    Ok(texts)
}

/// Adds step, parameter and checkpoint to the objective's complaint about NaN or infinity.
fn not_finite(error: TrainError, model: &Model, step: u64, run: &RunDir) -> TrainError {
    let TrainError::Objective(error @ ObjectiveError::NotFinite { .. }) = error else {
        return error;
    };
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
