//! Tests of `ffmpeg.rs`, on files that it encodes itself.

use super::*;
use lejepa_core::{Purpose, Seed};
use std::path::PathBuf;
use video_rs::encode::Settings;
use video_rs::{Encoder, Frame, Time};

const LIMITS: Limits = Limits { size: 32, max_frames: 16, rate: 0.0 };

fn decode_file(path: &Path, limits: Limits, window: Window<'_>) -> Result<Decoded<Clip>, String> {
    super::decode_file(path, None, limits, window)
}

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

/// A video as [`video`] makes it, by another encoder. Frames are shown at `times`, in 25ths of a second. `None` where
/// FFmpeg was built without the encoder.
fn encoded(path: &Path, codec: &str, times: &[i64], gop: u32) -> Option<()> {
    use video_rs::ffmpeg::codec::context::Context;
    use video_rs::ffmpeg::util::format::Pixel;
    use video_rs::ffmpeg::{Dictionary, Packet, Rational, codec as codecs, encoder, format};

    start_library().unwrap();
    let found = encoder::find_by_name(codec)?;
    let mut output = format::output(path).unwrap();
    let is_global = output.format().flags().contains(format::Flags::GLOBAL_HEADER);
    let mut context = Context::new_with_codec(found).encoder().video().unwrap();
    let base = Rational::new(1, 25);
    context.set_width(64);
    context.set_height(48);
    context.set_format(Pixel::YUV420P);
    context.set_time_base(base);
    context.set_frame_rate(Some(base.invert()));
    context.set_gop(gop);
    if is_global {
        context.set_flags(codecs::Flags::GLOBAL_HEADER);
    }
    let mut options = Dictionary::new();
    options.set("x265-params", "log-level=none");
    options.set("cpu-used", "8");
    let mut encoder = context.open_with(options).unwrap();
    let mut stream = output.add_stream(found).unwrap();
    stream.set_parameters(&encoder);
    stream.set_time_base(base);
    output.write_header().unwrap();
    let written = output.stream(0).unwrap().time_base();
    for (i, time) in times.iter().map(Some).chain([None]).enumerate() {
        match time {
            Some(time) => {
                let mut frame = frame::Video::new(Pixel::YUV420P, 64, 48);
                frame.data_mut(0).fill(20 + 2 * i as u8);
                (1..3).for_each(|plane| frame.data_mut(plane).fill(128));
                // A bar that moves, so that frames refer to each other.
                let stride = frame.stride(0);
                for row in 0..48 {
                    let at = row * stride + i % 56;
                    frame.data_mut(0)[at..at + 8].fill(250);
                }
                frame.set_pts(Some(*time));
                encoder.send_frame(&frame).unwrap();
            }
            None => encoder.send_eof().unwrap(),
        }
        let mut packet = Packet::empty();
        while encoder.receive_packet(&mut packet).is_ok() {
            packet.set_stream(0);
            packet.set_duration(1);
            packet.rescale_ts(base, written);
            packet.write_interleaved(&mut output).unwrap();
        }
    }
    output.write_trailer().unwrap();
    Some(())
}

