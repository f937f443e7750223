//! Statistics of all dimensions at once.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::MultivariateStatistic;

/// What statistics that sum exponentials without a bound leave of the range of their type to those
/// who add up or multiply values and gradients.
const RESERVE: f64 = 1e4;

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
    /// The width of the weight, above 0.
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
        // With small β all terms are near 1 and cancel; the ones are added up here in f64, as what
        // (1 + β²)^{−D/2} and (1 + 2β²)^{−D/2} differ from 1: that loses no digits.
        let log_factor = -half_dim * square.ln_1p();
        let ones = (-half_dim * (2.0 * square).ln_1p()).exp_m1() - 2.0 * log_factor.exp_m1();
        let factor = 2.0 * log_factor.exp();
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
/// * Cost: N²·D, and some fifteen N×N matrices per view.
/// * Never negative but for rounding. Not changed by rotations.
/// * Where value or gradient would overflow, both are those of the value times a constant that
///   keeps them finite and whose gradient is not taken: directions stay, magnitudes do not.
/// * Weaknesses: dominated by the samples farthest out; in many dimensions β must grow as D, and
///   the factors β^{−D/2} then underflow in f32 (β = 10: from D = 80 on).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BhepM {
    /// The sharpness of the weight exp(−β‖t‖²), at least 1.01; above 2 the test is of bounded
    /// variance.
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
        // leaves something of the others; then it is put back in: among the exponents if it is
        // above 1, where it could overflow.
        let log_largest = -half_dim * (beta - 1.0).ln();
        let (inside, outside) = (log_largest.max(0.0), log_largest.min(0.0).exp());
        let log_pairs = half_dim * (-1.0 / beta).ln_1p();
        let log_singles = half_dim * (-0.5 / (beta - 0.5)).ln_1p();
        // With large β all terms are near 1 and cancel, as those of `Bhep` with small β.
        let ones = log_pairs.exp_m1() - 2.0 * log_singles.exp_m1();
        let factors = reach(&x) * (8.0 / beta) + 2.0;
        let pairs = pair_norms(x.clone(), 1.0) * (0.25 / beta);
        let singles = norms(x) * (4.0 * beta - 2.0).recip();
        // Twice a single's term is at most the term of its pair with itself plus the constant one:
        // it need not be looked at for the largest.
        let scale = Scale::new(pairs.clone() + (log_pairs + inside), inside, factors);
        let less_one = |x: Tensor<3>, log_factor: f64| {
            let log_factor = log_factor + inside;
            let sum = scale.exp(x.clone() + log_factor) + scale.constant(log_factor);
            (x * 0.5).tanh() * sum
        };
        let pairs = less_one(pairs, log_pairs).sum_dim(1).sum_dim(2) * n.recip();
        let singles = less_one(singles, log_singles).sum_dim(1) * 2.0;
        of_view((pairs - singles + scale.constant(inside) * (n * ones)) * outside)
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
/// * Scaled down as [`BhepM`] where value or gradient would overflow.
/// * Weaknesses: dominated by the samples farthest out; γ must grow with D. (The published code's
///   default of 0.1 overflows for D of a few.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Comb {
    /// The sharpness of the weight exp(−γ‖t‖²), at least 0.001.
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
        let exponents = (squares.clone() - squares.swap_dims(1, 2)) * (0.25 / gamma);
        let scale = Scale::new(exponents.clone(), 0.0, reach(&x) * (8.0 / gamma) + 2.0);
        let one = scale.constant(0.0);
        // With large γ the terms are near 1 and cancel against the one. With y the exponent of a
        // pair, −y is that of the pair turned round, so exp(y) may stand for cosh(y), and
        // cosh(y) − 1 = tanh²(y/2)·(1 + cosh(y)), where nothing cancels; nor does it in
        // 1 − cos(z) = 2 sin²(z/2).
        let turns = (products(x) * (0.25 / gamma)).sin().square() * 2.0;
        let growth = (exponents.clone() * 0.5).tanh().square();
        let growth = growth * (scale.exp(exponents) + one.clone());
        let terms = growth * (-turns.clone() + 1.0) - turns * one;
        of_view(terms.mean_dim(1).mean_dim(2)) * (samples as f64).sqrt()
    }
}

