//! From a configuration to what is trained.

use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, GradientCheckpointingStrategy, Tensor};
use lejepa_core::{Purpose, Seed};

use crate::config::Memory;
use crate::group::Alone;
use crate::model::{Model, draws};
use crate::resolved::Resolved;
use crate::rundir::RunDir;
use crate::step::Learner;
use crate::{Result, checkpoint};

impl Resolved {
    /// Builds the model with initial weights that follow from the run's seed, the same on every device.
    ///
    /// # Errors
    /// Settings that an encoder, the projector or the prediction term refuses.
    ///
    /// ```
    #[doc = include_str!("doc/resolved.txt")]
    /// use lejepa_core::{Seed, Source};
    /// use lejepa_train::{Order, make_batch};
    ///
    /// let (device, digits) = (Device::flex(), resolved.open(Source::Demo)?);
    /// let model = resolved.model(&device)?;
    /// let order = Order::new((0..100).collect(), 8, Seed(0));
    /// let batch = make_batch(digits.as_ref(), &order, 0, 0..8)?;
    /// // One stream, so one tensor: [views, samples, embedding].
    /// let embeddings = model.embed_batch(&batch, &device)?;
    /// let views = resolved.spec().views();
    /// assert_eq!(embeddings[0].dims(), [views, 8, 24]);
    /// assert_eq!(model.project(resolved.spec(), embeddings).dims(), [views, 8, 64]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn model(&self, device: &Device) -> Result<Model> {
        let seed = Seed(self.settings().seed);
        // Every backend has its own generator. Weights are drawn on the CPU and then moved, so
        // that a run starts from the same point wherever it runs.
        let host = Device::flex();
        let host = match device.gradient_checkpointing_strategy() {
            None => host,
            Some(GradientCheckpointingStrategy::Disabled) => host.autodiff(),
            Some(GradientCheckpointingStrategy::Balanced) => {
                host.autodiff().gradient_checkpointing()
            }
        };
        let _drawing = draws();
        host.seed(seed.derive(Purpose::Init, &[]));
        let encoders = self.encoders(&host)?;
        let projector = &self.settings().projector;
        let projectors =
            encoders.iter().map(|e| projector.init(e.dim(), &host)).collect::<Result<_, _>>()?;
        let prediction = self.prediction(&host)?;
        let model = Model { encoders, projectors, prediction };
        // burn draws weights when they are first read. Reading them here, in order, makes them
        // depend on the seed alone.
        model.visit(&mut Realise);
        Ok(if *device == host { model } else { model.fork(device) })
    }

    /// The model of a run with the weights that its newest checkpoint would be probed with, for inference.
    ///
    /// # Errors
    /// [`TrainError::Corrupt`](crate::TrainError::Corrupt) where there is no checkpoint, or it is damaged or of
    /// another configuration.
    pub fn trained(&self, run: &RunDir, device: &Device) -> Result<Model> {
        let latest = checkpoint::latest(run)?;
        Ok(checkpoint::load_evaluated(&latest, self.model(device)?)?.valid())
    }

    /// A learner whose model has the run's initial weights, on `device`.
    ///
    /// # Errors
    /// Settings that a component refuses.
    pub fn learner(&self, device: &Device) -> Result<Learner> {
        let t = &self.settings().train;
        let device = match t.memory {
            Memory::Full => device.clone().autodiff(),
            Memory::Checkpoint => device.clone().autodiff().gradient_checkpointing(),
        };
        let model = self.model(&device)?;
        Ok(Learner {
            optimizer: self.optimizer(&model.undecayed())?,
            model,
            objective: self.objective()?,
            spec: self.spec().clone(),
            device,
            precision: t.precision.into(),
            microbatches: t.microbatches,
            seed: Seed(self.settings().seed),
            group: Arc::new(Alone),
        })
    }
}

struct Realise;

impl ModuleVisitor for Realise {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let _ = param.val();
    }
}
