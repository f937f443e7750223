//! Sound for LeJEPA: the modality `audio`.
//!
//! A sample is a [`Waveform`]: one channel at one rate, whatever the file has. Views are log-mel
//! spectrograms `[1, mels, frames]`.
//!
//! | Part | Does |
//! |---|---|
//! | [`AudioModality`] | the plugin itself |
//! | [`AudioConfig`] | the `[audio]` section |
//! | [`AudioSampler`] | views: a stretch, its speed, loudness and noise, and what is hidden of it |
//! | `decode.rs` | files to waveforms, with exact access to a stretch of a long one |
//! | `mel.rs` | waveforms to log-mel spectrograms |
//! | `demo.rs` | made-up sounds of ten kinds ([`SOUNDS`]) |
//!
//! Of a recording longer than [`AudioConfig::whole_seconds`] each visit reads a random stretch, and
//! evaluation the middle. Shorter ones are read whole and may be kept in memory.

mod config;
mod decode;
mod demo;
mod files;
mod mel;
mod sampler;
mod waveform;

use lejepa_core::{
    Dataset, Modality, Result, Source, Table, ViewSampler, config as layers, register_modality,
};

pub use config::{AudioConfig, Short};
pub use demo::SOUNDS;
pub use sampler::AudioSampler;
pub use waveform::Waveform;

/// Sound: recordings of speech, music, machines, animals.
pub struct AudioModality;

register_modality!(AudioModality);

impl Modality for AudioModality {
    const NAME: &'static str = "audio";
    const ABOUT: &'static str =
        "sound files: WAV, FLAC, MP3, Ogg Vorbis, AAC, ALAC, AIFF, Matroska";
    const EXTENSIONS: &'static [&'static str] =
        &["wav", "flac", "mp3", "ogg", "oga", "m4a", "mp4a", "aac", "aif", "aiff", "mka"];

    type Config = AudioConfig;
    type Sample = Waveform;

    fn open(config: &AudioConfig, source: Source) -> Result<Box<dyn Dataset<Item = Waveform>>> {
        config.validate()?;
        Ok(match source {
            Source::Demo => Box::new(demo::Demo::new(config.sample_rate)),
            Source::Files(listing) => Box::new(files::AudioFiles::new(listing, config)),
        })
    }

    fn sampler(config: &AudioConfig) -> Result<Box<dyn ViewSampler<Sample = Waveform>>> {
        Ok(Box::new(AudioSampler::new(config)?))
    }

    fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("config.rs"), "AudioConfig")
    }

    fn recipe(demo: bool) -> Table {
        layers::recipe(if demo { DEMO } else { FILES })
    }
}

/// A patch spans 16 mel bands and 16 frames, a quarter of a second at the default rate and hop.
const FILES: &str = "
[encoder]
name = 'vit'
patch = [16, 16]
";

/// The same, and as long as two processor cores need under three minutes for.
const DEMO: &str = "
[train]
epochs = 30.0

[encoder]
name = 'vit'
patch = [16, 16]
width = 96
depth = 3
heads = 4
";

#[cfg(test)]
mod tests {
    use super::*;
    use lejepa_core::Registry;

    #[test]
    fn the_demo_runs_through_the_registry() {
        let registry = Registry::discover().unwrap();
        let audio = registry.find_modality("audio").unwrap();
        let source = (audio.open)(&(audio.defaults)().unwrap(), Source::Demo, 1 << 24).unwrap();
        assert_eq!(source.spec().global, [1, 64, 96]);
        assert_eq!(source.spec().local, [1, 64, 48]);
        let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
        for index in 0..100 {
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
    fn the_recipes_are_read() {
        for demo in [true, false] {
            assert!(AudioModality::recipe(demo)["encoder"]["patch"].is_array());
        }
    }

    #[test]
    fn values_out_of_range_are_refused_before_anything_is_read() {
        let config = AudioConfig { hop: 0, ..AudioConfig::default() };
        assert!(AudioModality::open(&config, Source::Demo).is_err());
        assert!(AudioModality::sampler(&config).is_err());
    }
}
