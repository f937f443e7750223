//! SIGReg with Epps-Pulley as two CubeCL kernels between two matrix products: wgpu, CUDA and every
//! other runtime of burn's CubeCL backend.
//!
//! One unit a set and direction walks the rows and keeps the sums of cos kθ and sin kθ in registers;
//! then one unit a projection evaluates the gradient, in place of the projections. What is held is
//! V·N·M projections and 2·V·M·knots coefficients, never V·N·M·knots.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::prelude::*;

use super::Rule;

/// Units of a cube, along the directions.
const UNITS: u32 = 64;
/// Rows after which partial sums are added to the totals: sums of few terms keep more digits.
const PARTIAL: u32 = 64;
/// The most cubes along one axis that every runtime takes.
const MOST_CUBES: usize = 65_535;

/// Whether the kernels take this problem; else it goes the path of plain tensor operations.
pub(super) fn takes(sets: usize, rows: usize, slices: usize) -> bool {
    sets <= MOST_CUBES && rows <= MOST_CUBES && sets * rows * slices <= u32::MAX as usize
}

/// cos θ and sin θ of θ = 2h: see the CPU's `cos_sin`. Written out, because the sine of a shading
/// language may be off by 2⁻¹¹.
#[cube]
fn cos_sin(half: f32) -> (f32, f32) {
    let h = clamp(half, -1e5f32, 1e5f32);
    let turns = (h * std::f32::consts::FRAC_1_PI + 0.5f32).floor();
    // π in three parts whose products with whole numbers below 2¹⁵ are exact.
    let r = h - turns * 3.140625f32;
    let r = r - turns * 9.670_257_6e-4f32;
    let r = r - turns * 6.277_114e-7f32;
    let u = r * r;
    let p = u * 2.600_054_2e-6f32 - 1.980_661_5e-4f32;
    let p = p * u + 8.333_017e-3f32;
    let p = p * u - 1.666_665_7e-1f32;
    let sin = p * u * r + r;
    let q = u * (-2.607_708_3e-7f32) + 2.476_188_5e-5f32;
    let q = q * u - 1.388_840_3e-3f32;
    let q = q * u + 4.166_664e-2f32;
    let q = q * u - 0.5f32;
    let cos = q * u + 1.0f32;
    (1.0f32 - 2.0f32 * sin * sin, 2.0f32 * sin * cos)
}

/// Statistic and gradient coefficients of every set and direction.
///
/// `projections` `[sets, rows, slices]`, `knots` `[4, knots]` (t, φ, weight, 2·weight·t/(sets·slices)),
/// `values` `[sets, slices]`, `cos` and `sin` `[sets, knots, slices]`.
#[cube(launch)]
fn characteristic(
    projections: &Tensor<f32>,
    knots: &Tensor<f32>,
    values: &mut Tensor<f32>,
    cos: &mut Tensor<f32>,
    sin: &mut Tensor<f32>,
    rows: u32,
    slices: u32,
    half_step: f32,
    #[comptime] count: u32,
) {
    let slice = CUBE_POS_X * UNITS + UNIT_POS_X;
    if slice >= slices {
        terminate!();
    }
    let set = CUBE_POS_Y;
    let knot_count = comptime!(count as usize);
    let mut total_cos = Array::<f32>::new(knot_count);
    let mut total_sin = Array::<f32>::new(knot_count);
    let mut part_cos = Array::<f32>::new(knot_count);
    let mut part_sin = Array::<f32>::new(knot_count);
    #[unroll]
    for k in 0..knot_count {
        total_cos[k] = 0.0f32;
        total_sin[k] = 0.0f32;
    }
    let mut first = 0u32;
    while first < rows {
        #[unroll]
        for k in 0..knot_count {
            part_cos[k] = 0.0f32;
            part_sin[k] = 0.0f32;
        }
        let end = min(first + PARTIAL, rows);
        for row in first..end {
            let at = (set * rows + row) * slices + slice;
            let (c, s) = cos_sin(projections[at as usize] * half_step);
            let mut re = c;
            let mut im = s;
            #[unroll]
            for k in 0..knot_count {
                part_cos[k] += re;
                part_sin[k] += im;
                let next = re * c - im * s;
                im = re * s + im * c;
                re = next;
            }
        }
        #[unroll]
        for k in 0..knot_count {
            total_cos[k] += part_cos[k];
            total_sin[k] += part_sin[k];
        }
        first += PARTIAL;
    }
    let n = f32::cast_from(rows);
    let mut value = 0.0f32;
    #[unroll]
    for k in 0..knot_count {
        let re = total_cos[k] / n - knots[knot_count + k];
        let im = total_sin[k] / n;
        value += n * knots[2 * knot_count + k] * (re * re + im * im);
        total_cos[k] = re * knots[3 * knot_count + k];
        total_sin[k] = im * knots[3 * knot_count + k];
    }
    values[(set * slices + slice) as usize] = value;
    #[unroll]
    for k in 0..knot_count {
        let at = (set as usize * knot_count + k) * slices as usize + slice as usize;
        cos[at] = total_cos[k];
        sin[at] = total_sin[k];
    }
}

