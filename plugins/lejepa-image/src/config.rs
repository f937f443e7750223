//! The `[image]` section of the configuration.

use lejepa_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How pictures are read and how views are made of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageConfig {
    /// Global views per picture, 1 to 16.
    pub globals: usize,
    /// Local views per picture, 0 to 32.
    pub locals: usize,
    /// Side of a global view in pixels, 4 to 1024. A multiple of the encoder's patch.
    pub global_size: usize,
    /// Side of a local view in pixels, 4 to 1024. A multiple of the encoder's patch.
    pub local_size: usize,
    /// Least and greatest area of a global crop over that of the picture, above 0 to 1.
    pub global_scale: [f64; 2],
    /// Least and greatest area of a local crop over that of the picture, above 0 to 1.
    pub local_scale: [f64; 2],
    /// Least and greatest width over height of a crop, 0.01 to 100.
    pub ratio: [f64; 2],
    /// Probability of mirroring left to right, 0 to 1.
    pub flip: f64,
    /// Probability of colour jitter, 0 to 1.
    pub jitter: f64,
    /// Greatest relative change of brightness by the jitter, 0 to 1.
    pub brightness: f64,
    /// Greatest relative change of contrast by the jitter, 0 to 1.
    pub contrast: f64,
    /// Greatest relative change of saturation by the jitter, 0 to 1. Nothing on grey views.
    pub saturation: f64,
    /// Greatest turn of the hue by the jitter, 0 to 0.5 of a full turn. Nothing on grey views.
    pub hue: f64,
    /// Probability that colours become grey, 0 to 1. Nothing on grey views.
    pub grey: f64,
    /// Probability of blurring, 0 to 1.
    pub blur: f64,
    /// Least and greatest standard deviation of the blur, in pixels of a side of 224; smaller views
    /// are blurred less in proportion. Above 0 to 10.
    pub sigma: [f64; 2],
    /// Probability of solarising (inverting all values from 0.5 up), 0 to 1.
    pub solarize: f64,
    /// Channels of a view: 1 (luma) or 3 (RGB).
    pub channels: usize,
    /// Mean subtracted from a channel, where 0 is black and 1 is white; -10 to 10. With one channel
    /// the first.
    pub mean: [f64; 3],
    /// Standard deviation a channel is divided by, 0.001 to 100. With one channel the first.
    pub std: [f64; 3],
    /// Longest side, in pixels, at which a decoded picture is kept; larger ones are scaled down
    /// once. At least 16, or 0 to keep the full size.
    pub max_side: usize,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            globals: 2,
            locals: 6,
            global_size: 64,
            local_size: 32,
            global_scale: [0.3, 1.0],
            local_scale: [0.05, 0.3],
            ratio: [0.75, 4.0 / 3.0],
            flip: 0.5,
            jitter: 0.8,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.2,
            hue: 0.1,
            grey: 0.2,
            blur: 0.5,
            sigma: [0.1, 2.0],
            solarize: 0.2,
            channels: 3,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            max_side: 512,
        }
    }
}

