//! Decoding of recordings to mono at one sample rate, whole or a segment.

use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use lejepa_core::{Blob, Decoded, ReadSeek, Window};
use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler};
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::units::{Time, TimeBase, Timestamp};

use crate::config::AudioConfig;
use crate::waveform::Waveform;

/// Sample rates that are accepted. A header with another one is damaged, and a resampler for it could
/// take any amount of memory.
const RATES: std::ops::RangeInclusive<u32> = 1000..=768_000;

/// Seconds that decoding starts before a segment: decoders carry state from packet to packet and are
/// exact only after a few. MP3 needs the most: a frame may use the last 255 or 511 bytes of earlier ones,
/// which at the lowest bit rates is half a second.
const RUN_UP: f64 = 0.75;

/// Formats in which seeking gives exactly the samples that decoding from the start does. It does not in
/// MP4 and Matroska, nor with ADPCM in any format.
const SEEKABLE: &[&str] = &["wave", "aiff", "flac", "mp3", "ogg"];

/// Consecutive damaged packets after which the rest of a recording is given up.
const MAX_BROKEN: usize = 64;

/// The rate that recordings are resampled to, and the longest that is decoded whole.
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

/// Decodes a recording, or of a long one the segment that `window` chooses.
pub(crate) fn decode(
    blob: &Blob<'_>,
    limits: Limits,
    window: Window<'_>,
) -> Result<Decoded<Waveform>, String> {
    // A panic in a decoder must not end a training run. They happen: on a damaged codebook the Vorbis
    // header reader of symphonia-format-ogg 0.6.1 fails an assertion.
    catch_unwind(AssertUnwindSafe(|| segment(blob, limits, window)))
        .unwrap_or_else(|_| Err("the decoder panicked on this file".into()))
}

fn segment(
    blob: &Blob<'_>,
    limits: Limits,
    mut window: Window<'_>,
) -> Result<Decoded<Waveform>, String> {
    let mut file = Recording::open(blob)?;
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
                file = Recording::open(blob)?;
                frames
            }
        };
        let start = if frames > keep { window.start(frames, keep) } else { 0 };
        let (samples, rate) = file.read(start, keep, seek)?;
        if frames > keep && samples.len() < keep && !measured {
            // The header claims more than there is. Unless the true length is measured, the window
            // would decide whether the recording is decoded whole.
            file = Recording::open(blob)?;
            (total, seek) = (None, false);
            continue;
        }
        let samples = resample(samples, rate, limits.rate)?;
        let wave = Waveform::new(samples).map_err(|error| match error {
            lejepa_core::Error::Sample { reason, .. } => reason,
            other => other.to_string(),
        })?;
        return Ok(wave.decoded(frames <= keep));
    }
}

/// A blob as symphonia reads it.
struct BlobSource<'a> {
    reader: Box<dyn ReadSeek + 'a>,
    length: u64,
}

impl Read for BlobSource<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl Seek for BlobSource<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.reader.seek(to)
    }
}

impl MediaSource for BlobSource<'_> {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.length)
    }
}

struct Recording<'a> {
    reader: Box<dyn FormatReader + 'a>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    /// Sample rate that positions are counted in.
    rate: u32,
    time_base: Option<TimeBase>,
    /// Length in samples per channel, as the header claims it.
    total: Option<usize>,
}

impl<'a> Recording<'a> {
    fn open(blob: &'a Blob<'_>) -> Result<Self, String> {
        let reader = blob.open().map_err(|e| e.to_string())?;
        let length = blob.len().map_err(|e| e.to_string())?;
        let source = Box::new(BlobSource { reader, length });
        let stream = MediaSourceStream::new(source, Default::default());
        let mut hint = Hint::new();
        let extension = blob.extension();
        if !extension.is_empty() {
            hint.with_extension(&extension);
        }
        let reader = symphonia::default::get_probe()
            .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
            .map_err(|e| format!("is not audio in a known format ({e})"))?;
        let track = reader
            .first_track_known_codec(TrackType::Audio)
            .or_else(|| reader.default_track(TrackType::Audio))
            .ok_or("has no audio track")?;
        let params = track
            .codec_params
            .as_ref()
            .and_then(|params| params.audio())
            .ok_or("has audio of an unknown codec")?;
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(params, &AudioDecoderOptions::default())
            .map_err(|e| format!("its audio cannot be decoded ({e})"))?;
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
        // A missing length and one of 0 both mean that the header does not know it.
        let total = frames.filter(|&n| n > 0);
        Ok(Self { reader, decoder, track: id, rate, time_base, total })
    }

    /// A time stamp in samples.
    fn frames_at(&self, stamp: Timestamp) -> Option<i64> {
        let seconds = self.time_base?.calc_time(stamp)?.as_secs_f64();
        Some((seconds * f64::from(self.rate)).round() as i64)
    }

    /// The true length in samples, from the time stamps of all packets. Reads to the end but decodes
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
        // Matroska may give the start of a packet without its duration.
        if total == 0 { last } else { total }
    }

    /// At most `keep` samples from `start` on, and their rate. A truncated or damaged recording gives
    /// what comes before the damage. Without `seek`, everything before `start` is decoded and dropped.
    fn read(&mut self, start: usize, keep: usize, seek: bool) -> Result<(Vec<f32>, u32), String> {
        let mut out = Vec::new();
        let mut planes: Vec<Vec<f32>> = Vec::new();
        let mut rate = self.rate;
        // Position of the next decoded sample; after a seek only the time stamp of a packet gives it.
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
                // A damaged packet is lost; those after it may be fine.
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
                Err(format!("its audio cannot be decoded ({error})"))
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
    Err(format!("its sample rate is {rate} Hz; {low} to {high} are supported"))
}

/// The mean of all channels at sample `at`.
fn mono(planes: &[Vec<f32>], at: usize) -> f32 {
    let sum: f32 = planes.iter().filter_map(|plane| plane.get(at)).sum();
    sum / planes.len().max(1) as f32
}

fn resample(samples: Vec<f32>, from: u32, to: usize) -> Result<Vec<f32>, String> {
    let from = from as usize;
    if from == to || samples.is_empty() {
        return Ok(samples);
    }
    let reason = |error: &dyn std::fmt::Display| {
        format!("cannot be resampled from {from} to {to} Hz ({error})")
    };
    let count = samples.len();
    let input = SequentialSlice::new(samples.as_slice(), 1, count).map_err(|e| reason(&e))?;
    let mut fft = Fft::<f32>::new(from, to, 1024, 1, FixedSync::Both).map_err(|e| reason(&e))?;
    let output = fft.process_all(&input, count, None).map_err(|e| reason(&e))?;
    Ok(output.take_data())
}

#[cfg(test)]
#[path = "decode_tests.rs"]
pub(crate) mod tests;
