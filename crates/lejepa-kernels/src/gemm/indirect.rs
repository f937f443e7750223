//! C (+)= A·B where a table of pointers says where each row of A lies (indirect convolution; Dukhan, arXiv
//! 1907.02129).
//!
//! A is read one element at a time, so that its rows need not be packed. For a convolution, a row of A
//! consists of one piece of an image for each tap of the kernel; for a linear layer, of one piece.

// Counted loops are unrolled, so that the arrays they index stay in registers.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;

use super::isa::{Isa, Packed, WithIsa};
use super::panels::Panels;

/// Rows of the register tile. Instruction sets with fewer registers do half of them at a time.
pub(crate) const MR: usize = 8;

/// Pointers to the rows of A: for each block of [`MR`] rows, for each tap, the starts of the rows.
///
/// Every pointer, those of padding rows included, is made from a slice of `k` elements that is borrowed for
/// `'a`, so reading `k` elements through it is sound.
pub(crate) struct RowTable<'a, P> {
    blocks: Vec<[*const P; MR]>,
    rows: usize,
    taps: usize,
    k: usize,
    packed: PhantomData<&'a [P]>,
}

impl<'a, P: Packed> RowTable<'a, P> {
    /// An empty table of rows with `taps` pieces of `k` elements, with capacity for `rows`.
    pub(crate) fn new(taps: usize, k: usize, rows: usize) -> Self {
        let blocks = Vec::with_capacity(rows.div_ceil(MR) * taps);
        Self { blocks, rows: 0, taps, k, packed: PhantomData }
    }

    /// `rows` rows of `k` elements, `stride` apart.
    pub(crate) fn strided(elements: &'a [P], stride: usize, k: usize, rows: usize) -> Self {
        let mut table = Self::new(1, k, rows);
        for r in 0..rows {
            // Blocks are padded with row 0; its products are discarded.
            table.push(&elements[..k]);
            table.set(0, &elements[r * stride..][..k]);
        }
        table
    }

    /// Appends a row, all of whose taps read `padding`.
    ///
    /// # Panics
    /// If `padding` does not have `k` elements.
    #[inline(always)]
    pub(crate) fn push(&mut self, padding: &'a [P]) {
        assert_eq!(padding.len(), self.k, "the length of a row");
        if self.rows.is_multiple_of(MR) {
            self.blocks.resize(self.blocks.len() + self.taps, [padding.as_ptr(); MR]);
        }
        self.rows += 1;
    }

    /// Sets what a tap of the last row reads.
    ///
    /// # Panics
    /// If `elements` are not `k`, or there is no such tap.
    #[inline(always)]
    pub(crate) fn set(&mut self, tap: usize, elements: &'a [P]) {
        assert_eq!(elements.len(), self.k, "the length of a row");
        let block = self.blocks.len() - self.taps;
        self.blocks[block..][tap][(self.rows - 1) % MR] = elements.as_ptr();
    }
}

/// `c[offsets[r]..]` (+)= Σ over taps of row r of A times the B of the tap.
pub(crate) struct IndirectGemm<'a, P> {
    pub(crate) a: &'a RowTable<'a, P>,
    /// The tap of `b` that goes with the first one of `a`.
    pub(crate) first_tap: usize,
    pub(crate) b: &'a Panels<P>,
    /// Where each row of the product starts in `c`.
    pub(crate) offsets: &'a [usize],
    pub(crate) accumulate: bool,
    pub(crate) c: &'a mut [f32],
}

