//! Strided matrices.

/// A strided matrix: element (i, j) is `data[i·row + j·column]`.
///
/// ```
/// use lejepa_kernels::{Matrix, Precision, product};
///
/// let a = [1.0, 2.0, 3.0, 4.0]; // [[1, 2], [3, 4]]
/// let (a, transposed) = (Matrix::rows(&a, 2), Matrix::rows(&a, 2).transposed());
/// let mut c = [0.0; 4];
/// product(&mut c, 2, false, a, transposed, [2, 2, 2], Precision::F32);
/// assert_eq!(c, [5.0, 11.0, 11.0, 25.0]);
/// // Only the second column of `a`.
/// let mut d = [0.0; 2];
/// product(&mut d, 1, false, transposed.at(1, 0), a.at(0, 1), [1, 1, 2], Precision::F32);
/// assert_eq!(d[0], 20.0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Row stride.
    pub row: usize,
    /// Column stride.
    pub column: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix with row stride `stride`.
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, row: stride, column: 1 }
    }

    /// The transpose.
    pub fn transposed(self) -> Self {
        Self { data: self.data, row: self.column, column: self.row }
    }

    /// The submatrix that starts at row `i`, column `j`.
    ///
    /// # Panics
    /// If it starts beyond the data.
    pub fn at(self, i: usize, j: usize) -> Self {
        Self { data: &self.data[self.offset(i, j)..], ..self }
    }

    /// Copies `rows` × `columns` elements into a row-major matrix.
    pub(crate) fn copy_to(self, rows: usize, columns: usize, out: &mut [f32]) {
        /// Rows copied together: the source is column-major, so they share cache lines.
        const LINE: usize = 16;
        /// Prefetch distance in columns.
        const AHEAD: usize = 16;
        for i in (0..rows).step_by(LINE) {
            for j in 0..columns {
                let column = &self.data[j * self.column..];
                if let Some(next) = self.data.get((j + AHEAD) * self.column + i..) {
                    prefetch(&next[..next.len().min(LINE)]);
                }
                for i in i..rows.min(i + LINE) {
                    out[i * columns + j] = column[i * self.row];
                }
            }
        }
    }

    /// Offset of element (i, j), or `usize::MAX`, which no slice contains, on overflow.
    fn offset(&self, i: usize, j: usize) -> usize {
        i.saturating_mul(self.row).saturating_add(j.saturating_mul(self.column))
    }

    /// Whether the data contain all elements of a `rows` × `columns` matrix, neither being 0.
    pub(super) fn contains(&self, rows: usize, columns: usize) -> bool {
        self.offset(rows - 1, columns - 1) < self.data.len()
    }

    /// Row and column stride as signed numbers. If [`Matrix::contains`] is true, a stride that does not fit
    /// belongs to a dimension of size 1, so its value is irrelevant.
    pub(super) fn signed_strides(&self) -> [isize; 2] {
        [self.row, self.column].map(|stride| isize::try_from(stride).unwrap_or(0))
    }
}

/// Prefetches a slice into the first-level cache.
#[inline(always)]
pub(crate) fn prefetch(row: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86-64, and a prefetch does not access memory.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic]
    fn a_submatrix_beyond_the_data_panics() {
        let _ = Matrix::rows(&[1.0; 4], usize::MAX).at(2, 0);
    }
}
