//! Products with the weights of a layer, packed once for all chunks of rows.

use crate::joins::{Across, Along, Blocked, NONE};
use crate::rows::{BLOCK, Outer, Panels, Sweep, following, width};
use crate::strassen::{self, Quartered};
use crate::unit::{Pair, Word};
use crate::{Buffer, Matrix, Precision, bf16, product};

/// Rows whose gradients are summed at a time: they should stay in the cache.
const SUMMED: usize = 256;

/// A matrix that rows are multiplied with.
pub(crate) struct Weight<'a> {
    matrix: Matrix<'a>,
    inner: usize,
    columns: usize,
    packed: Packed,
}

enum Packed {
    Numbers(Panels<f32>),
    /// For fewer multiplications.
    Quarters(Quartered),
    Pairs(Panels<Pair>),
    /// AMX packs both sides into tiles of its own.
    Tiles,
}

/// Whether AMX multiplies, with a given precision.
pub(crate) fn packs_tiles(precision: Precision) -> bool {
    precision.is_narrow() && bf16::unit() == Some(bf16::Unit::Tiles)
}

impl<'a> Weight<'a> {
    /// `matrix` is `[inner, columns]`.
    pub(crate) fn new(
        matrix: Matrix<'a>,
        inner: usize,
        columns: usize,
        precision: Precision,
    ) -> Self {
        let packed = if packs_tiles(precision) {
            Packed::Tiles
        } else if precision.is_narrow() {
            Packed::Pairs(Panels::of(matrix, inner, columns))
        } else if let Some(quarters) = Quartered::of(matrix, inner, columns) {
            Packed::Quarters(quarters)
        } else {
            Packed::Numbers(Panels::of(matrix, inner, columns))
        };
        Self { matrix, inner, columns, packed }
    }

    /// `into` (+)= `left` · this, both contiguous, on this thread.
    pub(crate) fn times(&self, into: &mut [f32], left: &[f32], add: bool) {
        match &self.packed {
            Packed::Numbers(right) => sweep(right, self.inner, left, into, add),
            Packed::Quarters(right) => right.times(into, left, add),
            Packed::Pairs(right) => {
                let mut words = Buffer::take(left.len() / self.inner * right.length);
                let words = words.words::<Pair>();
                Pair::run(Along { numbers: left, factors: self.inner, words });
                sweep(right, right.length, words, into, add);
            }
            Packed::Tiles => {
                let (n, k) = (self.columns, self.inner);
                let shape = [left.len() / k, n, k];
                product(into, n, add, Matrix::rows(left, k), self.matrix, shape, Precision::Bf16);
            }
        }
    }
}

/// Rows of `length` words times panels.
fn sweep<W: Word>(right: &Panels<W>, length: usize, left: &[W], into: &mut [f32], add: bool) {
    let count = left.len() / length;
    assert!(length == right.length && into.len() >= count * right.columns, "rows of a product");
    let targets: Vec<usize> = (0..count).map(|r| r * right.columns).collect();
    let rows = following(left, length, count);
    W::run(Sweep { rows: &rows, taps: 1, first_tap: 0, targets: &targets, right, add, into });
}

/// `into` `[m, n]` += the transpose of `left` `[rows, m]` times `right` `[rows, n]`, on this thread: the
/// gradient of a weight.
pub(crate) fn add_gradient(
    into: &mut [f32],
    left: &[f32],
    right: &[f32],
    m: usize,
    n: usize,
    precision: Precision,
) {
    if packs_tiles(precision) {
        let (left, rows) = (Matrix::rows(left, m).transposed(), right.len() / n);
        product(into, n, true, left, Matrix::rows(right, n), [m, n, rows], precision);
    } else if precision.is_narrow() {
        gradient::<Pair>(into, left, right, m, n);
    } else if strassen::suits_gradient(right.len() / n, m, n) {
        strassen::gradient(into, left, right, m, n);
    } else {
        gradient::<f32>(into, left, right, m, n);
    }
}

