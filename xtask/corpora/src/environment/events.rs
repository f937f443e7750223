//! Sounds that come one by one.

use std::f64::consts::TAU;

use super::textures::burst;
use crate::random::Random;
use crate::sound::{Filter, Pass, RATE, curve, mix, normalise, phases, samples, struck};

/// Phrases of quick high glides.
pub(super) fn birds(random: &mut Random, length: usize) -> Vec<f64> {
    let mut sound = vec![0.0; length];
    let base = random.log_range(2000.0, 5000.0);
    let glide = random.sign() * random.range(0.1, 0.6);
    let (duration, gap) = (random.log_range(0.04, 0.2), random.log_range(0.02, 0.2));
    let warble = random.range(0.0, 0.15);
    let notes = 2 + random.below(6);
    let mut time = random.range(0.0, 0.4);
    while samples(time) < length {
        for note in 0..notes {
            let pitch = base * random.log_range(0.85, 1.18);
            let (n, steps) = (samples(duration), note as f64 / notes as f64);
            let frequency = (0..n).map(|i| {
                let part = i as f64 / n as f64;
                let shake = 1.0 + warble * (TAU * 4.0 * part).sin();
                pitch * (1.0 + glide * (part - 0.5) + 0.15 * steps) * shake
            });
            let hump = |i: usize| (std::f64::consts::PI * i as f64 / n as f64).sin().powi(2);
            let chirp: Vec<f64> =
                phases(frequency).enumerate().map(|(i, phase)| hump(i) * phase.sin()).collect();
            mix(&mut sound, samples(time), random.range(0.5, 1.0), &chirp);
            time += duration + gap * random.range(0.7, 1.3);
        }
        time += random.log_range(0.2, 1.0);
    }
    sound
}

/// Even ticks, often of two kinds in turn.
pub(super) fn clock(random: &mut Random, length: usize) -> Vec<f64> {
    let beat: f64 = 1.0 / *random.pick(&[1.0, 2.0, 2.5, 4.0, 5.0]);
    let pitch = random.log_range(1200.0, 5000.0);
    let other = pitch * random.range(0.7, 1.3);
    let decay = random.log_range(0.002, 0.01);
    let (q, echo) = (random.range(2.0, 8.0), random.range(0.0, 0.5));
    let ticks = [pitch, other].map(|frequency| {
        let mut tick = burst(random, Pass::Band, frequency, q, decay);
        let second = tick.clone();
        tick.resize(tick.len() + samples(0.02), 0.0);
        mix(&mut tick, samples(0.015), echo, &second);
        tick
    });
    let mut sound = vec![0.0; length];
    let start = random.range(0.0, beat.min(0.5));
    for i in 0.. {
        let at = samples(start + i as f64 * beat);
        if at >= length {
            break;
        }
        mix(&mut sound, at, random.range(0.9, 1.0), &ticks[i % 2]);
    }
    sound
}

/// Thuds with a scuff after each, nearly even.
pub(super) fn footsteps(random: &mut Random, length: usize) -> Vec<f64> {
    let mut sound = vec![0.0; length];
    let pace = 1.0 / random.range(1.4, 3.0);
    let thud = random.log_range(60.0, 220.0);
    let scuff = random.log_range(800.0, 5000.0);
    let grit = random.range(0.1, 0.9);
    let mut time = random.range(0.0, pace);
    while samples(time) < length {
        let (tone, decay) = (thud * random.range(0.9, 1.1), random.range(0.02, 0.05));
        let heel = burst(random, Pass::Low, tone, 1.5, decay);
        mix(&mut sound, samples(time), random.range(0.7, 1.0), &heel);
        let (tone, decay) = (scuff * random.range(0.8, 1.2), random.range(0.01, 0.05));
        let sole = burst(random, Pass::Band, tone, 0.7, decay);
        let after = random.range(0.03, 0.09);
        mix(&mut sound, samples(time + after), grit * random.range(0.5, 1.0), &sole);
        time += pace * random.range(0.93, 1.07);
    }
    sound
}

/// Groups of quick knocks on something that rings shortly.
pub(super) fn knocking(random: &mut Random, length: usize) -> Vec<f64> {
    let mut sound = vec![0.0; length];
    let body = random.log_range(130.0, 600.0);
    let modes: [(f64, f64); 4] = std::array::from_fn(|k| {
        (body * (1.0 + k as f64 * random.range(0.6, 1.3)), random.range(0.3, 1.0))
    });
    let decay = random.log_range(0.015, 0.06);
    let beat = 1.0 / random.range(3.0, 8.0);
    let mut time = random.range(0.0, 0.5);
    while samples(time) < length {
        for _ in 0..2 + random.below(5) {
            let mut knock = burst(random, Pass::Band, 3.0 * body, 0.7, 0.003);
            knock.resize(samples(7.0 * decay), 0.0);
            for (frequency, level) in modes {
                let ring = ring(frequency, decay);
                mix(&mut knock, 0, level, &ring);
            }
            mix(&mut sound, samples(time), random.range(0.6, 1.0), &knock);
            time += beat * random.range(0.9, 1.1);
        }
        time += random.range(0.4, 1.2);
    }
    sound
}

