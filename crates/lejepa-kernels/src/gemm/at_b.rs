//! C += Aᵀ·B, the gradient of a weight: the inner dimension is the rows of activations and gradients.

// Counted loops are unrolled, so that the arrays they index stay in registers.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;
use std::ops::Range;

use super::indirect::{MR, store_row};
use super::isa::{Isa, Packed, WithIsa};
use super::matrix::prefetch;
use super::pairs::{InterleaveBlocks, InterleaveRows, NONE};
use super::panels::nr;
use crate::buffer::Buffer;

/// Packed rows that are multiplied at a time; they should stay in the cache.
const KC: usize = 256;

/// Pointers to the rows of A: for each tap, for each row, its start.
///
/// Every pointer is made from a slice of at least `m` elements that is borrowed for `'a`, so reading `m`
/// elements through it is sound.
pub(crate) struct TapRows<'a, P> {
    rows: Vec<*const P>,
    /// Rows of each tap.
    count: usize,
    /// Elements of each row.
    m: usize,
    packed: PhantomData<&'a [P]>,
}

impl<'a, P: Packed> TapRows<'a, P> {
    /// `count` rows for each of `taps` taps, all of which read `padding`; uses the memory of `storage`.
    pub(crate) fn new(
        mut storage: Vec<*const P>,
        taps: usize,
        count: usize,
        padding: &'a [P],
    ) -> Self {
        storage.clear();
        storage.resize(taps * count, padding.as_ptr());
        Self { rows: storage, count, m: padding.len(), packed: PhantomData }
    }

    /// Contiguous rows of [`MR`] elements, `count` for each tap; uses the memory of `storage`.
    pub(crate) fn blocks(mut storage: Vec<*const P>, elements: &'a [P], count: usize) -> Self {
        storage.clear();
        storage.extend(elements.chunks_exact(MR).map(<[P]>::as_ptr));
        Self { rows: storage, count, m: MR, packed: PhantomData }
    }

    /// Sets what a row of a tap reads.
    ///
    /// # Panics
    /// If `elements` are not as many as a row has, or there is no such row.
    #[inline(always)]
    pub(crate) fn set(&mut self, tap: usize, row: usize, elements: &'a [P]) {
        assert_eq!(elements.len(), self.m, "the length of a row");
        self.rows[tap * self.count..][..self.count][row] = elements.as_ptr();
    }

    /// The memory of the table, for reuse.
    pub(crate) fn into_storage(self) -> Vec<*const P> {
        self.rows
    }
}

/// `c[tap][i][j]` += Σ over rows of A[tap][row][i]·B[row][j], for one panel of columns j.
pub(crate) struct AtB<'a, P> {
    pub(crate) a: &'a TapRows<'a, P>,
    /// Taps to multiply.
    pub(crate) taps: Range<usize>,
    /// Elements i of each row to multiply.
    pub(crate) m: usize,
    /// B, a panel wide: two vectors for each row.
    pub(crate) b: &'a [P],
    /// Valid columns of the panel.
    pub(crate) columns: usize,
    /// Row stride of `c`, where taps are contiguous.
    pub(crate) stride: usize,
    pub(crate) c: &'a mut [f32],
}

impl<P: Packed> WithIsa<P> for AtB<'_, P> {
    #[inline(always)]
    fn with_isa<I: Isa<Packed = P>>(self, isa: I) {
        let (nr, count) = (2 * I::LANES, self.a.count);
        if count == 0 {
            return;
        }
        assert_eq!(self.b.len(), count * nr, "a row of B for each row of A");
        assert!(self.m <= self.a.m, "the length of a row");
        let rows = &self.a.rows[self.taps.start * count..self.taps.end * count];
        for (tap, rows) in rows.chunks_exact(count).enumerate() {
            let mut i = 0;
            while i < self.m {
                let left = self.m - i;
                let c = &mut self.c[(tap * self.m + i) * self.stride..];
                let (stride, columns) = (self.stride, self.columns);
                // SAFETY: rows of a `TapRows` are readable for its `m` elements, of which there are at least
                // as many from i on as are multiplied; `b` has two vectors for each of the rows.
                unsafe {
                    i += if left >= 8 && I::WIDE {
                        microkernel::<I, 8>(isa, rows, i, self.b, c, stride, columns)
                    } else if left >= 4 {
                        microkernel::<I, 4>(isa, rows, i, self.b, c, stride, columns)
                    } else {
                        microkernel::<I, 1>(isa, rows, i, self.b, c, stride, columns)
                    };
                }
            }
        }
    }
}

