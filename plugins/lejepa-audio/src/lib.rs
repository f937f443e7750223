//! Audio for LeJEPA: the modality `audio`.
//!
//! A sample is a [`Waveform`]: mono, at one sample rate, whatever the file has. Views are log-mel
//! spectrograms `[channels, mels, frames]`, or waveforms `[channels, samples]`.
//!
//! | Item | Purpose |
//! |---|---|
//! | [`AudioModality`] | the plugin |
//! | [`AudioConfig`] | the `[audio]` section |
//! | [`WaveformViews`] | views of the samples themselves, `views.name = "waveform"` |
//! | [`AudioSampler`] | views: a random segment with changes of speed, gain, noise and masking |
//! | `decode.rs` | encoded audio to waveforms, with sample-exact access to a segment of a long recording |
//! | `recording.rs`, `container.rs`, `opus.rs` | reading of any container, whatever its header claims |
//! | `ffmpeg.rs` | with the feature `ffmpeg`, what symphonia does not read |
//! | `mel.rs` | waveforms to log-mel spectrograms |
//! | `listen.rs` | and back, to hear a view |
//! | `demo.rs` | synthetic sounds of ten classes ([`SOUNDS`]) |
//!
//! Of a recording longer than [`AudioConfig::whole_seconds`], training decodes a random segment each time
//! and evaluation the middle. Shorter ones are decoded whole and may be cached.

#![deny(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod advise;
mod config;
mod container;
mod decode;
mod demo;
#[cfg(feature = "ffmpeg")]
mod ffmpeg;
mod listen;
mod mel;
mod opus;
mod place;
mod raw;
mod recording;
mod sampler;
mod scale;
mod segment;
mod waveform;

use lejepa_core::config::{Docs, field_docs, recipe};
use lejepa_core::{
    Advice, Blob, BlobDataset, Codec, Component, Dataset, Decoded, Error, Modality, Preset, Result,
    Source, SourceKind, Survey, Table, ViewSampler, Window, kind, register,
};

pub use config::{AudioConfig, Criterion, Downmix, Short};
pub use demo::SOUNDS;
pub use raw::{WaveformConfig, WaveformViews};
pub use sampler::AudioSampler;
pub use scale::{LogScale, MelScale, Normalize};
pub use waveform::Waveform;

/// Audio: recordings of speech, music, machines, animals.
pub struct AudioModality;

register!(kind::Modality: AudioModality, kind::Views: WaveformViews);

impl Component for AudioModality {
    const NAME: &'static str = "audio";
    #[cfg(feature = "ffmpeg")]
    const ABOUT: &'static str = "audio: WAV, FLAC, MP3, Ogg Vorbis, Opus, AAC, ALAC, AIFF, CAF, Matroska, what FFmpeg reads";
    #[cfg(not(feature = "ffmpeg"))]
    const ABOUT: &'static str =
        "audio: WAV, FLAC, MP3, Ogg Vorbis, Opus, AAC, ALAC, AIFF, CAF, Matroska";
    type Config = AudioConfig;

    fn docs() -> Docs {
        field_docs(include_str!("config.rs"), "AudioConfig")
    }
}

impl Modality for AudioModality {
    const EXTENSIONS: &'static [&'static str] = &[
        "wav", "wave", "bwf", "rf64", "flac", "mp3", "mp2", "mp1", "mpga", "ogg", "oga", "opus",
        "m4a", "m4b", "m4r", "mp4a", "aac", "aif", "aiff", "aifc", "caf", "mka", "weba",
        // Those that FFmpeg reads; without it each is told as what cannot be decoded.
        "wma", "amr", "awb", "3ga", "ac3", "eac3", "dts", "wv", "ape", "tta", "tak", "mpc", "dsf",
        "dff", "au", "snd", "w64", "voc", "spx", "ra",
    ];

    const DRAWS_UPWARDS: bool = true;

    const PRESETS: &'static [Preset] = advise::PRESETS;

    const CODEC: Option<Codec<Waveform>> = Some(Waveform::CODEC);

    type Sample = Waveform;

    fn open(config: &AudioConfig, source: Source) -> Result<Box<dyn Dataset<Item = Waveform>>> {
        let limits = decode::Limits::of(config);
        Ok(match source {
            Source::Demo => Box::new(demo::Demo::new(config.sample_rate)),
            Source::Blobs(store) => Box::new(BlobDataset::new(store, move |blob, window| {
                decode::decode(blob, limits, window)
            })),
            other => {
                return Err(Error::Data {
                    reason: format!("audio cannot be read from {other:?}"),
                    hint: "use the built-in data or encoded audio".into(),
                });
            }
        })
    }

    fn sampler(config: &AudioConfig) -> Result<Box<dyn ViewSampler<Sample = Waveform>>> {
        Ok(Box::new(AudioSampler::new(config)?))
    }

    fn decoding(config: &AudioConfig) -> String {
        format!("{:?}", decode::Limits::of(config))
    }

    fn recognises(start: &[u8]) -> bool {
        container::is_known(start)
    }

    fn recipe(source: SourceKind) -> Table {
        recipe(if source == SourceKind::Demo { DEMO } else { FILES })
    }

    fn advise(config: &AudioConfig, survey: &Survey<'_, Waveform>) -> Result<Advice> {
        advise::advise(config, survey)
    }
}

