//! Matrix products in seven eighths of the multiplications.
//!
//! Both factors are cut into quarters, and seven products of sums of quarters take the place of eight
//! products of quarters (Strassen, "Gaussian elimination is not optimal", Numerische Mathematik 13,
//! 1969), in the form of Winograd's, whose sums share parts (Higham, Accuracy and Stability of Numerical
//! Algorithms, section 23.2.2). Products that come to the same quarters follow each other, so that their
//! sum stays in registers from one to the next, and each product makes for one addition to a quarter
//! instead of twelve for seven. One level is taken, and in 32 bits alone: errors are then a small multiple of the plain
//! product's, in relation to the norms of the factors (Higham, section 23.2.2).

// Loops are counted, so that they are unrolled and what they index stays in registers.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use crate::lanes::{arch, load, store};
use crate::rows::{BLOCK, Panels, add_products, fetch, put_row, width};
use crate::unit::{Task, Unit, Word};
use crate::{Buffer, Matrix};

/// Products, each of a sum of left quarters and one of right quarters.
const PRODUCTS: usize = 7;

/// The left factors of all products, of quarters 11, 12, 21 and 22.
#[inline(always)]
fn left_sums<S: Simd>(s: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; PRODUCTS] {
    let lower = s.add_f32s(c, d);
    let most = s.sub_f32s(lower, a);
    [a, most, s.sub_f32s(a, c), d, lower, s.sub_f32s(b, most), b]
}

/// The right ones.
#[inline(always)]
fn right_sums<S: Simd>(s: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; PRODUCTS] {
    let upper = s.sub_f32s(b, a);
    let most = s.sub_f32s(d, upper);
    [a, most, s.sub_f32s(d, b), s.sub_f32s(c, most), upper, d, c]
}

/// Products in the order in which they are summed, and the quarter of the result that the sum so far is
/// added to: the first four make one sum, the next two another, the last one is by itself.
const SUMS: [&[(usize, usize)]; 3] =
    [&[(0, 0), (1, 1), (2, 3), (3, 2)], &[(4, 3), (5, 1)], &[(6, 0)]];

/// Left factors that are sums, and so need a place of their own: of these products.
const OWN: [usize; PRODUCTS - 3] = [1, 2, 4, 5];

/// Rows of a half that go through all columns together: their sums should stay in the cache.
const ROWS: usize = 128;
/// Rows that a half's are a multiple of: a smaller block, for where there are no more rows or registers.
const LEAST: usize = BLOCK / 2;
/// The most factors of a half along the common axis: the panels of all products should stay in the cache.
const DEPTH: usize = 384;
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
                    part.copied(2 * half, 2 * width, &mut rows);
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
        let mut scratch = Buffer::take(OWN.len() * ROWS * half);
        let mut start = 0;
        while start < count {
            // A rest of too few rows for two halves goes by itself.
            let rows = match (count - start).min(2 * ROWS) {
                few if few < 2 * LEAST => few,
                rows => rows / (2 * LEAST) * (2 * LEAST),
            };
            let into = &mut into[start * columns..][..rows * columns];
            for piece in 0..self.pieces {
                let left =
                    &left[start * inner + piece * 2 * half..][..(rows - 1) * inner + 2 * half];
                let (right, left) = (Piece { of: self, piece }, Matrix::rows(left, inner));
                let (into, add) = (&mut *into, add || piece > 0);
                if rows < 2 * LEAST {
                    f32::run(FewRows { right, left, rows, add, into });
                } else {
                    let sums = &mut scratch.slice()[..OWN.len() * rows / 2 * half];
                    arch().dispatch(LeftSums { rows: left, half, sums });
                    f32::run(Rows { right, left, sums, add, into });
                }
            }
            start += rows;
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

/// `into` (+)= rows · a piece of the matrix; both halves are a multiple of [`LEAST`] rows.
struct Rows<'a> {
    right: Piece<'a>,
    left: Matrix<'a>,
    sums: &'a [f32],
    add: bool,
    into: &'a mut [f32],
}

