//! The `[audio]` section of the configuration.

use lejepa_core::Result;
use lejepa_core::config::check::{ascending, ensure, within};
use serde::{Deserialize, Serialize};

use crate::scale::{LogScale, MelScale, Normalize};

/// How recordings are read and how views are made of them.
///
/// A view is a log-mel spectrogram `[1, mels, frames]` of a segment of
/// `n_fft + (frames - 1) * hop` samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AudioConfig {
    /// Rate that recordings are resampled to, in samples per second, 2000 to 192000.
    pub sample_rate: usize,
    /// Samples per frame, 16 to 16384.
    pub n_fft: usize,
    /// Samples between the starts of consecutive frames, 1 to `n_fft`.
    pub hop: usize,
    /// Mel bands: the height of a view, 1 to 512. A multiple of the encoder's patch.
    pub mels: usize,
    /// Lower edge of the lowest band in Hz, 0 to half of `sample_rate`.
    pub f_min: f64,
    /// Upper edge of the highest band in Hz, above `f_min`, at most half of `sample_rate`. 0 means half
    /// of `sample_rate`.
    pub f_max: f64,
    /// Scale that bands are spaced on: `htk`, or `slaney`, on which they have equal area.
    pub mel_scale: MelScale,
    /// How power becomes a value: `ln`, `db`, or `log1p`, ln(1 + p).
    pub log: LogScale,
    /// Share of each sample that is subtracted from the next, which lifts high frequencies, 0 to 1.
    pub pre_emphasis: f64,
    /// What is subtracted and divided by: `mean` and `std` of the `dataset`, or those of each `clip`.
    pub normalize: Normalize,
    /// Global views per recording, 1 to 16.
    pub globals: usize,
    /// Local views per recording, 0 to 32.
    pub locals: usize,
    /// Frames of a global view: its width, 1 to 16384. A multiple of the encoder's patch.
    pub global_frames: usize,
    /// Frames of a local view: its width, 1 to `global_frames`. A multiple of the encoder's patch.
    pub local_frames: usize,
    /// Longest recording that is decoded whole, in seconds, 1 to 3600, and at least a global view at
    /// the highest `speed` and `time_scale`. Of a longer one a random segment of this length is decoded each time, and
    /// not cached.
    pub whole_seconds: f64,
    /// Channels of a view, 1 to 64, with the same crops and augmentations: 1 by `downmix`; above 1 recordings need as many,
    /// and mono ones are repeated.
    pub channels: usize,
    /// How several channels become one: `mean`, the `first`, or the `loudest` of each recording. The mean of
    /// inverted stereo is silence.
    pub downmix: Downmix,
    /// Recordings shorter than a view: `repeat` them, `pad` them with silence, or `mask`: their views are shorter, and
    /// an encoder that takes lengths (`convnet`, `resnet`, `vit`) sees nothing beyond their end.
    pub short: Short,
    /// Positions drawn for each view, 1 to 16, of which the best is taken: above 1 where much of the
    /// recordings is silence.
    pub positions: usize,
    /// Which position is the best: by `energy` the loudest; by `onset` that with the sharpest onset in its first quarter,
    /// where sounds have a beginning (largest spectral flux; Bello et al., doi 10.1109/TSA.2005.851998).
    pub position_by: Criterion,
    /// Largest share of the power of a view, 0 to 0.9, that comes from another recording:
    /// log((1 − a)·x + a·z) of powers x and z with a uniform from 0 (Niizumi et al., arXiv 2103.06695).
    pub mix: f64,
    /// Smallest and largest length of the stretch of time that a view shows, as a factor of its own, 0.25
    /// to 4: it is stretched or squeezed to the frames of the view.
    pub time_scale: [f64; 2],
    /// Smallest and largest range of bands that a view shows, as a factor of all bands, 0.25 to 4, where
    /// above 1 counts as 1: it is stretched to all bands, which shifts pitch.
    pub band_scale: [f64; 2],
    /// Largest change of the natural logarithm of power over a view, up or down, by a linear fader, 0 to
    /// 10.
    pub fader: f64,
    /// Largest change of gain, up or down, in dB, 0 to 60.
    pub gain_db: f64,
    /// Largest gain or loss of bands in dB, 0 to 40, by a random frequency response that is linear between random
    /// bands, as of another microphone (FilterAugment; Nam et al., arXiv 2110.03282).
    pub filter_db: f64,
    /// Longest reverberation in seconds to −60 dB, 0 to 5: the power of each band fades exponentially, as in
    /// another room.
    pub reverb: f64,
    /// Largest power of a steady noise of a random spectrum, relative to the mean power of a view, 0 to 10. It is
    /// drawn on a logarithmic scale from a thousandth of it.
    pub hiss: f64,
    /// Smallest and largest playback speed as a factor, 0.25 to 4. Pitch changes with it.
    pub speed: [f64; 2],
    /// Probability of adding white noise to a view, 0 to 1.
    pub noise_chance: f64,
    /// Largest amplitude of the noise, relative to the root mean square of the segment, 0 to 10.
    pub noise: f64,
    /// Probability of masking a range of frames, and independently of masking a range of bands, 0 to 1.
    pub mask_chance: f64,
    /// Largest fraction of a view's frames that is masked, 0 to 0.9.
    pub time_mask: f64,
    /// Largest fraction of a view's bands that is masked, 0 to 0.9.
    pub frequency_mask: f64,
    /// Mean that is subtracted from log-mel values, -100 to 100.
    pub mean: f64,
    /// Standard deviation that log-mel values are divided by, 0.001 to 100.
    pub std: f64,
}

