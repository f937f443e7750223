//! The training loop: one straight line from a configuration to a probed run folder.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::Device;
use lejepa_core::{SourceKind, Value, ViewSource};

use crate::budget::steps_that_fit;
use crate::callback::Callback;
use crate::comparison::compare_probes;
use crate::group::{Alone, Group, LEFT, Threads};
use crate::observe::{Event, Observer, Silent};
use crate::outcome::{Outcome, Start};
use crate::prepared::Prepared;
use crate::report::{run_info, with_status};
use crate::resolved::Resolved;
use crate::retrieval::retrieval;
use crate::run::Run;
use crate::run::agreement::Shared;
use crate::rundir::RunDir;
use crate::{Result, TrainError};

/// A training run.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
/// // `resolved` is a configuration of two steps on the built-in digits.
/// let (run, device) = (RunDir::create(&folder.path().join("run"))?, Device::flex());
/// let outcome = Trainer::new(&resolved, &device).run(&run, Start::New)?;
/// assert_eq!(outcome.steps, 2);
/// assert!(outcome.last.get("sigreg").is_finite() && outcome.skipped.is_empty());
/// // Resuming a finished run does nothing but report it again.
/// let again = Trainer::new(&resolved, &device).run(&run, Start::Resume)?;
/// assert_eq!(again.last.get("loss"), outcome.last.get("loss"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "it does nothing until `run`"]
pub struct Trainer<'a> {
    resolved: &'a Resolved,
    device: &'a Device,
    others: &'a [Device],
    source: Option<(Arc<dyn ViewSource>, SourceKind)>,
    callbacks: Vec<Box<dyn Callback>>,
    group: Arc<dyn Group>,
    stop: Option<&'a AtomicBool>,
    observer: Option<&'a mut dyn Observer>,
}

impl<'a> Trainer<'a> {
    /// A training run with this configuration.
    pub fn new(resolved: &'a Resolved, device: &'a Device) -> Self {
        Self {
            resolved,
            device,
            others: &[],
            source: None,
            callbacks: Vec::new(),
            group: Arc::new(Alone),
            stop: None,
            observer: None,
        }
    }

    /// Trains on this data instead of `data.source`. Its views have to be those of the configuration.
    pub fn source(mut self, source: Arc<dyn ViewSource>) -> Self {
        self.source = Some((source, SourceKind::Files));
        self
    }

    /// Trains on the configured data, which is open already ([`Resolved::open_configured`]).
    pub fn opened(mut self, source: Box<dyn ViewSource>) -> Self {
        let kind = SourceKind::of(&self.resolved.settings().data.source);
        self.source = Some((Arc::from(source), kind));
        self
    }

    /// Adds a callback, which comes after those of the configuration. See [`Callback`] for an example.
    pub fn callback(mut self, callback: Box<dyn Callback>) -> Self {
        self.callbacks.push(callback);
        self
    }

    /// Divides each step among the workers of a group. Every rank runs the same configuration on the same data and
    /// run folder; rank 0 alone writes, runs callbacks and probes.
    pub fn group(mut self, group: Arc<dyn Group>) -> Self {
        self.group = group;
        self
    }

    /// Divides each step among the device and these others, with a thread for each, which are then the group.
    pub fn devices(mut self, others: &'a [Device]) -> Self {
        self.others = others;
        self
    }

