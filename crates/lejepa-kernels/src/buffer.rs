//! Pooled working memory: page faults on fresh memory cost more than much of the arithmetic.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::gemm::isa::Packed;

/// Scratch memory that returns to a global pool when dropped.
///
/// The pool holds at most 256 buffers and 4 GiB; [`Buffer::release_unused`] empties it.
///
/// ```
/// use lejepa_kernels::Buffer;
///
/// let mut buffer = Buffer::take(100);
/// buffer.slice().fill(1.0);
/// assert_eq!(buffer.values().len(), 100);
/// drop(buffer); // to the pool
/// Buffer::release_unused(); // to the allocator
/// ```
#[derive(Debug)]
pub struct Buffer {
    values: Vec<f32>,
    length: usize,
}

static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// Most buffers in the pool; when there are more, the smallest is freed.
const MAX_BUFFERS: usize = 256;
/// Most values in the pool; a buffer that would exceed them is freed instead of pooled.
const MAX_VALUES: usize = 1 << 30;

fn pool() -> MutexGuard<'static, Vec<Vec<f32>>> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Buffer {
    /// A buffer of `length` values with unspecified content.
    pub fn take(length: usize) -> Self {
        if length == 0 {
            return Self { values: Vec::new(), length };
        }
        let mut pool = pool();
        // Never serve a small request from a huge buffer: the next large request would have to allocate.
        let fits = |v: &Vec<f32>| v.len() >= length && v.len() / 2 <= length.max(1 << 16);
        let best = (0..pool.len()).filter(|&i| fits(&pool[i])).min_by_key(|&i| pool[i].len());
        let values = best.map(|i| pool.swap_remove(i));
        drop(pool);
        Self { values: values.unwrap_or_else(|| vec![0.0; length]), length }
    }

    /// Frees all buffers in the pool.
    pub fn release_unused() {
        let unused = std::mem::take(&mut *pool());
        // Freed after the lock is released.
        drop(unused);
    }

    /// Shortens the buffer to `length` values.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// The values.
    pub fn values(&self) -> &[f32] {
        &self.values[..self.length]
    }

    /// The values as packed operands, to write to.
    pub(crate) fn packed<P: Packed>(&mut self) -> &mut [P] {
        const { assert!(size_of::<P>() == 4 && align_of::<P>() == 4) };
        // SAFETY: `Packed` guarantees that every 32-bit pattern, that of an `f32` included, is valid, and
        // every `P` is a valid `f32`; size and alignment are the same.
        unsafe { self.slice().align_to_mut().1 }
    }

    /// The values, to write to.
    pub fn slice(&mut self) -> &mut [f32] {
        &mut self.values[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        if values.is_empty() {
            return;
        }
        let mut pool = pool();
        if pool.iter().map(Vec::len).sum::<usize>() + values.len() > MAX_VALUES {
            return;
        }
        pool.push(values);
        let smallest = (0..pool.len()).min_by_key(|&i| pool[i].len());
        let evicted = smallest.filter(|_| pool.len() > MAX_BUFFERS).map(|i| pool.swap_remove(i));
        drop(pool);
        drop(evicted);
    }
}

/// Splits the first `n` values off.
pub(crate) fn take_front<'a>(all: &mut &'a mut [f32], n: usize) -> &'a mut [f32] {
    let (part, rest) = std::mem::take(all).split_at_mut(n);
    *all = rest;
    part
}

/// Splits a slice into parts of the given lengths.
pub(crate) fn split<const N: usize>(mut all: &mut [f32], lengths: [usize; N]) -> [&mut [f32]; N] {
    lengths.map(|n| take_front(&mut all, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_reused_until_they_are_released() {
        // Larger than any request of other tests, so that none of them takes it from the pool.
        const LENGTH: usize = 3 << 23;
        let mut buffer = Buffer::take(LENGTH);
        buffer.slice()[LENGTH - 1] = 7.0;
        drop(buffer);
        let is_pooled = || pool().iter().any(|values| values.len() == LENGTH);
        assert!(is_pooled());
        assert_eq!(Buffer::take(LENGTH).values()[LENGTH - 1], 7.0);
        assert!(is_pooled());
        Buffer::release_unused();
        assert!(!is_pooled());
    }
}
