//! The operations as functions on burn's tensors.

use burn::tensor::Tensor;

use crate::block::{Block, BlockShape, Sequences, WEIGHTS};
use crate::extension::{Input, Keep, Operation, Output, run};
use crate::{Buffer, Precision, dense};

#[derive(Debug)]
struct TransformerBlock {
    shape: BlockShape,
    sequences: Vec<Sequences>,
    precision: Precision,
    factors: Option<[Vec<f32>; 2]>,
}

impl TransformerBlock {
    fn block<'a>(&'a self, inputs: &[Input<'a>]) -> Block<'a> {
        let weights: [&[f32]; WEIGHTS] = std::array::from_fn(|i| inputs[1 + i].data);
        let factors = self.factors.as_ref().map(|[first, second]| [&**first, &**second]);
        Block::new(self.shape, &self.sequences, weights, self.precision, factors)
    }
}

impl Operation for TransformerBlock {
    fn name(&self) -> &'static str {
        "transformer_block"
    }

    fn forward(&self, inputs: &[Input<'_>], keep: Keep) -> Output {
        let keep = keep == Keep::All;
        let (data, kept) = self.block(inputs).forward(inputs[0].data, keep);
        Output { data, shape: inputs[0].shape.to_vec(), kept }
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        kept: Option<&mut Buffer>,
        gradient: &[f32],
        _: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let (dx, weights) = self.block(inputs).backward(inputs[0].data, gradient, kept);
        std::iter::once(dx).chain(weights).map(Some).collect()
    }
}

/// A pre-norm transformer block: y = x₁ + W₂·GELU(W₁·LN₂(x₁) + b₁) + b₂ with
/// x₁ = x + Wₒ·attention(LN₁(x)) + bₒ (Dosovitskiy et al., arXiv 2010.11929).
///
/// # Shapes
/// `x` and the result are `[tokens of all samples, width]`. Those of a sample follow each other; `sequences`
/// says how many tokens the samples have, in the order in which they lie. `matrices` are those of queries, keys and
/// values in one (`[width, 3·width]`), of attention's output (`[width, width]`), and the
/// perceptron's two (`[width, hidden]`, `[hidden, width]`); `vectors` are, in the order of use, scale
/// and shift of the first layer norm, the shifts of the first two matrices, scale and shift of the
/// second layer norm, and the shifts of the last two matrices.
///
/// # Panics
/// If shapes disagree with `shape` and `sequences`, or [`supports`](crate::supports) is false.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use lejepa_kernels::{BlockShape, Sequences, transformer_block};
///
/// let device = Device::flex();
/// let matrix = |a, b| Tensor::<2>::random([a, b], Distribution::Normal(0.0, 0.1), &device);
/// let (one, zero) = (|n| Tensor::<1>::ones([n], &device), |n| Tensor::<1>::zeros([n], &device));
/// let shape = BlockShape { width: 8, heads: 2, hidden: 16, epsilon: 1e-5 };
/// // Three samples of five tokens, then one of two.
/// let sequences = [Sequences { samples: 3, tokens: 5 }, Sequences { samples: 1, tokens: 2 }];
/// let x = Tensor::<2>::random([17, 8], Distribution::Default, &device);
/// let y = transformer_block(
///     x,
///     [matrix(8, 24), matrix(8, 8), matrix(8, 16), matrix(16, 8)],
///     [one(8), zero(8), zero(24), zero(8), one(8), zero(8), zero(16), zero(8)],
///     shape,
///     &sequences,
/// );
/// assert_eq!(y.dims(), [17, 8]);
/// ```
pub fn transformer_block(
    x: Tensor<2>,
    matrices: [Tensor<2>; 4],
    vectors: [Tensor<1>; 8],
    shape: BlockShape,
    sequences: &[Sequences],
) -> Tensor<2> {
    block(x, matrices, vectors, shape, sequences, None)
}

/// [`transformer_block`] with a factor for each branch of each sample: attention and the perceptron are
/// multiplied with theirs before they are added, as stochastic depth has it (Huang et al., arXiv
/// 1603.09382). No gradient flows to the factors.
///
/// # Panics
/// As [`transformer_block`], and if there is not a factor for each sample.
///
/// ```
/// # use burn::tensor::{Device, Distribution, Tensor};
/// # use lejepa_kernels::{BlockShape, Sequences, thinned_transformer_block};
/// # let device = Device::flex();
/// # let matrix = |a, b| Tensor::<2>::random([a, b], Distribution::Normal(0.0, 0.1), &device);
/// # let (one, zero) = (|n| Tensor::<1>::ones([n], &device), |n| Tensor::<1>::zeros([n], &device));
/// let shape = BlockShape { width: 8, heads: 2, hidden: 16, epsilon: 1e-5 };
/// let sequences = [Sequences { samples: 2, tokens: 5 }];
/// let x = Tensor::<2>::random([10, 8], Distribution::Default, &device);
/// let matrices = [matrix(8, 24), matrix(8, 8), matrix(8, 16), matrix(16, 8)];
/// let vectors = [one(8), zero(8), zero(24), zero(8), one(8), zero(8), zero(16), zero(8)];
/// // The second sample passes as it is.
/// let factors = [vec![1.0, 0.0], vec![1.0, 0.0]];
/// let y = thinned_transformer_block(x.clone(), matrices, vectors, shape, &sequences, factors);
/// y.clone().narrow(0, 5, 5).into_data().assert_eq(&x.clone().narrow(0, 5, 5).into_data(), true);
/// assert_ne!(y.narrow(0, 0, 5).into_data(), x.narrow(0, 0, 5).into_data());
/// ```
pub fn thinned_transformer_block(
    x: Tensor<2>,
    matrices: [Tensor<2>; 4],
    vectors: [Tensor<1>; 8],
    shape: BlockShape,
    sequences: &[Sequences],
    factors: [Vec<f32>; 2],
) -> Tensor<2> {
    let samples: usize = sequences.iter().map(|of| of.samples).sum();
    assert_eq!(factors.each_ref().map(Vec::len), [samples; 2], "a factor for each sample");
    block(x, matrices, vectors, shape, sequences, Some(factors))
}

fn block(
    x: Tensor<2>,
    matrices: [Tensor<2>; 4],
    vectors: [Tensor<1>; 8],
    shape: BlockShape,
    sequences: &[Sequences],
    factors: Option<[Vec<f32>; 2]>,
) -> Tensor<2> {
    let BlockShape { width, heads, hidden, .. } = shape;
    let rows: usize = sequences.iter().map(Sequences::rows).sum();
    assert_eq!(x.dims(), [rows, width], "the block's input");
    assert!(heads > 0 && width.is_multiple_of(heads), "{heads} heads do not divide {width}");
    let want = [[width, 3 * width], [width, width], [width, hidden], [hidden, width]];
    assert_eq!(matrices.each_ref().map(|m| m.dims()), want, "the block's matrices");
    let want = [width, width, 3 * width, width, width, width, hidden, width].map(|n| [n]);
    assert_eq!(vectors.each_ref().map(|v| v.dims()), want, "the block's vectors");
    let [qkv, out, up, down] = matrices;
    let [gamma1, beta1, qkv_bias, out_bias, gamma2, beta2, up_bias, down_bias] = vectors;
    let inputs = vec![
        x.into(),
        gamma1.into(),
        beta1.into(),
        qkv.into(),
        qkv_bias.into(),
        out.into(),
        out_bias.into(),
        gamma2.into(),
        beta2.into(),
        up.into(),
        up_bias.into(),
        down.into(),
        down_bias.into(),
    ];
    let (sequences, precision) = (sequences.to_vec(), Precision::now());
    run(inputs, TransformerBlock { shape, sequences, precision, factors })
}

#[derive(Debug)]
struct Linear {
    precision: Precision,
}

impl Operation for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, inputs: &[Input<'_>], _: Keep) -> Output {
        let [x, weight, bias] = inputs else { unreachable!("three inputs") };
        let data = dense::linear(x.data, weight.data, bias.data, self.precision);
        let mut shape = x.shape.to_vec();
        shape.pop();
        shape.push(bias.data.len());
        Output { data, shape, kept: None }
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        _: Option<&mut Buffer>,
        gradient: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let [x, weight, bias] = inputs else { unreachable!("three inputs") };
        let (output, wants) = (bias.data.len(), wanted[0]);
        let (dx, dw, db) =
            dense::linear_back(x.data, weight.data, gradient, output, wants, self.precision);
        vec![dx, Some(dw), Some(db)]
    }
}

