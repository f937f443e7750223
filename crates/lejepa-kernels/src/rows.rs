//! Matrix products whose left factors are taken from wherever they lie, row by row.
//!
//! A product reads a row of left factors one word at a time, so that rows need not be packed: only
//! pointers to them are gathered. This serves convolution, where a row of the matrix is made of pieces
//! of a picture, one for each tap of the kernel (the indirect convolution of Dukhan, arXiv
//! 1907.02129), and a linear layer, which has one tap. Right factors are packed once into panels of two
//! vectors' width.

// Loops are counted, so that they are unrolled and what they index stays in registers.
#![allow(clippy::needless_range_loop)]

use crate::Matrix;
use crate::unit::{Task, Unit, Word};

/// Rows in a block: as many as have their sums in registers at once.
pub(crate) const BLOCK: usize = 8;

/// 64 bytes at an address that a vector is quickest from.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Right factors: for each panel of columns, each tap and each word along the common axis, a word for
/// each column. Columns beyond the last hold 0.
pub(crate) struct Panels<W> {
    lines: Vec<Line>,
    /// Words along the common axis, for each tap.
    pub(crate) length: usize,
    /// Columns that are wanted.
    pub(crate) columns: usize,
    size: usize,
    words: std::marker::PhantomData<W>,
}

/// Columns of a panel.
pub(crate) fn width<W: Word>() -> usize {
    2 * W::lanes()
}

impl<W: Word> Panels<W> {
    /// Panels of `columns` columns, `taps` taps and `factors` factors for each tap; `fill` is given a
    /// panel's number and its words, which are 0.
    pub(crate) fn new(
        columns: usize,
        taps: usize,
        factors: usize,
        fill: impl Fn(usize, &mut [W]) + Sync,
    ) -> Self {
        let (length, size) = Self::sizes(taps, factors);
        let lines = vec![Line([0; 16]); columns.div_ceil(width::<W>()) * size / 16];
        Self::filled(lines, size, length, columns, fill)
    }

    /// The same for a `fill` that writes all words, which hold anything before.
    pub(crate) fn written(
        columns: usize,
        taps: usize,
        factors: usize,
        fill: impl Fn(usize, &mut [W]) + Sync,
    ) -> Self {
        let (length, size) = Self::sizes(taps, factors);
        let lines = Box::<[Line]>::new_uninit_slice(columns.div_ceil(width::<W>()) * size / 16);
        // SAFETY: any bits are a line, and who fills them writes before anything reads.
        let lines = unsafe { lines.assume_init() }.into_vec();
        Self::filled(lines, size, length, columns, fill)
    }

    /// Words along the common axis for each tap, and words of a panel.
    fn sizes(taps: usize, factors: usize) -> (usize, usize) {
        let length = factors.div_ceil(W::FACTORS);
        (length, (taps * length * width::<W>()).next_multiple_of(16))
    }

    fn filled(
        mut lines: Vec<Line>,
        size: usize,
        length: usize,
        columns: usize,
        fill: impl Fn(usize, &mut [W]) + Sync,
    ) -> Self {
        use rayon::prelude::*;
        lines.par_chunks_exact_mut((size / 16).max(1)).enumerate().for_each(|(j, lines)| {
            const { assert!(size_of::<W>() == 4 && align_of::<W>() == 4) };
            // SAFETY: words have 32 bits, any of which are valid, as those of a line.
            let words = unsafe {
                std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<W>(), lines.len() * 16)
            };
            fill(j, words);
        });
        Self { lines, length, columns, size, words: std::marker::PhantomData }
    }

    /// The matrix `[factors, columns]`.
    pub(crate) fn of(matrix: Matrix<'_>, factors: usize, columns: usize) -> Self {
        let width = width::<W>();
        Self::new(columns, 1, factors, |panel, words| {
            let (first, some) = (panel * width, width.min(columns - panel * width));
            if matrix.column == 1 && W::FACTORS == 1 {
                for (i, words) in words.chunks_exact_mut(width).take(factors).enumerate() {
                    let row = &matrix.data[i * matrix.row + first..][..some];
                    words.iter_mut().zip(row).for_each(|(word, x)| *word = W::of([*x, 0.0]));
                }
                return;
            }
            for j in 0..some {
                let column = &matrix.data[(first + j) * matrix.column..];
                let at = |i: usize| if i < factors { column[i * matrix.row] } else { 0.0 };
                for (i, words) in words.chunks_exact_mut(width).enumerate() {
                    words[j] = W::of([at(i * W::FACTORS), at(i * W::FACTORS + 1)]);
                }
            }
        })
    }

    /// A matrix `[factors, columns]` for each tap.
    pub(crate) fn with_taps(
        columns: usize,
        taps: usize,
        factors: usize,
        at: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let width = width::<W>();
        let length = factors.div_ceil(W::FACTORS);
        Self::new(columns, taps, factors, |panel, words| {
            let first = panel * width;
            let some = width.min(columns - first);
            for (row, words) in words.chunks_exact_mut(width).take(taps * length).enumerate() {
                let (tap, i) = (row / length, row % length * W::FACTORS);
                for (j, word) in words.iter_mut().take(some).enumerate() {
                    let second = if i + 1 < factors && W::FACTORS == 2 {
                        at(tap, i + 1, first + j)
                    } else {
                        0.0
                    };
                    *word = W::of([at(tap, i, first + j), second]);
                }
            }
        })
    }

    /// Panel `j` from word `skipped` on.
    pub(crate) fn panel(&self, j: usize, skipped: usize) -> *const W {
        self.lines[j * self.size / 16..].as_ptr().cast::<W>().wrapping_add(skipped)
    }
}

