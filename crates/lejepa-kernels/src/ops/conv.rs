//! Convolution of NHWC images.

use burn::tensor::Tensor;

use super::batch_norm::{BatchNorm, activations};
use super::channel_norm::ChannelNorm;
use super::extension::{
    Input, Operation, Output, SavePolicy, SavedActivations, constant, is_fused, run,
    run_with_statistics,
};
use super::reference;
use crate::activations::{Activations, narrowed};
use crate::layers::batch_norm::SaveTo;
use crate::layers::conv::ConvShape;
use crate::output::OutputVec;
use crate::precision::Precision;
use crate::sync_batch_norm::combined;

#[derive(Debug)]
struct Conv2d {
    shape: ConvShape,
    precision: Precision,
    /// Whether to compute the statistics of the output.
    statistics: bool,
}

impl Conv2d {
    fn new(
        [batch, height, width, channels]: [usize; 4],
        [output, input, kernel, other]: [usize; 4],
        stride: usize,
        pad: usize,
        statistics: bool,
    ) -> Self {
        assert_eq!([channels, kernel], [input, other], "the filters of the convolution");
        assert!(stride > 0 && kernel > 0, "neither stride nor kernel may be 0");
        assert!(height.min(width) + 2 * pad >= kernel, "the image is smaller than the kernel");
        let shape = ConvShape { batch, height, width, input, output, kernel, stride, pad };
        Self { shape, precision: Precision::now(), statistics }
    }

    fn output(&self, x: &[f32], filters: &[f32]) -> Output {
        let (data, statistics) = self.shape.forward(x, filters, self.precision, self.statistics);
        let [height, width] = self.shape.output_size();
        let shape = vec![self.shape.batch, height, width, self.shape.output];
        Output { statistics, ..Output::new(data, shape) }
    }
}

impl Operation for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn forward(&self, inputs: &[Input<'_>], policy: SavePolicy) -> Output {
        let [x, filters] = inputs else { unreachable!("two inputs") };
        let saves = policy != SavePolicy::Nothing && self.frees_input(0);
        let saved =
            saves.then(|| SavedActivations { bf16: narrowed(x.data), ..Default::default() });
        Output { saved, ..self.output(x.data, filters.data) }
    }

    fn frees_input(&self, input: usize) -> bool {
        input == 0 && self.precision.is_narrow()
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        saved: Option<&mut SavedActivations>,
        gradient: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let ([x, filters], &[wx, wf]) = (inputs, wanted) else { unreachable!("two inputs") };
        let x = activations(x, saved.as_deref());
        self.shape.backward(x, filters.data, gradient, [wx, wf], self.precision).into()
    }
}

/// Convolution with a square kernel and `pad` zeros around each image, without bias.
///
/// # Shapes
/// `x` is `[batch, height, width, input]`, `filters` `[output, input, kernel, kernel]`; the result is
/// `[batch, (height + 2·pad − kernel) / stride + 1, likewise, output]`.
///
/// # Panics
/// If shapes disagree, or an image is smaller than the kernel.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let x = Tensor::<4>::ones([1, 4, 4, 2], &device);
/// let y = lejepa_kernels::conv2d(x, Tensor::ones([1, 2, 3, 3], &device), 1, 1);
/// assert_eq!(y.dims(), [1, 4, 4, 1]);
/// // 4, 6 or 9 positions of the kernel are within the image.
/// let row = y.narrow(1, 0, 1).try_into_vec_as::<f32>()?;
/// assert_eq!(row, [8.0, 12.0, 12.0, 8.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn conv2d(x: Tensor<4>, filters: Tensor<4>, stride: usize, pad: usize) -> Tensor<4> {
    let op = Conv2d::new(x.dims(), filters.dims(), stride, pad, false);
    if !is_fused(&x) {
        return reference::conv2d(x, filters, stride, pad);
    }
    run(vec![x.into(), filters.into()], op)
}

/// [`conv2d`] and the [`channel_statistics`](crate::channel_statistics) of its output, which are computed while
/// it is in the cache.
///
/// # Panics
/// As [`conv2d`].
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor, Tolerance};
/// use lejepa_kernels::{channel_statistics, conv2d_with_statistics};
///
/// let device = Device::flex();
/// let x = Tensor::<4>::random([2, 5, 5, 3], Distribution::Default, &device);
/// let filters = Tensor::random([4, 3, 3, 3], Distribution::Default, &device);
/// let (y, statistics) = conv2d_with_statistics(x, filters, 1, 1);
/// let want = channel_statistics(y).into_data();
/// statistics.into_data().assert_approx_eq::<f32>(&want, Tolerance::default());
/// ```
pub fn conv2d_with_statistics(
    x: Tensor<4>,
    filters: Tensor<4>,
    stride: usize,
    pad: usize,
) -> (Tensor<4>, Tensor<2>) {
    let op = Conv2d::new(x.dims(), filters.dims(), stride, pad, true);
    let (y, statistics) = if is_fused(&x) {
        run_with_statistics(vec![x.into(), filters.into()], op)
    } else {
        (reference::conv2d(x, filters, stride, pad), None)
    };
    let statistics = match statistics {
        Some(statistics) => of_all_workers(statistics, &y),
        None => reference::channel_statistics(y.clone()),
    };
    (y, statistics)
}