/// `x·weight + bias` over the last axis.
///
/// # Shapes
/// `[..., input]`, `[input, output]` and `[output]` give `[..., output]`.
///
/// # Panics
/// If shapes disagree, or [`supports`](crate::supports) is false.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let x = Tensor::<2>::from_floats([[1.0, 2.0]], &device);
/// let weight = Tensor::<2>::from_floats([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]], &device);
/// let y = lejepa_kernels::linear(x, weight, Tensor::from_floats([0.0, 0.0, 5.0], &device));
/// y.into_data().assert_eq(&[[1.0f32, 2.0, 9.0]].into(), true);
/// ```
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<D> {
    let [input, output] = weight.dims();
    assert_eq!(x.dims()[D - 1], input, "the input's width");
    assert_eq!(bias.dims(), [output], "the bias's width");
    let inputs = vec![x.into(), weight.into(), bias.into()];
    run(inputs, Linear { precision: Precision::now() })
}

#[derive(Debug)]
struct LayerNorm {
    epsilon: f32,
}

impl Operation for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn forward(&self, inputs: &[Input<'_>], _: Keep) -> Output {
        let [x, gamma, beta] = inputs else { unreachable!("three inputs") };
        let (data, stats) = dense::norm(x.data, gamma.data, beta.data, self.epsilon);
        Output { data, shape: x.shape.to_vec(), kept: Some(stats) }
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        kept: Option<&mut Buffer>,
        gradient: &[f32],
        _: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let [x, gamma, _] = inputs else { unreachable!("three inputs") };
        // Two numbers a row: kept even where memory is spared.
        let stats: &[f32] = kept.map_or(&[], |kept| kept.values());
        let (dx, dgamma, dbeta) = dense::norm_back(x.data, stats, gamma.data, gradient);
        vec![Some(dx), Some(dgamma), Some(dbeta)]
    }
}

/// Layer norm over the last axis: (x − mean) / √(variance + `epsilon`) · `gamma` + `beta`
/// (Ba et al., arXiv 1607.06450).
///
/// # Shapes
/// `[..., width]`, `[width]` and `[width]` give `[..., width]`.
///
/// # Panics
/// If shapes disagree, or [`supports`](crate::supports) is false.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let x = Tensor::<2>::from_floats([[1.0, 3.0], [7.0, 5.0]], &device);
/// let y = lejepa_kernels::layer_norm(x, Tensor::ones([2], &device), Tensor::zeros([2], &device), 0.0);
/// y.into_data().assert_eq(&[[-1.0f32, 1.0], [1.0, -1.0]].into(), true);
/// ```
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    let width = x.dims()[D - 1];
    assert_eq!([gamma.dims(), beta.dims()], [[width], [width]], "scale and shift");
    run(vec![x.into(), gamma.into(), beta.into()], LayerNorm { epsilon: epsilon as f32 })
}
