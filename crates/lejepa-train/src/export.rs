//! What applications need of a run: its encoder in a folder of three files, and embeddings.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use lejepa_core::Registry;
//! use lejepa_train::{Embedder, RunDir, Silent, export};
//!
//! # fn main() -> lejepa_train::Result<()> {
//! let registry = Registry::discover()?;
//! let run = RunDir::open("runs/audio-001".as_ref())?;
//! let checkpoint = lejepa_train::checkpoint::best(&run)?;
//! export(&run, &checkpoint, "bird-songs".as_ref(), &registry)?;
//!
//! let embedder = Embedder::open("bird-songs".as_ref(), &registry, &Device::flex())?;
//! let embeddings = embedder.embed("recordings/", &mut Silent)?;
//! println!("{} × {}", embeddings.names.len(), embeddings.dim);
//! # Ok(())
//! # }
//! ```

use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::Device;
use lejepa_core::{
    BoxedEncoder, Error, Features, Registry, Source, Table, View, ViewSource, ViewSpec, Wants,
};
use serde::{Deserialize, Serialize};

use crate::config::ProbeConfig;
use crate::data::ProbeSet;
use crate::dense::cell_rows;
use crate::embed::embed_indices;
use crate::embed_files::nothing_read;
use crate::guard::catch_panics;
use crate::model;
use crate::named::{NamedEmbeddings, NamedLabels};
use crate::observe::Observer;
use crate::probe::{ProbeResult, members, score};
use crate::resolved::Resolved;
use crate::rundir::{RunDir, write_atomically};
use crate::{Result, TrainError, checkpoint};

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";

/// `config.json` of an export.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ExportManifest {
    model_type: String,
    lejepa: String,
    modality: String,
    /// One for each stream of views.
    encoders: Vec<String>,
    /// Width of an embedding.
    hidden_size: usize,
    step: u64,
    /// Largest shape of the view that is embedded, channels first.
    view: Vec<usize>,
    views: ViewSpec,
    /// The run's whole configuration.
    config: Table,
}

/// The file of the weights of one stream's encoder.
fn weights_file(spec: &ViewSpec, stream: &str) -> String {
    if spec.streams().len() == 1 { WEIGHTS.into() } else { format!("model-{stream}.safetensors") }
}

/// Writes the encoder of a checkpoint to a new folder, laid out as model hubs expect it:
/// `model.safetensors`, `config.json`, `README.md`.
///
/// # Errors
/// [`TrainError::OutputExists`] where `folder` holds something; what is wrong with the run.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
#[doc = include_str!("doc/run.txt")]
/// use lejepa_train::{Embedder, checkpoint, export};
///
/// let folder = folder.path().join("export");
/// export(&run, &checkpoint::latest(&run)?, &folder, &registry)?;
/// assert!(folder.join("model.safetensors").is_file() && folder.join("README.md").is_file());
/// let embedder = Embedder::open(&folder, &registry, &Device::flex())?;
/// assert_eq!(embedder.dim(), 24);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn export(run: &RunDir, checkpoint: &Path, folder: &Path, registry: &Registry) -> Result<()> {
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(TrainError::OutputExists(folder.to_path_buf()));
    }
    let resolved = run.config(registry)?;
    let device = Device::flex();
    let state = checkpoint::load_state(checkpoint)?;
    let spec = resolved.spec();
    let model = checkpoint::load_evaluated(checkpoint, resolved.model(&device)?)?;
    let manifest = ExportManifest {
        model_type: "lejepa".into(),
        lejepa: env!("CARGO_PKG_VERSION").into(),
        modality: resolved.modality().name().into(),
        encoders: resolved.encoder_names().into_iter().map(String::from).collect(),
        hidden_size: model.dim(),
        step: state.step,
        view: spec.shape(),
        views: spec.as_ref().clone(),
        config: resolved.table().clone(),
    };
    fs::create_dir_all(folder).map_err(TrainError::io("create", folder))?;
    let corrupt = |path: &Path, reason: String| TrainError::Corrupt { path: path.into(), reason };
    for (stream, encoder) in spec.streams().into_iter().zip(&model.encoders) {
        let file = folder.join(weights_file(spec, stream));
        let mut store = SafetensorsStore::from_bytes(None).metadata("framework", "burn");
        encoder.save_into(&mut store).map_err(|e| corrupt(&file, e.to_string()))?;
        let bytes = store.get_bytes().map_err(|e| corrupt(&file, e.to_string()))?;
        write_atomically(&file, &bytes)?;
    }
    let file = folder.join(CONFIG);
    let json =
        serde_json::to_string_pretty(&manifest).map_err(|e| corrupt(&file, e.to_string()))?;
    write_atomically(&file, format!("{json}\n").as_bytes())?;
    write_atomically(&folder.join("README.md"), readme(&manifest, &resolved, run).as_bytes())
}

