//! The built-in callbacks.

mod best;
mod ema;
mod monitor;
mod online_probe;

use lejepa_core::register;

pub use best::{Best, BestConfig};
pub use ema::{Ema, EmaConfig};
pub use monitor::{Monitor, MonitorConfig};
pub use online_probe::{OnlineProbe, OnlineProbeConfig};

pub(crate) use monitor::{effective_rank, views_without_gradient, without_gradient};

use crate::callback::Callbacks;

register!(Callbacks: Best, Callbacks: Ema, Callbacks: Monitor, Callbacks: OnlineProbe);

/// State of a callback that is plain data.
fn to_json(state: &impl serde::Serialize, name: &str) -> crate::Result<Option<Vec<u8>>> {
    serde_json::to_vec(state).map(Some).map_err(|e| unreadable(name, e))
}

fn from_json<T: serde::de::DeserializeOwned>(state: &[u8], name: &str) -> crate::Result<T> {
    serde_json::from_slice(state).map_err(|e| unreadable(name, e))
}

fn unreadable(name: &str, reason: impl ToString) -> crate::TrainError {
    let path = std::path::Path::new("callbacks").join(name);
    crate::TrainError::Corrupt { path, reason: reason.to_string() }
}
