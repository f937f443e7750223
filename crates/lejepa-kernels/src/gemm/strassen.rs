//! One level of Strassen–Winograd for f32: seven block products instead of eight.
//!
//! Both operands are split into quadrants, and seven products of sums of quadrants replace the eight products
//! of quadrants (Strassen, "Gaussian elimination is not optimal", Numerische Mathematik 13, 1969; Winograd's
//! variant in Higham, Accuracy and Stability of Numerical Algorithms, section 23.2.2). Products that
//! contribute to the same quadrants are consecutive, so their sum stays in registers. The error is a small
//! multiple of that of the plain product, relative to the norms of the operands.

// Counted loops are unrolled, so that the arrays they index stay in registers.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use super::indirect::{MR, microkernel, store_row};
use super::isa::{Isa, Packed, WithIsa};
use super::matrix::{Matrix, prefetch};
use super::panels::{Panels, nr};
use crate::buffer::Buffer;
use crate::simd::{arch, load, store};

/// Block products, each of a sum of quadrants of A and one of quadrants of B.
const PRODUCTS: usize = 7;

/// The left-hand sides of all products, from quadrants 11, 12, 21 and 22 of A.
#[inline(always)]
fn lhs_sums<S: Simd>(s: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; PRODUCTS] {
    let lower = s.add_f32s(c, d);
    let mixed = s.sub_f32s(lower, a);
    [a, mixed, s.sub_f32s(a, c), d, lower, s.sub_f32s(b, mixed), b]
}

/// The right-hand sides of all products, from quadrants 11, 12, 21 and 22 of B.
#[inline(always)]
fn rhs_sums<S: Simd>(s: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; PRODUCTS] {
    let upper = s.sub_f32s(b, a);
    let mixed = s.sub_f32s(d, upper);
    [a, mixed, s.sub_f32s(d, b), s.sub_f32s(c, mixed), upper, d, c]
}

/// Products in the order of summation, each with the quadrant of C that the running sum is then added to.
/// There are three running sums: of four products, of two, and of one.
const SCHEDULE: [&[(usize, usize)]; 3] =
    [&[(0, 0), (1, 1), (2, 3), (3, 2)], &[(4, 3), (5, 1)], &[(6, 0)]];

/// Products whose left-hand side is a sum of quadrants, which needs memory of its own.
const SUMMED_LHS: [usize; PRODUCTS - 3] = [1, 2, 4, 5];

/// Rows of a half in a block; their sums should stay in the cache.
const MC: usize = 128;
/// Rows of a half are a multiple of this, the smaller register tile.
const MIN_ROWS: usize = MR / 2;
/// Maximum inner dimension of a half; the panels of all products should stay in the cache.
const MAX_HALF: usize = 384;
/// Minimum inner dimension of a half for which the saved product outweighs the sums.
const MIN_HALF: usize = 64;
/// Prefetch distance in rows or columns.
const AHEAD: usize = 16;
/// Contiguous columns of A in the sums for [`at_b`]; a multiple of every vector length.
const TILE: usize = 16;
/// Columns of A in a block of [`at_b`], whose sums should stay in the cache; a multiple of 2·[`TILE`].
const MC_AT_B: usize = 384;
/// Maximum rows of a half that [`at_b`] sums over at a time.
const KC_AT_B: usize = 256;

/// B, packed as the right-hand sides of all products.
pub(crate) struct StrassenPacked {
    /// For each pair of panels of B, for each block of the inner dimension, a panel for each product.
    panels: Panels<f32>,
    k_blocks: usize,
}

impl StrassenPacked {
    /// Packs a `[k, n]` matrix, if it divides into quadrants and is large enough.
    pub(crate) fn new(matrix: Matrix<'_>, k: usize, n: usize) -> Option<Self> {
        let nr = nr::<f32>();
        let k_blocks = k.div_ceil(2 * MAX_HALF);
        let half = k / (2 * k_blocks);
        if !n.is_multiple_of(2 * nr) || k != k_blocks * 2 * half || half < MIN_HALF {
            return None;
        }
        let panels = Panels::new(n / 2, k_blocks * PRODUCTS, half, |pair, elements| {
            let mut rows = vec![0.0; if matrix.column == 1 { 0 } else { 4 * half * nr }];
            let blocks = elements.chunks_exact_mut(PRODUCTS * half * nr).take(k_blocks);
            for (k_block, sums) in blocks.enumerate() {
                let mut block = matrix.at(k_block * 2 * half, pair * 2 * nr);
                if block.column != 1 {
                    block.copy_to(2 * half, 2 * nr, &mut rows);
                    block = Matrix::rows(&rows, 2 * nr);
                }
                arch().dispatch(RhsSums { b: block, rows: 2 * half, sums });
            }
        });
        Some(Self { panels, k_blocks })
    }

