//! The operations on pictures, `[batch, height, width, channels]`, as functions on burn's tensors.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Tensor, TensorData};

use crate::batch::{self, Kept, Norm};
use crate::conv::ConvShape;
use crate::extension::{Input, Keep, Operation, Output, run};
use crate::halves::{Numbers, halved};
use crate::lanes::SIGNS;
use crate::{Buffer, Precision};

#[derive(Debug)]
struct Conv {
    shape: ConvShape,
    precision: Precision,
    /// Takes the statistics of the result, where they are wanted.
    statistics: Option<Arc<OnceLock<Vec<f32>>>>,
}

impl Conv {
    fn new(
        [batch, height, width, channels]: [usize; 4],
        [output, input, kernel, other]: [usize; 4],
        stride: usize,
        pad: usize,
        statistics: Option<Arc<OnceLock<Vec<f32>>>>,
    ) -> Self {
        assert_eq!([channels, kernel], [input, other], "the convolution's filters");
        assert!(stride > 0 && kernel > 0, "neither stride nor kernel may be 0");
        assert!(height.min(width) + 2 * pad >= kernel, "the picture is smaller than the kernel");
        let shape = ConvShape { batch, height, width, input, output, kernel, stride, pad };
        Self { shape, precision: Precision::now(), statistics }
    }

    /// The result and its shape.
    fn convolved(&self, x: &[f32], filters: &[f32]) -> (Vec<f32>, Vec<usize>) {
        let wanted = self.statistics.is_some();
        let (data, found) = self.shape.forward(x, filters, self.precision, wanted);
        if let Some(statistics) = &self.statistics {
            statistics.get_or_init(|| found);
        }
        let [height, width] = self.shape.result();
        (data, vec![self.shape.batch, height, width, self.shape.output])
    }
}

impl Operation for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn forward(&self, inputs: &[Input<'_>], keep: Keep) -> Output {
        let [x, filters] = inputs else { unreachable!("two inputs") };
        let (data, shape) = self.convolved(x.data, filters.data);
        let kept = (keep != Keep::Nothing && self.forgets(0)).then(|| halved(x.data));
        Output { data, shape, kept }
    }

    fn forgets(&self, input: usize) -> bool {
        input == 0 && self.precision.is_narrow()
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        kept: Option<&mut Buffer>,
        gradient: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let [x, filters] = inputs else { unreachable!("two inputs") };
        let x = numbers(x, kept.as_deref());
        let (dx, dfilters) =
            self.shape.backward(x, filters.data, gradient, wanted[0], self.precision);
        vec![dx, Some(dfilters)]
    }
}

