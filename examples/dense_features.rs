//! Dense features: the cells of a vision transformer's grid as colours, written as a PNG file.
//!
//! `cargo run --release -p lejepa --example dense-features [FILE]`

use std::path::PathBuf;

use burn::tensor::{Device, Tensor};
use image::{Rgb, RgbImage};
use lejepa::core::{MAIN_STREAM, Wants};
use lejepa::prelude::{Embedder, Registry, Request, RunDir, Start, Trainer};
// Linked to register the modality `image`.
use lejepa_image as _;

/// The built-in digits at a larger size than usual, so that there are more cells.
const SETTINGS: &str = "modality=image image.global_size=48 image.local_size=24 image.locals=2 \
    encoder.name=vit encoder.width=48 encoder.depth=2 encoder.patch=[4] projector.hidden=64 \
    projector.output=32 objective.slices=64 train.batch=32 train.steps=40 probe.enabled=false";

/// Pixels along the side of a view, and of a patch; cells along the side of a grid; width of a cell.
const SIDE: usize = 48;
const PATCH: usize = 4;
const CELLS: usize = SIDE / PATCH;
const WIDTH: usize = 48;

/// The distance of two vectors over the norm of the first.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    let difference = a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f32>();
    (difference / a.iter().map(|x| x.powi(2)).sum::<f32>()).sqrt()
}

/// Numbers as bytes, from the smallest to the largest.
fn levels(numbers: &[f32]) -> Vec<u8> {
    let low = numbers.iter().copied().fold(f32::MAX, f32::min);
    let high = numbers.iter().copied().fold(f32::MIN, f32::max);
    numbers.iter().map(|x| (255.0 * (x - low) / (high - low)).round() as u8).collect()
}

/// A colour channel for each of the first three principal axes of the rows, which power iteration finds.
fn channels(rows: Tensor<2>) -> lejepa::train::Result<Vec<Vec<u8>>> {
    let mut rest = rows.clone() - rows.mean_dim(0);
    let mut channels = Vec::new();
    for _ in 0..3 {
        let mut axis = rest.clone().narrow(0, 0, 1).transpose();
        for _ in 0..100 {
            axis = rest.clone().transpose().matmul(rest.clone().matmul(axis));
            axis = axis.clone() / axis.square().sum_dim(0).sqrt();
        }
        let scores = rest.clone().matmul(axis.clone());
        channels.push(levels(&scores.clone().try_into_vec_as::<f32>()?));
        rest = rest - scores.matmul(axis.transpose());
    }
    Ok(channels)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::discover()?;
    let resolved = Request::parse(SETTINGS).resolve(&registry)?;
    let folder = tempfile::tempdir()?;
    let run = RunDir::create(folder.path())?;
    let device = Device::flex();
    Trainer::new(&resolved, &device).run(&run, Start::New)?;

    let embedder = Embedder::open(run.path(), &registry, &device)?;
    let source = embedder.source("demo")?;
    let (mut pictures, mut cells) = (Vec::<u8>::new(), Vec::<f32>::new());
    // The first ten digits are 0 to 9.
    for digit in 0..10 {
        let view = source.eval_view(digit)?;
        let features = embedder.features(&view, MAIN_STREAM, &Wants::dense())?;
        assert!(features.grid == [CELLS, CELLS], "the grid is not that of the patches");
        let dense = features.dense.ok_or("there are no dense features")?;
        assert!(dense.dims() == [1, CELLS * CELLS, WIDTH], "the cells are not of the grid");
        cells.extend(dense.try_into_vec_as::<f32>()?);
        let pooled = features.pooled.try_into_vec_as::<f32>()?;
        let same = apart(&embedder.embed_view(&view)?, &pooled) < 1e-4;
        assert!(same, "the pooled features are not the embedding");
        pictures.extend(levels(&view.data()));
    }

    // Within a picture, and from one picture to the next at the same place.
    let (first, others) = cells.split_at(CELLS * CELLS * WIDTH);
    let each = || first.chunks_exact(WIDTH);
    let within = each().map(|cell| apart(&first[..WIDTH], cell)).fold(0.0, f32::max);
    let between = each().zip(others.chunks_exact(WIDTH)).map(|(cell, other)| apart(cell, other));
    let between = between.fold(0.0, f32::max);
    println!("cells differ by up to {within:.2} of their norm, at one place by {between:.2}");
    assert!(within > 0.01 && between > 0.01, "the cells are alike");

    // Pictures above, their cells below.
    let rows = Tensor::<1>::from_floats(cells.as_slice(), &device).reshape([-1, WIDTH as i64]);
    let channels = channels(rows)?;
    let out = RgbImage::from_fn(10 * SIDE as u32, 2 * SIDE as u32, |x, y| {
        let (x, y) = (x as usize, y as usize);
        let (digit, x, row, y) = (x / SIDE, x % SIDE, y / SIDE, y % SIDE);
        if row == 0 {
            return Rgb([pictures[(digit * SIDE + y) * SIDE + x]; 3]);
        }
        let cell = (digit * CELLS + y / PATCH) * CELLS + x / PATCH;
        Rgb([0, 1, 2].map(|axis: usize| channels[axis][cell]))
    });
    let file = std::env::args_os().nth(1).map(PathBuf::from);
    let file = file.unwrap_or_else(|| std::env::temp_dir().join("dense-features.png"));
    out.save(&file)?;
    let read = image::open(&file)?;
    assert!((read.width(), read.height()) == out.dimensions(), "the file has another size");
    println!("written to {}", file.display());
    Ok(())
}
