//! The built-in data: things that bounce, and are heard when they hit the ground.

use std::f32::consts::TAU;

use lejepa_audio::Waveform;
use lejepa_core::{Dataset, Decoded, Error, Labels, Purpose, Result, Seed, Split, ViewRng, Window};
use lejepa_image::Picture;
use lejepa_video::Clip;
use rand::RngExt;

use crate::sample::Film;

/// Number of films, and every which one is held out.
const FILMS: usize = 1200;
const TEST_EVERY: usize = 6;
/// Height and width of a frame in pixels.
const SIDE: usize = 32;
/// Frames per second, and seconds of a film.
const RATE: usize = 16;
const SECONDS: usize = 2;

/// What bounces, the classes of the label column `thing`. Each has a timbre of its own.
pub(crate) const THINGS: [&str; 5] = ["ball", "box", "ring", "bar", "star"];

/// Views of most of a film: what is seen and heard in common is size and pitch, thing and timbre, and how often it bounces.
pub(crate) const RECIPE: &str = "
[train]
epochs = 40.0
lr = 0.002
batch = 64

[objective]
lambda = 0.05

[projector]
output = 32

[encoder.picture]
name = 'convnet'
width = 16

[encoder.sound]
name = 'convnet'
head = 'frequency'

[film.picture]
channels = 1
globals = 1
locals = 1
frames = 8
local_frames = 8
global_size = 32
local_size = 32
stride = [2, 2]
size = 32
global_scale = [0.8, 1.0]
local_scale = [0.6, 1.0]
# Mean and standard deviation of the demo's pixels.
mean = [0.3, 0.3, 0.3]
std = [0.18, 0.18, 0.18]

[film.sound]
n_fft = 1024
hop = 320
globals = 1
locals = 1
global_frames = 96
local_frames = 64
band_scale = [1.0, 1.0]
# Mean and standard deviation of the demo's log-mel values.
mean = -3.0
std = 2.6
";

/// Grey films of two seconds with sound.
pub(crate) struct Demo {
    /// Samples of sound per second.
    rate: usize,
    labels: [Labels; 1],
}

impl Demo {
    pub(crate) fn new(rate: usize) -> Self {
        let ids = (0..FILMS).map(|i| u32::try_from(i % THINGS.len()).ok()).collect();
        Self { rate, labels: [Labels::classes("thing", THINGS.map(String::from).to_vec(), ids)] }
    }
}

impl Dataset for Demo {
    type Item = Film;

    fn len(&self) -> usize {
        FILMS
    }

    fn name(&self, index: usize) -> String {
        format!("demo film {index} ({})", THINGS[index % THINGS.len()])
    }

    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Film>> {
        if index >= FILMS {
            return Err(Error::sample(self.name(index), "no such item"));
        }
        let mut rng = Seed(0x0066_696c_6d00).rng(Purpose::Demo, &[index as u64]);
        let scene = Scene::random(index % THINGS.len(), &mut rng);
        let film = Film::new(scene.picture(&mut rng)?, scene.sound(self.rate, &mut rng)?);
        let bytes = film.bytes();
        Ok(Decoded::whole(film, bytes))
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn split(&self, index: usize) -> Option<Split> {
        let is_test = (index / THINGS.len()) % TEST_EVERY == TEST_EVERY - 1;
        Some(if is_test { Split::Test } else { Split::Train })
    }
}

/// What is seen and heard.
struct Scene {
    thing: usize,
    /// Radius in pixels, 3 to 8; the larger, the lower it sounds.
    radius: f32,
    /// Bounces per second, and the share of one that has passed at the start.
    bounces: f32,
    phase: f32,
    /// Height of a bounce in pixels.
    height: f32,
}

impl Scene {
    fn random(thing: usize, rng: &mut ViewRng) -> Self {
        Self {
            thing,
            radius: 3.0 * (8.0f32 / 3.0).powf(rng.random()),
            bounces: 0.75 * 4f32.powf(rng.random()),
            phase: rng.random(),
            height: rng.random_range(6.0..14.0),
        }
    }

    /// How far into a bounce the thing is, from 0 to 1.
    fn fraction(&self, time: f32) -> f32 {
        (self.phase + self.bounces * time).fract()
    }

    /// 200 to 1,600 Hz.
    fn pitch(&self) -> f32 {
        1600.0 * (3.0 / self.radius).powf(2.12)
    }