/// Batch norm and the convolution of its output, which is recomputed in the backward pass.
#[derive(Debug)]
struct NormConv2d {
    norm: BatchNorm,
    conv: Conv2d,
}

impl Operation for NormConv2d {
    fn name(&self) -> &'static str {
        "norm_conv2d"
    }

    fn forward(&self, inputs: &[Input<'_>], policy: SavePolicy) -> Output {
        let (norm, rest) = self.norm.split(inputs);
        let x = inputs[0].data;
        let saves = policy != SavePolicy::Nothing && self.norm.narrow;
        let mut bf16 = OutputVec::new(if saves { x.len() } else { 0 });
        let save_to =
            SaveTo { bf16: if saves { Some(bf16.part()) } else { None }, relu_mask: &mut [] };
        let normed = norm.forward(x, None, save_to);
        let bf16 = bf16.finish();
        let saved = saves.then(|| SavedActivations { bf16, ..Default::default() });
        Output { saved, ..self.conv.output(&normed, rest[0].data) }
    }

    fn frees_input(&self, input: usize) -> bool {
        input == 0 && self.norm.narrow
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        saved: Option<&mut SavedActivations>,
        gradient: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let (norm, rest) = self.norm.split(inputs);
        let x = activations(&inputs[0], saved.as_deref());
        let wanted = [wanted[..3].contains(&true), wanted[4]];
        let conv = |normed: Activations<'_>| {
            let Conv2d { shape, precision, .. } = &self.conv;
            shape.backward(normed, rest[0].data, gradient, wanted, *precision)
        };
        let [dnormed, dfilters] = match x {
            // Only the gradient of the filters depends on the output of the norm.
            _ if !wanted[1] => conv(Activations::F32(&[])),
            Activations::F32(x) => {
                conv(Activations::F32(&norm.forward(x, None, SaveTo::default())))
            }
            Activations::Bf16(_) => conv(Activations::Bf16(&norm.forward_bf16(x))),
        };
        let Some(dnormed) = dnormed else { return vec![None, None, None, None, dfilters] };
        let gradients = norm.backward(x, None, &dnormed, &self.norm.statistics);
        vec![Some(gradients.x), Some(gradients.gamma), Some(gradients.beta), None, dfilters]
    }
}

/// [`batch_norm`](crate::batch_norm), then [`conv2d`], as one operation that saves less: the output of the norm
/// is recomputed in the backward pass. If the norm uses batch statistics, those of the output are returned too,
/// as by [`conv2d_with_statistics`].
///
/// # Panics
/// As both.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor, Tolerance};
/// use lejepa_kernels::{Activation, ChannelNorm, batch_norm, channel_statistics, conv2d, norm_conv2d};
///
/// let device = Device::flex();
/// let x = Tensor::<4>::random([2, 5, 5, 3], Distribution::Default, &device);
/// let filters = Tensor::<4>::random([4, 3, 3, 3], Distribution::Default, &device);
/// let norm = ChannelNorm {
///     gamma: Tensor::ones([3], &device),
///     beta: Tensor::zeros([3], &device),
///     statistics: channel_statistics(x.clone()),
///     batch_statistics: true,
///     activation: Activation::Relu,
///     epsilon: 1e-5,
/// };
/// let (y, statistics) = norm_conv2d(x.clone(), norm.clone(), filters.clone(), 1, 1);
/// let want = conv2d(batch_norm(x, norm, None), filters, 1, 1);
/// let statistics = statistics.unwrap().into_data();
/// statistics.assert_approx_eq::<f32>(&channel_statistics(want.clone()).into_data(), Tolerance::default());
/// y.into_data().assert_approx_eq::<f32>(&want.into_data(), Tolerance::default());
/// ```
pub fn norm_conv2d(
    x: Tensor<4>,
    norm: ChannelNorm,
    filters: Tensor<4>,
    stride: usize,
    pad: usize,
) -> (Tensor<4>, Option<Tensor<2>>) {
    let wants_statistics = norm.batch_statistics;
    let conv = Conv2d::new(x.dims(), filters.dims(), stride, pad, wants_statistics);
    let op = NormConv2d { norm: BatchNorm::new(&norm, x.dims()[3]), conv };
    if !is_fused(&x) {
        let y = reference::conv2d(reference::batch_norm(x, norm, None), filters, stride, pad);
        let statistics = wants_statistics.then(|| reference::channel_statistics(y.clone()));
        return (y, statistics);
    }
    let ChannelNorm { gamma, beta, statistics, .. } = norm;
    let statistics = constant(statistics);
    let inputs = vec![x.into(), gamma.into(), beta.into(), statistics.into(), filters.into()];
    let (y, statistics) = run_with_statistics(inputs, op);
    let statistics = statistics.map(|statistics| of_all_workers(statistics, &y));
    (y, statistics)
}

fn of_all_workers(statistics: Tensor<2>, y: &Tensor<4>) -> Tensor<2> {
    let [batch, height, width, _] = y.dims();
    combined(statistics, batch * height * width)
}
