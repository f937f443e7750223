//! `environment`: synthetic sounds of fifteen kinds, tested as if recorded elsewhere.

mod events;
mod textures;

use crate::corpus::{Corpus, Failure, Row, Split};
use crate::parallel;
use crate::random::Random;
use crate::sound::{self, Filter, Pass, RATE, mix, rms, samples};

pub(crate) const ABOUT: &str =
    "3285 generated sounds of 15 kinds; those for testing as if from other rooms";

/// Makes so many samples of one kind of sound, at any level.
type Voice = fn(&mut Random, usize) -> Vec<f64>;

const CLASSES: [(&str, Voice); 15] = [
    ("rain", textures::rain),
    ("wind", textures::wind),
    ("engine", textures::engine),
    ("siren", textures::siren),
    ("birds", events::birds),
    ("crickets", textures::crickets),
    ("clock", events::clock),
    ("footsteps", events::footsteps),
    ("knocking", events::knocking),
    ("barking", events::barking),
    ("dripping", events::dripping),
    ("bell", events::bell),
    ("telephone", events::telephone),
    ("applause", textures::applause),
    ("drill", textures::drill),
];
const TRAIN_OF_EACH: usize = 175;
const TEST_OF_EACH: usize = 44;

pub(crate) fn make(corpus: &mut Corpus) -> Result<(), Failure> {
    let place: &Corpus = corpus;
    let rows = parallel::map(CLASSES.len() * (TRAIN_OF_EACH + TEST_OF_EACH), |index| {
        let (class, _) = CLASSES[index % CLASSES.len()];
        let split = Split::test_if(index / CLASSES.len() >= TRAIN_OF_EACH);
        let path = format!("clips/{index:04}.wav");
        sound::write(&place.place(&path)?, &clip(place.name(), index, split))?;
        Ok(Row { path, labels: vec![class.to_string()], split })
    })?;
    rows.into_iter().for_each(|row| corpus.push(row));
    Ok(())
}

fn clip(name: &str, index: usize, split: Split) -> Vec<f64> {
    let mut random = Random::new(name, index as u64);
    let length = samples(random.range(1.5, 4.0));
    let (_, voice) = CLASSES[index % CLASSES.len()];
    let mut clip = voice(&mut random, length);
    clip.resize(length, 0.0);
    sound::normalise(&mut clip);
    let level = match split {
        Split::Train => {
            background(&mut random, &mut clip, 30.0, 50.0);
            random.range(-12.0, -1.0)
        }
        Split::Test => {
            elsewhere(&mut random, &mut clip);
            random.range(-22.0, -3.0)
        }
    };
    sound::normalise(&mut clip);
    clip.iter_mut().for_each(|x| *x *= sound::gain(level));
    clip
}

/// Another recording: the echo of a room, a narrower band, more noise behind.
fn elsewhere(random: &mut Random, clip: &mut [f64]) {
    let dry = clip.to_vec();
    let (decay, wet) = (random.range(0.04, 0.14), random.range(0.15, 0.5));
    let echoes = samples(5.0 * decay) / 14;
    // Sparse echoes sound like dense ones and cost a hundredth.
    for i in 0..echoes {
        let delay = samples(0.003) + i * 14 + random.below(14);
        let time = delay as f64 / f64::from(RATE);
        mix(clip, delay, random.sign() * wet * (-time / decay).exp(), &dry);
    }
    Filter::new(Pass::Low, random.range(3500.0, 8000.0), 0.7).run(clip);
    Filter::new(Pass::High, random.range(60.0, 250.0), 0.7).run(clip);
    background(random, clip, 10.0, 25.0);
}

/// Adds noise of a random colour, this many decibels below the sound.
fn background(random: &mut Random, clip: &mut [f64], low: f64, high: f64) {
    let cutoff = random.log_range(400.0, 8000.0);
    let noise = sound::filtered(random, clip.len(), Pass::Low, cutoff, 0.6);
    let below = sound::gain(-random.range(low, high));
    let scale = below * rms(clip) / rms(&noise).max(1e-9);
    mix(clip, 0, scale, &noise);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_sounds_and_repeats() {
        for (index, (class, voice)) in CLASSES.into_iter().enumerate() {
            let bare = voice(&mut Random::new("t", index as u64), samples(2.0));
            assert!(bare.iter().all(|x| x.is_finite()), "{class}");
            for split in [Split::Train, Split::Test] {
                let one = clip("t", index, split);
                assert!(rms(&one) > 1e-3, "{class}: {}", rms(&one));
                assert_eq!(one, clip("t", index, split), "{class}");
            }
        }
    }
}
