//! A prediction term with a network: one group of views and the context predict another group.

use burn::module::Module;
use burn::nn::{Gelu, Linear, LinearConfig};
use burn::tensor::Tensor;
use lejepa_core::config::{Docs, check, field_docs};
use lejepa_core::{
    BoxedPrediction, Component, Embedded, Error, Prediction, PredictionContext, PredictionKind,
    Result,
};
use serde::{Deserialize, Serialize};

/// `[prediction]` of [`Predictor`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PredictorConfig {
    /// The group that predicts; empty for the first one.
    pub from: String,
    /// The group that is predicted; empty for the last one.
    pub to: String,
    /// Width of the hidden layers, at least 1.
    pub hidden: usize,
    /// Hidden layers, at least 1.
    pub layers: usize,
}

impl Default for PredictorConfig {
    fn default() -> Self {
        Self { from: String::new(), to: String::new(), hidden: 256, layers: 2 }
    }
}

/// Mean over views, samples and dimensions of (g(z̄, c) − z)²: z are the projections of the views of
/// `to`, z̄ the mean of those of `from`, c all context of the sample (actions, time stamps), and g a
/// perceptron. Gradients flow through both sides.
#[derive(Module, Debug)]
pub struct Predictor {
    hidden: Vec<Linear>,
    output: Linear,
    #[module(skip)]
    from: String,
    #[module(skip)]
    to: String,
}

impl Predictor {
    /// The prediction from `from`, `[samples, dim]`, and the context, `[samples, width]` each.
    pub fn forward(&self, from: Tensor<2>, context: &[Tensor<2>]) -> Tensor<2> {
        let inputs = std::iter::once(from).chain(context.iter().cloned()).collect();
        let activation = Gelu::new();
        let hidden = |x, layer: &Linear| activation.forward(layer.forward(x));
        self.output.forward(self.hidden.iter().fold(Tensor::cat(inputs, 1), hidden))
    }
}

impl Prediction for Predictor {
    fn loss(&self, at: &Embedded<'_>) -> Result<Tensor<1>> {
        let group = |name: &str| at.group(name).ok_or_else(|| no_group(name));
        let from = group(&self.from)?.mean_dim(0).squeeze_dim::<2>(0);
        let predicted = self.forward(from, at.context).unsqueeze_dim::<3>(0);
        Ok((predicted - group(&self.to)?).square().mean())
    }
}

fn no_group(name: &str) -> Error {
    Error::bad_value("prediction", format!("the views have no group `{name}`"))
}

impl Component for Predictor {
    const NAME: &'static str = "predictor";
    const ABOUT: &'static str =
        "a perceptron predicts one group of views from another and the context";
    type Config = PredictorConfig;

    fn docs() -> Docs {
        field_docs(include_str!("predictor.rs"), "PredictorConfig")
    }
}

impl PredictionKind for Predictor {
    fn build(config: &PredictorConfig, at: &PredictionContext<'_>) -> Result<BoxedPrediction> {
        check::within("prediction.hidden", config.hidden, 1..=1 << 20)?;
        check::within("prediction.layers", config.layers, 1..=64)?;
        let groups = at.views.groups();
        let named = |key: &str, name: &String, group: Option<&lejepa_core::Group>| {
            let name =
                if name.is_empty() { group.map(|g| g.name.clone()) } else { Some(name.clone()) };
            let known = name.filter(|name| groups.iter().any(|group| group.name == *name));
            known.ok_or_else(|| {
                let all: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
                Error::bad_value(
                    format!("prediction.{key}"),
                    format!("must be one of {}", all.join(", ")),
                )
            })
        };
        let from = named("from", &config.from, groups.first())?;
        let to = named("to", &config.to, groups.last())?;
        if from == to {
            return Err(Error::bad_value("prediction.to", format!("is `{from}`, as `from` is")));
        }
        let mut width = at.dim + at.views.context().iter().map(|c| c.width).sum::<usize>();
        let mut hidden = Vec::with_capacity(config.layers);
        for _ in 0..config.layers {
            hidden.push(LinearConfig::new(width, config.hidden).init(at.device));
            width = config.hidden;
        }
        let output = LinearConfig::new(width, at.dim).init(at.device);
        Ok(BoxedPrediction::new(Self { hidden, output, from, to }))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};
    use lejepa_core::{Group, ViewSpec};

    use super::*;

    fn spec() -> ViewSpec {
        let now = Group::new("now", 2, [1, 4]);
        ViewSpec::new([now, Group::new("next", 1, [1, 4]).target()]).with_context("action", 3)
    }

    #[test]
    fn the_context_and_both_groups_are_used() {
        let device = Device::flex().autodiff();
        let spec = spec();
        let at = PredictionContext::new(&spec, 8, &device);
        let config = PredictorConfig { hidden: 16, layers: 1, ..Default::default() };
        let predictor = Predictor::build(&config, &at).unwrap();
        // (8 + 3)·16 + 16 and 16·8 + 8.
        assert_eq!(predictor.num_params(), 11 * 16 + 16 + 16 * 8 + 8);
        let normal = Distribution::Normal(0.0, 1.0);
        let z = Tensor::<3>::random([3, 5, 8], normal, &device).require_grad();
        let action = Tensor::<2>::random([5, 3], normal, &device).require_grad();
        let context = [action.clone()];
        let loss = predictor.loss(&Embedded::new(z.clone(), &spec, &context)).unwrap();
        let gradients = loss.backward();
        for gradient in [
            z.grad(&gradients).unwrap().reshape([-1]),
            action.grad(&gradients).unwrap().reshape([-1]),
        ] {
            let gradient: Tensor<1> = gradient;
            assert!(gradient.try_into_vec_as::<f32>().unwrap().iter().all(|g| *g != 0.0));
        }
    }

    #[test]
    fn groups_that_are_not_there_are_refused() {
        let (spec, device) = (spec(), Device::flex());
        let at = PredictionContext::new(&spec, 8, &device);
        for (from, to) in [("nowhere", ""), ("", "never"), ("next", "next")] {
            let config = PredictorConfig { from: from.into(), to: to.into(), ..Default::default() };
            let error = Predictor::build(&config, &at).unwrap_err();
            assert!(error.to_string().contains("prediction."), "{error}");
        }
    }
}
