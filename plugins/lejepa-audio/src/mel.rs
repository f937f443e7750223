//! Log-mel spectrograms, which views are made of.

use std::f32::consts::TAU;
use std::sync::Arc;

use lejepa_core::{Array, Error, LogSpectrogram, Result};
use realfft::{RealFftPlanner, RealToComplex};

use crate::config::AudioConfig;
use crate::scale::{FLOOR, LogScale, MelScale};

/// What a spectrogram is computed with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MelSettings {
    /// Samples per second.
    pub(crate) sample_rate: usize,
    /// Samples per frame.
    pub(crate) n_fft: usize,
    /// Samples between the starts of consecutive frames.
    pub(crate) hop: usize,
    /// Number of bands.
    pub(crate) mels: usize,
    /// Lower edge of the lowest band and upper edge of the highest one, in Hz.
    pub(crate) edges: [f64; 2],
    pub(crate) scale: MelScale,
    pub(crate) log: LogScale,
    /// How much of each sample is subtracted from the next.
    pub(crate) pre_emphasis: f64,
}

impl MelSettings {
    pub(crate) fn of(config: &AudioConfig) -> Self {
        Self {
            sample_rate: config.sample_rate,
            n_fft: config.n_fft,
            hop: config.hop,
            mels: config.mels,
            edges: [config.f_min, config.highest()],
            scale: config.mel_scale,
            log: config.log,
            pre_emphasis: config.pre_emphasis,
        }
    }
}

/// Computes log-mel power, without padding: the first frame starts at the first sample, and all frames
/// lie within the signal.
#[derive(Clone)]
pub(crate) struct LogMel {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    hop: usize,
    bands: Vec<Band>,
    log: LogScale,
    pre_emphasis: f32,
}

/// The triangular filter of one band: weights of consecutive frequencies.
#[derive(Clone)]
struct Band {
    first: usize,
    weights: Vec<f32>,
}

impl LogMel {
    /// For settings within their ranges.
    ///
    /// # Errors
    /// [`Error::BadValue`] where a band contains no frequency of the transform.
    pub(crate) fn new(c: MelSettings) -> Result<Self> {
        let step = c.sample_rate as f64 / c.n_fft as f64;
        let [low, high] = c.edges.map(|hertz| c.scale.to_mel(hertz));
        let edge = |i: usize| c.scale.to_hertz(low + (high - low) * i as f64 / (c.mels + 1) as f64);
        let mut bands = Vec::with_capacity(c.mels);
        for band in 0..c.mels {
            let (left, centre, right) = (edge(band), edge(band + 1), edge(band + 2));
            let height = c.scale.height(left, right);
            let weight = |bin: usize| {
                let hertz = bin as f64 * step;
                let rise = (hertz - left) / (centre - left);
                let fall = (right - hertz) / (right - centre);
                (height * rise.min(fall).max(0.0)) as f32
            };
            let all: Vec<f32> = (0..=c.n_fft / 2).map(weight).collect();
            let Some(first) = all.iter().position(|&w| w > 0.0) else {
                let reason = format!(
                    "{} bands are too many: band {band} lies between two frequencies of the transform; lower `mels` or raise `n_fft`",
                    c.mels
                );
                return Err(Error::bad_value("audio.mels", reason));
            };
            let weights = all[first..].iter().copied().take_while(|&w| w > 0.0).collect();
            bands.push(Band { first, weights });
        }
        let window =
            (0..c.n_fft).map(|i| 0.5 - 0.5 * (TAU * i as f32 / c.n_fft as f32).cos()).collect();
        let fft = RealFftPlanner::new().plan_fft_forward(c.n_fft);
        let pre_emphasis = c.pre_emphasis as f32;
        Ok(Self { fft, window, hop: c.hop, bands, log: c.log, pre_emphasis })
    }

    /// Number of samples that `frames` frames span.
    pub(crate) fn span(&self, frames: usize) -> usize {
        self.window.len() + frames.saturating_sub(1) * self.hop
    }

    /// Number of whole frames in `samples` samples.
    pub(crate) fn frames(&self, samples: usize) -> usize {
        samples.checked_sub(self.window.len()).map_or(0, |rest| rest / self.hop + 1)
    }

    /// Number of bands.
    pub(crate) fn bands(&self) -> usize {
        self.bands.len()
    }

    /// The window, whose length is that of a frame.
    pub(crate) fn window(&self) -> &[f32] {
        &self.window
    }

    /// Samples between the starts of consecutive frames.
    pub(crate) fn hop(&self) -> usize {
        self.hop
    }

