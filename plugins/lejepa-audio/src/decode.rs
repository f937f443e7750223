//! Decoding of recordings to one sample rate and number of channels, whole or a segment.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use lejepa_core::{Blob, Decoded, Facts, Window};

use crate::config::{AudioConfig, Downmix};
use crate::recording::Recording;
use crate::segment::{Segment, resample};
use crate::waveform::Waveform;

/// Above this peak a recording is not in the range of -1 to 1 that its format says.
const LOUDEST: f32 = 4.0;

/// The rate that recordings are resampled to, the longest that is decoded whole, the channels, and how several become
/// one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    rate: usize,
    channels: usize,
    seconds: f64,
    downmix: Downmix,
}

impl Limits {
    pub(crate) fn of(config: &AudioConfig) -> Self {
        let AudioConfig { sample_rate, channels, whole_seconds, downmix, .. } = *config;
        Self { rate: sample_rate, channels, seconds: whole_seconds, downmix }
    }
}

/// Decodes a recording, or of a long one the segment that `window` chooses.
pub(crate) fn decode(
    blob: &Blob<'_>,
    limits: Limits,
    window: Window<'_>,
) -> Result<Decoded<Waveform>, String> {
    // A panic in a decoder must not end a training run. They happen: on a damaged codebook the Vorbis
    // header reader of symphonia-format-ogg 0.6.1 fails an assertion.
    catch_unwind(AssertUnwindSafe(|| segment_by_any(blob, limits, window)))
        .unwrap_or_else(|_| Err("the decoder panicked on this file".into()))
}

/// An open recording, of which a segment can be read.
pub(crate) trait Source<'a>: Sized {
    fn open(blob: &'a Blob<'a>) -> Result<Self, String>;

    /// Sample rate that positions are counted in.
    fn rate(&self) -> u32;

    /// Length in samples, where the header knows it and it is more than `least`.
    fn length_above(&self, least: usize) -> Result<Option<usize>, String>;

    /// The true length in samples. Reads to the end.
    fn measure(&mut self) -> usize;

    /// At most `keep` samples from `start` on. A truncated or damaged recording gives what comes before the
    /// damage. Without `seek`, or in a format that cannot seek exactly, everything before `start` is decoded
    /// and dropped.
    fn read(&mut self, start: usize, keep: usize, seek: bool) -> Result<Segment, String>;
}

/// The part of a recording that is the sample: all of it, unless its blob has a span.
struct Part<S> {
    inner: S,
    start: usize,
    /// Length in samples, beyond the end of the recording where the span has none.
    length: usize,
    /// Whether the header knows the length, so that positions can be sought.
    is_known: bool,
}

impl<'a, S: Source<'a>> Source<'a> for Part<S> {
    fn open(blob: &'a Blob<'a>) -> Result<Self, String> {
        let inner = S::open(blob)?;
        let Some(span) = blob.span() else {
            return Ok(Self { inner, start: 0, length: usize::MAX, is_known: false });
        };
        let samples =
            |time: Duration| (time.as_secs_f64() * f64::from(inner.rate())).round() as usize;
        let (start, end) = (samples(span.start), samples(span.end));
        let is_known = inner.length_above(0)?.is_some();
        Ok(Self { start, length: end.saturating_sub(start), is_known, inner })
    }

    fn rate(&self) -> u32 {
        self.inner.rate()
    }

    fn length_above(&self, least: usize) -> Result<Option<usize>, String> {
        if self.length == usize::MAX {
            return self.inner.length_above(least);
        }
        let total = self.inner.length_above(0)?;
        let length = total.map(|total| total.saturating_sub(self.start).min(self.length));
        Ok(length.filter(|length| *length > least))
    }

    fn measure(&mut self) -> usize {
        self.inner.measure().saturating_sub(self.start).min(self.length)
    }

    fn read(&mut self, start: usize, keep: usize, seek: bool) -> Result<Segment, String> {
        let keep = keep.min(self.length.saturating_sub(start));
        self.inner.read(self.start.saturating_add(start), keep, seek || self.is_known)
    }
}

/// By symphonia, and by FFmpeg where that cannot.
fn segment_by_any<'a>(
    blob: &'a Blob<'a>,
    limits: Limits,
    mut window: Window<'_>,
) -> Result<Decoded<Waveform>, String> {
    let decoded = segment::<Part<Recording<'a>>>(blob, limits, &mut window);
    #[cfg(feature = "ffmpeg")]
    let decoded = decoded.or_else(|reason| {
        segment::<Part<crate::ffmpeg::FfmpegRecording>>(blob, limits, &mut window)
            .map_err(|other| if other == reason { other } else { format!("{reason}; {other}") })
    });
    decoded
}

