//! Matrix products in seven eighths of the multiplications.
//!
//! Both factors are cut into quarters, and seven products of sums of quarters take the place of eight
//! products of quarters (Strassen, "Gaussian elimination is not optimal", Numerische Mathematik 13,
//! 1969). A product is added to the quarters of the result that it belongs to while it is still in
//! registers (as Huang et al. do, "Strassen's algorithm reloaded", SC16). One level is taken, and in 32
//! bits alone: errors are then a small multiple of the plain product's, in relation to the norms of the
//! factors (Higham, Accuracy and Stability of Numerical Algorithms, chapter 23).

// Loops are counted, so that they are unrolled and what they index stays in registers.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use crate::lanes::{arch, load, store};
use crate::rows::{BLOCK, Panels, add_products, fetch, put_row, width};
use crate::unit::{Task, Unit, Word};
use crate::{Buffer, Matrix};

/// Products, each of a sum of left quarters and one of right quarters.
const PRODUCTS: usize = 7;

/// The left sums of quarters 11, 12, 21 and 22.
#[inline(always)]
fn left_sums<S: Simd>(s: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; PRODUCTS] {
    let sum = [s.add_f32s(a, d), s.add_f32s(c, d), s.add_f32s(a, b)];
    [sum[0], sum[1], a, d, sum[2], s.sub_f32s(c, a), s.sub_f32s(b, d)]
}

/// The right ones.
#[inline(always)]
fn right_sums<S: Simd>(s: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; PRODUCTS] {
    let sum = [s.add_f32s(a, d), s.add_f32s(a, b), s.add_f32s(c, d)];
    [sum[0], a, s.sub_f32s(b, d), s.sub_f32s(c, a), d, sum[1], sum[2]]
}

/// Whether each product is added to the quarters of the result (1), subtracted (−1) or neither.
const RESULTS: [[i8; 4]; PRODUCTS] = [
    [1, 0, 0, 1],
    [0, 0, 1, -1],
    [0, 1, 0, 1],
    [1, 0, 1, 0],
    [-1, 1, 0, 0],
    [0, 0, 0, 1],
    [1, 0, 0, 0],
];

/// Left sums that are quarters, and so need no place of their own: of products 2 and 3.
const OWN: [usize; PRODUCTS - 2] = [0, 1, 4, 5, 6];

/// Rows of a half that go through all columns together: their sums should stay in the cache.
const ROWS: usize = 128;
/// The most factors of a half along the common axis: a panel of them should stay in the nearest cache.
const DEPTH: usize = 256;
/// The fewest, for which what is saved is worth the sums.
const WORTH: usize = 64;
/// Rows, or columns, that are asked for ahead.
const AHEAD: usize = 16;
/// Columns of a gradient's left factors that lie together; a multiple of every vector's.
const TOGETHER: usize = 16;

/// A right matrix, its quarters summed.
pub(crate) struct Quartered {
    /// For each pair of panels, for each piece of the common axis, a panel for each product.
    panels: Panels<f32>,
    pieces: usize,
}

impl Quartered {
    /// The matrix `[inner, columns]`, if it can be cut into quarters and is worth it.
    pub(crate) fn of(matrix: Matrix<'_>, inner: usize, columns: usize) -> Option<Self> {
        let width = width::<f32>();
        let pieces = inner.div_ceil(2 * DEPTH);
        let half = inner / (2 * pieces);
        if !columns.is_multiple_of(2 * width) || inner != pieces * 2 * half || half < WORTH {
            return None;
        }
        let panels = Panels::written(columns / 2, pieces * PRODUCTS, half, |pair, words| {
            let mut rows = vec![0.0; if matrix.column == 1 { 0 } else { 4 * half * width }];
            let words = words.chunks_exact_mut(PRODUCTS * half * width).take(pieces);
            for (piece, words) in words.enumerate() {
                let mut part = matrix.at(piece * 2 * half, pair * 2 * width);
                if part.column != 1 {
                    transpose(part, 2 * half, 2 * width, &mut rows);
                    part = Matrix::rows(&rows, 2 * width);
                }
                arch().dispatch(RightSums { rows: part, count: 2 * half, words });
            }
        });
        Some(Self { panels, pieces })
    }

