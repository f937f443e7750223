//! Which run of a sweep is best, by scores that need no labels, and how well those agree with probes.

use std::path::{Path, PathBuf};

use lejepa_core::{Purpose, Registry, Seed};
use lejepa_train::judge::judge;
use lejepa_train::{RunDir, StepMetrics};
use rand::RngExt;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::output::outln;

/// A label-free score: its name, and whether a high value is good.
const SCORES: [(&str, bool); 6] = [
    ("loss", false),
    // Comparable between λ (arXiv 2511.08544, section 6).
    ("loss/lambda^0.4", false),
    ("loss_held_out", false),
    ("sigreg_held_out", false),
    ("rankme", true),
    ("lidar", true),
];

/// The score that runs are ordered by.
const ORDER: &str = "loss/lambda^0.4";

/// Runs below which a correlation says nothing.
const LEAST: usize = 4;

/// A run of a sweep.
pub(super) struct Row {
    pub(super) settings: Vec<String>,
    folder: PathBuf,
    verdict: String,
    step: u64,
    /// 0 for runs that came to their end, 1 for others.
    pub(super) ended: u8,
    scores: Vec<Option<f64>>,
    /// Accuracies of the first column of labels.
    linear: Option<f64>,
    knn: Option<f64>,
}

impl Row {
    pub(super) fn of(folder: &Path, registry: &Registry) -> Result<Self, CliError> {
        let run = RunDir::open(folder)?;
        let (metrics, info) = (run.metrics(), run.info());
        let lambda = run.config(registry)?.settings().objective.lambda;
        let score = |(name, _): (&str, bool)| match name.split_once('/') {
            Some((name, _)) => last_tenth(&metrics, name).map(|loss| loss / lambda.powf(0.4)),
            None => last_tenth(&metrics, name),
        };
        let verdict = judge(&run, registry).map_or("failed".into(), |j| j.verdict.to_string());
        let probe = |kind: &str| info["probes"][0]["scores"][kind].as_f64();
        Ok(Self {
            settings: Vec::new(),
            folder: folder.to_path_buf(),
            verdict,
            step: metrics.last().map_or(0, |m| m.step),
            ended: u8::from(info["status"] != "finished"),
            scores: SCORES.map(score).to_vec(),
            linear: probe("linear"),
            knn: probe("knn"),
        })
    }

    /// What runs are ordered by, the lowest first.
    pub(super) fn score(&self) -> f64 {
        let at = SCORES.iter().position(|(name, _)| *name == ORDER);
        at.and_then(|at| self.scores[at]).unwrap_or(f64::INFINITY)
    }

    pub(super) fn json(&self) -> Value {
        let scores: serde_json::Map<String, Value> = SCORES
            .iter()
            .zip(&self.scores)
            .map(|((name, _), v)| ((*name).into(), json!(v)))
            .collect();
        json!({
            "run": self.folder.display().to_string(), "settings": self.settings, "steps": self.step,
            "finished": self.ended == 0, "verdict": self.verdict, "scores": scores,
            "linear": self.linear, "knn": self.knn,
        })
    }
}

/// The mean over the last tenth of the lines that have this number, at least one.
fn last_tenth(metrics: &[StepMetrics], name: &str) -> Option<f64> {
    let all: Vec<f64> = metrics.iter().filter_map(|m| m.scalars.get(name).copied()).collect();
    let last = &all[all.len() - all.len().div_ceil(10)..];
    (!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64)
}

/// How a score agrees with the linear probe.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Correlation {
    score: &'static str,
    /// Spearman's ρ, positive where a good score goes with a good probe.
    rho: f64,
    /// 95 % interval by bootstrap over runs.
    interval: [f64; 2],
    runs: usize,
}

