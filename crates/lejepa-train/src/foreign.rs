//! Weights of other libraries: into an encoder, and out of a run.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::Device;
use lejepa_core::{
    Array, Arrays, BoxedEncoder, Error, Normalization, Published, Registry, Table, kind,
};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::{Value, json};

use crate::guard::catch_panics;
use crate::resolved::Resolved;
use crate::rundir::{RunDir, write_atomically};
use crate::{Result, TrainError, checkpoint};

/// Whether a file begins as safetensors do: the length of a header, and its brace.
pub(crate) fn is_safetensors(start: &[u8]) -> bool {
    let length = start.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    length.is_some_and(|length| (2..1 << 30).contains(&length)) && start.get(8) == Some(&b'{')
}

fn corrupt(path: &Path, reason: impl ToString) -> TrainError {
    TrainError::Corrupt { path: path.into(), reason: reason.to_string() }
}

/// The floating-point arrays of a safetensors file; `None` for another kind of file, but an error for a pickle.
pub(crate) fn read_arrays(file: &Path) -> Result<Option<Arrays>> {
    // Weights of our own are not read twice.
    let mut start = Vec::new();
    let opened = fs::File::open(file).map_err(TrainError::io("read", file))?;
    opened.take(9).read_to_end(&mut start).map_err(TrainError::io("read", file))?;
    // A zip of pickles, or a pickle: code that would have to be run.
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"\x80\x02") {
        return Err(TrainError::Core(Error::path(
            file,
            "these weights are pickled, which cannot be read safely",
            "save them with safetensors.torch.save_file(model.state_dict(), \"model.safetensors\")",
        )));
    }
    if !is_safetensors(&start) {
        return Ok(None);
    }
    let bytes = fs::read(file).map_err(TrainError::io("read", file))?;
    arrays_of(&bytes).map(Some).map_err(|reason| corrupt(file, reason))
}

fn arrays_of(bytes: &[u8]) -> Result<Arrays, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("no safetensors: {e}"))?;
    let mut arrays = Arrays::new();
    for (name, view) in file.iter() {
        // Counters and the like are whole numbers.
        let Some(values) = values(&view) else { continue };
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(format!("`{name}` has a value that is {bad}"));
        }
        let array = Array::new(view.shape(), values);
        arrays.insert(name.to_string(), array.ok_or_else(|| format!("`{name}` has no shape"))?);
    }
    Ok(arrays)
}

fn values(view: &TensorView<'_>) -> Option<Vec<f32>> {
    fn all<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| number(*chunk)).collect()
    }
    let bytes = view.data();
    match view.dtype() {
        Dtype::F32 => Some(all(bytes, f32::from_le_bytes)),
        Dtype::F64 => Some(all(bytes, |b| f64::from_le_bytes(b) as f32)),
        Dtype::F16 => Some(all(bytes, |b| half::f16::from_le_bytes(b).to_f32())),
        Dtype::BF16 => Some(all(bytes, |b| half::bf16::from_le_bytes(b).to_f32())),
        _ => None,
    }
}

fn bytes_of(arrays: &Arrays) -> Result<Vec<u8>, String> {
    let raw: Vec<(&String, &[usize], Vec<u8>)> = arrays
        .iter()
        .map(|(name, array)| {
            let bytes = array.values().iter().flat_map(|v| v.to_le_bytes()).collect();
            (name, array.shape(), bytes)
        })
        .collect();
    let views = raw
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    views.and_then(|views| serialize(views, None)).map_err(|e| e.to_string())
}

/// An encoder's weights by their own names.
fn arrays_of_encoder(encoder: &BoxedEncoder) -> Result<Arrays, String> {
    let mut store = SafetensorsStore::from_bytes(None);
    encoder.save_into(&mut store).map_err(|e| e.to_string())?;
    arrays_of(&store.get_bytes().map_err(|e| e.to_string())?)
}

