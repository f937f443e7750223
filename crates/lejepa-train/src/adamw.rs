//! AdamW as burn's, in one pass over each parameter where it lies on the CPU.

use burn::module::ParamGroup;
use burn::optim::{
    AdamWConfig, AdamWState, AdaptiveMomentumState, LearningRate, ModuleOptimizer, Optimizer,
};
use burn::tensor::{DType, Device, Tensor, TensorData};
use lejepa_core::config::{Docs, field_docs};
use lejepa_core::{Component, Error, OptimizerContext, OptimizerKind};
use lejepa_kernels::{AdamWStep, adamw, supports};
use serde::{Deserialize, Serialize};

/// `[optimizer]` of AdamW (Loshchilov and Hutter, arXiv 1711.05101).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWSettings {
    /// Decoupled weight decay of matrices and filters, at least 0; biases, norms and class tokens have
    /// none.
    pub weight_decay: f64,
    /// Decay of the first and second moments, each in 0..1.
    pub betas: [f64; 2],
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { weight_decay: 0.05, betas: [0.9, 0.999] }
    }
}

/// AdamW, by name.
pub struct AdamWKind;

impl Component for AdamWKind {
    const NAME: &'static str = "adamw";
    const ABOUT: &'static str = "Adam with decoupled weight decay";
    type Config = AdamWSettings;

    fn docs() -> Docs {
        field_docs(include_str!("adamw.rs"), "AdamWSettings")
    }
}

impl OptimizerKind for AdamWKind {
    fn build(
        config: &AdamWSettings,
        at: &OptimizerContext<'_>,
    ) -> lejepa_core::Result<ModuleOptimizer> {
        let AdamWSettings { weight_decay, betas } = *config;
        if !(weight_decay >= 0.0 && weight_decay.is_finite()) {
            return Err(Error::bad_value("optimizer.weight_decay", "must be at least 0"));
        }
        if !betas.iter().all(|beta| (0.0..1.0).contains(beta)) {
            return Err(Error::bad_value("optimizer.betas", "must lie in 0..1"));
        }
        Ok(ModuleOptimizer::from(AdamW::new(betas, weight_decay)).with_group(
            ParamGroup::from_paths(at.undecayed.to_vec()),
            AdamW::new(betas, 0.0),
            None,
        ))
    }
}

/// The optimizer, with the same record as burn's own.
#[derive(Clone)]
pub(crate) struct AdamW {
    plain: burn::optim::AdamW,
    betas: [f32; 2],
    weight_decay: f32,
}

/// What is added to the root of the second moment.
const EPSILON: f32 = 1e-8;

impl AdamW {
    pub(crate) fn new(betas: [f64; 2], weight_decay: f64) -> Self {
        let (betas, weight_decay) = (betas.map(|b| b as f32), weight_decay as f32);
        let config = AdamWConfig::new()
            .with_beta_1(betas[0])
            .with_beta_2(betas[1])
            .with_epsilon(EPSILON)
            .with_weight_decay(weight_decay);
        Self { plain: config.build(), betas, weight_decay }
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let device = tensor.device();
        let here = |t: &Tensor<D>| supports(&t.device(), t.dtype());
        if !here(&tensor) || !here(&grad) {
            return self.plain.step(lr, tensor, grad, state);
        }
        let shape = tensor.dims();
        let (time, moments) = match state.map(|s| s.momentum) {
            Some(m) => (m.time, Some((m.moment_1, m.moment_2))),
            None => (0, None),
        };
        let (first, second) = moments
            .unwrap_or_else(|| (Tensor::zeros(shape, &device), Tensor::zeros(shape, &device)));
        let step = AdamWStep {
            lr: lr as f32,
            betas: self.betas,
            epsilon: EPSILON,
            weight_decay: self.weight_decay,
            time: time as i32 + 1,
        };
        // Taken out and put back without a copy where nobody else holds them.
        let [mut weights, mut first, mut second] = [tensor, first, second].map(Tensor::into_data);
        let gradient = grad.into_data();
        let slices = (
            weights.as_mut_slice::<f32>(),
            gradient.as_slice::<f32>(),
            first.as_mut_slice::<f32>(),
            second.as_mut_slice::<f32>(),
        );
        let (Ok(w), Ok(g), Ok(m), Ok(v)) = slices else {
            unreachable!("tensors that the kernels support are of 32 bits")
        };
        adamw(step, w, g, m, v);
        let back = |data: TensorData| Tensor::<D>::from_data(data, (&device, DType::F32));
        let [weights, first, second] = [weights, first, second].map(back);
        let momentum = AdaptiveMomentumState::new(time + 1, first, second);
        (weights, Some(AdamWState::new(momentum)))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        <burn::optim::AdamW as Optimizer>::to_device(state, device)
    }
}
