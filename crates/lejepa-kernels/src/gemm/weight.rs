//! The weight of a layer: packed once for all chunks of rows, and its gradient.

use super::at_b::at_b;
use super::indirect::{IndirectGemm, RowTable};
use super::isa::{Bf16Pair, Packed};
use super::matrix::Matrix;
use super::pairs::PackRows;
use super::panels::Panels;
use super::product;
use super::strassen::{self, StrassenPacked};
use crate::buffer::Buffer;
use crate::precision::Precision;
use crate::simd::{Bf16Isa, bf16_isa};

/// A packed `[k, n]` matrix that rows are multiplied with.
pub(crate) struct PackedWeight<'a> {
    matrix: Matrix<'a>,
    k: usize,
    n: usize,
    layout: Layout,
}

enum Layout {
    F32(Panels<f32>),
    /// f32, for one level of Strassen–Winograd.
    Strassen(StrassenPacked),
    Bf16(Panels<Bf16Pair>),
    /// AMX packs both operands for every product.
    Amx,
}

/// Whether products of this precision run on AMX.
pub(crate) fn uses_amx(precision: Precision) -> bool {
    precision.is_narrow() && bf16_isa() == Some(Bf16Isa::Amx)
}

impl<'a> PackedWeight<'a> {
    /// Packs `matrix`, which is `[k, n]`.
    pub(crate) fn new(matrix: Matrix<'a>, k: usize, n: usize, precision: Precision) -> Self {
        let layout = if uses_amx(precision) {
            Layout::Amx
        } else if precision.is_narrow() {
            Layout::Bf16(Panels::pack(matrix, k, n))
        } else if let Some(packed) = StrassenPacked::new(matrix, k, n) {
            Layout::Strassen(packed)
        } else {
            Layout::F32(Panels::pack(matrix, k, n))
        };
        Self { matrix, k, n, layout }
    }

    /// `c` (+)= `a`·weight for contiguous rows, on the calling thread.
    pub(crate) fn multiply(&self, c: &mut [f32], a: &[f32], accumulate: bool) {
        match &self.layout {
            Layout::F32(panels) => multiply(panels, a, c, accumulate),
            Layout::Strassen(packed) => packed.multiply(c, a, accumulate),
            Layout::Bf16(panels) => {
                let mut packed = Buffer::take(a.len() / self.k * panels.k);
                let packed = packed.packed::<Bf16Pair>();
                Bf16Pair::dispatch(PackRows { values: a, k: self.k, packed: &mut *packed });
                multiply(panels, packed, c, accumulate);
            }
            Layout::Amx => {
                let (n, k) = (self.n, self.k);
                let shape = [a.len() / k, n, k];
                product(c, n, accumulate, Matrix::rows(a, k), self.matrix, shape, Precision::Bf16);
            }
        }
    }
}

/// `c` (+)= contiguous packed rows times panels.
fn multiply<P: Packed>(b: &Panels<P>, a: &[P], c: &mut [f32], accumulate: bool) {
    let rows = a.len() / b.k;
    let offsets: Vec<usize> = (0..rows).map(|r| r * b.n).collect();
    let (a, offsets) = (&RowTable::strided(a, b.k, b.k, rows), &*offsets);
    P::dispatch(IndirectGemm { a, first_tap: 0, b, offsets, accumulate, c });
}

/// `c` `[m, n]` += Aᵀ·B for contiguous `a` `[rows, m]` and `b` `[rows, n]`, on the calling thread: the
/// gradient of a weight from its input and the gradient of its output.
pub(crate) fn add_gradient(
    c: &mut [f32],
    a: &[f32],
    b: &[f32],
    m: usize,
    n: usize,
    precision: Precision,
) {
    if uses_amx(precision) {
        let (at, rows) = (Matrix::rows(a, m).transposed(), b.len() / n);
        product(c, n, true, at, Matrix::rows(b, n), [m, n, rows], precision);
    } else if precision.is_narrow() {
        at_b::<Bf16Pair>(c, a, b, m, n);
    } else if strassen::is_profitable(b.len() / n, m, n) {
        strassen::at_b(c, a, b, m, n);
    } else {
        at_b::<f32>(c, a, b, m, n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::tests::{has_bf16, noise};

    /// Products and gradients against their definition; errors are at most `tolerance`·√k.
    fn check(precision: Precision, tolerance: f64) {
        for [rows, m, n] in [
            [1, 1, 1],
            [13, 7, 5],
            [300, 33, 70],
            [9, 64, 32],
            [277, 192, 64],
            [131, 128, 1600],
            // Strassen halves that are not a multiple of the vector width.
            [75, 132, 64],
            [40, 140, 192],
            // Deeper and wider than a block, with a rest.
            [600, 832, 128],
        ] {
            let (a, b) = (noise(rows * m, 1), noise(m * n, 2));
            let dy = noise(rows * n, 3);
            let near = |x: f32, want: f64, k: usize| {
                let error = (f64::from(x) - want).abs();
                let bound = tolerance * (k as f64).sqrt();
                assert!(error <= bound, "{precision:?} {rows} {m} {n}: error {error}");
            };
            let of = |x: &[f32], i: usize| f64::from(x[i]);

            let forward = PackedWeight::new(Matrix::rows(&b, n), m, n, precision);
            let mut y = vec![7.0; rows * n];
            forward.multiply(&mut y, &a, true);
            for (at, y) in y.iter().enumerate() {
                let terms = (0..m).map(|k| of(&a, at / n * m + k) * of(&b, k * n + at % n));
                near(*y, 7.0 + terms.sum::<f64>(), m);
            }

            let backward = PackedWeight::new(Matrix::rows(&b, n).transposed(), n, m, precision);
            let mut dx = vec![7.0; rows * m];
            backward.multiply(&mut dx, &dy, false);
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

    #[test]
    fn f32_products_and_gradients() {
        check(Precision::F32, 4e-6);
    }

    #[test]
    fn bf16_products_and_gradients() {
        if has_bf16() {
            check(Precision::Bf16, 4e-2);
        }
    }
}
