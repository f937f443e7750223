//! Statistics of moments.

use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::{Statistic, without_samples};

/// Variances that are divided by are drawn up to this one: a collapsed column has large but finite
/// values and gradients.
const VARIANCE_FLOOR: f64 = 1e-8;

/// The extended Jarque-Bera statistic against N(0, 1): the tests of mean and variance added to that
/// of Jarque & Bera (1980) of skewness and kurtosis,
///
/// N·m²/s² + (N − 1)(s² − 1)²/2 + N/6·(g₁² + ((g₂ − 3)/2)²)
///
/// with the mean m, the unbiased variance s² and g₁, g₂ the means of ((x − m)/s)³ and ((x − m)/s)⁴.
/// Asymptotically χ² with 4 degrees of freedom: the expectation is about 4, the 5 % point 9.49.
///
/// * Cost: about twenty passes over the data; no sorting.
/// * Never negative. Not changed by x → −x. A single sample has s² = 0.
/// * Where s² < 10⁻⁸, the s² that are divided by are 10⁻⁸.
/// * Weaknesses: four moments do not make a distribution; heavy tails make its gradients explode.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExtendedJarqueBera {}

impl Statistic for ExtendedJarqueBera {
    fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
        let [_, samples, _] = projections.dims();
        let Spread { mean, centred, variance } = spread(projections);
        let scale = variance.clone().clamp_min(VARIANCE_FLOOR).sqrt();
        // Scaled before being raised: the fourth power of 10⁴ times N would leave little room.
        let z = centred / scale;
        let square = z.clone().square();
        let skewness = (square.clone() * z).mean_dim(1);
        let excess = square.square().mean_dim(1) * 0.5 - 1.5;
        let shape = (skewness.square() + excess.square()) * (samples as f64 / 6.0);
        without_samples(mean_and_variance(mean, variance, samples) + shape)
    }
}

/// The tests of mean and variance alone: N·m²/s² + (N − 1)(s² − 1)²/2, the first two terms of
/// [`ExtendedJarqueBera`] (VICReg in the limit of many slices has a similar form).
///
/// * Cost: about eight passes over the data; no sorting.
/// * Never negative. Not changed by x → −x. Variances floored as in [`ExtendedJarqueBera`].
/// * Weaknesses: any distribution with mean 0 and variance 1 will do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VcReg {}

impl Statistic for VcReg {
    fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
        let [_, samples, _] = projections.dims();
        let Spread { mean, variance, .. } = spread(projections);
        without_samples(mean_and_variance(mean, variance, samples))
    }
}

/// Distances of raw moments to those of N(0, 1):
///
/// |mean x| + Σ_{k = 2}^{k_max} e^{−k}·|mean xᵏ − mₖ|, mₖ = (k − 1)!! for even k and 0 for odd k.
///
/// * Cost: 2·k_max passes over the data; no sorting.
/// * Never negative. Not changed by x → −x.
/// * |x| is limited to e·10^{30/k_max}, in f64 to e·10^{300/k_max}, so that no power overflows;
///   samples beyond have no gradient.
/// * Weaknesses: the variance of the k-th moment grows as m₂ₖ, so high orders are mostly noise and
///   the gradient is that of a few outliers; the absolute values make the gradient jump at the
///   target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Moments {
    /// The highest order, 1 to 40.
    pub k_max: usize,
}

impl Default for Moments {
    fn default() -> Self {
        Self { k_max: 4 }
    }
}

impl Statistic for Moments {
    fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
        let k_max = self.k_max.clamp(1, 40);
        let mut total = projections.clone().mean_dim(1).abs();
        // (x/e)ᵏ has the factor e^{−k} and needs less room than xᵏ.
        let digits = if projections.dtype() == DType::F64 { 300.0 } else { 30.0 };
        let limit = 10f64.powf(digits / k_max as f64);
        let base = (projections * (-1f64).exp()).clamp(-limit, limit);
        let mut power = base.clone();
        let mut normal = [1.0, 0.0];
        for k in 2..=k_max {
            power = power * base.clone();
            // mₖ = (k − 1)·mₖ₋₂
            normal = [normal[1], normal[0] * (k - 1) as f64];
            let target = normal[1] * (-(k as f64)).exp();
            total = total + (power.clone().mean_dim(1) - target).abs();
        }
        without_samples(total)
    }
}

/// Of each column: the mean, the samples less it, and the unbiased variance, with 1 for the
/// divisor N − 1 of a single sample.
pub(super) struct Spread {
    pub(super) mean: Tensor<3>,
    pub(super) centred: Tensor<3>,
    pub(super) variance: Tensor<3>,
}

pub(super) fn spread(x: Tensor<3>) -> Spread {
    let [_, samples, _] = x.dims();
    let mean = x.clone().mean_dim(1);
    let centred = x - mean.clone();
    let variance =
        centred.clone().square().sum_dim(1) * (samples.saturating_sub(1).max(1) as f64).recip();
    Spread { mean, centred, variance }
}

fn mean_and_variance(mean: Tensor<3>, variance: Tensor<3>, samples: usize) -> Tensor<3> {
    let n = samples as f64;
    let mean = mean.square() / variance.clone().clamp_min(VARIANCE_FLOOR) * n;
    mean + (variance - 1.0).square() * ((n - 1.0) * 0.5)
}
