//! A run in progress: its state between steps, and what it writes.

pub(crate) mod agreement;
mod diagnosis;
mod resume;

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use lejepa_core::Schedule;
use lejepa_objective::Gauge;

use crate::batch::Batch;
use crate::begin::{initial_weights, steps, whole_checkpoint, workers};
use crate::callback::{AfterStep, Callback, CallbackContext, Flow, Scalars, check_names};
use crate::checkpoint::{self, Contents, State};
use crate::compare;
use crate::comparison::ProbeComparison;
use crate::events::EventFile;
use crate::flat;
use crate::group::Group;
use crate::label_free::Rows;
use crate::loader::Loader;
use crate::model::Model;
use crate::observe::{Event, Observer, StepMetrics};
use crate::order::Order;
use crate::outcome::{Outcome, Start};
use crate::prepared::Prepared;
use crate::readback::Readback;
use crate::report::{Meter, describe};
use crate::resolved::Resolved;
use crate::retrieval::Retrieval;
use crate::rundir::RunDir;
use crate::skipped::Skipped;
use crate::step::{Learner, Pass};
use crate::{Result, TrainError};

use agreement::{Shared, any, same_weights, share};

/// A run in progress.
pub(crate) struct Run<'a> {
    resolved: &'a Resolved,
    dir: &'a RunDir,
    prepared: &'a Prepared,
    group: Arc<dyn Group>,
    /// `None` only while a step moves it.
    learner: Option<Learner>,
    schedule: Box<dyn Schedule>,
    order: Order,
    gauge: Gauge,
    callbacks: Vec<Box<dyn Callback>>,
    state: State,
    events: Option<EventFile>,
    meter: Meter,
    scalars: Scalars,
    readback: Readback,
    last: Option<StepMetrics>,
    warnings: Vec<String>,
    saved_at: Instant,
}

/// What a step leaves for [`Run::after`].
pub(crate) struct Projected {
    samples: Vec<usize>,
    embeddings: Vec<Tensor<3>>,
    projections: Tensor<3>,
}

