//! Sounds: files, filters, slow curves.

use std::f64::consts::TAU;
use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

use crate::corpus::said;
use crate::random::Random;

/// Samples a second of every sound that is made here.
pub(crate) const RATE: u32 = 22_050;

/// Seconds as a number of samples.
pub(crate) fn samples(seconds: f64) -> usize {
    (seconds * f64::from(RATE)).round().max(0.0) as usize
}

/// Writes samples of -1 to 1 as 16-bit WAV; what lies outside is clipped.
pub(crate) fn write(file: &Path, sound: &[f64]) -> Result<(), String> {
    let spec = WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let wrong = |e: hound::Error| said(file, e);
    let mut writer = WavWriter::create(file, spec).map_err(wrong)?;
    for level in sound {
        let level = (level.clamp(-1.0, 1.0) * f64::from(i16::MAX)).round();
        writer.write_sample(level as i16).map_err(wrong)?;
    }
    writer.finalize().map_err(wrong)
}

/// Reads 16-bit WAV of one channel at `RATE`.
pub(crate) fn read(file: &Path) -> Result<Vec<f64>, String> {
    let wrong = |e: hound::Error| said(file, e);
    let reader = WavReader::open(file).map_err(wrong)?;
    let spec = reader.spec();
    if spec.channels != 1 || spec.sample_rate != RATE || spec.bits_per_sample != 16 {
        return Err(said(file, format!("not one channel of 16 bits at {RATE} Hz")));
    }
    let level = |s: Result<i16, hound::Error>| s.map(|s| f64::from(s) / f64::from(i16::MAX));
    reader.into_samples::<i16>().map(level).collect::<Result<_, _>>().map_err(wrong)
}

/// Decibels as a factor of amplitude.
pub(crate) fn gain(decibels: f64) -> f64 {
    10f64.powf(decibels / 20.0)
}

/// Root mean square.
pub(crate) fn rms(sound: &[f64]) -> f64 {
    let sum: f64 = sound.iter().map(|x| x * x).sum();
    (sum / sound.len().max(1) as f64).sqrt()
}

/// Scales to a peak of 1, unless there is only silence.
pub(crate) fn normalise(sound: &mut [f64]) {
    let peak = sound.iter().fold(0.0, |peak: f64, x| peak.max(x.abs()));
    if peak > 1e-9 {
        sound.iter_mut().for_each(|x| *x /= peak);
    }
}

/// Adds `part`, scaled, from sample `at` on; what would stand past the end is dropped.
pub(crate) fn mix(sound: &mut [f64], at: usize, scale: f64, part: &[f64]) {
    for (x, y) in sound.iter_mut().skip(at).zip(part) {
        *x += scale * y;
    }
}

/// A filter of second order.
pub(crate) struct Filter {
    b: [f64; 3],
    a: [f64; 2],
    x: [f64; 2],
    y: [f64; 2],
}

/// What a `Filter` lets through.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pass {
    Low,
    High,
    Band,
}

impl Filter {
    /// A filter around `frequency` in Hz; a greater `q` is a sharper resonance.
    pub(crate) fn new(pass: Pass, frequency: f64, q: f64) -> Self {
        let mut filter = Self { b: [0.0; 3], a: [0.0; 2], x: [0.0; 2], y: [0.0; 2] };
        filter.tune(pass, frequency, q);
        filter
    }

    /// Changes the frequency and keeps the state, for a filter that moves.
    pub(crate) fn tune(&mut self, pass: Pass, frequency: f64, q: f64) {
        let rate = f64::from(RATE);
        let (sin, cos) = (TAU * frequency.clamp(5.0, 0.47 * rate) / rate).sin_cos();
        let alpha = sin / (2.0 * q);
        let b = match pass {
            Pass::Low => [(1.0 - cos) / 2.0, 1.0 - cos, (1.0 - cos) / 2.0],
            Pass::High => [(1.0 + cos) / 2.0, -1.0 - cos, (1.0 + cos) / 2.0],
            Pass::Band => [alpha, 0.0, -alpha],
        };
        self.b = b.map(|b| b / (1.0 + alpha));
        self.a = [-2.0 * cos / (1.0 + alpha), (1.0 - alpha) / (1.0 + alpha)];
    }

