//! Whether the streams of a sample find each other: retrieval among held-out samples.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;

use crate::Result;
use crate::embed::embed_indices;
use crate::label_free::unit;
use crate::model::Model;
use crate::observe::Observer;
use crate::prepared::Prepared;
use crate::resolved::Resolved;

/// Most samples that are searched.
const MOST: usize = 1000;

/// Ranks that recalls are of.
pub const RECALL_AT: [usize; 3] = [1, 5, 10];

/// How well the views of one stream find those of the same samples in another.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Retrieval {
    /// The stream of the queries.
    pub by: String,
    /// The stream that is searched.
    pub of: String,
    /// Samples that are searched, each of which is a query too.
    pub samples: usize,
    /// By the trained model.
    pub trained: Ranks,
    /// By the same model before training.
    pub untrained: Ranks,
}

impl Retrieval {
    /// What guessing gives: the recalls at [`RECALL_AT`].
    pub fn chance(&self) -> [f64; 3] {
        RECALL_AT.map(|k| (k as f64 / self.samples.max(1) as f64).min(1.0))
    }
}

/// Where queries find their own samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Ranks {
    /// Share of queries whose own sample is among the first 1, 5 and 10: R@1, R@5, R@10.
    pub recall: [f64; 3],
    /// Median of the ranks, from 1.
    pub median: f64,
}

/// Retrieval between each two streams among the held-out samples, at most a thousand of them evenly, by the cosine of
/// projections of evaluation views. Nothing where there is one stream, probes are off or fewer than two samples are held
/// out.
///
/// # Errors
/// A device that fails.
pub fn retrieval(
    prepared: &Prepared,
    resolved: &Resolved,
    model: &Model,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Vec<Retrieval>> {
    let held_out = &prepared.plan.held_out;
    let streams = resolved.spec().streams();
    if streams.len() < 2 || held_out.len() < 2 || !resolved.settings().probe.enabled {
        return Ok(Vec::new());
    }
    let every = held_out.len().div_ceil(MOST);
    let indices: Vec<usize> = held_out.iter().copied().step_by(every).collect();
    let untrained = resolved.model(device)?;
    let mut projected = Vec::new();
    for model in [model, &untrained] {
        let source = prepared.source.as_ref();
        let made = embed_indices(&model.encoders, source, &indices, device, observer)?;
        projected.push(projections(model, &made.values, made.indices.len(), device)?);
    }
    let [trained, untrained] = &projected[..] else { return Ok(Vec::new()) };
    let samples = trained.first().map_or(0, Vec::len);
    if samples < 2 {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for by in 0..streams.len() {
        for of in (0..streams.len()).filter(|of| *of != by) {
            found.push(Retrieval {
                by: streams[by].into(),
                of: streams[of].into(),
                samples,
                trained: ranks(&trained[by], &trained[of]),
                untrained: ranks(&untrained[by], &untrained[of]),
            });
        }
    }
    Ok(found)
}

/// Projections of unit length, a row a sample, for each stream. `embeddings` are those of all streams, one after the
/// other in each row.
fn projections(
    model: &Model,
    embeddings: &[f32],
    rows: usize,
    device: &Device,
) -> Result<Vec<Vec<Vec<f32>>>> {
    let device = device.clone().without_autodiff();
    let frozen = model.valid();
    let dims: Vec<usize> = frozen.encoders.iter().map(|encoder| encoder.dim()).collect();
    let width = dims.iter().sum();
    let all = Tensor::<2>::from_data(TensorData::new(embeddings.to_vec(), [rows, width]), &device);
    let mut at = 0;
    let mut out = Vec::new();
    for (dim, projector) in dims.into_iter().zip(&frozen.projectors) {
        let z = projector.forward(all.clone().narrow(1, at, dim));
        at += dim;
        let [_, dim] = z.dims();
        let values = z.try_into_vec_as::<f32>()?;
        out.push(values.chunks(dim.max(1)).map(unit).collect());
    }
    Ok(out)
}

/// Of each query among all candidates, where the one of the same number is its own; those that are as near come before it.
fn ranks(queries: &[Vec<f32>], candidates: &[Vec<f32>]) -> Ranks {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let mut all: Vec<usize> = queries
        .iter()
        .enumerate()
        .map(|(i, query)| {
            let own = dot(query, &candidates[i]);
            let others = candidates.iter().enumerate().filter(|(j, _)| *j != i);
            1 + others.filter(|(_, other)| dot(query, other).total_cmp(&own).is_ge()).count()
        })
        .collect();
    all.sort_unstable();
    let count = all.len().max(1) as f64;
    let recall = RECALL_AT.map(|k| all.partition_point(|rank| *rank <= k) as f64 / count);
    let middle = |at: usize| all.get(at).copied().unwrap_or(0) as f64;
    Ranks {
        recall,
        median: (middle(all.len() / 2) + middle(all.len().saturating_sub(1) / 2)) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_own_sample() {
        let at = |angle: f32| vec![angle.cos(), angle.sin()];
        let candidates: Vec<_> = (0..20).map(|i| at(0.1 * i as f32)).collect();
        let same = ranks(&candidates, &candidates);
        assert_eq!((same.recall, same.median), ([1.0; 3], 1.0));
        // A step too far: the own one is second for all but the last.
        let beyond: Vec<_> = (0..20).map(|i| at(0.1 * (i + 1) as f32)).collect();
        let found = ranks(&beyond, &candidates);
        assert_eq!(found.recall[0], 0.05);
        assert_eq!(found.recall[1], 1.0);
        assert!(found.median >= 2.0);
        // Where all are alike nothing is found.
        let alike = vec![at(0.0); 20];
        let found = ranks(&alike, &alike);
        assert_eq!((found.recall, found.median), ([0.0; 3], 20.0));
        let broken = vec![vec![f32::NAN; 2]; 20];
        assert_eq!(ranks(&broken, &candidates).recall, [0.0; 3]);
    }
}
