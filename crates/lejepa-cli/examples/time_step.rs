//! One side of `cargo xtask bench step`: times whole training steps on request.
//!
//! `time_step CASE PRECISION [KEY=VALUE...]` prepares a model and views, then for every line on stdin
//! prints the milliseconds of one step: forward, loss, backward, AdamW. At the end of stdin it prints
//! the MiB that its memory grew by since before the model was made, and, of one more step, the share of
//! its time that each operation of `lejepa-kernels` took; the rest is the projector's, the objective's
//! and that of what burn does between them.

use std::io::{BufRead, Write};
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use lejepa_core::{
    Component, Dataset, Error, Modality, Registry, Result, Source, View, ViewRng, ViewSampler,
    ViewSpec, Views, kind, register,
};
use lejepa_nn as _;
use lejepa_train::{Batch, Learner, Request};
use serde::{Deserialize, Serialize};

/// The allocator of the `lejepa` binary.
#[cfg(target_os = "linux")]
#[path = "../src/allocator.rs"]
mod allocator;

/// Name, samples, globals, locals, sizes of both, and the encoder.
type Case = (&'static str, usize, [usize; 2], &'static [usize], &'static [usize], &'static str);

const VIT: &str = "encoder.name=vit";
const CASES: [Case; 5] = [
    ("vit-ti", 64, [2, 0], &[3, 64, 64], &[3, 64, 64], "width=192 depth=12 heads=3 patch=[8]"),
    ("vit-s", 8, [2, 6], &[3, 224, 224], &[3, 96, 96], "width=384 depth=12 heads=6 patch=[16]"),
    ("resnet18", 16, [2, 0], &[3, 64, 64], &[3, 64, 64], ""),
    ("audio", 64, [2, 4], &[1, 64, 96], &[1, 64, 48], "width=96 depth=4 heads=3 patch=[16]"),
    (
        "video",
        64,
        [2, 4],
        &[3, 8, 32, 32],
        &[3, 4, 16, 16],
        "width=96 depth=4 heads=3 patch=[2,8,8]",
    ),
];

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, precision, more @ ..] = words.as_slice() else {
        return Err("usage: time_step CASE PRECISION [KEY=VALUE...]".into());
    };
    let case = CASES.into_iter().find(|c| c.0 == name).ok_or("no such case")?;
    let (_, samples, [globals, locals], global, local, encoder) = case;
    let mut assignments = vec![
        "modality=noise".to_string(),
        format!("train.precision={precision}"),
        format!("noise.globals={globals}"),
        format!("noise.global={global:?}"),
        format!("noise.locals={locals}"),
        format!("noise.local={local:?}"),
    ];
    if encoder.is_empty() {
        assignments.push("encoder.name=resnet".into());
    } else {
        assignments.push(VIT.into());
        assignments.extend(encoder.split(' ').map(|word| format!("encoder.{word}")));
    }
    assignments.extend(more.iter().cloned());
    let resolved = Request { assignments, ..Request::default() }.resolve(&Registry::discover()?)?;
    let device = Device::flex();
    device.seed(0);
    let noise = |count: usize,
                 shape: &[usize]|
     -> std::result::Result<Vec<View>, Box<dyn std::error::Error>> {
        let width = [shape.iter().product::<usize>()];
        let view = |_| {
            let numbers = Tensor::<1>::random(width, Distribution::Normal(0.0, 1.0), &device);
            Ok(View::new(shape, numbers.try_into_vec_as()?)?)
        };
        (0..count).map(view).collect()
    };
    let views = (0..samples).map(|_| {
        Ok::<_, Box<dyn std::error::Error>>(Views::multi_crop(
            noise(globals, global)?,
            noise(locals, local)?,
        ))
    });
    let views = views.collect::<std::result::Result<Vec<_>, _>>()?;
    let spec = std::sync::Arc::clone(resolved.spec());
    let batch = Batch::new(spec, (0..samples).collect(), views)?;
    let before = memory("VmRSS");
    let mut learner = resolved.learner(&device)?;
    let mut steps = 0;
    for line in std::io::stdin().lock().lines() {
        line?;
        let elapsed;
        (learner, elapsed) = step(learner, &batch, steps)?;
        steps += 1;
        println!("{}", elapsed * 1e3);
        std::io::stdout().flush()?;
    }
    println!("{}", (memory("VmHWM") - before).max(0.0));
    let (last, times) = lejepa_kernels::profile(|| step(learner, &batch, steps));
    let (_, elapsed) = last?;
    let share = |seconds: f64| serde_json::json!((seconds / elapsed * 1e3).round() / 1e3);
    let mut shares = serde_json::Map::new();
    let mut rest = elapsed;
    for row in times {
        rest -= row.time.as_secs_f64();
        shares.insert(row.name, share(row.time.as_secs_f64()));
    }
    shares.insert("rest".into(), share(rest));
    println!("{}", serde_json::Value::Object(shares));
    Ok(())
}

/// One step, and its seconds.
fn step(
    mut learner: Learner,
    batch: &Batch,
    step: u64,
) -> std::result::Result<(Learner, f64), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let pass = learner.pass(batch, step)?;
    learner = learner.update(1e-3, pass.gradients);
    let elapsed = start.elapsed().as_secs_f64();
    let loss: f32 = pass.losses.total.try_into_scalar()?;
    if !loss.is_finite() {
        return Err("the loss is not finite".into());
    }
    Ok((learner, elapsed))
}

/// A modality of these views; they are made here, not by it.
struct Noise;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Shapes {
    globals: usize,
    global: Vec<usize>,
    locals: usize,
    local: Vec<usize>,
}

impl Default for Shapes {
    fn default() -> Self {
        Self { globals: 2, global: vec![1, 16], locals: 0, local: vec![1, 16] }
    }
}

impl Component for Noise {
    const NAME: &'static str = "noise";
    const ABOUT: &'static str = "random numbers";
    type Config = Shapes;
}

impl Modality for Noise {
    const EXTENSIONS: &'static [&'static str] = &[];
    type Sample = ();

    fn open(_: &Shapes, _: Source) -> Result<Box<dyn Dataset<Item = ()>>> {
        Err(elsewhere())
    }

    fn sampler(config: &Shapes) -> Result<Box<dyn ViewSampler<Sample = ()>>> {
        Ok(Box::new(config.clone()))
    }
}

impl ViewSampler for Shapes {
    type Sample = ();

    fn spec(&self) -> ViewSpec {
        ViewSpec::multi_crop(self.globals, self.global.clone(), self.locals, self.local.clone())
    }

    fn views(&self, (): &(), _: &mut ViewRng) -> Result<Views> {
        Err(elsewhere())
    }

    fn eval_view(&self, (): &()) -> Result<View> {
        Err(elsewhere())
    }
}

fn elsewhere() -> Error {
    Error::Data { reason: "the views are made elsewhere".into(), hint: String::new() }
}

register!(kind::Modality: Noise);

/// MiB of this process; 0 where the system does not tell.
fn memory(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
