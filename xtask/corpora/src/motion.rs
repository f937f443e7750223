//! `motion`: films of a moving digit, labelled by the motion and by the digit.

use crate::corpus::{Corpus, Failure, Row, Split};
use crate::film::{self, FRAMES, SIDE, Scene};
use crate::parallel;
use crate::random::Random;

pub(crate) const ABOUT: &str = "2400 films of moving digits, 8 motions; needs ffmpeg";

const MOTIONS: [&str; 8] =
    ["left", "right", "up", "down", "clockwise", "counter-clockwise", "grow", "shrink"];
const DIGITS: usize = 10;
/// Films of each motion of each digit, and how many of them are for testing.
const OF_EACH: usize = 30;
const TEST_OF_EACH: usize = 6;
/// Every fifth writing of a digit is kept for testing.
const TEST_EVERY: usize = 5;

/// 8×8 levels of ink, 0 to 16.
type Digit = [u8; 64];

pub(crate) fn make(corpus: &mut Corpus) -> Result<(), Failure> {
    corpus.columns(&["motion", "digit"]);
    let digits = digits();
    if digits.iter().any(|of| of.len() < TEST_EVERY) {
        return Err("the file of digits is not as expected".to_string().into());
    }
    let place: &Corpus = corpus;
    let rows = parallel::map(MOTIONS.len() * DIGITS * OF_EACH, |index| {
        let motion = index % MOTIONS.len();
        let digit = index / MOTIONS.len() % DIGITS;
        let split = Split::test_if(index / MOTIONS.len() / DIGITS < TEST_OF_EACH);
        let mut random = Random::new(place.name(), index as u64);
        let is_test = |i: usize| i.is_multiple_of(TEST_EVERY) == (split == Split::Test);
        let writings: Vec<&Digit> =
            digits[digit].iter().enumerate().filter(|(i, _)| is_test(*i)).map(|(_, d)| d).collect();
        let writing = *random.pick(&writings);
        let frames = film(&mut random, MOTIONS[motion], writing);
        let path = format!("films/{index:04}.mp4");
        film::write(&place.place(&path)?, &frames)?;
        Ok(Row { path, labels: vec![MOTIONS[motion].into(), digit.to_string()], split })
    })?;
    rows.into_iter().for_each(|row| corpus.push(row));
    Ok(())
}

/// The writings of each digit.
fn digits() -> Vec<Vec<Digit>> {
    let mut digits = vec![Vec::new(); DIGITS];
    for line in include_str!("../../../plugins/lejepa-image/src/optdigits.csv").lines() {
        let mut numbers = line.split(',').filter_map(|word| word.trim().parse::<u8>().ok());
        let (label, levels) = (numbers.next(), numbers.collect::<Vec<u8>>());
        if let (Some(label), Ok(levels)) = (label, Digit::try_from(levels))
            && let Some(of) = digits.get_mut(usize::from(label))
        {
            of.push(levels);
        }
    }
    digits
}

/// Where the digit is in one frame.
#[derive(Debug, Clone, Copy)]
struct Pose {
    x: f64,
    y: f64,
    angle: f64,
    size: f64,
}

/// The frames of a film. All that is not the motion named is drawn the same way for every motion,
/// so that neither the first nor the last frame alone says which way things went.
fn film(random: &mut Random, motion: &str, digit: &Digit) -> Vec<Vec<u8>> {
    let scene = Scene::random(random);
    let path = Path::random(random, motion);
    let pose = |i: usize| path.pose(i as f64 / (FRAMES - 1) as f64);
    (0..FRAMES).map(|i| scene.frame(random, cover(digit, pose(i)))).collect()
}

/// A pose halfway, the change over the whole film, and how evenly it passes.
struct Path {
    middle: Pose,
    change: Pose,
    ease: f64,
}

