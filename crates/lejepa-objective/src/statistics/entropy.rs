//! Entropy from spacings.

use std::f64::consts::{E, PI};

use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::moments::spread;
use super::{Statistic, without_samples};

/// Spacings and standard deviations below this count as this, so that ties have finite logarithms.
const FLOOR: f64 = 1e-5;

/// Which spacings of the sorted samples [`Entropy`] uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// x_{i+m} − x_{i−m}, with x₁ and x_N for what is out of range (Vasicek 1976); the value is the
    /// exponential, a ratio.
    #[default]
    Centered,
    /// As `Centered`, but the first and the last full spacing, x_{2m+1} − x₁ and x_N − x_{N−2m},
    /// count twice, as they do in the published LeJEPA code, for comparison with it.
    CenteredPublished,
    /// x_{i+m} − x_i for i ≤ N − m, their sum still being divided by N; the value is the logarithm.
    Right,
}

/// The entropy test of Vasicek (1976): how much entropy the sample lacks that a normal one of the
/// same variance has. With s the unbiased standard deviation and H = mean ln(N/2m·spacing):
///
/// √(2πe)·s / exp(H) for centred spacings, the logarithm of it (with m for 2m) for right ones.
///
/// * Cost: a sort and about ten passes over the data.
/// * Centred: never negative, about 1 for large normal samples. Not changed by x → −x.
/// * Spacings and s below 10⁻⁵ count as 10⁻⁵ and have no gradient. 0 for a single sample.
/// * Weaknesses: neither location nor scale matter, so it does not prevent a collapse; close
///   neighbours have gradients as large as the inverse of their spacing; biased for small N/m.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Entropy {
    /// Half the width of a centred window, the width of a right one: 1 to N − 1, and for
    /// `centered_published` to (N − 1)/2.
    pub m: usize,
    /// Which spacings are used: `centered`, `centered_published` or `right`.
    pub method: Spacing,
}

impl Default for Entropy {
    fn default() -> Self {
        Self { m: 1, method: Spacing::default() }
    }
}

impl Entropy {
    /// The ends of the windows as positions among `samples` > 1 sorted samples, and the width of a
    /// full window.
    fn windows(&self, samples: usize) -> (Vec<(usize, usize)>, usize) {
        let last = samples - 1;
        let m = self.m.clamp(1, last);
        match self.method {
            Spacing::Centered => {
                ((0..samples).map(|i| (i.saturating_sub(m), (i + m).min(last))).collect(), 2 * m)
            }
            Spacing::CenteredPublished => {
                let m = m.min(last / 2).max(1);
                let low = (0..=m).map(|i| (0, (i + m).min(last)));
                let middle = (0..samples.saturating_sub(2 * m)).map(|i| (i, i + 2 * m));
                let high = (0..=m).map(|i| (last.saturating_sub(i + m), last));
                (low.chain(middle).chain(high).collect(), 2 * m)
            }
            Spacing::Right => ((0..samples - m).map(|i| (i, i + m)).collect(), m),
        }
    }
}

impl Statistic for Entropy {
    fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
        let [_, samples, _] = projections.dims();
        if samples < 2 {
            // No spacing: a constant, but with a gradient, and NaN stays NaN.
            return without_samples(projections.sum_dim(1) * 0.0);
        }
        let n = samples as f64;
        let (windows, width) = self.windows(samples);
        let (low, high): (Vec<i64>, Vec<i64>) =
            windows.into_iter().map(|(a, b)| (a as i64, b as i64)).unzip();
        let device = projections.device();
        let index = |list: Vec<i64>| {
            let length = list.len();
            Tensor::<1, Int>::from_data(TensorData::new(list, [length]), &device)
        };
        let variance = spread(projections.clone()).variance.clamp_min(FLOOR * FLOOR);
        let sorted = projections.sort(1);
        let spacings = sorted.clone().select(1, index(high)) - sorted.select(1, index(low));
        let logs = spacings.clamp_min(FLOOR).log().sum_dim(1) * n.recip();
        let offset = 0.5 * (2.0 * PI * E).ln() + (width as f64 / n).ln();
        let value = variance.log() * 0.5 - logs + offset;
        without_samples(match self.method {
            Spacing::Centered | Spacing::CenteredPublished => value.exp(),
            Spacing::Right => value,
        })
    }
}
