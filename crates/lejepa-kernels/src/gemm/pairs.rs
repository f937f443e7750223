//! Packing f32 rows for the microkernel: along a row, or the values of two rows into pairs.

// Counted loops are unrolled, so that the arrays they index stay in registers.
#![allow(clippy::needless_range_loop)]

use rayon::prelude::*;

use super::indirect::MR;
use super::isa::{Isa, Packed, WithIsa};

/// Rows in a task of [`pack_rows`].
const ROWS_PER_TASK: usize = 256;

/// Packs `[rows, k]` along each row; `None` where f32 are packed elements already.
pub(crate) fn pack_rows<P: Packed>(values: &[f32], k: usize) -> Option<Vec<P>> {
    if P::from_f32(values).is_some() {
        return None;
    }
    let length = k.div_ceil(P::K);
    let mut packed = vec![P::default(); values.len() / k * length];
    packed
        .par_chunks_mut(ROWS_PER_TASK * length)
        .zip(values.par_chunks(ROWS_PER_TASK * k))
        .for_each(|(packed, values)| P::dispatch(PackRows { values, k, packed }));
    Some(packed)
}

/// [`pack_rows`] on the calling thread.
pub(crate) struct PackRows<'a, P> {
    pub(crate) values: &'a [f32],
    pub(crate) k: usize,
    pub(crate) packed: &'a mut [P],
}

impl<P: Packed> WithIsa<P> for PackRows<'_, P> {
    #[inline(always)]
    fn with_isa<I: Isa<Packed = P>>(self, isa: I) {
        let length = self.k.div_ceil(P::K);
        // Elements in whole vectors.
        let whole = self.k / (P::K * I::LANES) * I::LANES;
        let rows = self.packed.chunks_exact_mut(length);
        for (packed, values) in rows.zip(self.values.chunks_exact(self.k)) {
            for i in (0..whole).step_by(I::LANES) {
                // SAFETY: i + LANES ≤ `whole`, and `whole` elements are within `packed`, `whole`·K values
                // within `values`.
                unsafe {
                    let vector = isa.pack_k(values.as_ptr().add(P::K * i));
                    isa.store_packed(vector, packed.as_mut_ptr().add(i));
                }
            }
            let values = values[P::K * whole..].chunks(P::K);
            for (element, values) in packed[whole..].iter_mut().zip(values) {
                *element = P::pack([values[0], values.get(1).copied().unwrap_or(0.0)]);
            }
        }
    }
}

/// No row.
pub(crate) const NONE: usize = usize::MAX;

/// Packs two rows into one, column by column: row r of the result has the values of the two rows that start
/// at `rows[r]`. The second one may be [`NONE`], and is ignored by elements of one value. Elements of a row
/// beyond `columns` are left as they are.
pub(crate) struct InterleaveRows<'a, P> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: &'a [[usize; 2]],
    pub(crate) columns: usize,
    /// Row stride of `packed`.
    pub(crate) stride: usize,
    pub(crate) packed: &'a mut [P],
}

impl<P: Packed> WithIsa<P> for InterleaveRows<'_, P> {
    #[inline(always)]
    fn with_isa<I: Isa<Packed = P>>(self, isa: I) {
        for (packed, row) in self.packed.chunks_mut(self.stride).zip(self.rows) {
            let packed = &mut packed[..self.columns];
            let first = &self.values[row[0]..][..self.columns];
            if P::K == 1 || row[1] == NONE {
                for (element, first) in packed.iter_mut().zip(first) {
                    *element = P::pack([*first, 0.0]);
                }
                continue;
            }
            let second = &self.values[row[1]..][..self.columns];
            let whole = self.columns / I::LANES * I::LANES;
            for i in (0..whole).step_by(I::LANES) {
                // SAFETY: i + LANES ≤ `whole`, which is within all three rows.
                unsafe {
                    let vector = isa.interleave(first.as_ptr().add(i), second.as_ptr().add(i));
                    isa.store_packed(vector, packed.as_mut_ptr().add(i));
                }
            }
            let (packed, first, second) = (&mut packed[whole..], &first[whole..], &second[whole..]);
            for ((element, first), second) in packed.iter_mut().zip(first).zip(second) {
                *element = P::pack([*first, *second]);
            }
        }
    }
}

/// [`InterleaveRows`] in blocks of [`MR`] columns: for each block, for each row, its elements, so that what
/// the microkernel reads together is contiguous. The last block is padded with zeros.
pub(crate) struct InterleaveBlocks<'a, P> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: &'a [[usize; 2]],
    pub(crate) columns: usize,
    pub(crate) packed: &'a mut [P],
}