/// The statistic of Henze & Visagie (2020), from the differential equation ∇M = tM that the moment
/// generating function M of N(0, I) alone solves, less its factor (π/γ)^{D/2}:
///
/// (1/N) Σᵢⱼ exp(s/4γ)·(xᵢ·xⱼ − s/2γ + D/2γ + s/4γ²), s = ‖xᵢ + xⱼ‖²
///
/// * Cost: N²·D, and some fifteen N×N matrices per view.
/// * Never negative but for rounding. Not changed by rotations.
/// * Scaled down as [`BhepM`] where value or gradient would overflow.
/// * Weaknesses: dominated by the samples farthest out; γ must grow with D.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HenzeVisagie {
    /// The sharpness of the weight exp(−γ‖t‖²), at least 0.001.
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
        let exponents = sums.clone() * (0.25 / gamma);
        // With r the length of the longest sample the factor is at most F = r²(1 + 4c) + D/2γ, and
        // its part in a gradient at most 8r(F/4γ + c + 1).
        let c = 0.25 / (gamma * gamma) + 0.5 / gamma;
        let reach = reach(&x);
        let largest = reach.clone().square() * (1.0 + 4.0 * c) + dim as f64 * 0.5 / gamma;
        let slope = (largest.clone() * (0.25 / gamma) + (c + 1.0)) * reach * 8.0;
        let scale = Scale::new(exponents.clone(), 0.0, largest + slope + 1.0);
        let factor =
            products(x) + sums * (0.25 / (gamma * gamma) - 0.5 / gamma) + dim as f64 * 0.5 / gamma;
        let terms = scale.exp(exponents) * factor;
        of_view(terms.sum_dim(1).sum_dim(2) * (samples as f64).recip())
    }
}

/// exp(x) − 1 without cancellation for small x ≤ 0: tanh(x/2)·(exp(x) + 1).
fn exp_less_one(x: Tensor<3>) -> Tensor<3> {
    (x.clone() * 0.5).tanh() * (x.exp() + 1.0)
}

/// exp(x) of whatever size, times a constant of each view: 1 where that does not overflow, else
/// such that the largest exponent becomes the largest allowed one.
struct Scale {
    /// The largest exponent, and 0 where the constant is 1, `[views, 1, 1]`.
    largest: Tensor<3>,
    /// The largest allowed one, and 0 where the constant is 1, `[views, 1, 1]`.
    allowed: Tensor<3>,
}

impl Scale {
    /// For `exponents` `[views, samples, samples]` and a further one, `at_least`; `factors`
    /// `[views, 1, 1]`, from 1 on, are the most by which an exponential is multiplied in the value
    /// or in its gradient.
    fn new(exponents: Tensor<3>, at_least: f64, factors: Tensor<3>) -> Self {
        let [_, samples, _] = exponents.dims();
        let largest = exponents.detach().max_dim(1).max_dim(2).clamp_min(at_least);
        let max = largest.dtype().finfo().map_or(f64::from(f32::MAX), |info| info.max);
        let pairs = (samples * samples) as f64;
        let allowed = -factors.log() + (max / RESERVE / pairs).ln();
        let fits = largest.clone().lower_equal(allowed.clone());
        Self {
            largest: largest.mask_fill(fits.clone(), 0.0),
            allowed: allowed.mask_fill(fits, 0.0),
        }
    }

    fn exp(&self, x: Tensor<3>) -> Tensor<3> {
        // In this order: a number as small as the allowed one is lost in a large exponent.
        ((x - self.largest.clone()) + self.allowed.clone()).exp()
    }

    /// The same of a number, `[views, 1, 1]`.
    fn constant(&self, x: f64) -> Tensor<3> {
        ((-self.largest.clone() + x) + self.allowed.clone()).exp()
    }
}

/// The length of the longest sample, `[views, 1, 1]`.
fn reach(x: &Tensor<3>) -> Tensor<3> {
    norms(x.clone().detach()).max_dim(1).sqrt()
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
