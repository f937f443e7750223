//! Working memory that is handed back for the next call: fresh pages cost more than much of the
//! arithmetic.

use std::sync::{Mutex, PoisonError};

use crate::unit::Word;

/// Values of any content that go back to a common pool when they are dropped.
///
/// ```
/// use lejepa_kernels::Buffer;
///
/// let mut buffer = Buffer::take(100);
/// buffer.slice().fill(1.0);
/// assert_eq!(buffer.values().len(), 100);
/// drop(buffer); // the next one of up to 100 values costs nothing
/// ```
#[derive(Debug)]
pub struct Buffer {
    values: Vec<f32>,
    length: usize,
    /// Whether it goes back to the pool.
    pooled: bool,
}

static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

impl Buffer {
    /// `length` values of any content.
    pub fn take(length: usize) -> Self {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        // A buffer far too large would be missing where it is needed.
        let fits = |v: &Vec<f32>| v.len() >= length && v.len() / 2 <= length.max(1 << 16);
        let best = (0..pool.len()).filter(|&i| fits(&pool[i])).min_by_key(|&i| pool[i].len());
        let values = best.map(|i| pool.swap_remove(i));
        drop(pool);
        Self { values: values.unwrap_or_else(|| vec![0.0; length]), length, pooled: true }
    }

    /// Keeps the first `length` values.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// The values.
    pub fn values(&self) -> &[f32] {
        &self.values[..self.length]
    }

    /// Room for `count` numbers of 16 bits, for who writes all of them. It is not from the pool: while it
    /// waits there, the tensors that take the place of what it kept could not have its memory.
    pub(crate) fn of_halves(count: usize) -> Self {
        let length = count.div_ceil(2);
        Self { values: fresh(length), length, pooled: false }
    }

    /// The values' memory as numbers of 16 bits.
    pub(crate) fn halves(&self) -> &[u16] {
        // SAFETY: any bits are such numbers, which need no more alignment than 32 bits do.
        unsafe { self.values().align_to().1 }
    }

    /// The same, to write to.
    pub(crate) fn halves_mut(&mut self) -> &mut [u16] {
        // SAFETY: as above, and any bits are a value.
        unsafe { self.slice().align_to_mut().1 }
    }

    /// The values' memory as words, to write to.
    pub(crate) fn words<W: Word>(&mut self) -> &mut [W] {
        const { assert!(size_of::<W>() == 4 && align_of::<W>() == 4) };
        // SAFETY: words have 32 bits, any of which are valid, as those of a number.
        unsafe { self.slice().align_to_mut().1 }
    }

    /// The values, to write to.
    pub fn slice(&mut self) -> &mut [f32] {
        &mut self.values[..self.length]
    }
}

/// The most buffers that wait in the pool; beyond, the smallest ones are let go.
const POOLED: usize = 256;

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        if values.is_empty() || !self.pooled {
            return;
        }
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        pool.push(values);
        if pool.len() > POOLED
            && let Some(least) = (0..pool.len()).min_by_key(|&i| pool[i].len())
        {
            pool.swap_remove(least);
        }
    }
}

/// `n` values of any content, for who writes all of them: to clear them first would take the time of
/// another pass.
pub(crate) fn fresh(n: usize) -> Vec<f32> {
    let values = Box::<[f32]>::new_uninit_slice(n);
    // SAFETY: every bit pattern is a number, and callers write before they read. What is not written
    // would be an arbitrary number.
    unsafe { values.assume_init() }.into_vec()
}

/// Cuts the first `n` values off.
pub(crate) fn cut<'a>(all: &mut &'a mut [f32], n: usize) -> &'a mut [f32] {
    let (part, rest) = std::mem::take(all).split_at_mut(n);
    *all = rest;
    part
}

/// Cuts a slice into parts of the given lengths.
pub(crate) fn split<const N: usize>(mut all: &mut [f32], lengths: [usize; N]) -> [&mut [f32]; N] {
    lengths.map(|n| cut(&mut all, n))
}
