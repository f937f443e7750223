//! Decoding of clips from animated GIFs, and the choice of a decoder.

use std::io::{Cursor, Read};

use image::AnimationDecoder;
use image::ImageDecoder;
use image::codecs::gif::GifDecoder;
use lejepa_core::{Blob, Decoded, Facts, Window};
use lejepa_image::{Background, composite};

use crate::clip::Clip;
use crate::frames::folder;
use crate::limits::Limits;

/// Extensions of video files. All but `gif` need FFmpeg; without it they are listed all the same, so that
/// they are skipped with a reason rather than silently.
pub(crate) const VIDEO: &[&str] = &[
    "gif", "mp4", "m4v", "mkv", "webm", "mov", "qt", "avi", "mpg", "mpeg", "mpe", "m2v", "ts",
    "mts", "m2ts", "wmv", "asf", "3gp", "3g2", "flv", "f4v", "ogv", "vob", "mxf",
];

/// Extensions of images that make up a folder of frames.
pub(crate) const FRAME: &[&str] = &["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff"];

/// Limit, in bytes, of the memory that a decoder of GIFs allocates: a file of a few bytes can claim frames
/// of 65535 by 65535 pixels.
const GIF_MEMORY: u64 = 1 << 29;

/// Whether a file that begins like this is a video.
pub(crate) fn is_known(start: &[u8]) -> bool {
    let at = |from: usize, magic: &[u8]| start.get(from..from + magic.len()) == Some(magic);
    let brands: [&[u8]; 5] = [b"M4A", b"M4B", b"hei", b"mif", b"avi"];
    let mp4 = at(4, b"ftyp") && !brands.iter().any(|brand| at(8, brand));
    let ts = at(0, b"G") && at(188, b"G") && at(376, b"G");
    let others: [&[u8]; 4] = [b"GIF8", b"\x1a\x45\xdf\xa3", b"FLV\x01", b"\0\0\x01\xba"];
    mp4 || ts || at(0, b"RIFF") && at(8, b"AVI ") || others.iter().any(|magic| at(0, magic))
}

/// Decodes a video or a folder of frames.
pub(crate) fn decode(
    blob: &Blob<'_>,
    limits: Limits,
    window: Window<'_>,
) -> Result<Decoded<Clip>, String> {
    let is_film = !blob.path().is_some_and(std::path::Path::is_dir) && !is_gif(blob);
    if blob.span().is_some() && !is_film {
        return Err("parts from `start` to `end` are read of video files alone".into());
    }
    match blob.path() {
        Some(path) if path.is_dir() => folder(path, limits, window),
        _ if is_gif(blob) => gif(&blob.read().map_err(|e| e.to_string())?, limits, window),
        _ => crate::ffmpeg::decode(blob, limits, window),
    }
}

/// By the extension or, since cells of a table need not have one, by the first bytes.
fn is_gif(blob: &Blob<'_>) -> bool {
    let mut magic = [0; 4];
    blob.extension() == "gif"
        || blob
            .open()
            .and_then(|mut reader| reader.read_exact(&mut magic))
            .is_ok_and(|()| magic == *b"GIF8")
}

/// Decodes an animated GIF. The display times of its frames are ignored.
pub(crate) fn gif(
    bytes: &[u8],
    limits: Limits,
    mut window: Window<'_>,
) -> Result<Decoded<Clip>, String> {
    let total = gif_frames(bytes)?;
    let count = total.min(limits.max_frames);
    let start = window.start(total, count);
    let mut decoder = GifDecoder::new(Cursor::new(bytes)).map_err(|e| gif_reason(0, &e))?;
    let mut memory = image::Limits::no_limits();
    memory.max_alloc = Some(GIF_MEMORY);
    decoder.set_limits(memory).map_err(|e| gif_reason(0, &e))?;
    let mut builder = limits.builder();
    let mut background = Background::Auto;
    let mut remarks = Vec::new();
    // Frames are stored as differences to earlier ones: all before the segment have to be decoded.
    for (i, frame) in decoder.into_frames().enumerate().take(start + count) {
        let frame = frame.map_err(|e| gif_reason(i, &e))?.into_buffer();
        if i >= start {
            // One background for all frames, by the first one.
            let (frame, behind, remark) =
                composite(frame, background).ok_or("its frames have no pixels")?;
            background = behind;
            remarks.extend(remark.filter(|_| remarks.is_empty()));
            builder.push(frame)?;
        }
    }
    let clip = builder.finish()?;
    let facts = Facts::new()
        .number("frames", total as f64)
        .number("width", clip.width() as f64)
        .number("height", clip.height() as f64)
        .remarks_of(remarks);
    Ok(clip.decoded(total == count).with_facts(facts))
}

