//! Python bindings: the package `lejepa`, of which this is the module `_lejepa`.
//!
//! | module | contents |
//! |---|---|
//! | `encoder` | `Encoder`: a run or an export, and what it embeds |
//! | `arrays` | NumPy arrays as samples of a modality |
//! | `training` | `train` |
//! | `statistic` | `sigreg` and its gradient |
//!
//! What Python sees is documented in `python/lejepa/__init__.pyi`. Work is done without the interpreter's lock.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod arrays;
mod encoder;
mod statistic;
mod training;

use burn::tensor::Device;
use lejepa::prelude::Registry;
use lejepa::train::TrainError;
use pyo3::create_exception;
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError};
use pyo3::prelude::*;

create_exception!(lejepa, LejepaError, PyRuntimeError, "What went wrong, and what to do next.");

/// An error as Python raises it.
pub(crate) fn raised(error: impl Into<TrainError>) -> PyErr {
    let error = error.into();
    if let TrainError::Interrupted { .. } = error {
        return PyKeyboardInterrupt::new_err(error.to_string());
    }
    let hint = error.hint().map_or(String::new(), |hint| format!("\n  hint: {hint}"));
    LejepaError::new_err(format!("{error}{hint}"))
}

pub(crate) fn refused(message: impl Into<String>) -> PyErr {
    LejepaError::new_err(message.into())
}

/// The modalities and components of this module.
pub(crate) fn registry() -> PyResult<Registry> {
    Registry::discover().map_err(raised)
}

/// Devices by name, and whether this build has them.
const DEVICES: [(&str, bool); 3] =
    [("cpu", true), ("wgpu", cfg!(feature = "wgpu")), ("cuda", cfg!(feature = "cuda"))];

/// A device by its name on the command line.
pub(crate) fn device(name: &str) -> PyResult<Device> {
    match name {
        "cpu" => Ok(Device::flex()),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(0)),
        name => {
            let there = DEVICES.iter().filter(|(_, is_there)| *is_there);
            let there: Vec<&str> = there.map(|(name, _)| *name).collect();
            let there = there.join(", ");
            Err(refused(format!("unknown device `{name}`\n  hint: this package has {there}")))
        }
    }
}

#[pymodule]
fn _lejepa(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("LejepaError", module.py().get_type::<LejepaError>())?;
    module.add_class::<encoder::Encoder>()?;
    module.add_function(wrap_pyfunction!(training::train, module)?)?;
    module.add_function(wrap_pyfunction!(statistic::sigreg, module)?)?;
    module.add_function(wrap_pyfunction!(statistic::sigreg_with_gradient, module)?)
}
