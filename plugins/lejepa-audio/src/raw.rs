//! Views of a recording as its samples: `views.name = "waveform"`.

use std::sync::Arc;

use lejepa_core::config::check::within;
use lejepa_core::config::{Docs, field_docs, recipe};
use lejepa_core::{
    Component, Result, Sound, Table, View, ViewRng, ViewSampler, ViewSpec, Views, ViewsKind,
};
use rand::RngExt;
use realfft::RealFftPlanner;
use realfft::num_complex::Complex;
use serde::{Deserialize, Serialize};

use crate::AudioModality;
use crate::config::AudioConfig;
use crate::place::Place;
use crate::sampler::{AudioSampler, Cut, between, draw_all, masked};
use crate::waveform::Waveform;

/// `[views]` of [`WaveformViews`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WaveformConfig {
    /// What samples, of which full scale is 1, are divided by, 0.0001 to 1.
    pub std: f64,
}

impl Default for WaveformConfig {
    fn default() -> Self {
        Self { std: 0.1 }
    }
}

/// Views `[channels, samples]`, as long as the spectrograms of the same settings: `audio.n_fft` + (frames − 1) ·
/// `audio.hop` samples.
///
/// A view is a random stretch, played at a random speed (`audio.speed` times `audio.time_scale`), over another recording
/// at low power, with gain and fader, as if recorded by another microphone in another room; on demand with noise and a
/// range of silence. The settings of bands do not apply.
pub struct WaveformViews {
    config: AudioConfig,
    std: f32,
    /// For positions and cuts, and for features without an encoder.
    spectrograms: AudioSampler,
}

impl WaveformViews {
    /// A sampler with these settings.
    ///
    /// # Errors
    /// [`lejepa_core::Error::BadValue`] for settings out of range.
    ///
    /// ```
    /// use lejepa_audio::{AudioConfig, Waveform, WaveformConfig, WaveformViews};
    /// use lejepa_core::ViewSampler;
    ///
    /// let sampler = WaveformViews::new(&WaveformConfig::default(), &AudioConfig::default())?;
    /// let wave = Waveform::new(vec![0.05; 32000])?;
    /// let view = sampler.eval_view(&wave)?;
    /// assert_eq!((view.shape(), view.data()[0]), (&[1, 15712][..], 0.5));
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn new(own: &WaveformConfig, config: &AudioConfig) -> Result<Self> {
        within("views.std", own.std, 1e-4..=1.0)?;
        let spectrograms = AudioSampler::new(config)?;
        Ok(Self { config: config.clone(), std: own.std as f32, spectrograms })
    }

    fn random_view(
        &self,
        wave: &Waveform,
        frames: usize,
        others: &[Arc<Waveform>],
        rng: &mut ViewRng,
    ) -> Result<View> {
        let c = &self.config;
        let faster = |mut cut: Cut, rng: &mut ViewRng| {
            cut.speed *= between(c.time_scale, rng);
            cut
        };
        let cut = self.spectrograms.draw_cut(wave, frames, rng);
        let cut = faster(cut, rng);
        let place = Place::draw(c, rng);
        let share = c.mix * rng.random::<f64>();
        let other = rng.random_range(0..others.len().max(1));
        let other = match others.get(other) {
            Some(other) if c.mix > 0.0 => {
                let cut = self.spectrograms.draw_cut(other, frames, rng);
                Some((other, faster(cut, rng)))
            }
            _ => None,
        };
        // Of power, as for spectrograms, of which the root is that of samples.
        let gain = c.gain_db * rng.random_range(-1.0..=1.0) * 10f64.ln() / 20.0;
        let fader = c.fader * rng.random_range(-1.0..=1.0) / 2.0;
        let seed = rng.random::<u64>();
        let count = self.spectrograms.span(frames);
        let silent = masked(count, c.time_mask, c.mask_chance, rng);
        let mut data = Vec::with_capacity(c.channels * count);
        for channel in 0..c.channels {
            let mut samples = self.spectrograms.samples(wave, channel, frames, &cut);
            if let Some((other, cut)) = &other {
                let theirs = self.spectrograms.samples(other, channel, frames, cut);
                let (ours, share) = ((1.0 - share).sqrt() as f32, share.sqrt() as f32);
                samples.iter_mut().zip(&theirs).for_each(|(x, z)| *x = ours * *x + share * z);
            }
            let seed = seed.wrapping_add(channel as u64);
            self.record(&mut samples, &place, seed);
            for (i, x) in samples.iter_mut().enumerate() {
                let ramp = fader * ((i as f64 + 0.5) / count as f64 - 0.5);
                *x *= (gain + ramp).exp() as f32 / self.std;
            }
            samples[silent.0..silent.1].fill(0.0);
            data.extend(samples);
        }
        View::new([c.channels, count], data)
    }

