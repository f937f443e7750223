//! `reversed`: films in pairs of classes, one being the other played backwards.
//!
//! Both classes of a pair have the same single frames, so only their order tells them apart.

use std::f64::consts::TAU;

use crate::corpus::{Corpus, Failure, Row, Split};
use crate::film::{self, FRAMES, SIDE, Scene};
use crate::parallel;
use crate::random::Random;

pub(crate) const ABOUT: &str =
    "1500 films in 3 pairs of classes, each the other reversed; needs ffmpeg";

/// An event, and what it is called when played backwards.
const PAIRS: [[&str; 2]; 3] =
    [["accelerate", "decelerate"], ["flash", "swell"], ["split", "merge"]];
/// Films of each class, and how many of them are for testing.
const OF_EACH: usize = 250;
const TEST_OF_EACH: usize = 50;

pub(crate) fn make(corpus: &mut Corpus) -> Result<(), Failure> {
    let place: &Corpus = corpus;
    let rows = parallel::map(2 * PAIRS.len() * OF_EACH, |index| {
        let (pair, backwards) = (index / 2 % PAIRS.len(), index % 2);
        let mut random = Random::new(place.name(), index as u64);
        let mut frames = forwards(&mut random, PAIRS[pair][0]);
        if backwards == 1 {
            frames.reverse();
        }
        let path = format!("films/{index:04}.mp4");
        film::write(&place.place(&path)?, &frames)?;
        let split = Split::test_if(index / 2 / PAIRS.len() < TEST_OF_EACH);
        Ok(Row { path, labels: vec![PAIRS[pair][backwards].into()], split })
    })?;
    rows.into_iter().for_each(|row| corpus.push(row));
    Ok(())
}

/// A figure that is drawn once or more in a frame.
#[derive(Debug, Clone, Copy)]
struct Figure {
    kind: usize,
    radius: f64,
    /// Sine and cosine of the angle.
    rotation: (f64, f64),
}

impl Figure {
    fn random(random: &mut Random, low: f64, high: f64) -> Self {
        Self {
            kind: random.below(4),
            radius: random.range(low, high),
            rotation: random.range(0.0, TAU).sin_cos(),
        }
    }

    /// How much of a point, relative to the figure's centre, is covered; edges are soft.
    fn cover(self, x: f64, y: f64) -> f64 {
        let ((sin, cos), r) = (self.rotation, self.radius);
        let (u, v) = (cos * x + sin * y, cos * y - sin * x);
        let depth = match self.kind {
            0 => r - u.hypot(v),
            1 => 0.85 * r - u.abs().max(v.abs()),
            2 => 0.3 * r - (u.hypot(v) - 0.75 * r).abs(),
            _ => (r - u.abs().max(v.abs())).min(0.35 * r - u.abs().min(v.abs())),
        };
        depth + 0.5
    }
}

/// Where a figure is, and how opaque.
type Mark = (f64, f64, f64);

/// The frames of an event in its natural order.
fn forwards(random: &mut Random, event: &str) -> Vec<Vec<u8>> {
    let scene = Scene::random(random);
    let figure = match event {
        "split" => Figure::random(random, 6.0, 10.0),
        _ => Figure::random(random, 7.0, 14.0),
    };
    let marks = match event {
        "accelerate" => accelerate(random),
        "flash" => flash(random),
        _ => split(random, figure.radius),
    };
    let cover = |marks: &[Mark], x: f64, y: f64| {
        let one = |&(at_x, at_y, opaque): &Mark| {
            opaque * figure.cover(x - at_x, y - at_y).clamp(0.0, 1.0)
        };
        marks.iter().map(one).fold(0.0, f64::max)
    };
    marks.iter().map(|marks| scene.frame(random, |x, y| cover(marks, x, y))).collect()
}

/// The time of each frame, 0 to 1, when the event rests before and after. Both rests are drawn alike,
/// so that their lengths say nothing of the direction.
fn times(random: &mut Random) -> Vec<f64> {
    let (before, after) = (random.below(5) as f64, random.below(5) as f64);
    let moving = (FRAMES - 1) as f64 - before - after;
    (0..FRAMES).map(|i| ((i as f64 - before) / moving).clamp(0.0, 1.0)).collect()
}

const MIDDLE: f64 = SIDE as f64 / 2.0;

/// From rest, in any direction.
fn accelerate(random: &mut Random) -> Vec<Vec<Mark>> {
    let (sin, cos) = random.range(0.0, TAU).sin_cos();
    let (way, power) = (random.range(20.0, 38.0), random.range(2.0, 3.5));
    let (x, y) = (MIDDLE + random.range(-6.0, 6.0), MIDDLE + random.range(-6.0, 6.0));
    let at = |time: f64| {
        let along = way * (time.powf(power) - 0.5);
        vec![(x + cos * along, y + sin * along, 1.0)]
    };
    times(random).into_iter().map(at).collect()
}

/// Lights up at once and fades slowly, while drifting.
fn flash(random: &mut Random) -> Vec<Vec<Mark>> {
    let (rise, decay) = (random.range(0.06, 0.15), random.range(2.5, 5.0));
    let mut around = |by: f64| random.range(-by, by);
    let (x, y) = (MIDDLE + around(14.0), MIDDLE + around(14.0));
    let (drift_x, drift_y) = (around(8.0), around(8.0));
    let at = |time: f64| {
        let fading = ((rise - time).min(0.0) * decay).exp();
        // Reaches nothing at the end, whatever the decay.
        let opaque = (time / rise).min(1.0) * fading * (1.0 - time.powi(8));
        vec![(x + drift_x * (time - 0.5), y + drift_y * (time - 0.5), opaque)]
    };
    times(random).into_iter().map(at).collect()
}

/// Two figures, one on the other, shoot apart and come to rest.
fn split(random: &mut Random, radius: f64) -> Vec<Vec<Mark>> {
    let (sin, cos) = random.range(0.0, TAU).sin_cos();
    let reach = random.range(1.1 * radius, 20.0);
    let power = random.range(2.0, 3.5);
    let (x, y) = (MIDDLE + random.range(-6.0, 6.0), MIDDLE + random.range(-6.0, 6.0));
    let at = |time: f64| {
        let along = reach * (1.0 - (1.0 - time).powf(power));
        vec![(x + cos * along, y + sin * along, 1.0), (x - cos * along, y - sin * along, 1.0)]
    };
    times(random).into_iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_not_symmetric_in_time() {
        for marks in [accelerate, flash].map(|event| event(&mut Random::new("t", 1))) {
            let step = |i: usize| {
                let (a, b) = (marks[i][0], marks[i + 1][0]);
                (b.0 - a.0).hypot(b.1 - a.1) + (b.2 - a.2).abs()
            };
            let (first, last): (f64, f64) = ((0..12).map(step).sum(), (11..23).map(step).sum());
            assert!(first.max(last) > 1.3 * first.min(last), "{first} {last}");
        }
    }

    #[test]
    fn films_repeat_and_are_whole() {
        for [event, _] in PAIRS {
            let frames = forwards(&mut Random::new("t", 5), event);
            assert_eq!(frames.len(), FRAMES);
            assert!(frames.iter().all(|frame| frame.len() == SIDE * SIDE * 3));
            assert_eq!(frames, forwards(&mut Random::new("t", 5), event));
        }
    }
}
