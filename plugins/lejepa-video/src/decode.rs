//! Decoding of clips from animated GIFs and folders of frames.

use std::cmp::Ordering;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use image::AnimationDecoder;
use image::codecs::gif::GifDecoder;
use image::{ImageDecoder, RgbaImage};
use lejepa_core::{Blob, Decoded, Facts, Window, has_extension};
use lejepa_image::Picture;

use crate::clip::Clip;
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
    match blob.path() {
        Some(path) if path.is_dir() => folder(path, limits, window),
        _ if is_gif(blob) => gif(&blob.read().map_err(|e| e.to_string())?, limits, window),
        _ => other(blob, limits, window),
    }
}

#[cfg(feature = "ffmpeg")]
fn other(blob: &Blob<'_>, limits: Limits, window: Window<'_>) -> Result<Decoded<Clip>, String> {
    crate::ffmpeg::decode(blob, limits, window)
}

#[cfg(not(feature = "ffmpeg"))]
fn other(_: &Blob<'_>, _: Limits, _: Window<'_>) -> Result<Decoded<Clip>, String> {
    Err("this program reads only GIFs and folders of frames: it is built without FFmpeg; rebuild \
         with --features ffmpeg, or turn the video into a folder of frames"
        .into())
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
    // Frames are stored as differences to earlier ones: all before the segment have to be decoded.
    for (i, frame) in decoder.into_frames().enumerate().take(start + count) {
        let frame = frame.map_err(|e| gif_reason(i, &e))?.into_buffer();
        if i >= start {
            builder.push(on_black(&frame).ok_or("its frames have no pixels")?)?;
        }
    }
    let clip = builder.finish()?;
    let facts = Facts::new()
        .number("frames", total as f64)
        .number("width", clip.width() as f64)
        .number("height", clip.height() as f64);
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

/// A frame composited on black; `None` if it has no pixels.
fn on_black(frame: &RgbaImage) -> Option<Picture> {
    let mix = |v: u8, alpha: u8| (u16::from(v) * u16::from(alpha) / 255) as u8;
    let pixels = frame.pixels().flat_map(|p| [0, 1, 2].map(|c| mix(p.0[c], p.0[3]))).collect();
    Picture::new(frame.width() as usize, frame.height() as usize, 3, pixels)
}

fn folder(path: &Path, limits: Limits, mut window: Window<'_>) -> Result<Decoded<Clip>, String> {
    let all = frame_files(path).map_err(|e| e.to_string())?;
    let found = all.len();
    let files = longest_sequence(all);
    let mut remarks = Vec::new();
    if files.len() < found {
        remarks.push(
            "a folder with frames of several clips, of which the longest is used".to_string(),
        );
    }
    let count = files.len().min(limits.max_frames);
    let start = window.start(files.len(), count);
    let mut builder = limits.builder();
    let mut bad = None;
    for file in &files[start..start + count] {
        let frame = lejepa_image::decode(&Blob::file(file)).and_then(|frame| builder.push(frame));
        if let Err(reason) = frame {
            bad.get_or_insert_with(|| format!("{}: {reason}", file_name(file)));
        }
    }
    let kept = builder.frames();
    if let Some(reason) = bad {
        // A clip goes on without a bad frame, but not with more holes than frames.
        if kept < 2 || 2 * kept < count {
            return Err(reason);
        }
        remarks.push("frames that cannot be read, left out of their clip".into());
    }
    let clip = builder.finish()?;
    let facts = Facts::new()
        .number("frames", files.len() as f64)
        .number("width", clip.width() as f64)
        .number("height", clip.height() as f64)
        .remarks_of(remarks);
    Ok(clip.decoded(files.len() == count).with_facts(facts))
}

/// Whether a folder is one clip: it holds images and no videos, and the images are a numbered sequence or the only
/// media at or below it. Folders inside a sequence hold masks, flows and the like.
pub(crate) fn is_frame_folder(path: &Path) -> bool {
    let Ok(entries) = visible(path) else { return false };
    let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|p| p.is_dir());
    if files.iter().any(|p| has_extension(p, VIDEO)) {
        return false;
    }
    let frames: Vec<PathBuf> = files.into_iter().filter(|p| has_extension(p, FRAME)).collect();
    match frames.len() {
        0 => false,
        // One picture beside folders is a cover.
        count => {
            !folders.iter().any(|p| holds_media(p, 0))
                || count >= 2 && longest_sequence(frames).len() == count
        }
    }
}