/// The number of frames of a GIF, without decompressing them.
fn gif_frames(bytes: &[u8]) -> Result<usize, String> {
    let mut options = gif::DecodeOptions::new();
    options.skip_frame_decoding(true);
    let mut decoder = options.read_info(bytes).map_err(|e| gif_reason(0, &e))?;
    let mut count = 0;
    while decoder.next_frame_info().map_err(|e| gif_reason(count, &e))?.is_some() {
        count += 1;
    }
    Ok(count)
}

fn gif_reason(frame: usize, error: &dyn std::fmt::Display) -> String {
    let error = error.to_string();
    let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("frame {frame} of the GIF cannot be read, the file is damaged or truncated: {error}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use image::codecs::gif::GifEncoder;
    use std::path::Path;

    use image::{Frame, GrayImage, Rgba, RgbaImage};
    use lejepa_core::{Purpose, Seed};
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { size: 16, max_frames: 64, rate: 0.0 };

    /// A GIF of flat grey frames, 20 by 16 pixels.
    pub(crate) fn gif_of(greys: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let frames =
            greys.iter().map(|&g| Frame::new(RgbaImage::from_pixel(20, 16, Rgba([g, g, g, 255]))));
        GifEncoder::new(&mut bytes).encode_frames(frames).unwrap();
        bytes
    }

    /// Frame `i` has the grey value `10 * i`.
    pub(crate) fn ramp_gif(frames: u8) -> Vec<u8> {
        gif_of(&(0..frames).map(|i| 10 * i).collect::<Vec<_>>())
    }

    /// Images of 12 by 10 pixels in flat greys.
    pub(crate) fn write_frames(folder: &Path, frames: &[(&str, u8)]) {
        std::fs::create_dir_all(folder).unwrap();
        for (name, grey) in frames {
            let picture = GrayImage::from_pixel(12, 10, image::Luma([*grey]));
            picture.save(folder.join(name)).unwrap();
        }
    }

    pub(crate) fn first_pixels(clip: &Clip) -> Vec<u8> {
        clip.frames().iter().map(|frame| frame.pixels()[0]).collect()
    }

    #[test]
    fn a_gif_gives_its_frames_in_order() {
        let bytes = ramp_gif(6);
        for name in ["a.gif", "a cell of a table"] {
            let blob = Blob::bytes(name, &bytes);
            let Decoded { item: clip, is_whole, .. } =
                decode(&blob, LIMITS, Window::Centre).unwrap();
            assert_eq!((clip.frames().len(), clip.height(), clip.width()), (6, 16, 20));
            assert_eq!(first_pixels(&clip), [0, 10, 20, 30, 40, 50]);
            assert!(is_whole);
        }
    }

    #[test]
    fn of_a_long_gif_a_segment_is_read() {
        let limits = Limits { max_frames: 4, ..LIMITS };
        let decoded = gif(&ramp_gif(10), limits, Window::Centre).unwrap();
        assert_eq!(first_pixels(&decoded.item), [30, 40, 50, 60]);
        assert!(!decoded.is_whole);
        let starts: std::collections::BTreeSet<u8> = (0..40)
            .map(|i| {
                let mut rng = Seed(1).rng(Purpose::Views, &[i]);
                let decoded = gif(&ramp_gif(10), limits, Window::Random(&mut rng)).unwrap();
                let pixels = first_pixels(&decoded.item);
                assert!(pixels.windows(2).all(|w| w[1] == w[0] + 10), "{pixels:?}");
                pixels[0]
            })
            .collect();
        assert_eq!(starts, (0..=6).map(|i| 10 * i).collect());
    }

    #[test]
    fn bad_gifs_are_errors_of_one_line() {
        let whole = ramp_gif(6);
        let mut huge = whole.clone();
        huge[6..10].fill(0xff);
        for (bytes, says) in [
            (gif_of(&[9]).as_slice(), "has 1 frame; at least 2 are needed"),
            (&whole[..whole.len() / 2], "damaged or truncated"),
            (&whole[..20], "damaged or truncated"),
            (b"this is text and not a picture", "damaged or truncated"),
            (&huge, "frame 0"),
        ] {
            let error = gif(bytes, LIMITS, Window::Centre).unwrap_err();
            assert!(error.contains(says) && !error.contains('\n'), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn random_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300), header: bool,
        ) {
            if header {
                bytes.splice(0..0, *b"GIF89a\x08\x00\x08\x00\x80\x00\x00\0\0\0\xff\xff\xff");
            }
            let _ = gif(&bytes, LIMITS, Window::Centre);
        }

        #[test]
        fn damaged_gifs_never_panic(at in 6usize..400, value: u8) {
            let mut bytes = ramp_gif(4);
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = gif(&bytes, LIMITS, Window::Centre);
        }
    }
}
