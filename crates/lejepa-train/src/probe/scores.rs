//! Scores of probes, with intervals, and what each class adds to them.

use lejepa_core::LabelKind;

/// Scores of one label column.
///
/// For classes they are accuracies, for tags mean average precisions, both 0 to 1; for numbers the share of the
/// variance that is explained, R², at most 1.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Scores {
    /// Of a linear probe on standardised embeddings.
    pub linear: f64,
    /// Of the weighted vote of the nearest neighbours by cosine.
    pub knn: f64,
    /// 95 % interval of `linear`: of accuracies that of Wilson (1927), of tags by the bootstrap over test samples, of
    /// numbers by the normal distribution.
    pub linear_interval: [f64; 2],
    /// 95 % interval of `knn`.
    pub knn_interval: [f64; 2],
    /// What the scores are made of, by probe.
    #[serde(skip)]
    pub(super) assessed: [Assessed; 2],
}

/// A score and what its interval follows from.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Assessed {
    pub(super) kind: LabelKind,
    /// What it is the mean of: hits of test samples, precisions of tags, or shares of test samples.
    pub(super) parts: Vec<f64>,
    /// Of tags: the score of samples that are drawn with replacement.
    pub(super) draws: Vec<f64>,
}

impl Assessed {
    pub(super) fn score(&self) -> f64 {
        mean(&self.parts)
    }

    /// The 95 % interval of the score.
    pub(super) fn interval(&self) -> [f64; 2] {
        let score = self.score();
        let reach = match self.kind {
            LabelKind::Classes => return wilson(&self.parts),
            LabelKind::Tags => 1.96 * deviation(&self.draws),
            LabelKind::Numbers => reach(&self.parts),
        };
        [score - reach, (score + reach).min(1.0)]
    }
}

/// A probe, in the order of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// Linear.
    Linear,
    /// Nearest neighbours.
    Knn,
}

impl Scores {
    pub(super) fn new(linear: Assessed, knn: Assessed) -> Self {
        Self {
            linear: linear.score(),
            knn: knn.score(),
            linear_interval: linear.interval(),
            knn_interval: knn.interval(),
            assessed: [linear, knn],
        }
    }

    /// By how much these scores are above those of `other` on the same test samples, with a 95 % interval of the
    /// paired difference.
    pub fn above(&self, other: &Self, kind: ProbeKind) -> (f64, [f64; 2]) {
        let (ours, theirs) = (&self.assessed[kind as usize], &other.assessed[kind as usize]);
        let minus =
            |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
        let differences = minus(&ours.parts, &theirs.parts);
        let reach = match ours.kind {
            LabelKind::Tags => 1.96 * deviation(&minus(&ours.draws, &theirs.draws)),
            _ => reach(&differences),
        };
        let difference = mean(&differences);
        (difference, [difference - reach, difference + reach])
    }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (squares / values.len().max(1) as f64).sqrt()
}

/// Half of the 95 % interval of a mean by the normal distribution.
fn reach(values: &[f64]) -> f64 {
    1.96 * deviation(values) / (values.len().max(1) as f64).sqrt()
}

/// The 95 % interval of a share.
pub(crate) fn wilson(hits: &[f64]) -> [f64; 2] {
    let (n, p, z) = (hits.len().max(1) as f64, mean(hits), 1.96f64);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let reach = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    [(centre - reach).max(0.0), (centre + reach).min(1.0)]
}

/// What the probes make of one class or tag.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct ClassScore {
    /// The class or tag.
    pub name: String,
    /// Test samples that have it.
    pub test: usize,
    /// Share of them that the linear probe has right; of a tag its average precision.
    pub linear: f64,
    /// The same of nearest neighbours.
    pub knn: f64,
    /// The other class that the linear probe takes most of them for, and how many.
    pub taken_for: Option<(String, usize)>,
}

/// Of which class each test sample is, and of which each probe takes it to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Predictions {
    pub(super) truth: Vec<u32>,
    pub(super) made: [Vec<u32>; 2],
}

impl Predictions {
    /// How many test samples of each class (row) a probe takes for each (column).
    pub(super) fn confusion(&self, classes: usize, kind: ProbeKind) -> Vec<Vec<u32>> {
        let mut table = vec![vec![0; classes]; classes];
        for (&truth, &made) in self.truth.iter().zip(&self.made[kind as usize]) {
            if let Some(cell) =
                table.get_mut(truth as usize).and_then(|row| row.get_mut(made as usize))
            {
                *cell += 1;
            }
        }
        table
    }

