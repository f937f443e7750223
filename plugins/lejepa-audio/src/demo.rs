//! The built-in data: synthetic sounds of ten classes.

use std::f32::consts::TAU;

use lejepa_core::{Dataset, Decoded, Error, Labels, Purpose, Result, Seed, Split, ViewRng, Window};
use rand::RngExt;

use crate::waveform::Waveform;

/// Number of sounds, 100 of each class.
pub(crate) const ITEMS: usize = 1000;
/// Length of a sound in seconds.
const SECONDS: f32 = 2.0;
/// Every fifth sound of a class is held out.
const TEST_EVERY: usize = 5;

/// The classes of the label column `sound`.
///
/// Pitch, loudness, noise, onset and length have the same distribution in all classes, so that none of
/// them gives the class away.
pub const SOUNDS: [&str; 10] = [
    "tone",
    "square",
    "saw",
    "chirp-up",
    "chirp-down",
    "tremolo",
    "siren",
    "clicks",
    "noise-band",
    "pluck",
];

/// Sounds in noise, two seconds each, with the label column `sound` ([`SOUNDS`]).
pub(crate) struct Demo {
    rate: usize,
    labels: [Labels; 1],
}

impl Demo {
    /// At `rate` samples per second.
    pub(crate) fn new(rate: usize) -> Self {
        let ids = (0..ITEMS).map(|i| u32::try_from(i % SOUNDS.len()).ok()).collect();
        let classes = SOUNDS.map(str::to_string).to_vec();
        Self { rate, labels: [Labels::classes("sound", classes, ids)] }
    }
}

impl Dataset for Demo {
    type Item = Waveform;

    fn len(&self) -> usize {
        ITEMS
    }

