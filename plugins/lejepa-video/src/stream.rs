//! What a container says of its video stream: sizes, orientation, and the times of frames.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use video_rs::ffmpeg::codec::packet::side_data::Type;
use video_rs::ffmpeg::format::stream::Stream;
use video_rs::ffmpeg::{Rational, codec, ffi};
use video_rs::{Options, Reader, ReaderBuilder};

use crate::ffmpeg::reason;

/// Opens a file.
pub(crate) fn open(path: &Path) -> Result<(Reader, usize), String> {
    // video-rs panics if a path is not UTF-8.
    if path.to_str().is_none() {
        return Err("FFmpeg needs a file name in UTF-8".into());
    }
    // A playlist that is named like a video must not cause network connections.
    let options = [("protocol_whitelist".to_string(), "file".to_string())];
    let options = Options::from(HashMap::from(options));
    let reader = ReaderBuilder::new(path).with_options(&options).build().map_err(|e| reason(&e))?;
    let stream = reader
        .best_video_stream_index()
        .map_err(|_| "has no video stream that FFmpeg can decode".to_string())?;
    Ok((reader, stream))
}

pub(crate) fn ratio(r: Rational) -> f64 {
    f64::from(r.numerator()) / f64::from(r.denominator())
}

/// Width and height as shown but for the orientation: pixels need not be square.
pub(crate) fn shown_size(stream: &Stream<'_>) -> Result<(u32, u32), String> {
    let unknown = "the size of its frames is unknown: is it truncated?";
    let context = codec::context::Context::from_parameters(stream.parameters());
    let video = context.and_then(|context| context.decoder().video());
    let video = video.map_err(|e| reason(&video_rs::Error::BackendError(e)))?;
    let (width, height) = (video.width(), video.height());
    if width == 0 || height == 0 {
        return Err(unknown.into());
    }
    let of_stream = ratio(sample_aspect_ratio(stream));
    let aspect = if of_stream > 0.0 { of_stream } else { ratio(video.aspect_ratio()) };
    // 0 is unknown, and what is far from 1 is damage.
    let aspect = if (0.1..=10.0).contains(&aspect) { aspect } else { 1.0 };
    let scaled = |side: u32, by: f64| (f64::from(side) * by).round().max(1.0) as u32;
    // The side that grows is stretched, so that no pixels are lost.
    Ok(if aspect >= 1.0 {
        (scaled(width, aspect), height)
    } else {
        (width, scaled(height, 1.0 / aspect))
    })
}

/// The aspect ratio of pixels that the container states, for which the bindings have no function.
#[allow(unsafe_code)]
fn sample_aspect_ratio(stream: &Stream<'_>) -> Rational {
    // SAFETY: the pointer is that of a live stream: `stream` borrows its context. The field is plain data that
    // nothing writes while the context is borrowed.
    unsafe { (*stream.as_ptr()).sample_aspect_ratio }.into()
}

/// How frames are turned and mirrored for display: columns and rows of the source in terms of those shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orientation([[i64; 2]; 2]);

impl Orientation {
    pub(crate) const UPRIGHT: Self = Self([[1, 0], [0, 1]]);

    /// From the display matrix of the container; only turns by 90° and reflections count.
    pub(crate) fn of(stream: &Stream<'_>) -> Self {
        let matrix = stream.side_data().find(|side| side.kind() == Type::DisplayMatrix);
        matrix.and_then(|side| Self::from_matrix(side.data())).unwrap_or(Self::UPRIGHT)
    }

    /// From nine 32-bit numbers, of which the first two rows have 16 bits of fraction.
    fn from_matrix(bytes: &[u8]) -> Option<Self> {
        let at = |i: usize| {
            let bytes = bytes.get(4 * i..4 * i + 4)?.try_into().ok()?;
            Some((f64::from(i32::from_ne_bytes(bytes)) / 65536.0).round() as i64)
        };
        let matrix = [[at(0)?, at(3)?], [at(1)?, at(4)?]];
        let is_turn = |[a, b]: [i64; 2]| a.abs() + b.abs() == 1;
        let [[a, c], [b, d]] = matrix;
        (is_turn([a, c]) && is_turn([b, d]) && is_turn([a, b])).then_some(Self(matrix))
    }

    /// Width and height as they are shown.
    pub(crate) fn size<T>(self, width: T, height: T) -> (T, T) {
        if self.0[0][0] == 0 { (height, width) } else { (width, height) }
    }

