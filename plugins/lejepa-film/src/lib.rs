//! Films with their sound, for LeJEPA: the modality `film`.
//!
//! A sample is a [`Film`]: the pictures and the sound of the same part of a video file. There are two streams of views,
//! `picture` and `sound`, with an encoder for each and one objective: what is seen and what is heard at a time are views
//! of one thing, so that either finds the other (`lejepa probe` prints how well).
//!
//! | Item | Purpose |
//! |---|---|
//! | [`FilmModality`] | the plugin |
//! | [`FilmConfig`] | the `[film]` section, with the keys of `[video]` and `[audio]` within it |
//! | [`FilmSampler`] | views of both, by the samplers of `lejepa-video` and `lejepa-audio` |
//! | `sample.rs` | a part of a file, seen and heard |
//! | `demo.rs` | the built-in data: things that sound as they look and move |
//!
//! Pictures and sound are taken from the time stamps on that the file says each begins with.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod advise;
mod config;
mod demo;
mod sample;
mod sampler;

use lejepa_audio::AudioModality;
use lejepa_core::config::{Docs, field_docs, recipe};
use lejepa_core::{
    Advice, BlobDataset, Component, Dataset, Error, Modality, Result, Source, SourceKind, Survey,
    Table, ViewSampler, kind, register,
};
use lejepa_video::VideoModality;

pub use config::FilmConfig;
pub use sample::Film;
pub use sampler::FilmSampler;

/// Films with their sound.
pub struct FilmModality;

register!(kind::Modality: FilmModality);

impl Component for FilmModality {
    const NAME: &'static str = "film";
    #[cfg(feature = "ffmpeg")]
    const ABOUT: &'static str =
        "videos with their sound: an encoder for each, that find each other";
    #[cfg(not(feature = "ffmpeg"))]
    const ABOUT: &'static str =
        "videos with their sound: an encoder for each; files need the cargo feature `ffmpeg`";
    type Config = FilmConfig;

    fn docs() -> Docs {
        let within = |prefix: &str, docs: Docs| -> Docs {
            docs.into_iter().map(|(key, words)| (format!("{prefix}.{key}"), words)).collect()
        };
        [
            field_docs(include_str!("config.rs"), "FilmConfig"),
            within("picture", VideoModality::docs()),
            within("sound", AudioModality::docs()),
        ]
        .concat()
    }
}

impl Modality for FilmModality {
    const EXTENSIONS: &'static [&'static str] = VideoModality::EXTENSIONS;

    const STREAMS: &'static [&'static str] = &sampler::STREAMS;

    type Sample = Film;

    fn open(config: &FilmConfig, source: Source) -> Result<Box<dyn Dataset<Item = Film>>> {
        Ok(match source {
            Source::Demo => Box::new(demo::Demo::new(config.sound.sample_rate)),
            Source::Blobs(store) => {
                let config = config.clone();
                Box::new(BlobDataset::new(store, move |blob, window| {
                    sample::decode(blob, &config, window)
                }))
            }
            other => {
                return Err(Error::Data {
                    reason: format!("films cannot be read from {other:?}"),
                    hint: "use the built-in data or video files".into(),
                });
            }
        })
    }

    fn sampler(config: &FilmConfig) -> Result<Box<dyn ViewSampler<Sample = Film>>> {
        Ok(Box::new(FilmSampler::new(config)?))
    }

    fn recipe(source: SourceKind) -> Table {
        recipe(if source == SourceKind::Demo { demo::RECIPE } else { FILES })
    }

    fn advise(config: &FilmConfig, survey: &Survey<'_, Film>) -> Result<Advice> {
        advise::advise(config, survey)
    }

    fn decoding(config: &FilmConfig) -> String {
        let FilmConfig { seconds, picture, sound } = config;
        format!("{seconds} {} {}", VideoModality::decoding(picture), AudioModality::decoding(sound))
    }

    fn recognises(start: &[u8]) -> bool {
        VideoModality::recognises(start) && !start.starts_with(b"GIF8")
    }
}

/// Small networks for both.
const FILES: &str = "
[encoder.picture]
name = 'convnet'

[encoder.sound]
name = 'convnet'
head = 'frequency'
";
