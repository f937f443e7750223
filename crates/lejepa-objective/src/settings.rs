//! What can be chosen about the objective.

use lejepa_core::BoxedStatistic;
use serde::{Deserialize, Serialize};

use crate::directions::Slicing;
use crate::statistics::EppsPulley;
use crate::{Objective, ObjectiveError};

/// Over which sets of embeddings SIGReg is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// The N embeddings of each view, then the mean over views (the paper).
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

/// How the statistics of a set's directions become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverSlices {
    /// Their mean (the paper).
    #[default]
    Mean,
    /// Their sum: `slices` times the mean, so λ must be smaller by as much.
    Sum,
}

/// Settings of the objective. λ alone is meant to be tuned.
///
/// Published implementations differ in `reduction`, `mix`, the centre of the prediction and in whether
/// the statistic carries the factor N (here it does), so a λ from elsewhere does not carry over unless
/// all agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// λ, the weight of SIGReg: 0 to 1 for `mix = "convex"`, at least 0 for `"additive"`.
    pub lambda: f64,
    /// How the two terms are weighted: `convex` or `additive`.
    pub mix: Mix,
    /// Over which sets SIGReg is computed: `per_view` or `pooled`.
    pub reduction: Reduction,
    /// How directions are chosen: `gaussian`, `fixed`, `sobol` or `orthogonal`.
    pub slicing: Slicing,
    /// Number of directions M, at least 1. Multivariate statistics have none.
    pub slices: usize,
    /// How the statistics of the directions become one number: `mean` or `sum`.
    pub over_slices: OverSlices,
    /// Statistics of single directions below this count as 0 and have no gradient; at least 0, and
    /// 0 leaves all as they are. Above 0 the fused operation is not used: it gives the mean alone.
    pub clip: f64,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            lambda: 0.05,
            mix: Mix::default(),
            reduction: Reduction::default(),
            slicing: Slicing::default(),
            slices: 1024,
            over_slices: OverSlices::default(),
            clip: 0.0,
        }
    }
}

impl ObjectiveConfig {
    /// What its keys mean.
    ///
    /// ```
    /// let docs = lejepa_objective::ObjectiveConfig::docs();
    /// assert!(docs.iter().any(|(key, what)| key == "lambda" && what.contains("SIGReg")));
    /// ```
    pub fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("settings.rs"), "ObjectiveConfig")
    }

    /// Checks the settings and makes the objective with Epps-Pulley, the paper's statistic.
    ///
    /// # Errors
    /// [`ObjectiveError::Setting`] for a value out of range.
    ///
    /// ```
    /// use lejepa_objective::ObjectiveConfig;
    ///
    /// let objective = ObjectiveConfig { lambda: 0.02, ..Default::default() }.init()?;
    /// assert_eq!(objective.config().lambda, 0.02);
    /// assert!(ObjectiveConfig { slices: 0, ..Default::default() }.init().is_err());
    /// # Ok::<(), lejepa_objective::ObjectiveError>(())
    /// ```
    pub fn init(&self) -> Result<Objective, ObjectiveError> {
        self.init_with(BoxedStatistic::sliced(EppsPulley::default()))
    }

    /// Checks the settings and makes the objective with the given statistic.
    ///
    /// # Errors
    /// [`ObjectiveError::Setting`] for a value out of range.
    ///
    /// ```
    /// use lejepa_core::BoxedStatistic;
    /// use lejepa_objective::{ObjectiveConfig, statistics::EppsPulley};
    ///
    /// let statistic = BoxedStatistic::sliced(EppsPulley { knots: 9, ..Default::default() });
    /// let objective = ObjectiveConfig::default().init_with(statistic)?;
    /// assert!(matches!(objective.statistic(), BoxedStatistic::Sliced(_)));
    /// println!("{}", objective.convention());
    /// # Ok::<(), lejepa_objective::ObjectiveError>(())
    /// ```
    pub fn init_with(&self, statistic: BoxedStatistic) -> Result<Objective, ObjectiveError> {
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
        if !(self.clip >= 0.0 && self.clip.is_finite()) {
            return bad("clip", "must be at least 0");
        }
        Ok(Objective { config: self.clone(), statistic })
    }
}
