//! Monitors: what goes wrong in a run without an error, said once, in words.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use lejepa_objective::{Gauge, Objective};
use nalgebra::DMatrix;

use crate::Result;
use crate::model::Model;
use crate::observe::StepMetrics;

/// Watches the lines of metrics.
pub(crate) struct Monitor {
    gauge: Gauge,
    /// Width of the projection.
    dim: usize,
    /// Steps before a judgement about collapse: embeddings start small.
    patience: u64,
    collapsed: u32,
    starved: u32,
}

/// Lines in a row before a monitor speaks: one bad line is chance.
const LINES: u32 = 3;

impl Monitor {
    pub(crate) fn new(gauge: Gauge, dim: usize, total: u64) -> Self {
        Self { gauge, dim, patience: (total / 5).max(20), collapsed: 0, starved: 0 }
    }

    /// What there is to say about this line, each thing once a run.
    pub(crate) fn look(&mut self, m: &StepMetrics) -> Vec<String> {
        let mut warnings = Vec::new();
        // Most of the way from Gaussian to collapsed on the scale that SIGReg is, or a few directions
        // that carry all there is.
        let Gauge { gaussian, collapsed } = self.gauge;
        let high = collapsed > 2.0 * gaussian && m.sigreg > gaussian + 0.8 * (collapsed - gaussian);
        let flat = self.dim >= 8 && m.effective_rank < 0.1 * self.dim as f64;
        // Counts lines in a row, and stops counting once it has spoken.
        let count = |seen: &mut u32, now: bool| {
            if *seen >= LINES {
                return false;
            }
            *seen = if now { *seen + 1 } else { 0 };
            *seen == LINES
        };
        if m.step > self.patience && count(&mut self.collapsed, high || flat) {
            warnings.push(format!(
                "collapse: at step {} the effective rank of the projections is {:.1} of {}, SIGReg {:.2} \
                 ({:.2} for Gaussian embeddings, {:.2} at total collapse); raise --lambda, or lower train.lr",
                m.step, m.effective_rank, self.dim, m.sigreg, self.gauge.gaussian, self.gauge.collapsed
            ));
        }
        if count(&mut self.starved, m.loader_share > 0.5) {
            warnings.push(format!(
                "starved loader: at step {} the training waits for data {:.0} % of the time; raise --workers, \
                 data.prefetch or data.cache_mib, or store the data in a form that is quicker to read",
                m.step,
                m.loader_share * 100.0
            ));
        }
        warnings
    }
}

/// exp of the entropy of the normalised singular values of the centred rows (Roy and Vetterli 2007):
/// how many directions the projections use, between 1 and their width. 0 where all rows are alike.
///
/// `rows` are `count` × `dim` values.
pub(crate) fn effective_rank(rows: &[f32], dim: usize) -> f64 {
    let count = rows.len() / dim.max(1);
    if count == 0 {
        return 0.0;
    }
    let mut x = DMatrix::<f64>::from_fn(count, dim, |i, j| f64::from(rows[i * dim + j]));
    for mut column in x.column_iter_mut() {
        let mean = column.mean();
        column.add_scalar_mut(-mean);
    }
    // The smaller of the two Gram matrices has the same eigenvalues beside zeros.
    let gram = if count < dim { &x * x.transpose() } else { x.transpose() * &x };
    let values = gram.symmetric_eigenvalues();
    let singular: Vec<f64> = values.iter().map(|v| v.max(0.0).sqrt()).collect();
    let total: f64 = singular.iter().sum();
    if !(total > 1e-12 && total.is_finite()) {
        return 0.0;
    }
    let shares = singular.iter().map(|s| s / total).filter(|p| *p > 0.0);
    (-shares.map(|p| p * p.ln()).sum::<f64>()).exp()
}

