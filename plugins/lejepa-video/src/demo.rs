//! The built-in data: moving handwritten digits, rendered on the fly.

use std::f32::consts::TAU;

use lejepa_core::{Dataset, Decoded, Error, Labels, Purpose, Result, Seed, Split, ViewRng, Window};
use lejepa_image::{Digit, Picture};
use rand::RngExt;

use crate::clip::Clip;

/// Number of clips, 100 of each motion.
pub(crate) const CLIPS: usize = 800;
/// Frames of a clip.
pub(crate) const FRAMES: usize = 16;
/// Height and width of a clip in pixels.
pub(crate) const SIZE: usize = 32;

/// Settings for the demo: clips are grey, a flip would reverse directions of motion, and views need most
/// of a clip to show its motion. Two CPU cores train it in a few minutes.
pub(crate) const RECIPE: &str = "
[train]
epochs = 40.0
lr = 0.002

[objective]
lambda = 0.1

[encoder]
name = 'convnet'
width = 16

[video]
channels = 1
flip = 0.0
same_span = true
locals = 2
local_frames = 8
local_size = 24
global_scale = [0.8, 1.0]
local_scale = [0.5, 1.0]
# Mean and standard deviation of the demo's pixels.
mean = [0.145, 0.145, 0.145]
std = [0.13, 0.13, 0.13]
";

/// The classes of the label column `motion`.
///
/// A single frame rarely reveals the class: positions have the same distribution in all of them, and only
/// `zoom` and `spin` exceed the sizes and tilts of the others.
pub const MOTIONS: [&str; 8] = [
    "horizontal",
    "vertical",
    "diagonal",
    "clockwise",
    "counter-clockwise",
    "zoom",
    "spin",
    "shake",
];

/// Every fifth clip of a motion is held out.
const TEST_EVERY: usize = 5;

/// Grey clips of [`FRAMES`] frames with the label columns `motion` ([`MOTIONS`]) and `digit` (0 to 9).
/// Held-out clips show digits that no training clip shows.
pub(crate) struct Demo {
    labels: [Labels; 2],
    /// The digit of each clip.
    digits: Vec<&'static Digit>,
}

impl Demo {
    pub(crate) fn new() -> Self {
        let digits: Vec<_> = (0..CLIPS).map(pick).collect();
        let motions = (0..CLIPS).map(|i| u32::try_from(i % MOTIONS.len()).ok()).collect();
        let labels = [
            Labels::classes("motion", MOTIONS.map(str::to_string).to_vec(), motions),
            Labels::classes(
                "digit",
                (0..10).map(|d| d.to_string()).collect(),
                digits.iter().map(|d| Some(u32::from(d.label))).collect(),
            ),
        ];
        Self { labels, digits }
    }
}

fn split_of(index: usize) -> Split {
    if (index / MOTIONS.len()) % TEST_EVERY == TEST_EVERY - 1 { Split::Test } else { Split::Train }
}

fn stream(index: usize, part: u64) -> ViewRng {
    Seed(0x0076_6964_656f).rng(Purpose::Demo, &[index as u64, part])
}

fn pick(index: usize) -> &'static Digit {
    let all = lejepa_image::digits();
    let (train, test) = all.split_at(all.len() * (TEST_EVERY - 1) / TEST_EVERY);
    let pool = if split_of(index) == Split::Test { test } else { train };
    &pool[stream(index, 0).random_range(0..pool.len())]
}

impl Dataset for Demo {
    type Item = Clip;

    fn len(&self) -> usize {
        CLIPS
    }

