//! The LeJEPA objective: prediction loss plus λ times SIGReg.

use burn::tensor::{DType, Device, Distribution, FloatDType, Tensor};
use lejepa_core::{BoxedStatistic, Seed};

use crate::ObjectiveError;
use crate::directions::directions;
use crate::finite::check_finite;
use crate::settings::{Mix, ObjectiveConfig, OverSlices, Reduction};
use crate::statistics::Statistic;

/// The objective, ready to be applied.
#[derive(Debug, Clone)]
pub struct Objective {
    pub(crate) config: ObjectiveConfig,
    pub(crate) statistic: BoxedStatistic,
}

/// The loss of a batch and the named terms that it is made of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Losses {
    /// What is minimised.
    pub total: Tensor<1>,
    /// The terms without their weights: `"prediction"` and `"sigreg"`.
    pub terms: Vec<(&'static str, Tensor<1>)>,
}

impl Losses {
    /// The term of this name.
    pub fn term(&self, name: &str) -> Option<&Tensor<1>> {
        self.terms.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

/// What values of SIGReg mean: the logged number lies between these two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gauge {
    /// The expectation for independent standard Gaussian embeddings: where training aims.
    pub gaussian: f64,
    /// The value of embeddings that are all zero: total collapse.
    pub collapsed: f64,
}

impl Objective {
    /// The settings it was made of.
    pub fn config(&self) -> &ObjectiveConfig {
        &self.config
    }

    /// The statistic in use.
    pub fn statistic(&self) -> &BoxedStatistic {
        &self.statistic
    }

    /// The loss in one line, conventions included, for logs.
    pub fn convention(&self) -> String {
        let c = &self.config;
        let (a, b) = match c.mix {
            Mix::Convex => (format!("{}", 1.0 - c.lambda), c.lambda),
            Mix::Additive => ("1".to_string(), c.lambda),
        };
        let reduction = match c.reduction {
            Reduction::PerView => "per view, mean over views",
            Reduction::Pooled => "all views pooled",
        };
        let statistic = match &self.statistic {
            BoxedStatistic::Multivariate(statistic) => format!("{statistic:?}"),
            BoxedStatistic::Sliced(statistic) => {
                let over = match c.over_slices {
                    OverSlices::Mean => "mean",
                    OverSlices::Sum => "sum",
                };
                let slicing = format!("{:?}", c.slicing).to_lowercase();
                let clip = if c.clip > 0.0 { format!(", clip {}", c.clip) } else { String::new() };
                format!("{statistic:?}, {over} over {} {slicing} slices{clip}", c.slices)
            }
        };
        format!("{a}·prediction + {b}·SIGReg({reduction}; {statistic})")
    }

    /// The loss of projected embeddings at one step: SIGReg of `z` and a prediction term, weighted.
    ///
    /// # Shapes
    /// `z`: `[views, samples, dim]`; `prediction`: the value of a prediction term of the same `z`, such as
    /// [`prediction_loss`](crate::prediction_loss).
    ///
    /// # Errors
    /// [`ObjectiveError::Shape`] for no views or no samples; [`ObjectiveError::NotFinite`] for NaN or
    /// infinity in `z`.
    ///
    /// ```
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use lejepa_core::Seed;
    /// use lejepa_objective::{Centre, ObjectiveConfig, prediction_loss};
    ///
    /// let device = Device::flex().autodiff();
    /// let normal = Distribution::Normal(0.0, 1.0);
    /// // Two views of 32 samples in 8 dimensions.
    /// let z = Tensor::<3>::random([2, 32, 8], normal, &device).require_grad();
    /// let objective = ObjectiveConfig { slices: 64, ..Default::default() }.init()?;
    /// let prediction = prediction_loss(z.clone(), &[0, 1], Centre::Targets)?;
    /// let losses = objective.loss(z.clone(), prediction.clone(), Seed(0), 0)?;
    /// let gradients = losses.total.backward();
    /// assert_eq!(z.grad(&gradients).ok_or("no gradient")?.dims(), [2, 32, 8]);
    ///
    /// // The same in two steps: the directions of step 0, then the loss along them.
    /// let axes = objective.axes(&z, Seed(0), 0);
    /// assert_eq!(axes.dims(), [8, 64]);
    /// let again = objective.loss_along(z.clone(), prediction.clone(), axes.clone())?;
    /// let once = objective.loss(z.clone(), prediction, Seed(0), 0)?;
    /// again.total.into_data().assert_eq(&once.total.into_data(), true);
    ///
    /// // SIGReg alone, whole and direction by direction, and what its values mean.
    /// let sigreg: f32 = objective.sigreg(z.clone(), axes.clone())?.try_into_scalar()?;
    /// assert_eq!(objective.sigreg_per_slice(z, axes)?.dims(), [2, 64]);
    /// let gauge = objective.gauge(2, 32, 8);
    /// assert!(f64::from(sigreg) < gauge.collapsed && gauge.gaussian < gauge.collapsed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn loss(
        &self,
        z: Tensor<3>,
        prediction: Tensor<1>,
        seed: Seed,
        step: u64,
    ) -> Result<Losses, ObjectiveError> {
        check_finite("the embeddings", &z)?;
        self.loss_unchecked(z, prediction, seed, step)
    }

