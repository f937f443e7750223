//! Statistics of the empirical distribution function.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::normal::{LogCdf, cdf, log_cdf};
use super::{Statistic, constant, without_samples};

/// The statistic of Anderson & Darling (1952) against N(0, 1), with nothing estimated, for sorted
/// samples x₁ ≤ … ≤ x_N:
///
/// A² = −N − (1/N) Σ (2i − 1) [ln Φ(xᵢ) + ln Φ(−x_{N+1−i})]
///
/// which is N·∫ (F̂ − Φ)² / (Φ(1 − Φ)) dΦ: the tails count. 5 % point: 2.492.
///
/// * Cost: a sort and about forty passes over the data, whose results are kept for the gradient.
/// * Never negative. Not changed by x → −x.
/// * Weaknesses: the sort couples all samples, so it is not distributed by summing; the gradient
///   grows linearly with the distance of an outlier (there is no bound as there is for
///   Epps-Pulley).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AndersonDarling {
    /// How the logarithms are computed in the tails: `exact` or `published`.
    pub log_cdf: LogCdf,
}

impl Statistic for AndersonDarling {
    fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
        let [_, samples, _] = projections.dims();
        let n = samples as f64;
        let (lower, upper) = log_cdf(projections.clone().sort(1), self.log_cdf);
        let shape = [1, samples, 1];
        let list = |f: &dyn Fn(f64) -> f64| (0..samples).map(|i| f(i as f64 + 0.5)).collect();
        let row = |f: &dyn Fn(f64) -> f64| constant(list(f), shape, &projections);
        // Sums of size N cancel against −N. What is left is small if the logarithms are taken
        // relative to those at Φ(xᵢ) = (i − ½)/N, whose own statistic is computed here in f64.
        let ideal: f64 = (0..samples)
            .map(|i| (i as f64 + 0.5) / n)
            .map(|p| 2.0 * (p * p.ln() + (1.0 - p) * (1.0 - p).ln()))
            .sum();
        let lower = (lower - row(&|i| (i / n).ln())) * row(&|i| 2.0 * i / n);
        let upper = (upper - row(&|i| (1.0 - i / n).ln())) * row(&|i| 2.0 * (1.0 - i / n));
        without_samples(-(lower + upper).sum_dim(1) - (n + ideal))
    }
}

/// The statistic of Cramér and von Mises against N(0, 1) as a mean, for sorted samples:
///
/// mean ((2i − 1)/2N − Φ(xᵢ))²
///
/// The textbook statistic is N times this plus 1/(12 N).
///
/// * Cost: a sort and about ten passes over the data.
/// * Never negative. Not changed by x → −x.
/// * Weaknesses: insensitive in the tails, where Φ is flat: samples beyond ±6 have next to no
///   gradient, so outliers stay where they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CramerVonMises {}

impl Statistic for CramerVonMises {
    fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
        without_samples(excess(projections).square().mean_dim(1))
    }
}

/// The statistic of Watson (1961): [`CramerVonMises`] less (mean Φ(x) − ½)², which makes it a
/// statistic of points on a circle.
///
/// * Cost: as [`CramerVonMises`].
/// * Never negative; 0 for a single sample. Not changed by x → −x.
/// * Weaknesses: as [`CramerVonMises`]; a shift of Φ(x) modulo 1 goes unseen, so it is weak against
///   a wrong mean.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watson {}

impl Statistic for Watson {
    fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
        let excess = excess(projections);
        // The mean of (2i − 1)/2N is ½, so this is the variance of the excess: never negative, and
        // nothing cancels.
        let centred = excess.clone() - excess.mean_dim(1);
        without_samples(centred.square().mean_dim(1))
    }
}

/// Φ(xᵢ) − (2i − 1)/2N for sorted samples.
fn excess(projections: Tensor<3>) -> Tensor<3> {
    let [_, samples, _] = projections.dims();
    let positions = (0..samples).map(|i| (i as f64 + 0.5) / samples as f64).collect();
    let positions = constant(positions, [1, samples, 1], &projections);
    cdf(projections.sort(1)) - positions
}