    /// `into` `[rows, columns]` (+)= `left` `[rows, inner]` · this, on this thread.
    pub(crate) fn times(&self, into: &mut [f32], left: &[f32], add: bool) {
        let half = self.panels.length;
        let (inner, columns) = (2 * self.pieces * half, 2 * self.panels.columns);
        let count = left.len() / inner;
        let into = &mut into[..count * columns];
        if !add {
            into.fill(0.0);
        }
        let mut scratch = Buffer::take(OWN.len() * ROWS * half);
        let mut start = 0;
        while start < count {
            // A rest of too few rows for two halves goes by itself.
            let rows = match (count - start).min(2 * ROWS) {
                few if few < 2 * BLOCK => few,
                rows => rows / (2 * BLOCK) * (2 * BLOCK),
            };
            let into = &mut into[start * columns..][..rows * columns];
            for piece in 0..self.pieces {
                let left =
                    &left[start * inner + piece * 2 * half..][..(rows - 1) * inner + 2 * half];
                let (right, left) = (Piece { of: self, piece }, Matrix::rows(left, inner));
                if rows < 2 * BLOCK {
                    let sums = &mut scratch.slice()[..rows * half];
                    few_rows(right, left, rows, sums, into);
                } else {
                    let sums = &mut scratch.slice()[..OWN.len() * rows / 2 * half];
                    arch().dispatch(LeftSums { rows: left, half, sums });
                    f32::run(Rows { right, left, sums, into });
                }
            }
            start += rows;
        }
    }
}

/// Rows of a matrix whose columns are contiguous.
fn transpose(matrix: Matrix<'_>, rows: usize, columns: usize, into: &mut [f32]) {
    for i in (0..rows).step_by(TOGETHER) {
        for j in 0..columns {
            let column = &matrix.data[j * matrix.column..];
            if let Some(next) = matrix.data.get((j + AHEAD) * matrix.column + i..) {
                fetch(&next[..next.len().min(TOGETHER)]);
            }
            for i in i..rows.min(i + TOGETHER) {
                into[i * columns + j] = column[i * matrix.row];
            }
        }
    }
}

/// The right sums of both panels of a pair, a panel for each product: of half as many rows as there are
/// words for. A lower row beyond `count` holds 0.
struct RightSums<'a> {
    rows: Matrix<'a>,
    count: usize,
    words: &'a mut [f32],
}

impl WithSimd for RightSums<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let width = 2 * S::F32_LANES;
        let half = self.words.len() / (PRODUCTS * width);
        for i in 0..half {
            for ahead in [i + AHEAD, half + i + AHEAD] {
                if ahead < self.count {
                    fetch(&self.rows.data[ahead * self.rows.row..][..2 * width]);
                }
            }
            let upper = &self.rows.data[i * self.rows.row..][..2 * width];
            let lower = match half + i < self.count {
                true => &self.rows.data[(half + i) * self.rows.row..][..2 * width],
                false => &[],
            };
            for j in [0, S::F32_LANES] {
                let quarters = [
                    load(s, upper, j),
                    load(s, upper, width + j),
                    load(s, lower, j.min(lower.len())),
                    load(s, lower, (width + j).min(lower.len())),
                ];
                let sums = right_sums(s, quarters);
                for p in 0..PRODUCTS {
                    store(s, self.words, (p * half + i) * width + j, sums[p]);
                }
            }
        }
    }
}

/// The left sums of products that need them, one after the other, of the upper and the lower half of rows
/// that hold twice `half` factors.
struct LeftSums<'a> {
    rows: Matrix<'a>,
    half: usize,
    sums: &'a mut [f32],
}

