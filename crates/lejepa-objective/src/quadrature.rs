//! The Epps-Pulley integral as a weighted sum over knots.

/// Knots t ≥ 0 and the weights of |φ̂(t) − exp(−t²/2)|² at them: quadrature weight (doubled, since
/// the integrand is even) times exp(−t²/2).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Quadrature {
    pub(crate) knots: Vec<f64>,
    pub(crate) weights: Vec<f64>,
}

impl Quadrature {
    /// The trapezoid rule with `count` evenly spaced knots on [0, t_max].
    pub(crate) fn trapezoid(t_max: f64, count: usize) -> Self {
        let step = t_max / (count.max(2) - 1) as f64;
        let knots: Vec<f64> = (0..count).map(|k| k as f64 * step).collect();
        let weights = knots
            .iter()
            .enumerate()
            .map(|(k, t)| {
                let end = k == 0 || k + 1 == count;
                (if end { step } else { 2.0 * step }) * (-0.5 * t * t).exp()
            })
            .collect();
        Self { knots, weights }
    }

    /// The distance between knots where they are 0, d, 2d, ...: what a recurrence can walk along.
    pub(crate) fn even_step(&self) -> Option<f64> {
        let step = *self.knots.get(1)?;
        let even = |(k, t): (usize, &f64)| (t - k as f64 * step).abs() <= 1e-9 * step;
        self.knots.iter().enumerate().all(even).then_some(step)
    }

    /// The expectation of the statistic for independent standard normal samples, whatever their
    /// number N: E|φ̂ − φ|² = (1 − φ²)/N, and the statistic carries the factor N.
    pub(crate) fn gaussian_expectation(&self) -> f64 {
        self.sum(|t| -(-t * t).exp_m1())
    }

    /// The statistic of samples that are all zero (φ̂ = 1), divided by N.
    pub(crate) fn collapsed_per_row(&self) -> f64 {
        self.sum(|t| (-0.5 * t * t).exp_m1().powi(2))
    }

    fn sum(&self, of_knot: impl Fn(f64) -> f64) -> f64 {
        self.knots.iter().zip(&self.weights).map(|(&t, w)| w * of_knot(t)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Quadrature;

    #[test]
    fn anchors() {
        let q = Quadrature::trapezoid(3.0, 17);
        assert!((q.gaussian_expectation() - 1.0524641547991607).abs() < 1e-12);
        assert!((q.collapsed_per_row() - 0.40204757973166455).abs() < 1e-12);
    }
}
