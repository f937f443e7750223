//! The `[video]` section of the configuration.

use lejepa_core::Result;
use lejepa_core::config::check::{ascending, one_of, within};
use serde::{Deserialize, Serialize};

/// How videos are read and how views are made of them.
///
/// A view is `[channels, frames, size, size]`. Strides are counted in frames: of files with different rates `rate` makes
/// them times.
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
    /// Smallest and largest temporal stride, in frames, 1 to 1024. One is drawn per view; evaluation uses
    /// the largest. Clips that are too short for it take a smaller one.
    pub stride: [usize; 2],
    /// Whether all views of a clip see the same stretch of time, so that they have its motion in common
    /// and differ in appearance.
    pub same_span: bool,
    /// Whether each pixel's mean over the frames of a view is subtracted, so that only what moves is left:
    /// values become half of the difference around 0.5. For cameras that stand still.
    pub remove_static: bool,
    /// Whether views have one more channel, the last: half of the difference of luma from the frame before, around 0.5, on
    /// a standard deviation of 0.1. The first frame has none.
    pub difference: bool,
    /// Smallest and largest weight, 0 to 0.9, of a still frame of another clip that is mixed into all
    /// frames of a view (after Wang et al., arXiv 2009.05769): what does not move is then no clue.
    pub background: [f64; 2],
    /// Short side of decoded frames in pixels, 8 to 1024; larger frames are scaled down to it.
    pub size: usize,
    /// Longest video that is decoded whole, in frames, `frames` to 16384. Of a longer one a random
    /// segment of this length is decoded each time, and not cached.
    pub max_frames: usize,
    /// Frames per second that video files are brought to, 0 to 1000, so that strides are times whatever rates they have: the
    /// frames that are shown then are taken. 0 takes all frames. Folders of frames and GIFs are taken as they are.
    pub rate: f64,
    /// Colour channels of a view: 1 (luma) or 3 (RGB).
    pub channels: usize,
    /// Smallest and largest area of a global crop, as a fraction of the frame, 0.001 to 1.
    pub global_scale: [f64; 2],
    /// Smallest and largest area of a local crop, as a fraction of the frame, 0.001 to 1.
    pub local_scale: [f64; 2],
    /// Smallest and largest aspect ratio (width over height) of a crop, 0.01 to 100.
    pub ratio: [f64; 2],
    /// Probability of a horizontal flip, 0 to 1. Turn it off where left and right, or the sense of a
    /// rotation, matter.
    pub flip: f64,
    /// Probability of reversing time, 0 to 1. Turn it on only where the direction of time does not
    /// matter.
    pub reverse: f64,
    /// Probability of colour jitter, 0 to 1, the same for all frames of a view.
    pub jitter: f64,
    /// Largest relative change of brightness by the jitter, 0 to 1.
    pub brightness: f64,
    /// Largest relative change of contrast by the jitter, 0 to 1.
    pub contrast: f64,
    /// Largest relative change of saturation by the jitter, 0 to 1. No effect on views of one channel.
    pub saturation: f64,
    /// Probability of conversion to greyscale, 0 to 1. No effect on views of one channel.
    pub grey: f64,
    /// Probability of inverting all values, 0 to 1.
    pub invert: f64,
    /// Mean subtracted from each channel, where 0 is black and 1 is white, 0 to 1. With one channel only
    /// the first applies.
    pub mean: [f64; 3],
    /// Standard deviation that each channel is divided by, 0.001 to 1. With one channel only the first
    /// applies.
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
            same_span: false,
            remove_static: false,
            difference: false,
            background: [0.0, 0.0],
            size: 48,
            max_frames: 64,
            rate: 0.0,
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
            invert: 0.0,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }
}

impl VideoConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::BadValue`](lejepa_core::Error::BadValue), which names the key and the allowed values.
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
        within("video.globals", self.globals, 1..=16)?;
        within("video.locals", self.locals, 0..=32)?;
        within("video.frames", self.frames, 2..=256)?;
        within("video.local_frames", self.local_frames, 1..=self.frames)?;
        within("video.global_size", self.global_size, 4..=1024)?;
        within("video.local_size", self.local_size, 4..=1024)?;
        ascending("video.stride", self.stride, 1..=1024)?;
        within("video.size", self.size, 8..=1024)?;
        within("video.max_frames", self.max_frames, self.frames..=16384)?;
        within("video.rate", self.rate, 0.0..=1000.0)?;
        one_of("video.channels", self.channels, &[1, 3])?;
        ascending("video.global_scale", self.global_scale, 0.001..=1.0)?;
        ascending("video.local_scale", self.local_scale, 0.001..=1.0)?;
        ascending("video.ratio", self.ratio, 0.01..=100.0)?;
        within("video.flip", self.flip, 0.0..=1.0)?;
        within("video.reverse", self.reverse, 0.0..=1.0)?;
        within("video.jitter", self.jitter, 0.0..=1.0)?;
        within("video.brightness", self.brightness, 0.0..=1.0)?;
        within("video.contrast", self.contrast, 0.0..=1.0)?;
        within("video.saturation", self.saturation, 0.0..=1.0)?;
        within("video.grey", self.grey, 0.0..=1.0)?;
        within("video.invert", self.invert, 0.0..=1.0)?;
        ascending("video.background", self.background, 0.0..=0.9)?;
        for (mean, std) in self.mean.into_iter().zip(self.std) {
            within("video.mean", mean, 0.0..=1.0)?;
            within("video.std", std, 0.001..=1.0)?;
        }
        Ok(())
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
        for line in [
            "globals = 0",
            "locals = 33",
            "frames = 1",
            "local_frames = 9",
            "global_size = 0",
            "local_size = 5000",
            "size = 1",
            "max_frames = 7",
            "rate = -1.0",
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
            "invert = -1.0",
            "background = [0.0, 1.0]",
            "mean = [0.5, 0.5, 3.0]",
            "std = [0.2, 0.0, 0.2]",
        ] {
            let table: lejepa_core::Table = line.parse().unwrap();
            let config: VideoConfig = lejepa_core::config::parse("video", &table).unwrap();
            let error = config.validate().unwrap_err().to_string();
            let key = line.split(' ').next().unwrap();
            assert!(error.contains(&format!("`video.{key}`")), "{line}: {error}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let table: lejepa_core::Table = "frame = 8".parse().unwrap();
        assert!(lejepa_core::config::parse::<VideoConfig>("video", &table).is_err());
    }
}