impl Task<f32> for Rows<'_> {
    #[inline(always)]
    fn run<U: Unit<Word = f32>>(self, u: U) {
        let panels = &self.right.of.panels;
        let (half, columns, width) = (panels.length, 2 * panels.columns, 2 * U::LANES);
        let rows = self.sums.len() / (OWN.len() * half);
        let inner = self.left.row;
        let lefts: [(*const f32, usize); PRODUCTS] = std::array::from_fn(|p| match p {
            0 => (self.left.data.as_ptr(), inner),
            3 => (self.left.at(rows, half).data.as_ptr(), inner),
            6 => (self.left.at(0, half).data.as_ptr(), inner),
            _ => {
                let own = OWN.iter().position(|x| *x == p).unwrap_or(0);
                (self.sums[own * rows * half..].as_ptr(), half)
            }
        });
        for first in (0..columns).step_by(2 * width) {
            let corner =
                |lower: usize, right: usize| lower * rows * columns + first + right * width;
            let corners = [corner(0, 0), corner(0, 1), corner(1, 0), corner(1, 1)];
            let panels: [_; PRODUCTS] =
                std::array::from_fn(|p| self.right.panel(first / (2 * width), p));
            let mut r = 0;
            while r < rows {
                let corners = corners.map(|c| c + r * columns);
                let lefts = lefts.map(|(left, stride)| (left.wrapping_add(r * stride), stride));
                let quarters = Quarters { corners, stride: columns, into: self.into };
                // SAFETY: rows of sums and of the matrix hold `half` factors, as panels do.
                unsafe {
                    if U::WIDE && r + BLOCK <= rows {
                        quarters.sum::<U, BLOCK, 1>(u, lefts, panels, half, self.add);
                        r += BLOCK;
                    } else {
                        quarters.sum::<U, LEAST, 1>(u, lefts, panels, half, self.add);
                        r += LEAST;
                    }
                }
            }
        }
    }
}

/// A block of rows, two vectors wide, in each quarter of the result.
struct Quarters<'a> {
    /// Where they begin.
    corners: [usize; 4],
    /// From one row of the result to the next.
    stride: usize,
    into: &'a mut [f32],
}

impl Quarters<'_> {
    /// The blocks (+)= all products of left factors and panels. Of the left ones, there is the first row
    /// and how far it is to the next; from one factor to the next it is `STEP`.
    ///
    /// # Safety
    /// `R` rows are readable for `half` such factors, panels for as many rows of two vectors.
    #[inline(always)]
    unsafe fn sum<U: Unit<Word = f32>, const R: usize, const STEP: usize>(
        self,
        u: U,
        lefts: [(*const f32, usize); PRODUCTS],
        panels: [*const f32; PRODUCTS],
        half: usize,
        add: bool,
    ) {
        let width = 2 * U::LANES;
        for (n, products) in SUMS.into_iter().enumerate() {
            let mut sums = [[u.zero(); 2]; R];
            for &(p, quarter) in products {
                let first = self.corners[quarter];
                for r in 0..R {
                    fetch(&self.into[first + r * self.stride..][..width]);
                }
                let (left, stride) = lefts[p];
                // SAFETY: by the caller's promise.
                sums = unsafe {
                    let rows = std::array::from_fn(|r| left.add(r * stride));
                    add_products::<U, R, STEP>(u, rows, half, panels[p], sums)
                };
                for r in 0..R {
                    let row = &mut self.into[first + r * self.stride..][..width];
                    // The first sum comes to all quarters before the others.
                    put_row(u, sums[r], add || n > 0, row);
                }
            }
        }
    }
}

/// `into` (+)= rows that are too few for two halves times a piece of the matrix, by the plain four products:
/// with a₁ and a₂, those of the quarters are a₁·b₁₁ + a₂·b₂₁ and a₁·b₁₁ + a₁·(b₁₂ − b₁₁) + a₂·b₂₂.
struct FewRows<'a> {
    right: Piece<'a>,
    left: Matrix<'a>,
    rows: usize,
    add: bool,
    into: &'a mut [f32],
}

