//! What embeddings say about their quality without labels.

use nalgebra::DMatrix;

/// Added to shares and to variances, as published with RankMe and LiDAR.
const EPSILON: f64 = 1e-7;

/// Added to the variance within samples before it is inverted (LiDAR's δ).
const WITHIN: f64 = 1e-4;

/// Eigenvalues that α-ReQ fits its line through, counted from 1.
const FITTED: std::ops::RangeInclusive<usize> = 11..=50;

/// Rows of embeddings: `values` are `values.len() / dim` × `dim`.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    values: &'a [f32],
    dim: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `dim` values.
    pub fn new(values: &'a [f32], dim: usize) -> Self {
        Self { values, dim: dim.max(1) }
    }

    fn count(self) -> usize {
        self.values.len() / self.dim
    }

    fn matrix(self) -> DMatrix<f64> {
        DMatrix::from_fn(self.count(), self.dim, |i, j| f64::from(self.values[i * self.dim + j]))
    }

    /// Variances along the principal components, the largest first.
    pub fn spectrum(self) -> Vec<f64> {
        let count = self.count().max(1) as f64;
        eigenvalues(gram(&centred(self.matrix()))).into_iter().map(|v| v / count).collect()
    }

    /// exp of the entropy of the singular values of the centred rows (Roy and Vetterli 2007): how many directions the
    /// rows use, between 1 and their width. 0 where all rows are alike.
    pub fn effective_rank(self) -> f64 {
        let values = eigenvalues(gram(&centred(self.matrix())));
        let rank = smooth_rank(values.into_iter().map(|v| v.max(0.0).sqrt()).collect(), 0.0);
        if rank.is_finite() { rank } else { 0.0 }
    }

    /// exp of the entropy of the singular values as they are, between 1 and the smaller of rows and width: RankMe
    /// (Garrido et al., arXiv 2210.02885). NaN of no rows.
    ///
    /// ```
    /// use lejepa_train::label_free::Rows;
    ///
    /// // Two directions of equal strength, and one.
    /// assert!((Rows::new(&[1.0, 0.0, 0.0, 1.0], 2).rank_me() - 2.0).abs() < 1e-4);
    /// assert!((Rows::new(&[1.0, 1.0, 2.0, 2.0], 2).rank_me() - 1.0).abs() < 1e-4);
    /// ```
    pub fn rank_me(self) -> f64 {
        let singular = eigenvalues(gram(&self.matrix())).into_iter().map(|v| v.max(0.0).sqrt());
        smooth_rank(singular.collect(), EPSILON)
    }

    /// The exponent α of the eigenvalues of the covariance, λ_j ∝ j^-α, by least squares through the logarithms of the
    /// 11th to the 50th: α-ReQ (Agrawal et al., arXiv 2202.06856), best near 1. NaN where there are fewer than 12.
    pub fn alpha_req(self) -> f64 {
        let values = self.spectrum();
        let largest = values.first().copied().unwrap_or(0.0);
        let point = |j: usize| {
            let value = *values.get(j - 1)?;
            (value > 1e-12 * largest).then(|| ((j as f64).ln(), value.ln()))
        };
        let points: Vec<(f64, f64)> = FITTED.map_while(point).collect();
        -slope(&points)
    }

    /// LiDAR (Thilak et al., arXiv 2312.04000): the smooth rank of the variance between samples relative to that
    /// within them. `views` rows in succession are those of a sample, at least 2. NaN where there are fewer than two
    /// samples.
    pub fn lidar(self, views: usize) -> f64 {
        let samples = self.count() / views.max(1);
        if views < 2 || samples < 2 {
            return f64::NAN;
        }
        let all = self.matrix().rows(0, samples * views).into_owned();
        let means =
            DMatrix::from_fn(samples, self.dim, |i, j| all.view((i * views, j), (views, 1)).mean());
        let within =
            DMatrix::from_fn(samples * views, self.dim, |i, j| all[(i, j)] - means[(i / views, j)]);
        let within = within.transpose() * &within / (samples * (views - 1)) as f64
            + DMatrix::identity(self.dim, self.dim) * WITHIN;
        let Some(factor) = within.cholesky() else { return f64::NAN };
        // L⁻¹·B·L⁻ᵀ has the eigenvalues of W^-1/2·B·W^-1/2, and those of the smaller Gram matrix.
        let Some(whitened) = factor.l().solve_lower_triangular(&centred(means).transpose()) else {
            return f64::NAN;
        };
        smooth_rank(eigenvalues(gram(&whitened)), EPSILON)
    }

    /// For each row the `k` others nearest to it by cosine, in ascending order of their numbers.
    pub fn neighbours(self, k: usize) -> Vec<Vec<u32>> {
        let unit: Vec<Vec<f32>> = self.values.chunks_exact(self.dim).map(unit).collect();
        let nearest = |(i, row): (usize, &Vec<f32>)| {
            let dot = |other: &[f32]| row.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
            let others = unit.iter().enumerate().filter(|(j, _)| *j != i);
            let mut all: Vec<(f32, u32)> = others.map(|(j, r)| (dot(r), j as u32)).collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let mut nearest: Vec<u32> = all.into_iter().take(k).map(|(_, j)| j).collect();
            nearest.sort_unstable();
            nearest
        };
        unit.iter().enumerate().map(nearest).collect()
    }
}

/// A row scaled to length 1, so that a product of two is their cosine.
pub fn unit(row: &[f32]) -> Vec<f32> {
    let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
    row.iter().map(|v| v / norm).collect()
}

