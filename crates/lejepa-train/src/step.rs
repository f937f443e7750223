//! One step of training: forward, loss, backward, update.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use lejepa_core::{Embedded, Purpose, Seed, ViewSpec};
use lejepa_kernels::{AllReduce, Precision};
use lejepa_objective::{Losses, Objective};

use crate::batch::{Batch, Part};
use crate::flat;
use crate::group::Group;
use crate::model::{Model, draws, without_draws};
use crate::{Result, TrainError};

/// A model with its optimizer and objective; [`Resolved::learner`](crate::Resolved::learner) builds it.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
/// use lejepa_core::{Seed, Source};
/// use lejepa_train::{Order, make_batch};
///
/// let source = resolved.open(Source::Demo)?;
/// let mut learner = resolved.learner(&Device::flex())?;
/// let order = Order::new((0..source.len()).collect(), 8, Seed(0));
/// for step in 0..2 {
///     let batch = make_batch(source.as_ref(), &order, step, 0..8)?;
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
    pub(crate) spec: Arc<ViewSpec>,
    pub(crate) device: Device,
    pub(crate) precision: Precision,
    pub(crate) microbatches: usize,
    pub(crate) seed: Seed,
    pub(crate) group: Arc<dyn Group>,
}

/// Batch norm over the samples of a group; what fails between the workers is kept for the next look.
struct Synchronised {
    all_reduce: Option<AllReduce>,
    failed: Arc<Mutex<Option<TrainError>>>,
    /// The address of the encoder's random draws, and how often they were interrupted.
    draws: Arc<Mutex<(Vec<u64>, u64)>>,
}

impl Synchronised {
    fn among(learner: &Learner) -> Self {
        let (group, device, seed) = (learner.group.clone(), learner.device.clone(), learner.seed);
        let failed = Arc::new(Mutex::new(None));
        let draws = Arc::new(Mutex::new((Vec::new(), 0)));
        let (slot, place) = (failed.clone(), draws.clone());
        let is_alone = group.size() == 1;
        let sum = move |values: &mut [f64]| {
            let (summed, was_drawing) = without_draws(|| group.sum_in_place(values));
            if let Err(error) = summed {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            if was_drawing {
                let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
                place.1 += 1;
                let address = [&place.0[..], &[place.1]].concat();
                device.seed(seed.derive(Purpose::Encoder, &address));
            }
        };
        Self { all_reduce: (!is_alone).then(|| AllReduce::new(sum)), failed, draws }
    }

    fn scope<T>(&self, address: &[u64], work: impl FnOnce() -> Result<T>) -> Result<T> {
        *self.draws.lock().unwrap_or_else(PoisonError::into_inner) = (address.to_vec(), 0);
        let done = match &self.all_reduce {
            Some(all_reduce) => all_reduce.scope(work),
            None => work(),
        };
        self.check().and(done)
    }

    fn check(&self) -> Result<()> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.map_or(Ok(()), Err)
    }
}

/// Result of one forward and backward pass.
#[non_exhaustive]
pub struct Pass {
    /// The losses.
    pub losses: Losses,
    /// The embeddings, detached: for each stream `[views of the stream, samples, dim]`.
    pub embeddings: Vec<Tensor<3>>,
    /// The projections, `[views, samples, dim]`.
    pub projections: Tensor<3>,
    /// The context, `[samples, width]` for each name of the specification.
    pub context: Vec<Tensor<2>>,
    /// The gradients of the parameters.
    pub gradients: GradientsParams,
}

/// What [`Learner::assess`] found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Assessment {
    /// The loss.
    pub total: f64,
    /// SIGReg; NaN where the loss has none.
    pub sigreg: f64,
    /// The embeddings: for each stream `[views of the stream, samples, dim]`.
    pub embeddings: Vec<Tensor<3>>,
}

impl Learner {
    /// Makes this learner one rank of a group: its batches hold the samples of its own places
    /// ([`make_batch`](crate::make_batch)), and its gradients are those of the whole step.
    #[must_use]
    pub fn in_group(mut self, group: Arc<dyn Group>) -> Self {
        self.group = group;
        self
    }

