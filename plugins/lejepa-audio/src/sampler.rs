//! Views of a recording: log-mel spectrograms of augmented segments.

use lejepa_core::{Result, View, ViewRng, ViewSampler, ViewSpec, Views};
use rand::RngExt;

use crate::config::{AudioConfig, Short};
use crate::mel::{LogMel, MelSettings};
use crate::waveform::Waveform;

/// Makes views `[1, mels, frames]` of recordings.
///
/// A view is a random segment with a random speed, gain and noise, in which a range of frames and a range
/// of bands are masked. Masked cells are set to the mean, which is zero after normalisation.
#[derive(Clone)]
pub struct AudioSampler {
    config: AudioConfig,
    mel: LogMel,
}

impl AudioSampler {
    /// A sampler with these settings.
    ///
    /// # Errors
    /// [`lejepa_core::Error::BadValue`] for settings out of range.
    ///
    /// ```
    /// use lejepa_audio::{AudioConfig, AudioSampler, Waveform};
    /// use lejepa_core::{Purpose, Seed, ViewSampler};
    ///
    /// let sampler = AudioSampler::new(&AudioConfig { locals: 1, ..AudioConfig::default() })?;
    /// // Two seconds of a tone of 440 Hz at the default rate.
    /// let tone = |i: usize| (i as f32 * 440.0 * std::f32::consts::TAU / 16000.0).sin();
    /// let wave = Waveform::new((0..32000).map(tone).collect())?;
    /// let views = sampler.views(&wave, &mut Seed(0).rng(Purpose::Views, &[]))?;
    /// let [globals, locals] = views.groups() else { panic!("two groups") };
    /// assert_eq!((globals.len(), globals[0].shape()), (2, &[1, 64, 96][..]));
    /// assert_eq!((locals.len(), locals[0].shape()), (1, &[1, 64, 48][..]));
    /// assert_eq!(sampler.eval_view(&wave)?.shape(), [1, 64, 96]);
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn new(config: &AudioConfig) -> Result<Self> {
        config.validate()?;
        let mel = LogMel::new(MelSettings {
            sample_rate: config.sample_rate,
            n_fft: config.n_fft,
            hop: config.hop,
            mels: config.mels,
            edges: [config.f_min, config.highest()],
        })?;
        Ok(Self { config: config.clone(), mel })
    }

    fn random_view(&self, wave: &Waveform, frames: usize, rng: &mut ViewRng) -> Result<View> {
        let c = &self.config;
        let speed = rng.random_range(c.speed[0]..=c.speed[1]);
        let mut cut = self.cut(wave, frames, speed, Some(rng.random::<f64>()));
        let gain = c.gain_db * rng.random_range(-1.0..=1.0);
        let noise = c.noise * rng.random::<f64>();
        let noise = if chance(c.noise_chance, rng) { noise as f32 } else { 0.0 };
        change(&mut cut, 10f64.powf(gain / 20.0) as f32, noise, rng);
        let mut data = self.spectrogram(&cut);
        let (from, to) = masked(frames, c.time_mask, c.mask_chance, rng);
        for row in data.chunks_exact_mut(frames) {
            row[from..to].fill(0.0);
        }
        let (from, to) = masked(c.mels, c.frequency_mask, c.mask_chance, rng);
        data[from * frames..to * frames].fill(0.0);
        View::new([1, c.mels, frames], data)
    }

    /// Samples for `frames` frames at `speed`. `at` chooses the position: 0 is the earliest, 1 the latest,
    /// `None` the centre.
    fn cut(&self, wave: &Waveform, frames: usize, speed: f64, at: Option<f64>) -> Vec<f32> {
        let samples = wave.samples();
        let length = samples.len() as f64;
        let count = self.mel.span(frames);
        let room = length - 1.0 - (count - 1) as f64 * speed;
        let (start, repeat) = match (self.config.short, room < 0.0) {
            // A repeated recording can start at any of its samples; by default at the first one.
            (Short::Repeat, true) => (at.map_or(0.0, |at| at * length), true),
            (Short::Pad, true) | (_, false) => (at.unwrap_or(0.5) * room, false),
        };
        // At the original speed samples are taken without interpolation.
        let start = if speed == 1.0 { start.round() } else { start };
        (0..count)
            .map(|i| {
                let time = start + i as f64 * speed;
                let (before, fraction) = (time.floor(), (time - time.floor()) as f32);
                let value = |at: f64| {
                    let at = if repeat { at.rem_euclid(length) } else { at };
                    if at < 0.0 { 0.0 } else { samples.get(at as usize).map_or(0.0, |&v| v) }
                };
                let first = value(before);
                if fraction == 0.0 {
                    first
                } else {
                    first + fraction * (value(before + 1.0) - first)
                }
            })
            .collect()
    }