/// The gradient of the mean with respect to every projection, in its place:
/// Σₖ (sinₖ·cos kθ − cosₖ·sin kθ), the real part of Σₖ (sinₖ + i·cosₖ) e^{ikθ} by Horner's rule.
#[cube(launch)]
fn gradient(
    projections: &mut Tensor<f32>,
    cos: &Tensor<f32>,
    sin: &Tensor<f32>,
    rows: u32,
    slices: u32,
    half_step: f32,
    #[comptime] count: u32,
) {
    let slice = CUBE_POS_X * UNITS + UNIT_POS_X;
    if slice >= slices {
        terminate!();
    }
    let knot_count = comptime!(count as usize);
    let (row, set) = (CUBE_POS_Y, CUBE_POS_Z);
    let at = ((set * rows + row) * slices + slice) as usize;
    let (c, s) = cos_sin(projections[at] * half_step);
    let mut re = 0.0f32;
    let mut im = 0.0f32;
    #[unroll]
    for k in 0..knot_count {
        let knot = knot_count - 1 - k;
        let from = (set as usize * knot_count + knot) * slices as usize + slice as usize;
        let a = re + sin[from];
        let b = im + cos[from];
        re = a * c - b * s;
        im = a * s + b * c;
    }
    projections[at] = re;
}

/// What the first kernel makes.
pub(super) struct Forward {
    axes: FloatTensor<CubeBackend>,
    /// `[sets · rows, slices]`
    projections: CubeTensor,
    /// `[sets, slices]`
    values: CubeTensor,
    cos: CubeTensor,
    sin: CubeTensor,
    sets: usize,
    rows: usize,
    dim: usize,
    slices: usize,
    half_step: f32,
    knots: usize,
}

impl Forward {
    pub(super) fn new(
        z: FloatTensor<CubeBackend>,
        axes: FloatTensor<CubeBackend>,
        rule: Rule,
    ) -> Self {
        let [sets, rows, dim] = z.shape().dims();
        let [_, slices] = axes.shape().dims();
        let count = rule.weights.len();
        let flat = CubeBackend::float_reshape(z, Shape::new([sets * rows, dim]));
        let projections = into_contiguous(CubeBackend::float_matmul(flat, axes.clone()));
        let (client, device) = (projections.client.clone(), projections.device.clone());
        let empty = |shape: Shape| -> CubeTensor {
            empty_device_contiguous_dtype(client.clone(), device.clone(), shape, DType::F32)
        };
        let values = empty(Shape::new([sets, slices]));
        let cos = empty(Shape::new([sets, count, slices]));
        let sin = empty(Shape::new([sets, count, slices]));
        let knots = into_contiguous(CubeBackend::float_from_data(
            burn::tensor::TensorData::new(rule.table(sets * slices), [4, count]),
            &device,
        ));
        let half_step = 0.5 * rule.step as f32;
        characteristic::launch(
            &client,
            CubeCount::Static((slices as u32).div_ceil(UNITS), sets as u32, 1),
            CubeDim::new_1d(UNITS),
            projections.clone().into_tensor_arg(),
            knots.into_tensor_arg(),
            values.clone().into_tensor_arg(),
            cos.clone().into_tensor_arg(),
            sin.clone().into_tensor_arg(),
            rows as u32,
            slices as u32,
            half_step,
            count as u32,
        );
        Self {
            axes,
            projections,
            values,
            cos,
            sin,
            sets,
            rows,
            dim,
            slices,
            half_step,
            knots: count,
        }
    }

    pub(super) fn value(self) -> FloatTensor<CubeBackend> {
        CubeBackend::float_mean(self.values)
    }

    pub(super) fn value_and_gradient(self) -> (FloatTensor<CubeBackend>, FloatTensor<CubeBackend>) {
        let Self { axes, projections, values, cos, sin, sets, rows, dim, slices, .. } = self;
        gradient::launch(
            &projections.client,
            CubeCount::Static((slices as u32).div_ceil(UNITS), rows as u32, sets as u32),
            CubeDim::new_1d(UNITS),
            projections.clone().into_tensor_arg(),
            cos.into_tensor_arg(),
            sin.into_tensor_arg(),
            rows as u32,
            slices as u32,
            self.half_step,
            self.knots as u32,
        );
        let transposed = CubeBackend::float_transpose(axes);
        let back = CubeBackend::float_matmul(projections, transposed);
        let back = CubeBackend::float_reshape(back, Shape::new([sets, rows, dim]));
        (CubeBackend::float_mean(values), back)
    }
}