    /// Ends the run in an orderly way after the step during which this becomes true.
    pub fn stop<'b>(self, stop: &'b AtomicBool) -> Trainer<'b>
    where
        'a: 'b,
    {
        let Self { resolved, device, others, source, callbacks, group, observer, .. } = self;
        // An observer behind `&mut` has to be borrowed for the shorter time by hand.
        let observer = observer.map(|observer| observer as &mut dyn Observer);
        let stop = Some(stop);
        Trainer { resolved, device, others, source, callbacks, group, stop, observer }
    }

    /// Tells `observer` what happens.
    pub fn observer<'b>(self, observer: &'b mut dyn Observer) -> Trainer<'b>
    where
        'a: 'b,
    {
        let Self { resolved, device, others, source, callbacks, group, stop, .. } = self;
        let observer = Some(observer);
        Trainer { resolved, device, others, source, callbacks, group, stop, observer }
    }

    /// Trains to the end, saves, probes.
    ///
    /// # Errors
    /// See [`TrainError`]; [`TrainError::Interrupted`] where [`Trainer::stop`] became true.
    pub fn run(self, dir: &RunDir, start: Start) -> Result<Outcome> {
        if self.others.is_empty() {
            self.run_alone(dir, start)
        } else {
            self.run_in_threads(dir, start)
        }
    }

    /// The same, as rank 0 of threads that each have one of the devices.
    fn run_in_threads(mut self, dir: &RunDir, start: Start) -> Result<Outcome> {
        if self.group.size() > 1 {
            let reason = "workers of a group have one device each";
            return Err(TrainError::Group(reason.into()));
        }
        let mut ranks = Threads::group(1 + self.others.len()).into_iter().map(Arc::new);
        let others = std::mem::take(&mut self.others);
        let first = ranks.next();
        let (resolved, source, stop) = (self.resolved, self.source.clone(), self.stop);
        let work = |device: &'a Device, rank: Arc<Threads>| {
            let mut trainer = Trainer::new(resolved, device).group(rank.clone());
            (trainer.source, trainer.stop) = (source.clone(), stop);
            let result = trainer.run_alone(dir, start);
            rank.leave();
            result
        };
        std::thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = others
                .iter()
                .zip(ranks)
                .map(|(device, rank)| scope.spawn(move || work(device, rank)))
                .collect();
            if let Some(first) = &first {
                self.group = first.clone();
            }
            let mut result = self.run_alone(dir, start);
            if let Some(first) = first {
                first.leave();
            }
            for (rank, thread) in (1..).zip(threads) {
                let ended = thread.join();
                let reason = match ended {
                    Ok(Ok(_)) => continue,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "it panicked".into(),
                };
                // Why a worker ended says more than that it did.
                let is_gone = |e: &TrainError| matches!(e, TrainError::Group(why) if why == LEFT);
                if result.as_ref().is_err_and(is_gone) && !reason.contains(LEFT) {
                    result = Err(TrainError::Worker { rank, reason });
                }
            }
            result
        })
    }

    fn run_alone(mut self, dir: &RunDir, start: Start) -> Result<Outcome> {
        let mut silent = Silent;
        let observer = self.observer.take().unwrap_or(&mut silent);
        let began = Instant::now();
        let is_root = self.group.rank() == 0;
        if !is_root {
            return self.train_and_probe(dir, start, began, observer);
        }
        let _lock = dir.lock()?;
        if start == Start::New {
            let config = self.resolved.to_toml()?;
            crate::rundir::write_atomically(&dir.config_file(), config.as_bytes())?;
        }
        let info = run_info(self.resolved, self.device, self.group.size());
        dir.write_info(&with_status(&info, "running"))?;
        let result = self.train_and_probe(dir, start, began, observer);
        let status = match &result {
            Ok(_) => "finished",
            Err(TrainError::Interrupted { .. }) => "interrupted",
            Err(_) => "failed",
        };
        // The reason of a failure matters more than that it could not be noted.
        let mut info = with_status(&info, status);
        if let Ok(outcome) = &result {
            info["probes"] = serde_json::to_value(&outcome.probes).unwrap_or_default();
            if !outcome.retrieval.is_empty() {
                info["retrieval"] = serde_json::to_value(&outcome.retrieval).unwrap_or_default();
            }
        }
        let noted = dir.write_info(&info);
        let outcome = result?;
        noted?;
        Ok(outcome)
    }

    fn train_and_probe(
        self,
        dir: &RunDir,
        start: Start,
        began: Instant,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let Self { resolved, device, source, callbacks, group, stop, .. } = self;
        let is_root = group.rank() == 0;
        let prepared = match source {
            None => Prepared::new(resolved, observer)?,
            Some((source, kind)) if source.spec() == resolved.spec() => {
                Prepared::of(source, kind, resolved.settings(), observer)?
            }
            Some((source, _)) => {
                return Err(lejepa_core::Error::Data {
                    reason: format!(
                        "the data's views are {:?}, the configuration's {:?}",
                        source.spec(),
                        resolved.spec()
                    ),
                    hint: "open the data with `Resolved::open`".into(),
                }
                .into());
            }
        };
        let fitted = match &resolved.settings().train {
            train if start == Start::New && train.minutes > 0.0 && train.steps == 0 => {
                let steps = steps_that_fit(resolved, &prepared, device, &group, began, observer)?;
                let fitted = resolved.with([("train.steps", Value::Integer(steps as i64))])?;
                // The steps are the run's from here on: it repeats and resumes with them.
                if is_root {
                    let config = fitted.to_toml()?;
                    crate::rundir::write_atomically(&dir.config_file(), config.as_bytes())?;
                }
                Some(fitted)
            }
            _ => None,
        };
        let resolved = fitted.as_ref().unwrap_or(resolved);
        let mut run =
            Run::begin(resolved, device, dir, &prepared, group, start, callbacks, observer)?;
        let mut loader = run.start(start, observer)?;
        if start == Start::Resume && is_root {
            // What may change when a run goes on is part of it from here on.
            let config = resolved.to_toml()?;
            crate::rundir::write_atomically(&dir.config_file(), config.as_bytes())?;
        }
        while let Some(step) = run.next_step() {
            let Shared { batch, samples, .. } = match run.batch(&mut loader, observer) {
                Ok(shared) => shared,
                Err(error) => {
                    run.keep(observer);
                    return Err(error);
                }
            };
            let pass = run.pass(&batch, step, observer)?;
            let projections = run.update(step, pass, samples)?;
            let asked = stop.is_some_and(|stop| stop.load(Ordering::Relaxed));
            run.after(step, &batch, projections, asked, observer)?;
        }
        drop(loader);
        observer.event(Event::End);
        if !is_root {
            return run.finish(Vec::new(), Vec::new(), Vec::new(), observer);
        }
        let model = run.evaluated()?;
        let (probes, unread) = compare_probes(&prepared, resolved, &model, device, observer)?;
        let retrieval = retrieval(&prepared, resolved, &model, device, observer)?;
        run.finish(probes, retrieval, unread, observer)
    }
}
