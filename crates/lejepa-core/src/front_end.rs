//! Signals behind views: what comes before a spectrogram, and what one sounds like.

use crate::Array;

/// A logarithmic spectrogram of a signal: how an evaluation view is computed from samples, before its
/// normalisation, so that a graph of the encoder can begin with the samples.
///
/// Frame t is the power of the discrete Fourier transform of samples t·hop to t·hop + n, times a window of n; a
/// view `[1, bands, frames]` is ln(floor + B·power).
#[derive(Debug, Clone, PartialEq)]
pub struct LogSpectrogram {
    /// Samples per second.
    pub sample_rate: usize,
    /// The window, whose length is that of a frame.
    pub window: Vec<f32>,
    /// Samples between the starts of consecutive frames.
    pub hop: usize,
    /// Frames of a view.
    pub frames: usize,
    /// Weights B of the n/2 + 1 frequencies in each band, `[bands, frequencies]`.
    pub bands: Array,
    /// Added to the power of a band.
    pub floor: f32,
}

impl LogSpectrogram {
    /// Samples of a view.
    pub fn samples(&self) -> usize {
        self.window.len() + self.frames.saturating_sub(1) * self.hop
    }
}

/// Samples of one channel, of which full scale is -1 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// Samples per second.
    pub sample_rate: usize,
    /// The samples.
    pub samples: Vec<f32>,
}
