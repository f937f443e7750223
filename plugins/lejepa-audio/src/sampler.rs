//! Views of a recording: log-mel spectrograms of augmented segments.

use std::sync::Arc;

use lejepa_core::{
    Error, LogSpectrogram, Result, Sound, View, ViewRng, ViewSampler, ViewSpec, Views,
};
use rand::RngExt;

use crate::config::{AudioConfig, Criterion, Short};
use crate::listen::listen;
use crate::mel::{LogMel, MelSettings, Spectrogram};
use crate::place::Place;
use crate::scale::Normalize;
use crate::waveform::Waveform;

/// Makes views `[channels, mels, frames]` of recordings.
///
/// A view is a random stretch of a random length, over another recording at low power, with a random range of
/// bands, gain and fader (BYOL-A's views: Niizumi et al., arXiv 2103.06695), as if recorded by another
/// microphone in another room; on demand with other speeds, white noise, and masked ranges of frames and bands.
/// Masked cells are set to the mean, which is zero after normalisation.
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
        let mel = LogMel::new(MelSettings::of(config))?;
        Ok(Self { config: config.clone(), mel })
    }

    /// The frames of a view of `frames` frames over `shown` frames of the recording, and those that it has of them:
    /// with [`Short::Mask`] no more than there are.
    fn fit(&self, wave: &Waveform, frames: usize, shown: usize, speed: f64) -> [usize; 2] {
        let there = self.mel.frames((wave.samples().len() as f64 / speed) as usize).max(1);
        if self.config.short != Short::Mask || there >= shown {
            return [frames, shown];
        }
        let part = there as f64 / shown as f64;
        [((frames as f64 * part).round() as usize).clamp(1, frames), there]
    }

    /// A recording has one channel, which is repeated, or as many as views.
    pub(crate) fn check(&self, wave: &Waveform) -> Result<()> {
        let (has, wanted) = (wave.channels(), self.config.channels);
        if has == 1 || has == wanted {
            return Ok(());
        }
        let reason = format!("has {has} channels, where audio.channels is {wanted}");
        Err(Error::sample("", reason))
    }

    fn random_view(
        &self,
        wave: &Waveform,
        frames: usize,
        others: &[Arc<Waveform>],
        rng: &mut ViewRng,
    ) -> Result<View> {
        let c = &self.config;
        let (stretch, height) = (between(c.time_scale, rng), between(c.band_scale, rng).min(1.0));
        let shown = ((frames as f64 * stretch).round() as usize).max(1);
        let [frames, shown] = self.fit(wave, frames, shown, c.speed[1]);
        let cut = self.draw_cut(wave, shown, rng);
        let place = Place::draw(c, rng);
        let share = c.mix * rng.random::<f64>();
        let other = rng.random_range(0..others.len().max(1));
        let other = match others.get(other) {
            Some(other) if c.mix > 0.0 => Some((other, self.draw_cut(other, shown, rng))),
            _ => None,
        };
        let gain = (c.gain_db * rng.random_range(-1.0..=1.0) * 10f64.ln() / 10.0) as f32;
        let fader = (c.fader * rng.random_range(-1.0..=1.0)) as f32;
        let lowest = rng.random::<f64>() * (1.0 - height) * c.mels as f64;
        let times = masked(frames, c.time_mask, c.mask_chance, rng);
        let bands = masked(c.mels, c.frequency_mask, c.mask_chance, rng);
        let mut data = Vec::with_capacity(c.channels * c.mels * frames);
        for channel in 0..c.channels {
            let mut power = self.power(wave, channel, shown, &cut);
            place.reverberate(&mut power, c.mels);
            let other = other.as_ref().map(|(other, cut)| self.power(other, channel, shown, cut));
            let hiss = place.hiss(&power);
            let mut logs = Vec::with_capacity(power.len());
            for (t, frame) in power.chunks_exact(c.mels).enumerate() {
                let ramp = fader * ((t as f32 + 0.5) / shown as f32 - 0.5);
                let gain = (gain + ramp).exp();
                let response = place.response.iter().zip(&hiss);
                let of = |power: f32, (response, hiss): (&f32, &f32)| {
                    c.log.of(gain * response * (power + hiss))
                };
                match other.as_ref().map(|other| &other[t * c.mels..(t + 1) * c.mels]) {
                    Some(other) => {
                        let share = share as f32;
                        let mixed = |(x, z): (&f32, &f32)| (1.0 - share) * x + share * z;
                        let mixed = frame.iter().zip(other).map(mixed);
                        logs.extend(mixed.zip(response).map(|(x, at)| of(x, at)));
                    }
                    None => logs.extend(frame.iter().zip(response).map(|(x, at)| of(*x, at))),
                }
            }
            data.extend(resample(&logs, c.mels, shown, frames, [lowest, height * c.mels as f64]));
        }
        c.normalize.apply(&mut data, c.mean, c.std);
        for plane in data.chunks_exact_mut(c.mels * frames) {
            for row in plane.chunks_exact_mut(frames) {
                row[times.0..times.1].fill(0.0);
            }
            plane[bands.0 * frames..bands.1 * frames].fill(0.0);
        }
        View::new([c.channels, c.mels, frames], data)
    }

    /// A random stretch of `frames` frames: the best of several.
    pub(crate) fn draw_cut(&self, wave: &Waveform, frames: usize, rng: &mut ViewRng) -> Cut {
        let c = &self.config;
        let draw = |rng: &mut ViewRng| {
            // Changes of the waveform are drawn in any case, so that one setting does not affect the draws of
            // the others.
            let speed = between(c.speed, rng);
            let at = rng.random::<f64>();
            let noise = c.noise * rng.random::<f64>();
            let noise = if chance(c.noise_chance, rng) { noise as f32 } else { 0.0 };
            Cut { speed, at, noise, seed: rng.random::<u64>() }
        };
        let mut best = draw(rng);
        if c.positions < 2 {
            return best;
        }
        let score = |cut: &Cut| -> f32 {
            let of = |channel| match (self.power(wave, channel, frames, cut), c.position_by) {
                (power, Criterion::Energy) => power.iter().sum::<f32>(),
                (power, Criterion::Onset) => onset(&power, c.mels),
            };
            (0..c.channels).map(of).sum()
        };
        let mut most = score(&best);
        for _ in 1..c.positions {
            let other = draw(rng);
            let scored = score(&other);
            if scored > most {
                (best, most) = (other, scored);
            }
        }
        best
    }

    /// Samples that `frames` frames span.
    pub(crate) fn span(&self, frames: usize) -> usize {
        self.mel.span(frames)
    }

    /// The place of a frequency among the bands, from 0 to their number.
    pub(crate) fn band(&self, hertz: f64) -> f64 {
        let c = &self.config;
        let [low, high, at] = [c.f_min, c.highest(), hertz].map(|hertz| c.mel_scale.to_mel(hertz));
        ((at - low) / (high - low)).clamp(0.0, 1.0) * c.mels as f64
    }

    /// The samples of a stretch of `frames` frames.
    pub(crate) fn samples(
        &self,
        wave: &Waveform,
        channel: usize,
        frames: usize,
        cut: &Cut,
    ) -> Vec<f32> {
        let mut samples = self.cut(wave.channel(channel), frames, cut.speed, Some(cut.at));
        add_noise(&mut samples, cut.noise, cut.seed.wrapping_add(channel as u64));
        samples
    }

    /// [`ViewSampler::raw_features`] of the spectrograms of channels of `count` samples.
    pub(crate) fn features_of(&self, channels: &[f32], count: usize) -> Vec<f32> {
        let AudioConfig { mean, std, normalize, .. } = self.config;
        let mut data: Vec<f32> =
            channels.chunks_exact(count).flat_map(|of| self.mel.log_power(of)).collect();
        normalize.apply(&mut data, mean, std);
        features(&data, self.mel.frames(count))
    }

    /// Power of a stretch of `frames` frames, frame by frame.
    fn power(&self, wave: &Waveform, channel: usize, frames: usize, cut: &Cut) -> Vec<f32> {
        let c = &self.config;
        let changes_samples = c.speed != [1.0, 1.0] || c.noise_chance > 0.0 && c.noise > 0.0;
        if !changes_samples && wave.samples().len() >= self.mel.span(1) {
            let spectrogram = wave.spectrogram(channel, |samples| self.mel.power(samples));
            return self.stretch(spectrogram, frames, cut.at);
        }
        self.mel.power(&self.samples(wave, channel, frames, cut)).into_power()
    }

    /// `frames` frames of a spectrogram, at a position from 0 (the earliest) to 1 (the latest).
    fn stretch(&self, spectrogram: &Spectrogram, frames: usize, at: f64) -> Vec<f32> {
        let total = spectrogram.frames();
        let silence = vec![0.0; self.config.mels];
        let room = total as f64 - frames as f64;
        let start = match self.config.short {
            Short::Repeat if room < 0.0 => (at * total as f64).floor(),
            _ => (at * room).round(),
        };
        let mut out = Vec::with_capacity(frames * self.config.mels);
        for t in 0..frames {
            let index = start as i64 + t as i64;
            let index = match self.config.short {
                Short::Repeat => index.rem_euclid(total as i64),
                Short::Pad | Short::Mask => index,
            };
            let inside = usize::try_from(index).ok().filter(|i| *i < total);
            out.extend_from_slice(inside.map_or(&silence[..], |i| spectrogram.frame(i)));
        }
        out
    }

    /// Samples for `frames` frames at `speed`. `at` chooses the position: 0 is the earliest, 1 the latest,
    /// `None` the centre.
    pub(crate) fn cut(
        &self,
        samples: &[f32],
        frames: usize,
        speed: f64,
        at: Option<f64>,
    ) -> Vec<f32> {
        let length = samples.len() as f64;
        let count = self.mel.span(frames);
        let room = length - 1.0 - (count - 1) as f64 * speed;
        let (start, repeat) = match (self.config.short, room < 0.0) {
            // A repeated recording can start at any of its samples; by default at the first one.
            (Short::Repeat, true) => (at.map_or(0.0, |at| at * length), true),
            (Short::Pad | Short::Mask, true) | (_, false) => (at.unwrap_or(0.5) * room, false),
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
}

impl ViewSampler for AudioSampler {
    type Sample = Waveform;

    fn spec(&self) -> ViewSpec {
        let c = &self.config;
        let shape = |frames| [c.channels, c.mels, frames];
        let spec = ViewSpec::multi_crop(
            c.globals,
            shape(c.global_frames),
            c.locals,
            shape(c.local_frames),
        );
        if c.short != Short::Mask {
            return spec;
        }
        let groups = spec.groups().iter().map(|group| group.clone().up_to(2));
        ViewSpec::new(groups.collect::<Vec<_>>())
    }

    fn views(&self, wave: &Waveform, rng: &mut ViewRng) -> Result<Views> {
        self.views_with(wave, &[], rng)
    }

    fn front_end(&self) -> Option<LogSpectrogram> {
        let front = self.mel.front_end(self.config.sample_rate, self.config.global_frames);
        let is_one = self.config.channels == 1;
        front.filter(|_| is_one && self.config.normalize == Normalize::Dataset)
    }

    /// Where recordings are mixed, two others for all views of a recording.
    fn companions(&self) -> usize {
        if self.config.mix > 0.0 { 2 } else { 0 }
    }

    fn views_with(
        &self,
        wave: &Waveform,
        others: &[Arc<Waveform>],
        rng: &mut ViewRng,
    ) -> Result<Views> {
        self.check(wave)?;
        others.iter().try_for_each(|other| self.check(other))?;
        draw_all(&self.config, |frames| self.random_view(wave, frames, others, rng))
    }

    /// Mean and deviation of each band over time, and the envelope in 32 steps.
    fn raw_features(&self, view: &View) -> Vec<f32> {
        match view.shape() {
            [_, _, frames] => features(&view.data(), *frames),
            _ => view.data().to_vec(),
        }
    }

    /// The centre of the recording, without augmentation.
    fn eval_view(&self, wave: &Waveform) -> Result<View> {
        self.check(wave)?;
        let AudioConfig { channels, mels, global_frames, mean, std, .. } = self.config;
        let [frames, _] = self.fit(wave, global_frames, global_frames, 1.0);
        let mut data = Vec::with_capacity(channels * mels * frames);
        for channel in 0..channels {
            let cut = self.cut(wave.channel(channel), frames, 1.0, None);
            data.extend(self.mel.log_power(&cut));
        }
        self.config.normalize.apply(&mut data, mean, std);
        View::new([channels, mels, frames], data)
    }

    /// The first channel, by a search for phases.
    fn sound(&self, view: &View) -> Option<Sound> {
        let c = &self.config;
        let [_, mels, frames] = view.shape()[..] else { return None };
        let plane = view.data();
        let value = |t: usize, band: usize| {
            let value = f64::from(plane[band * frames + t]) * c.std + c.mean;
            c.log.power(value as f32)
        };
        let power: Vec<f32> =
            (0..frames).flat_map(|t| (0..mels).map(move |band| value(t, band))).collect();
        Some(Sound { sample_rate: c.sample_rate, samples: listen(&self.mel, &power) })
    }
}

/// What is taken of a recording.
pub(crate) struct Cut {
    pub(crate) speed: f64,
    /// From 0 (the earliest) to 1 (the latest).
    at: f64,
    /// Of white noise, and its seed.
    noise: f32,
    seed: u64,
}

/// Mean and deviation of rows of `frames` values, and the mean of all rows in 32 steps.
fn features(rows: &[f32], frames: usize) -> Vec<f32> {
    let frames = frames.max(1);
    let count = rows.len() / frames;
    let mut out = Vec::with_capacity(2 * count + 32);
    for row in rows.chunks_exact(frames) {
        let mean = row.iter().sum::<f32>() / frames as f32;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / frames as f32;
        out.extend([mean, variance.sqrt()]);
    }
    let mut envelope = vec![(0f32, 0f32); 32];
    for (t, slot) in (0..frames).map(|t| (t, t * 32 / frames)) {
        let sum: f32 = (0..count).map(|row| rows[row * frames + t]).sum();
        envelope[slot].0 += sum;
        envelope[slot].1 += count as f32;
    }
    out.extend(envelope.into_iter().map(|(sum, n)| sum / n.max(1.0)));
    out
}

/// The largest spectral flux in the first quarter of the frames: how much the magnitudes of bands rise from one frame to
/// the next.
fn onset(power: &[f32], bands: usize) -> f32 {
    let frames = power.len() / bands;
    let rise = |(before, after): (&f32, &f32)| (after.sqrt() - before.sqrt()).max(0.0);
    let flux = |t: usize| -> f32 {
        let (before, after) = power[(t - 1) * bands..(t + 1) * bands].split_at(bands);
        before.iter().zip(after).map(rise).sum()
    };
    (1..=(frames / 4).min(frames.saturating_sub(1))).map(flux).fold(0.0, f32::max)
}

/// True with this probability. Always takes one draw, so that changing one setting does not affect the
/// draws of the others.
fn chance(probability: f64, rng: &mut ViewRng) -> bool {
    rng.random::<f64>() < probability
}

/// Global and local views, each from `draw` for its frames.
pub(crate) fn draw_all(
    c: &AudioConfig,
    mut draw: impl FnMut(usize) -> Result<View>,
) -> Result<Views> {
    let globals = (0..c.globals).map(|_| draw(c.global_frames)).collect::<Result<_>>()?;
    let locals = (0..c.locals).map(|_| draw(c.local_frames)).collect::<Result<_>>()?;
    Ok(Views::multi_crop(globals, locals))
}

/// Uniform in a range.
pub(crate) fn between([low, high]: [f64; 2], rng: &mut ViewRng) -> f64 {
    // Always takes one draw, as `chance` does.
    low + (high - low) * rng.random::<f64>()
}

/// Adds white noise of `noise` times the root mean square.
fn add_noise(samples: &mut [f32], noise: f32, seed: u64) {
    if noise == 0.0 {
        return;
    }
    let power = samples.iter().map(|v| v * v).sum::<f32>() / samples.len().max(1) as f32;
    // Uniform noise from -reach to reach has a standard deviation of reach over the root of 3. It is as
    // white as Gaussian noise, and cheaper.
    let reach = noise * power.sqrt() * 3f32.sqrt();
    let mut stream: ViewRng = rand::SeedableRng::seed_from_u64(seed);
    for v in samples {
        *v += reach * stream.random_range(-1.0..=1.0f32);
    }
}

/// From `[shown, bands]`, frame by frame, to `[bands, frames]`, band by band: all of the time, and the bands
/// from `lowest` on that `height` bands reach, with linear interpolation.
fn resample(
    logs: &[f32],
    bands: usize,
    shown: usize,
    frames: usize,
    [lowest, height]: [f64; 2],
) -> Vec<f32> {
    let taps = |count: usize, from: f64, length: f64, last: usize| -> Vec<(usize, usize, f32)> {
        let step = length / count as f64;
        (0..count)
            .map(|i| {
                let at = (from + (i as f64 + 0.5) * step - 0.5).clamp(0.0, last as f64);
                let low = at.floor();
                (low as usize, (low as usize + 1).min(last), (at - low) as f32)
            })
            .collect()
    };
    let times = taps(frames, 0.0, shown as f64, shown - 1);
    let rows = taps(bands, lowest, height, bands - 1);
    let mut out = vec![0.0; bands * frames];
    for (t, (before, after, part)) in times.into_iter().enumerate() {
        let (a, b) = (&logs[before * bands..][..bands], &logs[after * bands..][..bands]);
        let at = |i: usize| a[i] + part * (b[i] - a[i]);
        for (row, (low, high, part)) in rows.iter().enumerate() {
            out[row * frames + t] = at(*low) + part * (at(*high) - at(*low));
        }
    }
    out
}

/// With this probability, a random range of at most the fraction `most` of `total`; else an empty one.
pub(crate) fn masked(
    total: usize,
    most: f64,
    probability: f64,
    rng: &mut ViewRng,
) -> (usize, usize) {
    let length = (most * rng.random::<f64>() * (total + 1) as f64) as usize;
    let length = length.min((most * total as f64) as usize);
    let from = (rng.random::<f64>() * (total - length + 1) as f64) as usize;
    let from = from.min(total - length);
    if chance(probability, rng) { (from, from + length) } else { (0, 0) }
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