    /// `c` `[rows, n]` (+)= `a` `[rows, k]` times the packed matrix, on the calling thread.
    pub(crate) fn multiply(&self, c: &mut [f32], a: &[f32], accumulate: bool) {
        let half = self.panels.k;
        let (k, n) = (2 * self.k_blocks * half, 2 * self.panels.n);
        let count = a.len() / k;
        let mut scratch = Buffer::take(SUMMED_LHS.len() * MC * half);
        let mut start = 0;
        while start < count {
            // Fewer than 2·MIN_ROWS remaining rows are not split into halves.
            let rows = match (count - start).min(2 * MC) {
                few if few < 2 * MIN_ROWS => few,
                rows => rows / (2 * MIN_ROWS) * (2 * MIN_ROWS),
            };
            let c = &mut c[start * n..][..rows * n];
            for k_block in 0..self.k_blocks {
                let a = &a[start * k + k_block * 2 * half..][..(rows - 1) * k + 2 * half];
                let (b, a) = (KBlock { packed: self, k_block }, Matrix::rows(a, k));
                let (c, accumulate) = (&mut *c, accumulate || k_block > 0);
                if rows < 2 * MIN_ROWS {
                    f32::dispatch(TailRows { a, b, rows, accumulate, c });
                } else {
                    let sums = &mut scratch.slice()[..SUMMED_LHS.len() * rows / 2 * half];
                    arch().dispatch(LhsSums { a, half, sums });
                    f32::dispatch(RowBlock { a, b, sums, accumulate, c });
                }
            }
            start += rows;
        }
    }
}

/// Right-hand sides from two panels of B, a panel for each product. Upper and lower half have as many rows
/// as `sums` has room for; rows of B from `rows` on are 0.
struct RhsSums<'a> {
    b: Matrix<'a>,
    rows: usize,
    sums: &'a mut [f32],
}

impl WithSimd for RhsSums<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let nr = 2 * S::F32_LANES;
        let half = self.sums.len() / (PRODUCTS * nr);
        for i in 0..half {
            for ahead in [i + AHEAD, half + i + AHEAD] {
                if ahead < self.rows {
                    prefetch(&self.b.data[ahead * self.b.row..][..2 * nr]);
                }
            }
            let upper = &self.b.data[i * self.b.row..][..2 * nr];
            let lower = match half + i < self.rows {
                true => &self.b.data[(half + i) * self.b.row..][..2 * nr],
                false => &[],
            };
            for j in [0, S::F32_LANES] {
                let quadrants = [
                    load(s, upper, j),
                    load(s, upper, nr + j),
                    load(s, lower, j.min(lower.len())),
                    load(s, lower, (nr + j).min(lower.len())),
                ];
                let sums = rhs_sums(s, quadrants);
                for p in 0..PRODUCTS {
                    store(s, self.sums, (p * half + i) * nr + j, sums[p]);
                }
            }
        }
    }
}

/// The left-hand sides that are sums, one after the other, from rows of 2·`half` values.
struct LhsSums<'a> {
    a: Matrix<'a>,
    half: usize,
    sums: &'a mut [f32],
}

impl WithSimd for LhsSums<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let half = self.half;
        let rows = self.sums.len() / (SUMMED_LHS.len() * half);
        for r in 0..rows {
            let row = |r: usize| self.a.data[r * self.a.row..][..2 * half].split_at(half);
            let ((a, b), (c, d)) = (row(r), row(rows + r));
            for i in (0..half).step_by(S::F32_LANES) {
                let quadrants = [load(s, a, i), load(s, b, i), load(s, c, i), load(s, d, i)];
                let sums = lhs_sums(s, quadrants);
                for p in 0..SUMMED_LHS.len() {
                    let row = &mut self.sums[(p * rows + r) * half..][..half];
                    store(s, row, i, sums[SUMMED_LHS[p]]);
                }
            }
        }
    }
}

/// A block of the inner dimension of packed B.
#[derive(Clone, Copy)]
struct KBlock<'a> {
    packed: &'a StrassenPacked,
    k_block: usize,
}

