//! Convolution layers of NHWC images that are followed by a batch norm.

use burn::module::RunningState;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, Initializer, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use lejepa_kernels::{Activation, ChannelNorm, conv2d, conv2d_with_statistics};

/// A layer without bias, which keeps the size of its input but for the stride.
pub(crate) fn conv(
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    device: &Device,
) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new([input, output], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .with_initializer(Initializer::KaimingNormal { gain: 2f64.sqrt(), fan_out_only: true })
        .init(device)
}

/// Stride and padding of a layer made by [`conv`].
pub(crate) fn stride_and_pad(conv: &Conv2d) -> [usize; 2] {
    [conv.stride[0], conv.kernel_size[0] / 2]
}

/// Whether a norm uses batch statistics rather than running ones; the rule of burn's own forward pass.
pub(crate) fn uses_batch_statistics(norm: &BatchNorm, device: &Device) -> bool {
    device.is_autodiff() && norm.training.is_enabled()
}

/// A convolution of NHWC images, and the statistics of its output if the norm that follows uses them.
pub(crate) fn convolve(
    conv: &Conv2d,
    x: Tensor<4>,
    norm: &BatchNorm,
) -> (Tensor<4>, Option<Tensor<2>>) {
    let [stride, pad] = stride_and_pad(conv);
    if uses_batch_statistics(norm, &x.device()) {
        let (y, statistics) = conv2d_with_statistics(x, conv.weight.val(), stride, pad);
        return (y, Some(statistics));
    }
    (conv2d(x, conv.weight.val(), stride, pad), None)
}

/// Moves the running statistics of a norm towards those of a batch.
pub(crate) fn update_running(
    norm: &BatchNorm,
    mean: Tensor<1>,
    variance: Tensor<1>,
    device: &Device,
) {
    let update = |running: &RunningState<Tensor<1>>, batch: Tensor<1>| {
        let before = running.value_sync().to_device(device);
        let after = before * (1.0 - norm.momentum) + batch * norm.momentum;
        running.update(after.detach());
    };
    update(&norm.running_mean, mean);
    update(&norm.running_var, variance);
}

/// A norm with batch statistics, which also update the running ones, or with the running ones.
pub(crate) fn channel_norm(
    norm: &BatchNorm,
    batch: Option<Tensor<2>>,
    activation: Activation,
) -> ChannelNorm {
    let gamma = norm.gamma.val();
    let device = gamma.device();
    let batch_statistics = batch.is_some();
    let statistics = if let Some(batch) = batch {
        let row = |i| batch.clone().narrow(0, i, 1).reshape(norm.gamma.dims());
        update_running(norm, row(0), row(1), &device);
        batch
    } else {
        let running = vec![norm.running_mean.value(), norm.running_var.value()];
        Tensor::stack(running, 0).to_device(&device)
    };
    let (beta, epsilon) = (norm.beta.val(), norm.epsilon);
    ChannelNorm { gamma, beta, statistics, batch_statistics, activation, epsilon }
}
