//! `lejepa pca`: the first principal components of dense features as colours, beside the views.

use image::{Rgb, RgbImage};
use lejepa_core::{Registry, Source, View, Wants};
use lejepa_train::{Embedder, TrainError, principal_components};
use serde_json::{Value, json};

use super::views::{file_name, listing, write};
use crate::args::{Args, PcaArgs};
use crate::error::CliError;
use crate::output::outln;
use crate::sheet;

/// Shares of the scores that are drawn as black and as full: single cells must not take all the range.
const RANGE: [f64; 2] = [0.01, 0.99];

/// A view with the scores of its cells.
pub(super) struct Drawn {
    view: View,
    /// Cells along time, height and width.
    grid: [usize; 3],
    /// First cell in the rows of its stream.
    first: usize,
}

impl Drawn {
    /// A view and the first of its cells among the rows of its stream.
    pub(super) fn new(view: View, grid: &[usize], first: usize) -> Self {
        let mut three = [1; 3];
        let axes = grid.len().min(3);
        three[3 - axes..].copy_from_slice(&grid[grid.len() - axes..]);
        Self { view, grid: three, first }
    }

    pub(super) fn frames(&self, is_upwards: bool) -> Vec<RgbImage> {
        sheet::frames(&self.view, is_upwards)
    }
}

pub(super) fn run(args: &Args, words: &PcaArgs, registry: &Registry) -> Result<Value, CliError> {
    let device = words.device.as_deref().unwrap_or("auto");
    let (device, _) = crate::device::open(crate::device::choose(device)?)?;
    let embedder = Embedder::open(&words.model, registry, &device)?;
    let resolved = embedder.resolved();
    let folder = &words.output;
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(TrainError::OutputExists(folder.clone()).into());
    }
    let listed = (!words.files.is_empty()).then(|| listing(&words.files)).transpose()?;
    let place = match (&listed, &words.data) {
        (Some(file), _) => file.path().display().to_string(),
        (None, Some(data)) => data.clone(),
        (None, None) => resolved.settings().data.source.clone(),
    };
    let source = Source::resolve(&place, (resolved.modality().build().rule)())?;
    let source = resolved.open(source)?;
    let streams = resolved.spec().streams();
    let count = source.len().min(words.samples.max(1));
    // For each stream, the views and the features of their cells, row by row.
    let mut views: Vec<Vec<Option<Drawn>>> = streams.iter().map(|_| Vec::new()).collect();
    let mut rows: Vec<(usize, Vec<f32>)> = vec![(0, Vec::new()); streams.len()];
    let (mut names, mut skipped) = (Vec::new(), Vec::new());
    for i in 0..count {
        let index = i * source.len() / count;
        let made = match source.checked_eval_views(index) {
            Ok(made) => made,
            Err(error) => {
                skipped.push(error.to_string());
                continue;
            }
        };
        names.push(format!("{i:03}-{}", file_name(&source.name(index))));
        for (at, (stream, view)) in streams.iter().zip(made).enumerate() {
            let features = embedder.features(&view, stream, &Wants::dense())?;
            let (width, cells) = &mut rows[at];
            let drawn = features.dense.map(|dense| -> Result<_, TrainError> {
                let [_, _, dim] = dense.dims();
                let first = cells.len() / dim.max(1);
                *width = dim;
                cells.extend(dense.try_into_vec_as::<f32>()?);
                Ok(Drawn::new(view, &features.grid, first))
            });
            views[at].push(drawn.transpose()?);
        }
    }
    std::fs::create_dir_all(folder).map_err(TrainError::io("create", folder))?;
    let mut explained = serde_json::Map::new();
    let mut colours = Vec::new();
    for (stream, (width, cells)) in streams.iter().zip(&rows) {
        let (scores, shares) = principal_components(cells, *width, 3);
        if !shares.is_empty() {
            explained.insert(stream.to_string(), json!(shares));
        }
        colours.push(levels(&scores, shares.len()));
    }
    let is_upwards = resolved.modality().build().draws_upwards;
    let mut written = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let row = |(views, colours): (&Vec<Option<Drawn>>, &Vec<[u8; 3]>)| {
            let drawn = views.get(i)?.as_ref()?;
            Some(vec![drawn.frames(is_upwards), drawn.cells(colours, is_upwards)])
        };
        let rows: Vec<_> = views.iter().zip(&colours).filter_map(row).collect();
        written.extend(write(folder, name, &rows)?);
    }
    if !args.json && !args.quiet {
        for reason in &skipped {
            outln!("skipped   {reason}");
        }
        for (stream, shares) in &explained {
            let shares: Vec<String> =
                shares.as_array().into_iter().flatten().map(percent).collect();
            outln!("variance  {} of the cells of `{stream}`", shares.join(", "));
        }
        outln!("{} files in {}", written.len(), folder.display());
    }
    let files: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
    Ok(json!({
        "output": folder.display().to_string(), "files": files, "skipped": skipped, "explained": explained,
    }))
}