/// Correlations with the linear probe over the runs that came to their end; none where too few have labels.
pub(super) fn correlations(rows: &[Row]) -> Vec<Correlation> {
    let of = |(at, (name, is_high_good)): (usize, &(&'static str, bool))| {
        let sign = if *is_high_good { 1.0 } else { -1.0 };
        let ended = rows.iter().filter(|row| row.ended == 0);
        let pairs: Vec<(f64, f64)> =
            ended.filter_map(|row| Some((sign * row.scores[at]?, row.linear?))).collect();
        let rho = spearman(&pairs)?;
        let mut rng = Seed(0).rng(Purpose::Probe, &[at as u64]);
        let mut draws: Vec<f64> = (0..1000)
            .filter_map(|_| {
                let drawn: Vec<_> =
                    (0..pairs.len()).map(|_| pairs[rng.random_range(0..pairs.len())]).collect();
                spearman(&drawn)
            })
            .collect();
        draws.sort_by(f64::total_cmp);
        let quantile =
            |share: f64| draws.get((share * draws.len() as f64) as usize).copied().unwrap_or(rho);
        Some(Correlation {
            score: name,
            rho,
            interval: [quantile(0.025), quantile(0.975)],
            runs: pairs.len(),
        })
    };
    SCORES.iter().enumerate().filter_map(of).collect()
}

/// Spearman's rank correlation, ties sharing their mean rank; `None` of too few pairs or of equal values.
fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < LEAST {
        return None;
    }
    let ranks = |of: fn(&(f64, f64)) -> f64| -> Vec<f64> {
        let values: Vec<f64> = pairs.iter().map(of).collect();
        let rank = |v: &f64| {
            let below = values.iter().filter(|other| *other < v).count();
            let equal = values.iter().filter(|other| *other == v).count();
            below as f64 + (equal as f64 - 1.0) / 2.0
        };
        values.iter().map(rank).collect()
    };
    let (a, b) = (ranks(|p| p.0), ranks(|p| p.1));
    let mean = (pairs.len() as f64 - 1.0) / 2.0;
    let sum =
        |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let spread = (sum(&a, &a) * sum(&b, &b)).sqrt();
    (spread > 0.0).then(|| sum(&a, &b) / spread)
}

pub(super) fn print(rows: &[Row], correlations: &[Correlation]) {
    let number = |v: Option<f64>| v.map_or("-".to_string(), |v| format!("{v:.4}"));
    let percent = |v: Option<f64>| v.map_or("-".to_string(), |v| format!("{:.1}", 100.0 * v));
    let mut table = vec![vec!["settings".to_string(), "verdict".into(), "steps".into()]];
    table[0].extend(SCORES.iter().map(|(name, _)| (*name).to_string()));
    table[0].extend(["linear %".into(), "k-NN %".into()]);
    for row in rows {
        let mut cells = vec![row.settings.join(" "), row.verdict.clone(), row.step.to_string()];
        cells.extend(row.scores.iter().map(|v| number(*v)));
        cells.extend([percent(row.linear), percent(row.knn)]);
        table.push(cells);
    }
    crate::cmd::runs::lines(&table, 2);
    for c in correlations {
        let [low, high] = c.interval;
        outln!(
            "{} and the linear probe: Spearman's rho {:+.2} (95 % interval {low:+.2} to {high:+.2}, {} runs)",
            c.score,
            c.rho,
            c.runs
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_agree_whatever_the_scale() {
        let rising: Vec<(f64, f64)> = (0..6).map(|i| (f64::from(i), f64::from(i).exp())).collect();
        assert_eq!(spearman(&rising), Some(1.0));
        let falling: Vec<(f64, f64)> = rising.iter().map(|(a, b)| (-a, *b)).collect();
        assert_eq!(spearman(&falling), Some(-1.0));
        assert_eq!(spearman(&rising[..3]), None);
        assert_eq!(spearman(&[(1.0, 1.0); 5]), None);
        // Ties share their rank: ρ of (1, 1, 2, 3) and (1, 2, 3, 4) is 0.9487 (SciPy's spearmanr).
        let tied = [(1.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0)];
        assert!((spearman(&tied).unwrap() - 0.948_683).abs() < 1e-5);
    }
}
