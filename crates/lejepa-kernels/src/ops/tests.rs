//! Tests of the operations on tensors.
//!
//! An operation on f32 tensors of burn-flex is fused; on f64 tensors it is the reference composed of burn's own
//! operations, with errors far below those of f32. So one function serves as the operation and as its reference.

mod frozen;
mod gradients;
mod precision;
mod propagation;

use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};

use crate::gemm::tests::noise;
use crate::{BlockShape, Sequences};

/// A tensor of any rank that may require a gradient.
#[derive(Clone)]
enum Leaf {
    R1(Tensor<1>),
    R2(Tensor<2>),
    R3(Tensor<3>),
    R4(Tensor<4>),
}

impl Leaf {
    fn new(values: &[f64], shape: &[usize], device: &Device, dtype: DType) -> Self {
        let data = TensorData::new(values.to_vec(), shape.to_vec());
        match shape.len() {
            1 => Self::R1(Tensor::from_data(data, (device, dtype))),
            2 => Self::R2(Tensor::from_data(data, (device, dtype))),
            3 => Self::R3(Tensor::from_data(data, (device, dtype))),
            4 => Self::R4(Tensor::from_data(data, (device, dtype))),
            rank => panic!("rank {rank}"),
        }
    }

    fn require_grad(self) -> Self {
        match self {
            Self::R1(t) => Self::R1(t.require_grad()),
            Self::R2(t) => Self::R2(t.require_grad()),
            Self::R3(t) => Self::R3(t.require_grad()),
            Self::R4(t) => Self::R4(t.require_grad()),
        }
    }

    fn gradient(&self, gradients: &Gradients) -> Option<Vec<f64>> {
        match self {
            Self::R1(t) => t.grad(gradients).map(values),
            Self::R2(t) => t.grad(gradients).map(values),
            Self::R3(t) => t.grad(gradients).map(values),
            Self::R4(t) => t.grad(gradients).map(values),
        }
    }

    fn r1(&self) -> Tensor<1> {
        let Self::R1(t) = self else { panic!("another rank") };
        t.clone()
    }

    fn r2(&self) -> Tensor<2> {
        let Self::R2(t) = self else { panic!("another rank") };
        t.clone()
    }

    fn r3(&self) -> Tensor<3> {
        let Self::R3(t) = self else { panic!("another rank") };
        t.clone()
    }

    fn r4(&self) -> Tensor<4> {
        let Self::R4(t) = self else { panic!("another rank") };
        t.clone()
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.try_into_vec_as::<f64>().unwrap()
}

/// Deterministic values, with a standard deviation of about 0.6, for each shape.
fn leaf_values(shapes: &[&[usize]]) -> Vec<Vec<f64>> {
    let one = |(i, shape): (usize, &&[usize])| -> Vec<f64> {
        let n = shape.iter().product();
        noise(n, 10 + i as u32).into_iter().map(f64::from).collect()
    };
    shapes.iter().enumerate().map(one).collect()
}

/// Leaves that require a gradient where `tracked` says so.
fn leaves(
    values: &[Vec<f64>],
    shapes: &[&[usize]],
    tracked: &[bool],
    device: &Device,
    dtype: DType,
) -> Vec<Leaf> {
    let one = |((values, shape), tracked): ((&Vec<f64>, &&[usize]), &bool)| {
        let leaf = Leaf::new(values, shape, device, dtype);
        if *tracked { leaf.require_grad() } else { leaf }
    };
    values.iter().zip(shapes).zip(tracked).map(one).collect()
}

/// A scalar whose gradient with respect to `y` is unstructured.
fn objective<const D: usize>(y: Tensor<D>) -> Tensor<1> {
    let dims = y.dims();
    let weights: Vec<f64> = noise(dims.iter().product(), 99).into_iter().map(f64::from).collect();
    let data = TensorData::new(weights, dims.to_vec());
    let weights = Tensor::<D>::from_data(data, (&y.device(), y.dtype()));
    (y * weights).sum()
}

/// A scalar function of leaves.
type Objective<'a> = dyn Fn(&[Leaf]) -> Tensor<1> + Sync + 'a;

/// Value of an objective, and gradients of all leaves.
fn differentiate(leaves: &[Leaf], objective: &Objective<'_>) -> (f64, Vec<Option<Vec<f64>>>) {
    let value = objective(leaves);
    let gradients = value.backward();
    let all = leaves.iter().map(|leaf| leaf.gradient(&gradients)).collect();
    (values(value)[0], all)
}

/// Shapes of x and the 12 weights of a transformer block.
fn block_shapes(shape: BlockShape, sequences: &[Sequences]) -> Vec<Vec<usize>> {
    let BlockShape { width, hidden, .. } = shape;
    let rows = sequences.iter().map(|s| s.samples * s.tokens).sum();
    vec![
        vec![rows, width],
        vec![width, 3 * width],
        vec![width, width],
        vec![width, hidden],
        vec![hidden, width],
        vec![width],
        vec![width],
        vec![3 * width],
        vec![width],
        vec![width],
        vec![width],
        vec![hidden],
        vec![width],
    ]
}

/// Weights of a block from leaves of [`block_shapes`].
fn block_weights(leaves: &[Leaf]) -> ([Tensor<2>; 4], [Tensor<1>; 8]) {
    let matrices = std::array::from_fn(|i| leaves[1 + i].r2() * 0.5);
    (matrices, std::array::from_fn(|i| leaves[5 + i].r1()))
}

fn sequences(lengths: &[[usize; 2]]) -> Vec<Sequences> {
    lengths.iter().map(|&[samples, tokens]| Sequences { samples, tokens }).collect()
}
