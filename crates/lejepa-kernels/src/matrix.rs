//! Matrix products of strided matrices, in 32 bits or by the processor's units for bf16.

use gemm::Parallelism;

use crate::Precision;
use crate::rows::fetch;

/// A matrix in memory: element (i, j) at `data[i·row + j·column]`.
///
/// ```
/// use lejepa_kernels::{Matrix, Precision, product};
///
/// let a = [1.0, 2.0, 3.0, 4.0]; // [[1, 2], [3, 4]]
/// let (a, transposed) = (Matrix::rows(&a, 2), Matrix::rows(&a, 2).transposed());
/// let mut c = [0.0; 4];
/// product(&mut c, 2, false, a, transposed, [2, 2, 2], Precision::F32);
/// assert_eq!(c, [5.0, 11.0, 11.0, 25.0]);
/// // The second column of `a` alone.
/// let mut d = [0.0; 2];
/// product(&mut d, 1, false, transposed.at(1, 0), a.at(0, 1), [1, 1, 2], Precision::F32);
/// assert_eq!(d[0], 20.0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// From one row to the next.
    pub row: usize,
    /// From one column to the next.
    pub column: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix whose rows are `stride` values apart.
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, row: stride, column: 1 }
    }

    /// Rows and columns changed.
    pub fn transposed(self) -> Self {
        Self { data: self.data, row: self.column, column: self.row }
    }

    /// The part from row `i` and column `j` on.
    pub fn at(self, i: usize, j: usize) -> Self {
        Self { data: &self.data[i * self.row + j * self.column..], ..self }
    }

    /// Copies so many rows and columns, row by row. Columns are read as if they were contiguous.
    pub(crate) fn copied(self, rows: usize, columns: usize, into: &mut [f32]) {
        /// Rows that lie together.
        const LINE: usize = 16;
        /// Columns that are asked for ahead.
        const AHEAD: usize = 16;
        for i in (0..rows).step_by(LINE) {
            for j in 0..columns {
                let column = &self.data[j * self.column..];
                if let Some(next) = self.data.get((j + AHEAD) * self.column + i..) {
                    fetch(&next[..next.len().min(LINE)]);
                }
                for i in i..rows.min(i + LINE) {
                    into[i * columns + j] = column[i * self.row];
                }
            }
        }
    }

    fn reach(&self, rows: usize, columns: usize) -> usize {
        (rows - 1) * self.row + (columns - 1) * self.column
    }
}

/// `into` (+)= `left` · `right` for `[m, n, k]`, on this thread; rows of `into` are `stride` values
/// apart. Each element is summed in a fixed order. With [`Precision::Bf16`], where the processor has
/// it, factors are rounded to bf16 and summed in 32 bits.
///
/// # Panics
/// If a slice is too short for its shape. See [`Matrix`] for an example.
pub fn product(
    into: &mut [f32],
    stride: usize,
    add: bool,
    left: Matrix<'_>,
    right: Matrix<'_>,
    [m, n, k]: [usize; 3],
    precision: Precision,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * stride + n <= into.len(), "the product's target is too small");
    if k == 0 {
        if !add {
            (0..m).for_each(|i| into[i * stride..][..n].fill(0.0));
        }
        return;
    }
    assert!(left.reach(m, k) < left.data.len(), "the product's left side is too small");
    assert!(right.reach(k, n) < right.data.len(), "the product's right side is too small");
    if precision == Precision::Bf16
        && crate::bf16::product(into, stride, add, left, right, [m, n, k])
    {
        return;
    }
    // SAFETY: the asserts above keep every element within its slice, and `into` is borrowed
    // mutably, so it overlaps with neither side.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            into.as_mut_ptr(),
            1,
            stride as isize,
            add,
            left.data.as_ptr(),
            left.column as isize,
            left.row as isize,
            right.data.as_ptr(),
            right.column as isize,
            right.row as isize,
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

    pub(crate) fn noise(n: usize, seed: u32) -> Vec<f32> {
        let mut x = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
        (0..n)
            .map(|_| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (x >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[test]
    fn every_layout_gives_the_product() {
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
            for (precision, digits) in [(Precision::F32, 1e-6), (Precision::Bf16, 1e-2)] {
                let lefts = [Matrix::rows(&a, k), Matrix::rows(&at, m).transposed()];
                let rights = [Matrix::rows(&b, n), Matrix::rows(&bt, k).transposed()];
                for left in lefts {
                    for right in rights {
                        for add in [false, true] {
                            // A wider target: what lies between the rows stays as it was.
                            let stride = n + 3;
                            let mut c = vec![7.0f32; m * stride];
                            product(&mut c, stride, add, left, right, [m, n, k], precision);
                            for (x, c) in c.iter().enumerate() {
                                let (i, j) = (x / stride, x % stride);
                                let start = if add || j >= n { 7.0 } else { 0.0 };
                                let more = if j < n { want[i * n + j] } else { 0.0 };
                                let off = (f64::from(*c) - start - more).abs();
                                assert!(
                                    off <= digits * (k as f64).sqrt() * 4.0,
                                    "{precision:?} {m} {n} {k} at {i} {j}: off by {off}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}
