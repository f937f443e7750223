//! Statistics: what SIGReg computes of the projections, open to other crates like modalities.

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Tensor;

use crate::Result;
use crate::component::Component;

/// A statistic of samples on a line against the standard normal distribution.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lejepa_core::Statistic;
///
/// /// How far the mean square is from 1.
/// #[derive(Debug)]
/// struct MeanSquare;
///
/// impl Statistic for MeanSquare {
///     fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
///         (projections.square().mean_dim(1) - 1.0).square().squeeze_dim::<2>(1)
///     }
/// }
///
/// let device = Device::flex();
/// let collapsed = MeanSquare.evaluate(Tensor::<3>::zeros([2, 8, 4], &device));
/// assert_eq!(collapsed.dims(), [2, 4]);
/// assert_eq!(collapsed.mean().into_scalar::<f32>(), 1.0);
/// let spread = MeanSquare.evaluate(Tensor::<3>::ones([2, 8, 4], &device));
/// assert_eq!(spread.mean().into_scalar::<f32>(), 0.0);
/// ```
pub trait Statistic: Debug + Send + Sync {
    /// The statistic of every column, differentiable.
    ///
    /// # Shapes
    /// `projections`: `[views, samples, slices]`; result: `[views, slices]`, of the same type.
    fn evaluate(&self, projections: Tensor<3>) -> Tensor<2>;

    /// The mean over views and slices of [`Statistic::evaluate`] of the projections of `z` on `axes`, where
    /// there is one fused operation for it on this device and for this type. `None` sends the caller on the
    /// path of plain tensor operations.
    ///
    /// # Shapes
    /// `z`: `[views, samples, dim]`, `axes`: `[dim, slices]`; result: `[1]`.
    fn fused_mean(&self, z: &Tensor<3>, axes: &Tensor<2>) -> Option<Tensor<1>> {
        let _ = (z, axes);
        None
    }

    /// The expectation for `rows` independent standard normal samples, where a formula is known.
    fn gaussian_expectation(&self, rows: usize) -> Option<f64> {
        let _ = rows;
        None
    }
}

/// A statistic of samples in space against the standard normal distribution.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lejepa_core::MultivariateStatistic;
///
/// /// How far the mean squared length, over the number of dimensions, is from 1.
/// #[derive(Debug)]
/// struct MeanLength;
///
/// impl MultivariateStatistic for MeanLength {
///     fn evaluate(&self, x: Tensor<3>) -> Tensor<1> {
///         let [views, ..] = x.dims();
///         (x.square().mean_dim(2).mean_dim(1) - 1.0).square().reshape([views])
///     }
/// }
///
/// let collapsed = MeanLength.evaluate(Tensor::<3>::zeros([2, 8, 4], &Device::flex()));
/// assert_eq!(collapsed.dims(), [2]);
/// assert_eq!(collapsed.mean().into_scalar::<f32>(), 1.0);
/// ```
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
    ///
    /// ```
    /// # use burn::tensor::{Device, Tensor};
    /// use lejepa_core::{BoxedStatistic, Statistic};
    /// # #[derive(Debug)]
    /// # struct MeanSquare;
    /// # impl Statistic for MeanSquare {
    /// #     fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
    /// #         (projections.square().mean_dim(1) - 1.0).square().squeeze_dim::<2>(1)
    /// #     }
    /// # }
    ///
    /// // `MeanSquare` implements `Statistic`.
    /// let boxed = BoxedStatistic::sliced(MeanSquare);
    /// let BoxedStatistic::Sliced(statistic) = boxed else { panic!("not sliced") };
    /// let projections = Tensor::<3>::ones([2, 8, 4], &Device::flex());
    /// assert_eq!(statistic.evaluate(projections).dims(), [2, 4]);
    /// ```
    pub fn sliced(statistic: impl Statistic + 'static) -> Self {
        Self::Sliced(Arc::new(statistic))
    }

    /// A statistic of embeddings.
    ///
    /// ```
    /// # use burn::tensor::{Device, Tensor};
    /// use lejepa_core::{BoxedStatistic, MultivariateStatistic};
    /// # #[derive(Debug)]
    /// # struct MeanLength;
    /// # impl MultivariateStatistic for MeanLength {
    /// #     fn evaluate(&self, x: Tensor<3>) -> Tensor<1> {
    /// #         let [views, ..] = x.dims();
    /// #         (x.square().mean_dim(2).mean_dim(1) - 1.0).square().reshape([views])
    /// #     }
    /// # }
    ///
    /// // `MeanLength` implements `MultivariateStatistic`.
    /// let boxed = BoxedStatistic::multivariate(MeanLength);
    /// let BoxedStatistic::Multivariate(statistic) = boxed else { panic!("sliced") };
    /// let embeddings = Tensor::<3>::ones([2, 8, 4], &Device::flex());
    /// assert_eq!(statistic.evaluate(embeddings).dims(), [2]);
    /// ```
    pub fn multivariate(statistic: impl MultivariateStatistic + 'static) -> Self {
        Self::Multivariate(Arc::new(statistic))
    }
}

/// A statistic that can be chosen by name: `statistic.name = "NAME"`.
///
/// ```
/// use burn::tensor::Tensor;
/// use lejepa_core::{BoxedStatistic, Component, Error, Result, Statistic, StatisticKind};
/// use serde::{Deserialize, Serialize};
///
/// /// How far the mean square is from `target`. The struct is its own configuration.
/// #[derive(Debug, Clone, Serialize, Deserialize)]
/// #[serde(deny_unknown_fields, default)]
/// struct MeanSquare {
///     target: f64,
/// }
///
/// impl Default for MeanSquare {
///     fn default() -> Self {
///         Self { target: 1.0 }
///     }
/// }
///
/// impl Statistic for MeanSquare {
///     fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
///         (projections.square().mean_dim(1) - self.target).square().squeeze_dim::<2>(1)
///     }
/// }
///
/// impl Component for MeanSquare {
///     const NAME: &'static str = "mean_square";
///     const ABOUT: &'static str = "distance of the mean square from a target";
///     type Config = Self;
/// }
///
/// impl StatisticKind for MeanSquare {
///     fn build(config: &Self) -> Result<BoxedStatistic> {
///         if config.target < 0.0 {
///             return Err(Error::bad_value("statistic.target", "must be at least 0"));
///         }
///         Ok(BoxedStatistic::sliced(config.clone()))
///     }
/// }
///
/// assert!(matches!(MeanSquare::build(&MeanSquare::default())?, BoxedStatistic::Sliced(_)));
/// assert!(MeanSquare::build(&MeanSquare { target: -1.0 }).is_err());
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub trait StatisticKind: Component {
    /// Builds the statistic.
    ///
    /// # Errors
    /// [`Error::BadValue`](crate::Error::BadValue) for settings out of range.
    fn build(config: &Self::Config) -> Result<BoxedStatistic>;
}
