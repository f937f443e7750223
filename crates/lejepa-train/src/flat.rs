//! Parameters, gradients and running statistics of a model as flat tensors, and what is done to all of them.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{GradientCheckpointingStrategy, Tensor};

use crate::group::Group;
use crate::model::Model;
use crate::{Result, TrainError};

/// The model with this gradient checkpointing strategy, which `valid` drops.
pub(crate) fn with_strategy(model: Model, strategy: GradientCheckpointingStrategy) -> Model {
    model.map(&mut WithStrategy(strategy))
}

struct WithStrategy(GradientCheckpointingStrategy);

impl ModuleMapper for WithStrategy {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.with_gradient_checkpointing_strategy(self.0))
    }
}

struct Flatten<'a> {
    gradients: &'a GradientsParams,
    all: Vec<Tensor<1>>,
}

impl ModuleVisitor for Flatten<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            let size = value.shape().num_elements();
            // Every rank gives as many numbers, whether its samples reach the parameter or not; the last of
            // them says whether they do.
            let device = value.device().without_autodiff();
            let gradient = self.gradients.get::<D>(param.id).map(|g| g.reshape([size]));
            self.all.push(match gradient {
                Some(gradient) => Tensor::cat(vec![gradient, Tensor::ones([1], &device)], 0),
                None => Tensor::zeros([size + 1], &device),
            });
        }
    }
}

struct Unflatten {
    all: Tensor<1>,
    from: usize,
    gradients: GradientsParams,
    error: Option<TrainError>,
}

impl ModuleVisitor for Unflatten {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() && self.error.is_none() {
            let shape = value.dims();
            let size: usize = shape.iter().product();
            let reached = self.all.clone().narrow(0, self.from + size, 1).try_into_scalar::<f32>();
            match reached {
                Ok(ranks) if ranks > 0.0 => {
                    let gradient = self.all.clone().narrow(0, self.from, size).reshape(shape);
                    self.gradients.register::<D>(param.id, gradient);
                }
                // As with one worker: no gradient, and no weight decay.
                Ok(_) => {}
                Err(error) => self.error = Some(error.into()),
            }
            self.from += size + 1;
        }
    }
}

/// Adds the gradients of the projectors and the prediction term to those of the encoders.
pub(crate) fn add_heads(model: &Model, from: &mut GradientsParams, to: &mut GradientsParams) {
    struct Move<'a>(&'a mut GradientsParams, &'a mut GradientsParams);
    impl ModuleVisitor for Move<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.remove::<D>(param.id) {
                self.1.register::<D>(param.id, gradient);
            }
        }
    }
    let mut both = Move(from, to);
    model.projectors.visit(&mut both);
    model.prediction.visit(&mut both);
}

/// A number that tells the parameters of a model from those of another one.
///
/// # Errors
/// A device that fails.
pub(crate) fn checksum(model: &Model) -> Result<u64> {
    struct Sum(u64, Result<()>);
    impl ModuleVisitor for Sum {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            match param.val().detach().try_into_vec_as::<f32>() {
                // FNV-1a, a word at a time.
                Ok(values) => values.iter().for_each(|value| {
                    self.0 = (self.0 ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3);
                }),
                Err(error) => self.1 = Err(error.into()),
            }
        }
    }
    let mut sum = Sum(0xcbf2_9ce4_8422_2325, Ok(()));
    // `valid` folds the last update of running statistics in.
    model.valid().visit(&mut sum);
    sum.1.map(|()| sum.0)
}

/// The encoders' gradients summed over a group.
///
/// # Errors
/// A device or a group that fails.
pub(crate) fn summed(
    model: &Model,
    mine: GradientsParams,
    group: &dyn Group,
) -> Result<GradientsParams> {
    if group.size() == 1 {
        return Ok(mine);
    }
    let mut flat = Flatten { gradients: &mine, all: Vec::new() };
    model.encoders.visit(&mut flat);
    if flat.all.is_empty() {
        return Ok(mine);
    }
    let all = group.sum(Tensor::cat(flat.all, 0))?;
    let gradients = GradientsParams::new();
    let mut out = Unflatten { all, from: 0, gradients, error: None };
    model.encoders.visit(&mut out);
    match out.error {
        Some(error) => Err(error),
        None => Ok(out.gradients),
    }
}

/// The encoders' tensors that take no gradient, in one: running statistics, and frozen parameters. `None` where
/// there are none.
pub(crate) fn running_statistics(model: &Model) -> Option<Tensor<1>> {
    struct Collect(Vec<Tensor<1>>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            if !value.is_require_grad() {
                let size = value.shape().num_elements();
                self.0.push(value.detach().without_autodiff().reshape([size]));
            }
        }
    }
    let mut collected = Collect(Vec::new());
    // `valid` folds the last update in; `train` restores which tensors take gradients.
    model.encoders.valid().train().visit(&mut collected);
    (!collected.0.is_empty()).then(|| Tensor::cat(collected.0, 0))
}

/// Sets the encoders' running statistics to the mean over the parts of all ranks, each from
/// [`running_statistics`].
///
/// # Errors
/// A group that fails.
pub(crate) fn set_running_statistics(
    model: &Model,
    parts: Vec<Tensor<1>>,
    group: &dyn Group,
) -> Result<()> {
    let count = parts.len() as f64;
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else { return Ok(()) };
    // By differences, so that frozen parameters, which all parts agree on, keep their bits.
    let excess = parts.map(|part| part - first.clone()).reduce(|a, b| a + b);
    let mut mean = match excess {
        Some(excess) => first + excess * count.recip(),
        None => first,
    };
    if group.size() > 1 {
        mean = group.sum(mean)? * (group.size() as f64).recip();
    }
    struct Set(Tensor<1>, usize);
    impl ModuleMapper for Set {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let old = param.val();
            if old.is_require_grad() {
                return param;
            }
            let (shape, size) = (old.dims(), old.shape().num_elements());
            let new = self.0.clone().narrow(0, self.1, size).reshape(shape);
            self.1 += size;
            param.map(|old| lift(new, &old))
        }
    }
    // A clone shares the running statistics, which are written in place; the rest of it is dropped.
    let _ = model.encoders.clone().map(&mut Set(mean, 0));
    Ok(())
}

/// A constant on the device of `like`, with its gradient checkpointing strategy.
fn lift<const D: usize>(tensor: Tensor<D>, like: &Tensor<D>) -> Tensor<D> {
    match like.gradient_checkpointing_strategy() {
        Some(strategy) => tensor.autodiff().with_gradient_checkpointing_strategy(strategy),
        None => tensor,
    }
}
