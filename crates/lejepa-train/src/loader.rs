//! The background loader: batches of views in a fixed order, whatever the number of workers.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use lejepa_core::{Error, Purpose, ViewSource};

use crate::batch::Batch;
use crate::guard::{catch_panics, guarded};
use crate::order::ATTEMPTS;
use crate::order::Order;
use crate::skipped::Skipped;
use crate::{Result, TrainError};

/// Makes the batch of some places of one step, or of all of them. A sample that cannot be used is
/// replaced by another one.
///
/// # Errors
/// [`TrainError::TooFewLeft`] where no sample is usable, or any error that is not about a single sample.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
/// use lejepa_core::{Seed, Source};
/// use lejepa_train::{Loader, Order, make_batch};
///
/// let digits = resolved.open(Source::Demo)?;
/// let order = Order::new((0..100).collect(), 8, Seed(0));
/// let alone = make_batch(digits.as_ref(), &order, 1, 0..8)?;
/// assert_eq!(alone.samples(), order.samples(1));
/// // Three threads make the same batches in the same order.
/// let mut loader = Loader::start(digits.into(), order, 0..2, 3, 2)?;
/// loader.next_batch()?;
/// assert_eq!(loader.next_batch()?, alone);
/// assert_eq!(loader.bad(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn make_batch(
    source: &dyn ViewSource,
    order: &Order,
    step: u64,
    places: Range<usize>,
) -> Result<Batch> {
    let mut replaced = Vec::new();
    let wanted = order.places(step, places.clone());
    let mut samples = Vec::with_capacity(wanted.len());
    let mut all = Vec::with_capacity(wanted.len());
    for (place, wanted) in places.zip(wanted) {
        let mut index = wanted;
        let mut attempt = 0;
        loop {
            let address = [step, place as u64, attempt];
            let mut rng = order.seed().rng(Purpose::Views, &address);
            let companions = order.companions(source.companions(), index, address);
            let views = guarded(
                || source.checked_views(index, &companions, &mut rng),
                || source.name(index),
            );
            match views {
                Ok(views) => {
                    samples.push(index);
                    all.push(views);
                    break;
                }
                Err(error @ Error::Sample { .. }) => {
                    let total = order.indices().len();
                    if attempt > ATTEMPTS + total as u64 {
                        let last = error.to_string();
                        return Err(TrainError::TooFewLeft { total, batch: order.batch(), last });
                    }
                    let (bad, error) = culprit(source, index, &companions, error);
                    replaced.push(Skipped::new(source, bad, error));
                    attempt += 1;
                    // Another companion is drawn with the next attempt.
                    if bad == index {
                        index = order.replacement(step, place, attempt);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    let mut batch = Batch::new(source.spec().clone(), samples, all)?;
    batch.replaced = replaced;
    Ok(batch)
}

/// Which of a sample and its companions an error is about, and its error.
fn culprit(
    source: &dyn ViewSource,
    index: usize,
    companions: &[usize],
    error: Error,
) -> (usize, Error) {
    let Error::Sample { name, .. } = &error else { return (index, error) };
    if *name != source.name(index) {
        let named = companions.iter().copied().find(|&other| source.name(other) == *name);
        return (named.unwrap_or(index), error);
    }
    // A panic names the sample, whichever of them it came from: who fails alone?
    let alone = |item| guarded(|| source.checked_eval_views(item), || source.name(item)).err();
    if companions.is_empty() || alone(index).is_some() {
        return (index, error);
    }
    let other = companions.iter().find_map(|&other| Some((other, alone(other)?)));
    other.unwrap_or((index, error))
}

struct Shared {
    source: Arc<dyn ViewSource>,
    order: Order,
    end: u64,
    ahead: u64,
    state: Mutex<Tickets>,
    moved: Condvar,
    stop: AtomicBool,
}

struct Tickets {
    next: u64,
    consumed: u64,
}

/// Batches of the places that are this worker's ([`Order::own`]), made ahead by threads and handed out in order.
pub struct Loader {
    shared: Arc<Shared>,
    from_workers: Receiver<(u64, Result<Batch>)>,
    waiting: BTreeMap<u64, Result<Batch>>,
    next: u64,
    threads: Vec<JoinHandle<()>>,
    known_bad: HashSet<usize>,
}

impl Loader {
    /// Starts `workers` threads (at least one) that keep `prefetch` batches ready.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the system gives no thread.
    pub fn start(
        source: Arc<dyn ViewSource>,
        order: Order,
        steps: Range<u64>,
        workers: usize,
        prefetch: usize,
    ) -> Result<Self> {
        let workers = workers.max(1);
        let shared = Arc::new(Shared {
            source,
            order,
            end: steps.end,
            ahead: (prefetch.max(1) as u64).max(workers as u64),
            state: Mutex::new(Tickets { next: steps.start, consumed: steps.start }),
            moved: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let (to_trainer, from_workers) = channel();
        let mut loader = Self {
            shared: shared.clone(),
            from_workers,
            waiting: BTreeMap::new(),
            next: steps.start,
            threads: Vec::new(),
            known_bad: HashSet::new(),
        };
        for i in 0..workers {
            let (shared, to_trainer) = (shared.clone(), to_trainer.clone());
            let thread = std::thread::Builder::new()
                .name(format!("loader-{i}"))
                .spawn(move || work(&shared, &to_trainer))
                .map_err(TrainError::io("start a thread for", std::path::Path::new("loader")))?;
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// The batch of the next step; waits for it where it is not ready.
    ///
    /// `replaced` of the batch holds only samples that were not known to be bad before.
    ///
    /// # Errors
    /// What [`make_batch`] says.
    pub fn next_batch(&mut self) -> Result<Batch> {
        while !self.waiting.contains_key(&self.next) {
            match self.from_workers.recv() {
                Ok((step, batch)) => {
                    self.waiting.insert(step, batch);
                }
                Err(_) => {
                    return Err(TrainError::Core(Error::Data {
                        reason: "the loader ended before the run did".into(),
                        hint: String::new(),
                    }));
                }
            }
        }
        let batch = self.waiting.remove(&self.next);
        self.next += 1;
        {
            let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.consumed = self.next;
        }
        self.shared.moved.notify_all();
        let mut batch = batch.unwrap_or_else(|| {
            Err(TrainError::Core(Error::Data { reason: "no batch".into(), hint: String::new() }))
        })?;
        batch.replaced.retain(|s| self.known_bad.insert(s.index));
        Ok(batch)
    }

    /// Counts samples as bad that were found so before an interruption.
    pub(crate) fn mark_bad(&mut self, bad: &[Skipped]) {
        self.known_bad.extend(bad.iter().map(|s| s.index));
    }

    /// How many samples have turned bad so far.
    pub fn bad(&self) -> usize {
        self.known_bad.len()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.moved.notify_all();
        for thread in self.threads.drain(..) {
            // A worker never panics (plugin code is guarded); there is nobody to tell if it did.
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared, to_trainer: &Sender<(u64, Result<Batch>)>) {
    loop {
        let step = {
            let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if shared.stop.load(Ordering::Relaxed) || state.next >= shared.end {
                    return;
                }
                if state.next < state.consumed + shared.ahead {
                    break;
                }
                // The time-out covers a stop that is signalled between the check and the wait.
                let wait = std::time::Duration::from_millis(50);
                state = shared
                    .moved
                    .wait_timeout(state, wait)
                    .map_or_else(|e| e.into_inner().0, |(guard, _)| guard);
            }
            state.next += 1;
            state.next - 1
        };
        // A panic of plugin code here must not leave the trainer waiting for this step.
        let order = &shared.order;
        let make = || make_batch(shared.source.as_ref(), order, step, order.own());
        let batch = catch_panics(make).unwrap_or_else(|message| {
            let reason = format!("the plugin panicked: {message}");
            Err(Error::Data { reason, hint: String::new() }.into())
        });
        if to_trainer.send((step, batch)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lejepa_core::{Seed, View, ViewRng, ViewSpec, Views};
    use rand::RngExt;

    /// Ten samples whose view is their index; the third is bad, the fifth panics.
    struct Numbers {
        spec: Arc<ViewSpec>,
        bad: bool,
    }

    impl Numbers {
        fn source(bad: bool) -> Arc<dyn ViewSource> {
            Arc::new(Self { spec: Arc::new(ViewSpec::multi_crop(2, [1, 1], 0, [1, 1])), bad })
        }
    }

    impl ViewSource for Numbers {
        fn len(&self) -> usize {
            10
        }
        fn name(&self, index: usize) -> String {
            format!("n{index}")
        }
        fn spec(&self) -> &Arc<ViewSpec> {
            &self.spec
        }
        fn companions(&self) -> usize {
            1
        }
        fn views(&self, index: usize, with: &[usize], rng: &mut ViewRng) -> Result<Views, Error> {
            if self.bad && with == [8] {
                return Err(Error::sample(self.name(8), "eight is bad company"));
            }
            assert!(!self.bad || index != 5, "five is right out");
            assert!(!self.bad || (index != 7 && with != [7]), "seven is rotten");
            if self.bad && index == 3 {
                return Err(Error::sample(self.name(index), "three is bad"));
            }
            let mut view = || View::new([1, 1], vec![index as f32 + rng.random_range(0.0..0.5)]);
            Ok(Views::multi_crop(vec![view()?, view()?], vec![]))
        }
        fn eval_view(&self, index: usize) -> Result<View, Error> {
            assert!(!self.bad || index != 7, "seven is rotten");
            View::new([1, 1], vec![index as f32])
        }
    }

    fn order() -> Order {
        Order::new((0..10).collect(), 3, Seed(1))
    }

    fn all(bad: bool, workers: usize, first: u64) -> Vec<Batch> {
        let mut loader =
            Loader::start(Numbers::source(bad), order(), first..12, workers, 2).unwrap();
        (first..12).map(|_| loader.next_batch().unwrap()).collect()
    }

    #[test]
    fn batches_are_the_same_for_any_number_of_workers_and_any_start() {
        let one = all(false, 1, 0);
        assert_eq!(one, all(false, 4, 0));
        // Starting in the middle of an epoch gives what an uninterrupted run would have had.
        assert_eq!(one[5..], all(false, 3, 5));
    }

    #[test]
    fn bad_samples_are_replaced_named_once_and_do_not_panic() {
        let batches = all(true, 2, 0);
        let named: Vec<&Skipped> = batches.iter().flat_map(|b| b.replaced()).collect();
        let mut indices: Vec<usize> = named.iter().map(|s| s.index).collect();
        indices.sort_unstable();
        // 7 panics as a companion too, which is not the fault of the sample beside it.
        assert_eq!(indices, [3, 5, 7, 8]);
        assert!(named.iter().any(|s| s.reason.contains("five is right out")));
        for b in &batches {
            assert_eq!(b.groups()[0].len(), 6);
            assert!([3, 5, 7].iter().all(|bad| !b.samples().contains(bad)));
            let bad = |x: f32| (3.0..3.5).contains(&x) || (5.0..5.5).contains(&x);
            assert!(!b.groups()[0].iter().any(|view| bad(view.data()[0])));
        }
        assert_eq!(batches, all(true, 1, 0));
    }

    #[test]
    fn a_loader_that_is_dropped_early_ends() {
        let mut loader = Loader::start(Numbers::source(false), order(), 0..1000, 3, 2).unwrap();
        loader.next_batch().unwrap();
        drop(loader);
    }
}
