//! Deterministic parallel sums: the partition and the order of additions depend on the number of items
//! alone, not on the number of threads.

use rayon::prelude::*;

use crate::buffer::{Buffer, split};
use crate::elementwise;
use crate::output::OutputVec;

/// Maximum number of partial sums, and so maximum parallelism.
pub(crate) const MAX_PARTIALS: usize = 8;
/// Maximum number of values in all partial sums, unless two of them have more.
const MAX_VALUES: usize = 1 << 23;
/// Values in a task of the final addition.
const CHUNK: usize = 1 << 14;

/// Runs `work` on every item with slices of the given lengths to add to, and returns the sums.
///
/// Consecutive items share a partial sum and are processed in order; partial sums are added in order.
pub(crate) fn sum_over<T: Send, const N: usize>(
    items: Vec<T>,
    lengths: [usize; N],
    work: impl Fn(T, [&mut [f32]; N]) + Sync,
) -> [Vec<f32>; N] {
    let length = lengths.iter().sum::<usize>().max(1);
    let partials = (MAX_VALUES / length).clamp(2, MAX_PARTIALS);
    let per_partial = items.len().div_ceil(partials).max(1);
    let mut groups: Vec<Vec<T>> = Vec::new();
    for (i, item) in items.into_iter().enumerate() {
        if i % per_partial == 0 {
            groups.push(Vec::with_capacity(per_partial));
        }
        groups[i / per_partial].push(item);
    }
    let mut sums = Buffer::take(groups.len() * length);
    sums.slice().par_chunks_exact_mut(length).zip(groups).for_each(|(sums, items)| {
        sums.fill(0.0);
        items.into_iter().for_each(|item| work(item, split(sums, lengths)));
    });
    let mut totals = lengths.map(OutputVec::new);
    let mut parts = Vec::new();
    let mut start = 0;
    for total in &mut totals {
        for part in total.part().chunks(CHUNK) {
            let length = part.len();
            parts.push((start, part));
            start += length;
        }
    }
    let sums = sums.values();
    parts.into_par_iter().for_each(|(start, part)| {
        let part = part.zeroed();
        for partial in sums.chunks_exact(length) {
            elementwise::add(&partial[start..][..part.len()], part);
        }
    });
    totals.map(OutputVec::finish)
}

/// Adds partial sums of `length` values each to the first one, in order, and truncates `sums` to it.
pub(crate) fn add_partials(sums: &mut Buffer, length: usize) {
    let (first, others) = sums.slice().split_at_mut(length);
    first.par_chunks_mut(CHUNK).enumerate().for_each(|(i, chunk)| {
        for other in others.chunks_exact(length) {
            elementwise::add(&other[i * CHUNK..][..chunk.len()], chunk);
        }
    });
    sums.truncate(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_the_number_of_threads() {
        let items: Vec<u32> = (1..=1000).collect();
        let sums = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                sum_over(items.clone(), [3, 1], |item, [a, b]| {
                    a.iter_mut().for_each(|a| *a += 1.0 / item as f32);
                    b[0] += (item as f32).sqrt();
                })
            })
        };
        let [a, b] = sums(1);
        assert_eq!([a.clone(), b.clone()], sums(5));
        let (harmonic, roots) = (1..=1000)
            .map(|i| (1.0 / f64::from(i), f64::from(i).sqrt()))
            .fold((0.0, 0.0), |sum, x| (sum.0 + x.0, sum.1 + x.1));
        assert!(a.iter().all(|a| (f64::from(*a) - harmonic).abs() < 1e-5));
        assert!((f64::from(b[0]) - roots).abs() < 1e-1);
    }

    #[test]
    fn no_items_sum_to_zero() {
        let [a, b] = sum_over(Vec::<()>::new(), [2, 0], |(), _| {});
        assert_eq!((a, b), (vec![0.0; 2], vec![]));
    }
}
