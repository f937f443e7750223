//! Features of cells: all of them, and those of the last layers pooled.

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::Device;
use lejepa_core::{BoxedEncoder, Error, View, ViewSource, Wants};

use crate::Result;
use crate::config::ProbeConfig;
use crate::data::ProbeSet;
use crate::embed::{Embeddings, each_chunk};
use crate::model::{self, Model};
use crate::named::{NamedEmbeddings, NamedLabels, NamedNumbers};
use crate::observe::Observer;
use crate::probe::{ProbeResult, members, score};

/// Dense features of samples.
#[derive(Debug)]
pub(crate) struct Cells {
    /// Cells of a sample.
    pub(crate) count: usize,
    /// Numbers of a cell.
    pub(crate) dim: usize,
    /// The sample of each row.
    pub(crate) indices: Vec<usize>,
    /// Row-major values, `indices.len() · count · dim`.
    pub(crate) values: Vec<f32>,
}

impl Cells {
    /// The cells of each sample that has a row.
    pub(crate) fn rows(&self) -> HashMap<usize, &[f32]> {
        let width = (self.count * self.dim).max(1);
        self.indices.iter().copied().zip(self.values.chunks_exact(width)).collect()
    }
}

/// Numbers that are kept at most; beyond, neighbouring cells are averaged.
const MOST: usize = 1 << 28;

fn one_stream(encoders: &[BoxedEncoder]) -> Result<BoxedEncoder> {
    match encoders {
        [encoder] => Ok(encoder.valid()),
        _ => {
            let reason = "features of cells are those of one stream, and this run has several";
            Err(Error::bad_value("encoder.name", reason).into())
        }
    }
}

