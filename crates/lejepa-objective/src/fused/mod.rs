//! SIGReg with Epps-Pulley as one operation with its own backward.
//!
//! On the CPU (burn-flex, 32-bit) it replaces a graph of tensors of size V·N·M per knot by one pass
//! ([`cpu`]). Elsewhere [`sigreg`] declines, and the caller takes the path of plain tensor operations.

mod cpu;
mod lanes;

use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::quadrature::Quadrature;
use cpu::{Problem, Strided};

/// The operation, per backend.
#[backend_extension(Flex, Autodiff)]
trait FusedSigreg: Backend {
    /// The mean over sets and directions of the statistic of the projections.
    ///
    /// `z` is `[sets, rows, dim]`, `axes` `[dim, slices]`, the knots are `step`, `2·step`, ... with
    /// `weights`; the result is `[1]`.
    fn fused_sigreg(
        z: FloatTensor<Self>,
        axes: FloatTensor<Self>,
        step: f64,
        weights: Vec<f64>,
    ) -> FloatTensor<Self>;
}

/// Value and, where wanted, gradient on flex tensors.
fn on_flex(
    z: FloatTensor<Flex>,
    axes: &FloatTensor<Flex>,
    step: f64,
    weights: &[f64],
    gradient: bool,
) -> (FloatTensor<Flex>, Option<FloatTensor<Flex>>) {
    let z = z.to_contiguous();
    let axes = if axes.layout().strides().iter().all(|&s| s > 0) {
        axes.clone()
    } else {
        axes.to_contiguous()
    };
    let [sets, rows, dim] = dims(z.layout().shape());
    let [_, slices] = dims(axes.layout().shape());
    let strides = axes.layout().strides();
    let problem = Problem {
        sets,
        rows,
        dim,
        slices,
        z: &z.storage::<f32>()[z.layout().start_offset()..],
        axes: Strided {
            data: &axes.storage::<f32>()[axes.layout().start_offset()..],
            row: strides[0].unsigned_abs(),
            column: strides[1].unsigned_abs(),
        },
        step,
        weights,
    };
    let (value, back) = problem.run(gradient);
    let tensor = |data: TensorData| FloatTensor::<Flex>::from_data(data);
    let back = gradient.then(|| tensor(TensorData::new(back, [sets, rows, dim])));
    (tensor(TensorData::new(vec![value as f32], [1])), back)
}

fn dims<const D: usize>(shape: &burn::tensor::Shape) -> [usize; D] {
    std::array::from_fn(|i| shape[i])
}

impl FusedSigreg for Flex {
    fn fused_sigreg(
        z: FloatTensor<Self>,
        axes: FloatTensor<Self>,
        step: f64,
        weights: Vec<f64>,
    ) -> FloatTensor<Self> {
        on_flex(z, &axes, step, &weights, false).0
    }
}

impl<C: CheckpointStrategy> FusedSigreg for Autodiff<Flex, C> {
    fn fused_sigreg(
        z: FloatTensor<Self>,
        axes: FloatTensor<Self>,
        step: f64,
        weights: Vec<f64>,
    ) -> FloatTensor<Self> {
        /// The gradient is known after the forward pass; only the factor from above is missing.
        #[derive(Debug)]
        struct Scale;

        impl<B: Backend> Backward<B, 1> for Scale {
            type State = FloatTensor<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let [node] = ops.parents;
                let factor = grads.consume::<B>(&ops.node);
                if let Some(node) = node {
                    let factor = B::float_reshape(factor, [1, 1, 1].into());
                    grads.register::<B>(node.id, B::float_mul(ops.state, factor));
                }
            }
        }

        let node = z.node();
        let (z, axes) = (z.into_primitive(), axes.into_primitive());
        match Scale.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (value, back) = on_flex(z, &axes, step, &weights, true);
                match back {
                    Some(back) => prep.finish(back, value),
                    None => unreachable!("the gradient was asked for"),
                }
            }
            OpsKind::UnTracked(prep) => prep.finish(on_flex(z, &axes, step, &weights, false).0),
        }
    }
}

/// SIGReg of `z` `[sets, rows, dim]` along `axes` `[dim, slices]`, or `None` where there is no fused
/// operation for this device, type or quadrature.
pub(crate) fn sigreg(
    z: &Tensor<3>,
    axes: &Tensor<2>,
    quadrature: &Quadrature,
) -> Option<Tensor<1>> {
    let step = quadrature.even_step()?;
    if z.dtype() != DType::F32 || axes.dtype() != DType::F32 || !is_flex(&z.device()) {
        return None;
    }
    let weights = quadrature.weights[1..].to_vec();
    let value = <Dispatch as FusedSigreg>::fused_sigreg(
        z.clone().into_dispatch(),
        axes.clone().into_dispatch(),
        step,
        weights,
    );
    Some(Tensor::from_dispatch(value))
}

fn is_flex(device: &Device) -> bool {
    device.clone().without_autodiff() == Device::flex()
}