fn segment<'a, S: Source<'a>>(
    blob: &'a Blob<'a>,
    limits: Limits,
    window: &mut Window<'_>,
) -> Result<Decoded<Waveform>, String> {
    let mut file = S::open(blob)?;
    let keep = (limits.seconds * f64::from(file.rate())).ceil() as usize;
    let (frames, segment) = match file.length_above(keep)? {
        Some(frames) => {
            let segment = file.read(window.start(frames, keep), keep, true)?;
            if segment.len() < keep {
                // The header claims more than there is. Unless the true length is measured, the window
                // would decide whether the recording is decoded whole.
                measured::<S>(blob, keep, window)?
            } else {
                (frames, segment)
            }
        }
        // One sample more than is kept tells whether the recording is whole.
        None => {
            let segment = file.read(0, keep + 1, false)?;
            if segment.len() <= keep {
                (segment.len(), segment)
            } else {
                measured::<S>(blob, keep, window)?
            }
        }
    };
    let (channels, rate, is_whole) = (segment.planes.len(), segment.rate, frames <= keep);
    if segment.len() == 0 && blob.span().is_some() {
        return Err("the recording ends before this part of it".into());
    }
    let mut remarks = Vec::new();
    let peak = segment.planes.iter().flatten().fold(0f32, |peak, v| peak.max(v.abs()));
    if peak > LOUDEST {
        remarks.push(format!(
            "samples far beyond full scale (above {LOUDEST}, where 1 is full): floats at the scale of integers?"
        ));
    }
    let planes = if limits.channels == 1 {
        mono(segment.planes, limits.downmix, &mut remarks)
    } else if channels == 1 || channels == limits.channels {
        segment.planes
    } else {
        return Err(format!(
            "has {channels} channels, where audio.channels is {}",
            limits.channels
        ));
    };
    let resampled = planes.into_iter().map(|plane| resample(plane, rate, limits.rate));
    let wave =
        Waveform::of_channels(resampled.collect::<Result<_, _>>()?).map_err(
            |error| match error {
                lejepa_core::Error::Sample { reason, .. } => reason,
                other => other.to_string(),
            },
        )?;
    let facts = Facts::new()
        .number("seconds", frames as f64 / f64::from(rate))
        .number("samples per second", rate.into())
        .number("channels", channels as f64)
        .remarks_of(remarks);
    Ok(wave.decoded(is_whole).with_facts(facts))
}

/// A segment of a recording whose header does not know its length: that of its packets counts.
fn measured<'a, S: Source<'a>>(
    blob: &'a Blob<'a>,
    keep: usize,
    window: &mut Window<'_>,
) -> Result<(usize, Segment), String> {
    let frames = S::open(blob)?.measure();
    let start = if frames > keep { window.start(frames, keep) } else { 0 };
    Ok((frames, S::open(blob)?.read(start, keep, false)?))
}

/// One channel of several, and what there is to say about it.
fn mono(mut planes: Vec<Vec<f32>>, downmix: Downmix, remarks: &mut Vec<String>) -> Vec<Vec<f32>> {
    let energy = |plane: &[f32]| plane.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
    if planes.len() <= 1 {
        return planes;
    }
    let energies: Vec<f64> = planes.iter().map(|plane| energy(plane)).collect();
    let mixed = match downmix {
        Downmix::First => planes.swap_remove(0),
        Downmix::Loudest => {
            // The first of equals, so that the choice does not depend on rounding.
            let loudest = (1..energies.len())
                .fold(0, |best, i| if energies[i] > energies[best] { i } else { best });
            planes.swap_remove(loudest)
        }
        Downmix::Mean => {
            let scale = 1.0 / planes.len() as f32;
            let length = planes.iter().map(Vec::len).min().unwrap_or(0);
            let mean: Vec<f32> =
                (0..length).map(|i| planes.iter().map(|p| p[i]).sum::<f32>() * scale).collect();
            let average = energies.iter().sum::<f64>() / energies.len() as f64;
            if energy(&mean) < 1e-3 * average {
                remarks.push(
                    "channels that cancel each other in their mean (inverted stereo): set \
                     audio.downmix to `first` or `loudest`"
                        .into(),
                );
            }
            mean
        }
    };
    vec![mixed]
}

#[cfg(test)]
#[path = "decode_tests.rs"]
pub(crate) mod tests;