fn readme(manifest: &ExportManifest, resolved: &Resolved, run: &RunDir) -> String {
    let last = run.last_metrics().map_or(String::new(), |m| {
        format!(
            "At step {} the loss was {:.4}, SIGReg {:.3}, the effective rank of the projections {:.1}.\n",
            m.step, m.get("loss"), m.get("sigreg"), m.get("effective_rank")
        )
    });
    format!(
        "---\nlibrary_name: lejepa\ntags:\n- lejepa\n- self-supervised\n- {modality}\n---\n\n\
         # {encoder} for {modality}, pretrained with LeJEPA\n\n\
         An encoder of {dim} dimensions, trained without labels with LeJEPA (arXiv 2511.08544) by lejepa \
         {version} on `{source}`, {step} steps. {last}\n\
         * `{WEIGHTS}`: the encoder's weights. Names and layouts are burn's: a linear weight is [in, out].\n\
         * `{CONFIG}`: everything needed to build the encoder and to make its input, a view of shape {view:?}.\n\n\
         ```console\n$ lejepa embed THIS_FOLDER --data files/ --output embeddings.npy\n```\n",
        modality = manifest.modality,
        encoder = manifest.encoders.join(", "),
        dim = manifest.hidden_size,
        version = manifest.lejepa,
        source = Path::new(&resolved.settings().data.source)
            .file_name()
            .map_or("demo".into(), |n| n.to_string_lossy()),
        step = manifest.step,
        view = manifest.view,
    )
}

/// A frozen encoder with everything needed to feed it.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
#[doc = include_str!("doc/run.txt")]
/// use lejepa_train::{Embedder, checkpoint};
///
/// let best = checkpoint::best(&run)?;
/// let embedder = Embedder::from_checkpoint(&run, &best, &registry, &Device::flex())?;
/// assert_eq!(embedder.resolved().settings().modality, "image");
/// let view = embedder.source("demo")?.eval_view(0)?;
/// assert_eq!(embedder.embed_view(&view)?.len(), embedder.dim());
/// let all = embedder.embed("demo", &mut Silent)?;
/// all.write(&folder.path().join("digits.npy"))?;
/// assert!(folder.path().join("digits.npy").is_file());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Embedder {
    resolved: Resolved,
    encoders: Vec<BoxedEncoder>,
    device: Device,
    by_cell: bool,
}

impl Embedder {
    /// Opens an exported folder, or a run (its newest whole checkpoint).
    ///
    /// # Errors
    /// [`TrainError::NotARun`] where it is neither; what is wrong with its files.
    pub fn open(folder: &Path, registry: &Registry, device: &Device) -> Result<Self> {
        if !folder.join(CONFIG).is_file() {
            let run = RunDir::open(folder)?;
            return Self::from_checkpoint(&run, &checkpoint::latest(&run)?, registry, device);
        }
        let file = folder.join(CONFIG);
        let corrupt =
            |path: &Path, reason: String| TrainError::Corrupt { path: path.into(), reason };
        let text = fs::read(&file).map_err(TrainError::io("read", &file))?;
        let manifest: ExportManifest =
            serde_json::from_slice(&text).map_err(|e| corrupt(&file, e.to_string()))?;
        let resolved = Resolved::load(manifest.config, registry)?;
        let device = device.clone().without_autodiff();
        let mut encoders = resolved.encoders(&device)?;
        for (stream, encoder) in resolved.spec().streams().into_iter().zip(&mut encoders) {
            let file = folder.join(weights_file(resolved.spec(), stream));
            let bytes = fs::read(&file).map_err(TrainError::io("read", &file))?;
            let mut store = SafetensorsStore::from_bytes(Some(bytes));
            let loaded = catch_panics(|| encoder.load_from(&mut store).map_err(|e| e.to_string()));
            loaded.and_then(|result| result).map_err(|reason| corrupt(&file, reason))?;
        }
        Ok(Self { resolved, encoders, device, by_cell: false })
    }

    /// The encoder of one checkpoint of a run.
    ///
    /// # Errors
    /// What is wrong with the run's files.
    pub fn from_checkpoint(
        run: &RunDir,
        checkpoint: &Path,
        registry: &Registry,
        device: &Device,
    ) -> Result<Self> {
        let resolved = run.config(registry)?;
        let device = device.clone().without_autodiff();
        let model = checkpoint::load_evaluated(checkpoint, resolved.model(&device)?)?;
        Ok(Self { resolved, encoders: model.encoders, device, by_cell: false })
    }

    /// Embeds each cell of the encoder's grid instead of whole samples: a row for each patch or time step, with the
    /// columns `frame`, `row` and `column`.
    #[must_use]
    pub fn by_cell(mut self) -> Self {
        self.by_cell = true;
        self
    }

    /// Width of an embedding.
    pub fn dim(&self) -> usize {
        self.encoders.iter().map(BoxedEncoder::dim).sum()
    }

