//! Output vectors that are initialised in parts, by the threads that fill them.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A vector that is not initialised yet.
///
/// Zeroing a whole output costs a pass through memory; zeroing each part on the thread that then fills it
/// costs a pass through the cache. [`OutputVec::part`] borrows the whole vector, [`OutputPart::chunks`] and
/// [`OutputPart::cut`] divide it among threads, [`OutputPart::zeroed`] initialises a part, and
/// [`OutputVec::finish`] checks that none was left out.
pub(crate) struct OutputVec<T> {
    values: Vec<T>,
    length: usize,
    /// Elements initialised since the last call of [`OutputVec::part`].
    initialised: AtomicUsize,
}

impl<T: Copy + Default> OutputVec<T> {
    /// A vector of `length` elements.
    pub(crate) fn new(length: usize) -> Self {
        Self { values: Vec::with_capacity(length), length, initialised: AtomicUsize::new(0) }
    }

    /// All elements, to be divided and initialised.
    pub(crate) fn part(&mut self) -> OutputPart<'_, T> {
        *self.initialised.get_mut() = 0;
        OutputPart {
            values: &mut self.values.spare_capacity_mut()[..self.length],
            initialised: &self.initialised,
        }
    }

    /// The vector.
    ///
    /// # Panics
    /// If an element is not initialised.
    pub(crate) fn finish(mut self) -> Vec<T> {
        assert_eq!(*self.initialised.get_mut(), self.length, "elements are not initialised");
        // SAFETY: the capacity is at least `length`. Parts are disjoint and consumed when they are counted,
        // so a count of `length` means that each of the first `length` elements was written.
        unsafe { self.values.set_len(self.length) };
        self.values
    }
}

/// A part of an [`OutputVec`] that is not initialised yet.
pub(crate) struct OutputPart<'a, T> {
    values: &'a mut [MaybeUninit<T>],
    initialised: &'a AtomicUsize,
}

impl<'a, T: Copy + Default> OutputPart<'a, T> {
    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Splits the first `count` elements off.
    pub(crate) fn cut(&mut self, count: usize) -> Self {
        let (values, rest) = std::mem::take(&mut self.values).split_at_mut(count);
        self.values = rest;
        Self { values, initialised: self.initialised }
    }

    /// Splits into parts of `size` elements; the last one may be shorter.
    pub(crate) fn chunks(self, size: usize) -> Vec<Self> {
        let Self { values, initialised } = self;
        values.chunks_mut(size).map(|values| Self { values, initialised }).collect()
    }

    /// Sets all elements to 0.
    pub(crate) fn zeroed(self) -> &'a mut [T] {
        let Self { values, initialised } = self;
        values.fill(MaybeUninit::new(T::default()));
        initialised.fetch_add(values.len(), Ordering::Relaxed);
        // SAFETY: every element was written above, and `MaybeUninit<T>` has the layout of `T`.
        unsafe { &mut *(std::ptr::from_mut(values) as *mut [T]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_make_the_vector() {
        let mut output = OutputVec::<u16>::new(10);
        let mut part = output.part();
        part.cut(4).zeroed().fill(1);
        for (i, chunk) in part.chunks(5).into_iter().enumerate() {
            chunk.zeroed()[0] = 2 + i as u16;
        }
        assert_eq!(output.finish(), [1, 1, 1, 1, 2, 0, 0, 0, 0, 3]);
        assert!(OutputVec::<f32>::new(0).finish().is_empty());
    }

    #[test]
    #[should_panic(expected = "not initialised")]
    fn a_missing_part_panics() {
        let mut output = OutputVec::<f32>::new(4);
        output.part().cut(3).zeroed().fill(1.0);
        output.finish();
    }

    #[test]
    #[should_panic(expected = "not initialised")]
    fn a_part_initialised_twice_does_not_stand_for_another() {
        let mut output = OutputVec::<f32>::new(4);
        output.part().cut(2).zeroed().fill(1.0);
        output.part().cut(2).zeroed().fill(1.0);
        output.finish();
    }
}
