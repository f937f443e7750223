//! One step of training: forward, loss, backward, update.

use burn::module::ParamGroup;
use burn::optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use lejepa_core::{Purpose, Seed, ViewSpec};
use lejepa_kernels::Precision;
use lejepa_objective::{Losses, Objective};

use crate::Result;
use crate::adamw::AdamW;
use crate::config::{Memory, TrainConfig};
use crate::loader::{Batch, Part};
use crate::model::Model;
use crate::resolved::Resolved;

/// A model with all that it takes to train it by one step.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
/// use lejepa_core::{Seed, Source};
/// use lejepa_train::Learner;
/// use lejepa_train::loader::{Order, make_batch};
///
/// let source = resolved.open(Source::Demo)?;
/// let mut learner = Learner::new(&resolved, source.spec(), &Device::flex())?;
/// let order = Order { indices: (0..source.len()).collect::<Vec<_>>().into(), batch: 8, seed: Seed(0) };
/// for step in 0..2 {
///     let batch = make_batch(source.as_ref(), &order, step)?;
///     let pass = learner.pass(&batch, step)?;
///     assert_eq!(pass.projections.dims(), [source.spec().views(), 8, 64]);
///     learner = learner.update(1e-3, pass.gradients);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Learner {
    /// What is trained.
    pub model: Model,
    pub(crate) optimizer: ModuleOptimizer,
    pub(crate) objective: Objective,
    views: ViewSpec,
    device: Device,
    precision: Precision,
    parts: usize,
    seed: Seed,
}

/// What the way forward and back of one step gives.
pub struct Pass {
    /// The losses.
    pub losses: Losses,
    /// The projections, `[views, samples, dim]`.
    pub projections: Tensor<3>,
    /// The gradients of the parameters.
    pub gradients: GradientsParams,
}

impl Learner {
    /// A model with the run's initial weights, on `device`, for views of the given sizes.
    ///
    /// # Errors
    /// Settings that the encoder, the projector or the objective refuses.
    pub fn new(resolved: &Resolved, views: &ViewSpec, device: &Device) -> Result<Self> {
        let t = &resolved.settings.train;
        let device = match t.memory {
            Memory::Full => device.clone().autodiff(),
            Memory::Checkpoint => device.clone().autodiff().gradient_checkpointing(),
        };
        let model = Model::init(resolved, views, &device)?;
        Ok(Self {
            optimizer: optimizer(t, &model),
            model,
            objective: resolved.objective()?,
            views: views.clone(),
            device,
            precision: t.precision.into(),
            parts: t.accumulate,
            seed: Seed(resolved.settings.seed),
        })
    }

    /// Forward and backward for the views of step `step` (0-based).
    ///
    /// With `train.accumulate` the encoder works through the batch in parts, twice: first for the
    /// embeddings of all, from which the loss of the whole batch and its gradient with respect to
    /// the embeddings follow, then part by part for that of the parameters (the gradient cache of Gao
    /// et al., arXiv 2101.06983). The statistic is that of the union, and the result that of the whole
    /// batch, but for batch norm within the encoder, which sees a part at a time.
    ///
    /// # Errors
    /// Embeddings that are not finite; views that the encoder does not take.
    pub fn pass(&self, batch: &Batch, step: u64) -> Result<Pass> {
        self.precision.scope(|| match self.parts {
            0 | 1 => self.whole(batch, step),
            parts => self.in_parts(batch, step, parts),
        })
    }

    /// Moves the parameters against their gradients.
    pub fn update(mut self, lr: f64, gradients: GradientsParams) -> Self {
        self.model = self.optimizer.step(lr, self.model, gradients);
        self
    }

    /// The model and its optimizer, to save or to go on without the rest; see
    /// [`checkpoint::save`](crate::checkpoint::save).
    pub fn into_parts(self) -> (Model, ModuleOptimizer) {
        (self.model, self.optimizer)
    }

    fn whole(&self, batch: &Batch, step: u64) -> Result<Pass> {
        let embeddings = self.embed(batch.whole(), &[step])?;
        let projections = self.model.project(embeddings);
        let losses = self.loss(&projections, step)?;
        let gradients = losses.total.clone().backward();
        let gradients = GradientsParams::from_grads(gradients, &self.model);
        Ok(Pass { losses, projections, gradients })
    }