    /// The configuration it was trained with.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// Opens data as the encoder was trained to see it: `demo`, a folder or a manifest.
    ///
    /// # Errors
    /// Whatever is wrong with the source.
    pub fn source(&self, source: &str) -> Result<Box<dyn ViewSource>> {
        let source = Source::resolve(source, (self.resolved.modality().build().rule)())?;
        self.resolved.open(source)
    }

    /// Embeds every sample of `demo`, a folder or a manifest, in order.
    ///
    /// # Errors
    /// Whatever is wrong with the source as a whole, or a device failure. A sample that cannot be
    /// read is listed in [`NamedEmbeddings::skipped`].
    pub fn embed(&self, source: &str, observer: &mut dyn Observer) -> Result<NamedEmbeddings> {
        self.embed_source(self.source(source)?.as_ref(), observer)
    }

    /// The same for samples that [`Resolved::open`] has opened.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    pub fn embed_source(
        &self,
        source: &dyn ViewSource,
        observer: &mut dyn Observer,
    ) -> Result<NamedEmbeddings> {
        let all: Vec<usize> = (0..source.len()).collect();
        let made = self.embed_part(source, &all, observer)?;
        match made.names.is_empty() {
            true => Err(nothing_read(source.len(), &made.skipped)),
            false => Ok(made),
        }
    }

    pub(crate) fn embed_part(
        &self,
        source: &dyn ViewSource,
        indices: &[usize],
        observer: &mut dyn Observer,
    ) -> Result<NamedEmbeddings> {
        if self.by_cell {
            return cell_rows(&self.encoders, source, indices, &self.device, observer);
        }
        let out = embed_indices(&self.encoders, source, indices, &self.device, observer)?;
        let labels = source.labels().iter().map(|column| NamedLabels {
            name: column.name.clone(),
            words: out.indices.iter().map(|&index| column.text(index)).collect(),
        });
        Ok(NamedEmbeddings {
            dim: out.dim,
            names: out.indices.iter().map(|&i| source.name(i)).collect(),
            labels: labels.collect(),
            values: out.values,
            places: Vec::new(),
            skipped: out.skipped,
        })
    }

    /// Probes the encoder as [`probe`](crate::probe::probe()) does a model; `source` is data that this encoder's
    /// configuration has opened, in the order of that which `sets` are of.
    ///
    /// # Errors
    /// A device failure.
    pub fn probe(
        &self,
        source: &dyn ViewSource,
        sets: &[ProbeSet],
        config: &ProbeConfig,
        observer: &mut dyn Observer,
    ) -> Result<Vec<ProbeResult>> {
        let indices = members(sets);
        let features = embed_indices(&self.encoders, source, &indices, &self.device, observer)?;
        score(&features, sets, config, &self.device)
    }

    /// Embeds one view, such as [`ViewSource::eval_view`] gives, with the encoder of its stream.
    ///
    /// # Errors
    /// [`TrainError::Core`] for a view of another shape or where there are several streams, or a device
    /// failure.
    pub fn embed_view(&self, view: &View) -> Result<Vec<f32>> {
        let spec = self.resolved.spec();
        spec.check_eval(spec.streams().first().copied().unwrap_or_default(), view)?;
        let frozen: Vec<BoxedEncoder> = self.encoders.iter().map(Module::valid).collect();
        let embedded = model::embed(&frozen, &[vec![view]], &self.device)?;
        Ok(embedded.try_into_vec_as::<f32>()?)
    }

    /// More than a vector of a view of stream `stream`: a vector for each patch or time step, after the last
    /// layer or after others.
    ///
    /// # Errors
    /// [`TrainError::Core`] for a view of another shape, a stream that is not there, or features that the
    /// encoder does not have.
    ///
    /// ```
    #[doc = include_str!("doc/resolved.txt")]
    #[doc = include_str!("doc/run.txt")]
    /// use lejepa_core::{MAIN_STREAM, Wants};
    /// use lejepa_train::Embedder;
    ///
    /// let embedder = Embedder::open(run.path(), &registry, &Device::flex())?;
    /// let view = embedder.source("demo")?.eval_view(0)?;
    /// let features = embedder.features(&view, MAIN_STREAM, &Wants::dense())?;
    /// let cells: usize = features.grid.iter().product();
    /// assert_eq!(features.dense.map(|dense| dense.dims()), Some([1, cells, 24]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn features(&self, view: &View, stream: &str, wants: &Wants) -> Result<Features> {
        let spec = self.resolved.spec();
        spec.check_eval(stream, view)?;
        let at = spec.streams().iter().position(|name| *name == stream);
        let Some(encoder) = at.and_then(|at| self.encoders.get(at)) else {
            let known = spec.streams().into_iter().map(String::from).collect();
            return Err(Error::Unknown { kind: "stream", name: stream.into(), known }.into());
        };
        model::features(&encoder.valid(), &[view], wants, &self.device)
    }
}
