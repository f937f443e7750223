//! The work of `cargo xtask bench scale`: what a run costs that has many samples.
//!
//! `time_scale SAMPLES STEPS` trains a small encoder on that many made-up samples of 1 KB and prints a JSON
//! row: seconds from the start of the process to the first step, the median milliseconds of a step, and the
//! most memory that the process took. Nothing is cached, so that every sample is made anew in both cases.

use std::time::{Duration, Instant};

use burn::tensor::Device;
use lejepa_core::{
    Component, Dataset, Decoded, Labels, Modality, Purpose, Registry, Result, Seed, Source, View,
    ViewRng, ViewSampler, ViewSpec, Views, Window, kind, register,
};
use lejepa_nn as _;
use lejepa_train::{Event, Observer, Request, RunDir, Start, Trainer};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// The allocator of the `lejepa` binary.
#[cfg(target_os = "linux")]
#[path = "../src/allocator.rs"]
mod allocator;

/// Numbers in a sample: 1 KB.
const WIDTH: usize = 256;
const CLASSES: usize = 10;

/// Made-up samples of ten classes.
struct Scale;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Samples.
    count: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { count: 10_000 }
    }
}

struct Data {
    count: usize,
    labels: [Labels; 1],
}

impl Dataset for Data {
    type Item = Vec<f32>;
    fn len(&self) -> usize {
        self.count
    }
    fn name(&self, index: usize) -> String {
        format!("data/class-{}/sample-{index:08}.raw", index % CLASSES)
    }
    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Vec<f32>>> {
        let mut rng = Seed(0).rng(Purpose::Demo, &[index as u64]);
        let item = (0..WIDTH).map(|_| rng.random_range(-1.0..1.0)).collect();
        Ok(Decoded::whole(item, 4 * WIDTH))
    }
    fn labels(&self) -> &[Labels] {
        &self.labels
    }
}

impl ViewSampler for Config {
    type Sample = Vec<f32>;
    fn spec(&self) -> ViewSpec {
        ViewSpec::multi_crop(2, [1, WIDTH / 2], 0, [1, WIDTH / 2])
    }
    fn views(&self, sample: &Vec<f32>, rng: &mut ViewRng) -> Result<Views> {
        let mut cut = || {
            let from = rng.random_range(0..=WIDTH / 2);
            View::new([1, WIDTH / 2], sample[from..from + WIDTH / 2].to_vec())
        };
        Ok(Views::multi_crop(vec![cut()?, cut()?], vec![]))
    }
    fn eval_view(&self, sample: &Vec<f32>) -> Result<View> {
        View::new([1, WIDTH / 2], sample[..WIDTH / 2].to_vec())
    }
}

impl Component for Scale {
    const NAME: &'static str = "scale";
    const ABOUT: &'static str = "made-up samples, as many as wanted";
    type Config = Config;
}

impl Modality for Scale {
    const EXTENSIONS: &'static [&'static str] = &[];
    type Sample = Vec<f32>;
    fn open(config: &Config, _: Source) -> Result<Box<dyn Dataset<Item = Vec<f32>>>> {
        let ids = (0..config.count).map(|i| Some((i % CLASSES) as u32)).collect();
        let classes = (0..CLASSES).map(|c| format!("class-{c}")).collect();
        let labels = [Labels::classes("class", classes, ids)];
        Ok(Box::new(Data { count: config.count, labels }))
    }
    fn sampler(config: &Config) -> Result<Box<dyn ViewSampler<Sample = Vec<f32>>>> {
        Ok(Box::new(config.clone()))
    }
}

register!(kind::Modality: Scale);

/// When each step ended.
struct Clock {
    began: Instant,
    first: Option<Duration>,
    steps: Vec<Instant>,
}

impl Observer for Clock {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Step(_) = event {
            self.first.get_or_insert(self.began.elapsed());
            self.steps.push(Instant::now());
        }
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut clock = Clock { began: Instant::now(), first: None, steps: Vec::new() };
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [samples, steps] = words.as_slice() else {
        return Err("usage: time_scale SAMPLES STEPS".into());
    };
    let fixed = "modality=scale encoder.name=mlp encoder.width=128 projector.hidden=128 \
                 objective.slices=256 train.batch=64 probe.enabled=false data.workers=1 data.cache_mib=0";
    let mut assignments: Vec<String> = fixed.split_whitespace().map(String::from).collect();
    assignments.extend([format!("scale.count={samples}"), format!("train.steps={steps}")]);
    let resolved = Request { assignments, ..Request::default() }.resolve(&Registry::discover()?)?;
    let folder = tempfile::tempdir()?;
    let run = RunDir::create(&folder.path().join("run"))?;
    Trainer::new(&resolved, &Device::flex()).observer(&mut clock).run(&run, Start::New)?;
    let mut times: Vec<f64> =
        clock.steps.windows(2).map(|w| (w[1] - w[0]).as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let mean = times.iter().sum::<f64>() / times.len().max(1) as f64;
    let row = serde_json::json!({
        "samples": samples.parse::<u64>()?,
        "start_s": clock.first.map(|first| first.as_secs_f64()),
        "step_ms": times.get(times.len() / 2),
        "mean_step_ms": mean,
        "peak_mib": peak_mib(),
    });
    println!("{row}");
    Ok(())
}

/// The most memory this process took; 0 where the system does not say.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