/// Short cries of a rough voice through a muzzle.
pub(super) fn barking(random: &mut Random, length: usize) -> Vec<f64> {
    let mut sound = vec![0.0; length];
    let pitch = random.log_range(180.0, 750.0);
    let formants = [random.log_range(500.0, 1100.0), random.log_range(1300.0, 2600.0)];
    let (duration, breath) = (random.log_range(0.09, 0.28), random.range(0.05, 0.5));
    let mut time = random.range(0.0, 0.4);
    while samples(time) < length {
        let n = samples(duration * random.range(0.85, 1.15));
        let base = pitch * random.range(0.92, 1.08);
        let jitter = curve(random, n, 90.0, 0.95, 1.05);
        let frequency = jitter.into_iter().enumerate().map(|(i, jitter)| {
            let part = i as f64 / n as f64;
            // Up at first, then down.
            base * jitter * (0.75 + 1.6 * part * (-3.0 * part).exp() * 1.6)
        });
        let voice: Vec<f64> = phases(frequency)
            .enumerate()
            .map(|(i, phase)| {
                let part = i as f64 / n as f64;
                let envelope = (part / 0.08).min(1.0) * (1.0 - part).powf(1.3);
                envelope * (1.0 - phase / std::f64::consts::PI + breath * random.noise())
            })
            .collect();
        let mut bark = vec![0.0; n];
        for (frequency, level) in formants.into_iter().zip([1.0, 0.6]) {
            let mut part = voice.clone();
            Filter::new(Pass::Band, frequency, 3.0).run(&mut part);
            mix(&mut bark, 0, level, &part);
        }
        mix(&mut bark, 0, 0.2, &voice);
        mix(&mut sound, samples(time), random.range(0.6, 1.0), &bark);
        time += duration + random.log_range(0.12, 0.8);
    }
    sound
}

/// Bubbles whose tone rises as they close.
pub(super) fn dripping(random: &mut Random, length: usize) -> Vec<f64> {
    let mut sound = vec![0.0; length];
    let pitch = random.log_range(500.0, 1800.0);
    let gap = 1.0 / random.log_range(1.0, 7.0);
    let even = random.range(0.05, 0.6);
    let mut time = random.range(0.0, 0.4);
    while samples(time) < length {
        let decay = random.log_range(0.012, 0.05);
        let base = pitch * random.log_range(0.75, 1.35);
        let rise = random.range(2.0, 14.0);
        let envelope: Vec<f64> = struck(decay).collect();
        let frequency =
            (0..envelope.len()).map(|i| base * (1.0 + rise * i as f64 / f64::from(RATE)));
        let drop: Vec<f64> =
            phases(frequency).zip(&envelope).map(|(phase, level)| level * phase.sin()).collect();
        mix(&mut sound, samples(time), random.range(0.4, 1.0), &drop);
        let splash = burst(random, Pass::High, 3000.0, 0.7, 0.004);
        mix(&mut sound, samples(time), random.range(0.0, 0.2), &splash);
        time += gap * random.range(1.0 - even, 1.0 + even);
    }
    sound
}

/// Strokes on metal: partials that are no multiples of one tone, the high ones dying first.
pub(super) fn bell(random: &mut Random, length: usize) -> Vec<f64> {
    let mut sound = vec![0.0; length];
    let base = random.log_range(180.0, 1300.0);
    let decay = random.log_range(0.3, 2.0);
    let detune = random.range(0.97, 1.03);
    let partials: Vec<(f64, f64, f64)> = [0.5, 1.0, 1.19, 1.5, 2.0, 2.52, 2.66, 3.01, 4.17, 5.43]
        .iter()
        .map(|ratio| {
            let ratio = ratio * if random.chance(0.5) { detune } else { 1.0 };
            (base * ratio, random.range(0.2, 1.0) / ratio.sqrt(), decay / ratio.powf(0.8))
        })
        .collect();
    let mut stroke = vec![0.0; length];
    for (frequency, level, decay) in partials {
        mix(&mut stroke, 0, level, &ring(frequency, decay));
    }
    let mut time = random.range(0.0, 0.3);
    let gap = random.log_range(0.5, 3.0);
    while samples(time) < length {
        mix(&mut sound, samples(time), random.range(0.7, 1.0), &stroke);
        time += gap * random.range(0.95, 1.05);
    }
    sound
}

/// A ringing telephone: two tones at once or in turn, switched on and off.
pub(super) fn telephone(random: &mut Random, length: usize) -> Vec<f64> {
    let low = random.log_range(420.0, 1500.0);
    let high = low * random.range(1.1, 1.45);
    let trill = random.range(10.0, 26.0);
    let in_turn = random.chance(0.6);
    let (on, off) = (random.range(0.4, 1.5), random.range(0.2, 1.0));
    let start = random.range(0.0, on);
    let bright = random.range(0.0, 0.6);
    let wave = |phase: f64| phase.sin() + bright * (3.0 * phase).sin() / 2.0;
    let tones =
        phases(std::iter::repeat_n(low, length)).zip(phases(std::iter::repeat_n(high, length)));
    let ringing = tones.enumerate().map(|(i, (first, second))| {
        let time = i as f64 / f64::from(RATE);
        let beat = (TAU * trill * time).sin();
        let tone = match (in_turn, beat > 0.0) {
            (true, true) => wave(first),
            (true, false) => wave(second),
            // A hammer between two gongs.
            (false, _) => (wave(first) + wave(second)) * (0.55 + 0.45 * beat),
        };
        if (time + start) % (on + off) < on { tone } else { 0.0 }
    });
    let mut sound: Vec<f64> = ringing.collect();
    Filter::new(Pass::Low, random.log_range(2500.0, 7000.0), 0.7).run(&mut sound);
    normalise(&mut sound);
    sound
}

/// A tone that is struck and decays.
fn ring(frequency: f64, decay: f64) -> Vec<f64> {
    let envelope: Vec<f64> = struck(decay).collect();
    let phases = phases(std::iter::repeat_n(frequency, envelope.len()));
    phases.zip(envelope).map(|(phase, level)| level * phase.sin()).collect()
}
