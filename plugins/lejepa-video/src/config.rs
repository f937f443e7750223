//! The `[video]` section of the configuration.

use lejepa_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How videos are read and how views are made of them.
///
/// A view is `[channels, frames, size, size]`. Frame rates are not read: all steps are counted in
/// frames, so a data set of mixed rates is best brought to one rate beforehand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VideoConfig {
    /// Global views per clip, 1 to 16.
    pub globals: usize,
    /// Local views per clip, 0 to 32.
    pub locals: usize,
    /// Frames of a global view, 2 to 256. A multiple of the encoder's patch depth.
    pub frames: usize,
    /// Frames of a local view, 1 to `frames`. A multiple of the encoder's patch depth.
    pub local_frames: usize,
    /// Height and width of a global view in pixels, 4 to 1024. A multiple of the encoder's patch.
    pub global_size: usize,
    /// Height and width of a local view in pixels, 4 to 1024. A multiple of the encoder's patch.
    pub local_size: usize,
    /// Least and greatest step between taken frames, in frames, 1 to 1024. One step is drawn per
    /// view; the greatest one is used for evaluation. Smaller where the clip is too short for it.
    pub stride: [usize; 2],
    /// Short side of decoded frames in pixels, 8 to 1024; larger frames are scaled down to it.
    pub size: usize,
    /// Frames kept of one video, `frames` to 16384. Of a longer one a random stretch of this length
    /// is decoded each time, and it is not kept in memory.
    pub max_frames: usize,
    /// Colour channels of a view: 1 (luma) or 3 (RGB).
    pub channels: usize,
    /// Least and greatest area of a global view's crop, as a fraction of the frame, above 0 to 1.
    pub global_scale: [f64; 2],
    /// Least and greatest area of a local view's crop, as a fraction of the frame, above 0 to 1.
    pub local_scale: [f64; 2],
    /// Least and greatest width over height of a crop, 0.01 to 100.
    pub ratio: [f64; 2],
    /// Probability of mirroring a view left to right, 0 to 1. Turn it off where left and right, or
    /// the sense of a rotation, matter.
    pub flip: f64,
    /// Probability of playing a view backwards, 0 to 1. Turn it on only where the direction of time
    /// does not matter.
    pub reverse: f64,
    /// Probability of changing brightness, contrast and saturation, 0 to 1. One draw holds for all
    /// frames of a view.
    pub jitter: f64,
    /// Greatest relative change of brightness by the jitter, 0 to 1.
    pub brightness: f64,
    /// Greatest relative change of contrast by the jitter, 0 to 1.
    pub contrast: f64,
    /// Greatest relative change of saturation by the jitter, 0 to 1. Nothing on grey views.
    pub saturation: f64,
    /// Probability that colours become grey, 0 to 1. Nothing on grey views.
    pub grey: f64,
    /// Mean subtracted from a channel, where 0 is black and 1 is white, 0 to 1. With one channel
    /// the first.
    pub mean: [f64; 3],
    /// Standard deviation a channel is divided by, 0.001 to 1. With one channel the first.
    pub std: [f64; 3],
}