    fn in_parts(&self, batch: &Batch, step: u64, parts: usize) -> Result<Pass> {
        let split = || batch.split(&self.views, parts).into_iter();
        let mut embeddings = Vec::with_capacity(parts);
        for (i, part) in split().enumerate() {
            // Detached, so that what the part's way back would need is let go.
            embeddings.push(self.embed(part, &[step, i as u64])?.detach());
        }
        let counts: Vec<usize> = embeddings.iter().map(|e| e.dims()[1]).collect();
        let embeddings = Tensor::cat(embeddings, 1).require_grad();
        let projections = self.model.project(embeddings.clone());
        let losses = self.loss(&projections, step)?;
        let mut gradients = losses.total.clone().backward();
        let towards = embeddings.grad_remove(&mut gradients);
        let mut sum = GradientsAccumulator::new();
        sum.accumulate(&self.model, GradientsParams::from_grads(gradients, &self.model));
        if let Some(towards) = towards {
            let mut first = 0;
            for (i, (part, count)) in split().zip(counts).enumerate() {
                // The same draws as the first time.
                let embeddings = self.embed(part, &[step, i as u64])?;
                let towards = towards.clone().narrow(1, first, count);
                let towards = self.constant(towards);
                let gradients = (embeddings * towards).sum().backward();
                sum.accumulate(&self.model, GradientsParams::from_grads(gradients, &self.model));
                first += count;
            }
        }
        Ok(Pass { losses, projections, gradients: sum.grads() })
    }

    /// Whatever the encoder draws is addressed by the step, like all else.
    fn embed(&self, part: Part<'_>, address: &[u64]) -> Result<Tensor<3>> {
        self.device.seed(self.seed.derive(Purpose::Encoder, address));
        self.model.embed_part(part, &self.views, &self.device)
    }

    /// A tensor without a history beside those that have one.
    fn constant<const D: usize>(&self, tensor: Tensor<D>) -> Tensor<D> {
        let tensor = tensor.autodiff();
        match self.device.gradient_checkpointing_strategy() {
            Some(strategy) => tensor.with_gradient_checkpointing_strategy(strategy),
            None => tensor,
        }
    }

    fn loss(&self, projections: &Tensor<3>, step: u64) -> Result<Losses> {
        Ok(self.objective.loss(projections.clone(), self.views.globals, self.seed, step)?)
    }
}

/// AdamW with weight decay on matrices and filters only.
fn optimizer(t: &TrainConfig, model: &Model) -> ModuleOptimizer {
    let undecayed = ParamGroup::from_paths(model.undecayed());
    ModuleOptimizer::from(AdamW::new(t.betas, t.weight_decay)).with_group(
        undecayed,
        AdamW::new(t.betas, 0.0),
        None,
    )
}

#[cfg(test)]
mod tests {
    use burn::tensor::GradientCheckpointingStrategy;
    use lejepa_core::{Registry, Source, View};
    use lejepa_image as _;
    use lejepa_nn as _;

    use super::*;
    use crate::Request;

    #[test]
    fn memory_and_parts_are_what_was_asked_for() {
        let registry = Registry::discover().unwrap();
        for (memory, strategy) in [
            ("full", GradientCheckpointingStrategy::Disabled),
            ("checkpoint", GradientCheckpointingStrategy::Balanced),
        ] {
            let words = format!("modality=image train.memory={memory} train.accumulate=3");
            let assignments = words.split_whitespace().map(String::from).collect();
            let resolved =
                Request { assignments, ..Default::default() }.resolve(&registry).unwrap();
            let views = resolved.open(Source::Demo).unwrap().spec().clone();
            let learner = Learner::new(&resolved, &views, &Device::flex()).unwrap();
            assert_eq!(learner.parts, 3);
            assert_eq!(learner.device.gradient_checkpointing_strategy(), Some(strategy));
            // The weights have to live on that device too, or operations would mix strategies.
            let numbers = vec![0.0; views.global.iter().product()];
            let view = View::new(views.global.clone(), numbers).unwrap();
            let embedded = learner.model.embed(&[&view], &learner.device);
            assert_eq!(embedded.unwrap().gradient_checkpointing_strategy(), Some(strategy));
        }
    }
}
