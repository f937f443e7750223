//! A custom blob store: samples are members of uncompressed tar shards and are read without extraction.
//!
//! `cargo run --release -p lejepa --example tar-shards`

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Cursor;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use image::{GrayImage, ImageFormat};
use lejepa::core::{Blob, BlobStore, Error, Labels, Registry, Seed, Source, Split};
use lejepa::train::{
    AfterStep, Callback, Event, Flow, Observer, Order, Request, Result, RunDir, Silent, Start,
    StepMetrics, TrainError, Trainer,
};
use lejepa_image::{Digit, digits};

const SAMPLES_PER_SHARD: usize = 48;
/// Shards after these are held out. The samples of 8 shards make 6 whole steps.
const TRAIN_SHARDS: usize = 32;
const BATCH: usize = 64;
const STEPS: usize = 36;

const SETTINGS: &str = "modality=image image.channels=1 image.global_size=16 image.local_size=8 \
    image.locals=2 image.flip=0 image.solarize=0 encoder.name=mlp encoder.width=48 encoder.depth=2 \
    projector.hidden=64 projector.output=32 objective.slices=64 train.log_every=1 probe.steps=100";

/// One file in a shard.
struct Member {
    shard: usize,
    /// Its path in the shard: `CLASS/NUMBER.png`.
    path: String,
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
            for entry in tar::Archive::new(File::open(file)?).entries_with_seek()? {
                let entry = entry?;
                if entry.header().entry_type().is_file() {
                    let path = entry.path()?.display().to_string();
                    let start = entry.raw_file_position();
                    members.push(Member { shard, path, bytes: start..start + entry.size() });
                }
            }
            chunks.push(first..members.len());
        }
        let class = |member: &Member| Some(member.path.split_once('/')?.0.to_string());
        let classes: Vec<Option<String>> = members.iter().map(class).collect();
        Ok(Self { shards, members, chunks, labels: [Labels::from_words("digit", &classes)] })
    }

    fn shard_name(&self, index: usize) -> String {
        let file = self.members.get(index).and_then(|member| self.shards[member.shard].file_name());
        file.unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The number of shards that hold some of these samples.
    fn touched(&self, samples: &[usize]) -> usize {
        samples.iter().map(|&i| self.members[i].shard).collect::<BTreeSet<_>>().len()
    }
}

impl BlobStore for TarShards {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn name(&self, index: usize) -> String {
        let path = self.members.get(index).map_or("", |member| member.path.as_str());
        format!("{}/{path}", self.shard_name(index))
    }

    fn blob(&self, index: usize) -> Result<Blob<'_>, Error> {
        let member = self.members.get(index);
        let member = member.ok_or_else(|| Error::sample(format!("#{index}"), "no such member"))?;
        let shard = self.shards[member.shard].as_path();
        Ok(Blob::part(self.name(index), shard, member.bytes.clone()))
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn split(&self, index: usize) -> Option<Split> {
        Split::parse(self.shard_name(index).split_once('-')?.0)
    }

    fn chunks(&self) -> Vec<Range<usize>> {
        self.chunks.clone()
    }
}

/// Logs how many shards the samples of a step come from.
struct CountShards(Arc<TarShards>);

impl Callback for CountShards {
    fn name(&self) -> &str {
        "count_shards"
    }

    fn after_step(&mut self, at: &mut AfterStep<'_>) -> Result<Flow> {
        at.scalars.insert("shards".into(), self.0.touched(at.batch.samples()) as f64);
        Ok(Flow::Continue)
    }
}

/// Asks for an interruption after a step.
struct InterruptAfter<'a>(u64, &'a AtomicBool);

