//! Epps-Pulley.
use burn::tensor::Tensor;

use super::Statistic;
use crate::quadrature::Quadrature;

/// Epps-Pulley by the trapezoid rule.
#[derive(Debug, Clone)]
pub struct EppsPulley {
    /// End of the interval.
    pub t_max: f64,
    /// Knots.
    pub knots: usize,
}

impl Default for EppsPulley {
    fn default() -> Self {
        Self { t_max: 3.0, knots: 17 }
    }
}

impl Statistic for EppsPulley {
    fn evaluate(&self, x: Tensor<3>) -> Tensor<2> {
        let [v, n, m] = x.dims();
        let q = Quadrature::trapezoid(self.t_max, self.knots);
        let mut total = Tensor::<3>::zeros([v, 1, m], &x.device());
        for (t, w) in q.knots.iter().zip(&q.weights) {
            let angle = x.clone() * *t;
            let real = angle.clone().cos().mean_dim(1) - (-0.5 * t * t).exp();
            let imaginary = angle.sin().mean_dim(1);
            total = total + (real.square() + imaginary.square()) * (w * n as f64);
        }
        total.reshape([v, m])
    }
}
