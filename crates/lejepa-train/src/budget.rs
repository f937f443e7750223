//! How many steps fit into the minutes that a user gives.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;

use crate::Result;
use crate::begin::workers;
use crate::group::Group;
use crate::loader::Loader;
use crate::observe::{Event, Observer};
use crate::prepared::Prepared;
use crate::probe::members;
use crate::readback::Readback;
use crate::resolved::Resolved;
use crate::run::agreement::any;

/// Steps that are not timed: caches fill and threads start.
const WARM_UP: u64 = 3;
/// Most steps that are timed, and the share of the budget after which timing ends.
const TIMED: (u64, f64) = (20, 0.03);
/// Seconds for fitting the probes of one label column.
const PROBE: f64 = 6.0;

/// The steps after which a run that began at `began` ends in time, its probes included.
///
/// The steps that are timed are thrown away: the run starts from its initial weights afterwards, so the same
/// configuration with the steps written in gives the same run.
pub(crate) fn steps_that_fit(
    resolved: &Resolved,
    prepared: &Prepared,
    device: &Device,
    group: &Arc<dyn Group>,
    began: Instant,
    observer: &mut dyn Observer,
) -> Result<u64> {
    let settings = resolved.settings();
    let seconds = settings.train.minutes * 60.0;
    let (most, share) = TIMED;
    let mut learner = resolved.learner(device)?.in_group(group.clone());
    let order = prepared.order(settings).of_rank(group.rank(), group.size());
    let (source, threads) = (prepared.source.clone(), workers(settings.data.workers));
    let total = WARM_UP + most;
    let mut loader =
        Loader::start(source, order.clone(), 0..total, threads, settings.data.prefetch)?;
    let mut from = Instant::now();
    let mut timed = 0;
    for step in 0..total {
        let batch = loader.next_batch()?;
        let pass = learner.pass(&batch, step)?;
        // Read as in a run: on a GPU a step is over when its losses are there.
        let _ = Readback::new(&pass, &batch, &[], false)?;
        learner = learner.update(settings.train.lr * 1e-3, pass.gradients);
        if step + 1 == WARM_UP {
            from = Instant::now();
        }
        timed = (step + 1).saturating_sub(WARM_UP);
        let enough = timed >= 2 && from.elapsed().as_secs_f64() > share * seconds;
        if any(group.as_ref(), [enough])? == [true] {
            break;
        }
    }
    drop(loader);
    let step = from.elapsed().as_secs_f64() / timed.max(1) as f64;
    let rest = seconds - began.elapsed().as_secs_f64() - probing(resolved, prepared, step);
    let steps = ((rest / step) as u64).max(1);
    // Those of rank 0, whose clock is not that of the others.
    let all = group.exchange(steps.to_le_bytes().to_vec())?;
    let first = all.first().and_then(|bytes| bytes.first_chunk());
    let steps = first.map_or(steps, |bytes| u64::from_le_bytes(*bytes));
    let passes = steps as f64 / order.steps_per_epoch() as f64;
    observer.event(Event::Note(&format!(
        "steps     {steps} fit into {} minutes at {:.0} ms a step: {passes:.1} passes over the data",
        settings.train.minutes,
        step * 1e3,
    )));
    if passes < 1.0 {
        observer.event(Event::Warning(
            "that is less than one pass over the data; give it more minutes",
        ));
    }
    Ok(steps)
}

/// Seconds that the probes at the end will take. A view is embedded without its backward pass, a third of the
/// work of a step.
fn probing(resolved: &Resolved, prepared: &Prepared, step: f64) -> f64 {
    let sets = &prepared.plan.probes;
    if !resolved.settings().probe.enabled || sets.is_empty() {
        return 0.0;
    }
    let cells = |shape: &[usize]| shape.iter().product::<usize>() as f64;
    let groups = resolved.spec().groups();
    let all: f64 = groups.iter().map(|g| g.count as f64 * cells(&g.max_shape())).sum();
    let evaluated = cells(&resolved.spec().shape());
    let view = step / resolved.settings().train.batch as f64 * evaluated / all.max(1.0) / 3.0;
    2.0 * view * members(sets).len() as f64 + PROBE * sets.len() as f64
}