fn holds_media(path: &Path, depth: usize) -> bool {
    // Bounded, since a link could lead to a parent folder. No real data set nests this deep.
    let Ok(entries) = visible(path) else { return false };
    entries.iter().any(|p| {
        if p.is_dir() {
            depth < 8 && holds_media(p, depth + 1)
        } else {
            has_extension(p, FRAME) || has_extension(p, VIDEO)
        }
    })
}

/// The frames of a folder in the natural order of their names: `frame2` before `frame10`.
fn frame_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = visible(path)?;
    files.retain(|p| has_extension(p, FRAME) && p.is_file());
    files.sort_by(|a, b| natural(&file_name(a), &file_name(b)));
    Ok(files)
}

/// A gap in the numbers of frames that is this many times the usual step separates clips.
const BREAK: u64 = 8;

/// The longest run of files whose names differ in their last number only, without a break in these numbers.
/// Files without numbers are one run.
fn longest_sequence(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let keys: Vec<_> = files.iter().map(|path| stem_and_number(path)).collect();
    let mut steps: Vec<u64> = keys
        .windows(2)
        .filter(|pair| pair[0].0 == pair[1].0)
        .filter_map(|pair| pair[1].1?.checked_sub(pair[0].1?))
        .collect();
    steps.sort_unstable();
    let usual = steps.get(steps.len() / 2).copied().unwrap_or(1).max(1);
    let goes_on = |(a, x): &(String, Option<u64>), (b, y): &(String, Option<u64>)| match (x, y) {
        (Some(x), Some(y)) => a == b && y.saturating_sub(*x) <= usual.saturating_mul(BREAK),
        (None, None) => true,
        _ => false,
    };
    let mut best = 0..0;
    let mut start = 0;
    for end in 1..=files.len() {
        if end == files.len() || !goes_on(&keys[end - 1], &keys[end]) {
            if end - start > best.len() {
                best = start..end;
            }
            start = end;
        }
    }
    files.into_iter().skip(best.start).take(best.len()).collect()
}

/// A name without its last number and extension, and the number.
fn stem_and_number(path: &Path) -> (String, Option<u64>) {
    let stem = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(end) = stem.rfind(|c: char| c.is_ascii_digit()).map(|at| at + 1) else {
        return (stem, None);
    };
    let start = stem[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |at| at + stem[at..].chars().next().map_or(1, char::len_utf8));
    let number = stem[start..end].parse().ok();
    (format!("{}#{}", &stem[..start], &stem[end..]), number)
}

