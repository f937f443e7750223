//! Matrix products.
//!
//! [`product`] multiplies two strided matrices, by the crate `gemm` or on the bf16 units of the processor.
//! Layers, which multiply many rows with one matrix, do not repack it for every call:
//!
//! | module | contents |
//! |---|---|
//! | `matrix` | strided matrices: [`Matrix`] |
//! | `isa` | the microkernel's instruction sets: f32 vectors of any width, AVX512-BF16 |
//! | `panels` | B, packed once into panels |
//! | `indirect` | C (+)= A·B with a pointer for each row of A: linear layers, convolution |
//! | `at_b` | C += Aᵀ·B: gradients of weights |
//! | `pairs` | rounding f32 rows to bf16 pairs |
//! | `weight` | the weight of a layer: products with it and its gradient |
//! | `strassen` | the same in f32 by one level of Strassen–Winograd |
//! | `bf16` | strided products on AMX and AVX512-BF16 |

pub(crate) mod at_b;
pub(crate) mod bf16;
pub(crate) mod indirect;
pub(crate) mod isa;
pub(crate) mod matrix;
pub(crate) mod pairs;
pub(crate) mod panels;
mod strassen;
pub(crate) mod weight;

use ::gemm::Parallelism;

use self::matrix::Matrix;
use crate::precision::Precision;

/// C (+)= A·B for `[m, n, k]` on the calling thread, where `stride` is the row stride of `c`. The order of
/// summation is fixed. With [`Precision::Bf16`], where the processor supports it, operands are rounded to
/// bf16 and accumulated in f32.
///
/// # Panics
/// If a slice is too short for its shape, or rows of `c` overlap (`stride` < n). See [`Matrix`] for an
/// example.
pub fn product(
    c: &mut [f32],
    stride: usize,
    accumulate: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    [m, n, k]: [usize; 3],
    precision: Precision,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(m == 1 || stride >= n, "rows of the product overlap");
    let target = Matrix::rows(c, stride);
    assert!(target.contains(m, n), "the product is too short");
    let [c_row, c_column] = target.signed_strides();
    if k == 0 {
        if !accumulate {
            (0..m).for_each(|i| c[i * stride..][..n].fill(0.0));
        }
        return;
    }
    assert!(a.contains(m, k), "the left-hand side is too short");
    assert!(b.contains(k, n), "the right-hand side is too short");
    if precision == Precision::Bf16 && bf16::product(c, stride, accumulate, a, b, [m, n, k]) {
        return;
    }
    let ([a_row, a_column], [b_row, b_column]) = (a.signed_strides(), b.signed_strides());
    // SAFETY: the assertions above, whose offsets saturate instead of wrapping, keep every element of all
    // three matrices within its slice. Rows of `c` do not overlap, and as `c` is borrowed mutably, it
    // aliases neither operand.
    unsafe {
        ::gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            c_column,
            c_row,
            accumulate,
            a.data.as_ptr(),
            a_column,
            a_row,
            b.data.as_ptr(),
            b_column,
            b_row,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Deterministic values in [−1, 1).
    pub(crate) fn noise(n: usize, seed: u32) -> Vec<f32> {
        let mut x = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
        (0..n)
            .map(|_| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (x >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// Whether bf16 can be tested; says so if it cannot.
    pub(crate) fn has_bf16() -> bool {
        let is_native = Precision::Bf16.is_native();
        if !is_native {
            eprintln!("NOT RUN: this processor has neither AVX512-BF16 nor AMX");
        }
        is_native
    }

    /// Products of all layouts; errors are at most `tolerance`·√k.
    fn check_every_layout(precision: Precision, tolerance: f64) {
        for [m, n, k] in
            [[1, 1, 1], [16, 32, 32], [33, 17, 45], [64, 64, 64], [5, 100, 600], [192, 70, 513]]
        {
            let (a, b) = (noise(m * k, 1), noise(k * n, 2));
            let mut want = vec![0f64; m * n];
            for i in 0..m {
                for p in 0..k {
                    for j in 0..n {
                        want[i * n + j] += f64::from(a[i * k + p]) * f64::from(b[p * n + j]);
                    }
                }
            }
            let at: Vec<f32> = (0..m * k).map(|x| a[x % m * k + x / m]).collect();
            let bt: Vec<f32> = (0..k * n).map(|x| b[x % k * n + x / k]).collect();
            for a in [Matrix::rows(&a, k), Matrix::rows(&at, m).transposed()] {
                for b in [Matrix::rows(&b, n), Matrix::rows(&bt, k).transposed()] {
                    for accumulate in [false, true] {
                        // A wider target: what lies between the rows must stay.
                        let stride = n + 3;
                        let mut c = vec![7.0f32; m * stride];
                        product(&mut c, stride, accumulate, a, b, [m, n, k], precision);
                        for (x, c) in c.iter().enumerate() {
                            let (i, j) = (x / stride, x % stride);
                            let start = if accumulate || j >= n { 7.0 } else { 0.0 };
                            let added = if j < n { want[i * n + j] } else { 0.0 };
                            let error = (f64::from(*c) - start - added).abs();
                            assert!(
                                error <= tolerance * (k as f64).sqrt(),
                                "{precision:?} {m} {n} {k} at {i} {j}: error {error}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn f32_products_of_every_layout() {
        check_every_layout(Precision::F32, 4e-6);
    }

    #[test]
    fn bf16_products_of_every_layout() {
        if has_bf16() {
            check_every_layout(Precision::Bf16, 4e-2);
        }
    }

    #[test]
    fn an_inner_dimension_of_zero_gives_zero() {
        let empty = Matrix::rows(&[], 0);
        let mut c = [1.0; 4];
        product(&mut c, 2, true, empty, empty, [2, 2, 0], Precision::F32);
        assert_eq!(c, [1.0; 4]);
        product(&mut c, 2, false, empty, empty, [2, 1, 0], Precision::F32);
        assert_eq!(c, [0.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn a_stride_beyond_the_only_row_is_irrelevant() {
        let huge = Matrix { data: &[2.0, 3.0], row: usize::MAX, column: 1 };
        let column = Matrix { data: &[4.0, 5.0], row: 1, column: usize::MAX };
        let mut c = [0.0];
        product(&mut c, usize::MAX, false, huge, column, [1, 1, 2], Precision::F32);
        assert_eq!(c, [23.0]);
    }

    /// Strides for which a wrapping computation of the last offset would be small.
    #[test]
    fn strides_that_overflow_panic() {
        let data = [1.0; 4];
        let fine = Matrix::rows(&data, 1);
        let hostile = |row, column| Matrix { data: &data, row, column };
        let half = 1usize << (usize::BITS - 1);
        let run = |stride, a, b, shape: [usize; 3]| {
            std::panic::catch_unwind(move || {
                let mut c = [0.0; 4];
                product(&mut c, stride, false, a, b, shape, Precision::F32);
            })
        };
        assert!(run(1, fine, fine, [2, 1, 1]).is_ok());
        assert!(run(1, hostile(half, 1), fine, [3, 1, 1]).is_err());
        assert!(run(1, hostile(1, half), fine, [1, 1, 3]).is_err());
        assert!(run(1, hostile(usize::MAX, 1), fine, [3, 1, 2]).is_err());
        assert!(run(1, hostile(usize::MAX, usize::MAX), fine, [2, 1, 2]).is_err());
        assert!(run(1, fine, hostile(half, half), [1, 3, 3]).is_err());
        assert!(run(half, fine, fine, [3, 1, 1]).is_err());
        // Overlapping rows of the product.
        assert!(run(1, fine, fine, [2, 2, 1]).is_err());
    }
}