fn gradient<W: Word>(into: &mut [f32], left: &[f32], right: &[f32], m: usize, n: usize) {
    let count = right.len() / n;
    assert!(left.len() >= count * m && into.len() >= m * n, "rows of a gradient");
    let width = width::<W>();
    let blocks = m.div_ceil(BLOCK);
    let at_once = SUMMED.min(count.div_ceil(W::FACTORS));
    let mut room = Buffer::take(at_once * (blocks * BLOCK + width));
    let (words, panel) = room.words::<W>().split_at_mut(at_once * blocks * BLOCK);
    let (mut joints, mut shifted, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for start in (0..count).step_by(SUMMED * W::FACTORS) {
        let end = count.min(start + SUMMED * W::FACTORS);
        // Rows are joined, as many as a word has factors.
        let join = |joints: &mut Vec<[usize; 2]>, stride: usize, first: usize| {
            let at = |r: usize| if r < end { r * stride + first } else { NONE };
            joints.clear();
            joints.extend((start..end).step_by(W::FACTORS).map(|r| [at(r), at(r + 1)]));
        };
        join(&mut joints, m, 0);
        W::run(Blocked { numbers: left, rows: &joints, columns: m, words: &mut *words });
        let joined = joints.len();
        rows.clear();
        rows.extend(words[..blocks * joined * BLOCK].chunks_exact(BLOCK).map(<[W]>::as_ptr));
        let panel = &mut panel[..joined * width];
        for first in (0..n).step_by(width) {
            let columns = width.min(n - first);
            join(&mut shifted, n, first);
            let words = &mut *panel;
            W::run(Across { numbers: right, rows: &shifted, columns, stride: width, words });
            // Each full block is a tap of its own; the last one may be shorter.
            let (full, rest) = rows.split_at(m / BLOCK * joined);
            for (rows, at, length) in [(full, 0, BLOCK), (rest, m / BLOCK * BLOCK, m % BLOCK)] {
                if !rows.is_empty() {
                    let (right, into) = (&*panel, &mut into[at * n + first..]);
                    W::run(Outer { rows, length, right, columns, stride: n, into });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::tests::noise;

    #[test]
    fn products_and_gradients_are_those_of_the_definition() {
        for (precision, share) in [(Precision::F32, 1e-6), (Precision::Bf16, 1e-2)] {
            for [rows, m, n] in [
                [1, 1, 1],
                [13, 7, 5],
                [300, 33, 70],
                [9, 64, 32],
                [277, 192, 64],
                [131, 128, 1600],
                // Deeper and wider than what goes at a time, with a rest.
                [600, 832, 128],
            ] {
                let (a, b) = (noise(rows * m, 1), noise(m * n, 2));
                let dy = noise(rows * n, 3);
                let bound = |k: usize| share * (k as f64).sqrt() * 4.0;
                let near = |x: f32, want: f64, k: usize| {
                    let off = (f64::from(x) - want).abs();
                    assert!(off <= bound(k), "{precision:?} {rows} {m} {n}: off by {off}");
                };
                let of = |x: &[f32], i: usize| f64::from(x[i]);

                let forward = Weight::new(Matrix::rows(&b, n), m, n, precision);
                let mut y = vec![7.0; rows * n];
                forward.times(&mut y, &a, true);
                for (at, y) in y.iter().enumerate() {
                    let terms = (0..m).map(|k| of(&a, at / n * m + k) * of(&b, k * n + at % n));
                    near(*y, 7.0 + terms.sum::<f64>(), m);
                }

                let back = Weight::new(Matrix::rows(&b, n).transposed(), n, m, precision);
                let mut dx = vec![7.0; rows * m];
                back.times(&mut dx, &dy, false);
                for (at, dx) in dx.iter().enumerate() {
                    let terms = (0..n).map(|k| of(&dy, at / m * n + k) * of(&b, at % m * n + k));
                    near(*dx, terms.sum(), n);
                }

                let mut dw = vec![7.0; m * n];
                add_gradient(&mut dw, &a, &dy, m, n, precision);
                for (at, dw) in dw.iter().enumerate() {
                    let terms = (0..rows).map(|r| of(&a, r * m + at / n) * of(&dy, r * n + at % n));
                    near(*dw, 7.0 + terms.sum::<f64>(), rows);
                }
            }
        }
    }
}