impl<P: Packed> WithIsa<P> for IndirectGemm<'_, P> {
    #[inline(always)]
    fn with_isa<I: Isa<Packed = P>>(self, isa: I) {
        let (nr, k) = (2 * I::LANES, self.b.k);
        let n = self.b.n;
        assert_eq!(self.a.k, k, "the inner dimensions of A and B");
        assert_eq!(self.a.rows, self.offsets.len(), "an offset for each row");
        let taps = self.a.taps;
        let (start, length) = (self.first_tap * k * nr, taps * k * nr);
        for (j, first) in (0..n).step_by(nr).enumerate() {
            let panel = self.b.panel(j)[start..][..length].as_ptr();
            let valid = nr.min(n - first);
            let blocks = self.a.blocks.chunks_exact(taps).zip(self.offsets.chunks(MR));
            for (block, offsets) in blocks {
                // SAFETY: rows of a `RowTable` are readable for its `k` elements, and that is the `k` of the
                // panel, which was sliced to `k` rows of two vectors for each tap.
                unsafe {
                    if I::WIDE {
                        let acc = rows_times_panel::<I, 8>(isa, block, 0, k, panel);
                        store_block(isa, acc, offsets, first, valid, self.accumulate, self.c);
                    } else {
                        let acc = rows_times_panel::<I, 4>(isa, block, 0, k, panel);
                        store_block(isa, acc, offsets, first, valid, self.accumulate, self.c);
                        if offsets.len() > 4 {
                            let (acc, offsets) =
                                (rows_times_panel::<I, 4>(isa, block, 4, k, panel), &offsets[4..]);
                            store_block(isa, acc, offsets, first, valid, self.accumulate, self.c);
                        }
                    }
                }
            }
        }
    }
}

/// Products of `R` rows of a block, from row `first` on, with a panel.
///
/// # Safety
/// Rows are readable for `k` elements, `panel` for `k` rows of two vectors for each tap of the block.
#[inline(always)]
unsafe fn rows_times_panel<I: Isa, const R: usize>(
    isa: I,
    block: &[[*const I::Packed; MR]],
    first: usize,
    k: usize,
    panel: *const I::Packed,
) -> [[I::Acc; 2]; R] {
    let mut acc = [[isa.zero(); 2]; R];
    for (t, tap) in block.iter().enumerate() {
        let mut rows = [tap[0]; R];
        rows.copy_from_slice(&tap[first..first + R]);
        // SAFETY: the caller guarantees the rows, and `k` rows of the panel from those of tap `t` on.
        acc = unsafe {
            let b = panel.add(t * k * 2 * I::LANES);
            microkernel::<I, R, 1>(isa, rows, k, b, acc)
        };
    }
    acc
}

/// `acc` + `R` rows of A times a panel of B; consecutive elements of a row are `STEP` apart.
///
/// # Safety
/// Rows are readable for `k` such elements, `b` for `k` rows of two vectors.
#[inline(always)]
pub(crate) unsafe fn microkernel<I: Isa, const R: usize, const STEP: usize>(
    isa: I,
    a: [*const I::Packed; R],
    k: usize,
    b: *const I::Packed,
    mut acc: [[I::Acc; 2]; R],
) -> [[I::Acc; 2]; R] {
    let mut b = b;
    for p in 0..k {
        // SAFETY: the caller guarantees element `p` of each row, and row `p` of the panel.
        unsafe {
            let vectors = [isa.load_packed(b), isa.load_packed(b.add(I::LANES))];
            b = b.add(2 * I::LANES);
            for r in 0..R {
                let a = isa.splat(a[r].add(p * STEP));
                acc[r][0] = isa.mul_add(a, vectors[0], acc[r][0]);
                acc[r][1] = isa.mul_add(a, vectors[1], acc[r][1]);
            }
        }
    }
    acc
}

/// Stores as many rows of a tile as there are offsets.
#[inline(always)]
fn store_block<I: Isa, const R: usize>(
    isa: I,
    acc: [[I::Acc; 2]; R],
    offsets: &[usize],
    first: usize,
    valid: usize,
    accumulate: bool,
    c: &mut [f32],
) {
    for r in 0..R {
        let Some(offset) = offsets.get(r) else { break };
        store_row(isa, acc[r], accumulate, &mut c[offset + first..][..valid]);
    }
}