/// Where rows of `length` words that follow each other begin, in blocks. Beyond the last row, the first one
/// stands in: it is read, and what comes of it is not stored.
pub(crate) fn following<W: Word>(
    words: &[W],
    length: usize,
    count: usize,
) -> Vec<[*const W; BLOCK]> {
    let row = |r: usize| words[if r < count { r * length } else { 0 }..][..length].as_ptr();
    let blocks = 0..count.div_ceil(BLOCK);
    blocks.map(|b| std::array::from_fn(|r| row(b * BLOCK + r))).collect()
}

/// `into[target of row r]` (+)= Σ over taps of the row's left factors times the tap's right ones.
pub(crate) struct Sweep<'a, W> {
    /// For each block of rows, for each tap, where the factors of its rows begin. All are readable for
    /// the length of the panels; those of rows beyond the last too.
    pub(crate) rows: &'a [[*const W; BLOCK]],
    pub(crate) taps: usize,
    /// The first one of the right factors' taps that is meant.
    pub(crate) first_tap: usize,
    /// Where the result of each row begins in `into`.
    pub(crate) targets: &'a [usize],
    pub(crate) right: &'a Panels<W>,
    pub(crate) add: bool,
    pub(crate) into: &'a mut [f32],
}

impl<W: Word> Task<W> for Sweep<'_, W> {
    #[inline(always)]
    fn run<U: Unit<Word = W>>(self, u: U) {
        let width = 2 * U::LANES;
        let columns = self.right.columns;
        let skipped = self.first_tap * self.right.length * width;
        let read = self.taps * self.right.length * width;
        assert!(skipped + read <= self.right.size, "too few right factors");
        for (j, first) in (0..columns).step_by(width).enumerate() {
            let panel = self.right.panel(j, skipped);
            let some = width.min(columns - first);
            let blocks = self.rows.chunks_exact(self.taps).zip(self.targets.chunks(BLOCK));
            for (block, targets) in blocks {
                // SAFETY: who makes a sweep promises its rows; the panel was measured above.
                unsafe {
                    if U::WIDE {
                        let sums = sums::<U, 8>(u, block, 0, self.right.length, panel);
                        put(u, sums, targets, first, some, self.add, self.into);
                    } else {
                        let sums4 = sums::<U, 4>(u, block, 0, self.right.length, panel);
                        put(u, sums4, targets, first, some, self.add, self.into);
                        if targets.len() > 4 {
                            let sums4 = sums::<U, 4>(u, block, 4, self.right.length, panel);
                            put(u, sums4, &targets[4..], first, some, self.add, self.into);
                        }
                    }
                }
            }
        }
    }
}

/// Sums of `R` rows of a block, from row `first` on, over a panel's columns.
///
/// # Safety
/// Rows are readable for `length` words, the panel for `length` rows for each tap.
#[inline(always)]
unsafe fn sums<U: Unit, const R: usize>(
    u: U,
    block: &[[*const U::Word; BLOCK]],
    first: usize,
    length: usize,
    panel: *const U::Word,
) -> [[U::Sums; 2]; R] {
    let mut sums = [[u.zero(); 2]; R];
    for (t, tap) in block.iter().enumerate() {
        let mut rows = [tap[0]; R];
        rows.copy_from_slice(&tap[first..first + R]);
        // SAFETY: by the caller's promise.
        sums = unsafe {
            let right = panel.add(t * length * 2 * U::LANES);
            add_products::<U, R, 1>(u, rows, length, right, sums)
        };
    }
    sums
}

/// `sums` and those of `R` rows over a panel's columns; from one factor of a row to the next it is `STEP`
/// words.
///
/// # Safety
/// Rows are readable for `length` such words, the panel for as many rows of two vectors.
#[inline(always)]
pub(crate) unsafe fn add_products<U: Unit, const R: usize, const STEP: usize>(
    u: U,
    rows: [*const U::Word; R],
    length: usize,
    right: *const U::Word,
    mut sums: [[U::Sums; 2]; R],
) -> [[U::Sums; 2]; R] {
    let mut right = right;
    for i in 0..length {
        // SAFETY: by the caller's promise.
        unsafe {
            let b = [u.load(right), u.load(right.add(U::LANES))];
            right = right.add(2 * U::LANES);
            for r in 0..R {
                let a = u.spread(rows[r].add(i * STEP));
                sums[r][0] = u.add_product(a, b[0], sums[r][0]);
                sums[r][1] = u.add_product(a, b[1], sums[r][1]);
            }
        }
    }
    sums
}

