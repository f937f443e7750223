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

fn report(dir: &Path) -> Value {
    let out = run(dir, &["data", "set", "--modality", "image", "--json"]);
    assert!(out.status.success(), "{}", stderr(&out));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn a_report_says_what_was_taken_for_what() {
    let d = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        pictures(&d.path().join("set").join(split), 6);
    }
    let set = d.path().join("set");
    std::fs::copy(set.join("train/left/0.png"), set.join("train/left/again.png")).unwrap();
    std::fs::write(set.join("val/left/cut.png"), b"text").unwrap();
    std::fs::write(set.join("notes.heic"), b"?").unwrap();
    std::fs::create_dir(set.join("train/middle")).unwrap();
    image::RgbaImage::from_pixel(20, 20, image::Rgba([9, 9, 9, 99]))
        .save(set.join("train/middle/clear.png"))
        .unwrap();
    let out = report(d.path());
    let census = &out["census"];
    assert_eq!((&census["train"], &census["held_out"]), (&8.into(), &6.into()));
    assert_eq!(census["columns"][0]["classes"].as_array().unwrap().len(), 3);
    let found = out["found"].to_string();
    assert!(found.contains("train: 8 samples, trained on") && found.contains(".heic"), "{found}");
    assert_eq!(census["skipped"][0]["samples"], 1);
    assert!(census["skipped"][0]["examples"][0].as_str().unwrap().ends_with("cut.png"));
    // The same six pictures are in both splits, one of them twice.
    assert_eq!(census["copies"]["samples"], 7);
    assert_eq!(census["leaked"]["samples"], 6);
    let spread = &census["spreads"][0];
    assert_eq!((&spread["name"], &spread["most"]), (&"width".into(), &48.0.into()));
    let warnings = out["warnings"].to_string();
    for says in ["transparent", "held out, and trained on", "without one held out: middle"] {
        assert!(warnings.contains(says), "{warnings}");
    }
    // A training says the same, at its end too.
    let words =
        small(&["train", "--data", "set", "--modality", "image", "--steps", "2", "-o", "r"]);
    let out = run(d.path(), &words);
    let (text, end) = (stderr(&out), String::from_utf8_lossy(&out.stdout).into_owned());
    assert!(text.contains("width 20 to 48") && text.contains("3 classes of"), "{text}");
    assert!(end.contains("warning: 6 samples: held out, and trained on"), "{end}");
}

