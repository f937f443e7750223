//! Decoding of videos with FFmpeg: whole if they are short, else a frame-exact segment.

use std::path::Path;
use std::sync::OnceLock;

use lejepa_core::{Blob, Decoded, Window};
use lejepa_image::Picture;
use tempfile::NamedTempFile;
use video_rs::decode::DecoderSplit;
use video_rs::ffmpeg::util::format::Pixel;
use video_rs::frame::RawFrame;
use video_rs::{Error, Options, Reader, ReaderBuilder, Resize};

use crate::clip::{Clip, ClipBuilder, kept_size};
use crate::limits::Limits;

/// Seconds before the target of successive attempts to seek, each made if the one before came out late.
const BACK: [f64; 3] = [0.0, 2.0, 10.0];

/// Decodes all frames of a video, or a segment of `limits.max_frames` if it has more.
///
/// Pixels are as stored: rotation metadata and pixel aspect ratios are ignored.
pub(crate) fn decode(
    blob: &Blob<'_>,
    limits: Limits,
    window: Window<'_>,
) -> Result<Decoded<Clip>, String> {
    match blob.path() {
        Some(path) => decode_file(path, limits, window),
        None => {
            let copy = temporary_copy(blob)
                .map_err(|e| format!("cannot be copied to a temporary file: {e}"))?;
            decode_file(copy.path(), limits, window)
        }
    }
}

/// FFmpeg opens paths only, so that videos within other files have to be copied out of them.
fn temporary_copy(blob: &Blob<'_>) -> std::io::Result<NamedTempFile> {
    let suffix = format!(".{}", blob.extension());
    let mut copy = tempfile::Builder::new().suffix(&suffix).tempfile()?;
    std::io::copy(&mut blob.open()?, &mut copy)?;
    Ok(copy)
}

fn decode_file(
    path: &Path,
    limits: Limits,
    mut window: Window<'_>,
) -> Result<Decoded<Clip>, String> {
    start_library()?;
    let video = Video::open(path, limits)?;
    let Timing { frames, rate, start: origin } = video.timing();
    if frames <= limits.max_frames || rate <= 0.0 {
        return Ok(video.collect(limits)?.decoded(true));
    }
    let first = window.start(frames, limits.max_frames);
    // Half a frame early, so that rounded time stamps do not skip the frame itself.
    let target = origin + (first as f64 - 0.5) / rate;
    let segment = video.segment(path, limits, target, rate)?;
    if segment.frames() >= 2 {
        return Ok(segment.finish()?.decoded(false));
    }
    // The file is shorter than its header says.
    Ok(Video::open(path, limits)?.collect(limits)?.decoded(false))
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
    decoder: DecoderSplit,
    stream: usize,
    draining: bool,
}

/// Metadata of the container, which is wrong in damaged files and only estimated in some formats.
struct Timing {
    /// Number of frames, 0 if unknown.
    frames: usize,
    /// Frames per second, 0 if unknown.
    rate: f64,
    /// Time of the first frame in seconds.
    start: f64,
}

impl Video {
    fn open(path: &Path, limits: Limits) -> Result<Self, String> {
        // video-rs panics if a path is not UTF-8.
        if path.to_str().is_none() {
            return Err("FFmpeg needs a file name in UTF-8".into());
        }
        // A playlist that is named like a video must not cause network connections.
        let options = [("protocol_whitelist".to_string(), "file".to_string())];
        let options = Options::from(std::collections::HashMap::from(options));
        let reader =
            ReaderBuilder::new(path).with_options(&options).build().map_err(|e| reason(&e))?;
        let stream = reader
            .best_video_stream_index()
            .map_err(|_| "has no video stream that FFmpeg can decode".to_string())?;
        let open =
            |resize| DecoderSplit::new(&reader, stream, resize, None).map_err(|e| reason(&e));
        let mut decoder = open(None)?;
        let (width, height) = decoder.size();
        let (w, h) = kept_size(width, height, limits.size)?;
        if (w, h) != (width, height) {
            decoder = open(Some(Resize::Exact(w, h)))?;
        }
        Ok(Self { reader, decoder, stream, draining: false })
    }

    fn timing(&self) -> Timing {
        let seconds = |units: i64, base: video_rs::ffmpeg::Rational| {
            let known = units != video_rs::ffmpeg::ffi::AV_NOPTS_VALUE && base.denominator() != 0;
            known.then(|| units as f64 * ratio(base))
        };
        let Some(stream) = self.reader.input.stream(self.stream) else {
            return Timing { frames: 0, rate: 0.0, start: 0.0 };
        };
        let rate = [stream.avg_frame_rate(), stream.rate()]
            .map(ratio)
            .into_iter()
            .find(|r| r.is_finite() && *r > 0.0)
            .unwrap_or(0.0);
        let length = seconds(stream.duration(), stream.time_base())
            .or_else(|| seconds(self.reader.input.duration(), TIME_BASE))
            .filter(|s| *s > 0.0)
            .unwrap_or(0.0);
        let frames = match usize::try_from(stream.frames()) {
            Ok(n) if n > 0 => n,
            _ => (length * rate).round() as usize,
        };
        let start = seconds(stream.start_time(), stream.time_base()).unwrap_or(0.0);
        Timing { frames, rate, start }
    }

