//! Layer norm.

use burn::tensor::Tensor;

use super::extension::{Input, Operation, Output, SavePolicy, SavedActivations, is_fused, run};
use super::reference;
use crate::buffer::Buffer;
use crate::layers::layer_norm;

#[derive(Debug)]
struct LayerNorm {
    epsilon: f32,
}

impl Operation for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn forward(&self, inputs: &[Input<'_>], _: SavePolicy) -> Output {
        let [x, gamma, beta] = inputs else { unreachable!("three inputs") };
        let (data, stats) = layer_norm::forward(x.data, gamma.data, beta.data, self.epsilon);
        // Two values for each row, which are saved under every policy.
        let saved = SavedActivations { values: Some(stats), ..Default::default() };
        Output { saved: Some(saved), ..Output::new(data, x.shape.to_vec()) }
    }

    fn backward(
        &self,
        inputs: &[Input<'_>],
        saved: Option<&mut SavedActivations>,
        gradient: &[f32],
        _: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let [x, gamma, _] = inputs else { unreachable!("three inputs") };
        let stats = saved.and_then(|saved| saved.values.as_ref()).map_or(&[][..], Buffer::values);
        let (dx, dgamma, dbeta) = layer_norm::backward(x.data, stats, gamma.data, gradient);
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
/// If shapes disagree.
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
    if !is_fused(&x) {
        return reference::layer_norm(x, gamma, beta, epsilon);
    }
    run(vec![x.into(), gamma.into(), beta.into()], LayerNorm { epsilon: epsilon as f32 })
}
