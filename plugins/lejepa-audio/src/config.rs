//! The `[audio]` section of the configuration.

use lejepa_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::mel::LogMel;

/// How recordings are read and how views are made of them.
///
/// A view is a log-mel spectrogram `[1, mels, frames]` of a stretch of
/// `n_fft + (frames - 1) * hop` samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AudioConfig {
    /// Rate that recordings are brought to, in samples per second, 2000 to 192000.
    pub sample_rate: usize,
    /// Samples of one frame, 16 to 16384.
    pub n_fft: usize,
    /// Samples from one frame to the next, 1 to `n_fft`.
    pub hop: usize,
    /// Mel bands: the height of a view, 1 to 512. A multiple of the encoder's patch.
    pub mels: usize,
    /// Lower edge of the lowest band in Hz, 0 to half of `sample_rate`.
    pub f_min: f64,
    /// Upper edge of the highest band in Hz, above `f_min`, at most half of `sample_rate`. 0 stands
    /// for half of `sample_rate`.
    pub f_max: f64,
    /// Global views per recording, 1 to 16.
    pub globals: usize,
    /// Local views per recording, 0 to 32.
    pub locals: usize,
    /// Frames of a global view: its width, 1 to 16384. A multiple of the encoder's patch.
    pub global_frames: usize,
    /// Frames of a local view: its width, 1 to `global_frames`. A multiple of the encoder's patch.
    pub local_frames: usize,
    /// Seconds kept of one recording, 1 to 3600, and at least a global view at the greatest
    /// `speed`. Of a longer recording a random stretch of this length is decoded each time, and it
    /// is not kept in memory.
    pub whole_seconds: f64,
    /// What is done where a recording is shorter than a view: `repeat` or `pad`.
    pub short: Short,
    /// Greatest change of loudness up or down, in dB, 0 to 60.
    pub gain_db: f64,
    /// Least and greatest playing speed as a factor, 0.25 to 4. Pitch moves with it.
    pub speed: [f64; 2],
    /// Probability of adding white noise to a view, 0 to 1.
    pub noise_chance: f64,
    /// Greatest strength of the noise, relative to the root mean square of the view's sound, 0 to
    /// 10.
    pub noise: f64,
    /// Probability of hiding a stretch of time of a view, and again of hiding a stretch of bands,
    /// 0 to 1.
    pub mask_chance: f64,
    /// Greatest part of a view's frames that is hidden, 0 to 0.9.
    pub time_mask: f64,
    /// Greatest part of a view's bands that is hidden, 0 to 0.9.
    pub frequency_mask: f64,
    /// Mean of the log-mel values, subtracted from them, -100 to 100.
    pub mean: f64,
    /// Standard deviation of the log-mel values, which they are divided by, 0.001 to 100.
    pub std: f64,
}

/// What a view of a recording that is shorter than the view is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Short {
    /// The recording over and over.
    Repeat,
    /// The recording once, silence around it.
    Pad,
}