/// The numbers of an input, or those that were kept in its place.
fn numbers<'a>(input: &Input<'a>, kept: Option<&'a Buffer>) -> Numbers<'a> {
    match kept {
        Some(kept) if input.data.is_empty() => {
            Numbers::Half(&kept.halves()[..input.shape.iter().product()])
        }
        _ => Numbers::Full(input.data),
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
    let op = Conv::new(x.dims(), filters.dims(), stride, pad, None);
    run(vec![x.into(), filters.into()], op)
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
    let op = Conv::new(x.dims(), filters.dims(), stride, pad, Some(found.clone()));
    let y = run(vec![x.into(), filters.into()], op);
    let statistics = statistics_of(&y, &found);
    (y, statistics)
}

/// The statistics of a result, which its operation has left in `found`.
fn statistics_of(y: &Tensor<4>, found: &OnceLock<Vec<f32>>) -> Tensor<2> {
    let [_, _, _, channels] = y.dims();
    let values = found.get().cloned().unwrap_or_default();
    Tensor::from_data(TensorData::new(values, [2, channels]), &y.device())
}

#[derive(Debug)]
struct Statistics;

impl Operation for Statistics {
    fn name(&self) -> &'static str {
        "channel_statistics"
    }

    fn forward(&self, inputs: &[Input<'_>], _: Keep) -> Output {
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

/// How channels are normed: f(γ·(x − mean)/√(variance + ε) + β + what is added) (Ioffe and Szegedy,
/// arXiv 1502.03167).
#[derive(Debug, Clone)]
pub struct ChannelNorm {
    /// γ, `[channels]`.
    pub gamma: Tensor<1>,
    /// β, `[channels]`.
    pub beta: Tensor<1>,
    /// Mean and variance, `[2, channels]`.
    pub statistics: Tensor<2>,
    /// Whether the statistics are those of what is normed ([`channel_statistics`]), on which the
    /// gradient then depends; otherwise they are constants.
    pub batch: bool,
    /// f.
    pub activation: Activation,
    /// ε.
    pub epsilon: f64,
}

impl ChannelNorm {
    fn settings(&self, channels: usize) -> BatchNorm {
        let dims = [self.gamma.dims(), self.beta.dims()];
        assert_eq!(dims, [[channels]; 2], "scale and shift");
        assert_eq!(self.statistics.dims(), [2, channels], "mean and variance");
        let relu = self.activation == Activation::Relu;
        let narrow = Precision::now().is_narrow();
        BatchNorm { epsilon: self.epsilon as f32, relu, batch: self.batch, narrow }
    }
}

#[derive(Debug)]
struct BatchNorm {
    epsilon: f32,
    relu: bool,
    batch: bool,
    /// Whether what is kept for the way back is rounded to bf16.
    narrow: bool,
}

impl BatchNorm {
    /// The norm, and the inputs after x and its own three.
    fn norm<'a, 'b>(&self, inputs: &'b [Input<'a>]) -> (Norm<'a>, &'b [Input<'a>]) {
        let [_, gamma, beta, statistics, more @ ..] = inputs else { unreachable!("four inputs") };
        let (mean, variance) = statistics.data.split_at(gamma.data.len());
        let (epsilon, relu) = (self.epsilon, self.relu);
        let (gamma, beta) = (gamma.data, beta.data);
        (Norm { gamma, beta, mean, variance, epsilon, relu }, more)
    }
}

impl Operation for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn forward(&self, inputs: &[Input<'_>], keep: Keep) -> Output {
        let (norm, more) = self.norm(inputs);
        let (x, added) = (inputs[0].data, more.first().map(|added| added.data));
        let shape = inputs[0].shape.to_vec();
        let signed = if added.is_some() && self.relu { x.len().div_ceil(SIGNS) } else { 0 };
        let halved = if self.narrow { x.len() } else { 0 };
        if keep == Keep::Nothing || signed + halved == 0 {
            return Output { data: norm.forward(x, added, None), shape, kept: None };
        }
        let mut kept = Buffer::of_halves(halved + signed);
        let (halves, signs) = kept.halves_mut().split_at_mut(halved);
        let signs = &mut signs[..signed];
        let data = norm.forward(x, added, Some(Kept { halves, signs }));
        Output { data, shape, kept: Some(kept) }
    }

    fn forgets(&self, input: usize) -> bool {
        input == 4 || input == 0 && self.narrow
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        kept: Option<&mut Buffer>,
        gradient: &[f32],
        _: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let (norm, more) = self.norm(inputs);
        let kept = kept.as_deref();
        let x = numbers(&inputs[0], kept);
        let signs =
            kept.map_or(&[][..], |kept| &kept.halves()[if self.narrow { x.len() } else { 0 }..]);
        let signs = more.first().map(|_| signs);
        let (dx, dgamma, dbeta, dadded) = norm.backward(x, signs, gradient, self.batch);
        let mut all = vec![Some(dx), Some(dgamma), Some(dbeta), None];
        all.extend(dadded.map(Some));
        all
    }
}

/// Batch norm, addition and activation in one; see [`ChannelNorm`].
///
/// # Shapes
/// `x`, `added` and the result are `[batch, height, width, channels]`.
///
/// # Panics
/// If shapes disagree, or [`supports`](crate::supports) is false.
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
///     batch: true,
///     activation: Activation::Relu,
///     epsilon: 0.0,
/// };
/// batch_norm(x, norm, None).into_data().assert_eq(&[[[[0.0f32], [1.0]]]].into(), true);
/// ```
pub fn batch_norm(x: Tensor<4>, norm: ChannelNorm, added: Option<Tensor<4>>) -> Tensor<4> {
    let [_, _, _, channels] = x.dims();
    let op = norm.settings(channels);
    if let Some(added) = &added {
        assert_eq!(added.dims(), x.dims(), "what is added");
    }
    let mut inputs = vec![x.into(), norm.gamma.into(), norm.beta.into(), norm.statistics.into()];
    inputs.extend(added.map(Into::into));
    run(inputs, op)
}

/// A norm and the convolution of its result, which is not kept: it is worked out again on the way back.
#[derive(Debug)]
struct NormConv {
    norm: BatchNorm,
    conv: Conv,
}

impl Operation for NormConv {
    fn name(&self) -> &'static str {
        "norm_conv2d"
    }

    fn forward(&self, inputs: &[Input<'_>], keep: Keep) -> Output {
        let (norm, more) = self.norm.norm(inputs);
        let x = inputs[0].data;
        let mut kept =
            (keep != Keep::Nothing && self.norm.narrow).then(|| Buffer::of_halves(x.len()));
        let halves = kept.as_mut().map(|kept| &mut kept.halves_mut()[..x.len()]);
        let kept_by = halves.map(|halves| Kept { halves, signs: &mut [] });
        let normed = norm.forward(x, None, kept_by);
        let (data, shape) = self.conv.convolved(&normed, more[0].data);
        Output { data, shape, kept }
    }

    fn forgets(&self, input: usize) -> bool {
        input == 0 && self.norm.narrow
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        kept: Option<&mut Buffer>,
        gradient: &[f32],
        _: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let (norm, more) = self.norm.norm(inputs);
        let Conv { shape, precision, .. } = &self.conv;
        let x = numbers(&inputs[0], kept.as_deref());
        let back = |normed| shape.backward(normed, more[0].data, gradient, true, *precision);
        let (back, dfilters) = match x {
            Numbers::Full(x) => back(Numbers::Full(&norm.forward(x, None, None))),
            Numbers::Half(_) => back(Numbers::Half(&norm.halved(x).halves()[..x.len()])),
        };
        let back = back.unwrap_or_default();
        let (dx, dgamma, dbeta, _) = norm.backward(x, None, &back, self.norm.batch);
        vec![Some(dx), Some(dgamma), Some(dbeta), None, Some(dfilters)]
    }
}

/// [`batch_norm`], then [`conv2d`], as one operation that keeps less: what is between them is worked out
/// again on the way back. If the norm goes by the statistics of its batch, those of the result are given
/// too, as by [`conv2d_with_statistics`].
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
///     batch: true,
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
    let found = norm.batch.then(|| Arc::new(OnceLock::new()));
    let conv = Conv::new(x.dims(), filters.dims(), stride, pad, found.clone());
    let op = NormConv { norm: norm.settings(x.dims()[3]), conv };
    let ChannelNorm { gamma, beta, statistics, .. } = norm;
    let inputs = vec![x.into(), gamma.into(), beta.into(), statistics.into(), filters.into()];
    let y = run(inputs, op);
    let statistics = found.map(|found| statistics_of(&y, &found));
    (y, statistics)
}