/// Stores the sums of as many rows as there are targets.
#[inline(always)]
fn put<U: Unit, const R: usize>(
    u: U,
    sums: [[U::Sums; 2]; R],
    targets: &[usize],
    first: usize,
    some: usize,
    add: bool,
    into: &mut [f32],
) {
    // Counted, so that it is unrolled: sums that are indexed at run time leave their registers.
    for r in 0..R {
        let Some(target) = targets.get(r) else { break };
        put_row(u, sums[r], add, &mut into[target + first..][..some]);
    }
}

/// Stores a row of sums: as many columns as there is room for.
#[inline(always)]
pub(crate) fn put_row<U: Unit>(u: U, sums: [U::Sums; 2], add: bool, into: &mut [f32]) {
    if into.len() == 2 * U::LANES {
        // SAFETY: `into` has two vectors' numbers.
        unsafe {
            u.store(sums[0], into.as_mut_ptr(), add);
            u.store(sums[1], into.as_mut_ptr().add(U::LANES), add);
        }
        return;
    }
    let mut edge = [0f32; 64];
    assert!(2 * U::LANES <= edge.len(), "vectors are of at most 32 numbers");
    edge[..into.len()].copy_from_slice(into);
    // SAFETY: as measured above.
    unsafe {
        u.store(sums[0], edge.as_mut_ptr(), add);
        u.store(sums[1], edge.as_mut_ptr().add(U::LANES), add);
    }
    into.copy_from_slice(&edge[..into.len()]);
}

/// `into[tap][i][column]` += Σ over rows of the row's left factor i times its right one: the gradient
/// of a panel's factors.
pub(crate) struct Outer<'a, W> {
    /// For each tap, where the left factors of each row begin; readable for `length` words.
    pub(crate) rows: &'a [*const W],
    pub(crate) length: usize,
    /// Right factors of each row, a panel wide.
    pub(crate) right: &'a [W],
    /// Columns of the panel that are wanted.
    pub(crate) columns: usize,
    /// From one row of `into` to the next; those of all taps follow each other.
    pub(crate) stride: usize,
    pub(crate) into: &'a mut [f32],
}

impl<W: Word> Task<W> for Outer<'_, W> {
    #[inline(always)]
    fn run<U: Unit<Word = W>>(self, u: U) {
        let width = 2 * U::LANES;
        let count = self.right.len() / width;
        if count == 0 {
            return;
        }
        for (tap, rows) in self.rows.chunks_exact(count).enumerate() {
            let mut i = 0;
            while i < self.length {
                let left = self.length - i;
                let into = &mut self.into[(tap * self.length + i) * self.stride..];
                let (stride, columns) = (self.stride, self.columns);
                // SAFETY: rows are readable up to `length`, and `right` holds `count` of `width`.
                unsafe {
                    i += if left >= 8 && U::WIDE {
                        outer::<U, 8>(u, rows, i, self.right, into, stride, columns)
                    } else if left >= 4 {
                        outer::<U, 4>(u, rows, i, self.right, into, stride, columns)
                    } else {
                        outer::<U, 1>(u, rows, i, self.right, into, stride, columns)
                    };
                }
            }
        }
    }
}

/// Asks for a row of sums to be brought near.
#[inline(always)]
pub(crate) fn fetch(row: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which every x86-64 knows.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// `R` rows of [`Outer`] from word `i` on; gives `R`.
///
/// # Safety
/// Rows are readable up to word `i + R`; `right` holds two vectors for each.
#[inline(always)]
unsafe fn outer<U: Unit, const R: usize>(
    u: U,
    rows: &[*const U::Word],
    i: usize,
    right: &[U::Word],
    into: &mut [f32],
    stride: usize,
    columns: usize,
) -> usize {
    // They are needed at the end, and may be far from the cache.
    for r in 0..R {
        fetch(&into[r * stride..][..columns]);
    }
    let mut sums = [[u.zero(); 2]; R];
    let mut right = right.as_ptr();
    for row in rows {
        // SAFETY: by the caller's promise.
        unsafe {
            let b = [u.load(right), u.load(right.add(U::LANES))];
            right = right.add(2 * U::LANES);
            for r in 0..R {
                let a = u.spread(row.add(i + r));
                sums[r][0] = u.add_product(a, b[0], sums[r][0]);
                sums[r][1] = u.add_product(a, b[1], sums[r][1]);
            }
        }
    }
    for r in 0..R {
        put_row(u, sums[r], true, &mut into[r * stride..][..columns]);
    }
    R
}
