//! Scales of frequency and of loudness.

use serde::{Deserialize, Serialize};

/// Which pitches are equally far apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MelScale {
    /// 2595·log₁₀(1 + f/700), bands of height 1: HTK, and torchaudio's default.
    #[default]
    Htk,
    /// Linear up to 1 kHz and logarithmic above, bands of equal area: Slaney's Auditory Toolbox, and librosa's
    /// default.
    Slaney,
}

/// Mels of a hertz below 1 kHz, and the step in log-frequency above: 27 steps double 3.2 times.
const LINEAR: f64 = 3.0 / 200.0;
const KNEE: f64 = 1000.0;

impl MelScale {
    pub(crate) fn to_mel(self, hertz: f64) -> f64 {
        match self {
            Self::Htk => 2595.0 * (1.0 + hertz / 700.0).log10(),
            Self::Slaney if hertz < KNEE => hertz * LINEAR,
            Self::Slaney => KNEE * LINEAR + (hertz / KNEE).ln() / Self::log_step(),
        }
    }

    pub(crate) fn to_hertz(self, mel: f64) -> f64 {
        match self {
            Self::Htk => 700.0 * (10f64.powf(mel / 2595.0) - 1.0),
            Self::Slaney if mel < KNEE * LINEAR => mel / LINEAR,
            Self::Slaney => KNEE * ((mel - KNEE * LINEAR) * Self::log_step()).exp(),
        }
    }

    fn log_step() -> f64 {
        6.4f64.ln() / 27.0
    }

    /// What a band from `left` to `right` Hz is multiplied by.
    pub(crate) fn height(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Htk => 1.0,
            Self::Slaney => 2.0 / (right - left),
        }
    }
}

/// How the power of a band becomes a value of the spectrogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogScale {
    /// ln(p + 10⁻⁶).
    #[default]
    Ln,
    /// 10·log₁₀ max(p, 10⁻¹⁰), decibels.
    Db,
    /// ln(1 + p).
    Log1p,
}

/// Added to the power of a band before the natural logarithm: the value of digital silence.
pub(crate) const FLOOR: f32 = 1e-6;

impl LogScale {
    pub(crate) fn of(self, power: f32) -> f32 {
        match self {
            Self::Ln => (power + FLOOR).ln(),
            Self::Db => 10.0 * power.max(1e-10).log10(),
            Self::Log1p => power.ln_1p(),
        }
    }

    /// The power of a value.
    pub(crate) fn power(self, value: f32) -> f32 {
        match self {
            Self::Ln => (value.exp() - FLOOR).max(0.0),
            Self::Db => 10f32.powf(value / 10.0),
            Self::Log1p => value.exp_m1().max(0.0),
        }
    }
}

/// What mean and deviation of a spectrogram become 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalize {
    /// Those of the data set, `audio.mean` and `audio.std`.
    #[default]
    Dataset,
    /// Those of each view: level and its range say nothing.
    Clip,
}

impl Normalize {
    /// Normalises the values of a view.
    pub(crate) fn apply(self, values: &mut [f32], mean: f64, std: f64) {
        let (mean, std) = match self {
            Self::Dataset => (mean, std),
            Self::Clip => {
                let count = values.len().max(1) as f64;
                let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
                let squares = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
                // Of silence nothing is left.
                (mean, (squares / count).sqrt().max(1e-3))
            }
        };
        values.iter_mut().for_each(|v| *v = ((f64::from(*v) - mean) / std) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_inverted_and_clips_normalised() {
        for scale in [MelScale::Htk, MelScale::Slaney] {
            for hertz in [0.0, 440.0, 1000.0, 7000.0] {
                assert!((scale.to_hertz(scale.to_mel(hertz)) - hertz).abs() < 1e-6);
            }
        }
        // librosa.hz_to_mel(8000) and librosa.hz_to_mel(8000, htk=True).
        assert!((MelScale::Slaney.to_mel(8000.0) - 45.245_640_471_924_965).abs() < 1e-9);
        assert!((MelScale::Htk.to_mel(8000.0) - 2_840.023_046_708_319).abs() < 1e-9);
        let mut values = [1.0, 2.0, 3.0, 6.0];
        Normalize::Clip.apply(&mut values, 9.0, 9.0);
        assert!(values.iter().sum::<f32>().abs() < 1e-5);
        assert!((values.iter().map(|v| v * v).sum::<f32>() / 4.0 - 1.0).abs() < 1e-5);
        let mut silence = [5.0; 3];
        Normalize::Clip.apply(&mut silence, 0.0, 1.0);
        assert_eq!(silence, [0.0; 3]);
    }
}
