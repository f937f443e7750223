//! Scores of probes as a table, and as JSON.

use lejepa_core::LabelKind;
use lejepa_train::ProbeComparison;
use lejepa_train::Retrieval;
use lejepa_train::probe::{ProbeResult, Scores};
use serde_json::{Value, json};

use crate::output::outln;

/// Further rows: what they are of, and its scores for each column of labels.
pub(super) type More = Vec<(String, Vec<ProbeResult>)>;

/// The scores of further rows for one column of labels.
fn of_column<'a>(more: &'a More, column: &'a str) -> impl Iterator<Item = (&'a str, &'a Scores)> {
    more.iter().filter_map(move |(name, results)| {
        let result = results.iter().find(|result| result.name == column)?;
        Some((name.as_str(), &result.scores))
    })
}

/// Scores as a table.
pub(super) fn print_probes(probes: &[ProbeComparison], more: &More) {
    for p in probes {
        let t = &p.trained;
        let (what, guessing) = match t.kind {
            LabelKind::Classes => (format!("{} classes", t.classes), 100.0 * t.chance),
            LabelKind::Tags => {
                (format!("mean average precision of {} tags", t.classes), 100.0 * t.chance)
            }
            LabelKind::Numbers => ("numbers, variance explained (R²)".into(), 0.0),
        };
        outln!(
            "\nprobe of `{}`: {what}, fitted on {}, scored on {}, guessing gives {guessing:.1} %",
            t.name,
            t.train,
            t.test,
        );
        let mut rows = vec![("trained", &t.scores)];
        rows.extend(p.initial.as_ref().map(|scores| ("initial", scores)));
        rows.extend([("untrained", &p.untrained), ("raw features", &p.raw)]);
        rows.extend(of_column(more, &t.name));
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        outln!("  {:width$}  linear  (95 % interval)     k-NN  (95 % interval)", "");
        for (name, s) in rows {
            let cell = |value: f64, [low, high]: [f64; 2]| {
                let (value, low, high) = (value * 100.0, low * 100.0, high * 100.0);
                format!("{value:>5.1} %  ({low:>5.1} to {high:>5.1})")
            };
            let (linear, knn) = (cell(s.linear, s.linear_interval), cell(s.knn, s.knn_interval));
            outln!("  {name:<width$} {linear}  {knn}");
        }
        outln!("  {}", p.verdict());
    }
}

/// How well streams find each other.
pub(super) fn print_retrieval(found: &[Retrieval]) {
    let Some(first) = found.first() else { return };
    outln!("\nretrieval among {} held-out samples", first.samples);
    outln!("  {:18}  {:>9}  {:>9}  {:>9}  median rank", "", "R@1", "R@5", "R@10");
    let row = |name: &str, recall: [f64; 3], median: f64| {
        let [one, five, ten] = recall.map(|share| 100.0 * share);
        outln!("  {name:18}  {one:>7.1} %  {five:>7.1} %  {ten:>7.1} %  {median:>11.1}");
    };
    for r in found {
        outln!("  {} by {}", r.of, r.by);
        row("  trained", r.trained.recall, r.trained.median);
        row("  untrained", r.untrained.recall, r.untrained.median);
    }
    row("guessing", first.chance(), (first.samples + 1) as f64 / 2.0);
}

/// Scores of the first label column at the top, all columns under `columns`.
pub(super) fn probes_json(probes: &[ProbeComparison], more: &More) -> Value {
    let Some(first) = probes.first() else { return Value::Null };
    let row = |of: fn(&Scores) -> (f64, [f64; 2]), p: &ProbeComparison| {
        let (trained, interval) = of(&p.trained.scores);
        json!({
            "trained": trained, "interval": interval,
            "initial": p.initial.as_ref().map(|scores| of(scores).0),
            "untrained": of(&p.untrained).0, "raw": of(&p.raw).0,
        })
    };
    let scores = |p: &ProbeComparison| {
        let further: Vec<Value> = of_column(more, &p.trained.name)
            .map(|(name, s)| {
                json!({
                    "name": name, "linear": s.linear, "linear_interval": s.linear_interval,
                    "knn": s.knn, "knn_interval": s.knn_interval,
                })
            })
            .collect();
        let mut out = json!({
            "linear": row(|s| (s.linear, s.linear_interval), p),
            "knn": row(|s| (s.knn, s.knn_interval), p),
            "verdict": p.verdict(),
            "label": p.trained.name, "kind": p.trained.kind, "classes": p.trained.classes, "chance": p.trained.chance,
            "fitted_on": p.trained.train, "scored_on": p.trained.test,
        });
        if !further.is_empty() {
            out["more"] = further.into();
        }
        out
    };
    let mut out = scores(first);
    out["columns"] = probes.iter().map(scores).collect();
    out
}
