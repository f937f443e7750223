//! `shapes`: ten kinds of figure, few of them labelled.

use std::f64::consts::TAU;

use crate::corpus::{Corpus, Failure, Split};
use crate::picture::{byte, write_rgb};
use crate::random::Random;

pub(crate) const ABOUT: &str =
    "8192 generated pictures of 10 shapes, 655 of them labelled for training";

const CLASSES: [&str; 10] = [
    "circle", "square", "triangle", "cross", "ring", "diamond", "flower", "stripes", "checker",
    "crescent",
];
const COUNT: u32 = 8192;
const TEST: usize = 1638;
const LABELLED: usize = 655;
const SIDE: u32 = 32;
const SEED: u32 = 0;

pub(crate) fn make(corpus: &mut Corpus) -> Result<(), Failure> {
    let mut order: Vec<u32> = (0..COUNT).collect();
    Random::new(corpus.name(), 0).shuffle(&mut order);
    let mut roles = vec![(Split::Train, false); COUNT as usize];
    for (place, index) in order.into_iter().enumerate() {
        roles[index as usize] = (Split::test_if(place < TEST), place < TEST + LABELLED);
    }
    for (index, (split, labelled)) in (0..COUNT).zip(roles) {
        let (class, pixels) = picture(index);
        let path = format!("pictures/{index:04}.png");
        write_rgb(&corpus.place(&path)?, SIDE, &pixels)?;
        corpus.add(path, &[if labelled { class } else { "" }], split);
    }
    Ok(())
}

/// The generator `mulberry32`: the protocol of this corpus fixes it.
struct Mulberry(u32);

impl Mulberry {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x6d2b_79f5);
        let mut t = self.0;
        t = (t ^ (t >> 15)).wrapping_mul(t | 1);
        t ^= t.wrapping_add((t ^ (t >> 7)).wrapping_mul(t | 61));
        f64::from(t ^ (t >> 14)) / 4_294_967_296.0
    }

    fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn colour(&mut self, low: f64, high: f64) -> [f64; 3] {
        std::array::from_fn(|_| self.range(low, high))
    }
}

/// Class and RGB bytes of picture `index`.
fn picture(index: u32) -> (&'static str, Vec<u8>) {
    let place = index.wrapping_mul(40503).wrapping_add(12345);
    let mut random = Mulberry(SEED.wrapping_mul(2_654_435_761).wrapping_add(place));
    let class = CLASSES[(random.unit() * CLASSES.len() as f64) as usize];
    let mut ground = random.colour(0.0, 0.45);
    let mut ink = random.colour(0.55, 1.0);
    if random.unit() < 0.5 {
        ground = ground.map(|c| 1.0 - c);
        ink = ink.map(|c| 1.0 - c);
    }
    let (x0, y0) = (random.range(-0.18, 0.18), random.range(-0.18, 0.18));
    let figure = Figure {
        class,
        radius: random.range(0.2, 0.34),
        rotation: random.range(0.0, TAU).sin_cos(),
        phase: random.range(0.0, TAU),
    };
    let amplitude = random.range(0.0, 0.08);
    let mut pixels = Vec::with_capacity((SIDE * SIDE * 3) as usize);
    let at = |i: u32| (f64::from(i) + 0.5) / f64::from(SIDE) - 0.5;
    for (row, column) in (0..SIDE).flat_map(|row| (0..SIDE).map(move |column| (row, column))) {
        let inside = figure.contains(at(column) - x0, at(row) - y0);
        let noise = random.range(-amplitude, amplitude);
        let colour = if inside { ink } else { ground };
        pixels.extend(colour.map(|c| byte(c + noise)));
    }
    (class, pixels)
}

struct Figure {
    class: &'static str,
    radius: f64,
    /// Sine and cosine of the angle.
    rotation: (f64, f64),
    phase: f64,
}

impl Figure {
    /// Whether a point, relative to the centre, is inked.
    fn contains(&self, x: f64, y: f64) -> bool {
        let (r, phase, (sin, cos)) = (self.radius, self.phase, self.rotation);
        let (u, v) = (cos * x + sin * y, cos * y - sin * x);
        let rho = u.hypot(v);
        let box_norm = u.abs().max(v.abs());
        match self.class {
            "circle" => rho < r,
            "square" => box_norm < 0.85 * r,
            "triangle" => v < 0.6 * r && v > -0.9 * r + 1.9 * u.abs(),
            "cross" => box_norm < r && u.abs().min(v.abs()) < 0.32 * r,
            "ring" => rho > 0.55 * r && rho < r,
            "diamond" => u.abs() + v.abs() < r,
            "flower" => rho < r * (0.6 + 0.4 * (5.0 * v.atan2(u)).cos()),
            "stripes" => box_norm < r && (40.0 * u + phase).sin() > 0.0,
            "checker" => box_norm < r && (30.0 * u + phase).sin() * (30.0 * v + phase).sin() > 0.0,
            _ => rho < r && (u - 0.45 * r).hypot(v) > 0.8 * r,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_mulberry32() {
        // Known values of the generator for the seed 1.
        let mut random = Mulberry(1);
        assert_eq!((random.unit() * 4_294_967_296.0) as u32, 2_693_262_067);
        assert_eq!((random.unit() * 4_294_967_296.0) as u32, 11_749_833);
    }

    #[test]
    fn pictures_repeat_and_classes_are_even() {
        assert_eq!(picture(5), picture(5));
        assert_ne!(picture(5).1, picture(6).1);
        for class in CLASSES {
            let n = (0..2000).filter(|&i| picture(i).0 == class).count();
            assert!((140..260).contains(&n), "{class}: {n}");
        }
    }
}