#[test]
fn a_report_does_not_need_good_files() {
    let d = tempfile::tempdir().unwrap();
    std::fs::create_dir(d.path().join("set")).unwrap();
    std::fs::write(d.path().join("set/a.heic"), b"?").unwrap();
    let out = run(d.path(), &["data", "set", "--modality", "image"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("passed over 1 files .heic"), "{}", stderr(&out));
    std::fs::write(d.path().join("set/b.png"), b"text").unwrap();
    let census = report(d.path())["census"].clone();
    assert_eq!((&census["train"], &census["skipped"][0]["samples"]), (&0.into(), &1.into()));
    // One picture a class: labels, and none to hold out.
    for class in ["x", "y", "z"] {
        let folder = d.path().join("set").join(class);
        std::fs::create_dir(&folder).unwrap();
        image::RgbImage::new(20, 20).save(folder.join("1.png")).unwrap();
    }
    let warnings = report(d.path())["warnings"].to_string();
    assert!(warnings.contains("too small to hold a sample out"), "{warnings}");
}

#[test]
fn copies_stay_on_one_side_of_a_split() {
    let d = tempfile::tempdir().unwrap();
    let set = d.path().join("set");
    pictures(&set, 24);
    for folder in ["left", "right"] {
        for entry in std::fs::read_dir(set.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            std::fs::copy(&path, path.with_file_name(format!("copy-{name}"))).unwrap();
        }
    }
    let out = report(d.path());
    let census = &out["census"];
    assert_eq!((&census["copies"]["samples"], &census["leaked"]), (&24.into(), &Value::Null));
    let held_out = census["held_out"].as_u64().unwrap();
    assert!(held_out.is_multiple_of(2) && (4..=20).contains(&held_out), "{held_out}");
}

#[test]
fn a_run_goes_on_elsewhere_and_longer() {
    let d = tempfile::tempdir().unwrap();
    pictures(&d.path().join("set"), 24);
    trained(d.path(), "--modality image --data set --steps 4 --output r");
    std::fs::rename(d.path().join("set"), d.path().join("moved")).unwrap();
    let resume = |words: &[&str]| {
        let out = run(d.path(), &[&["resume", "r", "--device", "cpu", "--json"], words].concat());
        (out.status.code(), stderr(&out), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let (code, text, _) = resume(&[]);
    assert!(code == Some(1) && text.contains("no such file or folder"), "{text}");
    let (code, text, out) = resume(&["--data", "moved", "--steps", "3"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("7 steps instead of 4: the learning rate follows"), "{text}");
    let out: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(out["steps"], 7);
    // The run knows its place and its length from here on.
    let (code, text, _) = resume(&[]);
    assert_eq!(code, Some(0), "{text}");
    json_on_cpu(d.path(), &["probe", "r"]);
    pictures(&d.path().join("other"), 20);
    let (code, text, _) = resume(&["--data", "other"]);
    assert!(code == Some(2) && text.contains("not the data of the run"), "{text}");
    let (code, text, _) = resume(&["--set", "train.lr=1.0"]);
    assert!(code == Some(2) && text.contains("train.lr is 0.002 there and 1.0 here"), "{text}");
    let (code, text, _) = resume(&["--set", "train.steps=5"]);
    assert!(code == Some(2) && text.contains("longer, not shorter"), "{text}");
    let (code, text, _) = resume(&["--set", "checkpoint.keep=2", "--minutes", "0.01"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn tar_shards_train_and_resume_to_the_same_bits() {
    let d = tempfile::tempdir().unwrap();
    let loose = d.path().join("loose");
    pictures(&loose, 60);
    let mut files: Vec<_> = ["left", "right"]
        .iter()
        .flat_map(|class| std::fs::read_dir(loose.join(class)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    std::fs::create_dir(d.path().join("shards")).unwrap();
    for (shard, files) in files.chunks(20).enumerate() {
        let split = ["train", "train", "val"][shard];
        let file = d.path().join(format!("shards/{split}-{shard:03}.tar"));
        let mut archive = tar::Builder::new(std::fs::File::create(file).unwrap());
        for (i, file) in files.iter().enumerate() {
            let kind = file.extension().unwrap().to_str().unwrap();
            archive.append_path_with_name(file, format!("{shard}{i:04}.{kind}")).unwrap();
            // Both classes in each shard, whatever the pictures are.
            let class = if i % 2 == 0 { "even" } else { "odd" };
            let mut header = tar::Header::new_gnu();
            header.set_size(class.len() as u64);
            let name = format!("{shard}{i:04}.cls");
            archive.append_data(&mut header, name, class.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
    }
    let words = "--modality image --data shards --steps 6 --set checkpoint.steps=3 --output r";
    let whole = trained(d.path(), words);
    assert_eq!((&whole["probe"]["classes"], &whole["skipped"]), (&2.into(), &Value::Array(vec![])));
    // As if it had been killed before its last checkpoint.
    std::fs::remove_dir_all(d.path().join("r/checkpoints/step-00000006")).unwrap();
    let again = json_on_cpu(d.path(), &["resume", "r"]);
    assert_eq!(again["final"]["loss"], whole["final"]["loss"]);
}

#[test]
fn what_labels_cannot_be_probed_by_is_said() {
    let d = tempfile::tempdir().unwrap();
    pictures(&d.path().join("p"), 4);
    let data = |source: &str| run(d.path(), &["data", source, "--modality", "image"]);
    // Two labels for one file.
    let rows = "path,label\np/left/0.png,cat\np/right/1.jpg,dog\np/left/0.png,dog\n";
    std::fs::write(d.path().join("m.csv"), rows).unwrap();
    let out = data("m.csv");
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("line 4: `p/left/0.png` has another label"), "{}", stderr(&out));
    // One picture of each class: none can be held out.
    for (from, class) in [("left/0.png", "a"), ("right/1.jpg", "b"), ("left/2.bmp", "c")] {
        let to = d.path().join("one").join(class);
        std::fs::create_dir_all(&to).unwrap();
        let file = Path::new(from).file_name().unwrap();
        std::fs::copy(d.path().join("p").join(from), to.join(file)).unwrap();
    }
    let out = data("one");
    let words = format!("{}{}", common::stdout(&out), stderr(&out));
    assert!(words.contains("the classes are too small to hold a sample out of any"), "{words}");
}
