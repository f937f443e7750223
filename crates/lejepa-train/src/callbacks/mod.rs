//! The built-in callbacks.

mod best;
mod ema;
mod monitor;
mod online_probe;
mod quality;
mod state;

use lejepa_core::register;

pub use best::{Best, BestConfig};
pub use ema::{Ema, EmaConfig};
pub use monitor::{Monitor, MonitorConfig};
pub use online_probe::{OnlineProbe, OnlineProbeConfig};
pub use quality::{Quality, QualityConfig};

pub(crate) use monitor::{views_without_gradient, without_gradient};

use crate::callback::Callbacks;

register!(Callbacks: Best, Callbacks: Ema, Callbacks: Monitor, Callbacks: OnlineProbe, Callbacks: Quality);