/// Codecs and containers of the field, with frames at even and at uneven times.
#[test]
fn segments_of_every_codec_are_exactly_what_decoding_from_the_start_gives() {
    let d = tempfile::tempdir().unwrap();
    let even: Vec<i64> = (0..100).collect();
    // One or two intervals.
    let uneven: Vec<i64> = (0..100).map(|i| i + i / 3 + i / 7).collect();
    let mut tried = Vec::new();
    for (name, codec, times) in [
        ("h264.mp4", "libx264", &uneven),
        ("h264.mkv", "libx264", &uneven),
        ("h264.ts", "libx264", &even),
        ("hevc.mp4", "libx265", &even),
        ("hevc-uneven.mkv", "libx265", &uneven),
        ("vp9.webm", "libvpx-vp9", &even),
        ("vp9-uneven.webm", "libvpx-vp9", &uneven),
        ("av1.mkv", "libaom-av1", &even),
        ("av1-uneven.mp4", "libaom-av1", &uneven),
        ("mpeg4.avi", "mpeg4", &even),
        ("mpeg4-uneven.mp4", "mpeg4", &uneven),
    ] {
        let path = d.path().join(name);
        if encoded(&path, codec, times, 24).is_none() {
            eprintln!("{codec} is not in this FFmpeg");
            continue;
        }
        tried.push(codec);
        let all =
            decode_file(&path, Limits { max_frames: 1000, ..LIMITS }, Window::Centre).unwrap();
        let all = all.item.frames();
        assert_eq!(all.len(), 100, "{name}");
        // By index.
        for i in 0..12 {
            let stream = || Seed(7).rng(Purpose::Views, &[i]);
            let part = decode_file(&path, LIMITS, Window::Random(&mut stream())).unwrap().item;
            let at = all.windows(16).position(|w| w == part.frames());
            let at = at.unwrap_or_else(|| panic!("{name}: frames that are not in the whole"));
            let want = Window::Random(&mut stream()).start(100, 16);
            assert!(at.abs_diff(want) <= 1, "{name}: {at} is not {want}");
        }
        // In time.
        for start in [10, 47, 71] {
            let [from, to] =
                [start, start + 12].map(|i| Duration::from_millis(40 * times[i] as u64));
            let part = super::decode_file(&path, Some(from..to), LIMITS, Window::Centre).unwrap();
            assert!(part.item.frames() == &all[start..start + 12], "{name}: from frame {start}");
        }
    }
    assert!(tried.contains(&"mpeg4"), "FFmpeg's own encoder");
}

#[test]
fn rates_are_brought_to_one() {
    let d = tempfile::tempdir().unwrap();
    let path = video(d.path(), "a.mp4", 100, 12);
    let at = |rate: f64, max_frames: usize, window: Window<'_>| {
        let decoded = decode_file(&path, Limits { max_frames, rate, ..LIMITS }, window).unwrap();
        (decoded.item.frames().to_vec(), decoded.is_whole)
    };
    let (all, _) = at(0.0, 1000, Window::Centre);
    let every = |step: f64, count: usize| -> Vec<_> {
        (0..count).map(|i| all[(i as f64 * step) as usize].clone()).collect()
    };
    // 25 frames per second as they are, half, two fifths and twice of them.
    assert!(at(25.0, 1000, Window::Centre) == (all.clone(), true));
    assert!(at(12.5, 60, Window::Centre) == (every(2.0, 50), true));
    let (tenth, is_whole) = at(10.0, 60, Window::Centre);
    let places: Vec<_> = tenth.iter().map(|f| all.iter().position(|other| other == f)).collect();
    let want: Vec<_> = (0..40).map(|i| Some((f64::from(i) * 2.5) as usize)).collect();
    assert_eq!((places, is_whole), (want, true));
    assert!(at(50.0, 300, Window::Centre) == (every(0.5, 200), true));
    // Of more than are kept a segment, of so much more of the file.
    let (part, is_whole) = at(12.5, 16, Window::Centre);
    assert!(!is_whole && part.len() == 16);
    let start = all.iter().position(|frame| *frame == part[0]).unwrap();
    assert!(start.abs_diff(34) <= 1, "{start}");
    let same: Vec<_> = (0..16).map(|i| all[start + 2 * i].clone()).collect();
    assert!(part == same);
}

#[test]
fn early_frames_that_nothing_refers_to_are_left_out() {
    let d = tempfile::tempdir().unwrap();
    let path = video(d.path(), "a.mp4", 100, 100);
    let frames_from = |timestamp: i64| {
        let mut video = Video::open(&path, LIMITS).unwrap();
        video.decoder.want_from(timestamp);
        let mut frames = Vec::new();
        while let Some(frame) = video.next().unwrap() {
            frames.push((frame.timestamp().unwrap(), video.decoder.rgb(&frame).unwrap()));
        }
        frames
    };
    let all = frames_from(i64::MIN);
    assert_eq!(all.len(), 100);
    let wanted = all[60].0;
    let (early, late): (Vec<_>, Vec<_>) =
        frames_from(wanted).into_iter().partition(|(t, _)| *t < wanted);
    assert!(late == all[60..], "frames that are wanted change");
    // Those that are left are as they were: what they refer to is decoded.
    assert!((1..55).contains(&early.len()), "{} of 60", early.len());
    assert!(early.iter().all(|frame| all.contains(frame)));
}