    fn name(&self, index: usize) -> String {
        format!("demo sound {index} ({})", SOUNDS[index % SOUNDS.len()])
    }

    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Waveform>> {
        if index >= ITEMS {
            return Err(Error::sample(self.name(index), "no such item"));
        }
        let mut rng = Seed(0x0061_7564_696f).rng(Purpose::Demo, &[index as u64]);
        let wave = Waveform::new(render(index % SOUNDS.len(), self.rate as f32, &mut rng))?;
        Ok(wave.decoded(true))
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn split(&self, index: usize) -> Option<Split> {
        let held_out = (index / SOUNDS.len()) % TEST_EVERY == TEST_EVERY - 1;
        Some(if held_out { Split::Test } else { Split::Train })
    }
}

/// A sound of this class, at a random loudness, in noise.
fn render(kind: usize, rate: f32, rng: &mut ViewRng) -> Vec<f32> {
    let total = (SECONDS * rate) as usize;
    // At low rates high pitches and their overtones would exceed the Nyquist frequency.
    let highest = f32::min(1200.0, rate / 8.0);
    let pitch = 150.0 * (highest / 150.0).powf(rng.random::<f32>());
    let onset = (rng.random_range(0.0..0.3f32) * rate) as usize;
    let length = (rng.random_range(1.3..1.7f32) * rate) as usize;
    let loudness = 0.05 * 10f32.powf(rng.random_range(-0.5..0.5f32));
    let to_noise = 10f32.powf(rng.random_range(0.25..1.0f32));
    let dullness = rng.random_range(0.0..0.8f32);

    let mut sound = voice(kind, pitch, rate, length, rng);
    let ramp = 0.005 * rate;
    for (i, v) in sound.iter_mut().enumerate() {
        // Without a ramp every sound would begin and end with a click.
        let edge = (i + 1).min(length - i) as f32 / ramp;
        *v *= edge.min(1.0);
    }
    scale(&mut sound, loudness);
    let mut low = 0.0;
    let mut out: Vec<f32> = (0..total)
        .map(|_| {
            low = dullness * low + rng.random_range(-1.0..1.0f32);
            low
        })
        .collect();
    scale(&mut out, loudness / to_noise);
    for (v, s) in out.iter_mut().skip(onset).zip(&sound) {
        *v += s;
    }
    out
}

/// Scales samples to this root mean square.
fn scale(samples: &mut [f32], rms: f32) {
    let power = samples.iter().map(|v| v * v).sum::<f32>() / samples.len().max(1) as f32;
    let factor = rms / power.sqrt().max(1e-9);
    samples.iter_mut().for_each(|v| *v *= factor);
}

fn voice(kind: usize, pitch: f32, rate: f32, length: usize, rng: &mut ViewRng) -> Vec<f32> {
    let phase = rng.random_range(0.0..TAU);
    // Rate and depth of modulation.
    let pace = rng.random_range(3.0..8.0f32);
    let depth = rng.random::<f32>();
    let time = |i: usize| i as f32 / rate;
    let sine = |i: usize, hertz: f32| (phase + TAU * hertz * time(i)).sin();
    match SOUNDS[kind] {
        "tone" => (0..length).map(|i| sine(i, pitch)).collect(),
        "square" => harmonics(pitch, rate, length, 2),
        "saw" => harmonics(pitch, rate, length, 1),
        "chirp-up" | "chirp-down" => {
            let ratio = 1.8 + depth;
            let slope = if SOUNDS[kind] == "chirp-up" { 1.0 } else { -1.0 };
            let middle = |i: usize| i as f32 / length as f32 - 0.5;
            glide(rate, length, phase, |i| pitch * ratio.powf(slope * middle(i)))
        }
        "tremolo" => (0..length)
            .map(|i| sine(i, pitch) * (1.0 + (0.6 + 0.4 * depth) * (TAU * pace * time(i)).sin()))
            .collect(),
        "siren" => {
            let (pace, depth) = (pace / 2.0, 0.12 + 0.2 * depth);
            glide(rate, length, phase, |i| pitch * (1.0 + depth * (TAU * pace * time(i)).sin()))
        }
        "clicks" => {
            let every = (rate / (pace * 1.5)).max(1.0) as usize;
            let fade = 0.003 + 0.004 * depth;
            (0..length).map(|i| sine(i % every, pitch) * (-time(i % every) / fade).exp()).collect()
        }
        "noise-band" => {
            // A resonator at the pitch, driven by noise.
            let width = pitch * (0.1 + 0.2 * depth);
            let radius = (-std::f32::consts::PI * width / rate).exp();
            let (a, b) = (2.0 * radius * (TAU * pitch / rate).cos(), radius * radius);
            let (mut last, mut before) = (0.0, 0.0);
            (0..length)
                .map(|_| {
                    let next = rng.random_range(-1.0..1.0f32) + a * last - b * before;
                    (last, before) = (next, last);
                    next
                })
                .collect()
        }
        _ => {
            let every = (rate * 2.0 / pace).max(1.0) as usize;
            let fade = 0.08 + 0.1 * depth;
            let string = harmonics(pitch, rate, length, 1);
            // The overtones of a string decay faster than its fundamental.
            (0..length)
                .map(|i| {
                    let t = time(i % every);
                    string[i] * (-3.0 * t / fade).exp() + sine(i, pitch) * (-t / fade).exp()
                })
                .collect()
        }
    }
}

/// Every `step`-th harmonic of `pitch`, with amplitude one over its number. Harmonics above the Nyquist
/// frequency are left out, since they would alias.
fn harmonics(pitch: f32, rate: f32, length: usize, step: usize) -> Vec<f32> {
    let count = (0.45 * rate / pitch) as usize;
    let mut out = vec![0.0; length];
    for number in (1..=count.clamp(1, 24)).step_by(step) {
        let number = number as f32;
        for (i, v) in out.iter_mut().enumerate() {
            *v += (TAU * pitch * number * i as f32 / rate).sin() / number;
        }
    }
    out
}

/// A sine whose frequency in Hz at sample `i` is `hertz(i)`.
fn glide(rate: f32, length: usize, phase: f32, hertz: impl Fn(usize) -> f32) -> Vec<f32> {
    let mut phase = phase;
    (0..length)
        .map(|i| {
            phase = (phase + TAU * hertz(i) / rate) % TAU;
            phase.sin()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sounds_have_their_length_and_are_deterministic() {
        let demo = Demo::new(16000);
        let wave = demo.item(11, Window::Centre).unwrap();
        assert_eq!((wave.item.samples().len(), wave.bytes), (32000, 256_000));
        assert_eq!(wave, Demo::new(16000).item(11, Window::Centre).unwrap());
        assert_ne!(wave, demo.item(21, Window::Centre).unwrap());
        assert!(demo.item(ITEMS, Window::Centre).is_err());
        let low = Demo::new(2000).item(0, Window::Centre).unwrap();
        assert_eq!(low.item.samples().len(), 4000);
    }

    #[test]
    fn every_sound_is_finite_and_audible() {
        let demo = Demo::new(4000);
        assert_eq!(demo.len(), 1000);
        for index in 0..demo.len() {
            let wave = demo.item(index, Window::Centre).unwrap().item;
            let samples = wave.samples();
            let power = samples.iter().map(|v| v * v).sum::<f32>() / samples.len() as f32;
            assert!((0.005..0.3).contains(&power.sqrt()), "{}: {power}", demo.name(index));
        }
    }

    #[test]
    fn labels_are_balanced_and_split_apart() {
        let demo = Demo::new(16000);
        let [labels] = demo.labels() else { panic!("one column") };
        assert_eq!((labels.name.as_str(), labels.names().len()), ("sound", 10));
        for class in 0..10 {
            let of = |split| {
                (0..ITEMS)
                    .filter(|&i| labels.class(i) == Some(class) && demo.split(i) == Some(split))
                    .count()
            };
            assert_eq!((of(Split::Train), of(Split::Test)), (80, 20));
        }
    }
}
