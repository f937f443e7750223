//! A prediction term for worlds that actions change: each state follows from the one before it and an action.

use burn::module::Module;
use burn::nn::{Gelu, Initializer, Linear, LinearConfig};
use burn::tensor::Tensor;
use lejepa_core::config::{Docs, check, field_docs};
use lejepa_core::{
    BoxedPrediction, Component, Embedded, Error, Prediction, PredictionContext, PredictionKind,
    Result,
};
use serde::{Deserialize, Serialize};

/// `[prediction]` of [`Rollout`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// The group of views that are states, in order of time; empty for the first one.
    pub states: String,
    /// The context with the actions between them; empty for the first one.
    pub actions: String,
    /// Width of the hidden layers, 1 to 65536.
    pub hidden: usize,
    /// Hidden layers, 1 to 64.
    pub layers: usize,
    /// Weight of the error after one action from true states (teacher forcing), 0 to 100; that of the error after all
    /// actions from the first state is 1.
    pub teacher: f64,
    /// Weight of the error of actions that are read off the two states around them (inverse dynamics), 0 to 100.
    pub inverse: f64,
    /// Weight of the distance between consecutive states, 0 to 100.
    pub time: f64,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        let (states, actions) = (String::new(), String::new());
        let (teacher, inverse, time) = (0.0, 0.0, 0.0);
        Self { states, actions, hidden: 128, layers: 2, teacher, inverse, time }
    }
}

/// States z₀ … z_T are projections of consecutive views, a₀ … a_{T−1} the actions between them, and g a perceptron whose
/// output is small at first. With ẑ₀ = z₀ and ẑ_{t+1} = ẑ_t + g(ẑ_t, a_t), the loss is the mean of (ẑ_t − z_t)² over t > 0,
/// samples and dimensions, plus the weighted terms of [`RolloutConfig`]. Gradients flow through all states.
#[derive(Module, Debug)]
pub struct Rollout {
    hidden: Vec<Linear>,
    output: Linear,
    /// From a state and the next to the action.
    inverse: Option<(Linear, Linear)>,
    #[module(skip)]
    states: String,
    #[module(skip)]
    actions: String,
    /// Of the terms for teacher forcing, inverse dynamics and time.
    #[module(skip)]
    weights: [f64; 3],
}

/// The largest weight of the last layer at first: states hardly move before training.
const FIRST_STEPS: f64 = 1e-3;

impl Rollout {
    /// The states after an action: `[n, dim]` and `[n, width]` to `[n, dim]`.
    pub fn forward(&self, states: Tensor<2>, actions: Tensor<2>) -> Tensor<2> {
        let activation = Gelu::new();
        let hidden = |x, layer: &Linear| activation.forward(layer.forward(x));
        let x = Tensor::cat(vec![states.clone(), actions], 1);
        states + self.output.forward(self.hidden.iter().fold(x, hidden))
    }

    fn action_width(&self) -> usize {
        let [input, _] = self.hidden[0].weight.dims();
        let [_, dim] = self.output.weight.dims();
        input - dim
    }

    /// The first state, `[n, dim]`, and those that follow by actions `[n, steps, width]`: `[steps, n, dim]`.
    fn follow(&self, mut state: Tensor<2>, actions: &Tensor<3>) -> Tensor<3> {
        let [n, steps, width] = actions.dims();
        let mut all = Vec::with_capacity(steps);
        for step in 0..steps {
            let action = actions.clone().narrow(1, step, 1).reshape([n, width]);
            state = self.forward(state, action);
            all.push(state.clone());
        }
        Tensor::stack(all, 0)
    }
}

