//! An exponential moving average of the weights, which is probed and exported in their place.

use std::any::Any;
use std::collections::VecDeque;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Tensor};
use lejepa_core::config::{Docs, field_docs};
use lejepa_core::{Component, Error};
use serde::{Deserialize, Serialize};

use super::state::unreadable;
use crate::Result;
use crate::callback::{AfterStep, Callback, CallbackContext, CallbackKind, Flow};
use crate::guard::catch_panics;
use crate::model::Model;

/// `[callbacks.ema]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmaConfig {
    /// Share of the average that a step keeps, in 0..1.
    pub decay: f64,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self { decay: 0.999 }
    }
}

/// Moving average of all weights: average ← d·average + (1 − d)·weights after each step, with
/// d = min(decay, (1 + step) / (10 + step)), so that the initial weights are soon forgotten. Training does
/// not see it; probes, exports and embeddings use it.
pub struct Ema {
    decay: f64,
    average: Model,
}

impl Component for Ema {
    const NAME: &'static str = "ema";
    const ABOUT: &'static str = "probes and exports an exponential moving average of the weights";
    type Config = EmaConfig;

    fn docs() -> Docs {
        field_docs(include_str!("ema.rs"), "EmaConfig")
    }
}

impl CallbackKind for Ema {
    fn validate(config: &EmaConfig) -> lejepa_core::Result<()> {
        if (0.0..1.0).contains(&config.decay) {
            return Ok(());
        }
        Err(Error::bad_value("callbacks.ema.decay", "must lie in 0..1"))
    }

    fn build(config: EmaConfig, at: &CallbackContext<'_>) -> Result<Box<dyn Callback>> {
        Ok(Box::new(Self { decay: config.decay, average: at.model.valid() }))
    }
}

impl Callback for Ema {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn after_step(&mut self, at: &mut AfterStep<'_>) -> Result<Flow> {
        let step = at.step as f64;
        let decay = self.decay.min((1.0 + step) / (10.0 + step));
        let mut weights = Weights(VecDeque::new());
        at.learner.model.valid().visit(&mut weights);
        self.average = self.average.clone().map(&mut Lerp { decay, weights: weights.0 });
        Ok(Flow::Continue)
    }

    fn save(&self) -> Result<Option<Vec<u8>>> {
        let bytes = self.average.clone().into_record().into_bytes();
        bytes.map(|bytes| Some(bytes.to_vec())).map_err(|e| unreadable(Self::NAME, e))
    }

    fn load(&mut self, state: &[u8]) -> Result<()> {
        let average = self.average.clone();
        self.average = catch_panics(|| {
            let bytes = Bytes::from_bytes_vec(state.to_vec());
            let record = ModuleRecord::from_bytes(bytes).map_err(|e| e.to_string())?;
            average.try_load_record(record).map_err(|e| e.to_string())
        })
        .and_then(|loaded| loaded)
        .map_err(|reason| unreadable(Self::NAME, reason))?;
        Ok(())
    }

    fn evaluated(&self) -> Result<Option<Model>> {
        Ok(Some(self.average.clone()))
    }
}

/// The weights in the order of a visit.
struct Weights(VecDeque<Box<dyn Any>>);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push_back(Box::new(param.val()));
    }
}

/// Maps in the order of a visit.
struct Lerp {
    decay: f64,
    weights: VecDeque<Box<dyn Any>>,
}

impl ModuleMapper for Lerp {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let weights = self.weights.pop_front().and_then(|w| w.downcast::<Tensor<D>>().ok());
        match weights {
            Some(weights) => {
                param.map(|average| average * self.decay + *weights * (1.0 - self.decay))
            }
            None => param,
        }
    }
}