/// The share of neighbours that are the same in both, 0 to 1. NaN of none.
pub fn kept(before: &[Vec<u32>], now: &[Vec<u32>]) -> f64 {
    let same = |(a, b): (&Vec<u32>, &Vec<u32>)| a.iter().filter(|j| b.contains(j)).count();
    let total: usize = now.iter().map(Vec::len).sum();
    before.iter().zip(now).map(same).sum::<usize>() as f64 / total as f64
}

fn centred(mut x: DMatrix<f64>) -> DMatrix<f64> {
    for mut column in x.column_iter_mut() {
        let mean = column.mean();
        column.add_scalar_mut(-mean);
    }
    x
}

/// The smaller of the two Gram matrices; both have the same nonzero eigenvalues.
fn gram(x: &DMatrix<f64>) -> DMatrix<f64> {
    if x.nrows() < x.ncols() { x * x.transpose() } else { x.transpose() * x }
}

/// Eigenvalues of a symmetric matrix, the largest first.
fn eigenvalues(matrix: DMatrix<f64>) -> Vec<f64> {
    let mut values: Vec<f64> = match !matrix.is_empty() && matrix.iter().all(|v| v.is_finite()) {
        true => matrix.symmetric_eigenvalues().iter().copied().collect(),
        false => Vec::new(),
    };
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

/// exp of the entropy of the shares of these values, each with `epsilon` added; NaN where all are 0.
fn smooth_rank(values: Vec<f64>, epsilon: f64) -> f64 {
    let total: f64 = values.iter().map(|v| v.max(0.0)).sum();
    let is_positive = total > 1e-12;
    if !is_positive {
        return f64::NAN;
    }
    let shares = values.iter().map(|v| v.max(0.0) / total + epsilon).filter(|p| *p > 0.0);
    (-shares.map(|p| p * p.ln()).sum::<f64>()).exp()
}

/// The slope of the line through points by least squares; NaN of fewer than two.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let [x, y] = [|p: &(f64, f64)| p.0, |p: &(f64, f64)| p.1]
        .map(|of| points.iter().map(of).sum::<f64>() / n);
    let covariance: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    covariance / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use lejepa_core::{Purpose, Seed};
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    fn gaussian(count: usize, dim: usize, scale: impl Fn(usize) -> f64) -> Vec<f32> {
        let mut rng = Seed(1).rng(Purpose::Demo, &[]);
        let value = |i| {
            let v: f64 = StandardNormal.sample(&mut rng);
            (v * scale(i % dim)) as f32
        };
        (0..count * dim).map(value).collect()
    }

    #[test]
    fn the_rank_is_that_of_the_directions_in_use() {
        for used in [3, 12] {
            let rows = gaussian(2000, 24, |d| if d < used { 1.0 } else { 0.0 });
            let rank = Rows::new(&rows, 24).rank_me();
            assert!((rank - used as f64).abs() < 0.05, "{rank}");
        }
        assert!(Rows::new(&[], 8).rank_me().is_nan());
        assert!(Rows::new(&[f32::NAN; 8], 2).rank_me().is_nan());
    }

    #[test]
    fn the_effective_rank_counts_directions() {
        // Four rows along one axis, then along two with equal weight, then a point.
        let one = [1.0, 0.0, 2.0, 0.0, 3.0, 0.0, 4.0, 0.0];
        assert!((Rows::new(&one, 2).effective_rank() - 1.0).abs() < 1e-6);
        let two = [1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0];
        assert!((Rows::new(&two, 2).effective_rank() - 2.0).abs() < 1e-6);
        assert_eq!(Rows::new(&[0.5; 8], 2).effective_rank(), 0.0);
        assert!(Rows::new(&[1.0, 2.0, 3.0, 4.0, 6.0, 9.0], 3).effective_rank() <= 2.0);
        assert_eq!(Rows::new(&[f32::NAN; 8], 2).effective_rank(), 0.0);
    }

    #[test]
    fn the_exponent_of_a_power_law_is_found() {
        for alpha in [0.5, 1.0, 2.0] {
            let rows = gaussian(4000, 64, |d| ((d + 1) as f64).powf(-alpha / 2.0));
            let found = Rows::new(&rows, 64).alpha_req();
            assert!((found - alpha).abs() < 0.1, "{alpha}: {found}");
        }
        assert!(Rows::new(&gaussian(100, 8, |_| 1.0), 8).alpha_req().is_nan());
    }

    #[test]
    fn lidar_counts_what_tells_samples_apart() {
        // Samples differ along four directions; views of one along all others, just as much.
        let (samples, views, dim) = (800, 4, 16);
        let between = gaussian(samples, dim, |d| if d < 4 { 1.0 } else { 0.0 });
        let within = gaussian(samples * views, dim, |d| if d < 4 { 0.01 } else { 1.0 });
        let value = |i: usize| between[i / (views * dim) * dim + i % dim] + within[i];
        let rows: Vec<f32> = (0..samples * views * dim).map(value).collect();
        let rows = Rows::new(&rows, dim);
        let (lidar, rank) = (rows.lidar(views), rows.rank_me());
        assert!((lidar - 4.0).abs() < 0.2, "{lidar}");
        assert!(rank > 15.0, "{rank}");
        // What does not tell samples apart at all: means differ by chance, in every direction alike.
        let noise = Rows::new(&within, dim).lidar(views);
        assert!(noise > 15.0, "{noise}");
        assert!(rows.lidar(1).is_nan());
    }

    #[test]
    fn neighbours_are_those_of_the_smallest_angle() {
        let rows = [1.0, 0.0, 0.9, 0.1, 0.0, 5.0, 0.1, 4.0];
        let found = Rows::new(&rows, 2).neighbours(1);
        assert_eq!(found, [[1], [0], [3], [2]]);
        assert_eq!(kept(&found, &found), 1.0);
        assert_eq!(kept(&[vec![1], vec![2], vec![3], vec![2]], &found), 0.75);
    }
}
