//! The operations on pictures, `[batch, height, width, channels]`, as functions on burn's tensors.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Tensor, TensorData};

use crate::batch::{self, Norm};
use crate::conv::ConvShape;
use crate::extension::{Input, Operation, Output, run};
use crate::{Buffer, Precision};

#[derive(Debug)]
struct Conv {
    shape: ConvShape,
    precision: Precision,
    /// Takes the statistics of the result, where they are wanted.
    statistics: Option<Arc<OnceLock<Vec<f32>>>>,
}

impl Operation for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn forward(&self, inputs: &[Input<'_>], _: bool) -> Output {
        let [x, filters] = inputs else { unreachable!("two inputs") };
        let wanted = self.statistics.is_some();
        let (data, found) = self.shape.forward(x.data, filters.data, self.precision, wanted);
        if let Some(statistics) = &self.statistics {
            statistics.get_or_init(|| found);
        }
        let [height, width] = self.shape.result();
        let shape = vec![self.shape.batch, height, width, self.shape.output];
        Output { data, shape, kept: None }
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        _: Option<&mut Buffer>,
        gradient: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let [x, filters] = inputs else { unreachable!("two inputs") };
        let (dx, dfilters) =
            self.shape.backward(x.data, filters.data, gradient, wanted[0], self.precision);
        vec![dx, Some(dfilters)]
    }
}

/// Convolution with a square kernel, `pad` zeros around each picture, and no shift.
///
/// # Shapes
/// `x` is `[batch, height, width, input]`, `filters` `[output, input, kernel, kernel]`; the result
/// `[batch, (height + 2·pad − kernel) / stride + 1, likewise, output]`.
///
/// # Panics
/// If shapes disagree, a picture is smaller than the kernel, or [`supports`](crate::supports) is
/// false.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let x = Tensor::<4>::ones([1, 4, 4, 2], &device);
/// let y = lejepa_kernels::conv2d(x, Tensor::ones([1, 2, 3, 3], &device), 1, 1);
/// assert_eq!(y.dims(), [1, 4, 4, 1]);
/// // 4, 6 or 9 cells of the kernel are within the picture.
/// let row = y.narrow(1, 0, 1).try_into_vec_as::<f32>()?;
/// assert_eq!(row, [8.0, 12.0, 12.0, 8.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn conv2d(x: Tensor<4>, filters: Tensor<4>, stride: usize, pad: usize) -> Tensor<4> {
    convolved(x, filters, stride, pad, None)
}

/// [`conv2d`] and the [`channel_statistics`] of its result, which are taken while it is in the cache.
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
    let found = Arc::new(OnceLock::new());
    let y = convolved(x, filters, stride, pad, Some(found.clone()));
    let [_, _, _, channels] = y.dims();
    let values = found.get().cloned().unwrap_or_default();
    let statistics = Tensor::from_data(TensorData::new(values, [2, channels]), &y.device());
    (y, statistics)
}

fn convolved(
    x: Tensor<4>,
    filters: Tensor<4>,
    stride: usize,
    pad: usize,
    statistics: Option<Arc<OnceLock<Vec<f32>>>>,
) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let [output, input, kernel, other] = filters.dims();
    assert_eq!([channels, kernel], [input, other], "the convolution's filters");
    assert!(stride > 0 && kernel > 0, "neither stride nor kernel may be 0");
    assert!(height.min(width) + 2 * pad >= kernel, "the picture is smaller than the kernel");
    let shape = ConvShape { batch, height, width, input, output, kernel, stride, pad };
    let op = Conv { shape, precision: Precision::now(), statistics };
    run(vec![x.into(), filters.into()], op)
}

#[derive(Debug)]
struct Statistics;

