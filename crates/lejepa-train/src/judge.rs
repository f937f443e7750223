//! A verdict on a run, in words, with what to change first.

use lejepa_core::{Purpose, Registry, Seed};
use lejepa_objective::Gauge;
use rand::RngExt;
use serde::Serialize;

use crate::observe::StepMetrics;
use crate::rundir::RunDir;
use crate::{Result, TrainError};

/// Logged lines below which nothing can be said.
const LEAST_LINES: usize = 10;

/// Bootstrap draws for an interval.
const DRAWS: usize = 1000;

/// A run whose loss fell by less in its last fifth, relative to all that it fell, has converged.
const STILL: f64 = 0.02;

/// Misfit of the projections above which a longer run is still worth it: 0 is SIGReg of Gaussian projections, 1 that of a
/// single point. By the runs of `docs/results/README.md`.
const MISFIT: f64 = 0.08;

/// Passes over the data below which a longer run is still worth it, by the same runs.
const PASSES: f64 = 25.0;

/// Passes below which a held-out loss that rises says that the held-out samples are of another kind, as those of another
/// source are, and not that the others are known by heart.
const OVERFIT_PASSES: f64 = 10.0;

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Too few lines of metrics to tell.
    TooShort,
    /// Nearly all variance lies in a few directions, or SIGReg is near its value for a point.
    Collapsed,
    /// The held-out loss rises while the training loss falls, after ten passes over the data at least.
    Overfitted,
    /// The loss still falls, SIGReg is far from its value for Gaussian projections, or the data was passed over a few times
    /// only: since the learning rate goes to 0 at the end of a run, its loss levels off even where a longer run ends lower.
    Improving,
    /// None of these.
    Converged,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooShort => "too short to tell",
            Self::Collapsed => "collapsed",
            Self::Overfitted => "overfitted to the training samples",
            Self::Improving => "still improving",
            Self::Converged => "converged",
        })
    }
}

/// A verdict, the measurements behind it, and what to change first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Judgement {
    /// What became of the run.
    pub verdict: Verdict,
    /// How much the loss fell in the last fifth of the steps, relative to all that it fell, and the 95 % interval by a
    /// block bootstrap over logged lines.
    pub improvement: Option<(f64, [f64; 2])>,
    /// Measurements, a sentence each.
    pub reasons: Vec<String>,
    /// What to change, the most promising first.
    pub advice: Vec<String>,
}

/// Judges a run, finished or not, by its metrics and probes.
///
/// # Errors
/// What is wrong with the run's files.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
#[doc = include_str!("doc/run.txt")]
/// use lejepa_train::judge::{Verdict, judge};
///
/// // A run of a few steps.
/// assert_eq!(judge(&run, &registry)?.verdict, Verdict::TooShort);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn judge(run: &RunDir, registry: &Registry) -> Result<Judgement> {
    let resolved = run.config(registry)?;
    let metrics = run.metrics();
    if metrics.is_empty() {
        let reason = "it has no metrics yet".to_string();
        return Err(TrainError::NotARun { path: run.path().to_path_buf(), reason });
    }
    let settings = resolved.settings();
    let (views, dim) = (resolved.spec().views(), settings.projector.output);
    let gauge = resolved.objective()?.gauge(views, settings.train.batch, dim);
    let facts = Facts {
        metrics: &metrics,
        gauge,
        dim,
        lambda: settings.objective.lambda,
        info: &run.info(),
        run: run.path().display().to_string(),
    };
    Ok(facts.judgement())
}

struct Facts<'a> {
    metrics: &'a [StepMetrics],
    gauge: Gauge,
    /// Width of the projection.
    dim: usize,
    lambda: f64,
    info: &'a serde_json::Value,
    run: String,
}