impl WithSimd for LeftSums<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let half = self.half;
        let rows = self.sums.len() / (OWN.len() * half);
        for r in 0..rows {
            let row = |r: usize| self.rows.data[r * self.rows.row..][..2 * half].split_at(half);
            let ((a, b), (c, d)) = (row(r), row(rows + r));
            for i in (0..half).step_by(S::F32_LANES) {
                let quarters = [load(s, a, i), load(s, b, i), load(s, c, i), load(s, d, i)];
                let sums = left_sums(s, quarters);
                for p in 0..OWN.len() {
                    let row = &mut self.sums[(p * rows + r) * half..][..half];
                    store(s, row, i, sums[OWN[p]]);
                }
            }
        }
    }
}

/// A piece of the common axis.
#[derive(Clone, Copy)]
struct Piece<'a> {
    of: &'a Quartered,
    piece: usize,
}

impl Piece<'_> {
    /// The panel of a product for a pair.
    fn panel(self, pair: usize, product: usize) -> *const f32 {
        let panels = &self.of.panels;
        let size = panels.length * width::<f32>();
        panels.panel(pair, (self.piece * PRODUCTS + product) * size)
    }
}

/// `into` += rows · a piece of the matrix; both halves are of whole blocks of rows.
struct Rows<'a> {
    right: Piece<'a>,
    left: Matrix<'a>,
    sums: &'a [f32],
    into: &'a mut [f32],
}

impl Task<f32> for Rows<'_> {
    #[inline(always)]
    fn run<U: Unit<Word = f32>>(self, u: U) {
        if U::WIDE { self.blocks::<U, BLOCK>(u) } else { self.blocks::<U, { BLOCK / 2 }>(u) }
    }
}

impl Rows<'_> {
    #[inline(always)]
    fn blocks<U: Unit<Word = f32>, const R: usize>(self, u: U) {
        let panels = &self.right.of.panels;
        let (half, columns, width) = (panels.length, 2 * panels.columns, 2 * U::LANES);
        let rows = self.sums.len() / (OWN.len() * half);
        let inner = self.left.row;
        let lefts: [(*const f32, usize); PRODUCTS] = std::array::from_fn(|p| match p {
            2 => (self.left.data.as_ptr(), inner),
            3 => (self.left.at(rows, half).data.as_ptr(), inner),
            _ => {
                let own = OWN.iter().position(|x| *x == p).unwrap_or(0);
                (self.sums[own * rows * half..].as_ptr(), half)
            }
        });
        for first in (0..columns).step_by(2 * width) {
            let corner =
                |lower: usize, right: usize| lower * rows * columns + first + right * width;
            let corners = [corner(0, 0), corner(0, 1), corner(1, 0), corner(1, 1)];
            for (p, (left, stride)) in lefts.into_iter().enumerate() {
                let panel = self.right.panel(first / (2 * width), p);
                for r in (0..rows).step_by(R) {
                    let target = Target {
                        signs: RESULTS[p],
                        corners: corners.map(|c| c + r * columns),
                        stride: columns,
                    };
                    target.fetch::<R>(width, self.into);
                    // SAFETY: rows of sums and of the matrix hold `half` factors, as the panel does.
                    let sums = unsafe {
                        let rows = std::array::from_fn(|i| left.add((r + i) * stride));
                        add_products::<U, R, 1>(u, rows, half, panel, [[u.zero(); 2]; R])
                    };
                    target.put(u, sums, self.into);
                }
            }
        }
    }
}

/// Where in the result a block of a product belongs.
struct Target {
    signs: [i8; 4],
    corners: [usize; 4],
    /// From one row of the result to the next.
    stride: usize,
}

impl Target {
    #[inline(always)]
    fn fetch<const R: usize>(&self, width: usize, into: &[f32]) {
        for (corner, sign) in self.corners.into_iter().zip(self.signs) {
            if sign != 0 {
                for r in 0..R {
                    fetch(&into[corner + r * self.stride..][..width]);
                }
            }
        }
    }

