//! Embedding samples with a frozen encoder.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use lejepa_core::{BoxedEncoder, View, ViewSource, ViewSpec};
use rayon::prelude::*;

use crate::Result;
use crate::guard::guarded;
use crate::model::{self, Model};
use crate::observe::{Event, Observer};
use crate::skipped::Skipped;

/// Embeddings of samples, row by row.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Embeddings {
    /// Width of a row.
    pub dim: usize,
    /// The sample of each row.
    pub indices: Vec<usize>,
    /// Row-major values, `indices.len() · dim`.
    pub values: Vec<f32>,
    /// Samples that were asked for and could not be read.
    pub skipped: Vec<Skipped>,
}

impl Embeddings {
    /// The row of each index of the source that has one.
    pub fn rows(&self) -> std::collections::HashMap<usize, &[f32]> {
        self.indices.iter().copied().zip(self.values.chunks_exact(self.dim.max(1))).collect()
    }
}

/// Views embedded at once.
const CHUNK: usize = 128;

/// Embeds the evaluation views of `indices` with the encoder as it is in evaluation: batch norm
/// with running statistics, no dropout.
///
/// # Errors
/// A device failure. A sample that cannot be read is listed in [`Embeddings::skipped`].
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
/// use lejepa_train::embed::embed;
///
/// let device = Device::flex();
/// let digits = resolved.open(lejepa_core::Source::Demo)?;
/// let model = resolved.model(&device)?;
/// let embedded = embed(&model, digits.as_ref(), &[3, 14], &device, &mut Silent)?;
/// assert_eq!(embedded.dim, 24);
/// assert_eq!(embedded.rows()[&14].len(), 24);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn embed(
    model: &Model,
    source: &dyn ViewSource,
    indices: &[usize],
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Embeddings> {
    embed_indices(&model.encoders, source, indices, device, observer)
}

/// Embeddings of evaluation views, row-major, and their projections `[1, samples, dim]`: those of a model with one
/// stream. Samples that cannot be read are left out.
///
/// # Errors
/// A device that fails.
pub fn embed_and_project(
    model: &Model,
    source: &dyn ViewSource,
    spec: &ViewSpec,
    indices: &[usize],
    device: &Device,
) -> Result<(Vec<f32>, Option<Tensor<3>>)> {
    let made = embed(model, source, indices, device, &mut crate::Silent)?;
    let rows = made.indices.len();
    let is_one = model.projectors.len() == 1 && rows > 0;
    let projections = is_one.then(|| {
        let plain = device.clone().without_autodiff();
        let data = TensorData::new(made.values.clone(), [1, rows, made.dim]);
        model.valid().project(spec, vec![Tensor::from_data(data, &plain)])
    });
    Ok((made.values, projections))
}

/// As [`embed`], for encoders without the rest of the model.
pub(crate) fn embed_indices(
    encoders: &[BoxedEncoder],
    source: &dyn ViewSource,
    indices: &[usize],
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Embeddings> {
    let device = device.clone().without_autodiff();
    let frozen: Vec<BoxedEncoder> = encoders.iter().map(Module::valid).collect();
    let dim = frozen.iter().map(BoxedEncoder::dim).sum();
    let mut out = Embeddings { dim, ..Embeddings::default() };
    out.skipped = each_chunk(source, indices, observer, |some, rows| {
        let stream = |s: usize| rows.iter().map(|views| &views[s]).collect();
        let streams: Vec<Vec<_>> = (0..frozen.len()).map(stream).collect();
        let embedded = model::embed(&frozen, &streams, &device)?;
        out.values.extend(embedded.try_into_vec_as::<f32>()?);
        out.indices.extend(some);
        Ok(())
    })?;
    Ok(out)
}

/// Gives `take` the evaluation views of a few samples at a time, those of a sample in the order of streams. Samples
/// that cannot be read are returned.
pub(crate) fn each_chunk(
    source: &dyn ViewSource,
    indices: &[usize],
    observer: &mut dyn Observer,
    mut take: impl FnMut(&[usize], &[Vec<View>]) -> Result<()>,
) -> Result<Vec<Skipped>> {
    let mut skipped = Vec::new();
    for (i, chunk) in indices.chunks(CHUNK).enumerate() {
        let views: Vec<_> = chunk
            .par_iter()
            .map(|&index| guarded(|| source.checked_eval_views(index), || source.name(index)))
            .collect();
        let (mut some, mut rows) = (Vec::new(), Vec::with_capacity(views.len()));
        for (&index, views) in chunk.iter().zip(views) {
            match views {
                Ok(views) => {
                    rows.push(views);
                    some.push(index);
                }
                Err(error) => skipped.push(Skipped::new(source, index, error)),
            }
        }
        if !rows.is_empty() {
            take(&some, &rows)?;
        }
        observer.event(Event::Embedding {
            done: (i * CHUNK + chunk.len()).min(indices.len()),
            total: indices.len(),
        });
    }
    Ok(skipped)
}
