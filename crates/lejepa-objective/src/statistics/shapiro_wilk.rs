//! The correlation of the sorted samples with expected normal order statistics.

use std::f64::consts::FRAC_PI_8;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::normal::{density, quantile};
use super::{Statistic, constant, without_samples};

/// Approximations of the probability at the expected i-th smallest of N normal samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// (i − π/8)/(N + ¼), after Elfving (1947). Not quite symmetric: N + ¼ stands for N + 1 − π/4.
    #[default]
    Elfving,
    /// (i − ⅜)/(N + ¼), Blom (1958).
    Blom,
    /// i/(N + 1), as used by Rahman & Govindarajulu (1997).
    Rahman,
}

/// Approximations of the covariance matrix of the order statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covariance {
    /// The identity: the weights are the expectations m (Shapiro & Francia 1972).
    #[default]
    ShapiroFrancia,
    /// The asymptotic one, whose inverse is tridiagonal (Rahman & Govindarajulu 1997): the weights
    /// are 2φᵢ²mᵢ − φᵢφᵢ₋₁mᵢ₋₁ − φᵢφᵢ₊₁mᵢ₊₁, with φᵢ the density at mᵢ.
    Rahman,
}

/// One less the statistic's root of Shapiro & Wilk (1965), without centring: 1 − |cos(a, x)| of the
/// angle between weights a and the sorted samples x.
///
/// * Cost: a sort and five passes over the data.
/// * Between 0 and 1. With symmetric expectations not changed by x → −x.
/// * A column of zeros has the value 1, and so has a single sample, unless its expectation
///   (Elfving) is not 0: then 0. Columns shorter than 10⁻¹² count as being of that length.
/// * Weaknesses: not changed by x → cx, so it does not prevent a collapse: use it for monitoring,
///   or with a term for the variance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShapiroWilk {
    /// The expectations of the order statistics: `elfving`, `blom` or `rahman`.
    pub expectation: Expectation,
    /// Their covariance: `shapiro_francia` or `rahman`.
    pub covariance: Covariance,
}

impl ShapiroWilk {
    /// The weights for `samples` samples, of length 1 (or all 0 if there is no direction).
    ///
    /// In f64 whatever the type of the samples: the weights of Rahman & Govindarajulu are second
    /// differences of neighbours, of the order of 1/N² of these. Computed in f32, as the published
    /// LeJEPA code does, they would have three digits for N = 128.
    fn weights(&self, samples: usize) -> Vec<f64> {
        let n = samples as f64;
        let m: Vec<f64> = (1..=samples)
            .map(|i| i as f64)
            .map(|i| match self.expectation {
                Expectation::Elfving => (i - FRAC_PI_8) / (n + 0.25),
                Expectation::Blom => (i - 0.375) / (n + 0.25),
                Expectation::Rahman => i / (n + 1.0),
            })
            .map(quantile)
            .collect();
        let mut weights = match self.covariance {
            Covariance::ShapiroFrancia => m,
            Covariance::Rahman => {
                let f: Vec<f64> = m.iter().map(|&x| density(x)).collect();
                let at = |i: usize| f.get(i).zip(m.get(i)).map_or(0.0, |(f, m)| f * m);
                (0..samples)
                    // Below the first there is none: `usize::MAX` is out of range too.
                    .map(|i| f[i] * (2.0 * at(i) - at(i.wrapping_sub(1)) - at(i + 1)))
                    .collect()
            }
        };
        let length = weights.iter().map(|w| w * w).sum::<f64>().sqrt();
        if length > 1e-12 {
            weights.iter_mut().for_each(|w| *w /= length);
        } else {
            weights.fill(0.0);
        }
        weights
    }
}

impl Statistic for ShapiroWilk {
    fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
        let [_, samples, _] = projections.dims();
        let weights = constant(self.weights(samples), [1, samples, 1], &projections);
        // The length does not depend on the order. The floor keeps the root's gradient finite.
        let length = projections.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
        let inner = (projections.sort(1) * weights).sum_dim(1);
        without_samples(-(inner / length).abs() + 1.0)
    }
}
