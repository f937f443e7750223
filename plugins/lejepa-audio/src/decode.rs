//! Reading recordings: any file to one channel at one rate, whole or a stretch of it.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use lejepa_core::Window;
use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler};
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::units::{Time, TimeBase, Timestamp};

use crate::config::AudioConfig;
use crate::waveform::Waveform;

/// Rates of files in samples per second. Outside of it a header is broken, and a resampler for it
/// could take any amount of memory.
const RATES: std::ops::RangeInclusive<u32> = 1000..=768_000;

/// Seconds that decoding starts before a stretch: decoders carry state from packet to packet, and
/// are right only after a few. MP3 needs the longest: a frame may use bytes of earlier ones, as far
/// back as 255 or 511 bytes, which at the lowest bit rates is half a second.
const RUN_UP: f64 = 0.75;

/// Formats in which a seek gives the very samples that reading from the start does. In MP4 and
/// Matroska it does not, and neither with ADPCM in any format.
const SEEKABLE: &[&str] = &["wave", "aiff", "flac", "mp3", "ogg"];

/// Packets in a row that may be broken before the rest of a file is given up.
const MAX_BROKEN: usize = 64;

/// What a recording is brought to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    rate: usize,
    seconds: f64,
}

impl Limits {
    pub(crate) fn of(config: &AudioConfig) -> Self {
        Self { rate: config.sample_rate, seconds: config.whole_seconds }
    }
}

/// Decodes a recording, or of a long one the stretch that `window` chooses.
pub(crate) fn decode(path: &Path, limits: Limits, window: Window<'_>) -> Result<Waveform, String> {
    // A fault in a decoder must not cost a training run. There are some: on a broken codebook the
    // Vorbis header reader of symphonia-format-ogg 0.6.1 fails an assertion.
    catch_unwind(AssertUnwindSafe(|| stretch(path, limits, window)))
        .unwrap_or_else(|_| Err("the decoder failed on this file".into()))
}

fn stretch(path: &Path, limits: Limits, mut window: Window<'_>) -> Result<Waveform, String> {
    let mut file = Recording::open(path)?;
    let keep = (limits.seconds * f64::from(file.rate)).ceil() as usize;
    let mut seek = SEEKABLE.contains(&file.reader.format_info().short_name)
        && !file.decoder.codec_info().short_name.starts_with("adpcm");
    let mut total = file.total;
    loop {
        let measured = total.is_none();
        let frames = match total {
            Some(frames) => frames,
            None => {
                let frames = file.measure();
                file = Recording::open(path)?;
                frames
            }
        };
        let start = if frames > keep { window.start(frames, keep) } else { 0 };
        let (samples, rate) = file.read(start, keep, seek)?;
        if frames > keep && samples.len() < keep && !measured {
            // The header promises more than there is. Without a look at how much there is, whether
            // the recording is read whole would depend on the window.
            file = Recording::open(path)?;
            (total, seek) = (None, false);
            continue;
        }
        let samples = resample(samples, rate, limits.rate)?;
        let wave = Waveform::new(samples).map_err(|error| match error {
            lejepa_core::Error::Sample { reason, .. } => reason,
            other => other.to_string(),
        })?;
        return Ok(wave.into_part(frames > keep));
    }
}

struct Recording {
    reader: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    /// Samples per second that positions are counted in.
    rate: u32,
    time_base: Option<TimeBase>,
    /// Length that the header claims, in samples of one channel.
    total: Option<usize>,
}

