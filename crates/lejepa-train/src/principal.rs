//! Principal components of dense features.

use nalgebra::{DMatrix, DVector};

/// Rounds of the subspace iteration; what moves after as many is between components of equal variance.
const ROUNDS: usize = 200;

/// The scores of rows of width `dim` on their first `count` principal components, row by row, and the share of the
/// variance that each component explains. The sign of a component is such that its largest weight is positive.
///
/// By subspace iteration on the covariance (Golub and Van Loan, Matrix Computations, section 7.3.2).
///
/// ```
/// // Points on a line through the plane.
/// let rows: Vec<f32> = (0..9).flat_map(|i| [i as f32, 2.0 * i as f32]).collect();
/// let (scores, shares) = lejepa_train::principal_components(&rows, 2, 1);
/// assert!((shares[0] - 1.0).abs() < 1e-6);
/// assert!(scores[4].abs() < 1e-5 && (scores[8] - 4.0 * 5f32.sqrt()).abs() < 1e-4);
/// ```
pub fn principal_components(rows: &[f32], dim: usize, count: usize) -> (Vec<f32>, Vec<f64>) {
    let dim = dim.max(1);
    let (samples, count) = (rows.len() / dim, count.min(dim));
    if samples == 0 || count == 0 {
        return (Vec::new(), Vec::new());
    }
    let mut all = DMatrix::from_row_iterator(samples, dim, rows.iter().map(|&v| f64::from(v)));
    let mean = all.row_mean();
    all.row_iter_mut().for_each(|mut row| row -= &mean);
    let covariance = all.tr_mul(&all) / samples as f64;
    let total = covariance.trace();
    // A start that no data is orthogonal to by design, and the same each time.
    let start =
        |row: usize, column: usize| ((1 + row * (column + 2)) as f64 * 0.7548776662).fract() - 0.5;
    let mut basis = DMatrix::from_fn(dim, count, start).qr().q();
    for _ in 0..ROUNDS {
        basis = (&covariance * basis).qr().q();
    }
    for mut column in basis.column_iter_mut() {
        let largest = column.iamax();
        if column[largest] < 0.0 {
            column.neg_mut();
        }
    }
    let scores = &all * &basis;
    let variance = |c: usize| {
        let axis: DVector<f64> = basis.column(c).into();
        axis.dot(&(&covariance * &axis))
    };
    let share = |c| if total > 0.0 { variance(c) / total } else { 0.0 };
    let shares = (0..count).map(share).collect();
    (scores.transpose().iter().map(|&v| v as f32).collect(), shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_found_in_the_order_of_their_variance() {
        // Independent waves of standard deviations 4, 2, 1 and 0.1 along rotated axes.
        let wave = |i: usize, k: usize| ((i * (2 * k + 1)) as f32 * 0.37).sin();
        let axes = [
            [0.6, 0.8, 0.0, 0.0],
            [-0.8, 0.6, 0.0, 0.0],
            [0.0, 0.0, 0.0, 1.0],
            [0.0, 0.0, 1.0, 0.0],
        ];
        let rows: Vec<f32> = (0..2000)
            .flat_map(|i| {
                let scales = [4.0, 2.0, 1.0, 0.1];
                [0, 1, 2, 3]
                    .map(|d| 7.0 + (0..4).map(|k| scales[k] * wave(i, k) * axes[k][d]).sum::<f32>())
            })
            .collect();
        let (scores, shares) = principal_components(&rows, 4, 3);
        assert!(shares.windows(2).all(|pair| pair[0] > pair[1]), "{shares:?}");
        let total = 16.0 + 4.0 + 1.0 + 0.01;
        for (share, variance) in shares.iter().zip([16.0, 4.0, 1.0]) {
            assert!((share - variance / total).abs() < 0.01, "{shares:?}");
        }
        for i in [3, 500, 1234] {
            for (k, scale) in [4.0, 2.0, 1.0].into_iter().enumerate() {
                let want = scale * wave(i, k);
                let got = scores[3 * i + k];
                assert!((got.abs() - want.abs()).abs() < 0.1, "{i} {k}: {got} is not {want}");
            }
        }
        assert_eq!(principal_components(&rows, 4, 3).0, scores);
        assert_eq!(principal_components(&[], 4, 3).0.len(), 0);
        // Rows that are all alike have no components, and no NaN.
        let (flat, shares) = principal_components(&[1.0; 12], 4, 3);
        assert!(flat.iter().all(|v| v.abs() < 1e-6) && shares.iter().all(|s| *s == 0.0));
    }
}
