//! The background loader: batches of views in a fixed order, whatever the number of workers.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use lejepa_core::{Error, Purpose, Seed, View, ViewSource, ViewSpec, Views};
use rand::RngExt;
use rand::seq::SliceRandom;

use crate::data::{Skipped, skip};
use crate::{Result, TrainError};

/// The views of one step, as the sampler made them.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Global views, view-major: the first one of every sample, then the second one of every sample, ...
    pub globals: Vec<View>,
    /// Local views likewise; empty where there are none.
    pub locals: Vec<View>,
    /// Samples that could not be used and were replaced.
    pub replaced: Vec<Skipped>,
}

/// Views of some samples of a batch, in the order of [`Batch`].
pub(crate) struct Part<'a> {
    pub(crate) globals: Vec<&'a View>,
    pub(crate) locals: Vec<&'a View>,
}

impl Batch {
    /// The views in `parts` parts of about as many samples each, at least one.
    pub(crate) fn split(&self, views: &ViewSpec, parts: usize) -> Vec<Part<'_>> {
        let samples = self.globals.len() / views.globals.max(1);
        let parts = parts.clamp(1, samples.max(1));
        let bounds: Vec<usize> = (0..=parts).map(|p| p * samples / parts).collect();
        bounds
            .windows(2)
            .map(|b| {
                let cut = |all| cut(all, samples, b[0]..b[1]);
                Part { globals: cut(&self.globals), locals: cut(&self.locals) }
            })
            .collect()
    }

    /// All of them.
    pub(crate) fn whole(&self) -> Part<'_> {
        Part { globals: self.globals.iter().collect(), locals: self.locals.iter().collect() }
    }
}

/// The views of some of the samples.
fn cut(all: &[View], samples: usize, some: std::ops::Range<usize>) -> Vec<&View> {
    all.chunks(samples.max(1)).flat_map(|view| &view[some.clone()]).collect()
}

/// Which samples make up which step. Everything follows from the seed and the step.
///
/// ```
/// use lejepa_core::Seed;
/// use lejepa_train::loader::Order;
///
/// let order = Order { indices: (0..10).collect::<Vec<_>>().into(), batch: 4, seed: Seed(1) };
/// assert_eq!(order.steps_per_epoch(), 2);
/// // No sample comes twice in a pass, and a step's samples do not depend on the steps before.
/// let mut seen = [order.samples(0), order.samples(1)].concat();
/// seen.sort();
/// seen.dedup();
/// assert_eq!(seen.len(), 8);
/// assert_eq!(order.samples(1), order.samples(1));
/// ```
#[derive(Debug, Clone)]
pub struct Order {
    /// Indices into the source, ascending.
    pub indices: Arc<Vec<usize>>,
    /// Samples per step; at most as many as there are indices.
    pub batch: usize,
    /// The run's seed.
    pub seed: Seed,
}

impl Order {
    /// Whole batches in one pass over the data; the rest is left out, another one each pass.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.indices.len() / self.batch).max(1) as u64
    }

    /// The samples of step `step` (0-based).
    pub fn samples(&self, step: u64) -> Vec<usize> {
        let (epoch, at) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let mut order = self.indices.as_ref().clone();
        order.shuffle(&mut self.seed.rng(Purpose::Shuffle, &[epoch]));
        order.into_iter().skip(at as usize * self.batch).take(self.batch).collect()
    }

    /// The sample that stands in for a bad one: the same for the same step and place.
    fn replacement(&self, step: u64, place: usize, attempt: u64) -> usize {
        let mut rng = self.seed.rng(Purpose::Replacement, &[step, place as u64, attempt]);
        self.indices[rng.random_range(0..self.indices.len())]
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic on this thread would be caught and told as an error about a sample, so that a
/// panic hook need not print it.
///
/// ```
/// // Code of a modality that panics while a sample is read is caught; here nothing is read.
/// assert!(!lejepa_train::loader::is_guarded());
/// ```
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// Runs code that is not ours so that a panic in it becomes words.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(false);
    result.map_err(|panic| {
        let words = panic.downcast_ref::<&str>().map(ToString::to_string);
        words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
    })
}