    /// The objective, without the prediction term, which is part of the model.
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    /// The device that it trains on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Forward and backward for the views of step `step` (0-based).
    ///
    /// With `train.microbatches`, or in a group, embeddings are a gradient cache (Gao et al., arXiv
    /// 2101.06983): the encoder embeds the parts of the batch without gradients, the loss of the whole batch
    /// and its gradient with respect to the embeddings are taken, and the encoder runs once more, part by
    /// part, to turn it into gradients of the parameters; a single part of a rank is embedded once. The statistic is
    /// that of the whole batch, and so is the result, but for batch norm within the encoder, which sees a part at a
    /// time: that of all ranks where its kernels run ([`AllReduce`]).
    ///
    /// # Errors
    /// Views that the encoder does not take; a group that fails.
    pub fn pass(&self, batch: &Batch, step: u64) -> Result<Pass> {
        if **batch.spec() != *self.spec {
            return Err(lejepa_core::Error::Data {
                reason: "the batch has other views than the model".into(),
                hint: "make both from one configuration".into(),
            }
            .into());
        }
        self.precision.scope(|| {
            if self.microbatches <= 1 && self.group.size() == 1 {
                self.whole(batch, step)
            } else {
                self.in_parts(batch, step)
            }
        })
    }

    /// Losses and embeddings of views as in evaluation: without gradients, dropped tokens or batch statistics.
    ///
    /// # Errors
    /// As [`Learner::pass`].
    pub fn assess(&self, batch: &Batch, step: u64) -> Result<Assessment> {
        self.precision.scope(|| {
            let model = self.model.valid();
            let embeddings = model.embed_part(&batch.whole(), &self.plain())?;
            let context = batch.spec().context().iter().zip(batch.context());
            let context: Vec<Tensor<2>> = context
                .map(|(spec, values)| {
                    let shape = [batch.samples().len(), spec.width];
                    Tensor::from_data(TensorData::new(values.clone(), shape), &self.plain())
                })
                .collect();
            let (_, losses) = self.heads(&model, embeddings.clone(), &context, step)?;
            let scalar = |tensor: Tensor<1>| -> Result<f64> {
                let values = tensor.try_into_vec_as::<f32>()?;
                Ok(values.first().map_or(f64::NAN, |v| f64::from(*v)))
            };
            let sigreg = losses.term("sigreg").cloned().map_or(Ok(f64::NAN), scalar)?;
            Ok(Assessment { total: scalar(losses.total)?, sigreg, embeddings })
        })
    }