impl Default for AudioConfig {
    fn default() -> Self {
        Self {
            sample_rate: 16000,
            n_fft: 512,
            hop: 256,
            mels: 64,
            f_min: 50.0,
            f_max: 0.0,
            globals: 2,
            locals: 4,
            global_frames: 96,
            local_frames: 48,
            whole_seconds: 30.0,
            short: Short::Repeat,
            gain_db: 6.0,
            speed: [0.95, 1.05],
            noise_chance: 0.5,
            noise: 0.1,
            mask_chance: 0.5,
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

    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::BadValue`] that names the key and what it may be.
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
        whole("sample_rate", self.sample_rate, 2000, 192_000)?;
        whole("n_fft", self.n_fft, 16, 16384)?;
        whole("hop", self.hop, 1, self.n_fft)?;
        whole("mels", self.mels, 1, 512)?;
        let nyquist = self.sample_rate as f64 / 2.0;
        within("f_min", self.f_min, 0.0, nyquist)?;
        within("f_max", self.f_max, 0.0, nyquist)?;
        if self.f_min >= self.highest() {
            let reason = format!(
                "must be below the upper edge of {} Hz, got {}",
                self.highest(),
                self.f_min
            );
            return Err(bad("f_min", reason));
        }
        whole("globals", self.globals, 1, 16)?;
        whole("locals", self.locals, 0, 32)?;
        whole("global_frames", self.global_frames, 1, 16384)?;
        whole("local_frames", self.local_frames, 1, self.global_frames)?;
        let [low, high] = self.speed;
        if !(0.25..=4.0).contains(&low) || !(low..=4.0).contains(&high) {
            let reason =
                format!("must be two factors from 0.25 to 4 in order, got {low} and {high}");
            return Err(bad("speed", reason));
        }
        within("whole_seconds", self.whole_seconds, 1.0, 3600.0)?;
        let view = (self.n_fft + (self.global_frames - 1) * self.hop) as f64 * high
            / self.sample_rate as f64;
        if self.whole_seconds < view {
            let reason = format!(
                "must be at least {view:.2}, the length of a global view, got {}",
                self.whole_seconds
            );
            return Err(bad("whole_seconds", reason));
        }
        within("gain_db", self.gain_db, 0.0, 60.0)?;
        within("noise_chance", self.noise_chance, 0.0, 1.0)?;
        within("noise", self.noise, 0.0, 10.0)?;
        within("mask_chance", self.mask_chance, 0.0, 1.0)?;
        within("time_mask", self.time_mask, 0.0, 0.9)?;
        within("frequency_mask", self.frequency_mask, 0.0, 0.9)?;
        within("mean", self.mean, -100.0, 100.0)?;
        within("std", self.std, 0.001, 100.0)?;
        // The bands must also fit the transform, which only building them tells.
        LogMel::new(self).map(|_| ())
    }
}

pub(crate) fn bad(key: &str, reason: impl ToString) -> Error {
    Error::bad_value(format!("audio.{key}"), reason)
}

fn whole(key: &str, value: usize, low: usize, high: usize) -> Result<()> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(bad(key, format!("must be from {low} to {high}, got {value}")))
    }
}

fn within(key: &str, value: f64, low: f64, high: f64) -> Result<()> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(bad(key, format!("must be from {low} to {high}, got {value}")))
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
        for words in [
            "sample_rate = 0",
            "n_fft = 8",
            "hop = 0",
            "hop = 513",
            "mels = 0",
            "mels = 500",
            "f_min = 8000.0",
            "f_min = nan",
            "f_max = 9000.0",
            "globals = 0",
            "locals = 33",
            "global_frames = 0",
            "local_frames = 97",
            "speed = [1.1, 1.0]",
            "speed = [0.0, 1.0]",
            "whole_seconds = 1.5",
            "whole_seconds = inf",
            "gain_db = -1.0",
            "noise_chance = 2.0",
            "noise = 11.0",
            "mask_chance = -0.5",
            "time_mask = 1.0",
            "frequency_mask = nan",
            "mean = 1000.0",
            "std = 0.0",
        ] {
            let table: lejepa_core::Table = words.parse().unwrap();
            let config: AudioConfig = lejepa_core::config::parse("audio", &table).unwrap();
            let error = config.validate().unwrap_err().to_string();
            let key = words.split(' ').next().unwrap();
            assert!(error.contains(&format!("`audio.{key}`")), "{words}: {error}");
        }
    }

    #[test]
    fn unknown_keys_and_words_are_refused() {
        for words in ["rate = 8000", "short = \"stretch\""] {
            let table: lejepa_core::Table = words.parse().unwrap();
            assert!(lejepa_core::config::parse::<AudioConfig>("audio", &table).is_err());
        }
        let table: lejepa_core::Table = "short = \"pad\"".parse().unwrap();
        let config: AudioConfig = lejepa_core::config::parse("audio", &table).unwrap();
        assert_eq!(config.short, Short::Pad);
    }
}