/// Dense features of the evaluation views of `indices`.
pub(crate) fn cells(
    encoders: &[BoxedEncoder],
    source: &dyn ViewSource,
    indices: &[usize],
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Cells> {
    let encoder = one_stream(encoders)?;
    let device = device.clone().without_autodiff();
    let mut out = Cells { count: 0, dim: 0, indices: Vec::new(), values: Vec::new() };
    let mut together = 1;
    each_chunk(source, indices, observer, |some, views| {
        let first: Vec<&View> = views.iter().filter_map(|all| all.first()).collect();
        let features = model::features(&encoder, &first, &Wants::dense(), &device)?;
        let dense = features.dense.ok_or_else(|| {
            Error::bad_value("encoder.name", "this encoder does not support dense features")
        })?;
        let [_, count, dim] = dense.dims();
        if out.count == 0 {
            together = (indices.len() * count * dim).div_ceil(MOST).max(1);
            (out.count, out.dim) = (count.div_ceil(together), dim);
        }
        if (count.div_ceil(together), dim) != (out.count, out.dim) {
            let reason = "features of cells are those of views of one length";
            return Err(Error::bad_value("encoder.name", reason).into());
        }
        let values = dense.try_into_vec_as::<f32>()?;
        for row in values.chunks_exact(count * dim) {
            for some in row.chunks(together * dim) {
                let cells = (some.len() / dim) as f32;
                let mean = |d| some.iter().skip(d).step_by(dim).sum::<f32>() / cells;
                out.values.extend((0..dim).map(mean));
            }
        }
        out.indices.extend(some);
        Ok(())
    })?;
    Ok(out)
}

/// A row for each cell of each sample, with its place.
pub(crate) fn cell_rows(
    encoders: &[BoxedEncoder],
    source: &dyn ViewSource,
    indices: &[usize],
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<NamedEmbeddings> {
    let encoder = one_stream(encoders)?;
    let device = device.clone().without_autodiff();
    let mut out = NamedEmbeddings {
        dim: 0,
        names: Vec::new(),
        values: Vec::new(),
        places: ["frame", "row", "column"].map(|name| NamedNumbers::new(name, Vec::new())).to_vec(),
        labels: source.labels().iter().map(|c| NamedLabels::new(&c.name, Vec::new())).collect(),
        skipped: Vec::new(),
    };
    out.skipped = each_chunk(source, indices, observer, |some, views| {
        for (&index, views) in some.iter().zip(views) {
            let Some(view) = views.first() else { continue };
            let features = model::features(&encoder, &[view], &Wants::dense(), &device)?;
            let Some(dense) = features.dense else { continue };
            let [_, count, dim] = dense.dims();
            out.dim = dim;
            out.values.extend(dense.try_into_vec_as::<f32>()?);
            // The last axes of the grid are rows and columns.
            let mut sizes = [1; 3];
            for (size, axis) in sizes.iter_mut().rev().zip(features.grid.iter().rev()) {
                *size = *axis;
            }
            let [_, rows, columns] = sizes;
            for cell in 0..count {
                let place = [cell / (rows * columns), cell / columns % rows, cell % columns];
                for (column, value) in out.places.iter_mut().zip(place) {
                    column.values.push(value as f64);
                }
            }
            out.names.extend(std::iter::repeat_n(source.name(index), count));
            for (column, labels) in out.labels.iter_mut().zip(source.labels()) {
                column.words.extend(std::iter::repeat_n(labels.text(index), count));
            }
        }
        Ok(())
    })?;
    Ok(out)
}

/// The means over cells after each of the last `count` layers, each scaled to mean 0 and variance 1 (layer norm), one
/// after the other; as many as the encoder has.
fn pooled_layers(
    encoders: &[BoxedEncoder],
    source: &dyn ViewSource,
    indices: &[usize],
    count: usize,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Embeddings> {
    let encoder = one_stream(encoders)?;
    let device = device.clone().without_autodiff();
    let mut out = Embeddings::default();
    let mut layers: Option<Vec<usize>> = None;
    out.skipped = each_chunk(source, indices, observer, |some, views| {
        let first: Vec<&View> = views.iter().filter_map(|all| all.first()).collect();
        if layers.is_none() {
            let has = |layer: usize| {
                model::features(&encoder, &first[..1], &Wants::pooled().layers([layer]), &device)
            };
            has(0)?;
            let depth = (1..MOST_LAYERS).find(|&layer| has(layer).is_err()).unwrap_or(MOST_LAYERS);
            layers = Some((depth.saturating_sub(count)..depth).collect());
        }
        let wants = Wants::pooled().layers(layers.clone().unwrap_or_default());
        let features = model::features(&encoder, &first, &wants, &device)?;
        let mut pooled = Vec::new();
        for layer in features.layers {
            let [_, _, width] = layer.dims();
            let means = layer.mean_dim(1).squeeze_dim::<2>(1).try_into_vec_as::<f32>()?;
            pooled.push((width, means));
        }
        out.dim = pooled.iter().map(|(width, _)| width).sum();
        for row in 0..some.len() {
            for (width, means) in &pooled {
                out.values.extend(normed(&means[row * width..(row + 1) * width]));
            }
        }
        out.indices.extend(some);
        Ok(())
    })?;
    Ok(out)
}

/// Probes of the last `count` layers of an encoder: of the means over cells after each of them, each with a layer norm,
/// side by side, as published evaluations take them (Oquab et al., arXiv 2304.07193, appendix B.3).
///
/// # Errors
/// [`TrainError::Core`](crate::TrainError::Core) where the encoder does not tell its layers, or there are several
/// streams; a device failure.
pub fn probe_layers(
    model: &Model,
    source: &dyn ViewSource,
    sets: &[ProbeSet],
    count: usize,
    config: &ProbeConfig,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Vec<ProbeResult>> {
    let indices = members(sets);
    let features = pooled_layers(&model.encoders, source, &indices, count, device, observer)?;
    score(&features, sets, config, device)
}

/// More than any encoder has.
const MOST_LAYERS: usize = 256;

fn normed(row: &[f32]) -> impl Iterator<Item = f32> {
    let n = row.len().max(1) as f32;
    let mean = row.iter().sum::<f32>() / n;
    let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n;
    let scale = 1.0 / (variance + 1e-6).sqrt();
    row.iter().map(move |v| (v - mean) * scale)
}
