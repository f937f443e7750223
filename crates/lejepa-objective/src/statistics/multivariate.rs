//! Statistics of all dimensions at once.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::MultivariateStatistic;

/// Statistics that sum exponentials without a bound are scaled down where the largest exponent is
/// above this: e³⁰ ≈ 10¹³ leaves f32 room for the factors beside it, their sum and its gradient.
const LARGEST_EXPONENT: f64 = 30.0;

/// The statistic of Epps & Pulley in several dimensions (Baringhaus & Henze 1988; Henze & Zirkler
/// 1990) against N(0, I), with nothing estimated, divided by N:
///
/// (1/N²) Σᵢⱼ exp(−β²‖xᵢ − xⱼ‖²/2) − 2(1 + β²)^{−D/2} (1/N) Σ exp(−β²‖x‖²/(2 + 2β²)) + (1 + 2β²)^{−D/2}
///
/// which is the squared distance of the characteristic functions under the weight N(0, β²I).
///
/// * Cost: N²·D, and some ten N×N matrices per view.
/// * Never negative but for rounding. Not changed by rotations.
/// * Weaknesses: in many dimensions every pair is far apart, the double sum keeps nothing but its
///   diagonal 1/N, and gradients vanish: β must shrink as 1/√D.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bhep {
    /// The width of the weight, at least 0.
    pub beta: f64,
}

impl Default for Bhep {
    fn default() -> Self {
        Self { beta: 0.1 }
    }
}

impl MultivariateStatistic for Bhep {
    fn evaluate(&self, x: Tensor<3>) -> Tensor<1> {
        let [_, _, dim] = x.dims();
        let square = self.beta * self.beta;
        let half_dim = 0.5 * dim as f64;
        // Distances do not change with the origin; close to it they lose less to rounding.
        let centred = x.clone() - x.clone().mean_dim(1).detach();
        let pairs = exp_less_one(pair_norms(centred, -1.0) * (-0.5 * square));
        let singles = exp_less_one(norms(x) * (-0.5 * square / (1.0 + square)));
        // With small β all terms are near 1 and cancel; the ones are added up here in f64.
        let factor = 2.0 * (1.0 + square).powf(-half_dim);
        let ones = 1.0 - factor + (1.0 + 2.0 * square).powf(-half_dim);
        of_view(pairs.mean_dim(1).mean_dim(2)) - of_view(singles.mean_dim(1)) * factor + ones
    }
}

/// [`Bhep`] with the width of Henze & Zirkler (1990), that of an optimal kernel density estimate
/// of N samples: β = (N(2D + 1)/4)^{1/(D + 4)}/√2.
///
/// The textbook statistic is N times this, of samples scaled to have the unit covariance matrix.
///
/// * Cost and properties: those of [`Bhep`].
/// * Weaknesses: β grows with N and does not shrink with D: for embeddings of any size gradients
///   vanish.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HenzeZirkler {}

impl MultivariateStatistic for HenzeZirkler {
    fn evaluate(&self, x: Tensor<3>) -> Tensor<1> {
        let [_, samples, dim] = x.dims();
        let (n, d) = (samples as f64, dim as f64);
        let beta = ((2.0 * d + 1.0) * n / 4.0).powf(1.0 / (d + 4.0)) * 0.5f64.sqrt();
        Bhep { beta }.evaluate(x)
    }
}

/// The statistic of moment generating functions of Henze & Jiménez-Gamero (2019), less its factor
/// π^{D/2}:
///
/// β^{−D/2} (1/N) Σᵢⱼ exp(‖xᵢ + xⱼ‖²/4β) − 2(β − ½)^{−D/2} Σ exp(‖x‖²/(4β − 2)) + N(β − 1)^{−D/2}
///
/// The published LeJEPA code leaves out the last term, which does not depend on the samples; with
/// it the value is N times a squared distance.
///
/// * Cost: N²·D, and some ten N×N matrices per view.
/// * Never negative but for rounding. Not changed by rotations.
/// * Where the largest exponent is above 30, the value is scaled by exp(30 − exponent), whose
///   gradient is not taken: directions stay, magnitudes stay finite.
/// * Weaknesses: dominated by the samples farthest out; in many dimensions β must grow as D, and
///   the factors β^{−D/2} then underflow in f32 (β = 10: from D = 80 on).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BhepM {
    /// The sharpness of the weight exp(−β‖t‖²), above 1; above 2 the test is of bounded variance.
    pub beta: f64,
}

impl Default for BhepM {
    fn default() -> Self {
        Self { beta: 10.0 }
    }
}

impl MultivariateStatistic for BhepM {
    fn evaluate(&self, x: Tensor<3>) -> Tensor<1> {
        let [_, samples, dim] = x.dims();
        let n = samples as f64;
        let half_dim = 0.5 * dim as f64;
        let beta = self.beta.max(1.01);
        // (β − 1)^{−D/2} is the largest of the three factors and is taken out, so that a large D
        // leaves something of the others; then it is put back in.
        let relative = |b: f64| ((beta - 1.0) / b).powf(half_dim);
        let pairs = pair_norms(x.clone(), 1.0) / (4.0 * beta);
        let excess = excess(&pairs);
        let pairs = (pairs - excess.clone()).exp().sum_dim(1).sum_dim(2) * (relative(beta) / n);
        // A pair of a sample with itself has a larger exponent than the sample alone.
        let singles = (norms(x) / (4.0 * beta - 2.0) - excess.clone()).exp().sum_dim(1);
        let constant = (-excess).exp() * n;
        let sum = pairs - singles * (2.0 * relative(beta - 0.5)) + constant;
        of_view(sum * (beta - 1.0).powf(-half_dim))
    }
}

