//! `lejepa probe RUN`: score a run's encoder beside others.

use std::path::Path;

use burn::tensor::Device;
use lejepa_core::{LabelKind, Registry, Value as Setting};
use lejepa_train::probe::{ProbeKind, ProbeResult, attentive, probe};
use lejepa_train::{
    Embedder, Model, Prepared, ProbeComparison, Request, Resolved, RunDir, checkpoint,
    compare_probes, cross_validate, few_shots, probe_layers, retrieval,
};
use serde_json::{Value, json};

use self::divided::{columns, mean_json, print_folds, print_shots};
use super::scores::{More, print_probes, print_retrieval, probes_json};
use crate::args::{Args, ProbeArgs};
use crate::console::Console;
use crate::error::CliError;
use crate::output::outln;

mod divided;

pub(super) fn run(args: &Args, words: &ProbeArgs, registry: &Registry) -> Result<Value, CliError> {
    let run = RunDir::open(&words.run)?;
    let resolved = run.config(registry)?.with([("probe.enabled", Setting::Boolean(true))])?;
    let device = words.device.as_ref().unwrap_or(&resolved.settings().device);
    let (device, _) = crate::device::open(crate::device::choose(device)?)?;
    let checkpoint = super::checkpoint(&run, &words.checkpoint)?;
    let step = checkpoint::load_state(&checkpoint)?.step;
    let console = Console::new(args.quiet);
    console.line(&format!("probing {} at step {step}", run.path().display()));
    let learning = device.clone().autodiff();
    let model = checkpoint::load_evaluated(&checkpoint, resolved.model(&learning)?)?;
    let mut job = Job { args, words, registry, device, model, console };
    let mut out = match &words.data[..] {
        [] => job.on(&resolved)?,
        [one] => job.on(&job.moved(&resolved, one)?)?,
        several => {
            let mut all = Vec::new();
            for data in several {
                if !args.json {
                    outln!("\n{data}");
                }
                let mut scored = job.on(&job.moved(&resolved, data)?)?;
                scored["data"] = json!(data);
                all.push(scored);
            }
            json!({ "sources": all })
        }
    };
    out["run"] = json!(run.path().display().to_string());
    out["step"] = json!(step);
    Ok(out)
}

struct Job<'a> {
    args: &'a Args,
    words: &'a ProbeArgs,
    registry: &'a Registry,
    device: Device,
    model: Model,
    console: Console,
}

