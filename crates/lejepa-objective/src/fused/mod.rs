//! SIGReg with Epps-Pulley as one operation with its own backward.
//!
//! On the CPU (burn-flex) it replaces a graph of tensors of size V·N·M per knot by one pass
//! ([`cpu`]), on GPUs by two kernels ([`gpu`]). Elsewhere [`sigreg`] declines, and the caller takes
//! the path of plain tensor operations.

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
mod lanes;

#[cfg(feature = "gpu")]
use burn::backend::Cube;
use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Device, Tensor, TensorData};
#[cfg(feature = "gpu")]
use burn_cubecl::CubeBackend;

use crate::quadrature::Quadrature;
use cpu::Problem;
use lejepa_kernels::Matrix;

/// The most knots t > 0 that the kernels are made for.
const MOST_KNOTS: usize = 64;

/// What is computed of the projections.
#[derive(Debug, Clone)]
struct Rule {
    /// Distance between knots.
    step: f64,
    /// Weight of each knot, from k = 1.
    weights: Vec<f64>,
}

#[cfg(feature = "gpu")]
impl Rule {
    /// Rows of t, φ(t), the weight, and the factor of the gradient of a mean over `count` values.
    fn table(&self, count: usize) -> Vec<f32> {
        let t = |k: usize| (k + 1) as f64 * self.step;
        let row = |f: &dyn Fn(usize) -> f64| -> Vec<f32> {
            (0..self.weights.len()).map(|k| f(k) as f32).collect()
        };
        [
            row(&t),
            row(&|k| (-0.5 * t(k) * t(k)).exp()),
            row(&|k| self.weights[k]),
            // d/dx of N·w·(re² + im²), with N·d(re)/dx = −t sin tx and N·d(im)/dx = t cos tx.
            row(&|k| 2.0 * self.weights[k] * t(k) / count as f64),
        ]
        .concat()
    }
}

/// A backend that has the operation. Fusion defers both methods as they are.
#[cfg_attr(
    feature = "gpu",
    backend_extension(Flex, Cube, Fusion: cfg(feature = "fusion"))
)]
#[cfg_attr(not(feature = "gpu"), backend_extension(Flex))]
trait Kernel: Backend {
    /// The mean over sets and directions, `[1]`.
    #[fusion(meta = |z, _, _| TensorSpec::new([1].into(), z.dtype))]
    fn value(z: FloatTensor<Self>, axes: FloatTensor<Self>, rule: Rule) -> FloatTensor<Self>;

