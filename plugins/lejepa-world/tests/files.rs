//! Episodes in folders.

use std::path::Path;

use lejepa_core::{LabelKind, Purpose, Seed, Split};
use lejepa_world::TwoRooms;

mod common;
use common::open;

/// Episodes of an agent that goes right, as folders of PNGs with actions and places.
fn write(dir: &Path, episodes: usize, frames: usize) {
    for episode in 0..episodes {
        let folder = dir.join(format!("episode-{episode:02}"));
        std::fs::create_dir_all(&folder).unwrap();
        let mut place = TwoRooms { x: 0.1, y: 0.05 + 0.9 * episode as f32 / episodes as f32 };
        let mut table = String::from("right,down,value_x\n");
        for frame in 0..frames {
            let planes = place.frame();
            let picture = image::RgbImage::from_fn(32, 32, |x, y| {
                let at = (y * 32 + x) as usize;
                image::Rgb([planes[at], planes[1024 + at], planes[2048 + at]])
            });
            picture.save(folder.join(format!("{frame:03}.png"))).unwrap();
            let action = match frame + 1 == frames {
                true => ",".to_string(),
                false => "0.5,0".into(),
            };
            table += &format!("{action},{}\n", place.x);
            place.act([0.5, 0.0]);
        }
        std::fs::write(folder.join("actions.csv"), table).unwrap();
    }
}

#[test]
fn a_sample_is_a_frame_with_those_around_it() {
    let d = tempfile::tempdir().unwrap();
    write(d.path(), 20, 9);
    let source = open(d.path(), "window = 4").unwrap();
    assert_eq!(source.len(), 20 * 9);
    assert!(source.name(10).ends_with("episode-01#1"), "{}", source.name(10));
    let [x] = source.labels() else { panic!("one column") };
    assert_eq!((x.name.as_str(), x.kind()), ("x", LabelKind::Numbers));
    assert!((x.number(1).unwrap() - 0.14).abs() < 1e-6);
    // Whole episodes are held out.
    let held_out: Vec<usize> = (0..180).filter(|&i| source.split(i) == Some(Split::Test)).collect();
    assert_eq!(held_out, (81..90).chain(171..180).collect::<Vec<_>>());
    let mut rng = Seed(0).rng(Purpose::Views, &[]);
    let views = source.checked_views(2, &[], &mut rng).unwrap();
    assert_eq!(views.context("actions"), Some(&[0.5, 0.0, 0.5, 0.0, 0.5, 0.0][..]));
    // Every window holds the frame, at an episode's ends too.
    for frame in [0, 2, 8] {
        let shown = source.checked_eval_views(frame).unwrap();
        for _ in 0..10 {
            let views = source.checked_views(frame, &[], &mut rng).unwrap();
            assert_eq!(views.iter().filter(|view| view.data() == shown[0].data()).count(), 1);
        }
    }
}

#[test]
fn what_is_wrong_with_an_episode_is_said() {
    let says = |change: fn(&Path), settings: &str| {
        let d = tempfile::tempdir().unwrap();
        write(d.path(), 2, 8);
        change(&d.path().join("episode-01"));
        match open(d.path(), settings) {
            Err(error) => error.to_string(),
            Ok(source) => source.checked_eval_views(8).map_or_else(
                |e| e.to_string(),
                |_| {
                    let mut rng = Seed(0).rng(Purpose::Views, &[]);
                    source
                        .checked_views(8, &[], &mut rng)
                        .map_or_else(|e| e.to_string(), |_| String::new())
                },
            ),
        }
    };
    for (change, settings, reason) in [
        ((|_| {}) as fn(&Path), "", ""),
        (|_| {}, "actions = 3", "actions of 2 numbers, and world.actions is 3"),
        (|_| {}, "window = 9", "has 8 frames, and world.window is 9"),
        (|dir| std::fs::remove_file(dir.join("004.png")).unwrap(), "", "7 images, but 8 rows"),
        (|dir| std::fs::write(dir.join("003.png"), "x").unwrap(), "", "003.png"),
        (
            |dir| std::fs::write(dir.join("actions.csv"), "a,b\n1,2\n1,left\n").unwrap(),
            "",
            "line 3: `left` is no number",
        ),
    ] {
        let said = says(change, settings);
        assert!(said.contains(reason) && said.is_empty() == reason.is_empty(), "{reason}: {said}");
    }
}