impl Prediction for Rollout {
    fn loss(&self, at: &Embedded<'_>) -> Result<Tensor<1>> {
        let z = at.group(&self.states).ok_or_else(|| {
            Error::bad_value(
                "prediction.states",
                format!("the views have no group `{}`", self.states),
            )
        })?;
        let [frames, n, dim] = z.dims();
        let actions = at.context(&self.actions).ok_or_else(|| {
            Error::bad_value(
                "prediction.actions",
                format!("the views have no context `{}`", self.actions),
            )
        })?;
        let (steps, width) = (frames - 1, self.action_width());
        let actions = actions.clone().reshape([n, steps, width]);
        let next = z.clone().narrow(0, 1, steps);
        let first = z.clone().narrow(0, 0, 1).squeeze_dim::<2>(0);
        let mut loss = (self.follow(first, &actions) - next.clone()).square().mean();
        let [teacher, inverse, time] = self.weights;
        let rows = |x: Tensor<3>| x.reshape([steps * n, dim]);
        let before = rows(z.narrow(0, 0, steps));
        let after = rows(next);
        let taken = actions.swap_dims(0, 1).reshape([steps * n, width]);
        if teacher > 0.0 {
            let error = self.forward(before.clone(), taken.clone()) - after.clone();
            loss = loss + error.square().mean() * teacher;
        }
        if let Some((hidden, output)) = self.inverse.as_ref().filter(|_| inverse > 0.0) {
            let both = Tensor::cat(vec![before.clone(), after.clone()], 1);
            let told = output.forward(Gelu::new().forward(hidden.forward(both)));
            loss = loss + (told - taken).square().mean() * inverse;
        }
        if time > 0.0 {
            loss = loss + (after - before).square().mean() * time;
        }
        Ok(loss)
    }

    fn roll(&self, state: Tensor<2>, actions: Tensor<3>) -> Option<Tensor<3>> {
        let [_, _, width] = actions.dims();
        (width == self.action_width()).then(|| self.follow(state, &actions).swap_dims(0, 1))
    }
}

impl Component for Rollout {
    const NAME: &'static str = "rollout";
    const ABOUT: &'static str =
        "states that follow from the first one and the actions: a world model";
    type Config = RolloutConfig;

    fn docs() -> Docs {
        field_docs(include_str!("rollout.rs"), "RolloutConfig")
    }
}

impl PredictionKind for Rollout {
    fn build(config: &RolloutConfig, at: &PredictionContext<'_>) -> Result<BoxedPrediction> {
        check::within("prediction.hidden", config.hidden, 1..=1 << 16)?;
        check::within("prediction.layers", config.layers, 1..=64)?;
        let weights = [config.teacher, config.inverse, config.time];
        for (key, weight) in ["teacher", "inverse", "time"].into_iter().zip(weights) {
            check::within(&format!("prediction.{key}"), weight, 0.0..=100.0)?;
        }
        let groups = at.views.groups();
        let group = groups.iter().find(|g| config.states.is_empty() || g.name == config.states);
        let Some(group) = group.filter(|group| group.count > 1) else {
            let reason = "needs a group of two views or more, which are consecutive in time";
            return Err(Error::bad_value("prediction.states", reason));
        };
        let context = at.views.context();
        let actions =
            context.iter().find(|c| config.actions.is_empty() || c.name == config.actions);
        let steps = group.count - 1;
        let Some(actions) = actions.filter(|a| a.width > 0 && a.width.is_multiple_of(steps)) else {
            let reason = format!("needs a context with the actions between {} views", group.count);
            return Err(Error::bad_value("prediction.actions", reason));
        };
        let width = actions.width / steps;
        let mut input = at.dim + width;
        let mut hidden = Vec::with_capacity(config.layers);
        for _ in 0..config.layers {
            hidden.push(LinearConfig::new(input, config.hidden).init(at.device));
            input = config.hidden;
        }
        let reach = FIRST_STEPS;
        let output = LinearConfig::new(input, at.dim)
            .with_initializer(Initializer::Uniform { min: -reach, max: reach });
        let inverse = (config.inverse > 0.0).then(|| {
            let first = LinearConfig::new(2 * at.dim, config.hidden).init(at.device);
            (first, LinearConfig::new(config.hidden, width).init(at.device))
        });
        Ok(BoxedPrediction::new(Self {
            hidden,
            output: output.init(at.device),
            inverse,
            states: group.name.clone(),
            actions: actions.name.clone(),
            weights,
        }))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};
    use lejepa_core::{Group, ViewSpec};