    /// As [`Objective::loss`], without reading `z` back from the device to look for NaN and infinity,
    /// which make the loss not finite too.
    ///
    /// # Errors
    /// [`ObjectiveError::Shape`] for no views or no samples.
    pub fn loss_unchecked(
        &self,
        z: Tensor<3>,
        prediction: Tensor<1>,
        seed: Seed,
        step: u64,
    ) -> Result<Losses, ObjectiveError> {
        let axes = self.axes(&z, seed, step);
        check(&z, &axes)?;
        let sigreg = self.checked_sigreg(z, axes);
        Ok(self.weighted(prediction, sigreg))
    }

    /// The directions for embeddings like `z` at one step; none for a multivariate statistic.
    pub fn axes(&self, z: &Tensor<3>, seed: Seed, step: u64) -> Tensor<2> {
        let [_, _, dim] = z.dims();
        let slices = match self.statistic {
            BoxedStatistic::Sliced(_) => self.config.slices,
            BoxedStatistic::Multivariate(_) => 1,
        };
        directions(self.config.slicing, dim, slices, seed, step, &z.device())
    }

    /// As [`Objective::loss`], along the given directions.
    ///
    /// # Shapes
    /// `axes`: `[dim, slices]`, unit columns.
    ///
    /// # Errors
    /// As [`Objective::loss`].
    pub fn loss_along(
        &self,
        z: Tensor<3>,
        prediction: Tensor<1>,
        axes: Tensor<2>,
    ) -> Result<Losses, ObjectiveError> {
        let sigreg = self.sigreg(z, axes)?;
        Ok(self.weighted(prediction, sigreg))
    }

    fn weighted(&self, prediction: Tensor<1>, sigreg: Tensor<1>) -> Losses {
        let lambda = self.config.lambda;
        let weight = match self.config.mix {
            Mix::Convex => 1.0 - lambda,
            Mix::Additive => 1.0,
        };
        let total = prediction.clone() * weight + sigreg.clone() * lambda;
        Losses { total, terms: vec![("prediction", prediction), ("sigreg", sigreg)] }
    }

    /// SIGReg of embeddings `[views, samples, dim]` along `axes` `[dim, slices]`, of shape `[1]`.
    ///
    /// f16 and bf16 embeddings are computed with, and their sums taken, in f32; the result is f32.
    /// Fused where the statistic knows how: Epps-Pulley on the CPU, wgpu and CUDA.
    ///
    /// # Errors
    /// [`ObjectiveError::Shape`] for an empty axis, [`ObjectiveError::NotFinite`] for NaN or
    /// infinity in `z` or `axes`. To see those the embeddings are waited for.
    pub fn sigreg(&self, z: Tensor<3>, axes: Tensor<2>) -> Result<Tensor<1>, ObjectiveError> {
        check_all(&z, &axes)?;
        Ok(self.checked_sigreg(z, axes))
    }

    fn checked_sigreg(&self, z: Tensor<3>, axes: Tensor<2>) -> Tensor<1> {
        let (z, axes) = self.sets(z, axes);
        let statistic = match &self.statistic {
            BoxedStatistic::Multivariate(statistic) => return statistic.evaluate(z).mean(),
            BoxedStatistic::Sliced(statistic) => statistic,
        };
        let [_, slices] = axes.dims();
        // A threshold needs the value of every slice; the fused operation gives their mean only.
        let clip = self.config.clip;
        let fused = if clip == 0.0 { statistic.fused_mean(&z, &axes) } else { None };
        let mean =
            fused.unwrap_or_else(|| clipped(statistic.evaluate(projections(z, axes)), clip).mean());
        match self.config.over_slices {
            OverSlices::Mean => mean,
            OverSlices::Sum => mean * slices as f64,
        }
    }

    /// The statistic of every set and direction, `[sets, slices]`, before any reduction: which
    /// directions look least Gaussian. A multivariate statistic gives one column.
    ///
    /// # Errors
    /// As [`Objective::sigreg`].
    pub fn sigreg_per_slice(
        &self,
        z: Tensor<3>,
        axes: Tensor<2>,
    ) -> Result<Tensor<2>, ObjectiveError> {
        check_all(&z, &axes)?;
        let (z, axes) = self.sets(z, axes);
        Ok(match &self.statistic {
            BoxedStatistic::Multivariate(statistic) => statistic.evaluate(z).unsqueeze_dim(1),
            BoxedStatistic::Sliced(statistic) => {
                clipped(statistic.evaluate(projections(z, axes)), self.config.clip)
            }
        })
    }

