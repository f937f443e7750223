//! The rules of `lejepa_core::testing` that need a trainer.

use burn::module::Module;
use burn::tensor::Device;
use lejepa_core::testing::{Rule, TrainingChecks, Violation};
use lejepa_core::{Registration, Registry, Seed, Source, SourceKind, Value, View, kind};

use crate::callbacks::{views_without_gradient, without_gradient};
use crate::loader::make_batch;
use crate::model::embed;
use crate::order::Order;
use crate::readback::Readback;
use crate::resolved::{Request, Resolved};
use crate::transfer::to_device;
use crate::{Result, TrainError};

// Found by every binary that links this crate.
lejepa_core::inventory::submit! { TrainingChecks(check) }

/// Steps of the short run, and how many of them its two ends are averaged over.
const STEPS: u64 = 10;
const ENDS: usize = 2;

fn check(modality: Registration) -> Vec<Violation> {
    let mut out = Vec::new();
    let mut axes = Vec::new();
    for source in [SourceKind::Demo, SourceKind::Files] {
        match resolve(modality, source, "") {
            Ok(resolved) => axes.extend(resolved.spec().groups().iter().map(|g| g.shape.len() - 1)),
            Err(e) => out.push(Violation::new(Rule::Recipe, format!("recipe({source:?}): {e}"))),
        }
    }
    if !out.is_empty() {
        return out;
    }
    let names: Vec<&str> = match Registry::discover() {
        Ok(registry) => {
            let name = modality.meta().name;
            let fits = |scope: Option<&str>| scope.is_none_or(|scope| scope == name);
            let takes = |item: &&Registration| {
                let entry = item.entry::<kind::Encoder>();
                entry.is_some_and(|e| axes.iter().all(|axes| e.build().axes.contains(axes)))
            };
            let all = registry.all::<kind::Encoder>().filter(takes).map(Registration::meta);
            all.filter(|meta| fits(meta.scope)).map(|meta| meta.name).collect()
        }
        Err(e) => return vec![Violation::new(Rule::Encoders, e)],
    };
    if names.is_empty() {
        let what = "no encoder is linked: add `use lejepa_nn as _;`";
        return vec![Violation::new(Rule::Encoders, what)];
    }
    for name in names {
        let resolved = resolve(modality, SourceKind::Demo, name).map(smaller);
        if let Err(e) = resolved.and_then(|r| short_run(&r, name, &mut out)) {
            out.push(Violation::new(Rule::Encoders, format!("{name}: {e}")));
        }
    }
    out
}

/// The modality's recipe with one encoder, small enough for a test.
fn resolve(modality: Registration, source: SourceKind, encoder: &str) -> Result<Resolved> {
    let name = modality.meta().name;
    // The registry that was discovered may hold this modality already, under its own origin.
    let mut registry = Registry::discover()?;
    if registry.find::<kind::Modality>(name, None).is_err() {
        registry.add(modality)?;
    }
    let mut assignments = vec![format!("modality={name}"), "objective.slices=64".into()];
    if source == SourceKind::Files {
        assignments.push("data.source=files".into());
    }
    if !encoder.is_empty() {
        let streams = registry.find::<kind::Modality>(name, None)?.build().streams;
        let names = streams.iter().map(|stream| format!("encoder.{stream}.name={encoder}"));
        assignments.extend(names);
        if streams.is_empty() {
            assignments.push(format!("encoder.name={encoder}"));
        }
    }
    Request { assignments, ..Request::default() }.resolve(&registry)
}

/// The same configuration with a small encoder, where the encoder has these keys and takes these values:
/// the checks are about the modality.
fn smaller(resolved: Resolved) -> Resolved {
    let mut small = resolved.clone();
    for stream in resolved.spec().streams() {
        let section = resolved.encoder_key(stream);
        for (key, value) in [("width", 24), ("depth", 1)] {
            let key = format!("{section}.{key}");
            if let Ok(changed) = small.with([(key.as_str(), Value::Integer(value))]) {
                small = changed;
            }
        }
    }
    small
}

fn short_run(resolved: &Resolved, name: &str, out: &mut Vec<Violation>) -> Result<()> {
    let source = resolved.open(Source::Demo)?;
    let spec = resolved.spec();
    let mut learner = resolved.learner(&Device::flex())?;
    for (stream, encoder) in spec.streams().into_iter().zip(&learner.model.encoders) {
        for group in spec.stream(stream).groups() {
            let shape = group.max_shape();
            let view = View::new(shape.clone(), vec![0.1; shape.iter().product()])?;
            let flat = to_device(&[&view, &view], &Device::flex())?;
            let embedded = encoder.encode(flat, &shape)?.dims();
            if embedded != [2, encoder.dim()] {
                let what = &group.name;
                let text =
                    format!("{name}: a {what} view of {shape:?} is embedded as {embedded:?}");
                out.push(Violation::new(Rule::Encoders, text));
            }
        }
    }
    let batch = source.len().min(8);
    let order = Order::new((0..source.len()).collect(), batch, Seed(0));
    let mut losses = Vec::new();
    for step in 0..STEPS {
        // The same batch every time: whether it can be learnt, not whether it generalises.
        let views_of_step = make_batch(source.as_ref(), &order, 0, 0..batch)?;
        let pass = learner.pass(&views_of_step, 0)?;
        let (scalars, _) = Readback::new(&pass, &views_of_step, &[], false)?;
        losses.extend(scalars.first().map(|(_, loss)| *loss));
        if step == 0 {
            let axes = learner.objective.axes(&pass.projections, Seed(0), 0);
            let dead = views_without_gradient(&learner, spec, &pass, axes)?;
            if !dead.is_empty() {
                out.push(Violation::new(
                    Rule::Gradients,
                    format!("{name}: none to views {dead:?}"),
                ));
            }
            let dead = without_gradient(&learner.model, &pass.gradients);
            if !dead.is_empty() {
                let text = format!("{name}: none to the parameters {}", dead.join(", "));
                out.push(Violation::new(Rule::Gradients, text));
            }
        }
        learner = learner.update(resolved.settings().train.lr, pass.gradients);
    }
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (first, last) = (mean(&losses[..ENDS]), mean(&losses[losses.len() - ENDS..]));
    if !(last.is_finite() && last < first) {
        let text = format!("{name}: {STEPS} steps take the loss from {first:.4} to {last:.4}");
        out.push(Violation::new(Rule::Learns, text));
    }
    // What is evaluated has no gradients to be wrong, but it has to work.
    let eval = source.checked_eval_views(0)?;
    let streams: Vec<Vec<&View>> = eval.iter().map(|view| vec![view]).collect();
    let frozen: Vec<_> = learner.model.encoders.iter().map(Module::valid).collect();
    let embedded = embed(&frozen, &streams, &Device::flex())?;
    let values = embedded.try_into_vec_as::<f32>().map_err(TrainError::from)?;
    if !values.iter().all(|x| x.is_finite()) {
        out.push(Violation::new(Rule::Encoders, format!("{name}: an embedding is not finite")));
    }
    Ok(())
}