/// Decodes a recording, or of a long one the segment that `window` chooses, as data sets of this modality do.
///
/// # Errors
/// Why it cannot be decoded, in words.
pub fn decode(
    blob: &Blob<'_>,
    config: &AudioConfig,
    window: Window<'_>,
) -> Result<Decoded<Waveform>, String> {
    decode::decode(blob, decode::Limits::of(config), window)
}

/// A patch spans 16 mel bands and 16 frames, a quarter of a second at the default rate and hop.
const FILES: &str = "
[encoder]
name = 'vit'
patch = [16, 16]
";

/// A network that two CPU cores train in under three minutes.
const DEMO: &str = "
[train]
epochs = 40.0
lr = 0.002

[encoder]
name = 'convnet'
head = 'frequency'

[audio]
n_fft = 1024
hop = 320
local_frames = 48
# Mean and standard deviation of the demo's log-mel values.
mean = -1.5
std = 2.2
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tests::{sine, write_wav};
    use lejepa_core::{OpenOptions, Registry};

    #[test]
    fn the_demo_runs_through_the_registry() {
        let registry = Registry::discover().unwrap();
        let audio = registry.find::<kind::Modality>("audio", None).unwrap();
        let section = audio.meta().defaults().unwrap();
        let views = registry.find::<kind::Views>("default", Some("audio")).unwrap();
        let pipeline = (views.build().build)(&section, &Table::new()).unwrap();
        assert_eq!(pipeline.spec().groups()[0].max_shape(), [1, 64, 96]);
        assert_eq!(pipeline.spec().groups()[1].max_shape(), [1, 64, 48]);
        let source = pipeline.open(Source::Demo, &OpenOptions::default()).unwrap();
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
    fn class_folders_are_labels_and_only_short_recordings_are_whole() {
        let d = tempfile::tempdir().unwrap();
        for (name, seconds) in [("a/long.wav", 3), ("b/short.WAV", 2)] {
            let path = d.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_wav(&path, 16000, &sine(440.0, 16000, seconds * 16000));
        }
        std::fs::write(d.path().join("b/zero.mp3"), b"").unwrap();
        let source = Source::resolve(d.path().to_str().unwrap(), AudioModality::rule()).unwrap();
        let config = AudioConfig { whole_seconds: 2.0, ..AudioConfig::default() };
        let set = AudioModality::open(&config, source).unwrap();
        assert_eq!(set.len(), 3);
        assert_eq!(set.labels()[0].names(), ["a", "b"]);
        for (index, is_whole) in [(0, false), (1, true)] {
            let decoded = set.item(index, Window::Centre).unwrap();
            assert_eq!(decoded.item.samples().len(), 32000);
            assert_eq!((decoded.bytes, decoded.is_whole), (256_000, is_whole));
        }
        let error = set.item(2, Window::Centre).unwrap_err().to_string();
        assert!(error.ends_with("zero.mp3: the file is empty (0 bytes)"), "{error}");
    }

    #[test]
    fn the_recipes_parse() {
        for source in [SourceKind::Demo, SourceKind::Files] {
            assert!(AudioModality::recipe(source)["encoder"]["name"].is_str());
        }
    }

    #[test]
    fn values_out_of_range_are_refused_before_any_data_is_opened() {
        for config in [
            AudioConfig { hop: 0, ..AudioConfig::default() },
            AudioConfig { mels: 500, ..AudioConfig::default() },
        ] {
            assert!(AudioModality::sampler(&config).is_err());
        }
    }
}
