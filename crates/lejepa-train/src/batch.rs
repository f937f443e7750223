//! The views of one step.

use std::ops::Range;
use std::sync::Arc;

use lejepa_core::{View, ViewSpec, Views};

use crate::Result;
use crate::skipped::Skipped;

/// The views of one step, as the sampler made them, and the samples that they are of.
///
/// ```
/// use std::sync::Arc;
/// use lejepa_core::{View, ViewSpec, Views};
/// use lejepa_train::Batch;
///
/// let spec = Arc::new(ViewSpec::multi_crop(2, [1, 1], 0, [1, 1]));
/// let view = |x: f32| View::new([1, 1], vec![x]);
/// let of_sample = |x: f32| Ok::<_, lejepa_core::Error>(Views::multi_crop(vec![view(x)?, view(x + 0.5)?], vec![]));
/// let batch = Batch::new(spec, vec![7, 9], vec![of_sample(1.0)?, of_sample(2.0)?])?;
/// // View-major: the first view of every sample, then the second view of every sample.
/// let values: Vec<f32> = batch.groups()[0].iter().map(|view| view.data()[0]).collect();
/// assert_eq!(values, [1.0, 2.0, 1.5, 2.5]);
/// assert_eq!(batch.samples(), [7, 9]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    spec: Arc<ViewSpec>,
    samples: Vec<usize>,
    groups: Vec<Vec<View>>,
    context: Vec<Vec<f32>>,
    pub(crate) replaced: Vec<Skipped>,
}

/// The views of some samples of a batch, in the order of [`Batch`].
#[derive(Clone)]
pub(crate) struct Part<'a> {
    pub(crate) spec: &'a ViewSpec,
    pub(crate) samples: usize,
    pub(crate) groups: Vec<Vec<&'a View>>,
}

impl Batch {
    /// The views of `samples`, indices of the source, in this order.
    ///
    /// # Errors
    /// [`Error::Shape`](lejepa_core::Error::Shape) for views that break the specification.
    pub fn new(spec: Arc<ViewSpec>, samples: Vec<usize>, views: Vec<Views>) -> Result<Self> {
        if samples.len() != views.len() {
            return Err(lejepa_core::Error::Shape {
                what: "the views of a batch".into(),
                expected: format!("[{}] samples", samples.len()),
                got: vec![views.len()],
            }
            .into());
        }
        let mut context = vec![Vec::new(); spec.context().len()];
        for views in &views {
            spec.check(views)?;
            for (all, wanted) in context.iter_mut().zip(spec.context()) {
                all.extend_from_slice(views.context(&wanted.name).unwrap_or_default());
            }
        }
        let mut of_group = vec![Vec::with_capacity(views.len()); spec.groups().len()];
        for views in views {
            for (all, views) in of_group.iter_mut().zip(views.into_groups()) {
                all.push(views);
            }
        }
        let groups = of_group.into_iter().map(view_major).collect();
        Ok(Self { spec, samples, groups, context, replaced: Vec::new() })
    }

    /// What the views are.
    pub fn spec(&self) -> &Arc<ViewSpec> {
        &self.spec
    }

    /// Indices of the samples in the source.
    pub fn samples(&self) -> &[usize] {
        &self.samples
    }

    /// The views of each group, view-major.
    pub fn groups(&self) -> &[Vec<View>] {
        &self.groups
    }

    /// The context of each name of the specification, `[samples, width]` in row-major order.
    pub fn context(&self) -> &[Vec<f32>] {
        &self.context
    }

    /// Samples that could not be used and were replaced, each only the first time.
    pub fn replaced(&self) -> &[Skipped] {
        &self.replaced
    }

    /// The samples in `parts` parts of about as many each, at least one.
    pub(crate) fn split(&self, parts: usize) -> Vec<Part<'_>> {
        let samples = self.samples.len();
        let parts = parts.clamp(1, samples.max(1));
        let bounds: Vec<usize> = (0..=parts).map(|p| p * samples / parts).collect();
        bounds.windows(2).map(|b| self.part(b[0]..b[1])).collect()
    }

    /// Some of the samples.
    fn part(&self, range: Range<usize>) -> Part<'_> {
        let samples = self.samples.len().max(1);
        // Of each view's samples, those of the range.
        let groups = self
            .groups
            .iter()
            .map(|group| group.chunks(samples).flat_map(|view| &view[range.clone()]).collect())
            .collect();
        Part { spec: &self.spec, samples: range.len(), groups }
    }

    /// All samples.
    pub(crate) fn whole(&self) -> Part<'_> {
        self.part(0..self.samples.len())
    }
}

/// The first view of every sample, then the second one of every sample, ...
fn view_major(samples: Vec<Vec<View>>) -> Vec<View> {
    let mut samples: Vec<_> = samples.into_iter().map(Vec::into_iter).collect();
    let views = samples.first().map_or(0, ExactSizeIterator::len);
    let mut all = Vec::with_capacity(views * samples.len());
    for _ in 0..views {
        all.extend(samples.iter_mut().filter_map(Iterator::next));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_all_views_of_their_samples() {
        let view = |x: usize| View::new([1, 1], vec![x as f32]).unwrap();
        // Two views of each of seven samples, and three smaller ones.
        let views = (0..7).map(|s| {
            let global = (0..2).map(|v| view(7 * v + s)).collect();
            Views::multi_crop(global, (0..3).map(|v| view(100 + 7 * v + s)).collect())
        });
        let spec = Arc::new(ViewSpec::multi_crop(2, [1, 1], 3, [1, 1]));
        let batch = Batch::new(spec, (0..7).collect(), views.collect()).unwrap();
        let parts = batch.split(3);
        let number = |views: &[&View]| -> Vec<usize> {
            views.iter().map(|view| view.data()[0] as usize).collect()
        };
        let samples = [vec![0, 1], vec![2, 3], vec![4, 5, 6]];
        for (part, samples) in parts.iter().zip(&samples) {
            let of = |first: usize, views: usize| -> Vec<usize> {
                (0..views).flat_map(|v| samples.iter().map(move |s| first + 7 * v + s)).collect()
            };
            assert_eq!(part.samples, samples.len());
            assert_eq!(number(&part.groups[0]), of(0, 2));
            assert_eq!(number(&part.groups[1]), of(100, 3));
        }
        assert_eq!([parts.len(), batch.split(99).len(), batch.split(0).len()], [3, 7, 1]);
    }

    #[test]
    fn views_that_break_the_specification_are_refused() {
        let spec = Arc::new(ViewSpec::multi_crop(2, [1, 1], 0, [1, 1]).with_context("time", 1));
        let view = || View::new([1, 1], vec![0.0]).unwrap();
        let views = Views::multi_crop(vec![view(), view()], vec![]);
        assert!(Batch::new(spec.clone(), vec![0], vec![views.clone()]).is_err());
        let views = views.with_context("time", vec![3.0]);
        let batch = Batch::new(spec, vec![0, 1], vec![views.clone(), views]).unwrap();
        assert_eq!(batch.context(), [vec![3.0, 3.0]]);
    }
}