impl ImageConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::BadValue`] naming the key and what is allowed.
    ///
    /// ```
    /// use lejepa_image::ImageConfig;
    ///
    /// ImageConfig::default().validate()?;
    /// let error = ImageConfig { channels: 2, ..ImageConfig::default() }.validate().unwrap_err();
    /// assert_eq!(error.to_string(), "configuration key `image.channels`: must be 1 or 3");
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn validate(&self) -> Result<()> {
        let side = 4..=1024;
        let unit = 0.0..=1.0;
        let share = |r: [f64; 2]| r[0] > 0.0 && r[0] <= r[1] && r[1] <= 1.0;
        let rules = [
            ("globals", (1..=16).contains(&self.globals), "must lie in 1..=16"),
            ("locals", self.locals <= 32, "must lie in 0..=32"),
            ("global_size", side.contains(&self.global_size), "must lie in 4..=1024"),
            ("local_size", side.contains(&self.local_size), "must lie in 4..=1024"),
            ("global_scale", share(self.global_scale), "must rise, above 0 to 1"),
            ("local_scale", share(self.local_scale), "must rise, above 0 to 1"),
            (
                "ratio",
                self.ratio[0] >= 0.01 && self.ratio[0] <= self.ratio[1] && self.ratio[1] <= 100.0,
                "must rise, within 0.01 to 100",
            ),
            ("flip", unit.contains(&self.flip), "must lie in 0..=1"),
            ("jitter", unit.contains(&self.jitter), "must lie in 0..=1"),
            ("brightness", unit.contains(&self.brightness), "must lie in 0..=1"),
            ("contrast", unit.contains(&self.contrast), "must lie in 0..=1"),
            ("saturation", unit.contains(&self.saturation), "must lie in 0..=1"),
            ("hue", (0.0..=0.5).contains(&self.hue), "must lie in 0..=0.5"),
            ("grey", unit.contains(&self.grey), "must lie in 0..=1"),
            ("blur", unit.contains(&self.blur), "must lie in 0..=1"),
            (
                "sigma",
                self.sigma[0] > 0.0 && self.sigma[0] <= self.sigma[1] && self.sigma[1] <= 10.0,
                "must rise, above 0 to 10",
            ),
            ("solarize", unit.contains(&self.solarize), "must lie in 0..=1"),
            ("channels", matches!(self.channels, 1 | 3), "must be 1 or 3"),
            ("mean", self.mean.iter().all(|m| (-10.0..=10.0).contains(m)), "must lie in -10..=10"),
            ("std", self.std.iter().all(|s| (1e-3..=100.0).contains(s)), "must lie in 0.001..=100"),
            (
                "max_side",
                self.max_side == 0 || self.max_side >= 16,
                "must be 0 (off) or at least 16",
            ),
        ];
        match rules.into_iter().find(|(_, ok, _)| !ok) {
            Some((key, _, reason)) => Err(Error::bad_value(format!("image.{key}"), reason)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_nonsense_is_not() {
        let ok = ImageConfig::default();
        ok.validate().unwrap();
        for (key, bad) in [
            ("globals", ImageConfig { globals: 0, ..ok.clone() }),
            ("locals", ImageConfig { locals: 33, ..ok.clone() }),
            ("global_size", ImageConfig { global_size: 2000, ..ok.clone() }),
            ("local_size", ImageConfig { local_size: 0, ..ok.clone() }),
            ("global_scale", ImageConfig { global_scale: [0.5, 0.2], ..ok.clone() }),
            ("local_scale", ImageConfig { local_scale: [0.0, 0.2], ..ok.clone() }),
            ("ratio", ImageConfig { ratio: [f64::NAN, 1.0], ..ok.clone() }),
            ("flip", ImageConfig { flip: f64::NAN, ..ok.clone() }),
            ("jitter", ImageConfig { jitter: 1.1, ..ok.clone() }),
            ("brightness", ImageConfig { brightness: -0.1, ..ok.clone() }),
            ("contrast", ImageConfig { contrast: 2.0, ..ok.clone() }),
            ("saturation", ImageConfig { saturation: f64::INFINITY, ..ok.clone() }),
            ("hue", ImageConfig { hue: 0.6, ..ok.clone() }),
            ("grey", ImageConfig { grey: 7.0, ..ok.clone() }),
            ("blur", ImageConfig { blur: -1.0, ..ok.clone() }),
            ("sigma", ImageConfig { sigma: [0.0, 1.0], ..ok.clone() }),
            ("solarize", ImageConfig { solarize: 1.5, ..ok.clone() }),
            ("channels", ImageConfig { channels: 2, ..ok.clone() }),
            ("mean", ImageConfig { mean: [1e300; 3], ..ok.clone() }),
            ("std", ImageConfig { std: [0.0; 3], ..ok.clone() }),
            ("max_side", ImageConfig { max_side: 3, ..ok }),
        ] {
            let e = bad.validate().unwrap_err().to_string();
            assert!(e.contains(&format!("`image.{key}`")), "{e}");
        }
    }
}