    /// Magnitudes of the frequencies of a frame whose bands have this power: that of a band is spread over its
    /// frequencies evenly.
    pub(crate) fn magnitudes(&self, power: &[f32]) -> Vec<f32> {
        let bins = self.window.len() / 2 + 1;
        let (mut sums, mut weights) = (vec![0f32; bins], vec![1e-9f32; bins]);
        for (band, power) in self.bands.iter().zip(power) {
            let each = power / band.weights.iter().sum::<f32>();
            for (i, weight) in band.weights.iter().enumerate() {
                sums[band.first + i] += weight * each;
                weights[band.first + i] += weight;
            }
        }
        sums.iter().zip(&weights).map(|(sum, weight)| (sum / weight).max(0.0).sqrt()).collect()
    }

    /// The same as a graph computes it, for views of `frames` frames; `None` for what graphs do not have.
    pub(crate) fn front_end(&self, sample_rate: usize, frames: usize) -> Option<LogSpectrogram> {
        if self.log != LogScale::Ln || self.pre_emphasis != 0.0 {
            return None;
        }
        let bins = self.window.len() / 2 + 1;
        let mut bands = vec![0.0; self.bands.len() * bins];
        for (row, band) in bands.chunks_exact_mut(bins).zip(&self.bands) {
            row[band.first..band.first + band.weights.len()].copy_from_slice(&band.weights);
        }
        Some(LogSpectrogram {
            sample_rate,
            window: self.window.clone(),
            hop: self.hop,
            frames,
            bands: Array::new([self.bands.len(), bins], bands)?,
            floor: FLOOR,
        })
    }

    /// Power of all frames that lie within `samples`.
    pub(crate) fn power(&self, samples: &[f32]) -> Spectrogram {
        let frames = samples.windows(self.window.len()).step_by(self.hop);
        let bands = self.bands.len();
        let mut out = Vec::with_capacity(bands * frames.len());
        let mut input = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = vec![0f32; spectrum.len()];
        for (t, frame) in frames.enumerate() {
            for ((x, sample), window) in input.iter_mut().zip(frame).zip(&self.window) {
                *x = sample * window;
            }
            if self.pre_emphasis != 0.0 {
                let first = (t * self.hop).checked_sub(1).map_or(0.0, |before| samples[before]);
                let before = std::iter::once(&first).chain(frame);
                for ((x, before), window) in input.iter_mut().zip(before).zip(&self.window) {
                    *x -= self.pre_emphasis * before * window;
                }
            }
            // The plan itself made the buffers, so this cannot fail.
            if self.fft.process_with_scratch(&mut input, &mut spectrum, &mut scratch).is_err() {
                spectrum.fill(Default::default());
            }
            for (p, z) in power.iter_mut().zip(&spectrum) {
                *p = z.re * z.re + z.im * z.im;
            }
            let sum = |band: &Band| -> f32 {
                power[band.first..].iter().zip(&band.weights).map(|(p, w)| p * w).sum()
            };
            out.extend(self.bands.iter().map(sum));
        }
        Spectrogram { bands, power: out }
    }

    /// [`LogMel::power`] as logarithms, `[bands, frames]` in row-major order.
    pub(crate) fn log_power(&self, samples: &[f32]) -> Vec<f32> {
        let spectrogram = self.power(samples);
        let count = spectrogram.frames();
        let mut out = vec![0.0; spectrogram.power.len()];
        for (t, frame) in spectrogram.power.chunks_exact(spectrogram.bands).enumerate() {
            for (b, power) in frame.iter().enumerate() {
                out[b * count + t] = self.log.of(*power);
            }
        }
        out
    }
}

/// The power of each band of each frame, frame by frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spectrogram {
    bands: usize,
    power: Vec<f32>,
}

impl Spectrogram {
    pub(crate) fn frames(&self) -> usize {
        self.power.len() / self.bands
    }

    pub(crate) fn into_power(self) -> Vec<f32> {
        self.power
    }

