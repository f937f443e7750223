//! What symphonia does not read, by FFmpeg: containers such as WMA, AMR, WavPack and AC-3, and AAC of any profile
//! and number of channels.

use std::sync::OnceLock;

use ffmpeg_next::codec::{self, decoder};
use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::format::{self, Sample, sample};
use ffmpeg_next::media::Type;
use ffmpeg_next::{Dictionary, Error, Packet, frame, log};
use lejepa_core::Blob;

use crate::decode::Source;
use crate::recording::{MAX_BROKEN, check_rate};
use crate::segment::{Segment, SegmentBuilder};

/// A recording that FFmpeg decodes from its start: lengths and time stamps of these formats are often estimates.
pub(crate) struct FfmpegRecording {
    input: Input,
    decoder: decoder::Audio,
    stream: usize,
    /// The first decoded frame. It alone tells the sample rate of HE-AAC, which is twice that of the header.
    first: Option<frame::Audio>,
    rate: u32,
    broken: usize,
    at_end: bool,
}

/// Most bytes of one allocation of FFmpeg: a damaged header may claim 2 GiB.
const MAX_ALLOCATION: usize = 64 << 20;

/// Initialises FFmpeg once, without its messages: failures are returned as errors.
fn start_library() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    let start = || {
        ffmpeg_next::init().map_err(|e| format!("FFmpeg does not start: {e}"))?;
        log::set_level(log::Level::Quiet);
        limit_allocations();
        Ok(())
    };
    STARTED.get_or_init(start).clone()
}

#[allow(unsafe_code)]
fn limit_allocations() {
    // SAFETY: the function has no preconditions; it stores the number in an atomic.
    unsafe { ffmpeg_next::ffi::av_max_alloc(MAX_ALLOCATION) };
}

fn reason(error: Error) -> String {
    format!("FFmpeg: {}", error.to_string().trim_end_matches('.').to_lowercase())
}

impl<'a> Source<'a> for FfmpegRecording {
    fn open(blob: &'a Blob<'a>) -> Result<Self, String> {
        start_library()?;
        let bytes = blob.open_owned().map_err(|e| e.to_string())?;
        let stream = StreamIo::from_read_seek(bytes).map_err(reason)?;
        // A playlist that is named like a recording must not open other files or connections.
        let options = Dictionary::from_iter([("protocol_whitelist", "")]);
        let input =
            format::input_from_stream(stream, Some(blob.name()), Some(options)).map_err(reason)?;
        let track = input.streams().best(Type::Audio).ok_or("has no audio track")?;
        let index = track.index();
        let context =
            codec::context::Context::from_parameters(track.parameters()).map_err(reason)?;
        let decoder = context.decoder().audio().map_err(reason)?;
        let (first, rate) = (None, decoder.rate());
        let mut opened =
            Self { input, decoder, stream: index, first, rate, broken: 0, at_end: false };
        opened.first = Some(opened.decode()?.ok_or("its audio cannot be decoded")?);
        opened.rate = opened.first.as_ref().map_or(rate, frame::Audio::rate);
        check_rate(opened.rate)?;
        Ok(opened)
    }

    fn rate(&self) -> u32 {
        self.rate
    }

    fn length_above(&self, _: usize) -> Result<Option<usize>, String> {
        Ok(None)
    }

    fn measure(&mut self) -> usize {
        let mut total = 0.0;
        while let Ok(Some(frame)) = self.next_frame() {
            total += frame.samples() as f64 * f64::from(self.rate) / f64::from(frame.rate().max(1));
        }
        total.round() as usize
    }

    fn read(&mut self, start: usize, keep: usize, _: bool) -> Result<Segment, String> {
        let mut segment = SegmentBuilder::new(start, keep);
        while !segment.is_complete()
            && let Some(frame) = self.next_frame()?
        {
            let channels = usize::from(frame.channels());
            if channels == 0 {
                break;
            }
            segment.take(frame.rate(), channels, frame.samples(), |plane, channel, range| {
                append(plane, &frame, channel, range)
            })?;
        }
        segment.build(self.rate)
    }
}

impl FfmpegRecording {
    fn next_frame(&mut self) -> Result<Option<frame::Audio>, String> {
        match self.first.take() {
            Some(frame) => Ok(Some(frame)),
            None => self.decode(),
        }
    }

    /// The next frame that has samples; `None` at the end, and where damage does not end.
    fn decode(&mut self) -> Result<Option<frame::Audio>, String> {
        let mut frame = frame::Audio::empty();
        loop {
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) if frame.samples() > 0 => {
                    self.broken = 0;
                    return Ok(Some(frame));
                }
                Ok(()) => continue,
                Err(Error::Eof) => return Ok(None),
                // The decoder wants a packet, or lost one that is damaged.
                Err(Error::Other { .. }) => {}
                Err(_) => self.broken += 1,
            }
            if self.at_end || self.broken > MAX_BROKEN {
                return Ok(None);
            }
            self.send_packet();
        }
    }

    fn send_packet(&mut self) {
        let mut packet = Packet::empty();
        let sent = match packet.read(&mut self.input) {
            Ok(()) if packet.stream() != self.stream => Ok(()),
            Ok(()) => self.decoder.send_packet(&packet),
            Err(Error::Eof) => {
                self.at_end = true;
                self.decoder.send_eof()
            }
            Err(error) => Err(error),
        };
        self.broken += usize::from(sent.is_err());
    }
}

/// Appends a range of the samples of one channel, at the scale where 1 is full.
fn append(
    plane: &mut Vec<f32>,
    frame: &frame::Audio,
    channel: usize,
    range: std::ops::Range<usize>,
) -> Result<(), String> {
    let (data, channels, offset) = if frame.is_planar() {
        (frame.data(channel), 1, 0)
    } else {
        (frame.data(0), usize::from(frame.channels()), channel)
    };
    /// Every `step`-th sample of `SIZE` bytes.
    fn each<const SIZE: usize>(
        data: &[u8],
        (step, offset): (usize, usize),
        range: std::ops::Range<usize>,
        value: impl Fn([u8; SIZE]) -> f32,
    ) -> impl Iterator<Item = f32> {
        let (samples, _) = data.as_chunks::<SIZE>();
        let chosen = samples.iter().skip(offset).step_by(step);
        chosen.skip(range.start).take(range.len()).map(move |&bytes| value(bytes))
    }
    let place = (channels, offset);
    match frame.format() {
        Sample::U8(_) => {
            plane.extend(each(data, place, range, |[b]: [u8; 1]| (f32::from(b) - 128.0) / 128.0));
        }
        Sample::I16(_) => {
            let value = |b| f32::from(i16::from_ne_bytes(b)) / 32_768.0;
            plane.extend(each(data, place, range, value));
        }
        Sample::I32(_) => {
            let value = |b| (f64::from(i32::from_ne_bytes(b)) / 2f64.powi(31)) as f32;
            plane.extend(each(data, place, range, value));
        }
        Sample::I64(_) => {
            let value = |b| (i64::from_ne_bytes(b) as f64 / 2f64.powi(63)) as f32;
            plane.extend(each(data, place, range, value));
        }
        Sample::F32(_) => plane.extend(each(data, place, range, f32::from_ne_bytes)),
        Sample::F64(sample::Type::Packed | sample::Type::Planar) => {
            plane.extend(each(data, place, range, |b| f64::from_ne_bytes(b) as f32));
        }
        Sample::None => return Err("has samples of an unknown format".into()),
    }
    Ok(())
}

#[cfg(test)]
#[path = "ffmpeg_tests.rs"]
mod tests;
