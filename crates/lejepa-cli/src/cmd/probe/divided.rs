//! Probes over folds and of a few samples of each class, as tables.

use lejepa_train::probe::Scores;
use lejepa_train::{FoldScores, ShotScores};
use serde_json::{Value, json};

use crate::output::outln;

/// The folds of each column of labels.
pub(super) fn columns(all: &[FoldScores]) -> Vec<Vec<&FoldScores>> {
    let mut names: Vec<&str> = all.iter().map(|row| row.label.as_str()).collect();
    names.dedup();
    names.into_iter().map(|name| all.iter().filter(|row| row.label == name).collect()).collect()
}

/// Mean and standard deviation over folds, in percent.
fn over_folds(rows: &[&FoldScores], of: impl Fn(&FoldScores) -> f64) -> (f64, f64) {
    let values: Vec<f64> = rows.iter().map(|row| 100.0 * of(row)).collect();
    mean_and_deviation(&values)
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (squares / (values.len() as f64 - 1.0).max(1.0)).sqrt())
}

/// The scores of one kind of features.
type Of = fn(&FoldScores) -> &Scores;

/// What is compared, by name.
const FEATURES: [(&str, Of); 3] = [
    ("trained", |row| &row.trained),
    ("untrained", |row| &row.untrained),
    ("raw features", |row| &row.raw),
];

/// A number for each draw, by what is compared.
type OfShots = fn(&ShotScores) -> &Scores;

pub(super) fn print_shots(all: &[ShotScores]) {
    let features: [(&str, OfShots); 3] = [
        ("trained", |row| &row.trained),
        ("untrained", |row| &row.untrained),
        ("raw features", |row| &row.raw),
    ];
    let mut seen = Vec::new();
    for row in all {
        let key = (row.label.as_str(), row.shots);
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let rows: Vec<&ShotScores> =
            all.iter().filter(|other| (other.label.as_str(), other.shots) == key).collect();
        outln!(
            "\nprobe of `{}` fitted on {} of each class: mean (deviation) of {} draws",
            row.label,
            row.shots,
            rows.len()
        );
        outln!("                     linear             k-NN");
        for (name, of) in features {
            let cell = |score: fn(&Scores) -> f64| {
                let values = rows.iter().map(|row| 100.0 * score(of(row)));
                let (mean, deviation) = mean_and_deviation(&values.collect::<Vec<_>>());
                format!("{mean:>5.1} % ({deviation:>4.1})")
            };
            outln!("  {name:<15}{}     {}", cell(|s| s.linear), cell(|s| s.knn));
        }
    }
}

/// Scores of folds; `is_own` tells whether they are those of the data that the run trained on.
pub(super) fn print_folds(all: &[FoldScores], is_own: bool) {
    for rows in columns(all) {
        outln!(
            "\nprobe of `{}` over {} folds, each with what was fitted on the others",
            rows[0].label,
            rows.len()
        );
        let folds: Vec<String> = rows.iter().map(|row| format!("{:>6}", row.fold)).collect();
        outln!("                       mean  (deviation) {}", folds.join(""));
        for (kind, score) in
            [("linear", (|s: &Scores| s.linear) as fn(&Scores) -> f64), ("k-NN", |s| s.knn)]
        {
            for (name, of) in FEATURES {
                let (mean, deviation) = over_folds(&rows, |row| score(of(row)));
                let each = rows.iter().map(|row| format!("{:>6.1}", 100.0 * score(of(row))));
                outln!(
                    "  {kind:<7}{name:<13}{mean:>5.1}  ({deviation:>5.1})     {}",
                    each.collect::<String>()
                );
            }
        }
    }
    if is_own {
        let held_out = "the one that the run held out";
        outln!("\nthe encoder saw samples of all folds but {held_out}, without their labels");
    }
}

pub(super) fn mean_json(rows: &[&FoldScores]) -> Value {
    let mut out = json!({ "label": rows[0].label, "folds": rows.len() });
    for (name, of) in FEATURES {
        let linear = over_folds(rows, |row| of(row).linear);
        let knn = over_folds(rows, |row| of(row).knn);
        out[name] = json!({
            "linear": linear.0 / 100.0, "linear_deviation": linear.1 / 100.0,
            "knn": knn.0 / 100.0, "knn_deviation": knn.1 / 100.0,
        });
    }
    out
}
