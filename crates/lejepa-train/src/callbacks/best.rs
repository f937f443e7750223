//! Keeps the checkpoint with the lowest smoothed loss.

use lejepa_core::config::{Docs, field_docs};
use lejepa_core::{Component, Error};
use serde::{Deserialize, Serialize};

use super::state::{from_json, to_json};
use crate::Result;
use crate::callback::{AfterStep, Callback, CallbackContext, CallbackKind, Flow};

/// `[callbacks.best]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BestConfig {
    /// Weight of a step's loss in the smoothed loss, in 0..=1 without 0.
    pub smoothing: f64,
}

impl Default for BestConfig {
    fn default() -> Self {
        Self { smoothing: 0.02 }
    }
}

/// Points `checkpoints/best` to the checkpoint with the lowest exponential moving average of the loss.
pub struct Best {
    smoothing: f64,
    state: State,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct State {
    smooth_loss: Option<f64>,
    /// Step and smoothed loss.
    best: Option<(u64, f64)>,
}

impl Component for Best {
    const NAME: &'static str = "best";
    const ABOUT: &'static str = "keeps the checkpoint with the lowest smoothed loss";
    type Config = BestConfig;

    fn docs() -> Docs {
        field_docs(include_str!("best.rs"), "BestConfig")
    }
}

impl CallbackKind for Best {
    const ENABLED: bool = true;

    fn validate(config: &BestConfig) -> lejepa_core::Result<()> {
        if config.smoothing > 0.0 && config.smoothing <= 1.0 {
            return Ok(());
        }
        Err(Error::bad_value("callbacks.best.smoothing", "must lie in 0..=1, above 0"))
    }

    fn build(config: BestConfig, _: &CallbackContext<'_>) -> Result<Box<dyn Callback>> {
        Ok(Box::new(Self { smoothing: config.smoothing, state: State::default() }))
    }
}

impl Callback for Best {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn after_step(&mut self, at: &mut AfterStep<'_>) -> Result<Flow> {
        if let Some(&loss) = at.scalars.get("loss") {
            let smooth = self.state.smooth_loss.unwrap_or(loss);
            self.state.smooth_loss = Some(smooth + self.smoothing * (loss - smooth));
        }
        Ok(Flow::Continue)
    }

    fn before_save(&mut self, step: u64) {
        let now = self.state.smooth_loss;
        if let Some(now) = now.filter(|now| self.state.best.is_none_or(|(_, loss)| *now < loss)) {
            self.state.best = Some((step, now));
        }
    }

    fn pinned(&self) -> Vec<(String, u64)> {
        self.state.best.map(|(step, _)| ("best".to_string(), step)).into_iter().collect()
    }

    fn save(&self) -> Result<Option<Vec<u8>>> {
        to_json(&self.state, Self::NAME)
    }

    fn load(&mut self, state: &[u8]) -> Result<()> {
        self.state = from_json(state, Self::NAME)?;
        Ok(())
    }
}