/// Names and shapes of the tensors of a safetensors file, by its header alone.
///
/// # Errors
/// [`TrainError::Io`]; [`TrainError::Corrupt`] for another kind of file.
pub fn tensors_of(file: &Path) -> Result<Vec<(String, Vec<usize>)>> {
    let corrupt = |reason: String| TrainError::Corrupt { path: file.to_path_buf(), reason };
    let mut opened = std::fs::File::open(file).map_err(TrainError::io("read", file))?;
    let whole = opened.metadata().map_err(TrainError::io("read", file))?.len();
    let mut start = vec![0; 8];
    opened.read_exact(&mut start).map_err(|_| corrupt("it is cut short".into()))?;
    let length = start.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if length > whole.saturating_sub(8) {
        return Err(corrupt("no safetensors: its header is longer than the file".into()));
    }
    opened.take(length).read_to_end(&mut start).map_err(TrainError::io("read", file))?;
    let header: HashMap<String, Value> = serde_json::from_slice(&start[8..])
        .map_err(|_| corrupt("no safetensors: its header is no JSON".into()))?;
    let mut all = Vec::new();
    for (name, tensor) in header {
        if name == "__metadata__" {
            continue;
        }
        let shape = serde_json::from_value(tensor["shape"].clone())
            .map_err(|_| corrupt(format!("no safetensors: `{name}` has no shape")))?;
        all.push((name, shape));
    }
    all.sort();
    Ok(all)
}

/// Loads the arrays of a safetensors file into an encoder: its own names and shapes, or those in which such
/// encoders are published. What did not fit is in the notes.
pub(crate) fn load_arrays(
    file: &Path,
    foreign: Arrays,
    encoder: &mut BoxedEncoder,
) -> Result<Vec<String>> {
    let own = arrays_of_encoder(encoder).map_err(|reason| corrupt(file, reason))?;
    let (arrays, notes) = if own.keys().eq(foreign.keys()) {
        (foreign, Vec::new())
    } else {
        let published = encoder.published().ok_or_else(|| {
            let reason = "this encoder has no published counterpart whose weights it could take";
            TrainError::Core(Error::bad_value("encoder.name", reason))
        })?;
        let imported = published.import(foreign, &own)?;
        (imported.arrays, imported.notes)
    };
    let bytes = bytes_of(&arrays).map_err(|reason| corrupt(file, reason))?;
    let mut store = SafetensorsStore::from_bytes(Some(bytes));
    let loaded = catch_panics(|| encoder.load_from(&mut store).map_err(|e| e.to_string()));
    loaded.and_then(|result| result).map_err(|reason| corrupt(file, reason))?;
    Ok(notes)
}

/// The settings of `[encoder]` that a file of published weights needs; `None` where it is another kind of file, or
/// no encoder knows them.
///
/// # Errors
/// [`TrainError::Corrupt`] for a damaged file.
pub(crate) fn settings_of(file: &Path, registry: &Registry) -> Result<Option<Table>> {
    // What is not there is said where it is needed.
    let Some(arrays) = file.is_file().then(|| read_arrays(file)).transpose()?.flatten() else {
        return Ok(None);
    };
    let mut all = registry.all::<kind::Encoder>();
    let found = all.find_map(|item| (item.entry::<kind::Encoder>()?.build().recognise)(&arrays));
    Ok(found.map(|mut settings| {
        // Shapes do not tell how many there are.
        if let (Some(heads), Some(told)) = (settings.get_mut("heads"), told_heads(file)) {
            *heads = told.into();
        }
        settings
    }))
}

/// Attention heads by the `config.json` beside the weights, as timm and transformers write it.
fn told_heads(file: &Path) -> Option<i64> {
    let text = fs::read_to_string(file.with_file_name("config.json")).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    let places = ["/model_args/num_heads", "/num_attention_heads"];
    places.iter().find_map(|place| config.pointer(place)?.as_i64()).filter(|heads| *heads > 0)
}

/// An encoder of a run on its way to other programs.
struct Outgoing {
    resolved: Resolved,
    encoder: BoxedEncoder,
    own: Arrays,
    published: Box<dyn Published>,
}

/// Reads what an export needs; nothing is written before it is known that the encoder can be exported.
fn outgoing(
    run: &RunDir,
    checkpoint: &Path,
    folder: &Path,
    registry: &Registry,
    refusal: &str,
) -> Result<Outgoing> {
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(TrainError::OutputExists(folder.to_path_buf()));
    }
    let resolved = run.config(registry)?;
    let mut model = checkpoint::load_evaluated(checkpoint, resolved.model(&Device::flex())?)?;
    let refused = |reason: &str| TrainError::Core(Error::bad_value("encoder.name", reason));
    let encoder = model.encoders.pop().filter(|_| model.encoders.is_empty());
    let encoder = encoder.ok_or_else(|| refused("several encoders cannot be one model"))?;
    let published = encoder.published().ok_or_else(|| refused(refusal))?;
    let own = arrays_of_encoder(&encoder).map_err(|reason| corrupt(checkpoint, reason))?;
    Ok(Outgoing { resolved, encoder, own, published })
}

