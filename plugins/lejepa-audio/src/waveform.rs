//! A decoded recording.

use std::sync::OnceLock;

use lejepa_core::{Codec, Decoded, Error, Result};

use crate::mel::Spectrogram;

/// A decoded recording, or a segment of one: one channel or several, at least one sample of each, at the rate of
/// [`AudioConfig::sample_rate`](crate::AudioConfig::sample_rate). Full scale is -1 to 1.
///
/// ```
/// use lejepa_audio::Waveform;
///
/// let wave = Waveform::new(vec![0.0, 0.5, -0.5])?;
/// assert_eq!(wave.samples(), [0.0, 0.5, -0.5]);
/// assert_eq!(wave.bytes(), 12);
///
/// let stereo = Waveform::of_channels(vec![vec![0.5, 0.5], vec![0.0, 0.1]])?;
/// assert_eq!((stereo.channels(), stereo.channel(1)), (2, &[0.0, 0.1][..]));
///
/// assert!(Waveform::new(vec![]).is_err());
/// assert!(Waveform::new(vec![f32::NAN]).is_err());
/// assert!(Waveform::of_channels(vec![vec![0.0, 0.0], vec![0.0]]).is_err());
/// # Ok::<(), lejepa_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Waveform {
    /// At least one, of equal length.
    channels: Vec<Channel>,
}

#[derive(Debug, Clone)]
struct Channel {
    samples: Vec<f32>,
    /// Made by the first view that wants it. All views of a data set are made by one sampler, so it fits
    /// them all.
    spectrogram: OnceLock<Spectrogram>,
}

impl PartialEq for Waveform {
    fn eq(&self, other: &Self) -> bool {
        self.planes().eq(other.planes())
    }
}

impl Waveform {
    /// A mono recording of these samples.
    ///
    /// # Errors
    /// [`Error::Sample`], without a name, if there are no samples or if one is NaN or infinite.
    pub fn new(samples: Vec<f32>) -> Result<Self> {
        Self::of_channels(vec![samples])
    }

    /// A recording of the samples of each channel.
    ///
    /// # Errors
    /// As [`Waveform::new`], and for channels of different lengths.
    pub fn of_channels(channels: Vec<Vec<f32>>) -> Result<Self> {
        let length = channels.first().map_or(0, Vec::len);
        if length == 0 {
            return Err(Error::sample("", "has no samples"));
        }
        if let Some(other) = channels.iter().find(|samples| samples.len() != length) {
            let reason = format!("has channels of {length} and of {} samples", other.len());
            return Err(Error::sample("", reason));
        }
        let at = |samples: &Vec<f32>| samples.iter().position(|v| !v.is_finite());
        if let Some(at) = channels.iter().find_map(at) {
            return Err(Error::sample("", format!("sample {at} is NaN or infinite")));
        }
        let channel = |samples| Channel { samples, spectrogram: OnceLock::new() };
        Ok(Self { channels: channels.into_iter().map(channel).collect() })
    }

    /// The number of channels, 4 bytes, and their samples, one after the other.
    pub(crate) const CODEC: Codec<Self> = Codec {
        encode: |wave| {
            let samples = wave.planes().flatten().flat_map(|v| v.to_le_bytes());
            (wave.channels() as u32).to_le_bytes().into_iter().chain(samples).collect()
        },
        decode: |bytes| {
            let (count, bytes) = bytes.split_first_chunk::<4>()?;
            let (samples, []) = bytes.as_chunks::<4>() else { return None };
            let samples: Vec<f32> = samples.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let length = samples.len().checked_div(u32::from_le_bytes(*count) as usize)?.max(1);
            Self::of_channels(samples.chunks(length).map(<[f32]>::to_vec).collect()).ok()
        },
    };

    fn planes(&self) -> impl Iterator<Item = &[f32]> {
        self.channels.iter().map(|channel| &channel.samples[..])
    }

    /// All samples of the first channel, at least one.
    pub fn samples(&self) -> &[f32] {
        self.channel(0)
    }

    /// How many channels there are, at least one.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// All samples of a channel. A mono recording has the same in all.
    ///
    /// # Panics
    /// For a channel that a recording of several does not have.
    pub fn channel(&self, index: usize) -> &[f32] {
        &self.of(index).samples
    }

    fn of(&self, index: usize) -> &Channel {
        &self.channels[if self.channels.len() == 1 { 0 } else { index }]
    }

    /// Memory taken by the samples, in bytes.
    pub fn bytes(&self) -> usize {
        self.planes().map(size_of_val).sum()
    }

    pub(crate) fn spectrogram(
        &self,
        channel: usize,
        make: impl FnOnce(&[f32]) -> Spectrogram,
    ) -> &Spectrogram {
        let channel = self.of(channel);
        channel.spectrogram.get_or_init(|| make(&channel.samples))
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
        let stereo = Waveform::of_channels(vec![vec![0.5, -0.5], vec![0.25, 1.0]]).unwrap();
        assert_eq!((Waveform::CODEC.decode)(&(Waveform::CODEC.encode)(&stereo)), Some(stereo));
        assert!(!wave.decoded(false).is_whole);
        for broken in [&bytes[..3], &bytes[1..], &[0; 12]] {
            assert_eq!((Waveform::CODEC.decode)(broken), None);
        }
        for bad in [vec![], vec![f32::NAN], vec![0.0, f32::INFINITY]] {
            assert!(Waveform::new(bad).is_err());
        }
    }
}
