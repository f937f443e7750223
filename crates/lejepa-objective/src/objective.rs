//! The LeJEPA objective: prediction loss plus λ times SIGReg.

use burn::tensor::Tensor;
use lejepa_core::Seed;
use serde::{Deserialize, Serialize};

use crate::ObjectiveError;
use crate::directions::{Slicing, directions};
use crate::fused;
use crate::statistics::{EppsPulley, Statistic};

/// Over which sets of embeddings SIGReg is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Each view's N embeddings by themselves, then the mean over views (the paper).
    #[default]
    PerView,
    /// All V·N embeddings as one sample. For the same discrepancy up to V times as large.
    Pooled,
}

/// How the two terms are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    /// (1 − λ)·prediction + λ·SIGReg (the paper).
    #[default]
    Convex,
    /// prediction + λ·SIGReg.
    Additive,
}

/// Which views' mean every view is to predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Centre {
    /// The mean of the global views (the paper).
    #[default]
    Global,
    /// The mean of all views (the paper's choice for encoders other than vision transformers).
    All,
}

/// Settings of the objective. λ alone is meant to be tuned.
///
/// Published implementations differ in `reduction`, `mix`, `centre` and in whether the statistic
/// carries the factor N (here it does), so a λ from elsewhere does not carry over unless all agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// λ, the weight of SIGReg: 0 to 1 for `mix = "convex"`, at least 0 for `"additive"`.
    pub lambda: f64,
    /// How the two terms are weighted.
    pub mix: Mix,
    /// Over which sets SIGReg is computed.
    pub reduction: Reduction,
    /// Which views' mean is the target.
    pub centre: Centre,
    /// How directions are chosen.
    pub slicing: Slicing,
    /// Number of directions M, at least 1.
    pub slices: usize,
    /// Knots of the quadrature on [0, t_max], both ends included, at least 2.
    pub knots: usize,
    /// End of the integration interval, above 0.
    pub t_max: f64,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            lambda: 0.05,
            mix: Mix::default(),
            reduction: Reduction::default(),
            centre: Centre::default(),
            slicing: Slicing::default(),
            slices: 1024,
            knots: 17,
            t_max: 3.0,
        }
    }
}

impl ObjectiveConfig {
    /// Checks the settings and makes the objective.
    ///
    /// # Errors
    /// [`ObjectiveError::Setting`] for a value out of range.
    pub fn init(&self) -> Result<Objective, ObjectiveError> {
        let bad =
            |key, reason: &str| Err(ObjectiveError::Setting { key, reason: reason.to_string() });
        let most = if self.mix == Mix::Convex { 1.0 } else { f64::MAX };
        if !(0.0..=most).contains(&self.lambda) {
            return bad(
                "lambda",
                "must lie in 0..=1 (mix = \"convex\") or be at least 0 (\"additive\")",
            );
        }
        if self.slices == 0 {
            return bad("slices", "must be at least 1");
        }
        if self.knots < 2 {
            return bad("knots", "must be at least 2");
        }
        if !(self.t_max > 0.0 && self.t_max.is_finite()) {
            return bad("t_max", "must be above 0");
        }
        Ok(Objective {
            config: self.clone(),
            statistic: EppsPulley { t_max: self.t_max, knots: self.knots, ..EppsPulley::default() },
        })
    }

    /// The loss in one line, conventions included, for logs.
    pub fn convention(&self) -> String {
        let (a, b) = match self.mix {
            Mix::Convex => (format!("{}", 1.0 - self.lambda), self.lambda),
            Mix::Additive => ("1".to_string(), self.lambda),
        };
        let reduction = match self.reduction {
            Reduction::PerView => "per view, mean over views",
            Reduction::Pooled => "all views pooled",
        };
        let centre = match self.centre {
            Centre::Global => "mean of global views",
            Centre::All => "mean of all views",
        };
        format!(
            "{a}·prediction(to the {centre}) + {b}·SIGReg({reduction}; Epps-Pulley ×N, {} slices, {} knots on [0, {}])",
            self.slices, self.knots, self.t_max
        )
    }
}

/// The objective, ready to be applied.
#[derive(Debug, Clone)]
pub struct Objective {
    config: ObjectiveConfig,
    statistic: EppsPulley,
}

/// The objective's value and its two parts, each of shape `[1]`. Only `total` need be differentiated.
#[derive(Debug, Clone)]
pub struct Losses {
    /// What is minimised.
    pub total: Tensor<1>,
    /// Mean squared distance of the views to their centre.
    pub prediction: Tensor<1>,
    /// The regulariser; about [`Objective::gaussian_sigreg`] for Gaussian embeddings.
    pub sigreg: Tensor<1>,
}

