//! Features with labels, and how predictions of them are scored.

use std::collections::HashMap;

use burn::tensor::{Device, Tensor, TensorData};
use lejepa_core::{LabelKind, Labels, Purpose, Seed};
use rand::RngExt;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::scores::{Assessed, Predictions};

/// What is to be predicted of each row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answers {
    /// One of so many classes.
    Classes(Vec<u32>, usize),
    /// Any of so many tags.
    Tags(Vec<Vec<u32>>, usize),
    /// A number.
    Numbers(Vec<f64>),
}

impl Answers {
    pub(crate) fn of(labels: &Labels, items: &[usize]) -> Self {
        let count = labels.names().len();
        let items = items.iter().copied();
        match labels.kind() {
            LabelKind::Classes => {
                Self::Classes(items.filter_map(|i| labels.class(i)).collect(), count)
            }
            LabelKind::Tags => {
                let tags = items.filter_map(|i| Some(labels.tags(i)?.to_vec()));
                Self::Tags(tags.collect(), count)
            }
            LabelKind::Numbers => Self::Numbers(items.filter_map(|i| labels.number(i)).collect()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Classes(all, _) => all.len(),
            Self::Tags(all, _) => all.len(),
            Self::Numbers(all) => all.len(),
        }
    }

    /// How many numbers a prediction has.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Classes(_, count) | Self::Tags(_, count) => *count,
            Self::Numbers(_) => 1,
        }
    }

    pub(super) fn select(&self, rows: &[usize]) -> Self {
        let rows = rows.iter();
        match self {
            Self::Classes(all, count) => Self::Classes(rows.map(|&i| all[i]).collect(), *count),
            Self::Tags(all, count) => Self::Tags(rows.map(|&i| all[i].clone()).collect(), *count),
            Self::Numbers(all) => Self::Numbers(rows.map(|&i| all[i]).collect()),
        }
    }

    /// Mean and standard deviation of numbers, which are learnt in this measure; 0 and 1 of other answers.
    pub(super) fn moments(&self) -> (f64, f64) {
        let Self::Numbers(all) = self else { return (0.0, 1.0) };
        let n = all.len().max(1) as f64;
        let mean = all.iter().sum::<f64>() / n;
        let deviation = (all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        (mean, if deviation > 0.0 { deviation } else { 1.0 })
    }

    /// What the score of predictions `[rows, width]` is the mean of: whether the largest is that of the class; the
    /// average precision of each tag that some rows have and some have not; 1 − (error / deviation)² of each number.
    pub(crate) fn parts(&self, predicted: &[f32]) -> Vec<f64> {
        let rows = predicted.chunks_exact(self.width().max(1));
        match self {
            Self::Classes(all, _) => {
                let hit =
                    |(row, class): (&[f32], &u32)| f64::from(u8::from(largest(row) == *class));
                rows.zip(all).map(hit).collect()
            }
            Self::Tags(all, _) => {
                let once = vec![1; all.len()];
                let precision = |(tag, _): (u32, usize)| {
                    let rows = rows.clone().zip(all).enumerate();
                    let mut ranking: Vec<(f32, usize, bool)> = rows
                        .map(|(at, (row, tags))| (row[tag as usize], at, tags.contains(&tag)))
                        .collect();
                    ranking.sort_by(|a, b| b.0.total_cmp(&a.0));
                    average_precision(&ranking, &once)
                };
                self.scored_tags().into_iter().filter_map(precision).collect()
            }
            Self::Numbers(all) => {
                let (_, deviation) = self.moments();
                let part =
                    |(row, v): (&[f32], &f64)| 1.0 - ((f64::from(row[0]) - v) / deviation).powi(2);
                rows.zip(all).map(part).collect()
            }
        }
    }

    /// A score with what its interval follows from.
    pub(super) fn assess(&self, predicted: &[f32]) -> Assessed {
        let parts = self.parts(predicted);
        match self {
            Self::Classes(..) => Assessed { kind: LabelKind::Classes, parts, draws: Vec::new() },
            Self::Numbers(_) => Assessed { kind: LabelKind::Numbers, parts, draws: Vec::new() },
            Self::Tags(..) => {
                Assessed { kind: LabelKind::Tags, parts, draws: self.draws(predicted) }
            }
        }
    }

    /// Mean average precisions of as many rows that are drawn from these with replacement, the same ones for all
    /// predictions (Efron 1979).
    fn draws(&self, predicted: &[f32]) -> Vec<f64> {
        let Self::Tags(all, count) = self else { return Vec::new() };
        let tags = self.scored_tags();
        // Rows by falling score, and whether they have the tag.
        let rankings: Vec<Vec<(f32, usize, bool)>> = tags
            .par_iter()
            .map(|(tag, _)| {
                let score = |row: usize| predicted[row * count + *tag as usize];
                let mut ranking: Vec<_> =
                    (0..all.len()).map(|row| (score(row), row, all[row].contains(tag))).collect();
                ranking.sort_by(|a, b| b.0.total_cmp(&a.0));
                ranking
            })
            .collect();
        let draw = |draw: u64| {
            let mut rng = Seed(0).rng(Purpose::Probe, &[all.len() as u64, draw, 2]);
            let mut times = vec![0u32; all.len()];
            (0..all.len()).for_each(|_| times[rng.random_range(0..all.len())] += 1);
            let precisions: Vec<f64> =
                rankings.iter().filter_map(|ranking| average_precision(ranking, &times)).collect();
            super::mean(&precisions)
        };
        (0..DRAWS).into_par_iter().map(draw).collect()
    }

    /// The tags that [`Answers::parts`] scores, and how many rows have each.
    pub(super) fn scored_tags(&self) -> Vec<(u32, usize)> {
        let Self::Tags(all, count) = self else { return Vec::new() };
        (0..*count as u32)
            .map(|tag| (tag, all.iter().filter(|tags| tags.contains(&tag)).count()))
            .filter(|&(_, with)| with > 0 && with < all.len())
            .collect()
    }

    /// The classes, and those that two probes predict.
    pub(super) fn predictions(&self, predicted: [&[f32]; 2]) -> Predictions {
        let Self::Classes(all, count) = self else { return Predictions::default() };
        let of = |predicted: &[f32]| predicted.chunks_exact(*count).map(largest).collect();
        Predictions { truth: all.clone(), made: predicted.map(of) }
    }

    /// What can be had without looking at a sample: the share of the most frequent class; the mean share of rows that
    /// have a tag, over tags; nothing of numbers.
    pub(super) fn chance(&self) -> f64 {
        match self {
            Self::Classes(all, count) => {
                let mut counts = vec![0usize; *count];
                for &class in all {
                    if let Some(count) = counts.get_mut(class as usize) {
                        *count += 1;
                    }
                }
                counts.into_iter().max().unwrap_or(0) as f64 / all.len().max(1) as f64
            }
            Self::Tags(all, _) => {
                let tags = self.scored_tags();
                let shares = tags.into_iter().map(|(_, with)| with as f64 / all.len() as f64);
                super::mean(&shares.collect::<Vec<_>>())
            }
            Self::Numbers(_) => 0.0,
        }
    }
}