fn percent(share: &Value) -> String {
    format!("{:.0} %", 100.0 * share.as_f64().unwrap_or(0.0))
}

/// A colour for each row of scores: the components are red, green and blue.
pub(super) fn levels(scores: &[f32], components: usize) -> Vec<[u8; 3]> {
    let mut colours = vec![[0; 3]; scores.len() / components.max(1)];
    for component in 0..components {
        let of = || scores.iter().skip(component).step_by(components).copied();
        let mut sorted: Vec<f32> = of().collect();
        sorted.sort_by(f32::total_cmp);
        let at = |share: f64| sorted[(share * (sorted.len() - 1) as f64).round() as usize];
        let [low, high] = RANGE.map(at);
        let range = if high > low { high - low } else { 1.0 };
        for (colour, score) in colours.iter_mut().zip(of()) {
            colour[component] = (255.0 * ((score - low) / range).clamp(0.0, 1.0) + 0.5) as u8;
        }
    }
    colours
}

impl Drawn {
    /// The cells of the view as frames of its size.
    pub(super) fn cells(&self, colours: &[[u8; 3]], is_upwards: bool) -> Vec<RgbImage> {
        let drawn = self;
        let [time, height, width] = drawn.grid;
        let shape = drawn.view.shape();
        // Rows are drawn as curves, whose height is not that of the view.
        let (h, w, frames) = match *shape {
            [_, length] => (16, length, 1),
            [_, h, w] => (h, w, 1),
            [_, t, h, w] => (h, w, t),
            _ => return Vec::new(),
        };
        let frame = |t: usize| {
            let cell = t * time / frames.max(1);
            RgbImage::from_fn(w as u32, h as u32, |x, y| {
                let y =
                    if is_upwards && shape.len() == 3 { h - 1 - y as usize } else { y as usize };
                let (row, column) = (y * height / h, x as usize * width / w);
                let at = drawn.first + (cell * height + row) * width + column;
                Rgb(colours.get(at).copied().unwrap_or_default())
            })
        };
        (0..frames).map(frame).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_span_the_range_and_cells_fill_the_view() {
        let scores: Vec<f32> = (0..8).flat_map(|i| [i as f32, -(i as f32), 5.0]).collect();
        let colours = levels(&scores, 3);
        assert_eq!((colours[0], colours[7]), ([0, 255, 0], [255, 0, 0]));
        let view = View::new([1, 2, 4, 8], vec![0.0; 64]).unwrap();
        let drawn = Drawn { view, grid: [1, 2, 2], first: 4 };
        let frames = drawn.cells(&colours, false);
        assert_eq!((frames.len(), frames[0].dimensions()), (2, (8, 4)));
        assert_eq!(frames[0].get_pixel(0, 0).0, colours[4]);
        assert_eq!(frames[1].get_pixel(7, 3).0, colours[7]);
        // Low frequencies come first and are drawn at the bottom.
        let view = View::new([1, 4, 8], vec![0.0; 32]).unwrap();
        let drawn = Drawn { view, grid: [1, 2, 1], first: 0 };
        assert_eq!(drawn.cells(&colours, true)[0].get_pixel(0, 3).0, colours[0]);
    }
}