/// What becomes of a recording shorter than a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Short {
    /// The recording is repeated.
    Repeat,
    /// Silence is added before and after.
    Pad,
    /// Its views are shorter.
    Mask,
}

/// How several channels become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Downmix {
    /// The mean of all channels.
    Mean,
    /// The first channel: the left one of stereo.
    First,
    /// The channel with the most energy.
    Loudest,
}

/// Which of several positions is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Criterion {
    /// That with the most power.
    Energy,
    /// That with the sharpest onset in its first quarter.
    Onset,
}

impl Default for AudioConfig {
    fn default() -> Self {
        Self {
            sample_rate: 16000,
            n_fft: 512,
            hop: 160,
            mels: 64,
            f_min: 50.0,
            f_max: 0.0,
            mel_scale: MelScale::Htk,
            log: LogScale::Ln,
            pre_emphasis: 0.0,
            normalize: Normalize::Dataset,
            globals: 2,
            locals: 4,
            global_frames: 96,
            local_frames: 48,
            whole_seconds: 30.0,
            channels: 1,
            downmix: Downmix::Mean,
            short: Short::Repeat,
            positions: 1,
            position_by: Criterion::Energy,
            mix: 0.2,
            time_scale: [0.6, 1.5],
            band_scale: [0.6, 1.5],
            fader: 1.0,
            gain_db: 6.0,
            filter_db: 6.0,
            reverb: 0.3,
            hiss: 0.1,
            speed: [1.0, 1.0],
            noise_chance: 0.0,
            noise: 0.1,
            mask_chance: 0.0,
            time_mask: 0.2,
            frequency_mask: 0.2,
            mean: -2.2,
            std: 2.2,
        }
    }
}

impl AudioConfig {
    /// Upper edge of the highest band in Hz.
    pub(crate) fn highest(&self) -> f64 {
        if self.f_max == 0.0 { self.sample_rate as f64 / 2.0 } else { self.f_max }
    }

