//! A custom blob store: samples are members of uncompressed tar shards and are read without extraction.
//!
//! `cargo run --release -p lejepa --example tar-shards`

use std::fs::File;
use std::io::Cursor;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use image::{GrayImage, ImageFormat, Luma};
use lejepa::core::{Blob, BlobStore, Error, Labels, Split};
use lejepa::prelude::*;
use lejepa::train::checkpoint;
use lejepa_image::{Digit, digits};

const PER_SHARD: usize = 48;
/// Shards after these are held out.
const TRAIN_SHARDS: usize = 32;

/// The shards hold the built-in digits, so the settings for these suit them.
const SETTINGS: &str = "modality=image encoder.name=mlp encoder.width=48 encoder.depth=2 \
    projector.hidden=64 projector.output=32 objective.slices=64 train.batch=64 train.steps=36 \
    checkpoint.steps=18 probe.steps=100";

/// A file in a shard. Its name is `SPLIT-SHARD.tar/CLASS/NUMBER.png`.
struct Member {
    name: String,
    shard: usize,
    bytes: Range<u64>,
}

struct TarShards {
    shards: Vec<PathBuf>,
    members: Vec<Member>,
    chunks: Vec<Range<usize>>,
    labels: [Labels; 1],
}

impl TarShards {
    /// Reads the headers of all members.
    fn open(shards: Vec<PathBuf>) -> std::io::Result<Self> {
        let (mut members, mut chunks) = (Vec::new(), Vec::new());
        for (shard, file) in shards.iter().enumerate() {
            let first = members.len();
            let archive = file.file_name().unwrap_or_default().display();
            for entry in tar::Archive::new(File::open(file)?).entries_with_seek()? {
                let entry = entry?;
                if entry.header().entry_type().is_file() {
                    let name = format!("{archive}/{}", entry.path()?.display());
                    let start = entry.raw_file_position();
                    members.push(Member { name, shard, bytes: start..start + entry.size() });
                }
            }
            chunks.push(first..members.len());
        }
        let class = |member: &Member| member.name.split('/').nth(1).map(String::from);
        let classes: Vec<Option<String>> = members.iter().map(class).collect();
        Ok(Self { shards, members, chunks, labels: [Labels::from_words("digit", &classes)] })
    }
}

impl BlobStore for TarShards {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn name(&self, index: usize) -> String {
        self.members.get(index).map_or_else(String::new, |member| member.name.clone())
    }

    fn blob(&self, index: usize) -> Result<Blob<'_>, Error> {
        let missing = || Error::sample(format!("#{index}"), "no such member");
        let Member { name, shard, bytes } = self.members.get(index).ok_or_else(missing)?;
        Ok(Blob::part(name.as_str(), self.shards[*shard].as_path(), bytes.clone()))
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn split(&self, index: usize) -> Option<Split> {
        Split::parse(self.members.get(index)?.name.split_once('-')?.0)
    }

    fn chunks(&self) -> Vec<Range<usize>> {
        self.chunks.clone()
    }
}

fn write_shard(file: &Path, digits: &[Digit]) -> Result<(), Box<dyn std::error::Error>> {
    let mut archive = tar::Builder::new(File::create(file)?);
    for (number, digit) in digits.iter().enumerate() {
        let ink = |x: u32, y: u32| Luma([digit.pixels[(8 * y + x) as usize] * 15]);
        let mut png = Cursor::new(Vec::new());
        GrayImage::from_fn(8, 8, ink).write_to(&mut png, ImageFormat::Png)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(png.get_ref().len() as u64);
        header.set_mode(0o644);
        let path = format!("{}/{number:04}.png", digit.label);
        archive.append_data(&mut header, path, png.get_ref().as_slice())?;
    }
    Ok(archive.finish()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let mut shards = Vec::new();
    for (i, digits) in digits().chunks_exact(PER_SHARD).enumerate() {
        let split = if i < TRAIN_SHARDS { "train" } else { "test" };
        shards.push(folder.path().join(format!("{split}-{i:03}.tar")));
        write_shard(&shards[i], digits)?;
    }
    let store = Arc::new(TarShards::open(shards)?);
    let resolved = Request::parse(SETTINGS).resolve(&Registry::discover()?)?;
    let run = RunDir::create(&folder.path().join("run"))?;
    let device = Device::flex();
    let train = |start| {
        let source = resolved.open(Source::Blobs(store.clone()))?;
        Trainer::new(&resolved, &device).source(Arc::from(source)).run(&run, start)
    };
    let outcome = train(Start::New)?;
    let digit = &outcome.probes.first().ok_or("the labels did not reach the probes")?.trained;
    println!("{}: k-NN {:.3}, chance {:.3}", digit.name, digit.scores.knn, digit.chance);
    assert!(digit.classes == 10 && digit.scores.knn > 2.0 * digit.chance);

    // As if the run had been killed before its last checkpoint.
    std::fs::remove_dir_all(checkpoint::latest(&run)?)?;
    let (loss, again) = (outcome.last.get("loss"), train(Start::Resume)?.last.get("loss"));
    assert_eq!(loss.to_bits(), again.to_bits(), "the loss is another one after resuming");
    Ok(())
}