impl<'a> Run<'a> {
    /// Model, callbacks and state as they are before the first step. Callbacks are those of rank 0 alone.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn begin(
        resolved: &'a Resolved,
        device: &Device,
        dir: &'a RunDir,
        prepared: &'a Prepared,
        group: Arc<dyn Group>,
        start: Start,
        own: Vec<Box<dyn Callback>>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let settings = resolved.settings();
        let mut learner = resolved.learner(device)?.in_group(group.clone());
        let from = &settings.train.init;
        if start == Start::New && !from.is_empty() {
            learner.model = initial_weights(from, resolved, learner.model, observer)?;
        }
        let order = prepared.order(settings).of_rank(group.rank(), group.size());
        let least = group.size() * settings.train.microbatches.max(1);
        if group.size() > 1 && order.batch() < least {
            let reason = format!(
                "must be at least {least}, a sample for each part of each of {} workers, got {}",
                group.size(),
                order.batch()
            );
            return Err(lejepa_core::Error::bad_value("train.batch", reason).into());
        }
        let total = steps(resolved, &order);
        let views = resolved.spec().views();
        let gauge = learner.objective.gauge(views, order.batch(), settings.projector.output);
        let described = (&learner.objective, gauge);
        describe(resolved, prepared, &learner.model, &order, total, described, observer)?;
        let context = CallbackContext {
            settings,
            source: &prepared.source,
            trained_on: &prepared.plan.pretrain,
            held_out: &prepared.plan.held_out,
            total,
            gauge,
            model: &learner.model,
        };
        let mut callbacks = Vec::new();
        if group.rank() == 0 {
            callbacks = resolved.callbacks(&context)?;
            callbacks.extend(own);
        }
        check_names(&callbacks)?;
        let state = State {
            version: checkpoint::VERSION,
            step: 0,
            total,
            seed: settings.seed,
            config: resolved.table().clone(),
            data: prepared.fingerprint(),
            scanned_out: prepared.plan.skipped.clone(),
            turned_bad: Vec::new(),
            ended: false,
        };
        Ok(Self {
            resolved,
            dir,
            prepared,
            group,
            learner: Some(learner),
            schedule: resolved.schedule()?,
            meter: Meter::new(order.batch()),
            order,
            gauge,
            callbacks,
            state,
            events: None,
            scalars: Scalars::new(),
            readback: Readback::default(),
            last: None,
            warnings: prepared.plan.census.warnings(),
            saved_at: Instant::now(),
        })
    }

    /// Takes up the newest checkpoint where the run is resumed, and starts the loader.
    pub(crate) fn start(&mut self, start: Start, observer: &mut dyn Observer) -> Result<Loader> {
        let settings = self.resolved.settings();
        if start == Start::Resume {
            self.resume(observer)?;
        }
        let (first, total) = (self.state.step, self.state.total);
        let data = &settings.data;
        let (source, order) = (self.prepared.source.clone(), self.order.clone());
        let workers = workers(data.workers);
        let mut loader = Loader::start(source, order, first..total, workers, data.prefetch)?;
        loader.mark_bad(&self.state.turned_bad);
        if self.is_root() {
            self.events = Some(EventFile::create(self.dir.path(), first)?);
        }
        self.meter = Meter::new(self.order.batch());
        self.last = if self.next_step().is_none() { self.dir.last_metrics() } else { None };
        self.saved_at = Instant::now();
        observer.event(Event::Start { step: first, total, gauge: self.gauge });
        Ok(loader)
    }

    /// The step to do, from 0; `None` at the end.
    pub(crate) fn next_step(&self) -> Option<u64> {
        (self.state.step < self.state.total && !self.state.ended).then_some(self.state.step)
    }

    /// Waits for the views of the next step; names samples that were replaced, and stops where there are
    /// too many.
    pub(crate) fn batch(
        &mut self,
        loader: &mut Loader,
        observer: &mut dyn Observer,
    ) -> Result<Shared> {
        let waiting = Instant::now();
        let shared = share(self.group.as_ref(), loader.next_batch())?;
        self.meter.waited += waiting.elapsed();
        loader.mark_bad(&shared.replaced);
        for skipped in &shared.replaced {
            observer.event(Event::Skipped(skipped));
            self.state.turned_bad.push(skipped.clone());
        }
        let (bad, total) = (loader.bad(), self.order.indices().len());
        let limit = self.resolved.settings().data.max_bad;
        let Some(last) = shared.replaced.last() else { return Ok(shared) };
        let last = format!("{}: {}", last.name, last.reason);
        if bad as f64 > limit * total as f64 {
            return Err(TrainError::TooManyBad { bad, total, limit, last });
        }
        if total.saturating_sub(bad) < self.order.batch() {
            return Err(TrainError::TooFewLeft { total, batch: self.order.batch(), last });
        }
        Ok(shared)
    }

    /// Whether this is the worker that writes.
    fn is_root(&self) -> bool {
        self.group.rank() == 0
    }

    /// Whether the step after which `done` are done is logged. Independent of when checkpoints are due and of
    /// interruptions, so that callbacks see the same in every run.
    fn is_logged(&self, done: u64) -> bool {
        let every = self.resolved.settings().train.log_every;
        done == self.state.total || done == 1 || done.is_multiple_of(every)
    }

    /// Forward and backward; the losses go into the scalars of the step.
    pub(crate) fn pass(
        &mut self,
        batch: &Batch,
        step: u64,
        observer: &mut dyn Observer,
    ) -> Result<Pass> {
        let learner = self.learner()?;
        let pass = learner.pass(batch, step)?;
        let is_logged = self.is_logged(step + 1);
        let (scalars, readback) = Readback::new(&pass, batch, &self.callbacks, is_logged)?;
        if let Some((name, value)) = scalars.iter().rev().find(|(_, value)| !value.is_finite()) {
            return Err(self.not_finite(name, *value, &pass.projections, step + 1));
        }
        if step == 0 {
            for text in self.unreached(&pass)? {
                self.warn(text, observer);
            }
        }
        (self.scalars, self.readback) = (scalars, readback);
        Ok(pass)
    }

    /// Moves the parameters.
    pub(crate) fn update(
        &mut self,
        step: u64,
        pass: Pass,
        samples: Vec<usize>,
    ) -> Result<Projected> {
        let peak = self.resolved.settings().train.lr;
        let lr = peak * self.schedule.factor(step, self.state.total);
        if !(lr.is_finite() && lr >= 0.0) {
            let reason = format!("the learning rate of step {} is {lr}", step + 1);
            return Err(lejepa_core::Error::bad_value("schedule.name", reason).into());
        }
        self.scalars.insert("lr".into(), lr);
        let learner = self.take_learner()?;
        self.learner = Some(learner.update(lr, pass.gradients));
        self.state.step = step + 1;
        self.meter.steps += 1;
        let projections = pass.projections.detach();
        Ok(Projected { samples, embeddings: pass.embeddings, projections })
    }

    /// Callbacks, metrics and the checkpoint of a step.
    pub(crate) fn after(
        &mut self,
        step: u64,
        batch: &Batch,
        projected: Projected,
        interrupted: bool,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let (done, total) = (step + 1, self.state.total);
        let settings = self.resolved.settings();
        let is_logged = self.is_logged(done);
        if is_logged {
            self.add_rates(&projected)?;
        }
        let ended = self.call_back(batch, &projected, is_logged, observer)? == Flow::Stop;
        let [ended, interrupted] = any(self.group.as_ref(), [ended, interrupted])?;
        let mut stopping = interrupted && done < total;
        if ended && done < total {
            self.state.ended = true;
            stopping = false;
        }
        let is_last = stopping || self.state.ended;
        if is_last && !is_logged {
            self.add_rates(&projected)?;
        }
        if is_logged || is_last {
            self.log(done, observer)?;
            if self.group.size() > 1 {
                let checksum = flat::checksum(&self.learner()?.model)?;
                same_weights(self.group.as_ref(), checksum, done)?;
            }
        }
        let (minutes, every) = (settings.checkpoint.minutes, settings.checkpoint.steps);
        let due = minutes > 0.0 && self.saved_at.elapsed().as_secs_f64() >= minutes * 60.0
            || every > 0 && done.is_multiple_of(every);
        if done == total || self.state.ended || stopping || due {
            self.save(done, observer)?;
        }
        observer.event(Event::Step(done));
        if stopping {
            let run = self.dir.path().to_path_buf();
            return Err(TrainError::Interrupted { step: done, run });
        }
        Ok(())
    }

    fn add_rates(&mut self, projected: &Projected) -> Result<()> {
        let dim = self.resolved.settings().projector.output;
        let rows = match self.readback.projections.take() {
            Some(rows) => rows,
            None => projected.projections.clone().try_into_vec_as::<f32>()?,
        };
        self.scalars.insert("effective_rank".into(), Rows::new(&rows, dim).effective_rank());
        let rates = self.meter.rates();
        self.scalars.extend(rates.map(|(name, value)| (name.to_string(), value)));
        Ok(())
    }

    fn call_back(
        &mut self,
        batch: &Batch,
        projected: &Projected,
        is_logged: bool,
        observer: &mut dyn Observer,
    ) -> Result<Flow> {
        let mut callbacks = std::mem::take(&mut self.callbacks);
        let mut scalars = std::mem::take(&mut self.scalars);
        let read = std::mem::take(&mut self.readback.callbacks);
        let (mut warnings, mut flow) = (Vec::new(), Flow::Continue);
        let learner = self.learner()?;
        for (i, callback) in callbacks.iter_mut().enumerate() {
            let mut at = AfterStep {
                step: self.state.step,
                total: self.state.total,
                is_logged,
                learner,
                batch,
                samples: &projected.samples,
                embeddings: &projected.embeddings,
                projections: &projected.projections,
                read: read.get(i).map_or(&[], Vec::as_slice),
                scalars: &mut scalars,
                warnings: &mut warnings,
            };
            if callback.after_step(&mut at)? == Flow::Stop {
                let name = callback.name();
                observer.event(Event::Note(&format!("the callback {name} ends the run")));
                flow = Flow::Stop;
            }
        }
        (self.callbacks, self.scalars) = (callbacks, scalars);
        warnings.into_iter().for_each(|text| self.warn(text, observer));
        Ok(flow)
    }

    fn log(&mut self, done: u64, observer: &mut dyn Observer) -> Result<()> {
        let epoch = done as f64 / self.order.steps_per_epoch() as f64;
        let mut scalars = std::mem::take(&mut self.scalars);
        let mut left_out = Vec::new();
        scalars.retain(|name, value| {
            let loggable = value.is_finite() && name != "step" && name != "epoch";
            if !loggable {
                left_out.push(format!("the scalar `{name}` is not logged: {value} at step {done}"));
            }
            loggable
        });
        for text in left_out {
            self.warn(text, observer);
        }
        let metrics = StepMetrics { step: done, epoch, scalars };
        if self.is_root() {
            self.dir.append_metrics(&metrics)?;
        }
        if let Some(events) = &mut self.events {
            let named = metrics.scalars.iter().map(|(name, value)| (name.as_str(), *value));
            events.scalars(done, &named.collect::<Vec<_>>())?;
        }
        observer.event(Event::Metrics(&metrics));
        self.last = Some(metrics);
        Ok(())
    }

    fn save(&mut self, done: u64, observer: &mut dyn Observer) -> Result<()> {
        if !self.is_root() {
            return Ok(());
        }
        // A checkpoint is there to go on from: one with NaN in it would be worse than none.
        if let Some(name) = self.learner()?.model.first_not_finite() {
            let what = format!("the parameter {name} has values that are not finite");
            let saved = checkpoint::latest(self.dir).ok();
            return Err(TrainError::NotFinite { what, step: done, saved });
        }
        self.callbacks.iter_mut().for_each(|callback| callback.before_save(done));
        let learner = self.learner()?;
        let mut contents = Contents::new(&learner.model, &learner.optimizer, &self.state);
        for callback in &self.callbacks {
            if let Some(state) = callback.save()? {
                contents.callbacks.push((callback.name().to_string(), state));
            }
            contents.pinned.extend(callback.pinned());
        }
        contents.evaluated = self.other_weights()?;
        let path = checkpoint::save(self.dir, &contents, &self.resolved.settings().checkpoint)?;
        self.saved_at = Instant::now();
        observer.event(Event::Saved(&path));
        Ok(())
    }

    /// The weights of the last callback that gives any.
    fn other_weights(&self) -> Result<Option<Model>> {
        for callback in self.callbacks.iter().rev() {
            if let Some(model) = callback.evaluated()? {
                return Ok(Some(model));
            }
        }
        Ok(None)
    }

    /// The weights to probe.
    pub(crate) fn evaluated(&self) -> Result<Model> {
        Ok(match self.other_weights()? {
            Some(model) => model,
            None => self.learner()?.model.clone(),
        })
    }

    /// The result of the run.
    pub(crate) fn finish(
        self,
        probes: Vec<ProbeComparison>,
        retrieval: Vec<Retrieval>,
        unread: Vec<Skipped>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let mut skipped = self.state.scanned_out;
        skipped.extend(self.state.turned_bad);
        for s in unread {
            if skipped.iter().all(|known| known.index != s.index) {
                observer.event(Event::Skipped(&s));
                skipped.push(s);
            }
        }
        let last = self.last.ok_or_else(|| lejepa_core::Error::Data {
            reason: "the run has no steps".into(),
            hint: "raise train.epochs or train.steps".into(),
        })?;
        Ok(Outcome {
            run: self.dir.path().to_path_buf(),
            steps: self.state.step,
            last,
            skipped,
            warnings: self.warnings,
            probes,
            retrieval,
        })
    }

    fn warn(&mut self, text: String, observer: &mut dyn Observer) {
        observer.event(Event::Warning(&text));
        self.warnings.push(text);
    }

    fn learner(&self) -> Result<&Learner> {
        self.learner.as_ref().ok_or_else(lost)
    }

    fn take_learner(&mut self) -> Result<Learner> {
        self.learner.take().ok_or_else(lost)
    }
}

fn lost() -> TrainError {
    TrainError::Device("the model was lost in a step that failed".into())
}
