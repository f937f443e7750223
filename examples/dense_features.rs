//! Dense features: the cells of a vision transformer's grid as colours, written as a PNG file.
//!
//! `cargo run --release -p lejepa --example dense-features [FILE]`

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use image::{Rgb, RgbImage};
use lejepa::core::{MAIN_STREAM, Registry, Wants};
use lejepa::train::{Embedder, Request, RunDir, Silent, Start, train};
// Linked to register the modality `image`.
use lejepa_image as _;

/// Side of a view in pixels.
const SIDE: usize = 48;
const PATCH: usize = 4;
/// Cells along a side.
const CELLS: usize = SIDE / PATCH;
const WIDTH: usize = 48;
/// Pixels of the file along the side of a view's pixel.
const SCALE: usize = 2;

/// The built-in digits at a larger size than usual, so that there are more cells.
const SETTINGS: &str = "modality=image image.global_size=48 image.local_size=24 image.locals=2 \
    encoder.name=vit encoder.width=48 encoder.depth=2 encoder.patch=[4] \
    projector.hidden=64 projector.output=32 objective.slices=64 \
    train.batch=32 train.steps=40 probe.enabled=false";

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The first three principal axes of centred rows, by power iteration.
fn principal_axes(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut axes: Vec<Vec<f64>> = Vec::new();
    for k in 0..3 {
        let mut axis: Vec<f64> = (0..WIDTH).map(|i| ((i * (k + 1)) as f64).cos()).collect();
        for _ in 0..100 {
            let mut next = vec![0.0; WIDTH];
            for row in rows {
                let score = dot(row, &axis);
                next.iter_mut().zip(row).for_each(|(sum, x)| *sum += score * x);
            }
            for found in &axes {
                let along = dot(&next, found);
                next.iter_mut().zip(found).for_each(|(x, y)| *x -= along * y);
            }
            let norm = dot(&next, &next).sqrt().max(1e-12);
            axis = next.into_iter().map(|x| x / norm).collect();
        }
        axes.push(axis);
    }
    axes
}

/// Numbers as bytes, from the smallest to the largest.
fn levels(numbers: &[f64]) -> Vec<u8> {
    let low = numbers.iter().copied().fold(f64::MAX, f64::min);
    let high = numbers.iter().copied().fold(f64::MIN, f64::max);
    let level = |x: &f64| (255.0 * (x - low) / (high - low).max(1e-12)).round() as u8;
    numbers.iter().map(level).collect()
}

/// The largest distance of a pair over the norm of its first vector.
fn apart<'a>(pairs: impl Iterator<Item = (&'a Vec<f64>, &'a Vec<f64>)>) -> f64 {
    let relative = |(a, b): (&Vec<f64>, &Vec<f64>)| {
        let difference: Vec<f64> = a.iter().zip(b).map(|(x, y)| x - y).collect();
        (dot(&difference, &difference) / dot(a, a).max(1e-12)).sqrt()
    };
    pairs.map(relative).fold(0.0, f64::max)
}

fn ensure(ok: bool, what: &str) -> Result<(), String> {
    if ok { Ok(()) } else { Err(what.to_string()) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::discover()?;
    let assignments = SETTINGS.split_whitespace().map(String::from).collect();
    let resolved = Request { assignments, ..Request::default() }.resolve(&registry)?;
    let folder = tempfile::tempdir()?;
    let run = RunDir::create(&folder.path().join("run"))?;
    let (device, never) = (Device::flex(), AtomicBool::new(false));
    train(&resolved, &device, &run, Start::New, &never, &mut Silent)?;

    // One picture of each class.
    let embedder = Embedder::open(run.path(), &registry, &device)?;
    let source = embedder.source("demo")?;
    let labels = source.labels().first().ok_or("the digits have no labels")?;
    let of_class = |class: usize| labels.ids.iter().position(|id| *id == Some(class as u32));
    let samples: Vec<usize> = (0..labels.classes.len()).filter_map(of_class).collect();
    let (mut pictures, mut cells) = (Vec::<u8>::new(), Vec::<Vec<f64>>::new());
    for &sample in &samples {
        let view = source.eval_view(sample)?;
        let features = embedder.features(&view, MAIN_STREAM, &Wants::dense())?;
        ensure(features.grid == [CELLS, CELLS], "the grid is not that of the patches")?;
        let dense = features.dense.ok_or("there are no dense features")?;
        ensure(dense.dims() == [1, CELLS * CELLS, WIDTH], "the cells are not of the grid")?;
        let dense = dense.try_into_vec_as::<f32>()?;
        let numbers = |row: &[f32]| row.iter().copied().map(f64::from).collect::<Vec<f64>>();
        cells.extend(dense.chunks_exact(WIDTH).map(numbers));
        let pooled = numbers(&features.pooled.try_into_vec_as::<f32>()?);
        let embedded = numbers(&embedder.embed_view(&view)?);
        let same = apart([(&embedded, &pooled)].into_iter()) < 1e-4;
        ensure(same, "the pooled features are not the embedding")?;
        pictures.extend(levels(&numbers(&view.data())));
    }
    println!("{} pictures of {CELLS} × {CELLS} cells of width {WIDTH}", samples.len());

    // Within a picture, and from one picture to the next at the same place.
    let (first, others) = cells.split_at(CELLS * CELLS);
    let within = apart(first.iter().map(|cell| (&first[0], cell)));
    let between = apart(first.iter().zip(others));
    println!("cells differ by up to {within:.2} of their norm, at one place by {between:.2}");
    ensure(within > 0.01 && between > 0.01, "the cells are alike")?;

    let count = cells.len() as f64;
    let mean: Vec<f64> =
        (0..WIDTH).map(|i| cells.iter().map(|cell| cell[i]).sum::<f64>() / count).collect();
    cells.iter_mut().for_each(|cell| cell.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m));
    let axes = principal_axes(&cells);
    let scores = |axis: &Vec<f64>| cells.iter().map(|cell| dot(cell, axis)).collect::<Vec<f64>>();
    let scores: Vec<Vec<f64>> = axes.iter().map(scores).collect();
    let total: f64 = cells.iter().map(|cell| dot(cell, cell)).sum();
    let explained: f64 = scores.iter().map(|scores| dot(scores, scores)).sum();
    println!("three axes hold {:.0} % of the variance", 100.0 * explained / total);
    let colours: Vec<Vec<u8>> = scores.iter().map(|scores| levels(scores)).collect();

    // Pictures above, their cells below.
    let (width, height) = (samples.len() * SIDE * SCALE, 2 * SIDE * SCALE);
    let out = RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let (x, y) = (x as usize / SCALE, y as usize / SCALE);
        let (sample, x, row, y) = (x / SIDE, x % SIDE, y / SIDE, y % SIDE);
        if row == 0 {
            return Rgb([pictures[(sample * SIDE + y) * SIDE + x]; 3]);
        }
        let cell = (sample * CELLS + y / PATCH) * CELLS + x / PATCH;
        Rgb([0, 1, 2].map(|axis: usize| colours[axis][cell]))
    });
    let file = std::env::args_os().nth(1).map(PathBuf::from);
    let file = file.unwrap_or_else(|| std::env::temp_dir().join("dense-features.png"));
    out.save(&file)?;
    let read = image::open(&file)?;
    ensure((read.width(), read.height()) == out.dimensions(), "the file has another size")?;
    println!("written to {}", file.display());
    Ok(())
}
