//! Sums over chunks of work in a fixed order, whatever the number of threads.

use rayon::prelude::*;

use crate::memory::{fresh, split};
use crate::{Buffer, lanes};

/// Most groups that are summed apart, and so most threads that work at once.
pub(crate) const GROUPS: usize = 8;
/// Most values that all groups' sums take together, unless two take more.
const MOST: usize = 1 << 23;
/// Values that a thread adds up at a time at the end.
const PART: usize = 1 << 14;

/// Lets `work` add what each item gives to sums of the given lengths. Items are dealt to groups by their
/// number alone; a group's sums are made in order, and those of the groups are added in order.
pub(crate) fn summed<T: Send, const N: usize>(
    items: Vec<T>,
    lengths: [usize; N],
    work: impl Fn(T, [&mut [f32]; N]) + Sync,
) -> [Vec<f32>; N] {
    let length = lengths.iter().sum::<usize>().max(1);
    let most = (MOST / length).clamp(2, GROUPS);
    let per_group = items.len().div_ceil(most).max(1);
    let mut groups: Vec<Vec<T>> = Vec::new();
    for (i, item) in items.into_iter().enumerate() {
        if i % per_group == 0 {
            groups.push(Vec::with_capacity(per_group));
        }
        groups[i / per_group].push(item);
    }
    let mut sums = Buffer::take(groups.len() * length);
    sums.slice().par_chunks_exact_mut(length).zip(groups).for_each(|(sums, items)| {
        sums.fill(0.0);
        items.into_iter().for_each(|item| work(item, split(sums, lengths)));
    });
    let mut totals = lengths.map(fresh);
    let mut parts = Vec::new();
    let mut start = 0;
    for total in &mut totals {
        for part in total.chunks_mut(PART) {
            let length = part.len();
            parts.push((start, part));
            start += length;
        }
    }
    let sums = sums.values();
    parts.into_par_iter().for_each(|(start, part)| {
        part.fill(0.0);
        for group in sums.chunks_exact(length) {
            lanes::add(&group[start..][..part.len()], part);
        }
    });
    totals
}

/// Adds groups of `length` sums to the first one, in order, and keeps that.
pub(crate) fn add_up(sums: &mut Buffer, length: usize) {
    let (first, others) = sums.slice().split_at_mut(length);
    first.par_chunks_mut(PART).enumerate().for_each(|(i, part)| {
        for other in others.chunks_exact(length) {
            lanes::add(&other[i * PART..][..part.len()], part);
        }
    });
    sums.truncate(length);
}
