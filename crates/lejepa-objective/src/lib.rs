//! The LeJEPA objective (arXiv 2511.08544): a prediction loss and SIGReg. Tensors in, tensors out.
//!
//! * [`Objective`]: the loss with its conventions ([`Reduction`], [`Mix`]).
//! * [`prediction_loss`]: every view predicts a centre of views ([`Centre`]).
//! * [`directions`](fn@directions): unit directions, seeded by step.
//! * [`statistics`]: what is computed of the projections on each direction.
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use lejepa_core::Seed;
//! use lejepa_objective::{Centre, ObjectiveConfig, prediction_loss};
//!
//! # fn main() -> Result<(), lejepa_objective::ObjectiveError> {
//! let device = Device::flex().autodiff();
//! let objective = ObjectiveConfig { slices: 64, ..Default::default() }.init()?;
//! // 3 views (2 of them global) of 16 samples in 8 dimensions.
//! let z = Tensor::<3>::random([3, 16, 8], Distribution::Normal(0.0, 1.0), &device).require_grad();
//! let prediction = prediction_loss(z.clone(), &[0, 1], Centre::Targets)?;
//! let losses = objective.loss(z.clone(), prediction, Seed(0), 0)?;
//! let gradients = losses.total.backward();
//! assert_eq!(z.grad(&gradients).map(|g| g.dims()), Some([3, 16, 8]));
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod directions;
mod error;
mod finite;
mod fused;
mod objective;
mod prediction;
mod quadrature;
mod settings;
pub mod statistics;

pub use directions::{Slicing, directions};
pub use error::ObjectiveError;
pub use objective::{Gauge, Losses, Objective, sigreg_plain};
pub use prediction::{Centre, CentreConfig, CentrePrediction, prediction_loss};
pub use settings::{Mix, ObjectiveConfig, OverSlices, Reduction};
