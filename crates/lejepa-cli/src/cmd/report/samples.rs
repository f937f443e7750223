//! What the page shows of the data: views, embeddings and what follows from them.

use image::{ImageFormat, RgbImage};
use lejepa_core::{LabelKind, Labels, Registry, Seed, Wants};
use lejepa_train::label_free::Rows;
use lejepa_train::{Embedder, RunDir, checkpoint, principal_components};

use crate::args::ReportArgs;
use crate::cmd::{pca, views};
use crate::error::CliError;
use crate::sheet;

/// Longest side of a picture of the map, in pixels.
const THUMB: u32 = 56;

/// Neighbours that vote, and that are shown.
const NEIGHBOURS: usize = 10;

/// Samples whose views and features are drawn.
const DRAWN: usize = 4;

/// Samples of a run's data and what its encoder makes of them.
pub(super) struct Samples {
    pub(super) names: Vec<String>,
    /// Pictures as data of a URL.
    pub(super) thumbs: Vec<String>,
    /// The label column, where there is one.
    pub(super) labels: Option<Labels>,
    /// The class of each sample.
    pub(super) classes: Vec<Option<u32>>,
    /// Coordinates of the first two principal components, and of t-SNE, from 0 to 1.
    pub(super) pca: Vec<[f32; 2]>,
    pub(super) tsne: Vec<[f32; 2]>,
    /// Standard deviations along principal components of the embeddings, the largest first.
    pub(super) spectrum: Vec<f64>,
    /// SIGReg of each slice of the projections, ascending, and its expectation for Gaussian ones.
    pub(super) slices: Vec<f64>,
    pub(super) gaussian: f64,
    pub(super) neighbours: Vec<Vec<u32>>,
    /// Contact sheets of views.
    pub(super) sheets: Vec<String>,
    /// Inputs beside the components of their dense features.
    pub(super) maps: Vec<String>,
}

impl Samples {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The class that most of the nearest neighbours of a sample have.
    pub(super) fn vote(&self, sample: usize) -> Option<u32> {
        let labels = self.labels.as_ref()?;
        let mut votes = vec![0; labels.names().len()];
        for &other in &self.neighbours[sample] {
            if let Some(vote) = self.classes[other as usize].and_then(|c| votes.get_mut(c as usize))
            {
                *vote += 1;
            }
        }
        let most = votes.iter().max().filter(|most| **most > 0)?;
        votes.iter().position(|vote| vote == most).map(|class| class as u32)
    }
}

pub(super) fn of(
    run: &RunDir,
    words: &ReportArgs,
    count: usize,
    registry: &Registry,
) -> Result<Samples, CliError> {
    let newest = checkpoint::latest(run)?;
    let resolved = run.config(registry)?;
    let device = words.device.as_deref().unwrap_or(&resolved.settings().device);
    let (device, _) = crate::device::open(crate::device::choose(device)?)?;
    let embedder = Embedder::from_checkpoint(run, &newest, registry, &device)?;
    let place = words.data.as_ref().unwrap_or(&resolved.settings().data.source);
    let source = embedder.source(place)?;
    let is_upwards = resolved.modality().build().draws_upwards;
    let labels = source.labels().iter().find(|c| c.kind() == LabelKind::Classes).cloned();
    let mut made = Samples {
        names: Vec::new(),
        thumbs: Vec::new(),
        classes: Vec::new(),
        labels,
        pca: Vec::new(),
        tsne: Vec::new(),
        spectrum: Vec::new(),
        slices: Vec::new(),
        gaussian: f64::NAN,
        neighbours: Vec::new(),
        sheets: Vec::new(),
        maps: Vec::new(),
    };
    let count = source.len().min(count);
    let mut indices = Vec::new();
    for i in 0..count {
        let index = i * source.len() / count.max(1);
        let Ok(views) = source.checked_eval_views(index) else { continue };
        let Some(view) = views.first() else { continue };
        let frames = sheet::frames(view, is_upwards);
        made.names.push(source.name(index));
        made.thumbs.push(frames.get(frames.len() / 2).map_or_else(String::new, thumb));
        made.classes.push(made.labels.as_ref().and_then(|labels| labels.class(index)));
        indices.push(index);
    }
    let model = checkpoint::load_evaluated(&newest, resolved.model(&device)?)?;
    let plain = device.clone().without_autodiff();
    let (embeddings, projections) = lejepa_train::embed_and_project(
        &model,
        source.as_ref(),
        resolved.spec(),
        &indices,
        &plain,
    )?;
    let dim = model.dim();
    let (scores, _) = principal_components(&embeddings, dim, 2);
    let points: Vec<[f32; 2]> = scores.as_chunks::<2>().0.to_vec();
    made.tsne = unit(tsne(&embeddings, dim, &points));
    made.pca = unit(points);
    let rows = Rows::new(&embeddings, dim);
    made.spectrum = rows.spectrum().into_iter().map(f64::sqrt).collect();
    made.neighbours = rows.neighbours(NEIGHBOURS);
    if let Some(z) = projections {
        let objective = resolved.objective()?;
        let [_, samples, width] = z.dims();
        let axes = objective.axes(&z, Seed(0), 0);
        if let Ok(slices) = objective.sigreg_per_slice(z, axes) {
            let mut slices: Vec<f64> = slices.into_data().iter::<f64>().collect();
            slices.sort_by(f64::total_cmp);
            made.gaussian = objective.gauge(1, samples, width).gaussian;
            made.slices = slices;
        }
    }
    let seed = Seed(resolved.settings().seed);
    for &index in evenly(&indices, DRAWN).iter() {
        if let Ok(drawn) = views::Made::new(source.as_ref(), index, seed) {
            made.sheets.push(data_url(&views::still(&drawn.frames(is_upwards))));
        }
    }
    made.maps = maps(&embedder, source.as_ref(), &evenly(&indices, DRAWN), is_upwards)?;
    Ok(made)
}