fn write_json(file: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| corrupt(file, e))?;
    write_atomically(file, format!("{text}\n").as_bytes())
}

/// Writes the encoder of a checkpoint to a new folder as timm has such encoders: `model.safetensors` with its
/// names, `config.json`, and a `README.md` with a few lines of Python that use them.
///
/// # Errors
/// [`TrainError::OutputExists`] where `folder` holds something; [`TrainError::Core`] for an encoder that timm does
/// not have, or several of them.
pub fn export_timm(
    run: &RunDir,
    checkpoint: &Path,
    folder: &Path,
    registry: &Registry,
) -> Result<()> {
    let refusal = "timm has no such encoder: only vit, resnet and convnext can be exported";
    let from = outgoing(run, checkpoint, folder, registry, refusal)?;
    let out = from.published.export(&from.own)?;
    let config = json!({
        "architecture": out.architecture,
        "num_classes": 0,
        "num_features": from.encoder.dim(),
        "model_args": out.arguments,
        "pretrained_cfg": pretrained(&from.resolved),
    });
    let weights = bytes_of(&out.arrays).map_err(|reason| corrupt(folder, reason))?;
    fs::create_dir_all(folder).map_err(TrainError::io("create", folder))?;
    write_atomically(&folder.join("model.safetensors"), &weights)?;
    write_json(&folder.join("config.json"), &config)?;
    write_atomically(&folder.join("README.md"), timm_readme(&out.architecture).as_bytes())
}

/// Writes the encoder of a checkpoint to a new folder as ONNX: `model.onnx` with the normalisation of the
/// evaluation view in the graph, `config.json`, and a `README.md` with a few lines of Python that use them. With
/// `front_end` the graph begins with the samples of a signal of which views are spectrograms.
///
/// # Errors
/// [`TrainError::OutputExists`] where `folder` holds something; [`TrainError::Core`] for an encoder that has no
/// graph, or several of them, and for a `front_end` where views are no spectrograms.
pub fn export_onnx(
    run: &RunDir,
    checkpoint: &Path,
    folder: &Path,
    front_end: bool,
    registry: &Registry,
) -> Result<()> {
    let from = outgoing(run, checkpoint, folder, registry, "this encoder has no ONNX graph")?;
    let shape = from.resolved.spec().shape();
    let normalization = normalization(&from.resolved).unwrap_or_else(Normalization::none);
    let mut file = from.published.onnx(&from.own, &shape, &normalization)?;
    let mut input = json!({ "name": "view", "shape": shape });
    let mut what = match from.resolved.modality().name() {
        "image" => "Pixels of 0 to 1".to_string(),
        "audio" => {
            "The natural logarithm of the mel spectrogram, as `config.json` describes it".into()
        }
        _ => "Values before mean and standard deviation of `config.json`".into(),
    };
    if front_end {
        let Some(front) = from.resolved.front_end() else {
            let reason = "its views are no spectrograms of a signal: export without the front end";
            let name = from.resolved.modality().name();
            return Err(TrainError::Core(Error::bad_value(name, reason)));
        };
        file = lejepa_nn::with_front_end(&file, &front)?;
        let (samples, rate) = (front.samples(), front.sample_rate);
        input = json!({ "name": "waveform", "shape": [samples], "sample_rate": rate });
        what = format!("{samples} samples of -1 to 1 at {rate} a second");
    }
    let config = json!({
        "lejepa": env!("CARGO_PKG_VERSION"),
        "modality": from.resolved.modality().name(),
        "encoder": from.resolved.encoder_names(),
        "input": input,
        "output": { "name": "embedding", "width": from.encoder.dim() },
        "config": from.resolved.table(),
    });
    fs::create_dir_all(folder).map_err(TrainError::io("create", folder))?;
    write_atomically(&folder.join("model.onnx"), &file)?;
    write_json(&folder.join("config.json"), &config)?;
    write_atomically(&folder.join("README.md"), onnx_readme(&what, front_end).as_bytes())
}

/// Mean and standard deviation that the views of a run are normalised with: `mean` and `std` of the modality's
/// section, where it has them.
fn normalization(resolved: &Resolved) -> Option<Normalization> {
    let section = resolved.table().get(resolved.modality().name())?.as_table()?;
    let numbers = |key: &str| -> Option<Vec<f64>> {
        match section.get(key)? {
            lejepa_core::Value::Array(all) => all.iter().map(|v| v.as_float()).collect(),
            one => Some(vec![one.as_float()?]),
        }
    };
    Some(Normalization { mean: numbers("mean")?, std: numbers("std")? })
}