impl Facts<'_> {
    fn series(&self, name: &str) -> Vec<(u64, f64)> {
        let point = |m: &StepMetrics| m.scalars.get(name).map(|value| (m.step, *value));
        self.metrics.iter().filter_map(point).filter(|(_, value)| value.is_finite()).collect()
    }

    /// The mean over the last tenth of the lines, at least one.
    fn at_the_end(&self, name: &str) -> Option<f64> {
        let all = self.series(name);
        let last = &all[all.len() - all.len().div_ceil(10).min(all.len())..];
        (!last.is_empty()).then(|| mean(last.iter().map(|p| p.1)))
    }

    fn judgement(&self) -> Judgement {
        let (mut reasons, mut advice) = (Vec::new(), Vec::new());
        let improvement = self.improvement();
        if let Some((fell, [low, high])) = improvement {
            reasons.push(format!(
                "in the last fifth of the steps the loss fell by {:.1} % of all that it fell (95 % interval {:.1} to \
                 {:.1} %)",
                100.0 * fell,
                100.0 * low,
                100.0 * high
            ));
        }
        let collapsed = self.collapsed(&mut reasons);
        let overfitted = self.overfitted(&mut reasons);
        let verdict = match improvement {
            _ if self.metrics.len() < LEAST_LINES => Verdict::TooShort,
            _ if collapsed => Verdict::Collapsed,
            _ if overfitted => Verdict::Overfitted,
            Some((fell, [low, _])) if fell > STILL && low > 0.0 => Verdict::Improving,
            _ if self.misfit().is_some_and(|misfit| misfit > MISFIT) => Verdict::Improving,
            _ if self.passes() < PASSES => Verdict::Improving,
            _ => Verdict::Converged,
        };
        reasons.push(format!("{:.1} passes over the data", self.passes()));
        self.stability(&mut reasons);
        let steps = self.metrics.last().map_or(0, |m| m.step);
        match verdict {
            Verdict::TooShort => advice.push(format!(
                "train longer before judging: {steps} steps have {} lines of metrics",
                self.metrics.len()
            )),
            Verdict::Collapsed => advice.push(format!(
                "raise objective.lambda (now {}) to twice its value, or lower train.lr to half",
                self.lambda
            )),
            Verdict::Overfitted => advice.push(
                "more samples or stronger augmentations; a smaller encoder; or stop earlier: the checkpoint `best`".into(),
            ),
            Verdict::Improving => advice.push(format!(
                "go on for as long again: lejepa resume {} --steps {steps}",
                self.run
            )),
            Verdict::Converged => {}
        }
        self.probes(&mut reasons, &mut advice);
        if let Some(share) = self.at_the_end("loader_share").filter(|share| *share > 0.3) {
            reasons
                .push(format!("{:.0} % of the time the training waited for data", 100.0 * share));
            advice.push("more data.workers, data.cache_mib or data.disk_cache".into());
        }
        if advice.is_empty() {
            advice.push(
                "nothing measured asks for a change; a larger encoder or more data may still help"
                    .into(),
            );
        }
        Judgement { verdict, improvement, reasons, advice }
    }

    /// The relative fall of the loss from the fourth fifth to the last, with its interval.
    fn improvement(&self) -> Option<(f64, [f64; 2])> {
        let all = self.series("loss");
        let steps = all.last()?.0 as f64;
        let part = |from: f64, to: f64| -> Vec<f64> {
            let within = |p: &&(u64, f64)| p.0 as f64 > from * steps && p.0 as f64 <= to * steps;
            all.iter().filter(within).map(|p| p.1).collect()
        };
        let (before, last) = (part(0.6, 0.8), part(0.8, 1.0));
        let start = all.first()?.1;
        let whole = start - mean(last.iter().copied());
        let has_moved = whole.abs() > 1e-12;
        if before.len() < 2 || last.len() < 2 || !has_moved {
            return None;
        }
        let fell = |a: &[f64], b: &[f64]| {
            (mean(a.iter().copied()) - mean(b.iter().copied())) / whole.abs()
        };
        let mut rng = Seed(0).rng(Purpose::Probe, &[]);
        // Neighbouring lines are alike: whole blocks are drawn.
        let mut drawn = |values: &[f64]| -> Vec<f64> {
            let block = ((values.len() as f64).cbrt().round() as usize).max(1);
            let mut out = Vec::with_capacity(values.len() + block);
            while out.len() < values.len() {
                let at = rng.random_range(0..=values.len() - block);
                out.extend(&values[at..at + block]);
            }
            out.truncate(values.len());
            out
        };
        let mut draws: Vec<f64> =
            (0..DRAWS).map(|_| fell(&drawn(&before), &drawn(&last))).collect();
        draws.sort_by(f64::total_cmp);
        let at = |share: f64| draws[(share * (DRAWS - 1) as f64) as usize];
        Some((fell(&before, &last), [at(0.025), at(0.975)]))
    }

    /// Passes over the data.
    fn passes(&self) -> f64 {
        self.metrics.last().map_or(0.0, |m| m.epoch)
    }

    /// Where SIGReg ended between its values for Gaussian projections and for a point.
    fn misfit(&self) -> Option<f64> {
        let Gauge { gaussian, collapsed, .. } = self.gauge;
        let sigreg = self.at_the_end("sigreg")?;
        (collapsed > gaussian).then(|| (sigreg - gaussian) / (collapsed - gaussian))
    }

    fn collapsed(&self, reasons: &mut Vec<String>) -> bool {
        let Gauge { gaussian, collapsed, .. } = self.gauge;
        let sigreg = self.at_the_end("sigreg");
        let rank = self.at_the_end("effective_rank");
        if let (Some(sigreg), Some(rank)) = (sigreg, rank) {
            reasons.push(format!(
                "SIGReg ended at {sigreg:.2} ({gaussian:.2} for Gaussian embeddings, {collapsed:.2} at total collapse), \
                 the effective rank of the projections at {rank:.1} of {}",
                self.dim
            ));
        }
        let high = collapsed > 2.0 * gaussian
            && sigreg.is_some_and(|s| s > gaussian + 0.8 * (collapsed - gaussian));
        high || self.dim >= 8 && rank.is_some_and(|rank| rank < 0.1 * self.dim as f64)
    }

    /// Whether the held-out loss rose from its lowest value by a twentieth of all that it fell, while that of training
    /// fell on.
    fn overfitted(&self, reasons: &mut Vec<String>) -> bool {
        let held_out = self.series("loss_held_out");
        let (Some(first), Some(last)) = (held_out.first(), held_out.last()) else { return false };
        let Some(lowest) = held_out.iter().min_by(|a, b| a.1.total_cmp(&b.1)) else { return false };
        let training = self.at_the_end("loss");
        if let Some(training) = training {
            let text = format!(
                "the held-out loss ended at {:.4}, that of training at {training:.4}",
                last.1
            );
            reasons.push(text);
        }
        let rose = (last.1 - lowest.1) / (first.1 - lowest.1).abs().max(1e-12);
        let fell = self.improvement().is_some_and(|(fell, _)| fell > 0.0);
        if rose > 0.05 && fell && lowest.0 < last.0 {
            let percent = 100.0 * rose;
            reasons.push(format!(
                "the held-out loss was lowest at step {} and rose by {percent:.0} % of its fall since",
                lowest.0
            ));
            let is_soon = self.passes() < OVERFIT_PASSES;
            if is_soon {
                reasons.push(
                    "after so few passes that is a held-out set of another kind, such as another source".into(),
                );
            }
            return !is_soon;
        }
        false
    }

    fn stability(&self, reasons: &mut Vec<String>) {
        let last = |name: &str| self.series(name).last().map(|p| p.1);
        if let (Some(kept), Some(rank)) = (last("neighbours_kept"), last("rankme")) {
            reasons.push(format!(
                "{:.0} % of nearest neighbours are those of the measurement before; RankMe {rank:.1}",
                100.0 * kept
            ));
        }
    }

    /// What the probes at the end say, in one sentence for each column of labels.
    fn probes(&self, reasons: &mut Vec<String>, advice: &mut Vec<String>) {
        let Some(probes) = self.info["probes"].as_array() else { return };
        let mut loses = false;
        for probe in probes {
            let score = |row: &serde_json::Value, kind: &str| row[kind].as_f64();
            let of = |kind: &str| {
                let trained = score(&probe["scores"], kind)?;
                let raw = score(&probe["raw"], kind)?;
                let untrained = score(&probe["untrained"], kind)?;
                Some([trained, untrained, raw].map(|v| 100.0 * v))
            };
            for (kind, name) in [("linear", "linear"), ("knn", "k-NN")] {
                let Some([trained, untrained, raw]) = of(kind) else { continue };
                reasons.push(format!(
                    "{name} probe of `{}`: {trained:.1} %, untrained {untrained:.1} %, raw features {raw:.1} %",
                    probe["name"].as_str().unwrap_or("class")
                ));
                loses |= trained < raw.max(untrained);
            }
        }
        if loses {
            advice.push(
                "views agree on something else than these labels: look at `lejepa views`, try another --preset, or take \
                 away what is easy to agree on (colour, background, loudness)"
                    .into(),
            );
        }
    }
}

fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count();
    values.sum::<f64>() / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        loss: impl Fn(f64) -> f64,
        more: impl Fn(f64) -> Vec<(&'static str, f64)>,
    ) -> Vec<StepMetrics> {
        let noise = |i: u64| ((i * 7919 + 13) % 1000) as f64 / 1000.0 - 0.5;
        (1..=100)
            .map(|i| {
                let t = i as f64 / 100.0;
                let mut scalars: crate::Scalars =
                    more(t).into_iter().map(|(name, value)| (name.to_string(), value)).collect();
                scalars.insert("loss".into(), loss(t) + 0.01 * noise(i));
                StepMetrics { step: 10 * i, epoch: 100.0 * t, scalars }
            })
            .collect()
    }

    fn judged(metrics: &[StepMetrics]) -> Judgement {
        let info = serde_json::json!({});
        let gauge = Gauge { gaussian: 1.0, collapsed: 20.0 };
        Facts { metrics, gauge, dim: 64, lambda: 0.05, info: &info, run: "r".into() }.judgement()
    }

    fn healthy(_: f64) -> Vec<(&'static str, f64)> {
        vec![("sigreg", 1.2), ("effective_rank", 40.0)]
    }

    #[test]
    fn what_happened_is_told() {
        let falling = judged(&run(|t| 2.0 - t, healthy));
        assert_eq!(falling.verdict, Verdict::Improving);
        let (fell, [low, high]) = falling.improvement.unwrap();
        assert!(low < fell && fell < high && (0.15..0.3).contains(&fell), "{fell}");
        assert!(falling.advice[0].contains("resume r --steps 1000"), "{:?}", falling.advice);
        let flat = judged(&run(|t| 1.0 + (-20.0 * t).exp(), healthy));
        assert_eq!(flat.verdict, Verdict::Converged);
        let far = judged(&run(
            |t| 1.0 + (-20.0 * t).exp(),
            |_| vec![("sigreg", 4.0), ("effective_rank", 40.0)],
        ));
        assert_eq!(far.verdict, Verdict::Improving);
        let mut few = run(|t| 1.0 + (-20.0 * t).exp(), healthy);
        few.iter_mut().for_each(|m| m.epoch /= 10.0);
        assert_eq!(judged(&few).verdict, Verdict::Improving);
        let point = judged(&run(|t| 2.0 - t, |_| vec![("sigreg", 19.0), ("effective_rank", 1.5)]));
        assert_eq!(point.verdict, Verdict::Collapsed);
        assert!(point.advice[0].contains("objective.lambda"));
        // A collapse from the first step on: the loss does not move.
        let still = judged(&run(|_| 0.05, |_| vec![("sigreg", 19.0), ("effective_rank", 1.5)]));
        assert_eq!(still.verdict, Verdict::Collapsed);
        let held_out = |t: f64| {
            [healthy(t), vec![("loss_held_out", 2.0 - t.min(0.5) + (t - 0.5).max(0.0))]].concat()
        };
        let mut rising = run(|t| 2.0 - t, held_out);
        assert_eq!(judged(&rising).verdict, Verdict::Overfitted);
        // After a few passes only, it is another source that is held out.
        rising.iter_mut().for_each(|m| m.epoch /= 20.0);
        let soon = judged(&rising);
        assert_eq!(soon.verdict, Verdict::Improving);
        assert!(soon.reasons.iter().any(|reason| reason.contains("another source")));
        let short = run(|t| 2.0 - t, healthy);
        assert_eq!(judged(&short[..8]).verdict, Verdict::TooShort);
    }

    #[test]
    fn noise_alone_is_no_improvement() {
        // At 95 % an interval leaves out 0 once in twenty; the fall has to be of some size as well.
        let wins = (0..40u64).filter(|seed| {
            let noise = |t: f64| ((t * 1e4) as u64).wrapping_mul(6364136223846793005 + seed) >> 40;
            let loss = |t: f64| 1.0 + (-20.0 * t).exp() + 1e-3 * (noise(t) % 1000) as f64 / 1e3;
            judged(&run(loss, healthy)).verdict == Verdict::Improving
        });
        assert!(wins.count() <= 2);
    }
}
