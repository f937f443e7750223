//! The characteristic function against the normal one.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::gauss_hermite::gauss_hermite;
use super::{Statistic, without_samples};
use crate::quadrature::Quadrature;

/// How [`EppsPulley`] integrates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Integration {
    /// The trapezoid rule with evenly spaced knots on [0, t_max].
    #[default]
    Trapezoid,
    /// The Gauss-Hermite rule with 2·knots − 1 nodes on the whole line; `t_max` has no effect. The
    /// nodes spread as √knots, and cos(tx) with a node t is periodic in x: rules with few nodes are
    /// blind to more.
    GaussHermite,
}

/// The statistic of Epps & Pulley (1983) against N(0, 1), with nothing estimated:
///
/// N·∫ |φ̂(t) − exp(−t²/2)|² exp(−t²/2) dt, φ̂(t) = mean exp(itx),
///
/// the integral being one over −t_max ≤ t ≤ t_max. The integrand is even, so only knots t ≥ 0 are
/// evaluated, with doubled weights.
///
/// For N(0, 1) samples its expectation does not depend on N ([`EppsPulley::gaussian_expectation`]);
/// for a fixed other distribution it grows as N.
///
/// * Cost: one sine and one cosine per sample and knot; no sorting; sums of N terms alone couple
///   the samples, so it is easily distributed.
/// * Its gradient with respect to a sample is at most 8, however far out the sample is.
/// * Weaknesses: the weight looks away from high frequencies, so fine structure goes unseen; far
///   outliers hardly pull, and in f32 the phase of a sample at 10⁴ is off by 10⁻³ already; at a
///   total collapse the gradient vanishes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EppsPulley {
    /// End of the interval, above 0.
    pub t_max: f64,
    /// Number of knots t ≥ 0, 0 itself included, at least 2.
    pub knots: usize,
    /// How the integral is computed: `trapezoid` or `gauss_hermite`.
    pub integration: Integration,
}

impl Default for EppsPulley {
    fn default() -> Self {
        Self { t_max: 3.0, knots: 17, integration: Integration::default() }
    }
}

impl EppsPulley {
    /// The expectation for independent standard normal samples, whatever their number.
    ///
    /// ```
    /// use lejepa_objective::statistics::EppsPulley;
    ///
    /// let statistic = EppsPulley::default();
    /// assert!((statistic.gaussian_expectation() - 1.05).abs() < 0.01);
    /// // Collapse costs more the more samples there are.
    /// assert!((statistic.collapsed_per_row() - 0.402).abs() < 0.001);
    /// ```
    pub fn gaussian_expectation(&self) -> f64 {
        self.quadrature().gaussian_expectation()
    }

    /// The value for samples that are all zero, divided by their number.
    pub fn collapsed_per_row(&self) -> f64 {
        self.quadrature().collapsed_per_row()
    }

    pub(crate) fn quadrature(&self) -> Quadrature {
        let knots = self.knots.max(2);
        match self.integration {
            Integration::Trapezoid => Quadrature::trapezoid(self.t_max, knots),
            Integration::GaussHermite => gauss_hermite(knots),
        }
    }
}

impl Statistic for EppsPulley {
    fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
        let [_, samples, _] = projections.dims();
        let rule = self.quadrature();
        let mut total: Option<Tensor<3>> = None;
        for (&t, &weight) in rule.knots.iter().zip(&rule.weights) {
            // φ̂(0) = 1 = φ(0): the first knot has no part but in the rule.
            if t == 0.0 {
                continue;
            }
            // A knot at a time: all at once would take `knots` times the memory.
            let angle = projections.clone() * t;
            let real = angle.clone().cos().mean_dim(1) - (-0.5 * t * t).exp();
            let imaginary = angle.sin().mean_dim(1);
            let term = (real.square() + imaginary.square()) * (weight * samples as f64);
            total = Some(match total {
                Some(sum) => sum + term,
                None => term,
            });
        }
        // There are two knots at least, so there is a total.
        without_samples(total.unwrap_or_else(|| projections.mean_dim(1).zeros_like()))
    }

    fn fused_mean(&self, z: &Tensor<3>, axes: &Tensor<2>) -> Option<Tensor<1>> {
        crate::fused::sigreg(z, axes, &self.quadrature())
    }

    fn gaussian_expectation(&self, _: usize) -> Option<f64> {
        Some(EppsPulley::gaussian_expectation(self))
    }
}