#[test]
fn a_part_has_the_frames_that_are_shown_in_it() {
    let d = tempfile::tempdir().unwrap();
    for name in ["a.mp4", "a.mkv"] {
        let path = video(d.path(), name, 60, 12);
        let many = Limits { max_frames: 100, ..LIMITS };
        let all = decode_file(&path, many, Window::Centre).unwrap().item;
        let part = |start: u64, end: u64, limits| {
            let span = Duration::from_millis(start)..Duration::from_millis(end);
            super::decode_file(&path, Some(span), limits, Window::Centre)
        };
        // Ten frames at 25 a second, from the fifteenth on.
        let ten = part(600, 1000, LIMITS).unwrap();
        assert!(ten.is_whole && ten.item.frames() == &all.frames()[15..25], "{name}");
        assert_eq!(ten.facts.numbers()[0], ("frames".into(), 10.0));
        // The middle sixteen of thirty.
        let thirty = part(0, 1200, LIMITS).unwrap();
        assert!(!thirty.is_whole && thirty.item.frames() == &all.frames()[7..23], "{name}");
        let rest = super::decode_file(
            &path,
            Some(Duration::from_secs(2)..Duration::MAX),
            LIMITS,
            Window::Centre,
        );
        assert_eq!(rest.unwrap().item.frames(), &all.frames()[50..]);
        assert!(part(9000, 9500, LIMITS).unwrap_err().contains("less than two frames"));
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

const ROTATED: &[u8] = include_bytes!("../testdata/rotated.mp4");
const WIDE: &[u8] = include_bytes!("../testdata/wide.mp4");
const PIPED: &[u8] = include_bytes!("../testdata/piped.webm");
const VARIABLE: &[u8] = include_bytes!("../testdata/variable.mkv");

#[test]
fn frames_are_as_they_are_shown() {
    let limits = Limits { size: 64, max_frames: 16, rate: 0.0 };
    let first = |name: &str, bytes: &[u8]| {
        let clip = decode(&Blob::bytes(name, bytes), limits, Window::Centre).unwrap().item;
        let light = |row: usize, column: usize| {
            clip.frame(0).pixels()[3 * (row * clip.width() + column)] > 128
        };
        let (w, h) = (clip.width(), clip.height());
        let edges = [light(h / 2, 2), light(h / 2, w - 3), light(2, w / 2), light(h - 3, w / 2)];
        (w, h, edges)
    };
    // The light columns on the left of the upright frame, twice as wide.
    assert_eq!(first("a.mp4", WIDE), (128, 48, [true, false, false, false]));
    // As `ffmpeg -i rotated.mp4` shows it: turned to the left.
    assert_eq!(first("a.mp4", ROTATED), (48, 64, [false, false, false, true]));
}

#[test]
fn the_length_is_that_of_the_frames() {
    let of = |name: &str, bytes: &[u8], max_frames| {
        let blob = Blob::bytes(name, bytes);
        let limits = Limits { size: 48, max_frames, rate: 0.0 };
        decode(&blob, limits, Window::Centre).unwrap()
    };
    for (name, bytes, frames) in [("a.webm", PIPED, 100), ("a.mkv", VARIABLE, 73)] {
        let all = of(name, bytes, 1000);
        assert!(all.is_whole && all.item.frames().len() == frames, "{name}");
        let part = of(name, bytes, 10);
        let start = (frames - 10) / 2;
        assert!(!part.is_whole, "{name}");
        assert!(part.item.frames() == &all.item.frames()[start..start + 10], "{name}");
        assert_eq!(part.facts.numbers()[0], ("frames".into(), frames as f64));
    }
}
