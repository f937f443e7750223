//! An application: opens an exported encoder, embeds samples and finds the nearest neighbours of one.
//!
//! `cargo run --release -p lejepa --example embed-in-app [EXPORT [DATA]]`; without arguments it first
//! trains a small encoder on the built-in digits.

use std::path::PathBuf;

use burn::tensor::Device;
use lejepa::prelude::{Registry, Request, RunDir, Trainer};
use lejepa::train::{Embedder, Silent, Start, checkpoint, export};
// Linked to register the modality `image`.
use lejepa_image as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::discover()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scratch = tempfile::tempdir()?;
    let folder = match arguments.first() {
        Some(folder) => PathBuf::from(folder),
        None => train_one(scratch.path().join("run"), &registry)?,
    };
    let data = arguments.get(1).map_or("demo", String::as_str);

    let embedder = Embedder::open(&folder, &registry, &Device::flex())?;
    let all = embedder.embed(data, &mut Silent)?;
    println!("{} samples of {data} in {} dimensions", all.names.len(), all.dim);

    // A single sample, as a camera or a microphone would give it.
    let source = embedder.source(data)?;
    let query = embedder.embed_view(&source.eval_view(7)?)?;
    println!("nearest neighbours of {}:", source.name(7));
    let mut ranked: Vec<(f32, &String)> = all
        .values
        .chunks_exact(all.dim)
        .zip(&all.names)
        .map(|(row, name)| (cosine(&query, row), name))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (similarity, name) in ranked.iter().take(6) {
        println!("  {similarity:.3}  {name}");
    }
    Ok(())
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12)
}

/// Trains for a few seconds and exports.
fn train_one(folder: PathBuf, registry: &Registry) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let assignments =
        ["modality=image", "train.steps=40", "encoder.width=48", "probe.enabled=false"];
    let request =
        Request { assignments: assignments.map(String::from).into(), ..Request::default() };
    let run = RunDir::create(&folder)?;
    let resolved = request.resolve(registry)?;
    Trainer::new(&resolved, &Device::flex()).run(&run, Start::New)?;
    let exported = folder.join("export");
    export(&run, &checkpoint::latest(&run)?, &exported, registry)?;
    Ok(exported)
}
