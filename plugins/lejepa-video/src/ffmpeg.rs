//! Decoding of videos with FFmpeg: whole if they are short, else a frame-exact segment.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use lejepa_core::{Blob, Decoded, Facts, Window};
use lejepa_image::Picture;
use tempfile::NamedTempFile;
use video_rs::ffmpeg::frame;
use video_rs::{Error, Reader};

use crate::clip::{Clip, ClipBuilder, kept_size};
use crate::frame_decoder::FrameDecoder;
use crate::limits::Limits;
use crate::stream::{self, Orientation, frame_times, ratio, shown_size};

/// Packets in a row that give no frame.
const MOST_DAMAGE: usize = 1 << 16;
/// Seconds before the target of successive attempts to seek, each made if the one before came out late.
const BACK: [f64; 3] = [0.0, 2.0, 10.0];

/// Decodes all frames of a video, or a segment of `limits.max_frames` if it has more: as they are shown, turned
/// and with square pixels.
pub(crate) fn decode(
    blob: &Blob<'_>,
    limits: Limits,
    window: Window<'_>,
) -> Result<Decoded<Clip>, String> {
    with_file(blob, |path| decode_file(path, blob.span(), limits, window))
}

/// Calls `read` with a file that holds the blob: FFmpeg opens paths only, so that videos within other files have to be
/// copied out of them.
pub(crate) fn with_file<T>(
    blob: &Blob<'_>,
    read: impl FnOnce(&Path) -> Result<T, String>,
) -> Result<T, String> {
    if let Some(path) = blob.path() {
        return read(path);
    }
    let copy =
        temporary_copy(blob).map_err(|e| format!("cannot be copied to a temporary file: {e}"))?;
    let done = read(copy.path());
    // Another copy could get its name.
    stream::forget(copy.path());
    done
}

fn temporary_copy(blob: &Blob<'_>) -> std::io::Result<NamedTempFile> {
    let suffix = format!(".{}", blob.extension());
    let mut copy = tempfile::Builder::new().suffix(&suffix).tempfile()?;
    std::io::copy(&mut blob.open()?, &mut copy)?;
    Ok(copy)
}

/// How long a file says that it is.
pub(crate) fn length(path: &Path) -> Result<Duration, String> {
    start_library()?;
    let (reader, index) = stream::open(path)?;
    let whole = reader.input.duration() as f64 / 1e6;
    let stream = reader.input.stream(index).ok_or("has no video stream")?;
    let own = stream.duration() as f64 * ratio(stream.time_base());
    let seconds = [own, whole].into_iter().find(|seconds| seconds.is_finite() && *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "its length is not known".into())
}

fn decode_file(
    path: &Path,
    span: Option<Range<Duration>>,
    limits: Limits,
    mut window: Window<'_>,
) -> Result<Decoded<Clip>, String> {
    start_library()?;
    let video = Video::open(path, limits)?;
    let timing = video.timing();
    let step = video.step;
    // Frames of the file for so many that are kept, and the other way round.
    let needed = |kept: usize| (kept as f64 * step).ceil() as usize;
    let kept = |frames: usize| ((frames as f64 / step).floor() as usize).max(2);
    let (width, height) = video.shown;
    let facts = |frames: usize| {
        let facts = Facts::new().number("frames", frames as f64);
        let facts = match timing.rate {
            rate if rate > 0.0 => facts.number("frames per second", rate),
            _ => facts,
        };
        facts.number("width", width.into()).number("height", height.into())
    };
    let whole = |clip: Clip| {
        let facts = facts(clip.frames().len());
        clip.decoded(true).with_facts(facts)
    };
    if span.is_none() && timing.is_exact && timing.frames <= needed(limits.max_frames) {
        return Ok(whole(video.collect(limits)?));
    }
    let times = if timing.is_exact { None } else { Some(frame_times(path)?) };
    let base = video.time_base;
    let time_of = |frame: usize| match &times {
        Some(times) => times.get(frame).map_or(0.0, |&time| time as f64 * base),
        None => timing.start + frame as f64 / timing.rate,
    };
    let frames = times.as_ref().map_or(timing.frames, |times| times.len());
    if span.is_none() && frames <= needed(limits.max_frames) {
        return Ok(whole(video.collect(limits)?));
    }
    // The frames of the part, by when they are shown.
    let is_part = span.is_some();
    let within = match span {
        None => 0..frames,
        Some(span) => {
            let shown = |frame: &usize| time_of(*frame) - time_of(0);
            let from = |time: Duration| {
                let time = time.as_secs_f64();
                (0..frames).find(|frame| shown(frame) >= time - 1e-6).unwrap_or(frames)
            };
            from(span.start)..from(span.end)
        }
    };
    if within.len() < 2 {
        return Err("the video has less than two frames in this part of it".into());
    }
    let (frames, limits) =
        (within.len(), Limits { max_frames: limits.max_frames.min(kept(within.len())), ..limits });
    let first = within.start + window.start(frames, needed(limits.max_frames));
    // Half a frame early, so that rounded time stamps do not skip the frame itself.
    let gap = match first {
        0 => 0.0,
        first => time_of(first) - time_of(first - 1),
    };
    let next = time_of(first + 1) - time_of(first);
    let segment = video.segment(path, limits, time_of(first) - gap / 2.0, next.max(gap))?;
    let clip = if segment.frames() >= 2 {
        segment.finish()?
    } else if is_part {
        return Err("the video ends before this part of it".into());
    } else {
        // The file is shorter than its header says.
        Video::open(path, limits)?.collect(limits)?
    };
    Ok(clip.decoded(frames <= needed(limits.max_frames)).with_facts(facts(frames)))
}

