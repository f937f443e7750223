//! Films in files.
#![cfg(feature = "ffmpeg")]

use std::path::Path;
use std::process::Command;

use lejepa_core::{Modality, Purpose, Seed, Source, Window};
use lejepa_film::{FilmConfig, FilmModality};

/// Whether `ffmpeg` could be run; it makes a file of these inputs and words.
fn made(file: &Path, words: &[&str]) -> bool {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y"]).args(words).arg(file);
    match command.status() {
        Ok(status) => {
            assert!(status.success(), "{words:?}");
            true
        }
        Err(_) => {
            eprintln!("note: no program `ffmpeg`, so that films in files are not read");
            false
        }
    }
}

/// Eight seconds that are dark and silent but for the one from `at` on.
fn flash(file: &Path, at: u32) -> bool {
    let on = format!("between(t,{at},{})", at + 1);
    let picture = format!(
        "color=black:size=64x48:rate=25:duration=8,drawbox=color=white:t=fill:enable='{on}'"
    );
    let sound = format!("aevalsrc='0.5*sin(2000*t)*{on}':sample_rate=16000:duration=8");
    let inputs = ["-f", "lavfi", "-i", picture.as_str(), "-f", "lavfi", "-i", sound.as_str()];
    made(file, &[&inputs[..], &["-pix_fmt", "yuv420p", "-g", "50"]].concat())
}

#[test]
fn picture_and_sound_are_of_the_same_time() {
    let d = tempfile::tempdir().unwrap();
    for name in ["a.mp4", "a.mkv", "a.avi", "a.ts"] {
        let file = d.path().join(name);
        if !flash(&file, 4) {
            return;
        }
        let folder = d.path().join(name.replace('.', "-"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::rename(&file, folder.join(name)).unwrap();
        let source = Source::resolve(folder.to_str().unwrap(), FilmModality::rule());
        let config = FilmConfig { seconds: 4.0, ..FilmConfig::default() };
        let config = FilmConfig {
            picture: lejepa_video::VideoConfig {
                max_frames: 200,
                rate: 0.0,
                ..config.picture.clone()
            },
            ..config
        };
        let films = FilmModality::open(&config, source.unwrap()).unwrap();
        let mut starts = Vec::new();
        for draw in 0..6 {
            let mut rng = Seed(1).rng(Purpose::Views, &[draw]);
            let decoded = films.item(0, Window::Random(&mut rng)).unwrap();
            assert!(!decoded.is_whole);
            let film = decoded.item;
            let (frames, samples) = (film.picture.frames(), film.sound.samples());
            assert!(frames.len().abs_diff(100) <= 2, "{name}: {}", frames.len());
            assert!(samples.len().abs_diff(64000) <= 1600, "{name}: {}", samples.len());
            let seen = frames.iter().position(|frame| frame.pixels()[0] > 128);
            let heard = samples.iter().position(|v| v.abs() > 0.2);
            let (Some(seen), Some(heard)) = (seen, heard) else { continue };
            // A frame is 40 ms, and an AAC encoder begins 64 ms early.
            let (seen, heard) = (seen as f64 / 25.0, heard as f64 / 16000.0);
            assert!((seen - heard).abs() < 0.13, "{name}: seen at {seen} s, heard at {heard} s");
            starts.push(seen);
        }
        let spread = starts.iter().fold(0.0, |most: f64, s| most.max((s - starts[0]).abs()));
        assert!(starts.len() >= 3 && spread > 0.3, "{name}: {starts:?}");
    }
}

#[test]
fn a_film_without_sound_is_a_bad_sample() {
    let d = tempfile::tempdir().unwrap();
    let words =
        ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=3", "-pix_fmt", "yuv420p"];
    if !made(&d.path().join("silent.mp4"), &words) {
        return;
    }
    let source = Source::resolve(d.path().to_str().unwrap(), FilmModality::rule()).unwrap();
    let films = FilmModality::open(&FilmConfig::default(), source).unwrap();
    let reason = films.item(0, Window::Centre).unwrap_err().to_string();
    assert!(reason.contains("silent.mp4: its sound: ") && !reason.contains('\n'), "{reason}");
}