/// The statistic of Henze, Jiménez-Gamero & Meintanis (2019) that combines the characteristic and
/// the moment generating function, whose product is 1 for N(0, I) alone:
///
/// √N·((1/N²) Σᵢⱼ exp((‖xᵢ‖² − ‖xⱼ‖²)/4γ)·cos(xᵢ·xⱼ/2γ) − 1)
///
/// * Cost: N²·D, and some fifteen N×N matrices per view.
/// * Of either sign and near 0 for normal samples: something to monitor rather than to minimise.
///   Not changed by rotations.
/// * Scaled down as [`BhepM`] where the largest exponent is above 30.
/// * Weaknesses: dominated by the samples farthest out; γ must grow with D. (The published code's
///   default of 0.1 overflows for D of a few.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Comb {
    /// The sharpness of the weight exp(−γ‖t‖²), above 0.
    pub gamma: f64,
}

impl Default for Comb {
    fn default() -> Self {
        Self { gamma: 5.0 }
    }
}

impl MultivariateStatistic for Comb {
    fn evaluate(&self, x: Tensor<3>) -> Tensor<1> {
        let [_, samples, _] = x.dims();
        let gamma = self.gamma.max(1e-3);
        let squares = norms(x.clone());
        let exponents = (squares.clone() - squares.swap_dims(1, 2)) / (4.0 * gamma);
        let excess = excess(&exponents);
        let waves = (products(x) / (2.0 * gamma)).cos();
        let mean = ((exponents - excess.clone()).exp() * waves).mean_dim(1).mean_dim(2);
        of_view(mean - (-excess).exp()) * (samples as f64).sqrt()
    }
}

/// The statistic of Henze & Visagie (2020), from the differential equation ∇M = tM that the moment
/// generating function M of N(0, I) alone solves, less its factor (π/γ)^{D/2}:
///
/// (1/N) Σᵢⱼ exp(s/4γ)·(xᵢ·xⱼ − s/2γ + D/2γ + s/4γ²), s = ‖xᵢ + xⱼ‖²
///
/// * Cost: N²·D, and some fifteen N×N matrices per view.
/// * Never negative but for rounding. Not changed by rotations.
/// * Scaled down as [`BhepM`] where the largest exponent is above 30.
/// * Weaknesses: dominated by the samples farthest out; γ must grow with D.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HenzeVisagie {
    /// The sharpness of the weight exp(−γ‖t‖²), above 0.
    pub gamma: f64,
}

impl Default for HenzeVisagie {
    fn default() -> Self {
        Self { gamma: 5.0 }
    }
}

impl MultivariateStatistic for HenzeVisagie {
    fn evaluate(&self, x: Tensor<3>) -> Tensor<1> {
        let [_, samples, dim] = x.dims();
        let gamma = self.gamma.max(1e-3);
        let sums = pair_norms(x.clone(), 1.0);
        let exponents = sums.clone() / (4.0 * gamma);
        let excess = excess(&exponents);
        let factor =
            products(x) + sums * (0.25 / (gamma * gamma) - 0.5 / gamma) + dim as f64 * 0.5 / gamma;
        let terms = (exponents - excess).exp() * factor;
        of_view(terms.sum_dim(1).sum_dim(2) / samples as f64)
    }
}

/// exp(x) − 1 without cancellation for small x ≤ 0: tanh(x/2)·(exp(x) + 1).
fn exp_less_one(x: Tensor<3>) -> Tensor<3> {
    (x.clone() * 0.5).tanh() * (x.exp() + 1.0)
}

/// By how much the largest exponent of each view is above the largest allowed one.
fn excess(exponents: &Tensor<3>) -> Tensor<3> {
    let largest = exponents.clone().detach().max_dim(1).max_dim(2);
    (largest - LARGEST_EXPONENT).clamp_min(0.0)
}

/// ‖xᵢ‖², `[views, samples, 1]`.
fn norms(x: Tensor<3>) -> Tensor<3> {
    x.square().sum_dim(2)
}

/// xᵢ·xⱼ, `[views, samples, samples]`.
fn products(x: Tensor<3>) -> Tensor<3> {
    x.clone().matmul(x.swap_dims(1, 2))
}

/// ‖xᵢ + `sign`·xⱼ‖², `[views, samples, samples]`.
fn pair_norms(x: Tensor<3>, sign: f64) -> Tensor<3> {
    let squares = norms(x.clone());
    let sum = squares.clone() + squares.swap_dims(1, 2);
    // Rounding could leave less than nothing of close pairs.
    (sum + products(x) * (2.0 * sign)).clamp_min(0.0)
}

/// `[views, 1, 1] -> [views]`
fn of_view(x: Tensor<3>) -> Tensor<1> {
    let [views, _, _] = x.dims();
    x.reshape([views])
}