    /// Refuses values out of range. [`AudioSampler::new`](crate::AudioSampler::new) also refuses `mels`
    /// that are too many for `n_fft`.
    ///
    /// # Errors
    /// [`Error::BadValue`](lejepa_core::Error::BadValue), which names the key and the allowed values.
    ///
    /// ```
    /// use lejepa_audio::AudioConfig;
    ///
    /// AudioConfig::default().validate()?;
    /// let error = AudioConfig { hop: 0, ..AudioConfig::default() }.validate().unwrap_err();
    /// assert!(error.to_string().ends_with("`audio.hop`: must be from 1 to 512, got 0"));
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn validate(&self) -> Result<()> {
        within("audio.sample_rate", self.sample_rate, 2000..=192_000)?;
        within("audio.n_fft", self.n_fft, 16..=16384)?;
        within("audio.hop", self.hop, 1..=self.n_fft)?;
        within("audio.mels", self.mels, 1..=512)?;
        let nyquist = self.sample_rate as f64 / 2.0;
        within("audio.f_min", self.f_min, 0.0..=nyquist)?;
        within("audio.f_max", self.f_max, 0.0..=nyquist)?;
        let (low, high) = (self.f_min, self.highest());
        let reason = format_args!("must be below the upper edge of {high} Hz, got {low}");
        ensure("audio.f_min", low < high, reason)?;
        within("audio.pre_emphasis", self.pre_emphasis, 0.0..=1.0)?;
        within("audio.channels", self.channels, 1..=64)?;
        within("audio.globals", self.globals, 1..=16)?;
        within("audio.locals", self.locals, 0..=32)?;
        within("audio.global_frames", self.global_frames, 1..=16384)?;
        within("audio.local_frames", self.local_frames, 1..=self.global_frames)?;
        ascending("audio.speed", self.speed, 0.25..=4.0)?;
        within("audio.whole_seconds", self.whole_seconds, 1.0..=3600.0)?;
        ascending("audio.time_scale", self.time_scale, 0.25..=4.0)?;
        ascending("audio.band_scale", self.band_scale, 0.25..=4.0)?;
        let samples = self.n_fft + (self.global_frames - 1) * self.hop;
        let longest = samples as f64 * self.speed[1] * self.time_scale[1].max(1.0);
        let (whole, view) = (self.whole_seconds, longest / self.sample_rate as f64);
        let reason =
            format_args!("must be at least {view:.2}, the length of a global view, got {whole}");
        ensure("audio.whole_seconds", whole >= view, reason)?;
        within("audio.positions", self.positions, 1..=16)?;
        within("audio.mix", self.mix, 0.0..=0.9)?;
        within("audio.fader", self.fader, 0.0..=10.0)?;
        within("audio.gain_db", self.gain_db, 0.0..=60.0)?;
        within("audio.filter_db", self.filter_db, 0.0..=40.0)?;
        within("audio.reverb", self.reverb, 0.0..=5.0)?;
        within("audio.hiss", self.hiss, 0.0..=10.0)?;
        within("audio.noise_chance", self.noise_chance, 0.0..=1.0)?;
        within("audio.noise", self.noise, 0.0..=10.0)?;
        within("audio.mask_chance", self.mask_chance, 0.0..=1.0)?;
        within("audio.time_mask", self.time_mask, 0.0..=0.9)?;
        within("audio.frequency_mask", self.frequency_mask, 0.0..=0.9)?;
        within("audio.mean", self.mean, -100.0..=100.0)?;
        within("audio.std", self.std, 0.001..=100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range() {
        AudioConfig::default().validate().unwrap();
    }

    #[test]
    fn every_bad_value_names_its_key() {
        for line in [
            "sample_rate = 0",
            "n_fft = 8",
            "hop = 0",
            "hop = 513",
            "mels = 0",
            "f_min = 8000.0",
            "f_min = nan",
            "f_max = 9000.0",
            "pre_emphasis = 1.5",
            "globals = 0",
            "channels = 65",
            "locals = 33",
            "global_frames = 0",
            "local_frames = 97",
            "speed = [1.1, 1.0]",
            "speed = [0.0, 1.0]",
            "whole_seconds = 1.2",
            "positions = 0",
            "mix = 1.0",
            "time_scale = [2.0, 1.0]",
            "band_scale = [0.1, 1.0]",
            "fader = -1.0",
            "whole_seconds = inf",
            "gain_db = -1.0",
            "filter_db = 41.0",
            "reverb = nan",
            "hiss = -0.1",
            "noise_chance = 2.0",
            "noise = 11.0",
            "mask_chance = -0.5",
            "time_mask = 1.0",
            "frequency_mask = nan",
            "mean = 1000.0",
            "std = 0.0",
        ] {
            let table: lejepa_core::Table = line.parse().unwrap();
            let config: AudioConfig = lejepa_core::config::parse("audio", &table).unwrap();
            let error = config.validate().unwrap_err().to_string();
            let key = line.split(' ').next().unwrap();
            assert!(error.contains(&format!("`audio.{key}`")), "{line}: {error}");
        }
    }

    #[test]
    fn unknown_keys_and_variants_are_refused() {
        for line in ["rate = 8000", "short = \"stretch\""] {
            let table: lejepa_core::Table = line.parse().unwrap();
            assert!(lejepa_core::config::parse::<AudioConfig>("audio", &table).is_err());
        }
        let table: lejepa_core::Table = "short = \"pad\"".parse().unwrap();
        let config: AudioConfig = lejepa_core::config::parse("audio", &table).unwrap();
        assert_eq!(config.short, Short::Pad);
    }
}
