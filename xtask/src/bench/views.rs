//! `cargo xtask bench views`: views of files, ours beside other libraries', on one core.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{PATIENCE, Report, Side, in_turn, print, processor, round, table_of, write};
use crate::{cargo, run, setup};

/// What is decoded and cut into views, and by whom.
struct Kind {
    name: &'static str,
    files: u32,
    /// The Python package of each peer, and what `views.py` calls it.
    peers: &'static [(&'static str, &'static str)],
    /// Frames of the random part that is taken; none for the whole file.
    part: Option<&'static str>,
}

const VIDEO_PEERS: &[(&str, &str)] = &[("decord", "decord"), ("torchcodec", "torchcodec")];

const KINDS: [Kind; 5] = [
    Kind {
        name: "pictures",
        files: 64,
        peers: &[("torchvision", "pillow"), ("torchvision", "tensor")],
        part: None,
    },
    Kind { name: "sounds", files: 32, peers: &[("torchaudio", "torchaudio")], part: None },
    Kind {
        name: "spectrograms",
        files: 32,
        peers: &[("torchaudio", "torchaudio-mel")],
        part: None,
    },
    Kind { name: "clips", files: 16, peers: VIDEO_PEERS, part: None },
    Kind { name: "films", files: 8, peers: VIDEO_PEERS, part: Some("16") },
];

const KEYS: [&str; 7] =
    ["kind", "side", "ms_per_file", "files_per_s", "ratio", "decoding_share", "peak_mib"];

pub(super) fn views(json: bool) -> Result<(), String> {
    let features = setup::features(&setup::found());
    let build = ["build", "--release", "--workspace", "--example", "time_views", "--features"];
    run(cargo(&build).arg(features))?;
    let worker = crate::target().join("release/examples/time_views");
    let mut rows = Vec::new();
    for kind in KINDS {
        match compare(&kind, &worker) {
            Ok(more) => rows.extend(more),
            Err(reason) => eprintln!("note: {} are left out: {reason}", kind.name),
        }
    }
    write("views.csv", table_of(&KEYS, &rows))?;
    print(json, &json!({ "processor": processor(), "rows": rows }))
}

/// All sides in turn on the same files.
fn compare(kind: &Kind, worker: &Path) -> Result<Vec<Value>, String> {
    let folder = crate::target().join("views").join(kind.name);
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    make(kind, worker, &folder)?;
    let mut names = vec!["ours"];
    let mut sides =
        vec![Side::start(Command::new(worker).arg(kind.name).arg(&folder).args(kind.part))?];
    let script = crate::root().join("xtask/bench/views.py");
    for (package, peer) in kind.peers {
        let start = |python: PathBuf| {
            let mut command = Command::new(python);
            command.arg(&script).arg(peer).arg(&folder).args(kind.part);
            let mut side = Side::start(&mut command)?;
            // The first pass reads the files.
            side.time().map(|_| side)
        };
        match setup::python(package, package, &[&[]]).and_then(start) {
            Ok(side) => {
                names.push(*peer);
                sides.push(side);
            }
            Err(reason) => eprintln!("note: {} without {peer}: {reason}", kind.name),
        }
    }
    sides[0].time()?;
    let results = in_turn(sides, PATIENCE)?;
    let ours = results[0].ms;
    let row = |(name, report): (&&str, &Report)| {
        json!({
            "kind": kind.name,
            "side": name,
            "ms_per_file": round(report.ms / f64::from(kind.files)),
            "files_per_s": (1e3 * f64::from(kind.files) / report.ms).round(),
            "ratio": round(report.ms / ours),
            "decoding_share": report.more["decoding"].as_f64().map(round),
            "peak_mib": round(report.peak),
        })
    };
    Ok(names.iter().zip(&results).map(row).collect())
}

/// Writes the files: pictures by the worker, sounds and clips by FFmpeg's program.
fn make(kind: &Kind, worker: &Path, folder: &Path) -> Result<(), String> {
    if kind.name == "pictures" {
        return run(Command::new(worker).arg("make").arg(folder));
    }
    for i in 0..kind.files {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-y", "-f", "lavfi", "-i"]);
        let file = if ["sounds", "spectrograms"].contains(&kind.name) {
            // Ten seconds with partials that move, and noise.
            let pitch = 110 + 20 * i;
            let tone = format!("0.2*sin(2*PI*{pitch}*t+40*sin(3*t))+0.1*sin(2*PI*{}*t*t)", 40 + i);
            command.arg(format!("aevalsrc='{tone}+0.05*(random(0)-0.5)':s=44100:d=10"));
            folder.join(format!("{i:03}.flac"))
        } else {
            // Something that moves: sixty frames with a keyframe each second or two, or, to take parts of, a minute
            // with one each ten seconds, as x264 does.
            let (seconds, distance) = if kind.part.is_some() { (60.0, "250") } else { (2.4, "48") };
            let scene =
                format!("testsrc2=s=320x240:r=25:d={seconds},rotate=t*{},noise=alls=12", i % 5);
            command.arg(scene).args(["-c:v", "libx264", "-g", distance, "-pix_fmt", "yuv420p"]);
            command.args(["-threads", "1"]);
            folder.join(format!("{i:03}.mp4"))
        };
        run(command.arg(file))?;
    }
    Ok(())
}
