//! Training on files through the command line: good ones, bad ones, and manifests.

mod common;

use std::path::Path;
#[cfg(feature = "ffmpeg")]
use std::process::Command;

use common::{json_on_cpu, run, small, stderr};
use serde_json::Value;

/// What a small training with these words reports.
#[track_caller]
fn trained(dir: &Path, words: &str) -> Value {
    json_on_cpu(dir, &small(&[&["train"], &*words.split(' ').collect::<Vec<_>>()].concat()))
}

/// Pictures of two classes: bright squares at the left or at the right.
fn pictures(dir: &Path, count: usize) {
    for i in 0..count {
        let (class, at) = if i % 2 == 0 { ("left", 4) } else { ("right", 28) };
        let folder = dir.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        let picture = image::RgbImage::from_fn(48, 40, |x, y| {
            let inside = (at..at + 14).contains(&x) && (10..26).contains(&y);
            let v = if inside { 220 } else { 40 } + ((x * 7 + y * 13 + i as u32 * 29) % 23) as u8;
            image::Rgb([v, v / 2, 255 - v])
        });
        picture.save(folder.join(format!("{i}.{}", ["png", "jpg", "bmp"][i % 3]))).unwrap();
    }
}

#[test]
fn bad_files_are_counted_named_and_left_out() {
    let d = tempfile::tempdir().unwrap();
    let data = d.path().join("pictures");
    pictures(&data, 24);
    let whole = std::fs::read(data.join("right/1.jpg")).unwrap();
    std::fs::write(data.join("left/cut.jpg"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(data.join("left/empty.png"), b"").unwrap();
    std::fs::write(data.join("right/text.png"), b"this is not a picture").unwrap();
    let out = trained(d.path(), "--modality image --data pictures --steps 4 --output r");
    let skipped: Vec<&str> =
        out["skipped"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(skipped.len(), 3, "{skipped:?}");
    for name in ["cut.jpg", "empty.png", "text.png"] {
        assert!(skipped.iter().any(|s| s.ends_with(name)), "{skipped:?}");
    }
    assert_eq!(out["probe"]["classes"], 2);
}

#[test]
fn bad_sounds_and_videos_are_left_out_too() {
    let d = tempfile::tempdir().unwrap();
    let sounds = d.path().join("sounds");
    std::fs::create_dir(&sounds).unwrap();
    for i in 0..12u32 {
        let spec = hound::WavSpec {
            channels: 1 + (i % 2) as u16,
            sample_rate: [8000, 16000, 44100][i as usize % 3],
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut w = hound::WavWriter::create(sounds.join(format!("{i}.wav")), spec).unwrap();
        for t in 0..spec.sample_rate * 2 * u32::from(spec.channels) {
            let phase = t as f32 * (0.02 + 0.005 * i as f32);
            w.write_sample((phase.sin() * 12000.0) as i16).unwrap();
        }
        w.finalize().unwrap();
    }
    std::fs::write(sounds.join("zero.wav"), b"").unwrap();
    std::fs::write(sounds.join("text.mp3"), b"this is not a sound at all, only text").unwrap();
    let out = trained(d.path(), "--modality audio --data sounds --steps 3 --batch 8 --output a");
    assert_eq!(out["skipped"].as_array().unwrap().len(), 2, "{}", out["skipped"]);
    assert_eq!(out["probe"], Value::Null, "no labels, no probe");

    let videos = d.path().join("videos");
    std::fs::create_dir(&videos).unwrap();
    for i in 0..10u32 {
        let frames = if i == 0 { 1 } else { 12 };
        let file = std::fs::File::create(videos.join(format!("{i}.gif"))).unwrap();
        let mut gif = image::codecs::gif::GifEncoder::new(file);
        for t in 0..frames {
            let frame = image::RgbaImage::from_fn(40, 32, |x, y| {
                let on = (x + 40 - (t * 2 + i) % 40) % 40 < 10 && y > i;
                image::Rgba([if on { 250 } else { 20 }, (y * 7) as u8, (x * 5) as u8, 255])
            });
            gif.encode_frame(image::Frame::new(frame)).unwrap();
        }
    }
    let out = trained(d.path(), "--modality video --data videos --steps 3 --batch 8 --output v");
    let skipped = out["skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    assert!(skipped[0]["reason"].as_str().unwrap().contains("1 frame"), "{skipped:?}");
}

#[test]
fn nothing_but_bad_files_is_an_error() {
    let d = tempfile::tempdir().unwrap();
    let data = d.path().join("bad");
    std::fs::create_dir(&data).unwrap();
    for i in 0..5 {
        std::fs::write(data.join(format!("{i}.png")), b"no picture").unwrap();
    }
    let out = run(d.path(), &["train", "--modality", "image", "--data", "bad", "--output", "r"]);
    let text = stderr(&out);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("0 usable samples"), "{text}");
}

#[test]
fn a_manifest_names_labels_and_splits() {
    let d = tempfile::tempdir().unwrap();
    pictures(&d.path().join("p"), 20);
    let mut rows = "path,label,split\n".to_string();
    for i in 0..20 {
        let (class, split) = (["left", "right"][i % 2], if i < 14 { "train" } else { "test" });
        rows += &format!("p/{class}/{i}.{},{class},{split}\n", ["png", "jpg", "bmp"][i % 3]);
    }
    std::fs::write(d.path().join("m.csv"), rows).unwrap();
    let out = trained(d.path(), "--modality image --data m.csv --steps 2 --output r");
    assert_eq!(out["probe"]["fitted_on"], 14);
    assert_eq!(out["probe"]["scored_on"], 6);
}

/// Video files through FFmpeg's libraries, made by the `ffmpeg` program where there is one.
#[cfg(feature = "ffmpeg")]
#[test]
fn video_files_train() {
    let d = tempfile::tempdir().unwrap();
    let dir = d.path().join("clips");
    std::fs::create_dir(&dir).unwrap();
    for i in 0..8 {
        let source = format!("testsrc=size=64x48:rate=12:duration={}", 1 + i % 3);
        let made = Command::new("ffmpeg")
            .args(["-v", "error", "-f", "lavfi", "-i", &source, "-pix_fmt", "yuv420p"])
            .arg(dir.join(format!("{i}.{}", ["mp4", "mkv"][i % 2])))
            .status();
        if !made.is_ok_and(|s| s.success()) {
            eprintln!(
                "the ffmpeg program is not here; lejepa-video's own tests encode their files"
            );
            return;
        }
    }
    std::fs::write(dir.join("text.mp4"), "not a video").unwrap();
    let out = trained(d.path(), "--modality video --data clips --steps 2 --batch 4 --output r");
    assert_eq!(out["skipped"].as_array().unwrap().len(), 1, "{}", out["skipped"]);
}
