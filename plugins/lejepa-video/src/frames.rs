//! Decoding of clips from folders of frames.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use lejepa_core::{Blob, Decoded, Facts, Window, has_extension};

use crate::clip::Clip;
use crate::decode::{FRAME, VIDEO};
use crate::limits::Limits;

/// Decodes a folder of frames.
pub(crate) fn folder(
    path: &Path,
    limits: Limits,
    mut window: Window<'_>,
) -> Result<Decoded<Clip>, String> {
    let all = frame_files(path).map_err(|e| e.to_string())?;
    let all = sequences(all);
    let mut remarks = Vec::new();
    if all.len() > 1 {
        remarks.push("a folder with frames of several clips, of which training takes any and evaluation the longest".to_string());
    }
    let is_alone = all.len() < 2;
    let files = chosen(all, &mut window);
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
    Ok(clip.decoded(is_alone && files.len() == count).with_facts(facts))
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
                || count >= 2 && matches!(&sequences(frames)[..], [all] if all.len() == count)
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

/// Runs of files whose names differ in their last number only, without a break in these numbers; files without
/// numbers are one run. Runs of less than a quarter of the longest, a cover for example, are left out.
fn sequences(files: Vec<PathBuf>) -> Vec<Vec<PathBuf>> {
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
    let mut runs: Vec<Vec<PathBuf>> = Vec::new();
    for (at, file) in files.into_iter().enumerate() {
        match runs.last_mut() {
            Some(run) if goes_on(&keys[at - 1], &keys[at]) => run.push(file),
            _ => runs.push(vec![file]),
        }
    }
    let longest = runs.iter().map(Vec::len).max().unwrap_or(0);
    runs.retain(|run| 4 * run.len() >= longest);
    runs
}

/// One of several clips: any, as often as it has frames, or the longest, the first of equal ones.
fn chosen(sequences: Vec<Vec<PathBuf>>, window: &mut Window<'_>) -> Vec<PathBuf> {
    let total = sequences.iter().map(Vec::len).sum();
    let mut at = match window {
        Window::Random(_) if sequences.len() > 1 => Some(window.start(total, 1)),
        _ => None,
    };
    let mut best = Vec::new();
    for sequence in sequences {
        match &mut at {
            Some(at) if *at < sequence.len() => return sequence,
            Some(at) => *at -= sequence.len(),
            None if sequence.len() > best.len() => best = sequence,
            None => {}
        }
    }
    best
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
mod tests {
    use super::*;
    use crate::decode::decode;
    use crate::decode::tests::{first_pixels, ramp_gif, write_frames};
    use image::GrayImage;
    use lejepa_core::{Purpose, Seed};
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { size: 16, max_frames: 64, rate: 0.0 };

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
            let files = chosen(sequences(names), &mut Window::Centre);
            files.iter().map(|p| file_name(p)).collect::<Vec<_>>()
        };
        assert_eq!(longest(&["a1.png", "a2.png", "b1.png", "b2.png", "b3.png"])[0], "b1.png");
        // Every fifth frame, one of them missing, is one clip; a jump is not.
        assert_eq!(longest(&["5.png", "10.png", "20.png", "25.png"]).len(), 4);
        assert_eq!(longest(&["1.png", "2.png", "3.png", "100.png", "101.png"]).len(), 3);
        assert_eq!(longest(&["x.png", "y.png"]).len(), 2);
        assert_eq!(longest(&["v2_001_l.png", "v2_002_l.png", "v2_002_r.png"]).len(), 2);
        assert!(longest(&[]).is_empty());
    }

    #[test]
    fn training_sees_every_clip_of_a_folder_and_evaluation_the_longest() {
        let d = tempfile::tempdir().unwrap();
        let frame = |name: &str, i: u8| format!("{name}{i}.png");
        for (name, count, grey) in [("a", 4, 10), ("b", 8, 100), ("cover", 1, 250)] {
            let names: Vec<_> = (0..count).map(|i| frame(name, i)).collect();
            let frames: Vec<_> = names.iter().map(|n| (n.as_str(), grey)).collect();
            write_frames(d.path(), &frames);
        }
        let blob = Blob::file(d.path());
        let centre = decode(&blob, LIMITS, Window::Centre).unwrap();
        assert_eq!((first_pixels(&centre.item), centre.is_whole), (vec![100; 8], false));
        assert!(centre.facts.remarks()[0].contains("several clips"));
        let greys: Vec<u8> = (0..60)
            .map(|i| {
                let mut rng = Seed(1).rng(Purpose::Views, &[i]);
                let clip = decode(&blob, LIMITS, Window::Random(&mut rng)).unwrap().item;
                let pixels = first_pixels(&clip);
                assert!(pixels.iter().all(|p| *p == pixels[0]), "clips are not mixed");
                pixels[0]
            })
            .collect();
        let of_a = greys.iter().filter(|g| **g == 10).count();
        assert!((8..32).contains(&of_a) && !greys.contains(&250), "{of_a} of 60, 20 expected");
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
