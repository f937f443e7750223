//! Wall time of operations, for benchmarks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The pass of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pass {
    Forward,
    Backward,
}

/// Total time of an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationTime {
    /// Name of the function, e.g. `"transformer_block"`; `" backward"` is appended for its backward pass.
    pub name: String,
    /// Number of calls.
    pub calls: usize,
    /// Wall time.
    pub time: Duration,
}

static ENABLED: AtomicBool = AtomicBool::new(false);

/// Calls and time of each operation and pass.
type Times = BTreeMap<(&'static str, Pass), (usize, Duration)>;

static TIMES: Mutex<Times> = Mutex::new(BTreeMap::new());

/// Runs `work` and returns the time of every operation of this crate meanwhile, on all threads, longest
/// first. Profiles must not overlap: each would record the operations of both.
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
/// assert_eq!(names.into_iter().collect::<Vec<_>>(), ["layer_norm", "layer_norm backward"]);
/// assert!(times.iter().all(|t| t.calls == 1));
/// # drop(gradients);
/// ```
pub fn profile<T>(work: impl FnOnce() -> T) -> (T, Vec<OperationTime>) {
    struct Disable;
    impl Drop for Disable {
        fn drop(&mut self) {
            ENABLED.store(false, Ordering::Relaxed);
        }
    }
    let times = || TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    times().clear();
    let disable = Disable;
    ENABLED.store(true, Ordering::Relaxed);
    let result = work();
    drop(disable);
    let row = |(&(name, pass), &(calls, time)): (&(&str, Pass), &(usize, Duration))| {
        let name = format!("{name}{}", if pass == Pass::Backward { " backward" } else { "" });
        OperationTime { name, calls, time }
    };
    let mut rows: Vec<OperationTime> = times().iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.time));
    (result, rows)
}

/// Runs an operation and records its time, if profiling is enabled.
pub(crate) fn timed<T>(name: &'static str, pass: Pass, work: impl FnOnce() -> T) -> T {
    if !ENABLED.load(Ordering::Relaxed) {
        return work();
    }
    let start = Instant::now();
    let result = work();
    let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    let (calls, time) = times.entry((name, pass)).or_default();
    *calls += 1;
    *time += start.elapsed();
    result
}