/// Stores a row of a tile: as many columns as `c` has, at most two vectors.
#[inline(always)]
pub(crate) fn store_row<I: Isa>(isa: I, acc: [I::Acc; 2], accumulate: bool, c: &mut [f32]) {
    if c.len() == 2 * I::LANES {
        // SAFETY: `c` has two vectors.
        unsafe {
            isa.store_acc(acc[0], c.as_mut_ptr(), accumulate);
            isa.store_acc(acc[1], c.as_mut_ptr().add(I::LANES), accumulate);
        }
        return;
    }
    let mut edge = [0f32; 64];
    assert!(2 * I::LANES <= edge.len(), "vectors have at most 32 lanes");
    edge[..c.len()].copy_from_slice(c);
    // SAFETY: `edge` has at least two vectors, as asserted above.
    unsafe {
        isa.store_acc(acc[0], edge.as_mut_ptr(), accumulate);
        isa.store_acc(acc[1], edge.as_mut_ptr().add(I::LANES), accumulate);
    }
    c.copy_from_slice(&edge[..c.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::isa::Bf16Pair;
    use crate::gemm::matrix::Matrix;
    use crate::gemm::tests::{has_bf16, noise};

    /// A convolution in one dimension, written as rows with three taps, the outer ones of which are outside
    /// the signal at its ends.
    fn check_taps<P: Packed>(tolerance: f64) {
        let (taps, k, n, rows) = (3, 6, 37, 21);
        let (values, weights) = (noise(rows * k, 1), noise(taps * k * n, 2));
        let signal: Vec<P> = values
            .chunks(P::K)
            .map(|x| P::pack([x[0], x.get(1).copied().unwrap_or_default()]))
            .collect();
        let panels = Panels::<P>::pack_taps(n, taps, k, |tap, i, j| weights[(tap * k + i) * n + j]);
        let (length, zeros) = (panels.k, vec![P::default(); panels.k]);
        let mut table = RowTable::new(taps, length, rows);
        for r in 0..rows {
            table.push(&zeros);
            for tap in 0..taps {
                if let Some(from) = (r + tap).checked_sub(1).filter(|from| *from < rows) {
                    table.set(tap, &signal[from * length..][..length]);
                }
            }
        }
        for accumulate in [false, true] {
            // Rows of the product in reverse order.
            let offsets: Vec<usize> = (0..rows).map(|r| (rows - 1 - r) * n).collect();
            let mut c = vec![3.0; rows * n];
            P::dispatch(IndirectGemm {
                a: &table,
                first_tap: 0,
                b: &panels,
                offsets: &offsets,
                accumulate,
                c: &mut c,
            });
            for (x, c) in c.iter().enumerate() {
                let (r, j) = (rows - 1 - x / n, x % n);
                let mut want = if accumulate { 3.0 } else { 0.0 };
                for tap in 0..taps {
                    if let Some(from) = (r + tap).checked_sub(1).filter(|from| *from < rows) {
                        for i in 0..k {
                            want += f64::from(values[from * k + i])
                                * f64::from(weights[(tap * k + i) * n + j]);
                        }
                    }
                }
                assert!((f64::from(*c) - want).abs() < tolerance, "{r} {j}: {c}, not {want}");
            }
        }
    }

    #[test]
    fn f32_rows_of_taps() {
        check_taps::<f32>(1e-5);
    }

    #[test]
    fn bf16_rows_of_taps() {
        if has_bf16() {
            check_taps::<Bf16Pair>(8e-2);
        }
    }

    #[test]
    #[should_panic(expected = "the length of a row")]
    fn a_row_that_is_too_short_panics() {
        let elements = [1.0f32; 4];
        RowTable::new(1, 5, 1).push(&elements);
    }

    #[test]
    #[should_panic(expected = "inner dimensions")]
    fn a_table_for_another_inner_dimension_panics() {
        let (elements, b) = ([1.0f32; 4], [1.0; 6]);
        let a = RowTable::strided(&elements, 2, 2, 2);
        let b = Panels::<f32>::pack(Matrix::rows(&b, 2), 3, 2);
        let (offsets, mut c) = ([0, 2], [0.0; 4]);
        let (a, b, offsets, c) = (&a, &b, &offsets[..], &mut c[..]);
        f32::dispatch(IndirectGemm { a, first_tap: 0, b, offsets, accumulate: false, c });
    }
}
