//! How long operations take, for benchmarks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Which way an operation went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Forward,
    Back,
}

/// What an operation of this crate took in all.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationTime {
    /// The function that is the operation: `"transformer_block"`, ...; its way back ends in `" back"`.
    pub name: String,
    /// How often it ran.
    pub calls: usize,
    /// Wall time.
    pub time: Duration,
}

static ON: AtomicBool = AtomicBool::new(false);
/// Calls and time of each operation and way.
type Times = BTreeMap<(&'static str, Way), (usize, Duration)>;

static TIMES: Mutex<Times> = Mutex::new(BTreeMap::new());

/// Runs `work` and tells what each operation of this crate took meanwhile, on whatever thread it was
/// called, the longest first. One profile at a time: another one would see the same operations.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex().autodiff();
/// let (gradients, times) = lejepa_kernels::profile(|| {
///     let x = Tensor::<2>::ones([4, 8], &device).require_grad();
///     lejepa_kernels::layer_norm(x, Tensor::ones([8], &device), Tensor::zeros([8], &device), 1e-5)
///         .sum()
///         .backward()
/// });
/// let names: std::collections::BTreeSet<_> = times.iter().map(|t| t.name.as_str()).collect();
/// assert_eq!(names.into_iter().collect::<Vec<_>>(), ["layer_norm", "layer_norm back"]);
/// assert!(times.iter().all(|t| t.calls == 1));
/// # drop(gradients);
/// ```
pub fn profile<T>(work: impl FnOnce() -> T) -> (T, Vec<OperationTime>) {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.store(false, Ordering::Relaxed);
        }
    }
    let times = || TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    times().clear();
    let off = Off;
    ON.store(true, Ordering::Relaxed);
    let result = work();
    drop(off);
    let row = |(&(name, way), &(calls, time)): (&(&str, Way), &(usize, Duration))| {
        let name = format!("{name}{}", if way == Way::Back { " back" } else { "" });
        OperationTime { name, calls, time }
    };
    let mut rows: Vec<OperationTime> = times().iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.time));
    (result, rows)
}

/// Runs an operation, on the clock if there is one.
pub(crate) fn timed<T>(name: &'static str, way: Way, work: impl FnOnce() -> T) -> T {
    if !ON.load(Ordering::Relaxed) {
        return work();
    }
    let start = Instant::now();
    let result = work();
    let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    let (calls, time) = times.entry((name, way)).or_default();
    *calls += 1;
    *time += start.elapsed();
    result
}