impl Objective {
    /// The settings it was made of.
    pub fn config(&self) -> &ObjectiveConfig {
        &self.config
    }

    /// The loss of projected embeddings at one step.
    ///
    /// Gradients flow through the views and through the centre alike: there is no stop-gradient.
    ///
    /// # Shapes
    /// `z`: `[views, samples, dim]`, the first `globals` views being the global ones.
    ///
    /// # Errors
    /// [`ObjectiveError::Shape`] for no views, no samples, or more globals than views.
    pub fn loss(
        &self,
        z: Tensor<3>,
        globals: usize,
        seed: Seed,
        step: u64,
    ) -> Result<Losses, ObjectiveError> {
        let [_, _, dim] = z.dims();
        let c = &self.config;
        let axes = directions(c.slicing, dim, c.slices, seed, step, &z.device());
        self.loss_along(z, globals, axes)
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
        globals: usize,
        axes: Tensor<2>,
    ) -> Result<Losses, ObjectiveError> {
        let shape @ [views, samples, dim] = z.dims();
        let bad = |reason| Err(ObjectiveError::Shape { shape, globals, reason });
        if views == 0 || samples == 0 || dim == 0 {
            return bad("an axis is empty");
        }
        if globals == 0 || globals > views {
            return bad("the number of global views must be at least 1 and at most that of views");
        }
        let prediction = prediction_loss(z.clone(), globals, self.config.centre);
        let sigreg = self.sigreg(z, axes);
        let lambda = self.config.lambda;
        let weight = match self.config.mix {
            Mix::Convex => 1.0 - lambda,
            Mix::Additive => 1.0,
        };
        let total = prediction.clone() * weight + sigreg.clone() * lambda;
        Ok(Losses { total, prediction, sigreg })
    }

    /// SIGReg of embeddings `[views, samples, dim]` along `axes` `[dim, slices]`: the mean over
    /// directions and views of the statistic of the projections. Fused on the CPU.
    pub fn sigreg(&self, z: Tensor<3>, axes: Tensor<2>) -> Tensor<1> {
        let [views, samples, dim] = z.dims();
        let z = match self.config.reduction {
            Reduction::PerView => z,
            Reduction::Pooled => z.reshape([1, views * samples, dim]),
        };
        fused::sigreg(&z, &axes, &self.statistic.quadrature())
            .unwrap_or_else(|| sigreg_plain(&self.statistic, z, axes))
    }

    /// The expectation of SIGReg for independent standard Gaussian embeddings, whatever N:
    /// Σ w φ (1 − φ²) over the knots. 1.0525 for the default quadrature.
    pub fn gaussian_sigreg(&self) -> f64 {
        self.statistic.gaussian_expectation()
    }

    /// SIGReg of embeddings that are all zero, divided by the number of rows: 0.40205 for the
    /// default quadrature. `rows` times this is what a total collapse shows.
    pub fn collapsed_sigreg_per_row(&self) -> f64 {
        self.statistic.collapsed_per_row()
    }

    /// Rows of one SIGReg sample for this many views and samples.
    pub fn rows(&self, views: usize, samples: usize) -> usize {
        match self.config.reduction {
            Reduction::PerView => samples,
            Reduction::Pooled => views * samples,
        }
    }
}

/// mean over views, samples and dimensions of (centre − z)² (equation 8 of arXiv 2511.08544, with
/// the mean over dimensions of its Algorithm 2).
///
/// # Shapes
/// `[views, samples, dim] -> [1]`
pub fn prediction_loss(z: Tensor<3>, globals: usize, centre: Centre) -> Tensor<1> {
    let centre = match centre {
        Centre::Global => z.clone().narrow(0, 0, globals).mean_dim(0),
        Centre::All => z.clone().mean_dim(0),
    };
    (centre - z).square().mean()
}

/// SIGReg by plain tensor operations, for any statistic and any backend: what the fused operation
/// has to equal.
///
/// # Shapes
/// `z`: `[sets, rows, dim]`, `axes`: `[dim, slices]`; the result is `[1]`.
pub fn sigreg_plain(statistic: &dyn Statistic, z: Tensor<3>, axes: Tensor<2>) -> Tensor<1> {
    let [sets, rows, dim] = z.dims();
    let [_, slices] = axes.dims();
    let projections = z.reshape([sets * rows, dim]).matmul(axes);
    statistic.evaluate(projections.reshape([sets, rows, slices])).mean()
}