    #[inline(always)]
    fn put<U: Unit, const R: usize>(&self, u: U, sums: [[U::Sums; 2]; R], into: &mut [f32]) {
        for (corner, sign) in self.corners.into_iter().zip(self.signs) {
            if sign == 0 {
                continue;
            }
            for r in 0..R {
                let row = &mut into[corner + r * self.stride..][..2 * U::LANES];
                let sums = match sign < 0 {
                    true => [u.negated(sums[r][0]), u.negated(sums[r][1])],
                    false => sums[r],
                };
                put_row(u, sums, true, row);
            }
        }
    }
}

/// `into` += rows that are too few for two halves times a piece of the matrix, by the plain four products:
/// those of (a₁, a₂) with the quarters are a₁₂·b₁₁ + a₂·(b₂₁ − b₁₁) and a₁₂·b₂₂ + a₁·(b₁₂ − b₂₂), where
/// a₁₂ = a₁ + a₂, and these right factors are among the sums.
fn few_rows(right: Piece<'_>, left: Matrix<'_>, rows: usize, sums: &mut [f32], into: &mut [f32]) {
    let half = right.of.panels.length;
    for (r, sums) in sums.chunks_exact_mut(half).enumerate() {
        let (a, b) = left.data[r * left.row..][..2 * half].split_at(half);
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum = a + b);
    }
    f32::run(FewRows { right, left, rows, sums, into });
}

struct FewRows<'a> {
    right: Piece<'a>,
    left: Matrix<'a>,
    rows: usize,
    sums: &'a [f32],
    into: &'a mut [f32],
}

impl Task<f32> for FewRows<'_> {
    #[inline(always)]
    fn run<U: Unit<Word = f32>>(self, u: U) {
        const ROWS: usize = BLOCK / 2;
        let panels = &self.right.of.panels;
        let (half, columns, width) = (panels.length, 2 * panels.columns, 2 * U::LANES);
        let whole = (self.left.data, self.left.row);
        let lefts = [(self.sums, half), (&whole.0[half..], whole.1), whole, (self.sums, half)];
        for first in (0..columns).step_by(2 * width) {
            for (p, (left, stride)) in lefts.into_iter().enumerate() {
                // Products 1, 3, 2 and 4, of which the first two are for the first panel of the pair.
                let panel = self.right.panel(first / (2 * width), [1, 3, 2, 4][p]);
                for start in (0..self.rows).step_by(ROWS) {
                    // Beyond the last row the first one stands in.
                    let rows = std::array::from_fn(|i| {
                        let row = if start + i < self.rows { start + i } else { 0 };
                        left[row * stride..][..half].as_ptr()
                    });
                    // SAFETY: rows hold `half` factors, as the panel does.
                    let sums = unsafe {
                        add_products::<U, ROWS, 1>(u, rows, half, panel, [[u.zero(); 2]; ROWS])
                    };
                    for r in 0..ROWS {
                        if start + r < self.rows {
                            let at = (start + r) * columns + first + p / 2 * width;
                            put_row(u, sums[r], true, &mut self.into[at..][..width]);
                        }
                    }
                }
            }
        }
    }
}

/// Whether [`gradient`] can and should be used for `count` rows.
pub(crate) fn suits_gradient(count: usize, m: usize, n: usize) -> bool {
    count >= 2 * WORTH && m.is_multiple_of(2 * TOGETHER) && n.is_multiple_of(2 * width::<f32>())
}