    pub(crate) fn frame(&self, t: usize) -> &[f32] {
        &self.power[t * self.bands..(t + 1) * self.bands]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: MelSettings = MelSettings {
        sample_rate: 16000,
        n_fft: 512,
        hop: 256,
        mels: 64,
        edges: [50.0, 8000.0],
        scale: MelScale::Htk,
        log: LogScale::Ln,
        pre_emphasis: 0.0,
    };

    fn to_mel(hertz: f64) -> f64 {
        MelScale::Htk.to_mel(hertz)
    }

    fn to_hertz(mel: f64) -> f64 {
        MelScale::Htk.to_hertz(mel)
    }

    fn tone(hertz: f32, rate: f32, length: usize) -> Vec<f32> {
        (0..length).map(|i| (TAU * hertz * i as f32 / rate).sin()).collect()
    }

    #[test]
    fn agrees_with_a_direct_transform() {
        let mel = LogMel::new(MelSettings { n_fft: 64, hop: 24, mels: 6, ..SETTINGS }).unwrap();
        let wave: Vec<f32> =
            (0..200).map(|i| ((i * i) as f32 * 0.013).sin() + 0.3 * (i as f32).cos()).collect();
        let got = mel.log_power(&wave);
        let frames = (200 - 64) / 24 + 1;
        assert_eq!(got.len(), 6 * frames);
        assert_eq!(mel.span(frames), 64 + (frames - 1) * 24);
        let (low, high) = (to_mel(50.0), to_mel(8000.0));
        let points: Vec<f64> =
            (0..8).map(|i| to_hertz(low + (high - low) * f64::from(i) / 7.0)).collect();
        for t in 0..frames {
            for band in 0..6 {
                let mut sum = 0.0;
                for bin in 0..=32 {
                    let (mut re, mut im) = (0f64, 0f64);
                    for n in 0..64 {
                        let turn = std::f64::consts::TAU * n as f64 / 64.0;
                        let x = f64::from(wave[t * 24 + n]) * (0.5 - 0.5 * turn.cos());
                        re += x * (turn * f64::from(bin)).cos();
                        im -= x * (turn * f64::from(bin)).sin();
                    }
                    let hertz = f64::from(bin) * 250.0;
                    let weight = if hertz < points[band + 1] {
                        (hertz - points[band]) / (points[band + 1] - points[band])
                    } else {
                        (points[band + 2] - hertz) / (points[band + 2] - points[band + 1])
                    };
                    sum += weight.max(0.0) * (re * re + im * im);
                }
                let want = (sum + 1e-6).ln();
                let got = f64::from(got[band * frames + t]);
                assert!((got - want).abs() < 1e-3, "band {band} frame {t}: {got} {want}");
            }
        }
    }

    /// `front_end.py` writes the fixtures with librosa and torchaudio, and says what is in them.
    #[test]
    fn agrees_with_librosa_and_torchaudio() {
        #[derive(serde::Deserialize)]
        struct Fixture {
            of: String,
            n_fft: usize,
            hop: usize,
            mels: usize,
            edges: [f64; 2],
            scale: MelScale,
            log: LogScale,
            pre_emphasis: f64,
            values: Vec<f32>,
        }
        let all: Vec<Fixture> = serde_json::from_str(include_str!("front_end.json")).unwrap();
        assert!(all.len() >= 6);
        // A glide from 100 Hz to 6 kHz, a second long, and the quiet that follows it.
        let wave: Vec<f32> = (0..16000)
            .map(|i| {
                let t = f64::from(i) / 16000.0;
                let fade = if t < 0.8 { 0.5 } else { 0.005 };
                (fade * (std::f64::consts::TAU * (100.0 * t + 2950.0 * t * t)).sin()) as f32
            })
            .collect();
        for f in all {
            let Fixture { n_fft, hop, mels, edges, scale, log, pre_emphasis, .. } = f;
            let settings = MelSettings {
                sample_rate: 16000,
                n_fft,
                hop,
                mels,
                edges,
                scale,
                log,
                pre_emphasis,
            };
            let got = LogMel::new(settings).unwrap().log_power(&wave);
            assert_eq!(got.len(), f.values.len(), "{}", f.of);
            // Bands 80 dB below the loudest are rounding errors.
            let least = match log {
                LogScale::Db => f.values.iter().copied().fold(f32::MIN, f32::max) - 80.0,
                _ => f32::MIN,
            };
            let range = f.values.iter().copied().fold(0f32, |most, v| most.max(v.abs()));
            let off = got
                .iter()
                .zip(&f.values)
                .fold(0f32, |most, (a, b)| most.max((a.max(least) - b.max(least)).abs()));
            assert!(off < 1e-3 * range, "{}: off by {off} of {range}", f.of);
        }
    }

    #[test]
    fn a_tone_is_loudest_in_its_band() {
        let mel = LogMel::new(SETTINGS).unwrap();
        let (low, high) = (to_mel(50.0), to_mel(8000.0));
        for hertz in [300.0, 1000.0, 4000.0] {
            let got = mel.log_power(&tone(hertz, 16000.0, 4096));
            let frames = got.len() / 64;
            let power = |band: &usize| got[band * frames + frames / 2];
            let loudest = (0..64).max_by(|a, b| power(a).total_cmp(&power(b))).unwrap();
            let centre = to_hertz(low + (high - low) * (loudest + 1) as f64 / 65.0);
            let off = (to_mel(centre) - to_mel(f64::from(hertz))).abs();
            assert!(off < (high - low) / 65.0, "{hertz} Hz in the band of {centre} Hz");
        }
    }

    #[test]
    fn silence_is_the_floor_and_too_many_bands_are_refused() {
        let mel = LogMel::new(SETTINGS).unwrap();
        assert!(mel.log_power(&[0.0; 1024]).iter().all(|&v| v == FLOOR.ln()));
        assert!(mel.log_power(&[0.0; 100]).is_empty());
        let error = LogMel::new(MelSettings { mels: 400, ..SETTINGS }).err().unwrap().to_string();
        assert!(error.contains("`audio.mels`"), "{error}");
    }
}
