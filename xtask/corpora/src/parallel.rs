//! Work on all cores whose result does not depend on their number.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::corpus::Failure;

/// `job` of 0 to `count`, in that order. After a failure no new job starts.
pub(crate) fn map<T: Send>(
    count: usize,
    job: impl Fn(usize) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(done);
            }
            match job(index) {
                Ok(result) => done.push((index, result)),
                Err(failure) => {
                    next.store(count, Ordering::Relaxed);
                    return Err(failure);
                }
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<Result<Vec<(usize, T)>, Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        let panicked = |_| Err(Failure::Failed("a worker panicked".into()));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    let mut all = Vec::with_capacity(count);
    for part in parts {
        all.extend(part?);
    }
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_a_failure_comes_out() {
        assert_eq!(map(100, |i| Ok(i * 2)).unwrap(), (0..100).map(|i| i * 2).collect::<Vec<_>>());
        let odd = |i| if i == 7 { Err(Failure::Skipped("seven".into())) } else { Ok(i) };
        assert!(matches!(map(100, odd), Err(Failure::Skipped(_))));
    }
}
