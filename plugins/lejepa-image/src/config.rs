//! The `[image]` section of the configuration.

use lejepa_core::Result;
use lejepa_core::config::check::{ascending, ensure, within};
use serde::{Deserialize, Serialize};

use crate::decode::{Background, DecodeOptions, Pages};
use crate::picture::MAX_CHANNELS;

/// How images are read and how views are made of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageConfig {
    /// Global views per image, 1 to 16.
    pub globals: usize,
    /// Local views per image, 0 to 32.
    pub locals: usize,
    /// Side of a global view in pixels, 4 to 1024. A multiple of the encoder's patch.
    pub global_size: usize,
    /// Side of a local view in pixels, 4 to 1024. A multiple of the encoder's patch.
    pub local_size: usize,
    /// Smallest and largest area of a global crop, as a fraction of the image, 0.001 to 1.
    pub global_scale: [f64; 2],
    /// Smallest and largest area of a local crop, as a fraction of the image, 0.001 to 1.
    pub local_scale: [f64; 2],
    /// Smallest and largest aspect ratio (width over height) of a crop, 0.01 to 100.
    pub ratio: [f64; 2],
    /// Probability of a horizontal flip, 0 to 1.
    pub flip: f64,
    /// Probability of a vertical flip, 0 to 1.
    pub flip_vertical: f64,
    /// Probability, 0 to 1, of a turn by 90°, 180° or 270°, for data without an upright position.
    pub quarter_turn: f64,
    /// Largest rotation of a crop to either side in degrees, 0 to 180. What comes from outside the crop
    /// continues its edges.
    pub rotate: f64,
    /// Largest shear of a crop to either side, horizontal and vertical, as a fraction of its side, 0
    /// to 1.
    pub shear: f64,
    /// Probability of colour jitter, 0 to 1.
    pub jitter: f64,
    /// Largest relative change of brightness by the jitter, 0 to 1.
    pub brightness: f64,
    /// Largest relative change of contrast by the jitter, 0 to 1.
    pub contrast: f64,
    /// Largest relative change of saturation by the jitter, 0 to 1. Only of RGB.
    pub saturation: f64,
    /// Largest shift of the hue by the jitter, 0 to 0.5 of a full turn. Only of RGB.
    pub hue: f64,
    /// Probability of conversion to greyscale, 0 to 1. Only of RGB.
    pub grey: f64,
    /// Probability of Gaussian blur, 0 to 1.
    pub blur: f64,
    /// Smallest and largest standard deviation of the blur, 0.01 to 10, in pixels of a view of 224
    /// pixels; it is scaled with the side of the view.
    pub sigma: [f64; 2],
    /// Probability of solarisation (inverting all values of at least 0.5), 0 to 1.
    pub solarize: f64,
    /// Channels of a view: 1 (luma), 3 (RGB), or up to 64 that all files have to have.
    pub channels: usize,
    /// Mean subtracted from each channel, where 0 is black and 1 is white; -10 to 10. The last value holds
    /// for all further channels.
    pub mean: Vec<f64>,
    /// Standard deviation that each channel is divided by, 0.001 to 100. The last value holds for all further
    /// channels.
    pub std: Vec<f64>,
    /// Longest side, in pixels, of decoded images; larger ones are scaled down once, large JPEGs as they are
    /// decoded. At least 16, or 0 to keep the full size.
    pub max_side: usize,
    /// What is seen through transparent pixels: `white`, `black`, or `auto`, white behind what is dark and black
    /// behind what is light.
    pub background: Background,
    /// Which pages of a stack are read: the `first`; `any`, another one each time and the middle one for
    /// evaluation; or all of them as `channels`.
    pub pages: Pages,
    /// Values of black and white in files of more than 8 bits; equal ones mean what each file holds: the bits
    /// in use, 0 to 1 or 0 to 255 for floats, or else its smallest and largest value.
    pub range: [f64; 2],
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
            flip_vertical: 0.0,
            quarter_turn: 0.0,
            rotate: 0.0,
            shear: 0.0,
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
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            max_side: 512,
            background: Background::Auto,
            pages: Pages::First,
            range: [0.0, 0.0],
        }
    }
}

impl ImageConfig {
    pub(crate) fn decode_options(&self) -> DecodeOptions {
        let [black, white] = self.range;
        let range = (black != white).then_some(self.range);
        let &Self { background, pages, max_side, .. } = self;
        DecodeOptions { background, pages, range, max_side }
    }

