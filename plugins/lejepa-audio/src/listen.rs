//! Spectrograms made audible.

use std::f32::consts::TAU;

use lejepa_core::{Purpose, Seed, ViewRng};
use rand::RngExt;
use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

use crate::mel::LogMel;

/// Iterations of the search for phases; more are hardly heard.
const ITERATIONS: usize = 32;
/// Momentum of the search (Perraudin et al., doi 10.1109/WASPAA.2013.6701851).
const MOMENTUM: f32 = 0.99;
/// The largest sample of the result.
const PEAK: f32 = 0.5;

/// Samples whose spectrogram is near `power`, `[frames, bands]`: magnitudes are those of the bands, and phases are
/// found by Griffin and Lim's algorithm (doi 10.1109/TASSP.1984.1164317).
pub(crate) fn listen(mel: &LogMel, power: &[f32]) -> Vec<f32> {
    let magnitudes: Vec<f32> =
        power.chunks_exact(mel.bands()).flat_map(|frame| mel.magnitudes(frame)).collect();
    let (window, hop) = (mel.window(), mel.hop());
    let mut rng: ViewRng = Seed(0).rng(Purpose::Demo, &[]);
    let turned = |m: &f32| Complex::from_polar(*m, TAU * rng.random::<f32>());
    let mut spectrum: Vec<Complex<f32>> = magnitudes.iter().map(turned).collect();
    let mut last = spectrum.clone();
    let mut samples = inverse(&spectrum, window, hop);
    for _ in 0..ITERATIONS {
        let seen = forward(&samples, window, hop);
        for (((z, before), now), magnitude) in
            spectrum.iter_mut().zip(&mut last).zip(&seen).zip(&magnitudes)
        {
            let ahead = *now + (*now - *before) * MOMENTUM;
            *z = ahead * (magnitude / ahead.norm().max(1e-9));
            *before = *now;
        }
        samples = inverse(&spectrum, window, hop);
    }
    let most = samples.iter().fold(0f32, |most, v| most.max(v.abs()));
    let scale = if most > 0.0 { PEAK / most } else { 0.0 };
    samples.iter_mut().for_each(|v| *v *= scale);
    samples
}

/// The transform of each frame, one after the other.
fn forward(samples: &[f32], window: &[f32], hop: usize) -> Vec<Complex<f32>> {
    let fft = RealFftPlanner::new().plan_fft_forward(window.len());
    let (mut input, mut output) = (fft.make_input_vec(), fft.make_output_vec());
    let mut all = Vec::new();
    for frame in samples.windows(window.len()).step_by(hop) {
        for ((x, sample), window) in input.iter_mut().zip(frame).zip(window) {
            *x = sample * window;
        }
        // The plan itself made the buffers, so this cannot fail.
        if fft.process(&mut input, &mut output).is_err() {
            output.fill(Complex::default());
        }
        all.extend_from_slice(&output);
    }
    all
}

/// The samples whose frames are nearest to these, by least squares.
fn inverse(spectrum: &[Complex<f32>], window: &[f32], hop: usize) -> Vec<f32> {
    let (n, bins) = (window.len(), window.len() / 2 + 1);
    let fft = RealFftPlanner::new().plan_fft_inverse(n);
    let (mut input, mut output) = (fft.make_input_vec(), fft.make_output_vec());
    let frames = spectrum.len() / bins;
    let mut samples = vec![0f32; n + frames.saturating_sub(1) * hop];
    let mut weights = vec![0f32; samples.len()];
    for (t, frame) in spectrum.chunks_exact(bins).enumerate() {
        input.copy_from_slice(frame);
        // Real signals have real ends of the spectrum.
        for end in [0, bins - 1] {
            input[end].im = 0.0;
        }
        if fft.process(&mut input, &mut output).is_err() {
            output.fill(0.0);
        }
        for (i, (x, window)) in output.iter().zip(window).enumerate() {
            samples[t * hop + i] += x * window / n as f32;
            weights[t * hop + i] += window * window;
        }
    }
    // Where a single window begins, what is divided by hardly anything is a click.
    let least = 0.2 * weights.iter().copied().fold(1e-6, f32::max);
    samples.iter_mut().zip(&weights).for_each(|(x, weight)| *x /= weight.max(least));
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AudioConfig;
    use crate::mel::MelSettings;

    fn tone(hertz: f32, count: usize) -> Vec<f32> {
        (0..count).map(|i| 0.3 * (TAU * hertz * i as f32 / 16000.0).sin()).collect()
    }

    #[test]
    fn the_inverse_undoes_the_transform() {
        let mel = LogMel::new(MelSettings::of(&AudioConfig::default())).unwrap();
        let samples = tone(700.0, 6000);
        let back = inverse(&forward(&samples, mel.window(), mel.hop()), mel.window(), mel.hop());
        for (a, b) in back.iter().zip(&samples).skip(600).take(4000) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }

    #[test]
    fn a_spectrogram_sounds_like_what_it_was_made_of() {
        let mel = LogMel::new(MelSettings::of(&AudioConfig::default())).unwrap();
        let mut samples = tone(440.0, 12_000);
        samples.extend(tone(2500.0, 12_000));
        let power = mel.power(&samples).into_power();
        let heard = listen(&mel, &power);
        assert!(heard.iter().all(|v| v.abs() <= PEAK + 1e-4));
        let again = mel.power(&heard).into_power();
        let loudest = |power: &[f32], t: usize| {
            let frame = &power[t * 64..(t + 1) * 64];
            (0..64).max_by(|&a, &b| frame[a].total_cmp(&frame[b])).unwrap()
        };
        for t in [20, 40, 100, 130] {
            assert!(loudest(&again, t).abs_diff(loudest(&power, t)) <= 1, "{t}");
        }
        assert_ne!(loudest(&again, 20), loudest(&again, 130));
        assert!(listen(&mel, &vec![0.0; 64 * 20]).iter().all(|v| *v == 0.0));
    }
}
