//! Pre-norm transformer block.

use burn::tensor::Tensor;

use super::extension::{Input, Operation, Output, SavePolicy, SavedActivations, is_fused, run};
use super::reference;
use crate::layers::transformer_block::{Block, BlockShape, INPUTS, Sequences, WEIGHTS};
use crate::precision::Precision;

#[derive(Debug)]
struct TransformerBlock {
    shape: BlockShape,
    sequences: Vec<Sequences>,
    precision: Precision,
    branch_scale: Option<[Vec<f32>; 2]>,
}

impl TransformerBlock {
    fn block<'a>(&'a self, inputs: &[Input<'a>]) -> Block<'a> {
        let weights: [&[f32]; WEIGHTS] = std::array::from_fn(|i| inputs[1 + i].data);
        let scale = self.branch_scale.as_ref().map(|[first, second]| [&**first, &**second]);
        Block::new(self.shape, &self.sequences, weights, self.precision, scale)
    }
}

impl Operation for TransformerBlock {
    fn name(&self) -> &'static str {
        "transformer_block"
    }

    fn forward(&self, inputs: &[Input<'_>], policy: SavePolicy) -> Output {
        let save = policy == SavePolicy::Everything;
        let (data, values) = self.block(inputs).forward(inputs[0].data, save);
        let saved = values.map(|v| SavedActivations { values: Some(v), ..Default::default() });
        Output { saved, ..Output::new(data, inputs[0].shape.to_vec()) }
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        saved: Option<&mut SavedActivations>,
        gradient: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let saved = saved.and_then(|saved| saved.values.as_mut());
        let wanted: [bool; INPUTS] = std::array::from_fn(|i| wanted[i]);
        self.block(inputs).backward(inputs[0].data, gradient, saved, wanted).into()
    }
}

/// A pre-norm transformer block: y = x₁ + W₂·GELU(W₁·LN₂(x₁) + b₁) + b₂ with
/// x₁ = x + Wₒ·attention(LN₁(x)) + bₒ (Dosovitskiy et al., arXiv 2010.11929).
///
/// # Shapes
/// `x` and the result are `[tokens of all samples, width]`; the tokens of a sample are contiguous, and
/// `sequences` are the lengths of the samples, in order. `matrices` are those of queries, keys and values
/// (`[width, 3·width]`), of the output projection (`[width, width]`), and of the perceptron
/// (`[width, hidden]`, `[hidden, width]`). `vectors` are scale and shift of the first layer norm, the biases
/// of the first two matrices, scale and shift of the second layer norm, and the biases of the last two
/// matrices.
///
/// # Panics
/// If shapes disagree with `shape` and `sequences`.
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

/// [`transformer_block`] with stochastic depth (Huang et al., arXiv 1603.09382): the branches of each sample,
/// attention and perceptron, are multiplied with `branch_scale` before they are added. No gradient flows to
/// the scales.
///
/// # Panics
/// As [`transformer_block`], and if there are not as many scales as samples.
///
/// ```
/// # use burn::tensor::{Device, Distribution, Tensor};
/// # use lejepa_kernels::{BlockShape, Sequences, transformer_block_drop_path};
/// # let device = Device::flex();
/// # let matrix = |a, b| Tensor::<2>::random([a, b], Distribution::Normal(0.0, 0.1), &device);
/// # let (one, zero) = (|n| Tensor::<1>::ones([n], &device), |n| Tensor::<1>::zeros([n], &device));
/// let shape = BlockShape { width: 8, heads: 2, hidden: 16, epsilon: 1e-5 };
/// let sequences = [Sequences { samples: 2, tokens: 5 }];
/// let x = Tensor::<2>::random([10, 8], Distribution::Default, &device);
/// let matrices = [matrix(8, 24), matrix(8, 8), matrix(8, 16), matrix(16, 8)];
/// let vectors = [one(8), zero(8), zero(24), zero(8), one(8), zero(8), zero(16), zero(8)];
/// // Drop both branches of the second sample.
/// let scale = || Tensor::<1>::from_floats([1.0, 0.0], &device);
/// let (scales, x1) = ([scale(), scale()], x.clone());
/// let y = transformer_block_drop_path(x1, matrices, vectors, shape, &sequences, scales);
/// y.clone().narrow(0, 5, 5).into_data().assert_eq(&x.clone().narrow(0, 5, 5).into_data(), true);
/// assert_ne!(y.narrow(0, 0, 5).into_data(), x.narrow(0, 0, 5).into_data());
/// ```
pub fn transformer_block_drop_path(
    x: Tensor<2>,
    matrices: [Tensor<2>; 4],
    vectors: [Tensor<1>; 8],
    shape: BlockShape,
    sequences: &[Sequences],
    branch_scale: [Tensor<1>; 2],
) -> Tensor<2> {
    let samples: usize = sequences.iter().map(|s| s.samples).sum();
    let lengths = branch_scale.each_ref().map(|scale| scale.dims());
    assert_eq!(lengths, [[samples]; 2], "a scale for each sample");
    block(x, matrices, vectors, shape, sequences, Some(branch_scale))
}

fn block(
    x: Tensor<2>,
    matrices: [Tensor<2>; 4],
    vectors: [Tensor<1>; 8],
    shape: BlockShape,
    sequences: &[Sequences],
    branch_scale: Option<[Tensor<1>; 2]>,
) -> Tensor<2> {
    let BlockShape { width, heads, hidden, .. } = shape;
    let rows: usize = sequences.iter().map(Sequences::rows).sum();
    assert_eq!(x.dims(), [rows, width], "the input of the block");
    assert!(heads > 0 && width.is_multiple_of(heads), "{heads} heads do not divide {width}");
    assert!(sequences.iter().all(|s| s.tokens > 0), "a sequence without tokens");
    let want = [[width, 3 * width], [width, width], [width, hidden], [hidden, width]];
    assert_eq!(matrices.each_ref().map(|m| m.dims()), want, "the matrices of the block");
    let want = [width, width, 3 * width, width, width, width, hidden, width].map(|n| [n]);
    assert_eq!(vectors.each_ref().map(|v| v.dims()), want, "the vectors of the block");
    if !is_fused(&x) {
        return reference::transformer_block(x, matrices, vectors, shape, sequences, branch_scale);
    }
    let branch_scale = branch_scale.map(|scales| scales.map(to_vec));
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
    run(inputs, TransformerBlock { shape, sequences, precision, branch_scale })
}

/// # Panics
/// If the scales cannot be read.
fn to_vec(scale: Tensor<1>) -> Vec<f32> {
    match scale.try_into_vec_as::<f32>() {
        Ok(values) => values,
        Err(error) => panic!("the branch scales cannot be read: {error:?}"),
    }
}