    /// One sample.
    pub(crate) fn step(&mut self, x: f64) -> f64 {
        let fed = self.b[0] * x + self.b[1] * self.x[0] + self.b[2] * self.x[1];
        let y = fed - self.a[0] * self.y[0] - self.a[1] * self.y[1];
        self.x = [x, self.x[0]];
        self.y = [y, self.y[0]];
        y
    }

    /// A whole sound, in place.
    pub(crate) fn run(mut self, sound: &mut [f64]) {
        sound.iter_mut().for_each(|x| *x = self.step(*x));
    }
}

/// White noise.
pub(crate) fn noise(random: &mut Random, length: usize) -> Vec<f64> {
    (0..length).map(|_| random.noise()).collect()
}

/// White noise through one filter.
pub(crate) fn filtered(
    random: &mut Random,
    length: usize,
    pass: Pass,
    frequency: f64,
    q: f64,
) -> Vec<f64> {
    let mut sound = noise(random, length);
    Filter::new(pass, frequency, q).run(&mut sound);
    sound
}

/// A smooth random curve between `low` and `high` that turns about `rate` times a second.
pub(crate) fn curve(
    random: &mut Random,
    length: usize,
    rate: f64,
    low: f64,
    high: f64,
) -> Vec<f64> {
    let step = (f64::from(RATE) / rate).max(1.0);
    let knots = (length as f64 / step) as usize + 2;
    let knots: Vec<f64> = (0..knots).map(|_| random.range(low, high)).collect();
    let at = |i: usize| {
        let place = i as f64 / step;
        let (knot, part) = (place as usize, place.fract());
        let blend = part * part * (3.0 - 2.0 * part);
        knots[knot] * (1.0 - blend) + knots[knot + 1] * blend
    };
    (0..length).map(at).collect()
}

/// A short rise, then an exponential decay by a factor of e in `decay` seconds; ends at silence.
pub(crate) fn struck(decay: f64) -> impl Iterator<Item = f64> {
    let (rise, length) = (samples(0.001), samples(7.0 * decay));
    (0..length).map(move |i| {
        let time = i as f64 / f64::from(RATE);
        (i as f64 / rise as f64).min(1.0) * (-time / decay).exp()
    })
}

/// The phase after each sample, of an oscillator with these frequencies in Hz.
pub(crate) fn phases(frequencies: impl IntoIterator<Item = f64>) -> impl Iterator<Item = f64> {
    frequencies.into_iter().scan(0.0, |phase: &mut f64, frequency| {
        *phase = (*phase + TAU * frequency / f64::from(RATE)) % TAU;
        Some(*phase)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_pass_what_their_names_say() {
        let level = |pass, frequency: f64| {
            let mut tone: Vec<f64> =
                phases(std::iter::repeat_n(frequency, 8000)).map(f64::sin).collect();
            Filter::new(pass, 1000.0, 0.7).run(&mut tone);
            rms(&tone[4000..])
        };
        assert!(level(Pass::Low, 100.0) > 0.6 && level(Pass::Low, 9000.0) < 0.05);
        assert!(level(Pass::High, 9000.0) > 0.6 && level(Pass::High, 100.0) < 0.05);
        assert!(level(Pass::Band, 1000.0) > 0.6 && level(Pass::Band, 100.0) < 0.2);
    }

    #[test]
    fn files_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.wav");
        write(&file, &[0.0, 0.5, -1.0, 2.0]).unwrap();
        let back = read(&file).unwrap();
        for (x, y) in back.iter().zip([0.0, 0.5, -1.0, 1.0]) {
            assert!((x - y).abs() < 1e-4);
        }
    }
}