impl Path {
    fn random(random: &mut Random, motion: &str) -> Self {
        let size = random.range(20.0, 32.0);
        let turn = random.range(0.7, 2.6);
        let stretch = random.log_range(1.5, 2.3).ln();
        let drift = |random: &mut Random| random.range(-2.0, 2.0);
        let mut change = Pose { x: drift(random), y: drift(random), angle: 0.0, size: 0.0 };
        let room = SIDE as f64 - 0.7 * size;
        let way = random.range(12.0, 34.0).min(room);
        match motion {
            "left" => change.x = -way,
            "right" => change.x = way,
            "up" => change.y = -way,
            "down" => change.y = way,
            "clockwise" => change.angle = turn,
            "counter-clockwise" => change.angle = -turn,
            "grow" => change.size = stretch,
            _ => change.size = -stretch,
        }
        let mut within = |way: f64| {
            let free = (room - way.abs()) / 2.0;
            SIDE as f64 / 2.0 + random.range(-free, free)
        };
        let (x, y) = (within(change.x), within(change.y));
        let middle = Pose { x, y, angle: random.range(-0.3, 0.3), size: size.ln() };
        Self { middle, change, ease: random.range(-0.6, 0.6) }
    }

    /// The pose at `time`, 0 to 1.
    fn pose(&self, time: f64) -> Pose {
        let turn = std::f64::consts::TAU;
        let part = time + self.ease * (turn * time).sin() / turn - 0.5;
        let at = |middle: f64, change: f64| middle + change * part;
        Pose {
            x: at(self.middle.x, self.change.x),
            y: at(self.middle.y, self.change.y),
            angle: at(self.middle.angle, self.change.angle),
            size: at(self.middle.size, self.change.size).exp(),
        }
    }
}

/// How much of the digit's ink is at a point of the picture.
fn cover(digit: &Digit, pose: Pose) -> impl Fn(f64, f64) -> f64 {
    let (sin, cos) = pose.angle.sin_cos();
    let scale = 8.0 / pose.size;
    move |x, y| {
        let (x, y) = (x - pose.x, y - pose.y);
        let across = (cos * x + sin * y) * scale + 3.5;
        let down = (cos * y - sin * x) * scale + 3.5;
        // A little more than linear, so that strokes have a core of full ink.
        1.3 * level(digit, across, down)
    }
}

/// The level at a point between the pixels of a digit, 0 to 1; there is no ink outside.
fn level(digit: &Digit, across: f64, down: f64) -> f64 {
    let (column, row) = (across.floor(), down.floor());
    let (right, below) = (across - column, down - row);
    let at = |row: f64, column: f64| {
        let inside = (0.0..8.0).contains(&row) && (0.0..8.0).contains(&column);
        if inside { f64::from(digit[(row * 8.0 + column) as usize]) / 16.0 } else { 0.0 }
    };
    let above = at(row, column) * (1.0 - right) + at(row, column + 1.0) * right;
    let under = at(row + 1.0, column) * (1.0 - right) + at(row + 1.0, column + 1.0) * right;
    above * (1.0 - below) + under * below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_has_writings_for_both_splits() {
        let digits = digits();
        assert_eq!(digits.iter().map(Vec::len).sum::<usize>(), 1797);
        assert!(digits.iter().all(|of| of.len() > 150));
    }

    #[test]
    fn motions_go_where_their_names_say() {
        let change = |motion| {
            let path = Path::random(&mut Random::new("t", 3), motion);
            let (first, last) = (path.pose(0.0), path.pose(1.0));
            [last.x - first.x, last.y - first.y, last.angle - first.angle, last.size - first.size]
        };
        assert!(change("left")[0] < -10.0 && change("right")[0] > 10.0);
        assert!(change("up")[1] < -10.0 && change("down")[1] > 10.0);
        // The picture's y points down, so a growing angle turns clockwise on the screen.
        assert!(change("clockwise")[2] > 0.5 && change("counter-clockwise")[2] < -0.5);
        assert!(change("grow")[3] > 5.0 && change("shrink")[3] < -5.0);
    }

    #[test]
    fn films_repeat() {
        let digit = digits()[4][0];
        let make = || film(&mut Random::new("t", 9), "up", &digit);
        assert_eq!(make(), make());
    }
}
