//! Samples in memory: arrays as the files that a modality reads, without loss.

use std::path::PathBuf;

use lejepa::core::{Blob, BlobStore, Error};
use lejepa::image::Picture;
use numpy::{PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::refused;

/// Files by their paths.
pub(crate) struct Files(pub(crate) Vec<PathBuf>);

impl BlobStore for Files {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn name(&self, index: usize) -> String {
        self.0.get(index).map_or(String::new(), |path| path.display().to_string())
    }
    fn blob(&self, index: usize) -> Result<Blob<'_>, Error> {
        let path =
            self.0.get(index).ok_or_else(|| Error::sample(index.to_string(), "no such sample"))?;
        Ok(Blob::file(path))
    }
}

/// Files in memory.
pub(crate) struct Encoded(pub(crate) Vec<Vec<u8>>);

impl BlobStore for Encoded {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn name(&self, index: usize) -> String {
        format!("array {index}")
    }
    fn blob(&self, index: usize) -> Result<Blob<'_>, Error> {
        let bytes =
            self.0.get(index).ok_or_else(|| Error::sample(index.to_string(), "no such sample"))?;
        Ok(Blob::bytes(self.name(index), &bytes[..]))
    }
}

/// An array as a file of a modality: 8-bit pictures `[height, width]` or `[height, width, 1 or 3]`, sounds of 32-bit
/// floats `[samples]` or `[channels, samples]`.
pub(crate) fn encode(
    array: &Bound<'_, PyAny>,
    modality: &str,
    rate: Option<u32>,
) -> PyResult<Vec<u8>> {
    match modality {
        "image" => {
            let array: PyReadonlyArrayDyn<'_, u8> = array.extract().map_err(|_| {
                refused(format!("pictures are arrays of uint8, not {}", kind(array)))
            })?;
            let array = array.as_array();
            let (height, width, channels) = match *array.shape() {
                [height, width] => (height, width, 1),
                [height, width, channels @ (1 | 3)] => (height, width, channels),
                ref other => {
                    return Err(refused(format!(
                        "pictures are [height, width] or [height, width, 1 or 3], not {other:?}"
                    )));
                }
            };
            let pixels = array.iter().copied().collect();
            let picture = Picture::new(width, height, channels, pixels);
            let picture = picture.ok_or_else(|| refused("the picture is empty"))?;
            png(&picture)
        }
        "audio" => {
            let rate = rate.filter(|rate| *rate > 0);
            let rate = rate.ok_or_else(|| refused("sounds need `rate`, in samples a second"))?;
            let array: PyReadonlyArrayDyn<'_, f32> = array.extract().map_err(|_| {
                refused(format!("sounds are arrays of float32, not {}", kind(array)))
            })?;
            let array = array.as_array();
            let (channels, samples) = match *array.shape() {
                [samples] => (1, samples),
                [channels, samples] => (channels, samples),
                ref other => {
                    return Err(refused(format!(
                        "sounds are [samples] or [channels, samples], not {other:?}"
                    )));
                }
            };
            let values: Vec<f32> = array.iter().copied().collect();
            wav(&values, channels, samples, rate)
        }
        other => Err(refused(format!(
            "arrays of the modality `{other}` cannot be embedded; `embed_views` takes prepared views"
        ))),
    }
}

fn kind(array: &Bound<'_, PyAny>) -> String {
    match array.cast::<PyUntypedArray>() {
        Ok(array) => array.dtype().to_string(),
        Err(_) => array.get_type().to_string(),
    }
}

fn png(picture: &Picture) -> PyResult<Vec<u8>> {
    use image::{ColorType, ImageEncoder};
    let color = if picture.channels() == 1 { ColorType::L8 } else { ColorType::Rgb8 };
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    let sides = [picture.width(), picture.height()].map(u32::try_from);
    let [Ok(width), Ok(height)] = sides else { return Err(refused("the picture is too large")) };
    let written = encoder.write_image(&picture.pixels(), width, height, color.into());
    written.map_err(|e| refused(e.to_string()))?;
    Ok(bytes)
}

fn wav(values: &[f32], channels: usize, samples: usize, rate: u32) -> PyResult<Vec<u8>> {
    let Ok(count) = u16::try_from(channels) else { return Err(refused("too many channels")) };
    let spec = hound::WavSpec {
        channels: count,
        sample_rate: rate,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut file = std::io::Cursor::new(Vec::new());
    let written = (|| {
        let mut writer = hound::WavWriter::new(&mut file, spec)?;
        for at in 0..samples {
            for channel in 0..channels {
                writer.write_sample(values[channel * samples + at])?;
            }
        }
        writer.finalize()
    })();
    written.map_err(|e: hound::Error| refused(e.to_string()))?;
    Ok(file.into_inner())
}