/// Size and normalisation of the input, for those who make it.
fn pretrained(resolved: &Resolved) -> Value {
    let shape = resolved.spec().shape();
    let mut pretrained = json!({
        "input_size": shape, "num_classes": 0, "interpolation": "bilinear", "crop_pct": 1.0,
    });
    if let Some(Normalization { mean, std }) = normalization(resolved) {
        let channels = shape.first().copied().unwrap_or(1);
        let of = |all: &[f64]| -> Vec<f64> {
            (0..channels).filter_map(|c| all.get(c).or(all.last()).copied()).collect()
        };
        pretrained["mean"] = of(&mean).into();
        pretrained["std"] = of(&std).into();
    }
    pretrained
}

fn onnx_readme(input: &str, front_end: bool) -> String {
    let (name, shape) = match front_end {
        true => ("waveform", "[batch, samples]"),
        false => ("view", "[batch, channels, ...]"),
    };
    format!(
        "# An encoder pretrained with LeJEPA, as ONNX\n\n\
         `{name}` is `{shape}` of 32-bit floats: {input}. Normalisation is in the graph; `embedding` is\n\
         `[batch, width]`.\n\n\
         ```python\n\
         import json, numpy, onnxruntime\n\n\
         config = json.load(open(\"config.json\"))\n\
         session = onnxruntime.InferenceSession(\"model.onnx\")\n\
         inputs = numpy.random.rand(2, *config[\"input\"][\"shape\"]).astype(\"float32\")\n\
         embeddings = session.run([\"embedding\"], {{\"{name}\": inputs}})[0]\n\
         print(embeddings.shape)\n\
         ```\n"
    )
}

fn timm_readme(architecture: &str) -> String {
    format!(
        "# {architecture}, pretrained with LeJEPA\n\n\
         ```python\n\
         import json, timm, torch\n\
         from safetensors.torch import load_file\n\n\
         config = json.load(open(\"config.json\"))\n\
         model = timm.create_model(config[\"architecture\"], **config[\"model_args\"])\n\
         model.load_state_dict(load_file(\"model.safetensors\"))\n\
         model.eval()\n\n\
         # Pictures of 0 to 1, [batch, channels, height, width].\n\
         pretrained = config[\"pretrained_cfg\"]\n\
         mean, std = (torch.tensor(pretrained[k]).view(1, -1, 1, 1) for k in (\"mean\", \"std\"))\n\
         pictures = torch.rand(2, *pretrained[\"input_size\"])\n\
         with torch.no_grad():\n    \
             embeddings = model((pictures - mean) / std)\n\
         print(embeddings.shape)\n\
         ```\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_go_out_and_in() {
        let arrays: Arrays = [
            ("a".to_string(), Array::new([2, 3], vec![1.0, -2.0, 3.5, 0.0, 1e-20, 7.0]).unwrap()),
            ("b.c".to_string(), Array::new([1], vec![4.0]).unwrap()),
        ]
        .into();
        let bytes = bytes_of(&arrays).unwrap();
        assert!(is_safetensors(&bytes));
        assert_eq!(arrays_of(&bytes).unwrap(), arrays);
        assert!(arrays_of(&bytes[..bytes.len() - 3]).is_err());
        assert!(!is_safetensors(b"PK\x03\x04 a zip of pickles"));
        let d = tempfile::tempdir().unwrap();
        let file = d.path().join("model.pth");
        fs::write(&file, b"PK\x03\x04 a zip of pickles").unwrap();
        let error = read_arrays(&file).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("save_file")), "{error}");
        fs::write(&file, b"weights of our own").unwrap();
        assert!(read_arrays(&file).unwrap().is_none());
    }

    #[test]
    fn half_precision_is_read_and_what_is_not_finite_is_refused() {
        let of = |dtype, bytes: &[u8]| {
            let view = TensorView::new(dtype, vec![2], bytes).unwrap();
            arrays_of(&serialize([("x", view)], None).unwrap())
        };
        let half: Vec<u8> =
            [1.5, -2.0].iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(of(Dtype::F16, &half).unwrap()["x"].values(), [1.5, -2.0]);
        let brain: Vec<u8> =
            [1.5, -2.0].iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(of(Dtype::BF16, &brain).unwrap()["x"].values(), [1.5, -2.0]);
        let nan: Vec<u8> = [f32::NAN, 1.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(of(Dtype::F32, &nan).unwrap_err().contains("NaN"));
        assert!(of(Dtype::I64, &[0; 16]).unwrap().is_empty());
    }
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod published;