impl KBlock<'_> {
    /// The panel of a product for a pair of panels of B: `half` rows of `nr` columns.
    fn panel(&self, pair: usize, product: usize, nr: usize) -> &[f32] {
        let panels = &self.packed.panels;
        let size = panels.k * nr;
        &panels.panel(pair)[(self.k_block * PRODUCTS + product) * size..][..size]
    }
}

/// `c` (+)= a block of rows times a block of B. Each half has a multiple of [`MIN_ROWS`] rows.
struct RowBlock<'a> {
    a: Matrix<'a>,
    b: KBlock<'a>,
    /// [`LhsSums`]
    sums: &'a [f32],
    accumulate: bool,
    c: &'a mut [f32],
}

impl WithIsa<f32> for RowBlock<'_> {
    #[inline(always)]
    fn with_isa<I: Isa<Packed = f32>>(self, isa: I) {
        let panels = &self.b.packed.panels;
        let (half, n, nr) = (panels.k, 2 * panels.n, 2 * I::LANES);
        let rows = self.sums.len() / (SUMMED_LHS.len() * half);
        let k = self.a.row;
        assert!(rows > 0 && rows.is_multiple_of(MIN_ROWS), "the rows of a half");
        assert!(self.a.data.len() >= (2 * rows - 1) * k + 2 * half, "the rows of A");
        let lhs: [(*const f32, usize); PRODUCTS] = std::array::from_fn(|p| match p {
            0 => (self.a.data.as_ptr(), k),
            3 => (self.a.at(rows, half).data.as_ptr(), k),
            6 => (self.a.at(0, half).data.as_ptr(), k),
            _ => {
                let i = SUMMED_LHS.iter().position(|x| *x == p).unwrap_or(0);
                (self.sums[i * rows * half..].as_ptr(), half)
            }
        });
        for first in (0..n).step_by(2 * nr) {
            let offset = |lower: usize, right: usize| lower * rows * n + first + right * nr;
            let offsets = [offset(0, 0), offset(0, 1), offset(1, 0), offset(1, 1)];
            let panels: [_; PRODUCTS] =
                std::array::from_fn(|p| self.b.panel(first / (2 * nr), p, nr).as_ptr());
            let mut r = 0;
            while r < rows {
                let offsets = offsets.map(|c| c + r * n);
                let lhs = lhs.map(|(row, stride)| (row.wrapping_add(r * stride), stride));
                let quadrants = Quadrants { offsets, stride: n, c: self.c };
                // SAFETY: `rows` is a multiple of `MIN_ROWS`, so no tile extends beyond it. Each half of A
                // has `rows` rows of 2·`half` values, as asserted above, each sum `rows` of `half`, and each
                // panel was sliced to `half` rows of two vectors.
                unsafe {
                    if I::WIDE && r + MR <= rows {
                        quadrants.multiply::<I, MR, 1>(isa, lhs, panels, half, self.accumulate);
                        r += MR;
                    } else {
                        quadrants.multiply::<I, MIN_ROWS, 1>(
                            isa,
                            lhs,
                            panels,
                            half,
                            self.accumulate,
                        );
                        r += MIN_ROWS;
                    }
                }
            }
        }
    }
}

/// A tile of rows, two vectors wide, in each quadrant of C.
struct Quadrants<'a> {
    /// Where the tiles start.
    offsets: [usize; 4],
    /// Row stride of `c`.
    stride: usize,
    c: &'a mut [f32],
}

impl Quadrants<'_> {
    /// The tiles (+)= all products. `lhs` has the first row and the row stride of each left-hand side, whose
    /// consecutive values in a row are `STEP` apart.
    ///
    /// # Safety
    /// `R` rows of each left-hand side are readable for `half` such values, each panel for `half` rows of two
    /// vectors.
    #[inline(always)]
    unsafe fn multiply<I: Isa<Packed = f32>, const R: usize, const STEP: usize>(
        self,
        isa: I,
        lhs: [(*const f32, usize); PRODUCTS],
        panels: [*const f32; PRODUCTS],
        half: usize,
        accumulate: bool,
    ) {
        let nr = 2 * I::LANES;
        for (n, products) in SCHEDULE.into_iter().enumerate() {
            let mut acc = [[isa.zero(); 2]; R];
            for &(p, quadrant) in products {
                let first = self.offsets[quadrant];
                for r in 0..R {
                    prefetch(&self.c[first + r * self.stride..][..nr]);
                }
                let (row, stride) = lhs[p];
                // SAFETY: the caller guarantees the rows and the panel.
                acc = unsafe {
                    let rows = std::array::from_fn(|r| row.add(r * stride));
                    microkernel::<I, R, STEP>(isa, rows, half, panels[p], acc)
                };
                for r in 0..R {
                    let row = &mut self.c[first + r * self.stride..][..nr];
                    // The first running sum reaches all quadrants before the others do.
                    store_row(isa, acc[r], accumulate || n > 0, row);
                }
            }
        }
    }
}

