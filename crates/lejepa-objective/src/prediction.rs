//! The prediction term of LeJEPA: every view predicts the centre of some of them.

use burn::module::Module;
use burn::tensor::Tensor;
use lejepa_core::config::{Docs, field_docs};
use lejepa_core::{
    BoxedPrediction, Component, Embedded, Error, Prediction, PredictionContext, PredictionKind,
};
use serde::{Deserialize, Serialize};

use crate::ObjectiveError;

/// Which views' mean every view predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Centre {
    /// The mean of the target views, the global ones of a multi-crop (the paper).
    #[default]
    Targets,
    /// The mean of all views (the paper's choice for encoders other than vision transformers).
    All,
}

/// Mean over views, samples and dimensions of (centre − z)² (equation 8 of arXiv 2511.08544, with
/// the mean over dimensions of its Algorithm 2).
///
/// Gradients flow through the views and through the centre alike: there is no stop-gradient.
///
/// # Shapes
/// `[views, samples, dim] -> [1]`; `targets` are indices of views.
///
/// # Errors
/// [`ObjectiveError::Shape`] for no targets, or targets that are not there.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lejepa_objective::{Centre, prediction_loss};
///
/// // Two views of one sample in one dimension: 1 and 3, each 1 from their centre.
/// let z = Tensor::<3>::from_floats([[[1.0]], [[3.0]]], &Device::flex());
/// let loss: f32 = prediction_loss(z.clone(), &[0, 1], Centre::Targets)?.try_into_scalar()?;
/// assert_eq!(loss, 1.0);
/// assert!(prediction_loss(z, &[2], Centre::Targets).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn prediction_loss(
    z: Tensor<3>,
    targets: &[usize],
    centre: Centre,
) -> Result<Tensor<1>, ObjectiveError> {
    let shape @ [views, ..] = z.dims();
    if targets.is_empty() || targets.iter().any(|&view| view >= views) {
        let reason = "prediction needs at least one target, each of them a view";
        return Err(ObjectiveError::Shape { shape, reason });
    }
    let centre = match centre {
        Centre::All => z.clone().mean_dim(0),
        Centre::Targets if targets.iter().copied().eq(0..targets.len()) => {
            z.clone().narrow(0, 0, targets.len()).mean_dim(0)
        }
        Centre::Targets => {
            let views = targets.iter().map(|&view| z.clone().narrow(0, view, 1)).collect();
            Tensor::cat(views, 0).mean_dim(0)
        }
    };
    Ok((centre - z).square().mean())
}

/// `[prediction]` of [`CentrePrediction`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CentreConfig {
    /// Whose mean every view predicts: `targets` (the global views) or `all`.
    pub centre: Centre,
}

/// [`prediction_loss`] as a term that a configuration can name. It has no parameters.
#[derive(Module, Debug)]
pub struct CentrePrediction {
    #[module(skip)]
    targets: Vec<usize>,
    #[module(skip)]
    centre: Centre,
}

impl Prediction for CentrePrediction {
    fn loss(&self, at: &Embedded<'_>) -> lejepa_core::Result<Tensor<1>> {
        prediction_loss(at.z.clone(), &self.targets, self.centre)
            .map_err(|e| Error::Data { reason: e.to_string(), hint: String::new() })
    }
}

impl Component for CentrePrediction {
    const NAME: &'static str = "centre";
    const ABOUT: &'static str = "every view predicts the mean of the target views (the paper)";
    type Config = CentreConfig;

    fn docs() -> Docs {
        field_docs(include_str!("prediction.rs"), "CentreConfig")
    }
}

impl PredictionKind for CentrePrediction {
    fn build(
        config: &CentreConfig,
        at: &PredictionContext<'_>,
    ) -> lejepa_core::Result<BoxedPrediction> {
        let term = Self { targets: at.views.targets(), centre: config.centre };
        Ok(BoxedPrediction::new(term))
    }
}
