//! `Encoder`: a run or an export.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lejepa::core::{BlobStore, Source, View};
use lejepa::train::{Embedder, NamedEmbeddings, Silent};
use numpy::{IntoPyArray, PyArrayMethods, PyReadonlyArrayDyn};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{Encoded, Files, encode};
use crate::{device, raised, refused, registry};

/// A frozen encoder with everything needed to feed it.
#[pyclass(module = "lejepa", frozen, subclass)]
pub(crate) struct Encoder {
    embedder: Mutex<Embedder>,
    #[pyo3(get)]
    dim: usize,
    #[pyo3(get)]
    modality: String,
    #[pyo3(get)]
    view_shape: Vec<usize>,
    config: String,
}

impl Encoder {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Embedder) -> Result<T, lejepa::train::TrainError> + Send,
    ) -> PyResult<T> {
        py.detach(|| {
            let embedder = self.embedder.lock().unwrap_or_else(PoisonError::into_inner);
            work(&embedder).map_err(raised)
        })
    }

    fn of_store(&self, py: Python<'_>, store: Arc<dyn BlobStore>) -> PyResult<NamedEmbeddings> {
        self.with(py, |embedder| {
            let source = embedder.resolved().open(Source::Blobs(store))?;
            embedder.embed_source(source.as_ref(), &mut Silent)
        })
    }
}

#[pymethods]
impl Encoder {
    #[new]
    #[pyo3(signature = (path, *, device = "cpu"))]
    fn new(py: Python<'_>, path: PathBuf, device: &str) -> PyResult<Self> {
        let device = self::device(device)?;
        let embedder = py.detach(|| {
            let registry = registry()?;
            Embedder::open(Path::new(&path), &registry, &device).map_err(raised)
        })?;
        let resolved = embedder.resolved();
        let config = serde_json::to_string(resolved.table()).map_err(|e| refused(e.to_string()))?;
        Ok(Self {
            dim: embedder.dim(),
            modality: resolved.modality().name().to_string(),
            view_shape: resolved.spec().shape(),
            config,
            embedder: Mutex::new(embedder),
        })
    }

    /// The configuration of the run, in JSON.
    #[getter]
    fn config_json(&self) -> &str {
        &self.config
    }

    /// Vectors, names, labels and what was skipped, of a folder, a manifest, an archive or paths of files.
    fn embed<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let made = if let Ok(path) = data.extract::<PathBuf>() {
            let source = path.to_string_lossy().into_owned();
            self.with(py, |embedder| embedder.embed(&source, &mut Silent))?
        } else {
            let paths: Vec<PathBuf> = data.extract()?;
            self.of_store(py, Arc::new(Files(paths)))?
        };
        let out = PyDict::new(py);
        let rows = made.names.len();
        out.set_item("vectors", made.values.into_pyarray(py).reshape([rows, made.dim])?)?;
        out.set_item("names", made.names)?;
        let labels = PyDict::new(py);
        for column in made.labels {
            labels.set_item(column.name, column.words)?;
        }
        out.set_item("labels", labels)?;
        let skipped: Vec<(String, String)> =
            made.skipped.into_iter().map(|s| (s.name, s.reason)).collect();
        out.set_item("skipped", skipped)?;
        Ok(out)
    }

    /// Vectors of arrays, `[arrays, dim]`. All of them have to be usable.
    #[pyo3(signature = (arrays, *, rate = None))]
    fn embed_arrays<'py>(
        &self,
        py: Python<'py>,
        arrays: Vec<Bound<'py, PyAny>>,
        rate: Option<u32>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let files: PyResult<Vec<Vec<u8>>> =
            arrays.iter().map(|array| encode(array, &self.modality, rate)).collect();
        let made = self.of_store(py, Arc::new(Encoded(files?)))?;
        if let Some(skipped) = made.skipped.first() {
            return Err(refused(format!("{}: {}", skipped.name, skipped.reason)));
        }
        let shape = [made.names.len(), made.dim];
        Ok(made.values.into_pyarray(py).reshape(shape)?.into_any())
    }

    /// Vectors of views that are prepared as the encoder takes them, `[views, *view_shape]`.
    fn embed_views<'py>(
        &self,
        py: Python<'py>,
        views: PyReadonlyArrayDyn<'py, f32>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let views = views.as_array();
        let shape = views.shape().to_vec();
        let [count, of_view @ ..] = &shape[..] else { return Err(refused("views need axes")) };
        let values: Vec<f32> = views.iter().copied().collect();
        let size = of_view.iter().product::<usize>().max(1);
        let made = self.with(py, |embedder| {
            let mut all = Vec::with_capacity(count * embedder.dim());
            for values in values.chunks_exact(size) {
                let view = View::new(of_view.to_vec(), values.to_vec())?;
                all.extend(embedder.embed_view(&view)?);
            }
            Ok(all)
        })?;
        Ok(made.into_pyarray(py).reshape([*count, self.dim])?.into_any())
    }

    fn __repr__(&self) -> String {
        format!(
            "Encoder(modality={:?}, dim={}, view_shape={:?})",
            self.modality, self.dim, self.view_shape
        )
    }
}