impl Task<f32> for FewRows<'_> {
    #[inline(always)]
    fn run<U: Unit<Word = f32>>(self, u: U) {
        let panels = &self.right.of.panels;
        let (half, columns, width) = (panels.length, 2 * panels.columns, 2 * U::LANES);
        for first in (0..columns).step_by(2 * width) {
            let panel = |p: usize| self.right.panel(first / (2 * width), p);
            let [upper, lower, across, last] = [panel(0), panel(6), panel(4), panel(5)];
            for start in (0..self.rows).step_by(LEAST) {
                // Beyond the last row the first one stands in.
                let left: [*const f32; LEAST] = std::array::from_fn(|i| {
                    let row = if start + i < self.rows { start + i } else { 0 };
                    self.left.data[row * self.left.row..][..2 * half].as_ptr()
                });
                // SAFETY: rows hold twice `half` factors, a panel `half`.
                let sums = unsafe {
                    let right = left.map(|row| row.add(half));
                    let zero = [[u.zero(); 2]; LEAST];
                    let both = add_products::<U, LEAST, 1>(u, left, half, upper, zero);
                    let second = add_products::<U, LEAST, 1>(u, left, half, across, both);
                    [
                        add_products::<U, LEAST, 1>(u, right, half, lower, both),
                        add_products::<U, LEAST, 1>(u, right, half, last, second),
                    ]
                };
                for (i, sums) in sums.into_iter().enumerate() {
                    for r in 0..LEAST {
                        if start + r < self.rows {
                            let at = (start + r) * columns + first + i * width;
                            put_row(u, sums[r], self.add, &mut self.into[at..][..width]);
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
    // Right sums that are needed again are kept.
    let pairs = if m > COLUMNS { n / (2 * width) } else { 1 };
    let (size, lefts) = (PRODUCTS * half * width, PRODUCTS * half * COLUMNS.min(m) / 2);
    let mut scratch = Buffer::take(lefts + pairs * size);
    let (lefts, rights) = scratch.slice().split_at_mut(lefts);
    for start in (0..count).step_by(2 * half) {
        let count = (count - start).min(2 * half);
        let half = count.div_ceil(2);
        for from in (0..m).step_by(COLUMNS) {
            let columns = COLUMNS.min(m - from);
            let lefts = &mut lefts[..PRODUCTS * half * columns / 2];
            let rows = Matrix::rows(&left[start * m + from..], m);
            arch().dispatch(LeftColumns { rows, count, columns, sums: &mut *lefts });
            for (pair, first) in (0..n).step_by(2 * width).enumerate() {
                let rights = &mut rights[pair % pairs * size..][..PRODUCTS * half * width];
                if from == 0 || pairs == 1 {
                    let rows = Matrix::rows(&right[start * n + first..], n);
                    arch().dispatch(RightSums { rows, count, words: &mut *rights });
                }
                let into = &mut into[from * n + first..];
                f32::run(Columns { lefts, rights, m: columns, stride: n, into });
            }
        }
    }
}

/// Columns of a gradient's left factors whose sums stay in the cache; a multiple of twice [`TOGETHER`].
const COLUMNS: usize = 384;
/// The most rows of a half that a gradient is summed over at a time.
const GRADIENT: usize = 256;

/// The left sums of both halves of the columns and both halves of the rows: for each product, for each
/// [`TOGETHER`] columns, for each row of a half, those columns.
struct LeftColumns<'a> {
    rows: Matrix<'a>,
    count: usize,
    columns: usize,
    sums: &'a mut [f32],
}

impl WithSimd for LeftColumns<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let m = self.columns;
        let size = self.sums.len() / PRODUCTS;
        let half = size / (m / 2);
        let row = |r: usize| &self.rows.data[r * self.rows.row..][..m];
        // Reads are far apart, so that each product's sums are written one after the other.
        for j in (0..m / 2).step_by(TOGETHER) {
            for r in 0..half {
                for ahead in [r + AHEAD, half + r + AHEAD] {
                    if ahead < self.count {
                        fetch(&row(ahead)[j..][..TOGETHER]);
                        fetch(&row(ahead)[m / 2 + j..][..TOGETHER]);
                    }
                }
                let upper = row(r);
                let lower = if half + r < self.count { row(half + r) } else { &[] };
                for i in (j..j + TOGETHER).step_by(S::F32_LANES) {
                    let quarters = [
                        load(s, upper, i),
                        load(s, lower, i.min(lower.len())),
                        load(s, upper, m / 2 + i),
                        load(s, lower, (m / 2 + i).min(lower.len())),
                    ];
                    let sums = left_sums(s, quarters);
                    let at = (j * half) + r * TOGETHER + i - j;
                    for p in 0..PRODUCTS {
                        store(s, self.sums, p * size + at, sums[p]);
                    }
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
        if U::WIDE { self.blocks::<U, BLOCK>(u) } else { self.blocks::<U, LEAST>(u) }
    }
}

impl Columns<'_> {
    #[inline(always)]
    fn blocks<U: Unit<Word = f32>, const R: usize>(self, u: U) {
        let width = 2 * U::LANES;
        let (m, stride) = (self.m / 2, self.stride);
        let half = self.rights.len() / (PRODUCTS * width);
        let panels: [_; PRODUCTS] =
            std::array::from_fn(|p| self.rights[p * half * width..].as_ptr());
        for i in (0..m).step_by(R) {
            let (block, column) = (i / TOGETHER * TOGETHER, i % TOGETHER);
            let lefts = std::array::from_fn(|p| {
                (self.lefts[p * half * m + block * half + column..].as_ptr(), 1)
            });
            let corners = [0, width, m * stride, m * stride + width].map(|c| c + i * stride);
            let quarters = Quarters { corners, stride, into: self.into };
            // SAFETY: blocks have `half` rows of `TOGETHER`, panels `half` of two vectors.
            unsafe { quarters.sum::<U, R, TOGETHER>(u, lefts, panels, half, true) };
        }
    }
}