/// `c` (+)= rows too few to be split into halves times a block of B, by the plain four products. With the
/// halves a₁ and a₂ of a row, the quadrants are a₁·b₁₁ + a₂·b₂₁ and a₁·b₁₁ + a₁·(b₁₂ − b₁₁) + a₂·b₂₂.
struct TailRows<'a> {
    a: Matrix<'a>,
    b: KBlock<'a>,
    rows: usize,
    accumulate: bool,
    c: &'a mut [f32],
}

impl WithIsa<f32> for TailRows<'_> {
    #[inline(always)]
    fn with_isa<I: Isa<Packed = f32>>(self, isa: I) {
        let panels = &self.b.packed.panels;
        let (half, n, nr) = (panels.k, 2 * panels.n, 2 * I::LANES);
        for first in (0..n).step_by(2 * nr) {
            let panel = |p: usize| self.b.panel(first / (2 * nr), p, nr).as_ptr();
            let [b11, b21, difference, b22] = [panel(0), panel(6), panel(4), panel(5)];
            for start in (0..self.rows).step_by(MIN_ROWS) {
                // Padded with row 0, whose product is discarded.
                let left: [*const f32; MIN_ROWS] = std::array::from_fn(|i| {
                    let row = if start + i < self.rows { start + i } else { 0 };
                    self.a.data[row * self.a.row..][..2 * half].as_ptr()
                });
                // SAFETY: rows were sliced to 2·`half` values, panels to `half` rows of two vectors.
                let acc = unsafe {
                    let right = left.map(|row| row.add(half));
                    let zero = [[isa.zero(); 2]; MIN_ROWS];
                    let both = microkernel::<I, MIN_ROWS, 1>(isa, left, half, b11, zero);
                    let second = microkernel::<I, MIN_ROWS, 1>(isa, left, half, difference, both);
                    [
                        microkernel::<I, MIN_ROWS, 1>(isa, right, half, b21, both),
                        microkernel::<I, MIN_ROWS, 1>(isa, right, half, b22, second),
                    ]
                };
                for (i, acc) in acc.into_iter().enumerate() {
                    for r in 0..MIN_ROWS {
                        if start + r < self.rows {
                            let at = (start + r) * n + first + i * nr;
                            store_row(isa, acc[r], self.accumulate, &mut self.c[at..][..nr]);
                        }
                    }
                }
            }
        }
    }
}

/// Whether [`at_b`] supports these sizes and outperforms the plain product.
pub(crate) fn is_profitable(rows: usize, m: usize, n: usize) -> bool {
    rows >= 2 * MIN_HALF && m.is_multiple_of(2 * TILE) && n.is_multiple_of(2 * nr::<f32>())
}

/// `c` `[m, n]` += Aᵀ·B for contiguous `a` `[rows, m]` and `b` `[rows, n]`, on the calling thread.
///
/// # Panics
/// If [`is_profitable`] is false, or a slice is too short.
pub(crate) fn at_b(c: &mut [f32], a: &[f32], b: &[f32], m: usize, n: usize) {
    let (rows, nr) = (b.len() / n, nr::<f32>());
    assert!(is_profitable(rows, m, n), "sizes that Strassen's algorithm does not support");
    assert!(a.len() >= rows * m && c.len() >= m * n, "the rows of Aᵀ·B");
    let half = rows.div_ceil(2 * rows.div_ceil(2 * KC_AT_B));
    // Right-hand sides are saved if there is more than one block of columns of A.
    let pairs = if m > MC_AT_B { n / (2 * nr) } else { 1 };
    let (size, lhs) = (PRODUCTS * half * nr, PRODUCTS * half * MC_AT_B.min(m) / 2);
    let mut scratch = Buffer::take(lhs + pairs * size);
    let (lhs, rhs) = scratch.slice().split_at_mut(lhs);
    for start in (0..rows).step_by(2 * half) {
        let rows = (rows - start).min(2 * half);
        let half = rows.div_ceil(2);
        for from in (0..m).step_by(MC_AT_B) {
            let columns = MC_AT_B.min(m - from);
            let lhs = &mut lhs[..PRODUCTS * half * columns / 2];
            let block = Matrix::rows(&a[start * m + from..], m);
            arch().dispatch(LhsColumnSums { a: block, rows, columns, sums: &mut *lhs });
            for (pair, first) in (0..n).step_by(2 * nr).enumerate() {
                let rhs = &mut rhs[pair % pairs * size..][..PRODUCTS * half * nr];
                if from == 0 || pairs == 1 {
                    let block = Matrix::rows(&b[start * n + first..], n);
                    arch().dispatch(RhsSums { b: block, rows, sums: &mut *rhs });
                }
                let c = &mut c[from * n + first..];
                f32::dispatch(ColumnBlock { lhs, rhs, m: columns, stride: n, c });
            }
        }
    }
}