    /// The time stamp of a frame in seconds.
    fn time(&self, frame: &RawFrame) -> Option<f64> {
        frame.timestamp().map(|t| t as f64 * ratio(self.decoder.time_base()))
    }

    /// The next frame in display order; `None` at the end. Packets that cannot be decoded are skipped, as
    /// players do.
    fn next(&mut self) -> Result<Option<RawFrame>, String> {
        while !self.draining {
            let packet = match self.reader.read(self.stream) {
                Ok(packet) => packet,
                Err(Error::ReadExhausted) => {
                    self.draining = true;
                    break;
                }
                Err(e) => return Err(reason(&e)),
            };
            match self.decoder.decode_raw(packet) {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(e) if is_damage(&e) => {}
                Err(e) => return Err(reason(&e)),
            }
        }
        // Bounded, although a decoder that is being drained should not ask for more input.
        for _ in 0..1024 {
            match self.decoder.drain_raw() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Err(Error::ReadExhausted) => return Ok(None),
                Ok(None) => {}
                Err(e) if is_damage(&e) => {}
                Err(e) => return Err(reason(&e)),
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
        first: Option<RawFrame>,
    ) -> Result<(), String> {
        let mut frame = first;
        while builder.frames() < limits.max_frames {
            let Some(next) = (match frame.take() {
                Some(frame) => Some(frame),
                None => self.next()?,
            }) else {
                break;
            };
            push(builder, &next, self.decoder.size_out())?;
        }
        Ok(())
    }

    /// Frames from the first one at `target` seconds or later. Seeks to an earlier keyframe and decodes
    /// from there, so that the frames are those that decoding from the start gives.
    fn segment(
        mut self,
        path: &Path,
        limits: Limits,
        target: f64,
        rate: f64,
    ) -> Result<ClipBuilder, String> {
        let mut builder = limits.builder();
        for back in BACK {
            let to = ((target - back) * 1e6) as i64;
            // The range ends at the target, so that FFmpeg looks for a keyframe backwards. The seek
            // functions of video-rs itself come out at later frames.
            if self.reader.input.seek(to, ..to).is_err() {
                break;
            }
            self.decoder.reset();
            self.draining = false;
            let frame = self.next()?;
            let on_time = frame
                .as_ref()
                .is_some_and(|f| self.time(f).is_none_or(|t| t <= target + 1.0 / rate));
            if on_time {
                let first = self.skip_to(frame, target)?;
                self.fill(&mut builder, limits, first)?;
                return Ok(builder);
            }
        }
        // Seeking is impossible or always comes out late: decode from the start.
        let mut video = Self::open(path, limits)?;
        let first = video.next()?;
        let first = video.skip_to(first, target)?;
        video.fill(&mut builder, limits, first)?;
        Ok(builder)
    }

    fn skip_to(
        &mut self,
        mut frame: Option<RawFrame>,
        target: f64,
    ) -> Result<Option<RawFrame>, String> {
        while frame.as_ref().and_then(|f| self.time(f)).is_some_and(|t| t < target) {
            frame = self.next()?;
        }
        Ok(frame)
    }
}

const TIME_BASE: video_rs::ffmpeg::Rational = video_rs::ffmpeg::Rational(1, 1_000_000);

fn ratio(r: video_rs::ffmpeg::Rational) -> f64 {
    f64::from(r.numerator()) / f64::from(r.denominator())
}

fn push(builder: &mut ClipBuilder, frame: &RawFrame, size: (u32, u32)) -> Result<(), String> {
    if frame.format() != Pixel::RGB24 || (frame.width(), frame.height()) != size {
        return Err("its frames change size or format".into());
    }
    let row = size.0 as usize * 3;
    let stride = frame.stride(0);
    // Frames stored bottom-up have a negative stride, which video-rs returns as an enormous one.
    if stride < row || i32::try_from(stride).is_err() {
        return Err("its frames have an unsupported memory layout".into());
    }
    let mut pixels = Vec::with_capacity(row * size.1 as usize);
    for line in frame.data(0).chunks_exact(stride).take(size.1 as usize) {
        pixels.extend_from_slice(&line[..row]);
    }
    let picture = Picture::new(size.0 as usize, size.1 as usize, 3, pixels);
    builder.push(picture.ok_or("its frames have no pixels")?)
}

fn is_damage(error: &Error) -> bool {
    matches!(error, Error::BackendError(video_rs::ffmpeg::Error::InvalidData))
}

fn reason(error: &Error) -> String {
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
mod tests {
    use super::*;
    use lejepa_core::{Purpose, Seed};
    use std::path::PathBuf;
    use video_rs::encode::Settings;
    use video_rs::{Encoder, Frame, Time};

    const LIMITS: Limits = Limits { size: 32, max_frames: 16 };

    /// A video of 64 by 48 pixels at 25 frames per second, whose brightness rises by 2 grey levels per
    /// frame.
    ///
    /// The encoder does not write the duration of the last frame. In mp4 and mov that frame lies past
    /// the end of the edit list, so that no player shows it: they get an extra one.
    fn video(folder: &Path, name: &str, frames: u8, keyframe_interval: u64) -> PathBuf {
        start_library().unwrap();
        let path = folder.join(name);
        let settings =
            Settings::preset_h264_yuv420p(64, 48, false).with_keyframe_interval(keyframe_interval);
        let mut encoder = Encoder::new(path.as_path(), settings).unwrap();
        let unseen = u8::from(name.ends_with("mp4") || name.ends_with("mov"));
        for i in 0..frames + unseen {
            let mut frame = Frame::from_elem((48, 64, 3), 20 + 2 * i);
            // A moving mark, so that frames differ by more than their brightness.
            frame[[24, usize::from(i) % 64, 0]] = 255;
            encoder.encode(&frame, Time::from_units(i.into(), 25)).unwrap();
        }
        encoder.finish().unwrap();
        path
    }

    #[test]
    fn a_short_video_is_scaled_and_read_whole() {
        let d = tempfile::tempdir().unwrap();
        let path = video(d.path(), "a.mp4", 12, 12);
        let decoded = decode_file(&path, LIMITS, Window::Centre).unwrap();
        let clip = &decoded.item;
        assert_eq!((clip.frames().len(), clip.height(), clip.width()), (12, 32, 43));
        assert!(decoded.is_whole);
        // In memory it is the same video.
        let blob = Blob::bytes("archive/a.mp4", std::fs::read(&path).unwrap());
        assert_eq!(decode(&blob, LIMITS, Window::Centre).unwrap(), decoded);
        for (t, frame) in clip.frames().iter().enumerate() {
            let grey = usize::from(frame.pixels()[0]);
            assert!(grey.abs_diff(20 + 2 * t) <= 2, "frame {t}: {grey}");
        }
    }

    #[test]
    fn a_segment_is_exactly_what_decoding_from_the_start_gives() {
        let d = tempfile::tempdir().unwrap();
        for (name, interval) in
            [("a.mp4", 12), ("b.mp4", 250), ("c.mkv", 12), ("d.ts", 12), ("e.mov", 7)]
        {
            let path = video(d.path(), name, 100, interval);
            let limits = Limits { max_frames: 1000, ..LIMITS };
            let all = decode_file(&path, limits, Window::Centre).unwrap();
            assert_eq!(all.item.frames().len(), 100, "{name}");
            assert!(all.is_whole);
            let position = |window: Window<'_>| {
                let part = decode_file(&path, LIMITS, window).unwrap();
                assert!(!part.is_whole && part.item.frames().len() == 16, "{name}");
                all.item.frames().windows(16).position(|w| w == part.item.frames()).unwrap()
            };
            // It may be off by one frame: the header's length and rate are not exact.
            let near = |a: usize, b: usize| assert!(a.abs_diff(b) <= 1, "{name}: {a} is not {b}");
            near(position(Window::Centre), 42);
            for i in 0..24 {
                let stream = || Seed(5).rng(Purpose::Views, &[i]);
                near(
                    position(Window::Random(&mut stream())),
                    Window::Random(&mut stream()).start(100, 16),
                );
            }
        }
    }

    #[test]
    fn bad_files_are_errors_of_one_line() {
        let d = tempfile::tempdir().unwrap();
        let text = d.path().join("text.mp4");
        std::fs::write(&text, "this is text and not a video\n".repeat(50)).unwrap();
        let one = video(d.path(), "one.mp4", 1, 12);
        let whole = std::fs::read(video(d.path(), "whole.mp4", 60, 12)).unwrap();
        let cut = d.path().join("cut.mp4");
        std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
        for (path, says) in [
            (text, "is not a video that FFmpeg can read"),
            (one, "has 1 frame; at least 2 are needed"),
            (cut, "is not a video that FFmpeg can read, or is damaged"),
            (d.path().join("missing.mp4"), "FFmpeg cannot read it"),
        ] {
            let error = decode_file(&path, LIMITS, Window::Centre).unwrap_err();
            assert!(error.contains(says) && !error.contains('\n'), "{}: {error}", path.display());
        }
    }

    #[test]
    fn damaged_files_never_panic() {
        let d = tempfile::tempdir().unwrap();
        for name in ["a.mp4", "a.mkv", "a.ts"] {
            let whole = std::fs::read(video(d.path(), name, 60, 12)).unwrap();
            let path = d.path().join(format!("bad-{name}"));
            for i in 0..30 {
                let mut rng = Seed(9).rng(Purpose::Views, &[i]);
                let mut bytes = whole.clone();
                for _ in 0..=i {
                    let at = rand::RngExt::random_range(&mut rng, 0..bytes.len());
                    bytes[at] = rand::RngExt::random(&mut rng);
                }
                bytes.truncate(if i % 3 == 0 { bytes.len() * 3 / 4 } else { bytes.len() });
                std::fs::write(&path, bytes).unwrap();
                let _ = decode_file(&path, LIMITS, Window::Random(&mut rng));
            }
        }
    }
}