/// `R` rows of the product, from element `i` of A on; returns `R`.
///
/// # Safety
/// Rows are readable up to element `i + R`; `b` has two vectors for each of them.
#[inline(always)]
unsafe fn microkernel<I: Isa, const R: usize>(
    isa: I,
    rows: &[*const I::Packed],
    i: usize,
    b: &[I::Packed],
    c: &mut [f32],
    stride: usize,
    columns: usize,
) -> usize {
    // The product is needed last, and may not be in the cache.
    for r in 0..R {
        prefetch(&c[r * stride..][..columns]);
    }
    let mut acc = [[isa.zero(); 2]; R];
    let mut b = b.as_ptr();
    for row in rows {
        // SAFETY: the caller guarantees elements i to i + R of this row, and its two vectors of B.
        unsafe {
            let vectors = [isa.load_packed(b), isa.load_packed(b.add(I::LANES))];
            b = b.add(2 * I::LANES);
            for r in 0..R {
                let a = isa.splat(row.add(i + r));
                acc[r][0] = isa.mul_add(a, vectors[0], acc[r][0]);
                acc[r][1] = isa.mul_add(a, vectors[1], acc[r][1]);
            }
        }
    }
    for r in 0..R {
        store_row(isa, acc[r], true, &mut c[r * stride..][..columns]);
    }
    R
}

/// `c` `[m, n]` += Aᵀ·B for contiguous `a` `[rows, m]` and `b` `[rows, n]`, on the calling thread.
///
/// # Panics
/// If a slice is too short.
pub(crate) fn at_b<P: Packed>(c: &mut [f32], a: &[f32], b: &[f32], m: usize, n: usize) {
    let count = b.len() / n;
    assert!(a.len() >= count * m && c.len() >= m * n, "the rows of Aᵀ·B");
    let nr = nr::<P>();
    let blocks = m.div_ceil(MR);
    let capacity = KC.min(count.div_ceil(P::K));
    let mut scratch = Buffer::take(capacity * (blocks * MR + nr));
    let (packed, panel) = scratch.packed::<P>().split_at_mut(capacity * blocks * MR);
    let (mut a_pairs, mut b_pairs, mut storage) = (Vec::new(), Vec::new(), Vec::new());
    for start in (0..count).step_by(KC * P::K) {
        let end = count.min(start + KC * P::K);
        // Starts of the rows that share a packed row.
        let pair_up = |pairs: &mut Vec<[usize; 2]>, stride: usize, first: usize| {
            let at = |r: usize| if r < end { r * stride + first } else { NONE };
            pairs.clear();
            pairs.extend((start..end).step_by(P::K).map(|r| [at(r), at(r + 1)]));
        };
        pair_up(&mut a_pairs, m, 0);
        let (rows, into) = (&*a_pairs, &mut *packed);
        P::dispatch(InterleaveBlocks { values: a, rows, columns: m, packed: into });
        let packed_rows = a_pairs.len();
        let rows = TapRows::blocks(storage, &packed[..blocks * packed_rows * MR], packed_rows);
        let panel = &mut panel[..packed_rows * nr];
        for first in (0..n).step_by(nr) {
            let columns = nr.min(n - first);
            pair_up(&mut b_pairs, n, first);
            let (pairs, into) = (&*b_pairs, &mut *panel);
            P::dispatch(InterleaveRows {
                values: b,
                rows: pairs,
                columns,
                stride: nr,
                packed: into,
            });
            // Blocks of columns of A are taps; the last one may have fewer columns.
            let full = m / MR;
            for (taps, m) in [(0..full, MR), (full..blocks, m % MR)] {
                if !taps.is_empty() {
                    let c = &mut c[taps.start * MR * n + first..];
                    P::dispatch(AtB { a: &rows, taps, m, b: &*panel, columns, stride: n, c });
                }
            }
        }
        storage = rows.into_storage();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "a row of B for each row of A")]
    fn too_few_rows_of_b_panic() {
        let (elements, b) = ([1.0f32; 16], vec![1.0f32; nr::<f32>()]);
        let a = TapRows::blocks(Vec::new(), &elements, 2);
        let mut c = vec![0.0; MR * nr::<f32>()];
        let (a, b, c, stride) = (&a, &b[..], &mut c[..], nr::<f32>());
        f32::dispatch(AtB { a, taps: 0..1, m: MR, b, columns: stride, stride, c });
    }
}
