//! Linear layer.

use burn::tensor::Tensor;

use super::extension::{Input, Operation, Output, SavePolicy, SavedActivations, is_fused, run};
use super::reference;
use crate::layers::linear;
use crate::precision::Precision;

#[derive(Debug)]
struct Linear {
    precision: Precision,
}

impl Operation for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, inputs: &[Input<'_>], _: SavePolicy) -> Output {
        let [x, weight, bias] = inputs else { unreachable!("three inputs") };
        let data = linear::forward(x.data, weight.data, bias.data, self.precision);
        let mut shape = x.shape.to_vec();
        shape.pop();
        shape.push(bias.data.len());
        Output::new(data, shape)
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        _: Option<&mut SavedActivations>,
        gradient: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let ([x, weight, bias], &[wx, ww, wb]) = (inputs, wanted) else {
            unreachable!("three inputs")
        };
        let (output, wanted) = (bias.data.len(), [wx, ww, wb]);
        linear::backward(x.data, weight.data, gradient, output, wanted, self.precision).into()
    }
}

/// `x·weight + bias` over the last axis.
///
/// # Shapes
/// `[..., input]`, `[input, output]` and `[output]` give `[..., output]`.
///
/// # Panics
/// If shapes disagree.
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
    assert_eq!(x.dims()[D - 1], input, "the width of the input");
    assert_eq!(bias.dims(), [output], "the width of the bias");
    if !is_fused(&x) {
        return reference::linear(x, weight, bias);
    }
    let inputs = vec![x.into(), weight.into(), bias.into()];
    run(inputs, Linear { precision: Precision::now() })
}
