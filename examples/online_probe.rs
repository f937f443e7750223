//! Probes during training: the built-in callback `online_probe` on the built-in digits.
//!
//! `cargo run --release -p lejepa --example online-probe`

use burn::tensor::Device;
use lejepa::core::Registry;
use lejepa::train::{Event, Observer, Request, RunDir, Start, Trainer};
// Linked to register the modality `image`.
use lejepa_image as _;

const SETTINGS: &str = "modality=image encoder.name=mlp encoder.width=96 encoder.depth=2 \
    projector.hidden=64 objective.slices=64 train.steps=100 train.log_every=1 \
    probe.enabled=false";

/// Accuracy of guessing one of ten digits.
const CHANCE: f64 = 0.1;

/// The first and the last value of a scalar.
struct Curve {
    name: &'static str,
    first: Option<f64>,
    last: f64,
}

impl Curve {
    fn new(name: &'static str) -> Self {
        Self { name, first: None, last: f64::NAN }
    }

    /// Refuses a curve that does not rise from its first value to well above chance.
    fn check(&self) -> Result<(), String> {
        let Self { name, first, last } = self;
        let first = first.ok_or_else(|| format!("{name} was never logged"))?;
        if *last > 4.0 * CHANCE && *last > first + 0.05 {
            println!("{name} rose from {first:.3} to {last:.3}; chance is {CHANCE}");
            return Ok(());
        }
        Err(format!("{name} went from {first:.3} to {last:.3}; chance is {CHANCE}"))
    }
}

/// Follows two scalars, which are logged from the first step at which they exist.
struct Curves([Curve; 2]);

impl Observer for Curves {
    fn event(&mut self, event: Event<'_>) {
        let Event::Metrics(metrics) = event else { return };
        for curve in &mut self.0 {
            if let Some(&value) = metrics.scalars.get(curve.name) {
                curve.first.get_or_insert(value);
                curve.last = value;
            }
        }
        if metrics.step.is_multiple_of(20) {
            let [linear, knn] = &self.0;
            println!(
                "step {:3}  loss {:.3}  {} {:.3}  {} {:.3}",
                metrics.step,
                metrics.get("loss"),
                linear.name,
                linear.last,
                knn.name,
                knn.last
            );
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let resolved = Request::parse(SETTINGS).resolve(&Registry::discover()?)?;
    let folder = tempfile::tempdir()?;
    let run = RunDir::create(&folder.path().join("run"))?;
    let mut curves = Curves(["probe_linear", "probe_knn"].map(Curve::new));
    Trainer::new(&resolved, &Device::flex()).observer(&mut curves).run(&run, Start::New)?;

    // What the observer saw is what `metrics.jsonl` holds.
    let saved = run.last_metrics().ok_or("metrics.jsonl is empty")?;
    for curve in &curves.0 {
        curve.check()?;
        if saved.get(curve.name).to_bits() != curve.last.to_bits() {
            return Err(format!("{} differs in metrics.jsonl", curve.name).into());
        }
    }
    Ok(())
}