impl Job<'_> {
    /// The same configuration on other data.
    fn moved(&self, resolved: &Resolved, data: &str) -> Result<Resolved, CliError> {
        Ok(resolved.with([("data.source", Setting::String(data.into()))])?)
    }

    /// All that was asked for, on the data of a configuration.
    fn on(&mut self, resolved: &Resolved) -> Result<Value, CliError> {
        let prepared = Prepared::new(resolved, &mut self.console)?;
        if self.words.folds {
            return self.folds(&prepared, resolved);
        }
        if !self.words.shots.is_empty() {
            return self.shots(&prepared, resolved);
        }
        let (device, console) = (&self.device, &mut self.console);
        let (probes, _) = compare_probes(&prepared, resolved, &self.model, device, console)?;
        let more = self.more(&prepared, resolved)?;
        let mut out = json!({});
        if !self.args.json {
            print_probes(&probes, &more);
        }
        out["probe"] = probes_json(&probes, &more);
        let (device, console) = (&self.device, &mut self.console);
        let found = retrieval(&prepared, resolved, &self.model, device, console)?;
        if !self.args.json {
            print_retrieval(&found);
        }
        out["retrieval"] = json!(found);
        if self.words.attentive {
            let (device, console) = (&self.device, &mut self.console);
            let all = attentive(&prepared, resolved, &self.model, device, console)?;
            for row in all.iter().filter(|_| !self.args.json) {
                let cell = |value: f64, [low, high]: [f64; 2]| {
                    let [value, low, high] = [value, low, high].map(|v| 100.0 * v);
                    format!("{value:>5.1} %  ({low:>5.1} to {high:>5.1})")
                };
                outln!("\nattentive probe of `{}`", row.label);
                outln!("  trained      {}", cell(row.trained, row.trained_interval));
                outln!("  untrained    {}", cell(row.untrained, row.untrained_interval));
            }
            out["attentive"] = json!(all);
        }
        if self.words.classes {
            out["classes"] = probes.iter().map(|p| self.classes(p)).collect();
        }
        Ok(out)
    }

    /// Rows that were asked for besides those that every table has.
    fn more(&mut self, prepared: &Prepared, resolved: &Resolved) -> Result<More, CliError> {
        let (sets, config) = (&prepared.plan.probes, &resolved.settings().probe);
        let mut more = More::new();
        if let Some(count) = self.words.layers {
            let untrained = resolved.model(&self.device)?;
            for (name, model) in [("", &self.model), (", untrained", &untrained)] {
                let source = prepared.source.as_ref();
                let (device, console) = (&self.device, &mut self.console);
                let count = count as usize;
                let rows = probe_layers(model, source, sets, count, config, device, console)?;
                more.push((format!("last {count} layers{name}"), rows));
            }
        }
        for other in &self.words.against {
            let rows = self.against(other, prepared, resolved)?;
            more.push((other.clone(), rows));
        }
        Ok(more)
    }

    /// The scores of another run or an export, or of weights in a file, on the samples of this run.
    fn against(
        &mut self,
        other: &str,
        prepared: &Prepared,
        resolved: &Resolved,
    ) -> Result<Vec<ProbeResult>, CliError> {
        let data = &resolved.settings().data.source;
        let modality = resolved.modality().name();
        let (sets, config) = (&prepared.plan.probes, &resolved.settings().probe);
        if Path::new(other).is_dir() {
            let embedder = Embedder::open(Path::new(other), self.registry, &self.device)?;
            let theirs = embedder.resolved().modality().name();
            if theirs != modality {
                let message = format!("{other} is of {theirs} data");
                let hint = format!("--against takes encoders of the modality `{modality}`");
                return Err(CliError::Usage(message, hint));
            }
            let source = embedder.source(data)?;
            return Ok(embedder.probe(source.as_ref(), sets, config, &mut self.console)?);
        }
        let assign = |key: &str, value: &str| format!("{key}={}", Setting::from(value));
        let assignments = vec![
            format!("modality={modality}"),
            assign("data.source", data),
            assign("train.init", other),
        ];
        let request = Request { assignments, ..Request::default() };
        let theirs = request.fit(self.registry, || false)?.resolved;
        let model = theirs.initial_model(&self.device, &mut self.console)?;
        let source = theirs.open_configured()?;
        let (device, console) = (&self.device, &mut self.console);
        Ok(probe(&model, source.as_ref(), sets, config, device, console)?.0)
    }

    fn folds(&mut self, prepared: &Prepared, resolved: &Resolved) -> Result<Value, CliError> {
        let (device, console) = (&self.device, &mut self.console);
        let all = cross_validate(prepared, resolved, &self.model, device, console)?;
        if all.is_empty() {
            return Err(CliError::Usage(
                "the data has no folds, or no labels".into(),
                "give a manifest with the columns `path`, `label` and `fold`".into(),
            ));
        }
        if !self.args.json {
            print_folds(&all, self.words.data.is_empty());
        }
        let means: Vec<_> = columns(&all).into_iter().map(|rows| mean_json(&rows)).collect();
        Ok(json!({ "folds": all, "columns": means }))
    }

    fn shots(&mut self, prepared: &Prepared, resolved: &Resolved) -> Result<Value, CliError> {
        let shots: Vec<usize> = self.words.shots.iter().map(|&n| n as usize).collect();
        let (device, console) = (&self.device, &mut self.console);
        let all = few_shots(prepared, resolved, &self.model, &shots, device, console)?;
        if all.is_empty() {
            let hint = "give a manifest with the columns `path` and `label`".into();
            return Err(CliError::Usage("the data has no classes".into(), hint));
        }
        if !self.args.json {
            print_shots(&all);
        }
        Ok(json!({ "shots": all }))
    }

    /// What the probes make of each class, as a table and with who is taken for whom.
    fn classes(&self, probes: &ProbeComparison) -> Value {
        let result = &probes.trained;
        let rows = result.per_class();
        if !self.args.json && !rows.is_empty() {
            let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(5);
            let (what, score) = match result.kind {
                LabelKind::Tags => ("tag", "average precision"),
                _ => ("class", "right"),
            };
            outln!("\n{score} of each {what} of `{}`, by the trained encoder", result.name);
            outln!("  {what:<width$}  scored   linear     k-NN  taken for (linear)");
            for row in &rows {
                let taken = row.taken_for.as_ref();
                let taken = taken.map_or(String::new(), |(name, n)| format!("{name} ({n})"));
                let (linear, knn) = (100.0 * row.linear, 100.0 * row.knn);
                let line = format!(
                    "  {:<width$}  {:>6}  {linear:>5.1} %  {knn:>5.1} %  {taken}",
                    row.name, row.test
                );
                outln!("{}", line.trim_end());
            }
        }
        json!({
            "label": result.name,
            "classes": rows,
            "confusion": {
                "linear": result.confusion(ProbeKind::Linear), "knn": result.confusion(ProbeKind::Knn),
            },
        })
    }
}