fn evenly(indices: &[usize], count: usize) -> Vec<usize> {
    let count = count.min(indices.len());
    (0..count).map(|i| indices[i * indices.len() / count]).collect()
}

/// Inputs beside the first three components of their dense features; none where the encoder has no such.
fn maps(
    embedder: &Embedder,
    source: &dyn lejepa_core::ViewSource,
    indices: &[usize],
    is_upwards: bool,
) -> Result<Vec<String>, CliError> {
    let spec = embedder.resolved().spec();
    let Some(stream) = spec.streams().first().copied() else { return Ok(Vec::new()) };
    let (mut drawn, mut cells, mut width) = (Vec::new(), Vec::new(), 1);
    for &index in indices {
        let Ok(views) = source.checked_eval_views(index) else { continue };
        let Some(view) = views.into_iter().next() else { continue };
        let features = embedder.features(&view, stream, &Wants::dense())?;
        let Some(dense) = features.dense else { continue };
        let [_, _, dim] = dense.dims();
        width = dim;
        drawn.push(pca::Drawn::new(view, &features.grid, cells.len() / dim.max(1)));
        cells.extend(dense.try_into_vec_as::<f32>().map_err(lejepa_train::TrainError::from)?);
    }
    let (scores, shares) = principal_components(&cells, width, 3);
    let colours = pca::levels(&scores, shares.len());
    let picture = |drawn: &pca::Drawn| {
        let rows = vec![vec![drawn.frames(is_upwards), drawn.cells(&colours, is_upwards)]];
        data_url(&views::still(&rows))
    };
    Ok(drawn.iter().map(picture).collect())
}

/// Coordinates scaled to 0 to 1.
fn unit(points: Vec<[f32; 2]>) -> Vec<[f32; 2]> {
    let range = |axis: usize| {
        let values = || points.iter().map(|p| p[axis]);
        let (low, high) =
            (values().fold(f32::INFINITY, f32::min), values().fold(f32::NEG_INFINITY, f32::max));
        (low, if high > low { high - low } else { 1.0 })
    };
    let [x, y] = [range(0), range(1)];
    points.iter().map(|p| [(p[0] - x.0) / x.1, (p[1] - y.0) / y.1]).collect()
}

/// t-SNE from the principal components, so that it is the same each time; empty for few samples.
fn tsne(embeddings: &[f32], dim: usize, start: &[[f32; 2]]) -> Vec<[f32; 2]> {
    let rows: Vec<&[f32]> = embeddings.chunks_exact(dim.max(1)).collect();
    let count = rows.len();
    if count < 20 {
        return Vec::new();
    }
    // Small, as published: van der Maaten and Hinton 2008.
    let spread = start.iter().map(|p| p[0] * p[0]).sum::<f32>() / count as f32;
    let scale = 1e-2 / spread.sqrt().max(1e-12);
    let start: Vec<f32> = start.iter().flatten().map(|v| v * scale).collect();
    let distance =
        |a: &&[f32], b: &&[f32]| a.iter().zip(*b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
    let mut tsne = bhtsne::tSNE::<f32, &[f32], 2>::new(&rows);
    tsne.perplexity((count as f32 / 5.0).clamp(4.0, 30.0)).epochs(500).initial_embedding(start);
    tsne.exact(distance);
    tsne.embedding().as_chunks::<2>().0.to_vec()
}

fn thumb(picture: &RgbImage) -> String {
    let longest = picture.width().max(picture.height()).max(1);
    let scaled = |side: u32| (side * THUMB / longest).max(1);
    let (width, height) = (scaled(picture.width()), scaled(picture.height()));
    data_url(&image::imageops::resize(picture, width, height, image::imageops::Triangle))
}

/// A picture within the page.
fn data_url(picture: &RgbImage) -> String {
    let mut png = std::io::Cursor::new(Vec::new());
    if picture.write_to(&mut png, ImageFormat::Png).is_err() {
        return String::new();
    }
    use base64::Engine;
    format!(
        "data:image/png;base64,{}",
        base64::engine::general_purpose::STANDARD.encode(png.get_ref())
    )
}
