//! The rules of `lejepa_core::testing` that need a trainer.

use burn::module::Module;
use burn::tensor::Device;
use lejepa_core::testing::{Rule, TrainingChecks, Violation};
use lejepa_core::{ModalityEntry, Registration, Registry, Seed, Source, Value, View};

use crate::loader::{Order, make_batch};
use crate::model::{Model, scalar};
use crate::monitor::{views_without_gradient, without_gradient};
use crate::resolved::{Request, Resolved};
use crate::step::{Learner, Pass};
use crate::{Result, TrainError};

// The submission is found by whoever links this crate.
lejepa_core::inventory::submit! { TrainingChecks(check) }

/// Steps of the short run, and how many of them its two ends are averaged over.
const STEPS: u64 = 10;
const ENDS: usize = 2;

fn check(entry: &ModalityEntry) -> Vec<Violation> {
    let mut out = Vec::new();
    for demo in [true, false] {
        if let Err(e) = resolve(entry, demo, "") {
            out.push(Violation::new(Rule::Recipe, format!("recipe({demo}): {e}")));
        }
    }
    if !out.is_empty() {
        return out;
    }
    let names: Vec<&str> = match Registry::discover() {
        Ok(registry) => {
            let fits = |m: Option<&str>| m.is_none_or(|m| m == entry.name);
            registry.encoders().filter(|e| fits(e.modality)).map(|e| e.name).collect()
        }
        Err(e) => return vec![Violation::new(Rule::Encoders, e)],
    };
    if names.is_empty() {
        let what = "no encoder is linked: add `use lejepa_nn as _;`";
        return vec![Violation::new(Rule::Encoders, what)];
    }
    for name in names {
        let resolved = resolve(entry, true, name).map(smaller);
        if let Err(e) = resolved.and_then(|r| short_run(&r, name, &mut out)) {
            out.push(Violation::new(Rule::Encoders, format!("{name}: {e}")));
        }
    }
    out
}

/// The modality's recipe with one encoder, small enough for a test.
fn resolve(entry: &ModalityEntry, demo: bool, encoder: &str) -> Result<Resolved> {
    // The registry that was discovered may hold this modality already, under its own origin.
    let mut registry = Registry::discover()?;
    if registry.find_modality(entry.name).is_err() {
        registry = registry.with(Registration::Modality(*entry))?;
    }
    let mut assignments = vec![format!("modality={}", entry.name), "objective.slices=64".into()];
    if !demo {
        assignments.push("data.source=files".into());
    }
    if !encoder.is_empty() {
        assignments.push(format!("encoder.name={encoder}"));
    }
    Request { file: None, assignments }.resolve(&registry)
}

/// The same with a narrow and shallow encoder, where it has keys for that: a test should take
/// seconds.
fn smaller(resolved: Resolved) -> Resolved {
    let mut small = resolved.clone();
    for (key, value) in [("width", 24), ("depth", 1)] {
        let section = small.table.get_mut("encoder").and_then(Value::as_table_mut);
        if let Some(slot @ Value::Integer(_)) = section.and_then(|s| s.get_mut(key)) {
            *slot = Value::Integer(value);
        }
    }
    let builds = || -> Result<()> {
        let views = small.open(Source::Demo)?.spec().clone();
        (small.encoder.build)(&small.encoder_section(), &views, &Device::flex())?;
        Ok(())
    };
    if builds().is_ok() { small } else { resolved }
}

fn short_run(resolved: &Resolved, name: &str, out: &mut Vec<Violation>) -> Result<()> {
    let source = resolved.open(Source::Demo)?;
    let views = source.spec().clone();
    let mut learner = Learner::new(resolved, &views, &Device::flex())?;
    for (what, shape) in [("global", &views.global), ("local", &views.local)] {
        let view = View::new(shape.clone(), vec![0.1; shape.iter().product()])?;
        let embedded = learner.model.embed(&[&view, &view], &Device::flex())?.dims();
        if embedded != [2, learner.model.encoder.dim()] {
            let text = format!("{name}: a {what} view of {shape:?} is embedded as {embedded:?}");
            out.push(Violation::new(Rule::Encoders, text));
        }
    }
    let batch = source.len().min(8);
    let seed = Seed(0);
    let order = Order { indices: std::sync::Arc::new((0..source.len()).collect()), batch, seed };
    let mut losses = Vec::new();
    for step in 0..STEPS {
        // The same batch every time: whether it can be learnt, not whether it generalises.
        let views_of_step = make_batch(source.as_ref(), &order, 0)?;
        let Pass { losses: loss, projections: z, gradients } = learner.pass(&views_of_step, 0)?;
        losses.push(scalar(loss.total)?);
        if step == 0 {
            let axes = learner.objective.axes(&z, seed, 0);
            let dead = views_without_gradient(&learner.objective, &z, views.globals, axes)?;
            if !dead.is_empty() {
                out.push(Violation::new(
                    Rule::Gradients,
                    format!("{name}: none to views {dead:?}"),
                ));
            }
            let dead = without_gradient(&learner.model, &gradients);
            if !dead.is_empty() {
                let text = format!("{name}: none to the parameters {}", dead.join(", "));
                out.push(Violation::new(Rule::Gradients, text));
            }
        }
        learner = learner.update(resolved.settings.train.lr, gradients);
    }
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (first, last) = (mean(&losses[..ENDS]), mean(&losses[losses.len() - ENDS..]));
    if !(last.is_finite() && last < first) {
        let text = format!("{name}: {STEPS} steps take the loss from {first:.4} to {last:.4}");
        out.push(Violation::new(Rule::Learns, text));
    }
    // What is evaluated has no gradients to be wrong, but it has to work.
    let eval: View = source.eval_view(0)?;
    let width = eval.values().len();
    let model = &learner.model;
    let frozen = Model { encoder: model.encoder.valid(), projector: model.projector.valid() };
    let still = frozen.embed(&[&eval], &Device::flex())?;
    let values = still.try_into_vec_as::<f32>().map_err(TrainError::from)?;
    if width == 0 || !values.iter().all(|x| x.is_finite()) {
        out.push(Violation::new(Rule::Encoders, format!("{name}: an embedding is not finite")));
    }
    Ok(())
}
