//! Statistics: what SIGReg computes of the projections, open to other crates like modalities.

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Tensor;

use crate::Result;
use crate::config::{Docs, Section};

/// A statistic of samples on a line against the standard normal distribution.
pub trait Statistic: Debug + Send + Sync {
    /// The statistic of every column, differentiable.
    ///
    /// # Shapes
    /// `projections`: `[views, samples, slices]`; result: `[views, slices]`, of the same type.
    fn evaluate(&self, projections: Tensor<3>) -> Tensor<2>;

    /// The mean over views and slices of [`Statistic::evaluate`] of the projections of `z` on
    /// `axes`, values below `clip` counting as 0, where there is one fused operation for it on this
    /// device and for this type. `None` sends the caller on the path of plain tensor operations.
    ///
    /// # Shapes
    /// `z`: `[views, samples, dim]`, `axes`: `[dim, slices]`; result: `[1]`.
    fn fused_mean(&self, z: &Tensor<3>, axes: &Tensor<2>, clip: f64) -> Option<Tensor<1>> {
        let _ = (z, axes, clip);
        None
    }

    /// The expectation for `rows` independent standard normal samples, where a formula is known.
    fn gaussian_expectation(&self, rows: usize) -> Option<f64> {
        let _ = rows;
        None
    }
}

/// A statistic of samples in space against the standard normal distribution.
pub trait MultivariateStatistic: Debug + Send + Sync {
    /// The statistic of every view, differentiable.
    ///
    /// # Shapes
    /// `x`: `[views, samples, dim]`; result: `[views]`, of the same type.
    fn evaluate(&self, x: Tensor<3>) -> Tensor<1>;
}

/// A statistic of either kind, ready for the objective.
#[derive(Debug, Clone)]
pub enum BoxedStatistic {
    /// Looks at projections on directions.
    Sliced(Arc<dyn Statistic>),
    /// Looks at the embeddings themselves; directions have no part in it.
    Multivariate(Arc<dyn MultivariateStatistic>),
}

impl BoxedStatistic {
    /// A statistic of projections.
    pub fn sliced(statistic: impl Statistic + 'static) -> Self {
        Self::Sliced(Arc::new(statistic))
    }

    /// A statistic of embeddings.
    pub fn multivariate(statistic: impl MultivariateStatistic + 'static) -> Self {
        Self::Multivariate(Arc::new(statistic))
    }
}

/// A statistic that can be chosen by name: `objective.statistic = "NAME"`.
pub trait StatisticKind: 'static {
    /// The name in the configuration, e.g. `"epps_pulley"`.
    const NAME: &'static str;
    /// One line for `lejepa statistics`.
    const ABOUT: &'static str;

    /// Its keys in the `[objective]` section, beside the general ones.
    type Config: Section;

    /// What its keys mean, for `lejepa config show`.
    fn docs() -> Docs {
        Docs::new()
    }

    /// Builds the statistic.
    ///
    /// # Errors
    /// [`crate::Error::BadValue`] for settings out of range.
    fn build(config: &Self::Config) -> Result<BoxedStatistic>;
}