/// Runs plugin code so that a panic in it becomes an error about the sample.
pub(crate) fn guarded<T>(
    run: impl FnOnce() -> Result<T, Error>,
    name: impl FnOnce() -> String,
) -> Result<T, Error> {
    caught(run)
        .unwrap_or_else(|words| Err(Error::sample(name(), format!("the plugin panicked: {words}"))))
}

/// Tries for a bad sample's replacement before the batch is given up.
const ATTEMPTS: u64 = 64;

/// Makes the batch of one step. A sample that cannot be used is replaced by another one.
///
/// # Errors
/// The last sample's error where no replacement is usable either, or any error that is not about a
/// single sample.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
/// use lejepa_core::Seed;
/// use lejepa_train::loader::{Loader, Order, make_batch};
///
/// let digits = resolved.open(lejepa_core::Source::Demo)?;
/// let order = Order { indices: (0..100).collect::<Vec<_>>().into(), batch: 8, seed: Seed(0) };
/// let alone = make_batch(digits.as_ref(), &order, 1)?;
/// // Three threads make the same batches in the same order.
/// let mut loader = Loader::start(digits.into(), order, 0..2, 3, 2)?;
/// loader.next_batch()?;
/// assert_eq!(loader.next_batch()?, alone);
/// assert_eq!(loader.bad(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn make_batch(source: &dyn ViewSource, order: &Order, step: u64) -> Result<Batch> {
    let mut replaced = Vec::new();
    let mut samples: Vec<Views> = Vec::with_capacity(order.batch);
    for (place, wanted) in order.samples(step).into_iter().enumerate() {
        let mut index = wanted;
        let mut attempt = 0;
        loop {
            let mut rng = order.seed.rng(Purpose::Views, &[step, place as u64, attempt]);
            let views = || {
                let views = source.views(index, &mut rng)?;
                source.spec().check(&views).map(|()| views)
            };
            match guarded(views, || source.name(index)) {
                Ok(views) => break samples.push(views),
                Err(error @ Error::Sample { .. }) if attempt < ATTEMPTS => {
                    replaced.push(skip(source, index, error));
                    attempt += 1;
                    index = order.replacement(step, place, attempt);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    let mut batch = Batch { globals: Vec::new(), locals: Vec::new(), replaced };
    let (globals, locals) = samples.into_iter().map(|v| (v.globals, v.locals)).unzip();
    batch.globals = view_major(globals);
    batch.locals = view_major(locals);
    Ok(batch)
}

/// The first view of every sample, then the second one of every sample, ...
fn view_major(samples: Vec<Vec<View>>) -> Vec<View> {
    let mut samples: Vec<_> = samples.into_iter().map(Vec::into_iter).collect();
    let views = samples.first().map_or(0, ExactSizeIterator::len);
    let mut all = Vec::with_capacity(views * samples.len());
    for _ in 0..views {
        all.extend(samples.iter_mut().filter_map(Iterator::next));
    }
    all
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

/// Batches from `first` to `end`, made ahead by worker threads and handed out in order.
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
        steps: std::ops::Range<u64>,
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
    pub(crate) fn know(&mut self, bad: &[Skipped]) {
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
        let batch = make_batch(shared.source.as_ref(), &shared.order, step);
        if to_trainer.send((step, batch)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lejepa_core::{Labels, Split, ViewRng, ViewSpec};

    /// Ten samples whose view is their index; the third is bad, the fifth panics.
    struct Numbers {
        spec: ViewSpec,
        bad: bool,
    }

    impl Numbers {
        fn source(bad: bool) -> Arc<dyn ViewSource> {
            let spec = ViewSpec { globals: 2, locals: 0, global: vec![1, 1], local: vec![1, 1] };
            Arc::new(Self { spec, bad })
        }
    }

    impl ViewSource for Numbers {
        fn len(&self) -> usize {
            10
        }
        fn name(&self, index: usize) -> String {
            format!("n{index}")
        }
        fn spec(&self) -> &ViewSpec {
            &self.spec
        }
        fn labels(&self) -> &[Labels] {
            &[]
        }
        fn split(&self, _: usize) -> Option<Split> {
            None
        }
        fn views(&self, index: usize, rng: &mut ViewRng) -> Result<Views, Error> {
            assert!(!self.bad || index != 5, "five is right out");
            if self.bad && index == 3 {
                return Err(Error::sample(self.name(index), "three is bad"));
            }
            let mut view = || View::new([1, 1], vec![index as f32 + rng.random_range(0.0..0.5)]);
            Ok(Views { globals: vec![view()?, view()?], locals: vec![] })
        }
        fn eval_view(&self, index: usize) -> Result<View, Error> {
            View::new([1, 1], vec![index as f32])
        }
    }

    fn order() -> Order {
        Order { indices: Arc::new((0..10).collect()), batch: 3, seed: Seed(1) }
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
    fn an_epoch_sees_each_sample_once() {
        let o = order();
        assert_eq!(o.steps_per_epoch(), 3);
        for epoch in 0..4 {
            let mut seen: Vec<usize> = (0..3).flat_map(|s| o.samples(epoch * 3 + s)).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), 9);
        }
        assert_ne!(o.samples(0), o.samples(3));
    }

    #[test]
    fn bad_samples_are_replaced_named_once_and_do_not_panic() {
        let batches = all(true, 2, 0);
        let named: Vec<&Skipped> = batches.iter().flat_map(|b| &b.replaced).collect();
        let mut indices: Vec<usize> = named.iter().map(|s| s.index).collect();
        indices.sort_unstable();
        assert_eq!(indices, [3, 5]);
        assert!(named.iter().any(|s| s.reason.contains("five is right out")));
        for b in &batches {
            assert_eq!(b.globals.len(), 6);
            let bad = |x: f32| (3.0..3.5).contains(&x) || (5.0..5.5).contains(&x);
            assert!(!b.globals.iter().any(|view| bad(view.data()[0])));
        }
        assert_eq!(batches, all(true, 1, 0));
    }

    #[test]
    fn parts_hold_all_views_of_their_samples() {
        let view = |x: usize| View::new([1, 1], vec![x as f32]).unwrap();
        // Two views of each of seven samples, and three smaller ones.
        let batch = Batch {
            globals: (0..14).map(view).collect(),
            locals: (100..121).map(view).collect(),
            replaced: Vec::new(),
        };
        let (global, local) = (vec![1, 1], vec![1, 1]);
        let spec = ViewSpec { globals: 2, locals: 3, global, local };
        let parts = batch.split(&spec, 3);
        let number = |views: &[&View]| -> Vec<usize> {
            views.iter().map(|view| view.data()[0] as usize).collect()
        };
        let samples = [vec![0, 1], vec![2, 3], vec![4, 5, 6]];
        for (part, samples) in parts.iter().zip(&samples) {
            let of = |first: usize, views: usize| -> Vec<usize> {
                (0..views).flat_map(|v| samples.iter().map(move |s| first + 7 * v + s)).collect()
            };
            assert_eq!(number(&part.globals), of(0, 2));
            assert_eq!(number(&part.locals), of(100, 3));
        }
        assert_eq!(
            [parts.len(), batch.split(&spec, 99).len(), batch.split(&spec, 0).len()],
            [3, 7, 1]
        );
    }

    #[test]
    fn a_loader_that_is_dropped_early_ends() {
        let mut loader = Loader::start(Numbers::source(false), order(), 0..1000, 3, 2).unwrap();
        loader.next_batch().unwrap();
        drop(loader);
    }
}
