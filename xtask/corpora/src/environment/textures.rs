//! Sounds that go on.

use std::f64::consts::TAU;

use crate::random::Random;
use crate::sound::{
    Filter, Pass, RATE, curve, filtered, mix, noise, normalise, phases, samples, struck,
};

/// A hiss and many small drops.
pub(super) fn rain(random: &mut Random, length: usize) -> Vec<f64> {
    let cutoff = random.log_range(700.0, 2500.0);
    let mut sound = filtered(random, length, Pass::High, cutoff, 0.6);
    let top = random.log_range(5000.0, 10_000.0);
    Filter::new(Pass::Low, top, 0.6).run(&mut sound);
    let depth = random.range(0.5, 1.0);
    let swell = curve(random, length, 0.8, depth, 1.0);
    sound.iter_mut().zip(swell).for_each(|(x, level)| *x *= 0.4 * level);
    let drops = random.log_range(40.0, 300.0) * length as f64 / f64::from(RATE);
    let pitch = random.log_range(1500.0, 4000.0);
    for _ in 0..drops as usize {
        let decay = random.log_range(0.0008, 0.006);
        let frequency = pitch * random.log_range(0.6, 1.7);
        let drop = burst(random, Pass::Band, frequency, 1.5, decay);
        let at = random.below(length);
        mix(&mut sound, at, random.unit().powi(2) * 2.0, &drop);
    }
    sound
}

/// Low noise that swells, its tone rising with its strength.
pub(super) fn wind(random: &mut Random, length: usize) -> Vec<f64> {
    let rate = random.log_range(0.4, 2.0);
    let gusts = curve(random, length, rate, 0.1, 1.0);
    let (base, span) = (random.log_range(100.0, 300.0), random.log_range(200.0, 900.0));
    let q = random.range(0.7, 3.0);
    let (mut low, mut whistle) =
        (Filter::new(Pass::Low, base, q), Filter::new(Pass::Low, base, 0.7));
    let hiss = |(i, gust): (usize, f64)| {
        if i % 64 == 0 {
            low.tune(Pass::Low, base + span * gust, q);
            whistle.tune(Pass::Low, 2.5 * (base + span * gust), 0.7);
        }
        gust * whistle.step(low.step(random.noise()))
    };
    gusts.into_iter().enumerate().map(hiss).collect()
}

/// Pulses of a motor, uneven and through its exhaust, with a changing number of turns.
pub(super) fn engine(random: &mut Random, length: usize) -> Vec<f64> {
    let base = random.log_range(22.0, 110.0);
    let rise = random.range(1.0, 1.7);
    let turns = curve(random, length, 0.7, base, base * rise);
    let cylinders = 2 + random.below(3);
    let firing: Vec<f64> = (0..cylinders).map(|_| random.range(0.5, 1.0)).collect();
    let sharp = random.log_range(3.0, 12.0);
    let rough = curve(random, length, 60.0, 0.6, 1.0);
    let mut last = 0.0;
    let mut stroke = 0;
    let mut sound = Vec::with_capacity(length);
    for (phase, rough) in phases(turns).zip(rough) {
        if phase < last {
            stroke = (stroke + 1) % cylinders;
        }
        last = phase;
        let pulse = (-sharp * phase / TAU).exp() - (1.0 - (-sharp).exp()) / sharp;
        sound.push(firing[stroke] * rough * (pulse + 0.12 * random.noise()));
    }
    let exhaust = random.log_range(120.0, 500.0);
    let mut body = sound.clone();
    Filter::new(Pass::Band, exhaust, random.range(0.8, 2.5)).run(&mut body);
    Filter::new(Pass::Low, random.log_range(600.0, 3000.0), 0.7).run(&mut sound);
    mix(&mut sound, 0, 1.5, &body);
    sound
}

/// A wail, a yelp or two tones in turn.
pub(super) fn siren(random: &mut Random, length: usize) -> Vec<f64> {
    let low = random.log_range(400.0, 800.0);
    let high = low * random.range(1.3, 2.4);
    let kind = random.below(3);
    let rate = match kind {
        0 => random.log_range(0.25, 0.9),
        1 => random.log_range(2.5, 5.5),
        _ => random.log_range(0.8, 2.0),
    };
    let start = random.unit();
    let frequency = |i: usize| {
        let turn = (i as f64 / f64::from(RATE) * rate + start).fract();
        let part = match kind {
            0 => 0.5 - 0.5 * (TAU * turn).cos(),
            1 => turn,
            _ => f64::from(turn < 0.5),
        };
        low * (high / low).powf(part)
    };
    let bright = random.range(0.1, 0.7);
    let tone = |phase: f64| {
        phase.sin() + bright * (2.0 * phase).sin() + bright * bright * (3.0 * phase).sin()
    };
    let shake = curve(random, length, 4.0, 0.7, 1.0);
    phases((0..length).map(frequency)).map(tone).zip(shake).map(|(x, level)| x * level).collect()
}