impl Recording {
    fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|e| e.to_string())?;
        let stream = MediaSourceStream::new(Box::new(file), Default::default());
        let mut hint = Hint::new();
        if let Some(extension) = path.extension().and_then(|e| e.to_str()) {
            hint.with_extension(&extension.to_ascii_lowercase());
        }
        let reader = symphonia::default::get_probe()
            .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
            .map_err(|e| format!("is not a sound file that can be read ({e})"))?;
        let track = reader
            .first_track_known_codec(TrackType::Audio)
            .or_else(|| reader.default_track(TrackType::Audio))
            .ok_or("has no sound")?;
        let params = track
            .codec_params
            .as_ref()
            .and_then(|params| params.audio())
            .ok_or("has sound of an unknown codec")?;
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(params, &AudioDecoderOptions::default())
            .map_err(|e| format!("its sound cannot be decoded ({e})"))?;
        let rate = params.sample_rate.ok_or("has no sample rate")?;
        check_rate(rate)?;
        let seconds = track
            .time_base
            .zip(track.duration)
            .and_then(|(base, length)| base.calc_duration(length))
            .map(|time| time.as_secs_f64());
        let frames = match (seconds, track.num_frames) {
            (Some(seconds), _) => Some((seconds * f64::from(rate)).round() as usize),
            (None, frames) => frames.and_then(|n| usize::try_from(n).ok()),
        };
        let (id, time_base) = (track.id, track.time_base);
        // No length and a length of nothing both mean that the header does not know it.
        let total = frames.filter(|&n| n > 0);
        Ok(Self { reader, decoder, track: id, rate, time_base, total })
    }

    /// A time stamp in samples.
    fn frames_at(&self, stamp: Timestamp) -> Option<i64> {
        let seconds = self.time_base?.calc_time(stamp)?.as_secs_f64();
        Some((seconds * f64::from(self.rate)).round() as i64)
    }

    /// The true length in samples: what the packets say. Reads the file to its end but decodes
    /// nothing.
    fn measure(&mut self) -> usize {
        let (mut total, mut last) = (0usize, 0);
        while let Ok(Some(packet)) = self.reader.next_packet() {
            if packet.track_id == self.track {
                let length = i64::try_from(packet.dur.get()).unwrap_or(0);
                let frames = |stamp| {
                    self.frames_at(stamp).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
                };
                total = total.saturating_add(frames(Timestamp::new(length)));
                last = last.max(frames(packet.pts));
            }
        }
        // Matroska need not say how long a packet is, only when it begins.
        if total == 0 { last } else { total }
    }

    /// At most `keep` samples from `start` on, and their rate. A file that breaks off or goes bad
    /// gives what came before. Without `seek` everything before `start` is decoded and dropped.
    fn read(&mut self, start: usize, keep: usize, seek: bool) -> Result<(Vec<f32>, u32), String> {
        let mut out = Vec::new();
        let mut planes: Vec<Vec<f32>> = Vec::new();
        let mut rate = self.rate;
        // Where the next decoded sample lies; after a seek only a packet that yields samples tells.
        let mut at = Some(0);
        if seek && start > 0 {
            let early = (start as f64 / f64::from(self.rate) - RUN_UP).max(0.0);
            let to = Time::try_from_secs_f64(early)
                .map(|time| SeekTo::Time { time, track_id: Some(self.track) });
            let sought = to.map(|to| self.reader.seek(SeekMode::Accurate, to));
            if !matches!(sought, Some(Ok(_))) {
                return Ok((out, rate));
            }
            self.decoder.reset();
            at = None;
        }
        let end = start.saturating_add(keep);
        let mut trouble = None;
        let mut broken = 0;
        while out.len() < keep && broken < MAX_BROKEN {
            let packet = match self.reader.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track => packet,
                Ok(Some(_)) => continue,
                Ok(None) => break,
                Err(error) => {
                    trouble = Some(error);
                    break;
                }
            };
            let stamp = self.frames_at(packet.pts);
            let decoded = match self.decoder.decode(&packet) {
                Ok(decoded) => decoded,
                // A broken packet is lost, the ones after it need not be.
                Err(error @ Error::DecodeError(_)) => {
                    trouble = Some(error);
                    broken += 1;
                    continue;
                }
                Err(error) => {
                    trouble = Some(error);
                    break;
                }
            };
            if decoded.frames() == 0 {
                continue;
            }
            broken = 0;
            if out.is_empty() {
                rate = decoded.spec().rate();
                check_rate(rate)?;
            } else if decoded.spec().rate() != rate {
                break;
            }
            decoded.copy_to_vecs_planar(&mut planes);
            let count = planes.first().map_or(0, Vec::len);
            let from = match at {
                Some(from) => from,
                None => stamp.and_then(|s| usize::try_from(s).ok()).unwrap_or(0),
            };
            let until = from.saturating_add(count);
            at = Some(until);
            let skip = start.saturating_sub(from).min(count);
            let take = until.min(end).saturating_sub(from).max(skip);
            out.extend((skip..take).map(|i| mono(&planes, i)));
            if until >= end {
                break;
            }
        }
        match trouble {
            Some(error) if out.is_empty() && start == 0 => {
                Err(format!("its sound cannot be decoded ({error})"))
            }
            _ => Ok((out, rate)),
        }
    }
}

fn check_rate(rate: u32) -> Result<(), String> {
    if RATES.contains(&rate) {
        return Ok(());
    }
    let (low, high) = (RATES.start(), RATES.end());
    Err(format!("its sample rate is {rate} Hz; {low} to {high} can be read"))
}

/// The mean of all channels at one moment.
fn mono(planes: &[Vec<f32>], at: usize) -> f32 {
    let sum: f32 = planes.iter().filter_map(|plane| plane.get(at)).sum();
    sum / planes.len().max(1) as f32
}

fn resample(samples: Vec<f32>, from: u32, to: usize) -> Result<Vec<f32>, String> {
    let from = from as usize;
    if from == to || samples.is_empty() {
        return Ok(samples);
    }
    let words =
        |error: &dyn std::fmt::Display| format!("cannot go from {from} to {to} Hz ({error})");
    let count = samples.len();
    let input = SequentialSlice::new(samples.as_slice(), 1, count).map_err(|e| words(&e))?;
    let mut fft = Fft::<f32>::new(from, to, 1024, 1, FixedSync::Both).map_err(|e| words(&e))?;
    let output = fft.process_all(&input, count, None).map_err(|e| words(&e))?;
    Ok(output.take_data())
}

#[cfg(test)]
#[path = "decode_tests.rs"]
pub(crate) mod tests;
