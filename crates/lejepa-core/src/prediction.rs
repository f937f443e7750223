//! Prediction: the term of the loss that ties the views of a sample together.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::component::Component;
use crate::erased::{BoxedModule, Holder};
use crate::{Result, ViewSpec};

/// The projected views of a batch, and their context.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Embedded<'a> {
    /// `[views, samples, dim]`, views in the order of the specification.
    pub z: Tensor<3>,
    /// Which views are which.
    pub spec: &'a ViewSpec,
    /// `[samples, width]` for each context of the specification.
    pub context: &'a [Tensor<2>],
}

impl<'a> Embedded<'a> {
    /// Projections of the views of `spec`, with the context that it names.
    pub fn new(z: Tensor<3>, spec: &'a ViewSpec, context: &'a [Tensor<2>]) -> Self {
        Self { z, spec, context }
    }

    /// The context of this name, `[samples, width]`.
    pub fn context(&self, name: &str) -> Option<&'a Tensor<2>> {
        let at = self.spec.context().iter().position(|context| context.name == name)?;
        self.context.get(at)
    }

    /// The projections of one group, `[views of the group, samples, dim]`.
    pub fn group(&self, name: &str) -> Option<Tensor<3>> {
        let at = self.spec.groups().iter().position(|group| group.name == name)?;
        let range = self.spec.ranges().swap_remove(at);
        Some(self.z.clone().narrow(0, range.start, range.len()))
    }
}

/// A term of the loss that compares the views of a sample: a burn module, so that it may have
/// parameters, such as those of a predictor network. Its parameters are trained with the rest.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use lejepa_core::{Embedded, Error, Group, Prediction, Result, ViewSpec};
///
/// /// The next view follows from this one and the action by a linear layer.
/// #[derive(Module, Debug)]
/// struct Dynamics {
///     step: Linear,
/// }
///
/// impl Prediction for Dynamics {
///     fn loss(&self, at: &Embedded<'_>) -> Result<Tensor<1>> {
///         let missing = || Error::bad_value("prediction.name", "needs the groups `now` and `next`");
///         let now = at.group("now").ok_or_else(missing)?.squeeze_dim::<2>(0);
///         let next = at.group("next").ok_or_else(missing)?.squeeze_dim::<2>(0);
///         let action = at.context("action").ok_or_else(missing)?.clone();
///         let predicted = self.step.forward(Tensor::cat(vec![now, action], 1));
///         Ok((predicted - next).square().mean())
///     }
/// }
///
/// let device = Device::flex();
/// let spec = ViewSpec::new([Group::new("now", 1, [1, 4]), Group::new("next", 1, [1, 4]).target()])
///     .with_context("action", 2);
/// let dynamics = Dynamics { step: LinearConfig::new(8 + 2, 8).init(&device) };
/// let context = [Tensor::<2>::zeros([5, 2], &device)];
/// let loss = dynamics.loss(&Embedded::new(Tensor::ones([2, 5, 8], &device), &spec, &context))?;
/// assert_eq!(loss.dims(), [1]);
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub trait Prediction: Module + Sync + 'static {
    /// The loss of a batch, a single number.
    ///
    /// # Errors
    /// Groups or context that it needs and that are not there.
    fn loss(&self, at: &Embedded<'_>) -> Result<Tensor<1>>;

    /// The states that follow from `[n, dim]` by `[n, steps, width]` actions, `[n, steps, dim]`; nothing where the term
    /// does not tell, or actions have another width.
    fn roll(&self, state: Tensor<2>, actions: Tensor<3>) -> Option<Tensor<3>> {
        let _ = (state, actions);
        None
    }
}

/// A [`Prediction`] of any type, itself a burn [`Module`].
pub type BoxedPrediction = BoxedModule<dyn ErasedPrediction>;

impl BoxedModule<dyn ErasedPrediction> {
    /// Boxes a prediction term.
    pub fn new(prediction: impl Prediction) -> Self {
        Self::hold(Predicts(prediction), |held| held)
    }

    /// See [`Prediction::loss`].
    ///
    /// # Errors
    /// As [`Prediction::loss`].
    pub fn loss(&self, at: &Embedded<'_>) -> Result<Tensor<1>> {
        self.role().loss(at)
    }

    /// See [`Prediction::roll`].
    pub fn roll(&self, state: Tensor<2>, actions: Tensor<3>) -> Option<Tensor<3>> {
        self.role().roll(state, actions)
    }
}

/// [`Prediction`] as a trait object.
pub trait ErasedPrediction {
    #[doc(hidden)]
    fn loss(&self, at: &Embedded<'_>) -> Result<Tensor<1>>;
    #[doc(hidden)]
    fn roll(&self, state: Tensor<2>, actions: Tensor<3>) -> Option<Tensor<3>>;
}

#[derive(Debug, Clone)]
struct Predicts<P>(P);

impl<P: Prediction> Holder for Predicts<P> {
    type Inner = P;
    fn inner(&self) -> &P {
        &self.0
    }
    fn into_inner(self) -> P {
        self.0
    }
    fn hold(inner: P) -> Self {
        Self(inner)
    }
}

impl<P: Prediction> ErasedPrediction for Predicts<P> {
    fn loss(&self, at: &Embedded<'_>) -> Result<Tensor<1>> {
        self.0.loss(at)
    }
    fn roll(&self, state: Tensor<2>, actions: Tensor<3>) -> Option<Tensor<3>> {
        self.0.roll(state, actions)
    }
}

/// A [`Prediction`] that can be chosen by name: `prediction.name = "NAME"`.
pub trait PredictionKind: Component {
    /// Builds the term.
    ///
    /// # Errors
    /// [`Error::BadValue`](crate::Error::BadValue) for settings or views that it cannot serve.
    fn build(config: &Self::Config, at: &PredictionContext<'_>) -> Result<BoxedPrediction>;
}

/// What a prediction term is built for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PredictionContext<'a> {
    /// The views of all streams, and the context.
    pub views: &'a ViewSpec,
    /// Width of the projections.
    pub dim: usize,
    /// Where its parameters go.
    pub device: &'a Device,
}

impl<'a> PredictionContext<'a> {
    /// A term over projections of width `dim`.
    pub fn new(views: &'a ViewSpec, dim: usize, device: &'a Device) -> Self {
        Self { views, dim, device }
    }
}