/// High tones that pulse in groups, from one insect or several.
pub(super) fn crickets(random: &mut Random, length: usize) -> Vec<f64> {
    let mut sound = vec![0.0; length];
    for _ in 0..1 + random.below(4) {
        let pitch = random.log_range(2800.0, 6000.0);
        let rate = random.log_range(18.0, 55.0);
        let group = random.log_range(0.8, 4.0);
        let (share, start) = (random.range(0.3, 1.0), random.unit());
        let wobble = curve(random, length, 5.0, 0.99, 1.01);
        let tone: Vec<f64> = phases(wobble.into_iter().map(|w| w * pitch))
            .enumerate()
            .map(|(i, phase)| {
                let time = i as f64 / f64::from(RATE);
                let pulse = (0.5 - 0.5 * (TAU * rate * time).cos()).powi(2);
                let on = f64::from((time * group + start).fract() < share);
                phase.sin() * pulse * on
            })
            .collect();
        mix(&mut sound, 0, random.range(0.2, 1.0), &tone);
    }
    sound
}

/// Many pairs of hands, each with its own tone and beat.
pub(super) fn applause(random: &mut Random, length: usize) -> Vec<f64> {
    let mut sound = vec![0.0; length];
    let people = random.log_range(12.0, 80.0) as usize;
    for _ in 0..people {
        let pitch = random.log_range(500.0, 2600.0);
        let beat = 1.0 / random.range(2.5, 5.5);
        let level = random.unit().powi(2) + 0.1;
        let decay = random.log_range(0.003, 0.015);
        let mut time = random.range(0.0, beat);
        while samples(time) < length {
            let frequency = pitch * random.range(0.85, 1.15);
            let clap = burst(random, Pass::Band, frequency, 1.2, decay);
            mix(&mut sound, samples(time), level * random.range(0.6, 1.0), &clap);
            time += beat * random.range(0.8, 1.2);
        }
    }
    let swell = curve(random, length, 0.7, 0.4, 1.0);
    sound.iter_mut().zip(swell).for_each(|(x, level)| *x *= level);
    sound
}

/// A motor's whine and the noise of what it bites into, with changing load.
pub(super) fn drill(random: &mut Random, length: usize) -> Vec<f64> {
    let rate = random.log_range(0.7, 3.0);
    let load = curve(random, length, rate, 0.0, 1.0);
    let base = random.log_range(120.0, 450.0);
    let drop = random.range(0.1, 0.4);
    let bright = random.range(0.5, 0.9);
    let grain = random.log_range(1500.0, 5000.0);
    let rough = filtered(random, length, Pass::Band, grain, 0.8);
    let hum = noise(random, length);
    let whine = phases(load.iter().map(|load| base * (1.0 - drop * load)));
    let mix_of = random.range(0.6, 2.5);
    let mut sound: Vec<f64> = whine
        .zip(&load)
        .zip(rough.iter().zip(&hum))
        .map(|((phase, load), (rough, hum))| {
            let partials = (1..12).map(|k| {
                let k = f64::from(k);
                bright.powf(k) * (k * phase).sin()
            });
            let teeth = (0.5 + 0.5 * phase.cos()).powi(3);
            partials.sum::<f64>() + mix_of * load * teeth * (2.0 * rough + 0.2 * hum)
        })
        .collect();
    Filter::new(Pass::High, random.log_range(100.0, 400.0), 0.7).run(&mut sound);
    sound
}

/// Noise that is struck, then decays; its peak is 1.
pub(super) fn burst(
    random: &mut Random,
    pass: Pass,
    frequency: f64,
    q: f64,
    decay: f64,
) -> Vec<f64> {
    let mut sound: Vec<f64> = struck(decay).map(|level| level * random.noise()).collect();
    Filter::new(pass, frequency, q).run(&mut sound);
    normalise(&mut sound);
    sound
}
