//! Optimizers and learning-rate schedules, by name.

use burn::optim::ModuleOptimizer;

use crate::Result;
use crate::component::Component;

/// An optimizer that can be chosen by name: `optimizer.name = "NAME"`.
///
/// ```
/// use burn::module::ParamGroup;
/// use burn::optim::{ModuleOptimizer, SgdConfig};
/// use lejepa_core::{Component, NoConfig, OptimizerContext, OptimizerKind, Result};
///
/// /// Stochastic gradient descent, without weight decay for anything.
/// struct Sgd;
///
/// impl Component for Sgd {
///     const NAME: &'static str = "sgd";
///     const ABOUT: &'static str = "stochastic gradient descent";
///     type Config = NoConfig;
/// }
///
/// impl OptimizerKind for Sgd {
///     fn build(_: &NoConfig, _: &OptimizerContext<'_>) -> Result<ModuleOptimizer> {
///         Ok(SgdConfig::new().init().into())
///     }
/// }
/// assert!(Sgd::build(&NoConfig {}, &OptimizerContext::new(&[])).is_ok());
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub trait OptimizerKind: Component {
    /// Builds the optimizer.
    ///
    /// # Errors
    /// [`Error::BadValue`](crate::Error::BadValue) for settings out of range.
    fn build(config: &Self::Config, at: &OptimizerContext<'_>) -> Result<ModuleOptimizer>;
}

/// What an optimizer is built for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct OptimizerContext<'a> {
    /// Dotted names of the parameters that weight decay spares: vectors, and what encoders name
    /// ([`Encoder::undecayed`](crate::Encoder::undecayed)).
    pub undecayed: &'a [String],
}

impl<'a> OptimizerContext<'a> {
    /// An optimizer that does not decay these parameters.
    pub fn new(undecayed: &'a [String]) -> Self {
        Self { undecayed }
    }
}

/// The learning rate over a run, relative to its peak.
pub trait Schedule: Send + Sync {
    /// The learning rate of step `step` (from 0) of `total` over its peak, `train.lr`.
    fn factor(&self, step: u64, total: u64) -> f64;
}

/// A [`Schedule`] that can be chosen by name: `schedule.name = "NAME"`.
///
/// ```
/// use lejepa_core::{Component, NoConfig, Result, Schedule, ScheduleKind};
///
/// /// The same learning rate throughout.
/// struct Constant;
///
/// impl Schedule for Constant {
///     fn factor(&self, _: u64, _: u64) -> f64 {
///         1.0
///     }
/// }
///
/// impl Component for Constant {
///     const NAME: &'static str = "constant";
///     const ABOUT: &'static str = "the same learning rate throughout";
///     type Config = NoConfig;
/// }
///
/// impl ScheduleKind for Constant {
///     fn build(_: &NoConfig) -> Result<Box<dyn Schedule>> {
///         Ok(Box::new(Constant))
///     }
/// }
/// assert_eq!(Constant::build(&NoConfig {})?.factor(7, 10), 1.0);
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub trait ScheduleKind: Component {
    /// Builds the schedule.
    ///
    /// # Errors
    /// [`Error::BadValue`](crate::Error::BadValue) for settings out of range.
    fn build(config: &Self::Config) -> Result<Box<dyn Schedule>>;
}
