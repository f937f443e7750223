//! What is wrong with a step.

use burn::tensor::Tensor;
use lejepa_core::Seed;

use super::Run;
use crate::callbacks::{views_without_gradient, without_gradient};
use crate::step::Pass;
use crate::{Result, TrainError, checkpoint};

impl Run<'_> {
    /// Views and parameters that the first step's loss does not reach.
    pub(super) fn unreached(&self, pass: &Pass) -> Result<Vec<String>> {
        let learner = self.learner()?;
        let seed = Seed(self.resolved.settings().seed);
        let axes = learner.objective.axes(&pass.projections, seed, 0);
        let mut texts = Vec::new();
        let views = views_without_gradient(learner, self.resolved.spec(), pass, axes)?;
        if !views.is_empty() {
            texts.push(format!("no gradient: the loss does not depend on the views {views:?}"));
        }
        let parameters = without_gradient(&learner.model, &pass.gradients);
        if !parameters.is_empty() {
            texts.push(format!(
                "no gradient: the loss does not depend on the parameters {}",
                parameters.join(", ")
            ));
        }
        Ok(texts)
    }

    /// Step, parameter, place and checkpoint for a loss that is NaN or infinite.
    pub(super) fn not_finite(
        &self,
        name: &str,
        value: f64,
        z: &Tensor<3>,
        step: u64,
    ) -> TrainError {
        let axes = Tensor::zeros([z.dims()[2], 1], &z.device());
        let place = self.learner.as_ref().and_then(|learner| {
            learner.objective.sigreg(z.clone(), axes).err().map(|error| error.to_string())
        });
        let parameter = self.learner.as_ref().and_then(|learner| learner.model.first_not_finite());
        let cause = parameter.map_or(String::new(), |name| {
            format!("; so does the parameter {name}: the step before was too large")
        });
        let what = place.unwrap_or_else(|| match name {
            "loss" => format!("the loss is {value}"),
            term => format!("the {term} term is {value}"),
        });
        let what = format!("{what}{cause}");
        TrainError::NotFinite { what, step, saved: checkpoint::latest(self.dir).ok() }
    }
}
