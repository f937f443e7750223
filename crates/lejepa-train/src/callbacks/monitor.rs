//! Watches the logged scalars for what goes wrong in a run without an error; each warning is given once.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use lejepa_core::config::{Docs, field_docs};
use lejepa_core::{Component, Embedded, ViewSpec};
use lejepa_objective::Gauge;
use serde::{Deserialize, Serialize};

use super::state::{from_json, to_json};
use crate::Result;
use crate::callback::{AfterStep, Callback, CallbackContext, CallbackKind, Flow, Scalars};
use crate::model::Model;
use crate::step::{Learner, Pass};

/// `[callbacks.monitor]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorConfig {
    /// Consecutive bad log lines before a warning, at least 1.
    pub lines: u32,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self { lines: 3 }
    }
}

/// Warns of a collapse and of a starved loader.
pub struct Monitor {
    lines: u32,
    gauge: Gauge,
    /// Width of the projection.
    dim: usize,
    /// Steps before a judgement about collapse: embeddings start small.
    patience: u64,
    seen: Seen,
}

/// Bad lines in a row; no longer counted after the warning.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Seen {
    collapsed: u32,
    starved: u32,
}

impl Component for Monitor {
    const NAME: &'static str = "monitor";
    const ABOUT: &'static str = "warns of a collapse and of a starved loader";
    type Config = MonitorConfig;

    fn docs() -> Docs {
        field_docs(include_str!("monitor.rs"), "MonitorConfig")
    }
}

impl CallbackKind for Monitor {
    const ENABLED: bool = true;

    fn validate(config: &MonitorConfig) -> lejepa_core::Result<()> {
        if config.lines >= 1 {
            return Ok(());
        }
        Err(lejepa_core::Error::bad_value("callbacks.monitor.lines", "must be at least 1"))
    }

    fn build(config: MonitorConfig, at: &CallbackContext<'_>) -> Result<Box<dyn Callback>> {
        Ok(Box::new(Self::new(config.lines, at.gauge, at.settings.projector.output, at.total)))
    }
}

impl Callback for Monitor {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn after_step(&mut self, at: &mut AfterStep<'_>) -> Result<Flow> {
        if at.is_logged {
            at.warnings.extend(self.check(at.step, at.scalars));
        }
        Ok(Flow::Continue)
    }

    fn save(&self) -> Result<Option<Vec<u8>>> {
        to_json(&self.seen, Self::NAME)
    }

    fn load(&mut self, state: &[u8]) -> Result<()> {
        self.seen = from_json(state, Self::NAME)?;
        Ok(())
    }
}

impl Monitor {
    fn new(lines: u32, gauge: Gauge, dim: usize, total: u64) -> Self {
        Self { lines, gauge, dim, patience: (total / 5).max(20), seen: Seen::default() }
    }

    /// The warnings that a logged line gives rise to.
    fn check(&mut self, step: u64, scalars: &Scalars) -> Vec<String> {
        let scalar = |name: &str| scalars.get(name).copied().unwrap_or(f64::NAN);
        let (sigreg, rank) = (scalar("sigreg"), scalar("effective_rank"));
        let loader_share = scalar("loader_share");
        let mut warnings = Vec::new();
        // Most of the way from Gaussian to collapsed on SIGReg's scale, or nearly all variance in a few
        // directions.
        let Gauge { gaussian, collapsed, .. } = self.gauge;
        let high = collapsed > 2.0 * gaussian && sigreg > gaussian + 0.8 * (collapsed - gaussian);
        let flat = self.dim >= 8 && rank < 0.1 * self.dim as f64;
        let lines = self.lines;
        let count = |seen: &mut u32, now: bool| {
            if *seen >= lines {
                return false;
            }
            *seen = if now { *seen + 1 } else { 0 };
            *seen == lines
        };
        if step > self.patience && count(&mut self.seen.collapsed, high || flat) {
            warnings.push(format!(
                "collapse: at step {step} the effective rank of the projections is {rank:.1} of {}, SIGReg \
                 {sigreg:.2} ({gaussian:.2} for Gaussian embeddings, {collapsed:.2} at total collapse); raise \
                 objective.lambda, or lower train.lr",
                self.dim
            ));
        }
        if count(&mut self.seen.starved, loader_share > 0.5) {
            warnings.push(format!(
                "starved loader: at step {step} the training waits for data {:.0} % of the time; raise \
                 data.workers, data.prefetch or data.cache_mib, or store the data in a form that is quicker to \
                 read",
                loader_share * 100.0
            ));
        }
        warnings
    }
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
    learner: &Learner,
    spec: &ViewSpec,
    pass: &Pass,
    axes: Tensor<2>,
) -> Result<Vec<usize>> {
    let z = pass.projections.clone().detach().require_grad();
    let term = learner.model.prediction.loss(&Embedded::new(z.clone(), spec, &pass.context))?;
    let losses = learner.objective.loss_along(z.clone(), term, axes)?;
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

    const GAUGE: Gauge = Gauge { gaussian: 1.05, collapsed: 25.7 };

    fn line(sigreg: f64, effective_rank: f64, loader_share: f64) -> Scalars {
        let named = [
            ("sigreg", sigreg),
            ("effective_rank", effective_rank),
            ("loader_share", loader_share),
        ];
        named.map(|(name, value)| (name.to_string(), value)).into_iter().collect()
    }

    #[test]
    fn a_collapse_is_warned_of_once_and_not_at_the_start() {
        let mut monitor = Monitor::new(3, GAUGE, 64, 100);
        let mut warned = Vec::new();
        for step in 1..60 {
            warned.extend(monitor.check(step, &line(24.0, 40.0, 0.0)));
        }
        assert_eq!(warned.len(), 1);
        assert!(warned[0].starts_with("collapse: at step 23"), "{warned:?}");
        let mut healthy = Monitor::new(3, GAUGE, 64, 100);
        assert!((1..60).all(|s| healthy.check(s, &line(2.0, 40.0, 0.1)).is_empty()));
        let mut flat = Monitor::new(3, GAUGE, 64, 100);
        assert!((1..60).any(|s| !flat.check(s, &line(2.0, 3.0, 0.1)).is_empty()));
    }

    #[test]
    fn starvation_needs_three_lines_in_a_row() {
        let mut monitor = Monitor::new(3, GAUGE, 64, 100);
        let shares = [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9];
        let warned: Vec<usize> = shares
            .iter()
            .enumerate()
            .filter(|(i, s)| !monitor.check(*i as u64, &line(2.0, 40.0, **s)).is_empty())
            .map(|(i, _)| i)
            .collect();
        assert_eq!(warned, [5]);
        let again = [0.1, 0.9, 0.9, 0.9, 0.9];
        assert!(again.iter().all(|s| monitor.check(9, &line(2.0, 40.0, *s)).is_empty()));
    }
}