    /// Mean and standard deviation of each channel.
    pub(crate) fn moments(&self) -> (Vec<f64>, Vec<f64>) {
        let all = |values: &[f64]| {
            let value = |c| values.get(c).or(values.last()).copied().unwrap_or(0.5);
            (0..self.channels).map(value).collect()
        };
        (all(&self.mean), all(&self.std))
    }

    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::BadValue`](lejepa_core::Error::BadValue), which names the key and the allowed values.
    ///
    /// ```
    /// use lejepa_image::ImageConfig;
    ///
    /// ImageConfig::default().validate()?;
    /// let error = ImageConfig { channels: 0, ..ImageConfig::default() }.validate().unwrap_err();
    /// assert!(error.to_string().contains("`image.channels`"));
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn validate(&self) -> Result<()> {
        within("image.globals", self.globals, 1..=16)?;
        within("image.locals", self.locals, 0..=32)?;
        within("image.global_size", self.global_size, 4..=1024)?;
        within("image.local_size", self.local_size, 4..=1024)?;
        ascending("image.global_scale", self.global_scale, 0.001..=1.0)?;
        ascending("image.local_scale", self.local_scale, 0.001..=1.0)?;
        ascending("image.ratio", self.ratio, 0.01..=100.0)?;
        within("image.flip", self.flip, 0.0..=1.0)?;
        within("image.flip_vertical", self.flip_vertical, 0.0..=1.0)?;
        within("image.quarter_turn", self.quarter_turn, 0.0..=1.0)?;
        within("image.rotate", self.rotate, 0.0..=180.0)?;
        within("image.shear", self.shear, 0.0..=1.0)?;
        within("image.jitter", self.jitter, 0.0..=1.0)?;
        within("image.brightness", self.brightness, 0.0..=1.0)?;
        within("image.contrast", self.contrast, 0.0..=1.0)?;
        within("image.saturation", self.saturation, 0.0..=1.0)?;
        within("image.hue", self.hue, 0.0..=0.5)?;
        within("image.grey", self.grey, 0.0..=1.0)?;
        within("image.blur", self.blur, 0.0..=1.0)?;
        ascending("image.sigma", self.sigma, 0.01..=10.0)?;
        within("image.solarize", self.solarize, 0.0..=1.0)?;
        within("image.channels", self.channels, 1..=MAX_CHANNELS)?;
        for (key, values, range) in
            [("image.mean", &self.mean, -10.0..=10.0), ("image.std", &self.std, 0.001..=100.0)]
        {
            let count = values.len();
            let reason = format_args!("must be 1 to {MAX_CHANNELS} numbers, got {count}");
            ensure(key, (1..=MAX_CHANNELS).contains(&count), reason)?;
            values.iter().try_for_each(|value| within(key, *value, range.clone()))?;
        }
        let [black, white] = self.range;
        let reason = format_args!(
            "must be two numbers, the first at most the second, got {black} and {white}"
        );
        ensure("image.range", black <= white && (white - black).is_finite(), reason)?;
        let side = self.max_side;
        let reason = format_args!("must be 0 (off) or at least 16, got {side}");
        ensure("image.max_side", side == 0 || side >= 16, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_every_bad_value_names_its_key() {
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
            ("flip_vertical", ImageConfig { flip_vertical: 2.0, ..ok.clone() }),
            ("quarter_turn", ImageConfig { quarter_turn: -1.0, ..ok.clone() }),
            ("rotate", ImageConfig { rotate: 181.0, ..ok.clone() }),
            ("shear", ImageConfig { shear: f64::NAN, ..ok.clone() }),
            ("jitter", ImageConfig { jitter: 1.1, ..ok.clone() }),
            ("brightness", ImageConfig { brightness: -0.1, ..ok.clone() }),
            ("contrast", ImageConfig { contrast: 2.0, ..ok.clone() }),
            ("saturation", ImageConfig { saturation: f64::INFINITY, ..ok.clone() }),
            ("hue", ImageConfig { hue: 0.6, ..ok.clone() }),
            ("grey", ImageConfig { grey: 7.0, ..ok.clone() }),
            ("blur", ImageConfig { blur: -1.0, ..ok.clone() }),
            ("sigma", ImageConfig { sigma: [0.0, 1.0], ..ok.clone() }),
            ("solarize", ImageConfig { solarize: 1.5, ..ok.clone() }),
            ("channels", ImageConfig { channels: 65, ..ok.clone() }),
            ("mean", ImageConfig { mean: vec![1e300; 3], ..ok.clone() }),
            ("mean", ImageConfig { mean: vec![], ..ok.clone() }),
            ("std", ImageConfig { std: vec![0.0; 3], ..ok.clone() }),
            ("std", ImageConfig { std: vec![1.0; 65], ..ok.clone() }),
            ("range", ImageConfig { range: [1.0, 0.0], ..ok.clone() }),
            ("max_side", ImageConfig { max_side: 3, ..ok }),
        ] {
            let e = bad.validate().unwrap_err().to_string();
            assert!(e.contains(&format!("`image.{key}`")), "{e}");
        }
    }
}
