//! How much of a video is kept, and at which size.

use crate::clip::ClipBuilder;
use crate::config::VideoConfig;

/// The size and number of frames that are kept of a video.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Short side of frames in pixels.
    pub(crate) size: usize,
    /// Largest number of frames.
    pub(crate) max_frames: usize,
    /// Frames per second that are kept; 0 keeps all.
    #[cfg_attr(not(feature = "ffmpeg"), expect(dead_code, reason = "only files have a rate"))]
    pub(crate) rate: f64,
}

impl Limits {
    pub(crate) fn of(config: &VideoConfig) -> Self {
        Self { size: config.size, max_frames: config.max_frames, rate: config.rate }
    }

    /// Frames of a video of this rate for each that is kept.
    #[cfg(feature = "ffmpeg")]
    pub(crate) fn step(self, rate: f64) -> f64 {
        if self.rate > 0.0 && rate > 0.0 && rate.is_finite() { rate / self.rate } else { 1.0 }
    }

    /// A clip without frames yet.
    pub(crate) fn builder(self) -> ClipBuilder {
        ClipBuilder::new(self.size)
    }
}
