//! Films: pictures and sound that find each other.

mod common;

use common::{json_on_cpu, run, stdout};

/// Recalls at 1, 5 and 10 of a row.
fn recall(row: &serde_json::Value) -> [f64; 3] {
    std::array::from_fn(|at| row["recall"][at].as_f64().unwrap())
}

#[test]
fn pictures_find_their_sounds_and_back() {
    let d = tempfile::tempdir().unwrap();
    let words = ["train", "--modality", "film", "--steps", "60", "-o", "r", "-q"];
    let out = json_on_cpu(d.path(), &[&words[..], &["--set", "probe.steps=50"]].concat());
    let found = out["retrieval"].as_array().unwrap();
    assert_eq!(found.len(), 2);
    for (row, by) in found.iter().zip(["picture", "sound"]) {
        assert_eq!((row["by"].as_str(), &row["samples"]), (Some(by), &200.into()));
        let (trained, untrained) = (recall(&row["trained"]), recall(&row["untrained"]));
        // By chance 5 % are among the first ten; after so short a training 20 %.
        assert!(trained[2] >= 0.12 && trained[2] > untrained[2] + 0.05, "{row}");
        assert!(row["trained"]["median"].as_f64() < Some(60.0), "{row}");
    }
    // The same table afterwards, in words, and on a page.
    let told = run(d.path(), &["probe", "r", "--device", "cpu"]);
    assert!(stdout(&told).contains("retrieval among 200 held-out samples"), "{}", stdout(&told));
    json_on_cpu(d.path(), &["report", "r", "--samples", "0"]);
    let page = std::fs::read_to_string(d.path().join("r/report.html")).unwrap();
    assert!(page.contains("<h2>Retrieval</h2>") && page.contains("median rank"));
}

/// Films that nobody labelled: a share is held out all the same, to be searched.
#[cfg(feature = "ffmpeg")]
#[test]
fn films_in_files_are_searched_without_labels() {
    let d = tempfile::tempdir().unwrap();
    let folder = d.path().join("films");
    std::fs::create_dir(&folder).unwrap();
    for i in 0..10 {
        let picture = format!("testsrc2=size=64x48:rate=25:duration={}", 3 + i % 3);
        let sound = format!("sine=frequency={}:duration={}", 200 + 50 * i, 3 + i % 3);
        let made = std::process::Command::new("ffmpeg")
            .args(["-v", "error", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound])
            .args(["-pix_fmt", "yuv420p"])
            .arg(folder.join(format!("{i}.mp4")))
            .status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("note: no program `ffmpeg`, so that films in files are not made");
            return;
        }
    }
    std::fs::write(folder.join("text.mp4"), "no film").unwrap();
    let words = ["train", "--modality", "film", "--data", "films", "--steps", "2"];
    let out = json_on_cpu(d.path(), &[&words[..], &["--batch", "4", "-o", "r"]].concat());
    assert_eq!(out["skipped"].as_array().map(Vec::len), Some(1), "{}", out["skipped"]);
    // A fifth of ten.
    assert_eq!(out["retrieval"][0]["samples"], 2, "{}", out["retrieval"]);
}
