//! A decoded recording.

use std::sync::OnceLock;

use lejepa_core::{Codec, Decoded, Error, Result};

use crate::mel::Spectrogram;

/// A decoded recording, or a segment of one: mono, at least one sample, at the rate of
/// [`AudioConfig::sample_rate`](crate::AudioConfig::sample_rate). Full scale is -1 to 1.
///
/// ```
/// use lejepa_audio::Waveform;
///
/// let wave = Waveform::new(vec![0.0, 0.5, -0.5])?;
/// assert_eq!(wave.samples(), [0.0, 0.5, -0.5]);
/// assert_eq!(wave.bytes(), 12);
///
/// assert!(Waveform::new(vec![]).is_err());
/// assert!(Waveform::new(vec![f32::NAN]).is_err());
/// # Ok::<(), lejepa_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Waveform {
    samples: Vec<f32>,
    /// Made by the first view that wants it. All views of a data set are made by one sampler, so it fits
    /// them all.
    spectrogram: OnceLock<Spectrogram>,
}

impl PartialEq for Waveform {
    fn eq(&self, other: &Self) -> bool {
        self.samples == other.samples
    }
}

impl Waveform {
    /// A recording of these samples.
    ///
    /// # Errors
    /// [`Error::Sample`], without a name, if there are no samples or if one is NaN or infinite.
    pub fn new(samples: Vec<f32>) -> Result<Self> {
        if samples.is_empty() {
            return Err(Error::sample("", "has no samples"));
        }
        if let Some(at) = samples.iter().position(|v| !v.is_finite()) {
            return Err(Error::sample("", format!("sample {at} is NaN or infinite")));
        }
        Ok(Self { samples, spectrogram: OnceLock::new() })
    }

    pub(crate) const CODEC: Codec<Self> = Codec {
        encode: |wave| wave.samples.iter().flat_map(|v| v.to_le_bytes()).collect(),
        decode: |bytes| {
            let (samples, []) = bytes.as_chunks::<4>() else { return None };
            Self::new(samples.iter().map(|b| f32::from_le_bytes(*b)).collect()).ok()
        },
    };

    /// All samples, at least one.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// Memory taken by the samples, in bytes.
    pub fn bytes(&self) -> usize {
        self.samples.len() * size_of::<f32>()
    }

    pub(crate) fn spectrogram(&self, make: impl FnOnce(&[f32]) -> Spectrogram) -> &Spectrogram {
        self.spectrogram.get_or_init(|| make(&self.samples))
    }

    /// A whole recording, or a segment of a longer one.
    pub(crate) fn decoded(self, is_whole: bool) -> Decoded<Self> {
        // At most 64 bands of a frame for every 160 samples and the like: the spectrogram is smaller than the
        // waveform, and counted as large.
        let bytes = 2 * self.bytes();
        if is_whole { Decoded::whole(self, bytes) } else { Decoded::part(self, bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waveform_has_finite_samples() {
        let wave = Waveform::new(vec![0.5, -0.5]).unwrap();
        assert_eq!((wave.samples().len(), wave.bytes()), (2, 8));
        let bytes = (Waveform::CODEC.encode)(&wave);
        assert_eq!((Waveform::CODEC.decode)(&bytes), Some(wave.clone()));
        assert!(!wave.decoded(false).is_whole);
        assert_eq!((Waveform::CODEC.decode)(&bytes[1..]), None);
        for bad in [vec![], vec![f32::NAN], vec![0.0, f32::INFINITY]] {
            assert!(Waveform::new(bad).is_err());
        }
    }
}
