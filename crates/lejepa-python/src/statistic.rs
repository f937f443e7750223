//! SIGReg of NumPy arrays.

use burn::tensor::{Device, Tensor, TensorData};
use lejepa::prelude::{ObjectiveConfig, Seed, Slicing, directions};
use numpy::{IntoPyArray, PyArray1, PyArrayMethods, PyReadonlyArray3};
use pyo3::prelude::*;

use crate::{raised, refused};

/// `[views, samples, dim]` embeddings as a tensor.
fn tensor(z: &PyReadonlyArray3<'_, f32>, device: &Device) -> PyResult<Tensor<3>> {
    let z = z.as_array();
    let shape: [usize; 3] = z.shape().try_into().map_err(|_| refused("z must have three axes"))?;
    Ok(Tensor::from_data(TensorData::new(z.iter().copied().collect(), shape), device))
}

/// Value and gradient.
fn compute(
    z: Tensor<3>,
    [slices, seed, step]: [u64; 3],
    device: &Device,
    wants_gradient: bool,
) -> PyResult<(f32, Option<Vec<f32>>)> {
    let objective = ObjectiveConfig::default().init().map_err(raised)?;
    let [_, _, dim] = z.dims();
    let slices = usize::try_from(slices).map_err(|_| refused("slices is too large"))?;
    if slices == 0 || dim == 0 {
        return Err(refused("slices and the dimensions of z must be at least 1"));
    }
    let axes = directions(Slicing::Gaussian, dim, slices, Seed(seed), step, device);
    let z = if wants_gradient { z.require_grad() } else { z };
    let value = objective.sigreg(z.clone(), axes).map_err(raised)?;
    let read = |values: Tensor<1>| values.try_into_vec_as::<f32>().map_err(raised);
    let gradient = match wants_gradient {
        true => z.grad(&value.clone().backward()).map(|gradient| read(gradient.flatten(0, 2))),
        false => None,
    };
    let value = read(value.detach())?.first().copied().unwrap_or(f32::NAN);
    Ok((value, gradient.transpose()?))
}

/// SIGReg of embeddings `[views, samples, dim]`.
#[pyfunction]
#[pyo3(signature = (z, *, slices = 1024, seed = 0, step = 0))]
pub(crate) fn sigreg(
    py: Python<'_>,
    z: PyReadonlyArray3<'_, f32>,
    slices: u64,
    seed: u64,
    step: u64,
) -> PyResult<f32> {
    let device = Device::flex();
    let z = tensor(&z, &device)?;
    py.detach(|| compute(z, [slices, seed, step], &device, false)).map(|(value, _)| value)
}

/// SIGReg and its gradient with respect to the embeddings.
#[pyfunction]
#[pyo3(signature = (z, *, slices = 1024, seed = 0, step = 0))]
pub(crate) fn sigreg_with_gradient<'py>(
    py: Python<'py>,
    z: PyReadonlyArray3<'py, f32>,
    slices: u64,
    seed: u64,
    step: u64,
) -> PyResult<(f32, Bound<'py, PyAny>)> {
    let device = Device::flex().autodiff();
    let z = tensor(&z, &device)?;
    let shape = z.dims();
    let (value, gradient) = py.detach(|| compute(z, [slices, seed, step], &device, true))?;
    let gradient: Bound<'py, PyArray1<f32>> = gradient.unwrap_or_default().into_pyarray(py);
    Ok((value, gradient.reshape(shape)?.into_any()))
}
