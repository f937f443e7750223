//! Statistics over projections.

mod epps_pulley;

pub use epps_pulley::EppsPulley;

use burn::tensor::Tensor;

/// A univariate test statistic applied to each slice.
pub trait Statistic: std::fmt::Debug + Send + Sync {
    /// `[V, N, M] -> [V, M]`
    fn evaluate(&self, projections: Tensor<3>) -> Tensor<2>;
}