/// Initialises FFmpeg once. Its log goes to `tracing`, which discards it without a subscriber; failures
/// are returned as errors.
fn start_library() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED
        .get_or_init(|| video_rs::init().map_err(|e| format!("FFmpeg does not start: {e}")))
        .clone()
}

struct Video {
    reader: Reader,
    decoder: FrameDecoder,
    stream: usize,
    draining: bool,
    orientation: Orientation,
    /// Width and height of the frames as they are shown, before they are scaled down.
    shown: (u32, u32),
    /// Seconds of a unit of time stamps.
    time_base: f64,
    /// Frames of the file for each that is kept.
    step: f64,
}

/// Metadata of the container, which is wrong in damaged files and only estimated in some formats.
#[derive(Clone, Copy)]
struct Timing {
    /// Number of frames, 0 if unknown.
    frames: usize,
    /// Frames per second, 0 if unknown.
    rate: f64,
    /// The finest rate where the mean is near to it: that misses the last frame in some files.
    nominal: f64,
    /// Time of the first frame in seconds.
    start: f64,
    /// Whether frames were counted, and last equally long.
    is_exact: bool,
}

impl Video {
    fn open(path: &Path, limits: Limits) -> Result<Self, String> {
        let (reader, index) = stream::open(path)?;
        let stream = reader.input.stream(index).ok_or("has no video stream")?;
        let (width, height) = shown_size(&stream)?;
        let orientation = Orientation::of(&stream);
        let (w, h) = kept_size(width, height, limits.size)?;
        let decoder = FrameDecoder::new(&stream, (w, h)).map_err(|e| reason(&e))?;
        let shown = orientation.size(width, height);
        let time_base = ratio(stream.time_base());
        let mut video = Self {
            reader,
            decoder,
            stream: index,
            draining: false,
            orientation,
            shown,
            time_base,
            step: 1.0,
        };
        video.step = limits.step(video.timing().nominal);
        Ok(video)
    }

    fn timing(&self) -> Timing {
        let none = Timing { frames: 0, rate: 0.0, nominal: 0.0, start: 0.0, is_exact: false };
        let Some(stream) = self.reader.input.stream(self.stream) else { return none };
        let rates = [stream.avg_frame_rate(), stream.rate()].map(ratio);
        let is_rate = |r: &f64| r.is_finite() && *r > 0.0;
        let rate = rates.into_iter().find(is_rate).unwrap_or(0.0);
        let frames = usize::try_from(stream.frames()).unwrap_or(0);
        let start = match stream.start_time() {
            video_rs::ffmpeg::ffi::AV_NOPTS_VALUE => 0.0,
            start => start as f64 * ratio(stream.time_base()),
        };
        // The mean rate and the finest one agree only where all frames last equally long.
        let agree =
            |within: f64| rates.iter().all(is_rate) && (rates[0] / rates[1] - 1.0).abs() < within;
        let is_constant = agree(0.01);
        let nominal = if agree(0.05) { rates[1] } else { rate };
        Timing { frames, rate, nominal, start, is_exact: frames > 0 && is_constant }
    }

    /// The time stamp of a frame in seconds.
    fn time(&self, frame: &frame::Video) -> Option<f64> {
        frame.timestamp().map(|t| t as f64 * self.time_base)
    }