    /// The same and its gradient, of the shape of `z`.
    #[fusion(meta = |z, _, _| (TensorSpec::new([1].into(), z.dtype), z.clone()))]
    fn value_and_gradient(
        z: FloatTensor<Self>,
        axes: FloatTensor<Self>,
        rule: Rule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// The operation, per backend.
#[cfg_attr(feature = "gpu", backend_extension(Flex, Cube, Autodiff))]
#[cfg_attr(not(feature = "gpu"), backend_extension(Flex, Autodiff))]
trait FusedSigreg: Backend {
    /// The mean over sets and directions of the statistic of the projections.
    ///
    /// `z` is `[sets, rows, dim]`, `axes` `[dim, slices]`; the result is `[1]`.
    fn fused_sigreg(z: FloatTensor<Self>, axes: FloatTensor<Self>, rule: Rule)
    -> FloatTensor<Self>;
}

/// Value, and gradient where wanted.
fn on_flex(
    z: FloatTensor<Flex>,
    axes: FloatTensor<Flex>,
    rule: &Rule,
    gradient: bool,
) -> [TensorData; 2] {
    let z = z.to_contiguous();
    let axes =
        if axes.layout().strides().iter().all(|&s| s > 0) { axes } else { axes.to_contiguous() };
    let [sets, rows, dim] = z.layout().shape().dims();
    let [_, slices] = axes.layout().shape().dims();
    let strides = axes.layout().strides();
    let problem = Problem {
        sets,
        rows,
        dim,
        slices,
        z: &z.storage::<f32>()[z.layout().start_offset()..],
        axes: Matrix {
            data: &axes.storage::<f32>()[axes.layout().start_offset()..],
            row: strides[0].unsigned_abs(),
            column: strides[1].unsigned_abs(),
        },
        rule,
    };
    let (value, back) = problem.run(gradient);
    let shape = if gradient { [sets, rows, dim] } else { [0; 3] };
    [TensorData::new(vec![value as f32], [1]), TensorData::new(back, shape)]
}

impl Kernel for Flex {
    fn value(z: FloatTensor<Self>, axes: FloatTensor<Self>, rule: Rule) -> FloatTensor<Self> {
        let [value, _] = on_flex(z, axes, &rule, false);
        FloatTensor::<Flex>::from_data(value)
    }

    fn value_and_gradient(
        z: FloatTensor<Self>,
        axes: FloatTensor<Self>,
        rule: Rule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        on_flex(z, axes, &rule, true).map(FloatTensor::<Flex>::from_data).into()
    }
}

#[cfg(feature = "gpu")]
impl Kernel for CubeBackend {
    fn value(z: FloatTensor<Self>, axes: FloatTensor<Self>, rule: Rule) -> FloatTensor<Self> {
        gpu::Forward::new(z, axes, rule).value()
    }

    fn value_and_gradient(
        z: FloatTensor<Self>,
        axes: FloatTensor<Self>,
        rule: Rule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        gpu::Forward::new(z, axes, rule).value_and_gradient()
    }
}

impl FusedSigreg for Flex {
    fn fused_sigreg(
        z: FloatTensor<Self>,
        axes: FloatTensor<Self>,
        rule: Rule,
    ) -> FloatTensor<Self> {
        <Self as Kernel>::value(z, axes, rule)
    }
}

#[cfg(feature = "gpu")]
impl FusedSigreg for Cube {
    fn fused_sigreg(
        z: FloatTensor<Self>,
        axes: FloatTensor<Self>,
        rule: Rule,
    ) -> FloatTensor<Self> {
        <Self as Kernel>::value(z, axes, rule)
    }
}

impl<B: Kernel, C: CheckpointStrategy> FusedSigreg for Autodiff<B, C> {
    fn fused_sigreg(
        z: FloatTensor<Self>,
        axes: FloatTensor<Self>,
        rule: Rule,
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
                let (value, back) = B::value_and_gradient(z, axes, rule);
                prep.finish(back, value)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::value(z, axes, rule)),
        }
    }
}

/// SIGReg of `z` `[sets, rows, dim]` along `axes` `[dim, slices]`, or `None` where there is no fused
/// operation for this device, type, size or quadrature.
pub(crate) fn sigreg(
    z: &Tensor<3>,
    axes: &Tensor<2>,
    quadrature: &Quadrature,
) -> Option<Tensor<1>> {
    let step = quadrature.even_step()?;
    let weights = quadrature.weights[1..].to_vec();
    let [sets, rows, _] = z.dims();
    let [_, slices] = axes.dims();
    let narrow = z.dtype() == DType::F32 && axes.dtype() == DType::F32;
    if !narrow || !has_kernel(&z.device(), sets, rows, slices, weights.len()) {
        return None;
    }
    let value = <Dispatch as FusedSigreg>::fused_sigreg(
        z.clone().into_dispatch(),
        axes.clone().into_dispatch(),
        Rule { step, weights },
    );
    Some(Tensor::from_dispatch(value))
}

fn has_kernel(device: &Device, sets: usize, rows: usize, slices: usize, knots: usize) -> bool {
    if knots > MOST_KNOTS {
        return false;
    }
    let device = device.clone().without_autodiff();
    if device == Device::flex() {
        return true;
    }
    #[cfg(feature = "gpu")]
    if matches!(device.as_dispatch(), burn::backend::DispatchDevice::Cube(_)) {
        return gpu::takes(sets, rows, slices);
    }
    let _ = (sets, rows, slices);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_the_operation() {
        assert!(has_kernel(&Device::flex(), 2, 3, 4, 16));
        assert!(has_kernel(&Device::flex().autodiff(), 2, 3, 4, 16));
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn wgpu_has_the_operation_within_its_limits() {
        let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
        assert!(has_kernel(&device, 2, 3, 4, 16));
        assert!(has_kernel(&device.clone().autodiff(), 2, 3, 4, 16));
        assert!(!has_kernel(&device, 2, 3, 4, 65));
        assert!(!has_kernel(&device, 2, 70_000, 4, 16));
    }
}