    fn picture(&self, rng: &mut ViewRng) -> Result<Clip> {
        let (paper, ink) = (rng.random_range(20.0..80.0f32), rng.random_range(70.0..150.0f32));
        let noise = rng.random_range(2.0..12.0f32);
        let middle = SIDE as f32 / 2.0;
        let at = rng.random_range(middle - 5.0..middle + 5.0);
        let drift = rng.random_range(-2.0..2.0f32);
        let ground = SIDE as f32 - 2.0;
        let mut frames = Vec::with_capacity(RATE * SECONDS);
        for t in 0..RATE * SECONDS {
            let time = t as f32 / RATE as f32;
            let u = self.fraction(time);
            let (x, y) =
                (at + drift * time, ground - self.radius - self.height * 4.0 * u * (1.0 - u));
            let mut pixels = Vec::with_capacity(SIDE * SIDE);
            for i in 0..SIDE * SIDE {
                let (dx, dy) = ((i % SIDE) as f32 - x, (i / SIDE) as f32 - y);
                let inside = (0.5 - self.outside(dx, dy)).clamp(0.0, 1.0);
                let floor = if (i / SIDE) as f32 >= ground { 0.4 } else { 0.0 };
                let value = paper + ink * inside.max(floor) + noise * rng.random_range(-1.0..1.0);
                pixels.push(value.clamp(0.0, 255.0) as u8);
            }
            frames.extend(Picture::new(SIDE, SIDE, 1, pixels));
        }
        Clip::new(frames)
    }

    /// The distance from the thing's outline in pixels, below 0 inside.
    fn outside(&self, dx: f32, dy: f32) -> f32 {
        let (radius, far) = (self.radius, dx.hypot(dy));
        match self.thing {
            0 => far - radius,
            1 => dx.abs().max(dy.abs()) - 0.85 * radius,
            2 => (far - 0.75 * radius).abs() - 0.25 * radius,
            3 => (dx.abs() - radius).max(dy.abs() - 0.35 * radius),
            _ => far - radius * (0.65 + 0.35 * (5.0 * dy.atan2(dx)).cos()),
        }
    }

    fn sound(&self, rate: usize, rng: &mut ViewRng) -> Result<Waveform> {
        let loudness = 0.1 * 10f32.powf(rng.random_range(-0.5..0.5f32));
        let hiss = loudness * 10f32.powf(rng.random_range(-2.0..-1.0f32));
        // At low rates high pitches would exceed the Nyquist frequency.
        let pitch = self.pitch().min(rate as f32 / 8.0);
        let mut band = [0f32; 2];
        let samples = (0..rate * SECONDS).map(|i| {
            let time = i as f32 / rate as f32;
            // Since the last time it hit the ground.
            let since = self.fraction(time) / self.bounces;
            let cycles = pitch * time;
            let (turn, part) = (TAU * cycles, cycles.fract());
            let white = rng.random_range(-1.0..1.0f32);
            let voice = match self.thing {
                0 => turn.sin(),
                1 => {
                    if part < 0.5 {
                        0.7
                    } else {
                        -0.7
                    }
                }
                // Partials of a bell.
                2 => 0.4 * (turn.sin() + (2.76 * turn).sin() + (5.4 * turn).sin()),
                3 => {
                    // Noise through a resonance at the pitch.
                    let turn = TAU * pitch / rate as f32;
                    let next = 1.9 * turn.cos() * band[0] - 0.9025 * band[1] + 0.3 * white;
                    band = [next, band[0]];
                    next
                }
                _ => 2.0 * part - 1.0,
            };
            loudness * voice * (-7.0 * since).exp() * (200.0 * since).min(1.0)
                + hiss * rng.random_range(-1.0..1.0f32)
        });
        Waveform::new(samples.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn films_are_deterministic_and_split_apart() {
        let demo = Demo::new(8000);
        let film = demo.item(7, Window::Centre).unwrap().item;
        assert_eq!(film, Demo::new(8000).item(7, Window::Centre).unwrap().item);
        assert_ne!(film, demo.item(12, Window::Centre).unwrap().item);
        assert_eq!((film.picture.frames().len(), film.sound.samples().len()), (32, 16000));
        assert!(demo.item(FILMS, Window::Centre).is_err());
        let held_out = (0..FILMS).filter(|i| demo.split(*i) == Some(Split::Test)).count();
        assert_eq!(held_out, FILMS / TEST_EVERY);
    }

    /// The moments at which the picture shows the thing on the ground are those at which the sound rises.
    #[test]
    fn what_is_seen_is_heard() {
        let mut rng = Seed(3).rng(Purpose::Demo, &[]);
        for thing in 0..THINGS.len() {
            let scene = Scene { bounces: 1.0, phase: 0.5, ..Scene::random(thing, &mut rng) };
            let clip = scene.picture(&mut rng).unwrap();
            let sound = scene.sound(8000, &mut rng).unwrap();
            // Bright rows above the ground, from the top.
            let height = |t: usize| {
                let pixels = clip.frame(t).pixels().to_vec();
                let of = |row: usize| pixels[row * SIDE..(row + 1) * SIDE].iter().max().copied();
                (0..SIDE - 3).max_by_key(|row| of(*row)).unwrap()
            };
            assert!(height(8) > height(0), "{thing}: it falls until it hits the ground");
            let power = |from: usize| -> f32 {
                sound.samples()[from..from + 800].iter().map(|v| v * v).sum()
            };
            assert!(power(4000) > 4.0 * power(3000), "{thing}: {} {}", power(4000), power(3000));
        }
    }
}
