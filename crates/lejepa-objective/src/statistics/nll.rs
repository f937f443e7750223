//! The likelihood of the order statistics.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::normal::{LogCdf, log_cdf, log_density};
use super::{Statistic, constant, without_samples};

/// Negative log-density of each sample as the order statistic that it is among N of N(0, 1): for
/// the k-th smallest
///
/// −ln[N!/((k − 1)!(N − k)!)] − (k − 1) ln Φ(x) − (N − k) ln(1 − Φ(x)) − ln φ(x)
///
/// [`OrderStatisticNll::per_sample`] gives every sample's; the statistic is their mean.
///
/// * Cost: a sort (two for `per_sample`) and about forty passes over the data.
/// * Not changed by x → −x. Can be negative: it is the logarithm of a density.
/// * Weaknesses: the orders are treated as independent, though neighbours are not; large N make
///   large gradients, of the order of N times the distance to the expected quantile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrderStatisticNll {
    /// Only the ⌈αN⌉ smallest and the ⌈αN⌉ largest samples count, at least one each: 0 to 0.5, and
    /// 0.5 is all of them.
    pub alpha: f64,
    /// How the logarithms are computed in the tails: `exact` or `published`.
    pub log_cdf: LogCdf,
}

impl Default for OrderStatisticNll {
    fn default() -> Self {
        Self { alpha: 0.5, log_cdf: LogCdf::default() }
    }
}

impl OrderStatisticNll {
    /// Every sample's value, in the order of the samples; 0 for those that do not count.
    ///
    /// # Shapes
    /// `[views, samples, slices]` both.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use lejepa_objective::statistics::OrderStatisticNll;
    ///
    /// // Of three samples the last lies much further out than a largest of three should.
    /// let x = Tensor::<3>::from_floats([[[-1.0], [0.0], [6.0]]], &Device::flex());
    /// let nll: Vec<f32> = OrderStatisticNll::default().per_sample(x).try_into_vec_as()?;
    /// assert!(nll[2] > nll[0] && nll[2] > nll[1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn per_sample(&self, projections: Tensor<3>) -> Tensor<3> {
        let (sorted, order) = projections.sort_with_indices(1);
        // `order` says where the k-th came from; sorting it gives the inverse.
        self.of_sorted(sorted).gather(1, order.argsort(1))
    }

    fn of_sorted(&self, sorted: Tensor<3>) -> Tensor<3> {
        let [_, samples, _] = sorted.dims();
        let n = samples as f64;
        let row = |f: &dyn Fn(f64) -> f64| {
            constant((1..=samples).map(|k| f(k as f64)).collect(), [1, samples, 1], &sorted)
        };
        let (lower, upper) = log_cdf(sorted.clone(), self.log_cdf);
        // The binomial's logarithm, of the order of N, cancels against the other two terms. What
        // is left is small if those are taken relative to Φ = k/(N + 1), and computed here in f64.
        let log_binomial = log_binomials(samples);
        let offset = constant(
            (1..=samples)
                .map(|k| (k as f64, k as f64 / (n + 1.0)))
                .zip(log_binomial)
                .map(|((k, p), c)| c + (k - 1.0) * p.ln() + (n - k) * (1.0 - p).ln())
                .collect(),
            [1, samples, 1],
            &sorted,
        );
        let lower = (lower - row(&|k| (k / (n + 1.0)).ln())) * row(&|k| k - 1.0);
        let upper = (upper - row(&|k| (1.0 - k / (n + 1.0)).ln())) * row(&|k| n - k);
        let value = -(lower + upper + log_density(sorted.clone()) + offset);
        let kept = self.kept(samples);
        if 2 * kept >= samples {
            return value;
        }
        value * row(&|k| f64::from(k <= kept as f64 || k > n - kept as f64))
    }

    /// How many count at either end.
    fn kept(&self, samples: usize) -> usize {
        ((self.alpha.clamp(0.0, 0.5) * samples as f64).ceil() as usize).max(1)
    }
}

impl Statistic for OrderStatisticNll {
    fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
        let [_, samples, _] = projections.dims();
        let counted = (2 * self.kept(samples)).min(samples);
        let sum = self.of_sorted(projections.sort(1)).sum_dim(1);
        without_samples(sum * (counted as f64).recip())
    }
}

/// ln[N!/((k − 1)!(N − k)!)] for k = 1 to N.
fn log_binomials(samples: usize) -> Vec<f64> {
    let mut log_factorial = vec![0.0; samples + 1];
    for i in 1..=samples {
        log_factorial[i] = log_factorial[i - 1] + (i as f64).ln();
    }
    (1..=samples)
        .map(|k| log_factorial[samples] - log_factorial[k - 1] - log_factorial[samples - k])
        .collect()
}