    /// Samples as they are recorded in a place: its reverberation, its noise, and the response of its microphone.
    fn record(&self, samples: &mut [f32], place: &Place, seed: u64) {
        let c = &self.config;
        let (decay, noise) = (place.decay(), place.noise());
        if decay == 0.0 && noise == 0.0 && c.filter_db == 0.0 {
            return;
        }
        let mut rng: ViewRng = rand::SeedableRng::seed_from_u64(seed);
        let mut white = || rng.random_range(-1.0..=1.0f32) * 3f32.sqrt();
        // The tail of a click, of as much energy as the click; until it is 60 dB lower.
        let tail = if decay > 0.0 {
            let fade = decay.powf(0.5 / c.hop as f32);
            let length = ((1e-3f32.ln() / fade.ln()) as usize).clamp(1, samples.len());
            let energy: f32 = (0..length).map(|i| fade.powi(2 * i as i32)).sum();
            (0..length).map(|i| white() * fade.powi(i as i32) / energy.sqrt()).collect()
        } else {
            Vec::new()
        };
        let n = (samples.len() + tail.len()).next_power_of_two();
        let mut planner = RealFftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(n), planner.plan_fft_inverse(n));
        let transform = |values: &[f32]| -> Option<Vec<Complex<f32>>> {
            let (mut input, mut output) = (forward.make_input_vec(), forward.make_output_vec());
            input[..values.len()].copy_from_slice(values);
            forward.process(&mut input, &mut output).ok().map(|()| output)
        };
        let power = samples.iter().map(|v| v * v).sum::<f32>() / samples.len().max(1) as f32;
        let hiss: Vec<f32> = samples.iter().map(|_| white() * (noise * power).sqrt()).collect();
        let (Some(mut dry), Some(wet), Some(hiss)) =
            (transform(samples), transform(&tail), transform(&hiss))
        else {
            return;
        };
        let last = dry.len() - 1;
        for (k, ((z, wet), hiss)) in dry.iter_mut().zip(&wet).zip(&hiss).enumerate() {
            let hertz = k as f64 * c.sample_rate as f64 / n as f64;
            let band = self.spectrograms.band(hertz);
            let at = |shares: &[f32]| shares[(band as usize).min(shares.len() - 1)].sqrt();
            let reverberated = *z + *z * wet;
            *z = (reverberated + hiss * at(place.spectrum())) * at(&place.response);
            if k == 0 || k == last {
                z.im = 0.0;
            }
        }
        let mut output = inverse.make_output_vec();
        if inverse.process(&mut dry, &mut output).is_ok() {
            samples.iter_mut().zip(&output).for_each(|(x, y)| *x = y / n as f32);
        }
    }
}

impl ViewSampler for WaveformViews {
    type Sample = Waveform;

    fn spec(&self) -> ViewSpec {
        let c = &self.config;
        let shape = |frames| [c.channels, self.spectrograms.span(frames)];
        ViewSpec::multi_crop(c.globals, shape(c.global_frames), c.locals, shape(c.local_frames))
    }

    fn views(&self, wave: &Waveform, rng: &mut ViewRng) -> Result<Views> {
        self.views_with(wave, &[], rng)
    }

    fn companions(&self) -> usize {
        self.spectrograms.companions()
    }

    fn views_with(
        &self,
        wave: &Waveform,
        others: &[Arc<Waveform>],
        rng: &mut ViewRng,
    ) -> Result<Views> {
        self.spectrograms.check(wave)?;
        others.iter().try_for_each(|other| self.spectrograms.check(other))?;
        draw_all(&self.config, |frames| self.random_view(wave, frames, others, rng))
    }

    /// Those of the spectrogram.
    fn raw_features(&self, view: &View) -> Vec<f32> {
        let [_, count] = view.shape()[..] else { return view.data().to_vec() };
        let samples: Vec<f32> = view.data().iter().map(|v| v * self.std).collect();
        self.spectrograms.features_of(&samples, count)
    }

    /// The centre of the recording, without augmentation.
    fn eval_view(&self, wave: &Waveform) -> Result<View> {
        self.spectrograms.check(wave)?;
        let AudioConfig { channels, global_frames, .. } = self.config;
        let of = |channel| self.spectrograms.cut(wave.channel(channel), global_frames, 1.0, None);
        let samples = (0..channels).flat_map(of).map(|v| v / self.std);
        View::new([channels, self.spectrograms.span(global_frames)], samples.collect())
    }

    /// The first channel.
    fn sound(&self, view: &View) -> Option<Sound> {
        let [_, count] = view.shape()[..] else { return None };
        let samples = view.data()[..count].iter().map(|v| v * self.std).collect();
        Some(Sound { sample_rate: self.config.sample_rate, samples })
    }
}

impl Component for WaveformViews {
    const NAME: &'static str = "waveform";
    const ABOUT: &'static str =
        "the samples of a recording, for encoders that learn their own front end";
    type Config = WaveformConfig;

    fn docs() -> Docs {
        field_docs(include_str!("raw.rs"), "WaveformConfig")
    }
}

impl ViewsKind for WaveformViews {
    type Modality = AudioModality;

    fn recipe() -> Table {
        recipe(RECIPE)
    }

    fn build(
        own: &WaveformConfig,
        config: &AudioConfig,
    ) -> Result<Box<dyn ViewSampler<Sample = Waveform>>> {
        Ok(Box::new(Self::new(own, config)?))
    }
}

const RECIPE: &str = "
[encoder]
name = 'filterbank'
";

#[cfg(test)]
#[path = "raw_tests.rs"]
mod tests;