fn visible(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Compares names with runs of digits as numbers of any length.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a, b);
    while let (Some(p), Some(q)) = (x.chars().next(), y.chars().next()) {
        if p.is_ascii_digit() && q.is_ascii_digit() {
            let (m, n);
            (m, x) = x.split_at(x.find(|c: char| !c.is_ascii_digit()).unwrap_or(x.len()));
            (n, y) = y.split_at(y.find(|c: char| !c.is_ascii_digit()).unwrap_or(y.len()));
            let (m, n) = (m.trim_start_matches('0'), n.trim_start_matches('0'));
            match m.len().cmp(&n.len()).then_with(|| m.cmp(n)) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
        } else if p == q {
            (x, y) = (&x[p.len_utf8()..], &y[q.len_utf8()..]);
        } else {
            return p.cmp(&q);
        }
    }
    x.len().cmp(&y.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use image::codecs::gif::GifEncoder;
    use image::{Frame, GrayImage, Rgba};
    use lejepa_core::{Purpose, Seed};
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { size: 16, max_frames: 64 };

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

    fn first_pixels(clip: &Clip) -> Vec<u8> {
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

    #[test]
    fn frames_are_in_natural_order() {
        let mut names = ["f10.png", "f2.png", "f01.png", "f1.png", "f1a.png", "e99.png", "f.png"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            ["e99.png", "f.png", "f01.png", "f1.png", "f1a.png", "f2.png", "f10.png"]
        );
        let d = tempfile::tempdir().unwrap();
        write_frames(d.path(), &[("f10.png", 30), ("f9.png", 20), ("f1.bmp", 10)]);
        std::fs::write(d.path().join("notes.txt"), b"not a frame").unwrap();
        let folder = Blob::file(d.path());
        let decoded = decode(&folder, LIMITS, Window::Centre).unwrap();
        assert!(decoded.is_whole);
        assert_eq!(first_pixels(&decoded.item), [10, 20, 30]);
        let limits = Limits { max_frames: 2, ..LIMITS };
        assert!(!decode(&folder, limits, Window::Centre).unwrap().is_whole);
    }

    #[test]
    fn a_bad_frame_is_named() {
        let d = tempfile::tempdir().unwrap();
        write_frames(d.path(), &[("1.png", 10), ("2.png", 20)]);
        std::fs::write(d.path().join("3.png"), b"text").unwrap();
        let read = || decode(&Blob::file(d.path()), LIMITS, Window::Centre);
        let decoded = read().unwrap();
        assert_eq!(first_pixels(&decoded.item), [10, 20]);
        assert!(decoded.facts.remarks()[0].starts_with("frames that cannot be read"));
        GrayImage::new(5, 5).save(d.path().join("3.png")).unwrap();
        assert_eq!(first_pixels(&read().unwrap().item), [10, 20]);
        std::fs::write(d.path().join("2.png"), b"text").unwrap();
        let error = read().unwrap_err();
        assert!(error.starts_with("2.png: "), "{error}");
        std::fs::remove_file(d.path().join("2.png")).unwrap();
        std::fs::remove_file(d.path().join("3.png")).unwrap();
        assert_eq!(read().unwrap_err(), "has 1 frame; at least 2 are needed");
    }

    #[test]
    fn a_break_in_naming_or_numbering_ends_a_clip() {
        let longest = |names: &[&str]| {
            let names = names.iter().map(PathBuf::from).collect();
            longest_sequence(names).iter().map(|p| file_name(p)).collect::<Vec<_>>()
        };
        assert_eq!(longest(&["a1.png", "a2.png", "b1.png", "b2.png", "b3.png"])[0], "b1.png");
        // Every fifth frame, one of them missing, is one clip; a jump is not.
        assert_eq!(longest(&["5.png", "10.png", "20.png", "25.png"]).len(), 4);
        assert_eq!(longest(&["1.png", "2.png", "3.png", "100.png", "101.png"]).len(), 3);
        assert_eq!(longest(&["x.png", "y.png"]).len(), 2);
        assert_eq!(longest(&["v2_001_l.png", "v2_002_l.png", "v2_002_r.png"]).len(), 2);
        assert!(longest(&[]).is_empty());
        let d = tempfile::tempdir().unwrap();
        write_frames(d.path(), &[("a1.png", 1), ("a2.png", 2), ("b1.png", 3)]);
        let decoded = decode(&Blob::file(d.path()), LIMITS, Window::Centre).unwrap();
        assert_eq!(first_pixels(&decoded.item), [1, 2]);
        assert!(decoded.facts.remarks()[0].contains("several clips"));
    }

    #[test]
    fn folders_of_frames_are_recognised() {
        let d = tempfile::tempdir().unwrap();
        let at = |p: &str| d.path().join(p);
        write_frames(&at("class/clip"), &[("1.png", 1)]);
        write_frames(&at("root"), &[("cover.png", 1)]);
        write_frames(&at("root/a/b"), &[("1.png", 1)]);
        write_frames(&at("gifs"), &[("thumbnail.png", 1)]);
        std::fs::write(at("gifs/x.gif"), ramp_gif(2)).unwrap();
        write_frames(&at("notes"), &[("1.png", 1)]);
        std::fs::create_dir(at("notes/empty")).unwrap();
        write_frames(&at("masked"), &[("1.png", 1), ("2.png", 1)]);
        write_frames(&at("masked/masks"), &[("1.png", 1), ("2.png", 1)]);
        for (folder, expected) in [
            ("class/clip", true),
            ("class", false),
            ("root", false),
            ("root/a/b", true),
            ("gifs", false),
            ("notes", true),
            ("notes/empty", false),
            ("masked", true),
            ("missing", false),
        ] {
            assert_eq!(is_frame_folder(&at(folder)), expected, "{folder}");
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

        #[test]
        fn natural_order_is_an_order(names in proptest::collection::vec("[a-z0-9]{0,6}", 3)) {
            let [a, b, c] = [&names[0], &names[1], &names[2]];
            prop_assert_eq!(natural(a, b), natural(b, a).reverse());
            prop_assert_eq!(natural(a, b) == Ordering::Equal, a == b);
            if natural(a, b) != Ordering::Greater && natural(b, c) != Ordering::Greater {
                prop_assert_ne!(natural(a, c), Ordering::Greater);
            }
        }
    }
}
