//! Batch norm of NHWC images, with a residual and an activation.

use burn::tensor::Tensor;

use super::channel_norm::{Activation, ChannelNorm};
use super::extension::{
    Input, Operation, Output, SavePolicy, SavedActivations, constant, is_fused, run,
};
use super::reference;
use crate::activations::Activations;
use crate::layers::batch_norm::{self, SaveTo};
use crate::normalize::MASK_BITS;
use crate::output::OutputVec;
use crate::precision::Precision;
use crate::sync_batch_norm::{AllReduce, combined};

#[derive(Debug)]
struct Statistics;

impl Operation for Statistics {
    fn name(&self) -> &'static str {
        "channel_statistics"
    }

    fn forward(&self, inputs: &[Input<'_>], _: SavePolicy) -> Output {
        let channels = inputs[0].shape.last().copied().unwrap_or(1);
        Output::new(batch_norm::statistics(inputs[0].data, channels), vec![2, channels])
    }

    fn backward(
        &self,
        _: &[Input<'_>],
        _: Option<&mut SavedActivations>,
        _: &[f32],
        _: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        // The input is a constant: the backward pass of `batch_norm` includes the dependence of the statistics
        // on its input.
        vec![None]
    }
}

/// Mean and variance (the biased one) of each channel, `[2, channels]`, as constants for autodiff. See
/// [`batch_norm`] for an example.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let x = Tensor::<4>::from_floats([[[[1.0, 5.0]], [[3.0, 5.0]]]], &Device::flex());
/// let statistics = lejepa_kernels::channel_statistics(x);
/// statistics.into_data().assert_eq(&[[2.0f32, 5.0], [1.0, 0.0]].into(), true);
/// ```
pub fn channel_statistics(x: Tensor<4>) -> Tensor<2> {
    if !is_fused(&x) {
        return reference::channel_statistics(x);
    }
    let [batch, height, width, _] = x.dims();
    combined(run(vec![constant(x).into()], Statistics), batch * height * width)
}

#[derive(Debug)]
pub(crate) struct BatchNorm {
    epsilon: f32,
    relu: bool,
    pub(crate) statistics: batch_norm::Statistics,
    /// Whether the input is saved in bf16.
    pub(crate) narrow: bool,
}

impl BatchNorm {
    /// # Panics
    /// If `norm` is not for so many channels.
    pub(crate) fn new(norm: &ChannelNorm, channels: usize) -> Self {
        let dims = [norm.gamma.dims(), norm.beta.dims()];
        assert_eq!(dims, [[channels]; 2], "scale and shift");
        assert_eq!(norm.statistics.dims(), [2, channels], "mean and variance");
        Self {
            epsilon: norm.epsilon as f32,
            relu: norm.activation == Activation::Relu,
            statistics: match norm.batch_statistics {
                true => batch_norm::Statistics::Batch(AllReduce::now()),
                false => batch_norm::Statistics::Constant,
            },
            narrow: Precision::now().is_narrow(),
        }
    }

    /// The norm, and the inputs after x and its own three.
    pub(crate) fn split<'a, 'b>(
        &self,
        inputs: &'b [Input<'a>],
    ) -> (batch_norm::BatchNorm<'a>, &'b [Input<'a>]) {
        let [_, gamma, beta, statistics, rest @ ..] = inputs else { unreachable!("four inputs") };
        let (mean, variance) = statistics.data.split_at(gamma.data.len());
        let (gamma, beta) = (gamma.data, beta.data);
        let (epsilon, relu) = (self.epsilon, self.relu);
        (batch_norm::BatchNorm { gamma, beta, mean, variance, epsilon, relu }, rest)
    }
}

/// The data of an input, or what was saved in its place.
pub(crate) fn activations<'a>(
    input: &Input<'a>,
    saved: Option<&'a SavedActivations>,
) -> Activations<'a> {
    match saved {
        Some(saved) if input.data.is_empty() => Activations::Bf16(&saved.bf16),
        _ => Activations::F32(input.data),
    }
}

impl Operation for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn forward(&self, inputs: &[Input<'_>], policy: SavePolicy) -> Output {
        let (norm, rest) = self.split(inputs);
        let (x, residual) = (inputs[0].data, rest.first().map(|residual| residual.data));
        let shape = inputs[0].shape.to_vec();
        let saves = policy != SavePolicy::Nothing;
        let saves_mask = saves && self.relu && residual.is_some();
        let saves_bf16 = saves && self.narrow;
        let mut bf16 = OutputVec::new(if saves_bf16 { x.len() } else { 0 });
        let mut mask = vec![0; if saves_mask { x.len().div_ceil(MASK_BITS) } else { 0 }];
        let save_to = SaveTo {
            bf16: if saves_bf16 { Some(bf16.part()) } else { None },
            relu_mask: &mut mask,
        };
        let data = norm.forward(x, residual, save_to);
        let saved = SavedActivations { bf16: bf16.finish(), relu_mask: mask, values: None };
        let saved = (saves_mask || saves_bf16).then_some(saved);
        Output { saved, ..Output::new(data, shape) }
    }

    fn frees_input(&self, input: usize) -> bool {
        // The residual is not needed, or its effect is in the mask; the input may be in bf16.
        input == 4 || input == 0 && self.narrow
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        saved: Option<&mut SavedActivations>,
        gradient: &[f32],
        _: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let (norm, rest) = self.split(inputs);
        let saved = saved.as_deref();
        let x = activations(&inputs[0], saved);
        let mask = saved.map_or(&[][..], |saved| &saved.relu_mask[..]);
        let mask = rest.first().map(|_| mask);
        let gradients = norm.backward(x, mask, gradient, &self.statistics);
        let mut all = vec![Some(gradients.x), Some(gradients.gamma), Some(gradients.beta), None];
        all.extend(gradients.residual.map(Some));
        all
    }
}

/// Batch norm, addition of a residual, and activation; see [`ChannelNorm`].
///
/// # Shapes
/// `x`, `residual` and the result are `[batch, height, width, channels]`.
///
/// # Panics
/// If shapes disagree.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lejepa_kernels::{Activation, ChannelNorm, batch_norm, channel_statistics};
///
/// let device = Device::flex();
/// let x = Tensor::<4>::from_floats([[[[1.0], [5.0]]]], &device);
/// let norm = ChannelNorm {
///     gamma: Tensor::ones([1], &device),
///     beta: Tensor::zeros([1], &device),
///     statistics: channel_statistics(x.clone()),
///     batch_statistics: true,
///     activation: Activation::Relu,
///     epsilon: 0.0,
/// };
/// batch_norm(x, norm, None).into_data().assert_eq(&[[[[0.0f32], [1.0]]]].into(), true);
/// ```
pub fn batch_norm(x: Tensor<4>, norm: ChannelNorm, residual: Option<Tensor<4>>) -> Tensor<4> {
    let [_, _, _, channels] = x.dims();
    let op = BatchNorm::new(&norm, channels);
    if let Some(residual) = &residual {
        assert_eq!(residual.dims(), x.dims(), "the residual");
    }
    if !is_fused(&x) {
        return reference::batch_norm(x, norm, residual);
    }
    let statistics = constant(norm.statistics);
    let mut inputs = vec![x.into(), norm.gamma.into(), norm.beta.into(), statistics.into()];
    inputs.extend(residual.map(Into::into));
    run(inputs, op)
}
