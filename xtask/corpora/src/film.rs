//! Short films: figures over a smooth ground, written as H.264.

use std::f64::consts::TAU;
use std::path::Path;
use std::process::Command;

use crate::corpus::Failure;
use crate::picture::byte;
use crate::program::run;
use crate::random::Random;

/// Width and height in pixels.
pub(crate) const SIDE: usize = 64;
/// Frames of a film.
pub(crate) const FRAMES: usize = 24;

type Colour = [f64; 3];

/// What all frames of a film share: a coloured ground with slow changes of tone, an ink that stands
/// out from it, the strength of the noise.
pub(crate) struct Scene {
    ground: Vec<Colour>,
    ink: Colour,
    noise: f64,
}

impl Scene {
    pub(crate) fn random(random: &mut Random) -> Self {
        let mut base: Colour = std::array::from_fn(|_| random.range(0.05, 0.4));
        let mut ink: Colour = std::array::from_fn(|_| random.range(0.65, 1.0));
        if random.chance(0.5) {
            (base, ink) = (base.map(|c| 1.0 - c), ink.map(|c| 1.0 - c));
        }
        // Waves no shorter than two thirds of the picture.
        let waves: Vec<Wave> = (0..4).map(|_| Wave::random(random)).collect();
        let mut ground = vec![base; SIDE * SIDE];
        for (at, pixel) in ground.iter_mut().enumerate() {
            for wave in &waves {
                wave.add((at % SIDE) as f64, (at / SIDE) as f64, pixel);
            }
        }
        Self { ground, ink, noise: random.range(0.0, 0.06) }
    }

    /// The bytes of one frame, given how much ink covers each point (x to the right, y down, in
    /// pixels), 0 to 1.
    pub(crate) fn frame(&self, random: &mut Random, cover: impl Fn(f64, f64) -> f64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SIDE * SIDE * 3);
        for (at, ground) in self.ground.iter().enumerate() {
            let cover = cover((at % SIDE) as f64 + 0.5, (at / SIDE) as f64 + 0.5).clamp(0.0, 1.0);
            let noise = self.noise * random.noise();
            bytes.extend(
                ground.iter().zip(self.ink).map(|(&g, ink)| byte(g + cover * (ink - g) + noise)),
            );
        }
        bytes
    }
}

/// A change of tone over the ground.
struct Wave {
    across: f64,
    down: f64,
    phase: f64,
    tint: Colour,
}

impl Wave {
    fn random(random: &mut Random) -> Self {
        let rate = TAU / random.range(0.7 * SIDE as f64, 2.0 * SIDE as f64);
        let (down, across) = random.range(0.0, TAU).sin_cos();
        Self {
            across: rate * across,
            down: rate * down,
            phase: random.range(0.0, TAU),
            tint: std::array::from_fn(|_| random.range(-0.06, 0.06)),
        }
    }

    fn add(&self, x: f64, y: f64, pixel: &mut Colour) {
        let level = (self.across * x + self.down * y + self.phase).sin();
        for (channel, tint) in pixel.iter_mut().zip(self.tint) {
            *channel += level * tint;
        }
    }
}

/// Writes frames of RGB bytes as a film of 25 frames a second.
///
/// One thread, and no name of the encoder in the file: the same frames give the same bytes.
pub(crate) fn write(file: &Path, frames: &[Vec<u8>]) -> Result<(), Failure> {
    let size = format!("{SIDE}x{SIDE}");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]);
    command.args(["-s", &size, "-r", "25", "-i", "pipe:0", "-an", "-c:v", "libx264"]);
    command.args(["-pix_fmt", "yuv420p", "-preset", "veryfast", "-crf", "20", "-g", "12"]);
    command.args(["-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]);
    command.arg(file);
    run(&mut command, &frames.concat()).map(|_| ())
}