/// Names of parameters that the loss does not reach.
pub(crate) fn without_gradient(model: &Model, gradients: &GradientsParams) -> Vec<String> {
    struct Search<'a> {
        gradients: &'a GradientsParams,
        path: Vec<String>,
        found: Vec<String>,
    }
    impl ModuleVisitor for Search<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_string());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !param.val().is_require_grad() {
                return;
            }
            let gradient = self.gradients.get::<D>(param.id);
            let reached = gradient.is_some_and(|g| {
                g.abs().max().try_into_scalar::<f32>().map_or(true, |largest| largest != 0.0)
            });
            if !reached {
                self.found.push(self.path.join("."));
            }
        }
    }
    let mut search = Search { gradients, path: Vec::new(), found: Vec::new() };
    model.visit(&mut search);
    search.found
}

/// Views, counted from 0, whose embeddings the loss does not reach.
///
/// # Errors
/// What the objective says, or a device failure.
pub(crate) fn views_without_gradient(
    objective: &Objective,
    z: &Tensor<3>,
    globals: usize,
    axes: Tensor<2>,
) -> Result<Vec<usize>> {
    let z = z.clone().detach().require_grad();
    let losses = objective.loss_along(z.clone(), globals, axes)?;
    let [views, samples, dim] = z.dims();
    let Some(gradient) = z.grad(&losses.total.backward()) else {
        return Ok((0..views).collect());
    };
    let values = gradient.try_into_vec_as::<f32>()?;
    let per_view = values.chunks_exact((samples * dim).max(1));
    Ok(per_view.enumerate().filter(|(_, g)| g.iter().all(|x| *x == 0.0)).map(|(v, _)| v).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64, sigreg: f64, effective_rank: f64, loader_share: f64) -> StepMetrics {
        StepMetrics {
            step,
            epoch: 0.0,
            loss: 0.0,
            prediction: 0.0,
            sigreg,
            effective_rank,
            lr: 0.0,
            samples_per_s: 0.0,
            loader_share,
        }
    }

    #[test]
    fn the_effective_rank_counts_directions() {
        // Four rows along one axis, then along two with equal weight, then a point.
        let one = [1.0, 0.0, 2.0, 0.0, 3.0, 0.0, 4.0, 0.0];
        assert!((effective_rank(&one, 2) - 1.0).abs() < 1e-6);
        let two = [1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0];
        assert!((effective_rank(&two, 2) - 2.0).abs() < 1e-6);
        assert_eq!(effective_rank(&[0.5; 8], 2), 0.0);
        assert!(effective_rank(&[1.0, 2.0, 3.0, 4.0, 6.0, 9.0], 3) <= 2.0);
        assert_eq!(effective_rank(&[f32::NAN; 8], 2), 0.0);
    }

    #[test]
    fn collapse_is_told_once_and_not_at_the_start() {
        let gauge = Gauge { gaussian: 1.05, collapsed: 25.7 };
        let mut monitor = Monitor::new(gauge, 64, 100);
        let mut said = Vec::new();
        for step in 1..60 {
            said.extend(monitor.look(&line(step, 24.0, 40.0, 0.0)));
        }
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("collapse: at step 23"), "{said:?}");
        let mut healthy = Monitor::new(gauge, 64, 100);
        assert!((1..60).all(|s| healthy.look(&line(s, 2.0, 40.0, 0.1)).is_empty()));
        let mut flat = Monitor::new(gauge, 64, 100);
        assert!((1..60).any(|s| !flat.look(&line(s, 2.0, 3.0, 0.1)).is_empty()));
    }

    #[test]
    fn starvation_needs_three_lines_in_a_row() {
        let mut monitor = Monitor::new(Gauge { gaussian: 1.05, collapsed: 25.7 }, 64, 100);
        let shares = [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9];
        let said: Vec<usize> = shares
            .iter()
            .enumerate()
            .filter(|(i, s)| !monitor.look(&line(*i as u64, 2.0, 40.0, **s)).is_empty())
            .map(|(i, _)| i)
            .collect();
        assert_eq!(said, [5]);
        let again = [0.1, 0.9, 0.9, 0.9, 0.9];
        assert!(again.iter().all(|s| monitor.look(&line(9, 2.0, 40.0, *s)).is_empty()));
    }
}