    fn name(&self, index: usize) -> String {
        let motion = MOTIONS[index % MOTIONS.len()];
        match self.digits.get(index) {
            Some(digit) => format!("demo clip {index} (digit {}, {motion})", digit.label),
            None => format!("demo clip {index}"),
        }
    }

    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Clip>> {
        let Some(digit) = self.digits.get(index) else {
            return Err(Error::sample(self.name(index), "no such item"));
        };
        Ok(render(digit, index % MOTIONS.len(), &mut stream(index, 1))?.decoded(true))
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn split(&self, index: usize) -> Option<Split> {
        Some(split_of(index))
    }
}

/// The digit in one frame: its displacement in pixels, its size as a factor, its tilt in radians.
struct Pose {
    x: f32,
    y: f32,
    zoom: f32,
    tilt: f32,
}

fn render(digit: &Digit, motion: usize, rng: &mut ViewRng) -> Result<Clip> {
    let centre = SIZE as f32 / 2.0;
    let home = [0; 2].map(|_| centre - 0.5 + rng.random_range(-2.5..2.5f32));
    let pixels_per_cell = rng.random_range(1.5..2.1f32);
    let tilt = rng.random_range(-0.25..0.25f32);
    let amplitude = rng.random_range(4.0..6.5f32);
    let period = rng.random_range(8.0..14.0f32);
    let start = rng.random_range(0.0..TAU);
    let side = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
    let (paper, ink) = (rng.random_range(0.0..50.0f32), rng.random_range(110.0..205.0f32));
    let noise = rng.random_range(2.0..14.0f32);
    let mut frames = Vec::with_capacity(FRAMES);
    for t in 0..FRAMES {
        let mut pixels = Vec::with_capacity(SIZE * SIZE);
        let phase = start + TAU * t as f32 / period;
        let shake = [0; 2].map(|_| rng.random_range(-0.6..0.6f32));
        let unit = pose(motion, phase, side, shake);
        let place = [home[0] + amplitude * unit.x, home[1] + amplitude * unit.y];
        let (sin, cos) = (tilt + unit.tilt).sin_cos();
        let cells = 1.0 / (pixels_per_cell * unit.zoom);
        for y in 0..SIZE {
            for x in 0..SIZE {
                let (dx, dy) = ((x as f32 - place[0]) * cells, (y as f32 - place[1]) * cells);
                let (u, v) = (cos * dx + sin * dy + 3.5, cos * dy - sin * dx + 3.5);
                let value = paper + ink * shade(digit, u, v) + noise * rng.random_range(-1.0..1.0);
                pixels.push(value.clamp(0.0, 255.0) as u8);
            }
        }
        frames.extend(Picture::new(SIZE, SIZE, 1, pixels));
    }
    Clip::new(frames)
}

/// The pose of a motion, with displacements in units of its amplitude. The y axis points down, so that
/// increasing angles go clockwise.
fn pose(motion: usize, phase: f32, side: f32, shake: [f32; 2]) -> Pose {
    let rest = Pose { x: 0.0, y: 0.0, zoom: 1.0, tilt: 0.0 };
    let (sin, cos) = phase.sin_cos();
    match motion {
        0 => Pose { x: sin, ..rest },
        1 => Pose { y: sin, ..rest },
        2 => Pose { x: 0.75 * sin, y: 0.75 * side * sin, ..rest },
        3 => Pose { x: cos, y: sin, ..rest },
        4 => Pose { x: cos, y: -sin, ..rest },
        5 => Pose { zoom: 1.0 + 0.4 * sin, ..rest },
        6 => Pose { tilt: side * phase, ..rest },
        _ => Pose { x: shake[0], y: shake[1], ..rest },
    }
}

/// Ink from 0 to 1 at column `u` and row `v` of the digit, by bilinear interpolation.
fn shade(digit: &Digit, u: f32, v: f32) -> f32 {
    if !(-1.0..8.0).contains(&u) || !(-1.0..8.0).contains(&v) {
        return 0.0;
    }
    let (left, top) = (u.floor(), v.floor());
    let (right, down) = (u - left, v - top);
    let cell = |dx: f32, dy: f32| {
        let (x, y) = (left + dx, top + dy);
        let inside = (0.0..8.0).contains(&x) && (0.0..8.0).contains(&y);
        if inside { f32::from(digit.pixels[y as usize * 8 + x as usize]) } else { 0.0 }
    };
    let upper = cell(0.0, 0.0) * (1.0 - right) + cell(1.0, 0.0) * right;
    let lower = cell(0.0, 1.0) * (1.0 - right) + cell(1.0, 1.0) * right;
    (upper * (1.0 - down) + lower * down) / 16.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_have_their_shape_and_are_deterministic() {
        let demo = Demo::new();
        assert_eq!(demo.len(), CLIPS);
        let clip = demo.item(11, Window::Centre).unwrap().item;
        assert_eq!((clip.frames().len(), clip.height(), clip.width()), (FRAMES, SIZE, SIZE));
        assert!(clip.frames().iter().all(|frame| frame.channels() == 1));
        assert_eq!(clip, Demo::new().item(11, Window::Centre).unwrap().item);
        assert_ne!(clip, demo.item(19, Window::Centre).unwrap().item);
        assert!(demo.item(CLIPS, Window::Centre).is_err());
    }

    #[test]
    fn labels_are_balanced_and_split_apart() {
        let demo = Demo::new();
        let [motion, digit] = demo.labels() else { panic!("two columns") };
        assert_eq!([motion.name.as_str(), digit.name.as_str()], ["motion", "digit"]);
        for class in 0..8 {
            let of = |split| {
                (0..CLIPS)
                    .filter(|&i| motion.class(i) == Some(class) && demo.split(i) == Some(split))
                    .count()
            };
            assert_eq!((of(Split::Train), of(Split::Test)), (80, 20));
        }
        for class in 0..10 {
            assert!(
                (0..digit.len()).filter(|&i| digit.class(i) == Some(class)).count() > 40,
                "{class}"
            );
        }
        let shown = |split| {
            (0..CLIPS).filter(move |&i| split_of(i) == split).map(|i| std::ptr::from_ref(pick(i)))
        };
        let test: Vec<_> = shown(Split::Test).collect();
        assert!(shown(Split::Train).all(|d| !test.contains(&d)));
    }

    /// The centre of brightness of each frame.
    fn path(clip: &Clip) -> Vec<(f32, f32)> {
        clip.frames()
            .iter()
            .map(|frame| {
                let floor = frame.pixels().iter().copied().map(f32::from).sum::<f32>() / 1024.0;
                let (mut sum, mut x, mut y) = (1e-6, 0.0, 0.0);
                for (i, &v) in frame.pixels().iter().enumerate() {
                    let v = (f32::from(v) - floor - 30.0).max(0.0);
                    sum += v;
                    x += v * (i % SIZE) as f32;
                    y += v * (i / SIZE) as f32;
                }
                (x / sum, y / sum)
            })
            .collect()
    }

    #[test]
    fn motions_are_what_they_are_called() {
        let demo = Demo::new();
        for index in 0..80 {
            let path = path(&demo.item(index, Window::Centre).unwrap().item);
            let range = |of: fn(&(f32, f32)) -> f32| {
                let all = || path.iter().map(of);
                all().fold(f32::MIN, f32::max) - all().fold(f32::MAX, f32::min)
            };
            let (across, down) = (range(|p| p.0), range(|p| p.1));
            // Twice the signed area that the path encloses; positive is clockwise on a screen.
            let turn: f32 = path.windows(2).map(|w| w[0].0 * w[1].1 - w[1].0 * w[0].1).sum::<f32>()
                + path[15].0 * path[0].1
                - path[0].0 * path[15].1;
            let what = format!("clip {index}: across {across}, down {down}, turn {turn}");
            match MOTIONS[index % 8] {
                "horizontal" => assert!(across > 5.0 && down < 3.0, "{what}"),
                "vertical" => assert!(down > 5.0 && across < 3.0, "{what}"),
                "diagonal" => assert!(down > 3.0 && across > 3.0 && turn.abs() < 40.0, "{what}"),
                "clockwise" => assert!(turn > 40.0, "{what}"),
                "counter-clockwise" => assert!(turn < -40.0, "{what}"),
                "zoom" | "spin" => assert!(across < 5.0 && down < 5.0, "{what}"),
                _ => assert!(across > 1.5 && down > 1.5, "{what}"),
            }
        }
    }
}