impl Observer for InterruptAfter<'_> {
    fn event(&mut self, event: Event<'_>) {
        if matches!(event, Event::Step(step) if step == self.0) {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

fn write_shard(file: &Path, digits: &[Digit]) -> Result<(), Box<dyn std::error::Error>> {
    let mut archive = tar::Builder::new(File::create(file)?);
    for (number, digit) in digits.iter().enumerate() {
        let pixels = digit.pixels.iter().map(|&ink| (u16::from(ink) * 255 / 16) as u8).collect();
        let picture = GrayImage::from_raw(8, 8, pixels).ok_or("a digit is not of 8×8 pixels")?;
        let mut png = Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png)?;
        let png = png.into_inner();
        let mut header = tar::Header::new_gnu();
        header.set_size(png.len() as u64);
        header.set_mode(0o644);
        let path = format!("{}/{number:04}.png", digit.label);
        archive.append_data(&mut header, path, png.as_slice())?;
    }
    Ok(archive.finish()?)
}

fn metrics(run: &RunDir) -> Result<Vec<StepMetrics>, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(run.metrics_file())?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// The logged losses of a step, as bits.
fn losses(of: &StepMetrics) -> (u64, [u64; 3]) {
    (of.step, ["loss", "prediction", "sigreg"].map(|name| of.get(name).to_bits()))
}

fn ensure(ok: bool, what: &str) -> Result<(), String> {
    if ok { Ok(()) } else { Err(what.to_string()) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("digits");
    std::fs::create_dir(&data)?;
    let mut shards = Vec::new();
    for (i, digits) in digits().chunks_exact(SAMPLES_PER_SHARD).enumerate() {
        let split = if i < TRAIN_SHARDS { "train" } else { "test" };
        shards.push(data.join(format!("{split}-{i:03}.tar")));
        write_shard(&shards[i], digits)?;
    }
    let store = Arc::new(TarShards::open(shards)?);
    println!("{} samples in {} shards", store.len(), store.shards.len());

    let own = [
        format!("data.source={}", data.display()),
        format!("train.batch={BATCH}"),
        format!("train.steps={STEPS}"),
    ];
    let assignments = SETTINGS.split_whitespace().map(String::from).chain(own).collect();
    let request = Request { assignments, ..Request::default() };
    let resolved = request.resolve(&Registry::discover()?)?;
    let (device, never, interrupt) =
        (Device::flex(), AtomicBool::new(false), AtomicBool::new(false));
    let train = |run: &RunDir, start, stop: &AtomicBool, observer: &mut dyn Observer| {
        let source = resolved.open(Source::Blobs(store.clone()))?;
        let trainer = Trainer::new(&resolved, &device).source(Arc::from(source));
        let trainer = trainer.callback(Box::new(CountShards(store.clone())));
        trainer.run(run, start, stop, observer)
    };
    let whole = RunDir::create(&folder.path().join("whole"))?;
    let outcome = train(&whole, Start::New, &never, &mut Silent)?;

    let cut = RunDir::create(&folder.path().join("cut"))?;
    let mut observer = InterruptAfter(STEPS as u64 / 2, &interrupt);
    match train(&cut, Start::New, &interrupt, &mut observer) {
        Err(TrainError::Interrupted { step, .. }) => println!("interrupted after step {step}"),
        Err(other) => return Err(other.into()),
        Ok(_) => return Err("the run was not interrupted".into()),
    }
    train(&cut, Start::Resume, &never, &mut Silent)?;

    let (logged, resumed) = (metrics(&whole)?, metrics(&cut)?);
    ensure(logged.len() == STEPS, "not every step was logged")?;
    ensure(logged.iter().all(|step| step.get("loss").is_finite()), "a step has no loss")?;
    ensure(logged.iter().map(losses).eq(resumed.iter().map(losses)), "the losses differ")?;
    println!("losses of {STEPS} steps, equal to the bit after resuming");

    let most = logged.iter().map(|step| step.get("shards")).fold(0.0, f64::max);
    let anywhere = Order::new((0..TRAIN_SHARDS * SAMPLES_PER_SHARD).collect(), BATCH, Seed(0));
    let scattered = store.touched(&anywhere.samples(0));
    println!("shards per step: at most {most}; {scattered} where chunks are not known");
    ensure((1.0..=8.0).contains(&most) && scattered > 8, "the chunks were not kept together")?;

    let digit = outcome.probes.first().ok_or("the labels did not reach the probes")?;
    let (scores, chance) = (&digit.trained.scores, digit.trained.chance);
    println!("{}: k-NN {:.3}, chance {chance:.3}", digit.trained.name, scores.knn);
    ensure(digit.trained.classes == 10 && scores.knn > 2.0 * chance, "the labels do not fit")?;
    Ok(())
}