/// The first of the largest.
pub(crate) fn largest(row: &[f32]) -> u32 {
    let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
    best.unwrap_or(0) as u32
}

/// Draws that the interval of a mean average precision follows from.
const DRAWS: u64 = 100;

/// Average precision: the mean over hits of the precision among all that are scored as high or higher, where each row
/// counts so many times; `None` where there is no hit. What has one score is taken at once.
fn average_precision(ranking: &[(f32, usize, bool)], times: &[u32]) -> Option<f64> {
    let (mut sum, mut seen, mut found) = (0.0, 0u32, 0u32);
    for same in ranking.chunk_by(|a, b| a.0 == b.0) {
        let before = found;
        for &(_, row, hit) in same {
            seen += times[row];
            found += if hit { times[row] } else { 0 };
        }
        if found > before {
            sum += f64::from(found - before) * f64::from(found) / f64::from(seen);
        }
    }
    (found > 0).then(|| sum / f64::from(found))
}

/// Features with answers.
#[derive(Debug, Clone)]
pub(crate) struct Labelled {
    /// Numbers of a row.
    pub(crate) dim: usize,
    pub(crate) values: Vec<f32>,
    pub(crate) answers: Answers,
}

impl Labelled {
    pub(super) fn new(
        rows: &HashMap<usize, &[f32]>,
        items: &[usize],
        labels: &Labels,
        dim: usize,
    ) -> Self {
        let known: Vec<usize> = items
            .iter()
            .copied()
            .filter(|item| rows.contains_key(item) && labels.has(*item))
            .collect();
        let values = known.iter().flat_map(|item| rows[item]).copied().collect();
        Self { dim, values, answers: Answers::of(labels, &known) }
    }

    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Four fifths and one fifth of the rows, at random.
    pub(super) fn divided(&self) -> (Self, Self) {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(&mut Seed(0).rng(Purpose::Probe, &[u64::MAX]));
        let of = |rows: &[usize]| Self {
            dim: self.dim,
            values: rows
                .iter()
                .flat_map(|&i| &self.values[i * self.dim..(i + 1) * self.dim])
                .copied()
                .collect(),
            answers: self.answers.select(rows),
        };
        let (held_out, fitted) = order.split_at(order.len() / 5);
        (of(fitted), of(held_out))
    }

