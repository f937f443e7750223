//! What happened in a world.

use std::sync::Arc;

use lejepa_core::{Error, Result, View};
use lejepa_image::Picture;
use lejepa_image::crop::{Area, resize};

use crate::config::WorldConfig;

/// Frames and the actions between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// Channels, height and width of a frame.
    shape: [usize; 3],
    /// Channel first.
    frames: Vec<Vec<u8>>,
    /// Row-major, `[frames − 1, width]`.
    actions: Vec<f32>,
    width: usize,
}

impl Episode {
    /// Frames of `shape` (channels, height, width), channel first, and `width` numbers for each but the last: the action
    /// that was taken at it.
    ///
    /// # Errors
    /// [`Error::Data`] for fewer than two frames, frames of another shape, or too few actions.
    pub fn new(
        shape: [usize; 3],
        frames: Vec<Vec<u8>>,
        mut actions: Vec<f32>,
        width: usize,
    ) -> Result<Self> {
        let wanted = width * frames.len().saturating_sub(1);
        let cells = shape.iter().product::<usize>();
        let reason = if frames.len() < 2 {
            format!("an episode of {} frames", frames.len())
        } else if frames.iter().any(|frame| frame.len() != cells) {
            format!("a frame that is not of {shape:?}")
        } else if actions.len() < wanted || width == 0 {
            format!("{} frames, but {} numbers of actions", frames.len(), actions.len())
        } else if !actions.iter().all(|v| v.is_finite()) {
            "an action that is no number".into()
        } else {
            actions.truncate(wanted);
            return Ok(Self { shape, frames, actions, width });
        };
        Err(Error::Data { reason, hint: "each frame but the last needs an action".into() })
    }

    /// The number of its frames.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// A frame as a view, by mean and standard deviation of pixels between 0 and 1.
    ///
    /// # Errors
    /// [`Error::Sample`] for a frame that it does not have.
    pub fn view(&self, frame: usize, mean: f32, std: f32) -> Result<View> {
        let pixels = self.frames.get(frame).ok_or_else(|| Error::sample("", "no such frame"))?;
        view(self.shape, pixels, mean, std)
    }

    /// The action that was taken at a frame; nothing of the last one.
    pub fn action(&self, frame: usize) -> Option<&[f32]> {
        self.actions.chunks_exact(self.width).nth(frame)
    }

    /// Numbers of an action.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether all channels of a frame are alike.
    pub(crate) fn is_grey(&self, frame: usize) -> bool {
        let pixels = self.pixels(frame);
        let cells = (self.shape[1] * self.shape[2]).max(1);
        pixels.chunks(cells).all(|plane| plane == &pixels[..plane.len()])
    }

    /// Of a frame, channel first; nothing of one that it does not have.
    pub(crate) fn pixels(&self, frame: usize) -> &[u8] {
        self.frames.get(frame).map_or(&[], Vec::as_slice)
    }

    /// Bytes of its frames.
    pub(crate) fn bytes(&self) -> usize {
        self.frames.iter().map(Vec::len).sum()
    }
}

pub(crate) fn view(shape: [usize; 3], pixels: &[u8], mean: f32, std: f32) -> Result<View> {
    View::new(shape, pixels.iter().map(|&v| (f32::from(v) / 255.0 - mean) / std).collect())
}

/// A frame at the size of views, channel first; of pictures that are not square the whole is squeezed.
pub(crate) fn squeezed(picture: &Picture, config: &WorldConfig) -> Result<Vec<u8>, String> {
    let (width, height) = (picture.width() as f64, picture.height() as f64);
    let area = Area { left: 0.0, top: 0.0, width, height };
    let planes = resize(picture, area, config.size, config.channels)?;
    Ok(planes.into_iter().map(|v| (255.0 * v).round() as u8).collect())
}

/// A frame of an episode.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The episode.
    pub episode: Arc<Episode>,
    /// Which of its frames.
    pub frame: usize,
}