    pub(super) fn per_class(&self, names: &[String]) -> Vec<ClassScore> {
        let tables =
            [ProbeKind::Linear, ProbeKind::Knn].map(|kind| self.confusion(names.len(), kind));
        let score = |class: usize| {
            let test = tables[0][class].iter().sum::<u32>() as usize;
            let right = |table: &[Vec<u32>]| f64::from(table[class][class]) / test.max(1) as f64;
            let others = tables[0][class].iter().enumerate().filter(|(c, _)| *c != class);
            let most = others.max_by_key(|(c, count)| (**count, std::cmp::Reverse(*c)));
            ClassScore {
                name: names[class].clone(),
                test,
                linear: right(&tables[0]),
                knn: right(&tables[1]),
                taken_for: most
                    .filter(|(_, count)| **count > 0)
                    .map(|(c, count)| (names[c].clone(), *count as usize)),
            }
        };
        (0..names.len()).map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lejepa_core::{Purpose, Seed};
    use rand::RngExt;

    #[test]
    fn intervals_are_those_of_wilson_and_differences_are_paired() {
        let hits = |right: usize| -> Vec<f64> {
            (0..100).map(|i| f64::from(u8::from(i < right))).collect()
        };
        let [low, high] = wilson(&hits(50));
        assert!((low - 0.4038).abs() < 1e-3 && (high - 0.5962).abs() < 1e-3, "{low} {high}");
        let of = |a, b| {
            let [a, b] = [a, b].map(|n| Assessed { parts: hits(n), ..Assessed::default() });
            Scores::new(a, b)
        };
        let (a, b) = (of(60, 60), of(50, 60));
        let (difference, [low, high]) = a.above(&b, ProbeKind::Linear);
        assert!((difference - 0.1).abs() < 1e-9 && low > 0.03 && high < 0.17, "{low} {high}");
        assert_eq!(a.above(&b, ProbeKind::Knn), (0.0, [0.0, 0.0]));
    }

    /// Of 95 % intervals about 95 % hold the true value: of accuracies, whatever they are and of few samples too, and
    /// of paired differences.
    #[test]
    fn intervals_hold_what_they_should() {
        let mut rng = Seed(3).rng(Purpose::Probe, &[0]);
        let mut draw = |p: f64| f64::from(u8::from(rng.random_bool(p)));
        for (p, n) in [(0.5, 60), (0.9, 100), (0.97, 300), (0.1, 400)] {
            let trials = 2000;
            let mut held = [0; 2];
            for _ in 0..trials {
                let ours: Vec<f64> = (0..n).map(|_| draw(p)).collect();
                // Half of what the other has is what we have, so that the two go together.
                let theirs: Vec<f64> =
                    ours.iter().map(|hit| if draw(0.5) > 0.0 { *hit } else { draw(p) }).collect();
                let [low, high] = wilson(&ours);
                held[0] += u32::from(low <= p && p <= high);
                let of = |parts: Vec<f64>| {
                    Scores::new(Assessed { parts, ..Assessed::default() }, Assessed::default())
                };
                let (_, [low, high]) = of(ours).above(&of(theirs), ProbeKind::Linear);
                held[1] += u32::from(low <= 0.0 && 0.0 <= high);
            }
            for (what, held) in ["accuracy", "difference"].iter().zip(held) {
                let share = f64::from(held) / f64::from(trials);
                assert!((0.92..=0.995).contains(&share), "{what} at {p}, {n} samples: {share}");
            }
        }
    }

    #[test]
    fn classes_say_what_they_are_taken_for() {
        let names: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
        let predictions = Predictions {
            truth: vec![0, 0, 0, 0, 1, 1, 2],
            made: [vec![0, 1, 1, 2, 1, 1, 2], vec![0, 0, 0, 0, 0, 1, 1]],
        };
        assert_eq!(predictions.confusion(3, ProbeKind::Linear), [[1, 2, 1], [0, 2, 0], [0, 0, 1]]);
        let [a, b, c] = &predictions.per_class(&names)[..] else { panic!("three classes") };
        assert_eq!((a.test, a.linear, a.knn), (4, 0.25, 1.0));
        assert_eq!(a.taken_for, Some(("b".into(), 2)));
        assert_eq!((b.linear, b.knn, &b.taken_for), (1.0, 0.5, &None));
        assert_eq!((c.test, c.knn), (1, 0.0));
    }
}