    fn tensor(&self, values: Vec<f32>, device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, [self.len(), self.dim]), device)
    }

    /// Rows scaled to length one.
    pub(super) fn unit(&self, device: &Device) -> Tensor<2> {
        let mut values = self.values.clone();
        for row in values.chunks_exact_mut(self.dim.max(1)) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            row.iter_mut().for_each(|x| *x /= norm);
        }
        self.tensor(values, device)
    }

    /// Mean and standard deviation of each column.
    pub(super) fn moments(&self) -> Vec<(f64, f64)> {
        let n = self.len().max(1) as f64;
        (0..self.dim)
            .map(|d| {
                let column = || self.values.iter().skip(d).step_by(self.dim).map(|&x| f64::from(x));
                let mean = column().sum::<f64>() / n;
                let var = column().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                (mean, var.sqrt())
            })
            .collect()
    }

    /// Columns shifted and scaled by `moments`; a constant column becomes zero.
    pub(super) fn standardised(&self, moments: &[(f64, f64)], device: &Device) -> Tensor<2> {
        let values = self
            .values
            .iter()
            .enumerate()
            .map(|(i, &x)| {
                let (mean, std) = moments[i % self.dim];
                if std > 1e-8 { ((f64::from(x) - mean) / std) as f32 } else { 0.0 }
            })
            .collect();
        self.tensor(values, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_precision_is_that_of_the_ranking() {
        let of = |all: &[(f32, u8)]| {
            let rows = all.iter().enumerate().map(|(row, (score, hit))| (*score, row, *hit == 1));
            average_precision(&rows.collect::<Vec<_>>(), &vec![1; all.len()])
        };
        // Hits at ranks 1 and 3: (1/1 + 2/3) / 2.
        assert_eq!(of(&[(0.9, 1), (0.8, 0), (0.7, 1), (0.1, 0)]), Some((1.0 + 2.0 / 3.0) / 2.0));
        // All alike: the share of hits, in whatever order they come.
        assert_eq!(of(&[(0.5, 0), (0.5, 1), (0.5, 0), (0.5, 0)]), Some(0.25));
        assert_eq!(of(&[(0.5, 0)]), None);
        // The first hit twice, the row between not at all.
        let ranking = [(0.9, 0, true), (0.8, 1, false), (0.7, 2, true)];
        assert_eq!(average_precision(&ranking, &[2, 0, 1]), Some(1.0));
    }

    /// The interval of a mean average precision holds that of very many samples about as often as it should.
    #[test]
    fn intervals_of_tags_hold_what_they_should() {
        let made = |rows: usize, stream: u64| {
            let mut rng = Seed(9).rng(Purpose::Probe, &[stream]);
            let (mut tags, mut predicted) = (Vec::new(), Vec::new());
            for _ in 0..rows {
                let has: Vec<u32> = (0..3).filter(|_| rng.random_bool(0.3)).collect();
                let score = |tag| f32::from(u8::from(has.contains(&tag)));
                predicted.extend((0..3).map(|tag| score(tag) + 1.5 * rng.random_range(-1.0..1.0)));
                tags.push(has);
            }
            (Answers::Tags(tags, 3), predicted)
        };
        let (all, predicted) = made(50_000, 0);
        let truth = crate::probe::mean(&all.parts(&predicted));
        let held = (1..=200).filter(|&stream| {
            let (some, predicted) = made(150, stream);
            let [low, high] = some.assess(&predicted).interval();
            low <= truth && truth <= high
        });
        let held = held.count();
        assert!((180..=199).contains(&held), "{held} of 200");
    }

    #[test]
    fn parts_are_hits_precisions_and_explained_variance() {
        let classes = Answers::Classes(vec![1, 0], 2);
        assert_eq!(classes.parts(&[0.1, 0.9, 0.5, 0.5]), [1.0, 1.0]);
        assert_eq!(classes.chance(), 0.5);
        let tags = Answers::Tags(vec![vec![0], vec![0, 1], vec![]], 3);
        // Of the third tag there is no sample to be found.
        assert_eq!(tags.parts(&[0.9, 0.1, 0.5, 0.8, 0.7, 0.5, 0.0, 0.9, 0.5]), [1.0, 0.5]);
        assert!((tags.chance() - 0.5).abs() < 1e-9);
        let numbers = Answers::Numbers(vec![1.0, 3.0]);
        assert_eq!(numbers.parts(&[1.0, 2.0]), [1.0, 0.0]);
    }
}
