//! B of a product, packed into panels of two vectors' width.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::isa::Packed;
use super::matrix::Matrix;
use crate::output::OutputVec;

/// A cache line of packed elements, aligned for the fastest vector loads.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Line([u32; LINE]);

/// Elements of a [`Line`].
pub(crate) const LINE: usize = 16;

fn elements<P: Packed>(lines: &[Line]) -> &[P] {
    const { assert!(size_of::<P>() == 4 && align_of::<P>() <= align_of::<Line>()) };
    // SAFETY: lines are contiguous arrays of 16 `u32`, each of which is a valid `P` by the contract of
    // `Packed`.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LINE) }
}

/// Lines as packed elements, to write to.
pub(crate) fn elements_mut<P: Packed>(lines: &mut [Line]) -> &mut [P] {
    const { assert!(size_of::<P>() == 4 && align_of::<P>() <= align_of::<Line>()) };
    // SAFETY: as in `elements`; and every `P` is a valid `u32`.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LINE) }
}

/// Columns of a panel.
pub(crate) fn nr<P: Packed>() -> usize {
    2 * P::lanes()
}

/// Packed B: for each panel of [`nr`] columns, for each tap (one for a plain matrix), for each element along
/// the inner dimension, an element for each column. Columns beyond the last are 0.
pub(crate) struct Panels<P> {
    lines: Vec<Line>,
    /// Packed elements along the inner dimension, for each tap.
    pub(crate) k: usize,
    /// Columns.
    pub(crate) n: usize,
    /// Elements of a panel.
    size: usize,
    packed: PhantomData<P>,
}

impl<P: Packed> Panels<P> {
    /// Panels of `n` columns, `taps` taps and an inner dimension of `k` values for each tap. `fill` gets the
    /// number of a panel and its elements, which are 0.
    pub(crate) fn new(
        n: usize,
        taps: usize,
        k: usize,
        fill: impl Fn(usize, &mut [P]) + Sync,
    ) -> Self {
        let (k, size) = Self::sizes(taps, k);
        let mut lines = OutputVec::new(n.div_ceil(nr::<P>()) * size / LINE);
        // Each panel is zeroed by the thread that fills it, while it is in that thread's cache.
        let panels = lines.part().chunks((size / LINE).max(1)).into_par_iter().enumerate();
        panels.for_each(|(j, panel)| fill(j, elements_mut(panel.zeroed())));
        Self { lines: lines.finish(), k, n, size, packed: PhantomData }
    }

    /// Packed elements along the inner dimension for each tap, and elements of a panel.
    fn sizes(taps: usize, k: usize) -> (usize, usize) {
        let k = k.div_ceil(P::K);
        (k, (taps * k * nr::<P>()).next_multiple_of(LINE))
    }

    /// Panels in the memory of `lines`, whose elements are to be overwritten.
    pub(crate) fn in_storage(mut lines: Vec<Line>, n: usize, taps: usize, k: usize) -> Self {
        let (k, size) = Self::sizes(taps, k);
        lines.resize(n.div_ceil(nr::<P>()) * size / LINE, Line::default());
        Self { lines, k, n, size, packed: PhantomData }
    }

    /// The memory of the panels, for reuse.
    pub(crate) fn into_storage(self) -> Vec<Line> {
        self.lines
    }

    /// Packs a matrix of `k` rows and `n` columns.
    pub(crate) fn pack(matrix: Matrix<'_>, k: usize, n: usize) -> Self {
        let nr = nr::<P>();
        Self::new(n, 1, k, |panel, elements| {
            let (first, valid) = (panel * nr, nr.min(n - panel * nr));
            if matrix.column == 1 && P::K == 1 {
                for (i, row) in elements.chunks_exact_mut(nr).take(k).enumerate() {
                    let values = &matrix.data[i * matrix.row + first..][..valid];
                    row.iter_mut().zip(values).for_each(|(e, x)| *e = P::pack([*x, 0.0]));
                }
                return;
            }
            for j in 0..valid {
                let column = &matrix.data[(first + j) * matrix.column..];
                let at = |i: usize| if i < k { column[i * matrix.row] } else { 0.0 };
                for (i, row) in elements.chunks_exact_mut(nr).enumerate() {
                    row[j] = P::pack([at(i * P::K), at(i * P::K + 1)]);
                }
            }
        })
    }

    /// Packs a `k` × `n` matrix for each tap, given by its elements: tap, row, column.
    pub(crate) fn pack_taps(
        n: usize,
        taps: usize,
        k: usize,
        at: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let nr = nr::<P>();
        let length = k.div_ceil(P::K);
        Self::new(n, taps, k, |panel, elements| {
            let first = panel * nr;
            let valid = nr.min(n - first);
            for (row, elements) in elements.chunks_exact_mut(nr).take(taps * length).enumerate() {
                let (tap, i) = (row / length, row % length * P::K);
                for (j, element) in elements.iter_mut().take(valid).enumerate() {
                    let second =
                        if i + 1 < k && P::K == 2 { at(tap, i + 1, first + j) } else { 0.0 };
                    *element = P::pack([at(tap, i, first + j), second]);
                }
            }
        })
    }

    /// Elements of panel `j`.
    pub(crate) fn panel(&self, j: usize) -> &[P] {
        elements(&self.lines[j * self.size / LINE..][..self.size / LINE])
    }

    /// Elements of panel `j`, to write to.
    pub(crate) fn panel_mut(&mut self, j: usize) -> &mut [P] {
        elements_mut(&mut self.lines[j * self.size / LINE..][..self.size / LINE])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_padded_with_zeros() {
        let nr = nr::<f32>();
        let (k, n) = (3, nr + 1);
        let values: Vec<f32> = (0..k * n).map(|i| 1.0 + i as f32).collect();
        let transposed: Vec<f32> = (0..k * n).map(|i| values[i % k * n + i / k]).collect();
        for matrix in [Matrix::rows(&values, n), Matrix::rows(&transposed, k).transposed()] {
            let panels = Panels::<f32>::pack(matrix, k, n);
            assert_eq!((panels.k, panels.n), (k, n));
            for i in 0..k {
                assert_eq!(panels.panel(0)[i * nr..][..nr], values[i * n..][..nr]);
                assert_eq!(panels.panel(1)[i * nr], values[i * n + nr]);
                assert!(panels.panel(1)[i * nr + 1..(i + 1) * nr].iter().all(|x| *x == 0.0));
            }
        }
    }
}
