//! The section `[film]`.

use lejepa_audio::AudioConfig;
use lejepa_core::config::check;
use lejepa_core::{Error, Result};
use lejepa_video::VideoConfig;
use serde::{Deserialize, Serialize};

/// How films are read, and how views are made of picture and sound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilmConfig {
    /// Length of the part of a film that is seen and heard, in seconds, 0.2 to 600: a random one in training, the
    /// middle in evaluation.
    pub seconds: f64,
    /// Pictures, by the keys of `[video]`.
    pub picture: VideoConfig,
    /// Sound, by the keys of `[audio]`.
    pub sound: AudioConfig,
}

/// Two groups of views of each, and no change of tempo and little of pitch: what picture and sound have in common is
/// told by both.
impl Default for FilmConfig {
    fn default() -> Self {
        Self {
            seconds: 2.0,
            picture: VideoConfig { globals: 1, locals: 2, rate: 12.0, ..VideoConfig::default() },
            sound: AudioConfig {
                globals: 1,
                locals: 2,
                time_scale: [1.0, 1.0],
                band_scale: [0.9, 1.1],
                whole_seconds: 600.0,
                ..AudioConfig::default()
            },
        }
    }
}

impl FilmConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::BadValue`], which names the key and the allowed values.
    ///
    /// ```
    /// use lejepa_film::FilmConfig;
    ///
    /// let mut config = FilmConfig::default();
    /// config.validate()?;
    /// config.sound.hop = 0;
    /// let error = config.validate().unwrap_err();
    /// assert!(error.to_string().contains("`film.sound.hop`: must be from 1 to 512, got 0"));
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn validate(&self) -> Result<()> {
        check::within("film.seconds", self.seconds, 0.2..=600.0)?;
        within("video.", "film.picture.", self.picture.validate())?;
        within("audio.", "film.sound.", self.sound.validate())
    }
}

/// Another section's complaint, by the name that its key has here.
pub(crate) fn within<T>(there: &str, here: &str, result: Result<T>) -> Result<T> {
    result.map_err(|error| match error {
        Error::BadValue { key, reason } => {
            let key = key.strip_prefix(there).map_or(key.clone(), |rest| format!("{here}{rest}"));
            Error::BadValue { key, reason }
        }
        other => other,
    })
}
