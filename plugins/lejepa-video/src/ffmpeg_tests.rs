//! Tests of `ffmpeg.rs`, on files that it encodes itself.

use super::*;
use lejepa_core::{Purpose, Seed};
use std::path::PathBuf;
use video_rs::encode::Settings;
use video_rs::{Encoder, Frame, Time};

const LIMITS: Limits = Limits { size: 32, max_frames: 16 };

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
    let limits = Limits { size: 64, max_frames: 16 };
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
        let limits = Limits { size: 48, max_frames };
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
