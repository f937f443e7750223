//! Videos for LeJEPA: the modality `video`.
//!
//! A sample is a [`Clip`]: at least two frames of one size, from an animated GIF, from a folder of
//! images (`clip/0001.png`, `clip/0002.png`, ...), or, with the cargo feature `ffmpeg`, from any format
//! that FFmpeg reads. Views are `[channels, frames, size, size]`.
//!
//! | Item | Purpose |
//! |---|---|
//! | [`VideoModality`] | the plugin |
//! | [`VideoConfig`] | the `[video]` section |
//! | [`VideoSampler`] | views: a segment, a crop and photometric augmentations, drawn once per view |
//! | `decode.rs` | GIFs and folders of frames, in pure Rust |
//! | `ffmpeg.rs`, `stream.rs` | other formats, with frame-exact access to a segment of a long video |
//! | `demo.rs` | moving digits of eight classes of motion ([`MOTIONS`]) |
//!
//! Of a video with more than [`VideoConfig::max_frames`] frames, training decodes a random segment each
//! time and evaluation the middle. Shorter ones are decoded whole and may be cached.

#![deny(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod advise;
mod clip;
mod config;
mod decode;
mod demo;
#[cfg(feature = "ffmpeg")]
mod ffmpeg;
#[cfg(not(feature = "ffmpeg"))]
#[path = "without_ffmpeg.rs"]
mod ffmpeg;
mod files;
#[cfg(feature = "ffmpeg")]
mod frame_decoder;
mod frames;
mod limits;
mod sampler;
#[cfg(feature = "ffmpeg")]
mod stream;

use std::path::Path;
use std::time::Duration;

use lejepa_core::config::{Docs, field_docs, recipe};
use lejepa_core::{
    Advice, Blob, Codec, Component, Dataset, Decoded, Error, Modality, Preset, Result, Source,
    SourceKind, Survey, Table, ViewSampler, Window, kind, register,
};

pub use clip::Clip;
pub use config::VideoConfig;
pub use demo::MOTIONS;
pub use sampler::VideoSampler;

/// Videos: GIFs, folders of frames, and formats that FFmpeg reads.
pub struct VideoModality;

register!(kind::Modality: VideoModality);

impl Component for VideoModality {
    const NAME: &'static str = "video";
    #[cfg(feature = "ffmpeg")]
    const ABOUT: &'static str = "videos: files that FFmpeg reads, GIFs, folders of frames";
    #[cfg(not(feature = "ffmpeg"))]
    const ABOUT: &'static str =
        "videos: GIFs, folders of frames; mp4 and others with the cargo feature `ffmpeg`";
    type Config = VideoConfig;

    fn docs() -> Docs {
        field_docs(include_str!("config.rs"), "VideoConfig")
    }
}

impl Modality for VideoModality {
    const EXTENSIONS: &'static [&'static str] = decode::VIDEO;

    const PRESETS: &'static [Preset] = advise::PRESETS;

    const CODEC: Option<Codec<Clip>> = Some(Clip::CODEC);

    type Sample = Clip;

    fn open(config: &VideoConfig, source: Source) -> Result<Box<dyn Dataset<Item = Clip>>> {
        Ok(match source {
            Source::Demo => Box::new(demo::Demo::new()),
            Source::Blobs(store) => Box::new(files::open(store, config)?),
            other => {
                return Err(Error::Data {
                    reason: format!("videos cannot be read from {other:?}"),
                    hint: "use the built-in data, encoded videos or folders of frames".into(),
                });
            }
        })
    }

    fn sampler(config: &VideoConfig) -> Result<Box<dyn ViewSampler<Sample = Clip>>> {
        Ok(Box::new(VideoSampler::new(config)?))
    }

    fn recipe(source: SourceKind) -> Table {
        recipe(if source == SourceKind::Demo { demo::RECIPE } else { FILES })
    }

    fn advise(config: &VideoConfig, survey: &Survey<'_, Clip>) -> Result<Advice> {
        advise::advise(config, survey)
    }

    fn decoding(config: &VideoConfig) -> String {
        format!("{:?}", limits::Limits::of(config))
    }

    fn recognises(start: &[u8]) -> bool {
        decode::is_known(start)
    }

    fn is_sample_dir(path: &Path) -> bool {
        frames::is_frame_folder(path)
    }
}

/// Decodes a video, or of a long one the segment that `window` chooses, as data sets of this modality do.
///
/// # Errors
/// Why it cannot be decoded, in words.
pub fn decode(
    blob: &Blob<'_>,
    config: &VideoConfig,
    window: Window<'_>,
) -> Result<Decoded<Clip>, String> {
    decode::decode(blob, limits::Limits::of(config), window)
}

/// How long a video file says that it is.
///
/// # Errors
/// Why that is not known, in words; without the cargo feature `ffmpeg` always.
pub fn length(path: &Path) -> Result<Duration, String> {
    ffmpeg::length(path)
}

/// Calls `read` with a file that holds a video: its own, or, of a member of an archive, a copy that is removed afterwards.
///
/// # Errors
/// That of `read`, and why there can be no copy, in words; without the cargo feature `ffmpeg` always.
pub fn with_file<T>(
    blob: &Blob<'_>,
    read: impl FnOnce(&Path) -> Result<T, String>,
) -> Result<T, String> {
    ffmpeg::with_file(blob, read)
}

/// A patch spans 2 frames and 8×8 pixels.
const FILES: &str = "
[encoder]
name = 'vit'
patch = [2, 8, 8]
";

#[cfg(test)]
mod tests {
    use super::*;
    use lejepa_core::config::overlay;
    use lejepa_core::{OpenOptions, Registry};

    #[test]
    fn the_demo_runs_through_the_registry() {
        let registry = Registry::discover().unwrap();
        let video = registry.find::<kind::Modality>("video", None).unwrap();
        let mut section = video.meta().defaults().unwrap();
        let recipe = (video.build().recipe)(SourceKind::Demo);
        overlay(&mut section, recipe["video"].as_table().unwrap(), "video").unwrap();
        let views = registry.find::<kind::Views>("default", Some("video")).unwrap();
        let pipeline = (views.build().build)(&section, &Table::new()).unwrap();
        assert_eq!(pipeline.spec().groups()[0].max_shape(), [1, 8, 32, 32]);
        assert_eq!(pipeline.spec().groups()[1].max_shape(), [1, 8, 24, 24]);
        let source = pipeline.open(Source::Demo, &OpenOptions::default()).unwrap();
        let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
        for index in 0..80 {
            for &v in source.eval_view(index).unwrap().data().iter() {
                sum += f64::from(v);
                squares += f64::from(v * v);
                count += 1.0;
            }
        }
        let (mean, variance) = (sum / count, squares / count);
        assert!(f64::abs(mean) < 0.1 && (0.8..1.2).contains(&variance), "{mean} {variance}");
    }

    #[test]
    fn values_out_of_range_are_refused_before_any_data_is_opened() {
        let config = VideoConfig { channels: 2, ..VideoConfig::default() };
        assert!(VideoModality::sampler(&config).is_err());
    }
}