impl<P: Packed> WithIsa<P> for InterleaveBlocks<'_, P> {
    #[inline(always)]
    fn with_isa<I: Isa<Packed = P>>(self, isa: I) {
        let block = self.rows.len() * MR;
        for (r, row) in self.rows.iter().enumerate() {
            let first = &self.values[row[0]..][..self.columns];
            let pairs = P::K == 2 && row[1] != NONE;
            let second = if pairs { &self.values[row[1]..][..self.columns] } else { first };
            let mut start = 0;
            if pairs && I::LANES == 2 * MR {
                let mut blocks = self.packed[r * MR..].chunks_mut(block);
                while self.columns - start >= I::LANES {
                    let mut both = [P::default(); 2 * MR];
                    // SAFETY: at least LANES values are left in both rows, and `both` has LANES elements.
                    unsafe {
                        let at = [first, second].map(|row| row.as_ptr().add(start));
                        isa.store_packed(isa.interleave(at[0], at[1]), both.as_mut_ptr());
                    }
                    for half in both.chunks_exact(MR) {
                        if let Some(packed) = blocks.next() {
                            packed[..MR].copy_from_slice(half);
                        }
                    }
                    start += I::LANES;
                }
            }
            let (first, second) = (&first[start..], &second[start..]);
            let (firsts, first) = first.as_chunks::<MR>();
            let (seconds, second) = second.as_chunks::<MR>();
            let mut blocks = self.packed[r * MR..].chunks_mut(block).skip(start / MR);
            // Blocks come last in the zip, so that none is consumed after the columns have ended.
            for ((first, second), packed) in firsts.iter().zip(seconds).zip(&mut blocks) {
                for i in 0..MR {
                    packed[i] = P::pack([first[i], if pairs { second[i] } else { 0.0 }]);
                }
            }
            if let (Some(packed), false) = (blocks.next(), first.is_empty()) {
                for i in 0..MR {
                    packed[i] = P::default();
                }
                for i in 0..first.len() {
                    packed[i] = P::pack([first[i], if pairs { second[i] } else { 0.0 }]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::isa::Bf16Pair;
    use crate::gemm::tests::{has_bf16, noise};

    /// Whole vectors and tails must agree with packing one element at a time.
    fn check_packing<P: Packed + PartialEq + std::fmt::Debug>() {
        for columns in [1, 8, 15, 16, 17, 33, 70, 96] {
            let values = noise(3 * columns, 1);
            let row = |r: usize| &values[r * columns..][..columns];

            let length = columns.div_ceil(P::K);
            let mut packed = vec![P::default(); 3 * length];
            P::dispatch(PackRows { values: &values, k: columns, packed: &mut packed });
            for (r, packed) in packed.chunks(length).enumerate() {
                let want =
                    row(r).chunks(P::K).map(|x| P::pack([x[0], x.get(1).copied().unwrap_or(0.0)]));
                assert!(packed.iter().copied().eq(want), "rows of {columns}");
            }

            // The last row has no partner.
            let rows = &[[0, columns], [2 * columns, NONE]];
            let want = |r: usize, i: usize| match r {
                0 => P::pack([row(0)[i], row(1)[i]]),
                _ => P::pack([row(2)[i], 0.0]),
            };
            let stride = columns + 3;
            let mut packed = vec![P::default(); 2 * stride];
            let (into, values) = (&mut packed[..], &values[..]);
            P::dispatch(InterleaveRows { values, rows, columns, stride, packed: into });
            for r in 0..2 {
                let want = (0..columns).map(|i| want(r, i)).chain([P::default(); 3]);
                assert!(packed[r * stride..][..stride].iter().copied().eq(want), "{columns}");
            }

            let blocks = columns.div_ceil(MR);
            let mut packed = vec![P::pack([7.0, 7.0]); blocks * 2 * MR];
            P::dispatch(InterleaveBlocks { values, rows, columns, packed: &mut packed });
            for (n, element) in packed.iter().enumerate() {
                let (r, i) = (n / MR % 2, n / MR / 2 * MR + n % MR);
                let want = if i < columns { want(r, i) } else { P::default() };
                assert_eq!(*element, want, "blocks of {columns}: {r} {i}");
            }
        }
    }

    #[test]
    fn f32_rows_are_packed() {
        check_packing::<f32>();
    }

    #[test]
    fn bf16_rows_are_packed() {
        if has_bf16() {
            check_packing::<Bf16Pair>();
        }
    }
}