    use super::*;

    fn spec(frames: usize) -> ViewSpec {
        let frames = Group::new("frames", frames, [1, 4]).target();
        ViewSpec::new([frames]).with_context("actions", 6)
    }

    fn rollout(config: RolloutConfig, spec: &ViewSpec, device: &Device) -> Result<BoxedPrediction> {
        Rollout::build(&config, &PredictionContext::new(spec, 5, device))
    }

    #[test]
    fn without_training_states_hardly_move() {
        let (device, spec) = (Device::flex(), spec(4));
        let all = rollout(RolloutConfig::default(), &spec, &device).unwrap();
        let normal = Distribution::Normal(0.0, 1.0);
        let z = Tensor::<3>::random([4, 3, 5], normal, &device);
        let actions = Tensor::<2>::random([3, 6], normal, &device);
        let first = z.clone().narrow(0, 0, 1);
        let want = (z.clone().narrow(0, 1, 3) - first.clone()).square().mean();
        let loss = all.loss(&Embedded::new(z, &spec, std::slice::from_ref(&actions))).unwrap();
        loss.into_data()
            .assert_approx_eq::<f32>(&want.into_data(), burn::tensor::Tolerance::absolute(0.02));
        let rolled = all.roll(first.squeeze_dim(0), actions.clone().reshape([3, 3, 2])).unwrap();
        assert_eq!(rolled.dims(), [3, 3, 5]);
        assert!(all.roll(Tensor::zeros([3, 5], &device), actions.reshape([3, 2, 3])).is_none());
    }

    #[test]
    fn each_term_has_a_gradient_for_states_and_actions_and_its_weight() {
        let (device, spec) = (Device::flex().autodiff(), spec(4));
        let zero = RolloutConfig { hidden: 8, layers: 1, ..Default::default() };
        let of = |config: &RolloutConfig| {
            device.seed(1);
            let all = rollout(config.clone(), &spec, &device).unwrap();
            let normal = Distribution::Normal(0.0, 1.0);
            let z = Tensor::<3>::random([4, 3, 5], normal, &device).require_grad();
            let actions = Tensor::<2>::random([3, 6], normal, &device);
            let loss = all.loss(&Embedded::new(z.clone(), &spec, &[actions])).unwrap();
            let value = loss.clone().into_scalar::<f32>();
            let gradient = z.grad(&loss.backward()).unwrap();
            assert!(gradient.try_into_vec_as::<f32>().unwrap().iter().all(|g| *g != 0.0));
            value
        };
        let plain = of(&zero);
        for config in [
            RolloutConfig { teacher: 2.0, ..zero.clone() },
            RolloutConfig { time: 2.0, ..zero.clone() },
        ] {
            let twice = of(&RolloutConfig {
                teacher: 2.0 * config.teacher,
                time: 2.0 * config.time,
                ..zero.clone()
            });
            let once = of(&config);
            assert!(once > plain + 0.1, "{config:?}");
            assert!(((twice - plain) - 2.0 * (once - plain)).abs() < 1e-4, "{config:?}");
        }
        assert!(of(&RolloutConfig { inverse: 1.0, ..zero }) > 0.0);
    }

    #[test]
    fn views_that_are_no_sequence_with_actions_are_refused() {
        let device = Device::flex();
        for (config, spec, says) in [
            (RolloutConfig::default(), spec(1), "prediction.states"),
            (RolloutConfig::default(), spec(5), "prediction.actions"),
            (
                RolloutConfig { states: "x".into(), ..Default::default() },
                spec(4),
                "prediction.states",
            ),
            (
                RolloutConfig { actions: "x".into(), ..Default::default() },
                spec(4),
                "prediction.actions",
            ),
            (RolloutConfig { time: -1.0, ..Default::default() }, spec(4), "prediction.time"),
        ] {
            let error = rollout(config, &spec, &device).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