/// `into` `[m, n]` += the transpose of `left` `[rows, m]` times `right` `[rows, n]`, on this thread.
pub(crate) fn gradient(into: &mut [f32], left: &[f32], right: &[f32], m: usize, n: usize) {
    let (count, width) = (right.len() / n, width::<f32>());
    let half = count.div_ceil(2 * count.div_ceil(2 * GRADIENT));
    let mut scratch = Buffer::take(PRODUCTS * half * (m / 2 + width));
    let (lefts, rights) = scratch.slice().split_at_mut(PRODUCTS * half * m / 2);
    for start in (0..count).step_by(2 * half) {
        let count = (count - start).min(2 * half);
        let half = count.div_ceil(2);
        let lefts = &mut lefts[..PRODUCTS * half * m / 2];
        let rights = &mut rights[..PRODUCTS * half * width];
        let left = &left[start * m..][..count * m];
        arch().dispatch(LeftColumns { left, m, sums: lefts });
        for first in (0..n).step_by(2 * width) {
            let rows = Matrix::rows(&right[start * n + first..], n);
            arch().dispatch(RightSums { rows, count, words: rights });
            let into = &mut into[first..];
            f32::run(Columns { lefts, rights, m, stride: n, into });
        }
    }
}

/// The most rows of a half that a gradient is summed over at a time.
const GRADIENT: usize = 200;

/// The left sums of both halves of the columns and both halves of the rows: for each product, for each
/// [`TOGETHER`] columns, for each row of a half, those columns.
struct LeftColumns<'a> {
    left: &'a [f32],
    m: usize,
    sums: &'a mut [f32],
}

impl WithSimd for LeftColumns<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let m = self.m;
        let size = self.sums.len() / PRODUCTS;
        let half = size / (m / 2);
        for r in 0..half {
            let (a, c) = self.left[r * m..][..m].split_at(m / 2);
            let lower = self.left.get((half + r) * m..(half + r + 1) * m).unwrap_or(&[]);
            let (b, d) = lower.split_at(lower.len() / 2);
            for j in (0..m / 2).step_by(S::F32_LANES) {
                let quarters = [
                    load(s, a, j),
                    load(s, b, j.min(b.len())),
                    load(s, c, j),
                    load(s, d, j.min(d.len())),
                ];
                let sums = left_sums(s, quarters);
                let at = (j / TOGETHER * half + r) * TOGETHER + j % TOGETHER;
                for p in 0..PRODUCTS {
                    store(s, self.sums, p * size + at, sums[p]);
                }
            }
        }
    }
}

/// `into` += the products of summed columns, for a pair of panels.
struct Columns<'a> {
    lefts: &'a [f32],
    rights: &'a [f32],
    m: usize,
    stride: usize,
    into: &'a mut [f32],
}

impl Task<f32> for Columns<'_> {
    #[inline(always)]
    fn run<U: Unit<Word = f32>>(self, u: U) {
        if U::WIDE { self.blocks::<U, BLOCK>(u) } else { self.blocks::<U, { BLOCK / 2 }>(u) }
    }
}

impl Columns<'_> {
    #[inline(always)]
    fn blocks<U: Unit<Word = f32>, const R: usize>(self, u: U) {
        let width = 2 * U::LANES;
        let (m, stride) = (self.m / 2, self.stride);
        let half = self.rights.len() / (PRODUCTS * width);
        let corners = [0, width, m * stride, m * stride + width];
        for p in 0..PRODUCTS {
            let lefts = &self.lefts[p * half * m..][..half * m];
            let panel = &self.rights[p * half * width..][..half * width];
            for i in (0..m).step_by(R) {
                let target =
                    Target { signs: RESULTS[p], corners: corners.map(|c| c + i * stride), stride };
                target.fetch::<R>(width, self.into);
                let block = &lefts[i / TOGETHER * TOGETHER * half..][..TOGETHER * half];
                // SAFETY: a block has `half` rows of `TOGETHER`, the panel `half` of two vectors.
                let sums = unsafe {
                    let left = block.as_ptr().add(i % TOGETHER);
                    let rows = std::array::from_fn(|r| left.add(r));
                    let zero = [[u.zero(); 2]; R];
                    add_products::<U, R, TOGETHER>(u, rows, half, panel.as_ptr(), zero)
                };
                target.put(u, sums, self.into);
            }
        }
    }
}