    /// The normalised log-mel spectrogram of a cut.
    fn spectrogram(&self, cut: &[f32]) -> Vec<f32> {
        let (mean, std) = (self.config.mean as f32, self.config.std as f32);
        let mut data = self.mel.log_power(cut);
        data.iter_mut().for_each(|v| *v = (*v - mean) / std);
        data
    }
}

impl ViewSampler for AudioSampler {
    type Sample = Waveform;

    fn spec(&self) -> ViewSpec {
        let c = &self.config;
        let shape = |frames| [1, c.mels, frames];
        ViewSpec::multi_crop(c.globals, shape(c.global_frames), c.locals, shape(c.local_frames))
    }

    fn views(&self, wave: &Waveform, rng: &mut ViewRng) -> Result<Views> {
        let c = &self.config;
        let mut draw = |frames, count| -> Result<Vec<View>> {
            (0..count).map(|_| self.random_view(wave, frames, rng)).collect()
        };
        let globals = draw(c.global_frames, c.globals)?;
        let locals = draw(c.local_frames, c.locals)?;
        Ok(Views::multi_crop(globals, locals))
    }

    /// The centre of the recording, without augmentation.
    fn eval_view(&self, wave: &Waveform) -> Result<View> {
        let frames = self.config.global_frames;
        let cut = self.cut(wave, frames, 1.0, None);
        View::new([1, self.config.mels, frames], self.spectrogram(&cut))
    }
}

/// True with this probability. Always takes one draw, so that changing one setting does not affect the
/// draws of the others.
fn chance(probability: f64, rng: &mut ViewRng) -> bool {
    rng.random::<f64>() < probability
}

/// Adds white noise of `noise` times the root mean square, then multiplies by `gain`.
fn change(samples: &mut [f32], gain: f32, noise: f32, rng: &mut ViewRng) {
    let power = samples.iter().map(|v| v * v).sum::<f32>() / samples.len().max(1) as f32;
    // Uniform noise from -reach to reach has a standard deviation of reach over the root of 3. It is as
    // white as Gaussian noise, and cheaper.
    let reach = noise * power.sqrt() * 3f32.sqrt();
    let seed = rng.random::<u64>();
    if noise == 0.0 {
        samples.iter_mut().for_each(|v| *v *= gain);
        return;
    }
    // From a separate stream, so that noise does not affect later draws.
    let mut stream: ViewRng = rand::SeedableRng::seed_from_u64(seed);
    for v in samples {
        *v = gain * (*v + reach * stream.random_range(-1.0..=1.0f32));
    }
}

