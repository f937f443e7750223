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
}

impl Limits {
    pub(crate) fn of(config: &VideoConfig) -> Self {
        Self { size: config.size, max_frames: config.max_frames }
    }

    /// A clip without frames yet.
    pub(crate) fn builder(self) -> ClipBuilder {
        ClipBuilder::new(self.size)
    }
}
