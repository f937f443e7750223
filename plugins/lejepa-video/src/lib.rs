//! Videos for LeJEPA: the modality `video`.
//!
//! A sample is a [`Clip`]: at least two frames of one size, from an animated GIF, from a folder of
//! pictures (`clip/0001.png`, `clip/0002.png`, ...), or, with the cargo feature `ffmpeg`, from
//! anything FFmpeg reads. Views are `[channels, frames, size, size]`.
//!
//! | Part | Does |
//! |---|---|
//! | [`VideoModality`] | the plugin itself |
//! | [`VideoConfig`] | the `[video]` section |
//! | [`VideoSampler`] | views: a stretch of time, a crop and a look, each one draw per view |
//! | `decode.rs` | GIFs and folders of frames, in pure Rust |
//! | `ffmpeg.rs` | other files, with exact access to a stretch of a long one |
//! | `demo.rs` | digits in motion: which of eight motions ([`MOTIONS`]), and which digit |
//!
//! Of a video with more than [`VideoConfig::max_frames`] frames each visit reads a random stretch,
//! and evaluation the middle. Shorter ones are read whole and may be kept in memory.

mod clip;
mod config;
mod decode;
mod demo;
#[cfg(feature = "ffmpeg")]
mod ffmpeg;
mod files;
mod sampler;

use std::path::Path;

use lejepa_core::{
    Dataset, Modality, Result, Source, Table, ViewSampler, config as layers, register_modality,
};

pub use clip::Clip;
pub use config::VideoConfig;
pub use demo::MOTIONS;
pub use sampler::VideoSampler;

/// Videos: GIFs, folders of frames, and what FFmpeg reads.
pub struct VideoModality;

register_modality!(VideoModality);

impl Modality for VideoModality {
    const NAME: &'static str = "video";
    #[cfg(feature = "ffmpeg")]
    const ABOUT: &'static str = "videos: files that FFmpeg reads, GIFs, folders of frames";
    #[cfg(not(feature = "ffmpeg"))]
    const ABOUT: &'static str =
        "videos: GIFs, folders of frames; mp4 and others with the cargo feature `ffmpeg`";
    const EXTENSIONS: &'static [&'static str] = decode::VIDEO;

    type Config = VideoConfig;
    type Sample = Clip;

    fn open(config: &VideoConfig, source: Source) -> Result<Box<dyn Dataset<Item = Clip>>> {
        config.validate()?;
        Ok(match source {
            Source::Demo => Box::new(demo::Demo::new()),
            Source::Files(listing) => Box::new(files::VideoFiles::new(listing, config)?),
        })
    }

    fn sampler(config: &VideoConfig) -> Result<Box<dyn ViewSampler<Sample = Clip>>> {
        Ok(Box::new(VideoSampler::new(config)?))
    }

    fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("config.rs"), "VideoConfig")
    }

    fn recipe(demo: bool) -> Table {
        layers::recipe(if demo { demo::RECIPE } else { FILES })
    }

    fn is_sample_dir(path: &Path) -> bool {
        decode::is_frame_folder(path)
    }
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
    use lejepa_core::{Registry, config};

    #[test]
    fn the_demo_runs_through_the_registry() {
        let registry = Registry::discover().unwrap();
        let video = registry.find_modality("video").unwrap();
        let mut table = (video.defaults)().unwrap();
        let recipe = VideoModality::recipe(true);
        config::overlay(&mut table, recipe["video"].as_table().unwrap(), "video").unwrap();
        let source = (video.open)(&table, Source::Demo, 1 << 24).unwrap();
        assert_eq!(source.spec().global, [1, 8, 32, 32]);
        assert_eq!(source.spec().local, [1, 8, 16, 16]);
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
    fn values_out_of_range_are_refused_before_anything_is_read() {
        let config = VideoConfig { channels: 2, ..VideoConfig::default() };
        assert!(VideoModality::open(&config, Source::Demo).is_err());
        assert!(VideoModality::sampler(&config).is_err());
    }
}
