//! The section `[world]`.

use lejepa_core::Result;
use lejepa_core::config::check;
use serde::{Deserialize, Serialize};

/// Settings of the modality `world`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldConfig {
    /// Consecutive frames of a sample, 2 to 64.
    pub window: usize,
    /// Numbers of an action, 1 to 256.
    pub actions: usize,
    /// Side of a frame in pixels, 4 to 512.
    pub size: usize,
    /// Channels of a frame: 1 or 3.
    pub channels: usize,
    /// Largest shift of the frames of a view in pixels, 0 to 64, the same for all frames of a sample; what comes in from
    /// outside continues the edge.
    pub shift: usize,
    /// Standard deviation of the noise that is added to each pixel, where 0 is black and 1 is white, 0 to 1.
    pub noise: f32,
    /// Mean of the pixels, 0 to 1.
    pub mean: f32,
    /// Standard deviation of the pixels, above 0, at most 1.
    pub std: f32,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            window: 7,
            actions: 2,
            size: 32,
            channels: 3,
            shift: 0,
            noise: 0.0,
            mean: 0.5,
            std: 0.25,
        }
    }
}

impl WorldConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        check::within("world.window", self.window, 2..=64)?;
        check::within("world.actions", self.actions, 1..=256)?;
        check::within("world.size", self.size, 4..=512)?;
        check::one_of("world.channels", self.channels, &[1, 3])?;
        check::within("world.shift", self.shift, 0..=64)?;
        check::within("world.noise", self.noise, 0.0..=1.0)?;
        check::within("world.mean", self.mean, 0.0..=1.0)?;
        check::within("world.std", self.std, 1e-3..=1.0)
    }
}