    /// The pixels of an RGB frame as they are shown, and their width and height.
    pub(crate) fn apply(
        self,
        pixels: Vec<u8>,
        width: usize,
        height: usize,
    ) -> (Vec<u8>, usize, usize) {
        if self == Self::UPRIGHT {
            return (pixels, width, height);
        }
        let (w, h) = (width as i64, height as i64);
        let shift = |[across, down]: [i64; 2]| {
            (if across < 0 { w - 1 } else { 0 }) + (if down < 0 { h - 1 } else { 0 })
        };
        let [columns, rows] = self.0;
        let (out_width, out_height) = self.size(width, height);
        let mut out = vec![0; pixels.len()];
        for (at, pixel) in pixels.chunks_exact(3).enumerate() {
            let (x, y) = ((at % width) as i64, (at / width) as i64);
            let to = |row: [i64; 2]| (row[0] * x + row[1] * y + shift(row)) as usize;
            let target = 3 * (to(rows) * out_width + to(columns));
            out[target..target + 3].copy_from_slice(pixel);
        }
        (out, out_width, out_height)
    }
}

/// Frames whose times are kept in memory, over all files.
const MOST_TIMES: usize = 1 << 23;

/// Times of frames by file.
type Times = HashMap<PathBuf, Arc<Vec<i64>>>;

fn known() -> MutexGuard<'static, Times> {
    static KNOWN: LazyLock<Mutex<Times>> = LazyLock::new(Mutex::default);
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drops what is kept of a file that will not be read again.
pub(crate) fn forget(path: &Path) {
    known().remove(path);
}

/// The times of all frames in display order, in units of the stream's time base, from its packets: no frame is
/// decoded. Kept for the files that are read again and again.
pub(crate) fn frame_times(path: &Path) -> Result<Arc<Vec<i64>>, String> {
    if let Some(times) = known().get(path) {
        return Ok(times.clone());
    }
    let (mut reader, stream) = open(path)?;
    let mut times = Vec::new();
    let start = reader.input.stream(stream).map(|stream| stream.start_time());
    let start = start.filter(|&start| start != ffi::AV_NOPTS_VALUE).unwrap_or(i64::MIN);
    for (of, packet) in reader.input.packets() {
        if of.index() == stream {
            // Frames before the start of an edit list are decoded and not shown.
            times.extend(packet.pts().or(packet.dts()).filter(|&time| time >= start));
        }
    }
    times.sort_unstable();
    let times = Arc::new(times);
    let mut known = known();
    if known.values().map(|times| times.len()).sum::<usize>() + times.len() <= MOST_TIMES {
        known.insert(path.to_path_buf(), times.clone());
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A display matrix of whole numbers.
    fn matrix(a: i32, b: i32, c: i32, d: i32) -> Vec<u8> {
        let one = 1 << 16;
        let cells = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30];
        cells.iter().flat_map(|v| v.to_ne_bytes()).collect()
    }

    #[test]
    fn frames_are_turned_and_mirrored() {
        // Two rows of three pixels.
        let pixels: Vec<u8> = (0..6).flat_map(|v| [v; 3]).collect();
        let shown = |bytes: Vec<u8>| {
            let orientation = Orientation::from_matrix(&bytes).unwrap();
            let (out, width, height) = orientation.apply(pixels.clone(), 3, 2);
            (out.chunks(3).map(|p| p[0]).collect::<Vec<_>>(), width, height)
        };
        assert_eq!(shown(matrix(1, 0, 0, 1)), (vec![0, 1, 2, 3, 4, 5], 3, 2));
        // A quarter to the right: the left column becomes the top row, from below.
        assert_eq!(shown(matrix(0, 1, -1, 0)), (vec![3, 0, 4, 1, 5, 2], 2, 3));
        assert_eq!(shown(matrix(-1, 0, 0, -1)), (vec![5, 4, 3, 2, 1, 0], 3, 2));
        assert_eq!(shown(matrix(-1, 0, 0, 1)), (vec![2, 1, 0, 5, 4, 3], 3, 2));
        for bad in [matrix(0, 0, 0, 0), matrix(1, 1, 0, 1), vec![1; 7]] {
            assert_eq!(Orientation::from_matrix(&bad), None);
        }
    }
}
