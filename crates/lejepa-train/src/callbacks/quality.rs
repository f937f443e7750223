//! Measures of quality that need no labels, on samples that are not trained on where there are such.

use std::sync::Arc;

use burn::tensor::Tensor;
use lejepa_core::config::{Docs, field_docs};
use lejepa_core::{Component, Error, Seed, ViewSource};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::state::{from_json, to_json};
use crate::Result;
use crate::callback::{AfterStep, Callback, CallbackContext, CallbackKind, Flow};
use crate::label_free::{Rows, kept};
use crate::loader::make_batch;
use crate::order::Order;

/// `[callbacks.quality]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QualityConfig {
    /// Steps between measurements; 0 measures up to ten times a run, at a cost of about two percent of it. The first
    /// step and the last are measured as well.
    pub every: u64,
    /// Samples that are measured, at least 32, in whole batches; fewer in runs so short that it would take longer than
    /// they do.
    pub samples: usize,
}

impl Default for QualityConfig {
    fn default() -> Self {
        Self { every: 0, samples: 256 }
    }
}

/// Neighbours whose change is counted.
const NEIGHBOURS: usize = 10;

/// Above this width LiDAR would take seconds.
const MAX_LIDAR: usize = 1024;

/// Logs `loss_held_out` and `sigreg_held_out` of batches of the training's size, and of their embeddings `rankme`,
/// `lidar`, `alpha_req` ([`Rows`]) and `neighbours_kept`, the share of nearest neighbours that were so at the measurement
/// before.
///
/// The views are the same each time. They are those of held-out samples, and of training samples where too few are
/// held out.
pub struct Quality {
    source: Arc<dyn ViewSource>,
    order: Order,
    every: u64,
    batches: u64,
    state: State,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct State {
    neighbours: Vec<Vec<u32>>,
    /// The last step that was measured.
    measured: u64,
}

impl Component for Quality {
    const NAME: &'static str = "quality";
    const ABOUT: &'static str =
        "held-out loss and SIGReg, RankMe, LiDAR, alpha-ReQ, stability of neighbours, as it trains";
    type Config = QualityConfig;

    fn docs() -> Docs {
        field_docs(include_str!("quality.rs"), "QualityConfig")
    }
}

impl CallbackKind for Quality {
    const ENABLED: bool = true;

    fn validate(config: &QualityConfig) -> lejepa_core::Result<()> {
        if config.samples >= 32 {
            return Ok(());
        }
        Err(Error::bad_value("callbacks.quality.samples", "must be at least 32"))
    }

    fn build(config: QualityConfig, at: &CallbackContext<'_>) -> Result<Box<dyn Callback>> {
        let batch = at.settings.train.batch;
        // Samples that go forward in the time that may be spent: a step of training takes three times as long as its
        // forward pass.
        let budget = (0.02 * 3.0 * at.total as f64 * batch as f64) as u64;
        let samples = config.samples.min((budget as usize / 2).max(32));
        let enough = at.held_out.len() >= batch.min(samples);
        let from = if enough { at.held_out } else { at.trained_on };
        // Evenly over all, since neighbours in a folder are alike.
        let count = samples.min(from.len());
        let chosen: Vec<usize> = (0..count).map(|i| from[i * from.len() / count.max(1)]).collect();
        let order = Order::new(chosen, batch, Seed(at.settings.seed));
        let every = match config.every {
            0 => at.total.div_ceil((budget / samples as u64).clamp(2, 10)).max(1),
            every => every,
        };
        let batches = order.steps_per_epoch();
        let source = at.source.clone();
        Ok(Box::new(Self { source, order, every, batches, state: State::default() }))
    }
}

impl Callback for Quality {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn after_step(&mut self, at: &mut AfterStep<'_>) -> Result<Flow> {
        let due = at.step / self.every > self.state.measured / self.every;
        if at.is_logged && (due || at.step == 1 || at.step == at.total) {
            self.state.measured = at.step;
            self.measure(at)?;
        }
        Ok(Flow::Continue)
    }

    fn save(&self) -> Result<Option<Vec<u8>>> {
        to_json(&self.state, Self::NAME)
    }

    fn load(&mut self, state: &[u8]) -> Result<()> {
        self.state = from_json(state, Self::NAME)?;
        Ok(())
    }
}

impl Quality {
    fn measure(&mut self, at: &mut AfterStep<'_>) -> Result<()> {
        let (source, order) = (self.source.as_ref(), &self.order);
        let (mut losses, mut sigregs, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        let (mut dim, mut targets) = (0, 0);
        // As many batches in memory as are made at once.
        let together = rayon::current_num_threads().max(1) as u64;
        for start in (0..self.batches).step_by(together as usize) {
            let steps = start..(start + together).min(self.batches);
            let made = steps.into_par_iter().map(|step| {
                make_batch(source, order, step, 0..order.batch()).map(|batch| (step, batch))
            });
            for batch in made.collect::<Vec<_>>() {
                // Samples that turned bad are told by the loader.
                let Ok((step, batch)) = batch else { continue };
                let assessed = at.learner.assess(&batch, step)?;
                losses.push(assessed.total);
                sigregs.push(assessed.sigreg);
                let spec = batch.spec();
                let first = spec.stream(spec.streams().first().copied().unwrap_or_default());
                let Some(embeddings) = assessed.embeddings.into_iter().next() else { continue };
                let [views, _, width] = embeddings.dims();
                let of = first.targets();
                let of = if of.is_empty() { (0..views).collect() } else { of };
                (dim, targets) = (width, of.len());
                let parts = of.into_iter().map(|view| embeddings.clone().narrow(0, view, 1));
                // [views, samples, dim] as rows of a sample after each other.
                let rows_of = Tensor::cat(parts.collect(), 0).swap_dims(0, 1);
                rows.extend(rows_of.try_into_vec_as::<f32>()?);
            }
        }
        if losses.is_empty() || dim == 0 || targets == 0 {
            return Ok(());
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let one: Vec<f32> =
            rows.chunks_exact(targets * dim).flat_map(|s| s[..dim].to_vec()).collect();
        let one = Rows::new(&one, dim);
        let lidar = if dim <= MAX_LIDAR { Rows::new(&rows, dim).lidar(targets) } else { f64::NAN };
        let neighbours = one.neighbours(NEIGHBOURS);
        let kept = match self.state.neighbours.len() == neighbours.len() {
            true => kept(&self.state.neighbours, &neighbours),
            false => f64::NAN,
        };
        self.state.neighbours = neighbours;
        for (name, value) in [
            ("loss_held_out", mean(&losses)),
            ("sigreg_held_out", mean(&sigregs)),
            ("rankme", one.rank_me()),
            ("lidar", lidar),
            ("alpha_req", one.alpha_req()),
            ("neighbours_kept", kept),
        ] {
            if value.is_finite() {
                at.scalars.insert(name.into(), value);
            }
        }
        Ok(())
    }
}