/// Left-hand sides from the columns of A, halved, and its rows, halved: for each product, for each [`TILE`]
/// columns, for each row of a half, those columns. Rows from `rows` on are 0.
struct LhsColumnSums<'a> {
    a: Matrix<'a>,
    rows: usize,
    columns: usize,
    sums: &'a mut [f32],
}

impl WithSimd for LhsColumnSums<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let m = self.columns;
        let size = self.sums.len() / PRODUCTS;
        let half = size / (m / 2);
        let row = |r: usize| &self.a.data[r * self.a.row..][..m];
        // Reads are strided, so that the sums of each product are written contiguously.
        for j in (0..m / 2).step_by(TILE) {
            for r in 0..half {
                for ahead in [r + AHEAD, half + r + AHEAD] {
                    if ahead < self.rows {
                        prefetch(&row(ahead)[j..][..TILE]);
                        prefetch(&row(ahead)[m / 2 + j..][..TILE]);
                    }
                }
                let upper = row(r);
                let lower = if half + r < self.rows { row(half + r) } else { &[] };
                for i in (j..j + TILE).step_by(S::F32_LANES) {
                    let quadrants = [
                        load(s, upper, i),
                        load(s, lower, i.min(lower.len())),
                        load(s, upper, m / 2 + i),
                        load(s, lower, (m / 2 + i).min(lower.len())),
                    ];
                    let sums = lhs_sums(s, quadrants);
                    let at = (j * half) + r * TILE + i - j;
                    for p in 0..PRODUCTS {
                        store(s, self.sums, p * size + at, sums[p]);
                    }
                }
            }
        }
    }
}

/// `c` += the products of a block of columns of A and a pair of panels of B.
struct ColumnBlock<'a> {
    /// [`LhsColumnSums`]
    lhs: &'a [f32],
    /// [`RhsSums`]
    rhs: &'a [f32],
    /// Columns of A.
    m: usize,
    /// Row stride of `c`.
    stride: usize,
    c: &'a mut [f32],
}

impl WithIsa<f32> for ColumnBlock<'_> {
    #[inline(always)]
    fn with_isa<I: Isa<Packed = f32>>(self, isa: I) {
        if I::WIDE { self.tiles::<I, MR>(isa) } else { self.tiles::<I, MIN_ROWS>(isa) }
    }
}

impl ColumnBlock<'_> {
    #[inline(always)]
    fn tiles<I: Isa<Packed = f32>, const R: usize>(self, isa: I) {
        let nr = 2 * I::LANES;
        let (m, stride) = (self.m / 2, self.stride);
        let half = self.rhs.len() / (PRODUCTS * nr);
        const { assert!(TILE.is_multiple_of(R)) };
        assert!(m.is_multiple_of(TILE), "the columns of a half");
        assert!(self.lhs.len() >= PRODUCTS * half * m, "the left-hand sides");
        let panels: [_; PRODUCTS] =
            std::array::from_fn(|p| self.rhs[p * half * nr..][..half * nr].as_ptr());
        for i in (0..m).step_by(R) {
            let (tile, column) = (i / TILE * TILE, i % TILE);
            let lhs = std::array::from_fn(|p| {
                (self.lhs[p * half * m + tile * half + column..].as_ptr(), 1)
            });
            let offsets = [0, nr, m * stride, m * stride + nr].map(|c| c + i * stride);
            let quadrants = Quadrants { offsets, stride, c: self.c };
            // SAFETY: `lhs` has m / TILE tiles of `half` rows of TILE columns for each product, as asserted
            // above, and R divides TILE, so columns `column` to `column` + R are in one tile. Panels were
            // sliced to `half` rows of two vectors.
            unsafe { quadrants.multiply::<I, R, TILE>(isa, lhs, panels, half, true) };
        }
    }
}