impl Default for VideoConfig {
    fn default() -> Self {
        Self {
            globals: 2,
            locals: 4,
            frames: 8,
            local_frames: 4,
            global_size: 32,
            local_size: 16,
            stride: [1, 2],
            size: 48,
            max_frames: 64,
            channels: 3,
            global_scale: [0.4, 1.0],
            local_scale: [0.1, 0.4],
            ratio: [0.75, 4.0 / 3.0],
            flip: 0.5,
            reverse: 0.0,
            jitter: 0.8,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.2,
            grey: 0.2,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }
}

impl VideoConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::BadValue`] that names the key and what it may be.
    ///
    /// ```
    /// use lejepa_video::VideoConfig;
    ///
    /// VideoConfig::default().validate()?;
    /// let error = VideoConfig { channels: 2, ..VideoConfig::default() }.validate().unwrap_err();
    /// assert!(error.to_string().ends_with("`video.channels`: must be 1 or 3, got 2"));
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn validate(&self) -> Result<()> {
        whole("globals", self.globals, 1, 16)?;
        whole("locals", self.locals, 0, 32)?;
        whole("frames", self.frames, 2, 256)?;
        whole("local_frames", self.local_frames, 1, self.frames)?;
        whole("global_size", self.global_size, 4, 1024)?;
        whole("local_size", self.local_size, 4, 1024)?;
        whole("size", self.size, 8, 1024)?;
        whole("max_frames", self.max_frames, self.frames, 16384)?;
        for step in self.stride {
            whole("stride", step, 1, 1024)?;
        }
        if self.stride[0] > self.stride[1] {
            return Err(bad("stride", "the first value is the least, the second the greatest"));
        }
        if !matches!(self.channels, 1 | 3) {
            return Err(bad("channels", format!("must be 1 or 3, got {}", self.channels)));
        }
        for (key, [low, high]) in
            [("global_scale", self.global_scale), ("local_scale", self.local_scale)]
        {
            if !(0.001..=1.0).contains(&low) || !(low..=1.0).contains(&high) {
                let reason =
                    format!("must be two areas from 0.001 to 1 in order, got {low} and {high}");
                return Err(bad(key, reason));
            }
        }
        let [low, high] = self.ratio;
        if !(0.01..=100.0).contains(&low) || !(low..=100.0).contains(&high) {
            let reason =
                format!("must be two ratios from 0.01 to 100 in order, got {low} and {high}");
            return Err(bad("ratio", reason));
        }
        for (key, value) in [
            ("flip", self.flip),
            ("reverse", self.reverse),
            ("jitter", self.jitter),
            ("brightness", self.brightness),
            ("contrast", self.contrast),
            ("saturation", self.saturation),
            ("grey", self.grey),
        ]
        .into_iter()
        .chain(self.mean.map(|m| ("mean", m)))
        {
            if !(0.0..=1.0).contains(&value) {
                return Err(bad(key, format!("must be from 0 to 1, got {value}")));
            }
        }
        for std in self.std {
            if !(0.001..=1.0).contains(&std) {
                return Err(bad("std", format!("must be from 0.001 to 1, got {std}")));
            }
        }
        Ok(())
    }
}

fn bad(key: &str, reason: impl ToString) -> Error {
    Error::bad_value(format!("video.{key}"), reason)
}

fn whole(key: &str, value: usize, low: usize, high: usize) -> Result<()> {
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
        VideoConfig::default().validate().unwrap();
    }

    #[test]
    fn every_bad_value_names_its_key() {
        for words in [
            "globals = 0",
            "locals = 33",
            "frames = 1",
            "local_frames = 9",
            "global_size = 0",
            "local_size = 5000",
            "size = 1",
            "max_frames = 7",
            "stride = [2, 1]",
            "stride = [0, 1]",
            "channels = 2",
            "global_scale = [0.0, 1.0]",
            "local_scale = [0.5, 0.4]",
            "local_scale = [0.5, nan]",
            "flip = 1.5",
            "reverse = -0.1",
            "brightness = 2.0",
            "contrast = nan",
            "ratio = [2.0, 1.0]",
            "jitter = 7.0",
            "mean = [0.5, 0.5, 3.0]",
            "std = [0.2, 0.0, 0.2]",
        ] {
            let table: lejepa_core::Table = words.parse().unwrap();
            let config: VideoConfig = lejepa_core::config::parse("video", &table).unwrap();
            let error = config.validate().unwrap_err().to_string();
            let key = words.split(' ').next().unwrap();
            assert!(error.contains(&format!("`video.{key}`")), "{words}: {error}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let table: lejepa_core::Table = "frame = 8".parse().unwrap();
        assert!(lejepa_core::config::parse::<VideoConfig>("video", &table).is_err());
    }
}