    /// The samples that SIGReg looks at, `[sets, rows, dim]`, in at least 32 bits, and the
    /// directions to go with them.
    fn sets(&self, z: Tensor<3>, axes: Tensor<2>) -> (Tensor<3>, Tensor<2>) {
        let [views, samples, dim] = z.dims();
        let wide = if z.dtype() == DType::F64 { FloatDType::F64 } else { FloatDType::F32 };
        let z = if z.dtype() == wide.into() { z } else { z.cast(wide) };
        let axes = if axes.dtype() == wide.into() { axes } else { axes.cast(wide) };
        let z = match self.config.reduction {
            Reduction::PerView => z,
            Reduction::Pooled => z.reshape([1, views * samples, dim]),
        };
        (z, axes)
    }

    /// What values of SIGReg mean for batches of this shape, by formula where one is known, else by
    /// the mean over seeded Gaussian draws.
    pub fn gauge(&self, views: usize, samples: usize, dim: usize) -> Gauge {
        let rows = match self.config.reduction {
            Reduction::PerView => samples,
            Reduction::Pooled => views * samples,
        };
        let (device, clip) = (Device::flex(), self.config.clip);
        // Any generator will do: the draws only have to be the same every time.
        let normal = |shape: [usize; 3]| {
            device.seed(0);
            Tensor::<3>::random(shape, Distribution::Normal(0.0, 1.0), &device)
        };
        let number = |x: Tensor<1>| x.into_data().iter::<f64>().next().unwrap_or(f64::NAN);
        match &self.statistic {
            BoxedStatistic::Multivariate(statistic) => Gauge {
                gaussian: number(statistic.evaluate(normal([8, rows, dim])).mean()),
                collapsed: number(statistic.evaluate(normal([1, rows, dim]) * 0.0).mean()),
            },
            BoxedStatistic::Sliced(statistic) => {
                let mean = |x| number(clipped(statistic.evaluate(x), clip).mean());
                let formula = statistic.gaussian_expectation(rows).filter(|_| clip == 0.0);
                let gaussian = formula.unwrap_or_else(|| mean(normal([1, rows, 512])));
                let collapsed = mean(normal([1, rows, 1]) * 0.0);
                let factor = match self.config.over_slices {
                    OverSlices::Mean => 1.0,
                    OverSlices::Sum => self.config.slices as f64,
                };
                Gauge { gaussian: gaussian * factor, collapsed: collapsed * factor }
            }
        }
    }
}

/// Shapes that go together and hold something.
fn check(z: &Tensor<3>, axes: &Tensor<2>) -> Result<(), ObjectiveError> {
    let shape @ [_, _, dim] = z.dims();
    let [rows, _] = axes.dims();
    let reason = match shape {
        s if s.contains(&0) => "an axis is empty",
        _ if rows != dim => "the directions are of another dimension",
        _ => return Ok(()),
    };
    Err(ObjectiveError::Shape { shape, reason })
}

/// The same, and every number finite.
fn check_all(z: &Tensor<3>, axes: &Tensor<2>) -> Result<(), ObjectiveError> {
    check(z, axes)?;
    check_finite("the embeddings", z)?;
    check_finite("the directions", axes)
}

/// Values below `clip` as 0, where `clip` is above 0.
fn clipped(values: Tensor<2>, clip: f64) -> Tensor<2> {
    if clip > 0.0 {
        let low = values.clone().lower_elem(clip);
        values.mask_fill(low, 0.0)
    } else {
        values
    }
}

/// SIGReg by plain tensor operations, for any statistic and any backend: what a fused operation has
/// to equal.
///
/// # Shapes
/// `z`: `[sets, rows, dim]`, `axes`: `[dim, slices]`; the result is `[1]`.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use lejepa_core::Seed;
/// use lejepa_objective::{Slicing, directions, sigreg_plain, statistics::EppsPulley};
///
/// let device = Device::flex();
/// let z = Tensor::<3>::random([1, 64, 4], Distribution::Normal(0.0, 1.0), &device);
/// let axes = directions(Slicing::Gaussian, 4, 16, Seed(0), 0, &device);
/// let gaussian: f32 = sigreg_plain(&EppsPulley::default(), z.clone(), axes.clone()).try_into_scalar()?;
/// let collapsed: f32 = sigreg_plain(&EppsPulley::default(), z * 0.0, axes).try_into_scalar()?;
/// assert!(gaussian < 0.2 * collapsed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sigreg_plain(statistic: &dyn Statistic, z: Tensor<3>, axes: Tensor<2>) -> Tensor<1> {
    statistic.evaluate(projections(z, axes)).mean()
}

/// `[sets, rows, dim]` on `[dim, slices]`: `[sets, rows, slices]`.
fn projections(z: Tensor<3>, axes: Tensor<2>) -> Tensor<3> {
    let [sets, rows, dim] = z.dims();
    let [_, slices] = axes.dims();
    z.reshape([sets * rows, dim]).matmul(axes).reshape([sets, rows, slices])
}