/// With this probability, a random range of at most the fraction `most` of `total`; else an empty one.
fn masked(total: usize, most: f64, probability: f64, rng: &mut ViewRng) -> (usize, usize) {
    let length = (most * rng.random::<f64>() * (total + 1) as f64) as usize;
    let length = length.min((most * total as f64) as usize);
    let from = (rng.random::<f64>() * (total - length + 1) as f64) as usize;
    let from = from.min(total - length);
    if chance(probability, rng) { (from, from + length) } else { (0, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lejepa_core::{Purpose, Seed};
    use proptest::prelude::*;

    fn rng(n: u64) -> ViewRng {
        Seed(3).rng(Purpose::Views, &[n])
    }

    fn wave(length: usize) -> Waveform {
        let sample = |i| 0.3 * (i as f32 * 0.2).sin() + 0.1 * ((i * i) as f32 * 1e-4).sin();
        Waveform::new((0..length).map(sample).collect()).unwrap()
    }

    fn plain() -> AudioConfig {
        AudioConfig {
            speed: [1.0, 1.0],
            gain_db: 0.0,
            noise_chance: 0.0,
            mask_chance: 0.0,
            ..AudioConfig::default()
        }
    }

    #[test]
    fn views_have_the_specified_shapes_and_are_deterministic() {
        for short in [Short::Repeat, Short::Pad] {
            let config = AudioConfig { short, ..AudioConfig::default() };
            let sampler = AudioSampler::new(&config).unwrap();
            let spec = sampler.spec();
            spec.validate().unwrap();
            for wave in [wave(32000), wave(9000), wave(1)] {
                let views = sampler.views(&wave, &mut rng(0)).unwrap();
                spec.check(&views).unwrap();
                assert_eq!(views, sampler.views(&wave, &mut rng(0)).unwrap());
                assert_ne!(views, sampler.views(&wave, &mut rng(1)).unwrap());
                let eval = sampler.eval_view(&wave).unwrap();
                assert_eq!(eval.shape(), spec.shape());
                assert!(eval.is_finite());
            }
        }
    }

    #[test]
    fn cuts_are_segments_of_the_recording() {
        let sampler = AudioSampler::new(&plain()).unwrap();
        let wave = wave(32000);
        let span = 512 + 95 * 256;
        let starts = [(Some(0.0), 0), (Some(1.0), 32000 - span), (None, (32000 - span) / 2)];
        for (at, start) in starts {
            let cut = sampler.cut(&wave, 96, 1.0, at);
            assert_eq!(cut, wave.samples()[start..start + span]);
        }
        let double = sampler.cut(&wave, 48, 2.0, Some(0.0));
        assert!(double.iter().eq(wave.samples().iter().step_by(2).take(double.len())));
        let slow = sampler.cut(&wave, 96, 0.5, Some(0.0));
        assert_eq!(slow[1], (wave.samples()[0] + wave.samples()[1]) / 2.0);
    }

    #[test]
    fn short_recordings_are_repeated_or_padded() {
        let wave = wave(10000);
        let repeat = AudioSampler::new(&plain()).unwrap().cut(&wave, 96, 1.0, None);
        assert!(repeat.iter().eq(wave.samples().iter().cycle().take(repeat.len())));
        let config = AudioConfig { short: Short::Pad, ..plain() };
        let pad = AudioSampler::new(&config).unwrap().cut(&wave, 96, 1.0, None);
        let lead = (pad.len() - 10000) / 2;
        assert!(pad[..lead].iter().chain(&pad[lead + 10000..]).all(|&v| v == 0.0));
        assert_eq!(pad[lead..lead + 10000], *wave.samples());
    }

    #[test]
    fn gain_and_noise_have_their_strength() {
        let mut loud = wave(20000).samples().to_vec();
        let rms = |x: &[f32]| (x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32).sqrt();
        let before = rms(&loud);
        change(&mut loud, 2.0, 0.0, &mut rng(0));
        assert!((rms(&loud) / before - 2.0).abs() < 1e-4);
        let mut noisy = loud.clone();
        change(&mut noisy, 1.0, 0.5, &mut rng(0));
        let noise: Vec<f32> = noisy.iter().zip(&loud).map(|(a, b)| a - b).collect();
        assert!((rms(&noise) / rms(&loud) - 0.5).abs() < 0.02);
    }

    #[test]
    fn masks_cover_up_to_their_fraction() {
        let config = AudioConfig { mask_chance: 1.0, time_mask: 0.5, ..plain() };
        let sampler = AudioSampler::new(&config).unwrap();
        let (mut frames, mut bands) = (0, 0);
        for n in 0..20 {
            let view = sampler.random_view(&wave(32000), 96, &mut rng(n)).unwrap();
            let zero = |t: usize, b: usize| view.data()[b * 96 + t] == 0.0;
            let masked = (0..96).filter(|&t| (0..64).all(|b| zero(t, b))).count();
            frames = frames.max(masked);
            let masked = (0..64).filter(|&b| (0..96).all(|t| zero(t, b))).count();
            bands = bands.max(masked);
        }
        assert!((30..=48).contains(&frames) && (6..=12).contains(&bands), "{frames} {bands}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_recording_gives_finite_views(
            samples in proptest::collection::vec(-2f32..2.0, 1..5000), pad: bool, seed: u64,
        ) {
            let short = if pad { Short::Pad } else { Short::Repeat };
            let config = AudioConfig { short, speed: [0.25, 4.0], ..AudioConfig::default() };
            let sampler = AudioSampler::new(&config).unwrap();
            let views = sampler.views(&Waveform::new(samples).unwrap(), &mut rng(seed)).unwrap();
            sampler.spec().check(&views).unwrap();
            prop_assert!(views.iter().all(View::is_finite));
        }
    }
}