    /// Applies one optimizer step.
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
        let embeddings = self.embed(&self.model, &batch.whole(), &[step])?;
        let detached = embeddings.iter().map(|e| e.clone().detach()).collect();
        let context = self.context(batch)?;
        let (projections, losses) = self.heads(&self.model, embeddings, &context, step)?;
        let gradients = losses.total.clone().backward();
        let gradients = GradientsParams::from_grads(gradients, &self.model);
        Ok(Pass { losses, embeddings: detached, projections, context, gradients })
    }

    fn in_parts(&self, batch: &Batch, step: u64) -> Result<Pass> {
        let rank = self.group.rank() as u64;
        // Parts are addressed within the whole group, and the second time draw as the first time.
        let address = |part: usize| [step, rank * self.microbatches.max(1) as u64 + part as u64];
        let parts = batch.split(self.microbatches);
        let norms = Synchronised::among(self);
        let mut cached: Vec<Vec<Tensor<3>>> = vec![Vec::new(); self.model.encoders.len()];
        // A single part is embedded once: its graph is there when the gradient of the embeddings is.
        let mut once = None;
        let scratch = if parts.len() > 1 { self.copy().no_grad() } else { self.copy() };
        for (i, part) in parts.iter().enumerate() {
            let embeddings =
                norms.scope(&address(i), || self.embed(&scratch, part, &address(i)))?;
            for (all, embeddings) in cached.iter_mut().zip(&embeddings) {
                all.push(embeddings.clone().detach());
            }
            once = (parts.len() == 1).then_some(embeddings);
        }
        let mut once = once.map(|embeddings| (scratch, embeddings));
        let counts: Vec<usize> = parts.iter().map(|part| part.samples).collect();
        let mine = counts.iter().sum::<usize>();
        let gathered = cached
            .into_iter()
            .map(|parts| Ok(self.group.gather(Tensor::cat(parts, 1))?.require_grad()))
            .collect::<Result<Vec<_>>>()?;
        let context = self.context(batch)?;
        let (projections, losses) = self.heads(&self.model, gathered.clone(), &context, step)?;
        let mut gradients = losses.total.clone().backward();
        let first = self.first_sample(mine)?;
        let towards = gathered.iter().map(|embeddings| {
            let towards = embeddings.grad_remove(&mut gradients)?;
            Some(self.constant(towards.narrow(1, first, mine)))
        });
        let towards: Vec<Option<Tensor<3>>> = towards.collect();
        let mut head = GradientsParams::from_grads(gradients, &self.model);
        let mut sum = GradientsAccumulator::new();
        let mut running = Vec::with_capacity(parts.len());
        let mut from = 0;
        for (i, (part, count)) in parts.iter().zip(counts).enumerate() {
            let (copy, embeddings) = match once.take() {
                Some(once) => once,
                None => {
                    let copy = self.copy();
                    let embeddings =
                        norms.scope(&address(i), || self.embed(&copy, part, &address(i)))?;
                    (copy, embeddings)
                }
            };
            let dots = embeddings.into_iter().zip(&towards).filter_map(|(embeddings, towards)| {
                Some((embeddings * towards.clone()?.narrow(1, from, count)).sum())
            });
            if let Some(dot) = dots.reduce(|a, b| a + b) {
                let of_part: Gradients = dot.backward();
                norms.check()?;
                let of_part = GradientsParams::from_grads(of_part, &copy);
                sum.accumulate(&copy, of_part);
            }
            running.extend(flat::running_statistics(&copy));
            from += count;
        }
        flat::set_running_statistics(&self.model, running, self.group.as_ref())?;
        let mut encoders = flat::summed(&self.model, sum.grads(), self.group.as_ref())?;
        flat::add_heads(&self.model, &mut head, &mut encoders);
        let embeddings = gathered.into_iter().map(Tensor::detach).collect();
        Ok(Pass { losses, embeddings, projections, context, gradients: encoders })
    }

    /// A copy of the model with its own running statistics, so that those of batch norm move once a step, by the
    /// mean over the parts.
    fn copy(&self) -> Model {
        let copy = self.model.valid().train();
        match self.device.gradient_checkpointing_strategy() {
            Some(strategy) => flat::with_strategy(copy, strategy),
            None => copy,
        }
    }

    /// Where this rank's samples begin among those of the group.
    fn first_sample(&self, mine: usize) -> Result<usize> {
        if self.group.size() == 1 {
            return Ok(0);
        }
        let count = Tensor::<3>::full([1, 1, 1], mine as f32, &self.plain());
        let counts = self.group.gather(count)?.try_into_vec_as::<f32>()?;
        Ok(counts.iter().take(self.group.rank()).map(|&n| n as usize).sum())
    }

    /// Seeds the encoder's random draws by step and part.
    fn embed(&self, model: &Model, part: &Part<'_>, address: &[u64]) -> Result<Vec<Tensor<3>>> {
        let _drawing = draws();
        self.device.seed(self.seed.derive(Purpose::Encoder, address));
        model.embed_part(part, &self.device)
    }

    /// The context of all samples of the group, `[samples, width]` for each name.
    fn context(&self, batch: &Batch) -> Result<Vec<Tensor<2>>> {
        let names = self.spec.context().iter().zip(batch.context());
        names
            .map(|(spec, values)| {
                let shape = [1, batch.samples().len(), spec.width];
                let mine = TensorData::new(values.clone(), shape);
                let all = self.group.gather(Tensor::from_data(mine, &self.plain()))?;
                Ok(self.constant(all.squeeze_dim::<2>(0)))
            })
            .collect()
    }

    fn plain(&self) -> Device {
        self.device.clone().without_autodiff()
    }

    /// Lifts a constant onto the autodiff backend.
    fn constant<const D: usize>(&self, tensor: Tensor<D>) -> Tensor<D> {
        let tensor = tensor.autodiff();
        match self.device.gradient_checkpointing_strategy() {
            Some(strategy) => tensor.with_gradient_checkpointing_strategy(strategy),
            None => tensor,
        }
    }

    /// Projections and losses. What projectors and the prediction term draw is the same on every rank.
    fn heads(
        &self,
        model: &Model,
        embeddings: Vec<Tensor<3>>,
        context: &[Tensor<2>],
        step: u64,
    ) -> Result<(Tensor<3>, Losses)> {
        let _drawing = draws();
        self.device.seed(self.seed.derive(Purpose::Heads, &[step]));
        let z = model.project(&self.spec, embeddings);
        let at = Embedded::new(z.clone(), &self.spec, context);
        let prediction = model.prediction.loss(&at)?;
        if prediction.dims() != [1] {
            return Err(lejepa_core::Error::Shape {
                what: "the prediction term".into(),
                expected: "[1]".into(),
                got: prediction.dims().to_vec(),
            }
            .into());
        }
        let losses = self.objective.loss_unchecked(z.clone(), prediction, self.seed, step)?;
        Ok((z, losses))
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