    /// The next frame in display order; `None` at the end. Packets that cannot be decoded are skipped, as
    /// players do.
    fn next(&mut self) -> Result<Option<frame::Video>, String> {
        let words = |e| reason(&Error::BackendError(e));
        // Bounded, although a decoder that has all packets should not fail for ever.
        for _ in 0..MOST_DAMAGE {
            match self.decoder.receive() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) if self.draining => return Ok(None),
                Ok(None) => {}
                Err(e) if is_damage(&e) => continue,
                Err(e) => return Err(words(e)),
            }
            let sent = match self.reader.read(self.stream) {
                Ok(packet) => self.decoder.send(packet),
                Err(Error::ReadExhausted) => {
                    self.draining = true;
                    self.decoder.end()
                }
                Err(e) => return Err(reason(&e)),
            };
            match sent {
                Err(e) if !is_damage(&e) => return Err(words(e)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// All frames, at most `limits.max_frames`.
    fn collect(mut self, limits: Limits) -> Result<Clip, String> {
        let mut builder = limits.builder();
        self.fill(&mut builder, limits, None)?;
        builder.finish()
    }

    /// Adds `first` and the frames after it, up to `limits.max_frames`.
    fn fill(
        &mut self,
        builder: &mut ClipBuilder,
        limits: Limits,
        first: Option<frame::Video>,
    ) -> Result<(), String> {
        let (mut frame, mut passed) = (first, 0.0);
        while builder.frames() < limits.max_frames {
            let Some(next) = (match frame.take() {
                Some(frame) => Some(frame),
                None => self.next()?,
            }) else {
                break;
            };
            passed += 1.0;
            // It is shown until the next one is: at none, one or several of the times that are kept.
            let due = ((passed - 1e-6) / self.step).ceil() as usize;
            let times = due.min(limits.max_frames).saturating_sub(builder.frames());
            if times > 0 {
                let picture = self.picture(&next)?;
                std::iter::repeat_n(picture, times).try_for_each(|one| builder.push(one))?;
            }
        }
        Ok(())
    }

    /// A frame as it is shown.
    fn picture(&mut self, frame: &frame::Video) -> Result<Picture, String> {
        let pixels = self.decoder.rgb(frame)?;
        let (width, height) = self.decoder.kept();
        let (pixels, width, height) =
            self.orientation.apply(pixels, width as usize, height as usize);
        Picture::new(width, height, 3, pixels).ok_or_else(|| "its frames have no pixels".into())
    }

    /// Frames from the first one at `target` seconds or later. Seeks to an earlier keyframe and decodes
    /// from there, so that the frames are those that decoding from the start gives.
    fn segment(
        mut self,
        path: &Path,
        limits: Limits,
        target: f64,
        gap: f64,
    ) -> Result<ClipBuilder, String> {
        let mut builder = limits.builder();
        let wanted = (target / self.time_base).floor() as i64;
        self.decoder.want_from(wanted);
        for back in BACK {
            let to = ((target - back) * 1e6) as i64;
            // The range ends at the target, so that FFmpeg looks for a keyframe backwards. The seek
            // functions of video-rs itself come out at later frames.
            if self.reader.input.seek(to, ..to).is_err() {
                break;
            }
            self.decoder.flush();
            self.draining = false;
            let frame = self.next()?;
            let on_time =
                frame.as_ref().is_some_and(|f| self.time(f).is_none_or(|t| t <= target + gap));
            if on_time {
                let first = self.skip_to(frame, target)?;
                self.fill(&mut builder, limits, first)?;
                return Ok(builder);
            }
        }
        // Seeking is impossible or always comes out late: decode from the start.
        let mut video = Self::open(path, limits)?;
        video.decoder.want_from(wanted);
        let first = video.next()?;
        let first = video.skip_to(first, target)?;
        video.fill(&mut builder, limits, first)?;
        Ok(builder)
    }

    fn skip_to(
        &mut self,
        mut frame: Option<frame::Video>,
        target: f64,
    ) -> Result<Option<frame::Video>, String> {
        while frame.as_ref().and_then(|f| self.time(f)).is_some_and(|t| t < target) {
            frame = self.next()?;
        }
        Ok(frame)
    }
}

fn is_damage(error: &video_rs::ffmpeg::Error) -> bool {
    *error == video_rs::ffmpeg::Error::InvalidData
}

pub(crate) fn reason(error: &Error) -> String {
    use video_rs::ffmpeg::Error as Backend;
    match error {
        Error::BackendError(Backend::InvalidData) => {
            "is not a video that FFmpeg can read, or is damaged".into()
        }
        Error::BackendError(Backend::DecoderNotFound) => {
            "FFmpeg was built without a decoder for this format".into()
        }
        Error::BackendError(Backend::InputChanged) => "its frames change size or format".into(),
        Error::MissingCodecParameters => {
            "the size of its frames is unknown: is it truncated?".into()
        }
        other => format!("FFmpeg cannot read it: {other}"),
    }
}

#[cfg(test)]
#[path = "ffmpeg_tests.rs"]
mod tests;