impl Operation for Statistics {
    fn name(&self) -> &'static str {
        "channel_statistics"
    }

    fn forward(&self, inputs: &[Input<'_>], _: bool) -> Output {
        let channels = inputs[0].shape.last().copied().unwrap_or(1);
        let data = batch::statistics(inputs[0].data, channels);
        Output { data, shape: vec![2, channels], kept: None }
    }

    fn backward(
        &self,
        _: &[Input<'_>],
        _: Option<&mut Buffer>,
        _: &[f32],
        _: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        // [`batch_norm`] accounts for how they depend on its input.
        vec![None]
    }
}

/// Mean and variance (the sum of squares over the count) of every channel, `[2, channels]`, as numbers
/// without a gradient.
///
/// # Panics
/// If [`supports`](crate::supports) is false. See [`batch_norm`] for an example.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let x = Tensor::<4>::from_floats([[[[1.0, 5.0]], [[3.0, 5.0]]]], &Device::flex());
/// let statistics = lejepa_kernels::channel_statistics(x);
/// statistics.into_data().assert_eq(&[[2.0f32, 5.0], [1.0, 0.0]].into(), true);
/// ```
pub fn channel_statistics(x: Tensor<4>) -> Tensor<2> {
    run(vec![x.detach().into()], Statistics)
}

/// What follows a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// Numbers below 0 become 0.
    Relu,
}

#[derive(Debug)]
struct BatchNorm {
    epsilon: f32,
    relu: bool,
    batch: bool,
}

impl BatchNorm {
    fn norm<'a>(&self, inputs: &[Input<'a>]) -> (Norm<'a>, Option<&'a [f32]>) {
        let [_, gamma, beta, statistics, more @ ..] = inputs else { unreachable!("four inputs") };
        let (mean, variance) = statistics.data.split_at(gamma.data.len());
        let (epsilon, relu) = (self.epsilon, self.relu);
        let (gamma, beta) = (gamma.data, beta.data);
        let norm = Norm { gamma, beta, mean, variance, epsilon, relu };
        (norm, more.first().map(|added| added.data))
    }
}

impl Operation for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn forward(&self, inputs: &[Input<'_>], _: bool) -> Output {
        let (norm, added) = self.norm(inputs);
        let data = norm.forward(inputs[0].data, added);
        Output { data, shape: inputs[0].shape.to_vec(), kept: None }
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        _: Option<&mut Buffer>,
        gradient: &[f32],
        _: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let (norm, added) = self.norm(inputs);
        let (dx, dgamma, dbeta, dadded) =
            norm.backward(inputs[0].data, added, gradient, self.batch);
        let mut all = vec![Some(dx), Some(dgamma), Some(dbeta), None];
        all.extend(dadded.map(Some));
        all
    }
}

/// Batch norm, addition and activation in one: f(γ·(x − mean)/√(variance + `epsilon`) + β + `added`)
/// (Ioffe and Szegedy, arXiv 1502.03167). `batch` says that `statistics` are those of `x`
/// ([`channel_statistics`]), on which the gradient then depends; otherwise they are constants.
///
/// # Shapes
/// `x` and `added` are `[batch, height, width, channels]`, `gamma` and `beta` `[channels]`,
/// `statistics` `[2, channels]`.
///
/// # Panics
/// If shapes disagree, or [`supports`](crate::supports) is false.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lejepa_kernels::{Activation, batch_norm, channel_statistics};
///
/// let device = Device::flex();
/// let x = Tensor::<4>::from_floats([[[[1.0], [5.0]]]], &device);
/// let (one, zero) = (Tensor::ones([1], &device), Tensor::zeros([1], &device));
/// let statistics = channel_statistics(x.clone());
/// let y = batch_norm(x, one, zero, statistics, true, None, Activation::Relu, 0.0);
/// y.into_data().assert_eq(&[[[[0.0f32], [1.0]]]].into(), true);
/// ```
#[allow(clippy::too_many_arguments)] // they are what the formula has
pub fn batch_norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    statistics: Tensor<2>,
    batch: bool,
    added: Option<Tensor<4>>,
    activation: Activation,
    epsilon: f64,
) -> Tensor<4> {
    let [_, _, _, channels] = x.dims();
    assert_eq!([gamma.dims(), beta.dims()], [[channels]; 2], "scale and shift");
    assert_eq!(statistics.dims(), [2, channels], "mean and variance");
    if let Some(added) = &added {
        assert_eq!(added.dims(), x.dims(), "what is added");
    }
    let op = BatchNorm { epsilon: epsilon as f32, relu: activation == Activation::Relu, batch };
    let mut inputs = vec![x.into(), gamma.into(), beta.into(), statistics.into()];
    inputs.extend(added.map(Into::into));
    run(inputs, op)
}
