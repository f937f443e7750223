//! Images for LeJEPA: the modality `image`.
//!
//! A sample is a [`Picture`]; a view is `[channels, side, side]`, a random resized crop with the usual
//! photometric augmentations, which [`ImageConfig`] lists.
//!
//! | Item | Purpose |
//! |---|---|
//! | [`ImageModality`] | the plugin |
//! | [`ImageConfig`] | the `[image]` section |
//! | [`ImageSampler`] | crops and augmentations |
//! | [`decode`] | encoded images to [`Picture`]s |
//! | [`crop`] | areas of a picture to planes of `f32` |
//! | [`digits`] | the built-in data: 1,797 handwritten digits |

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod advise;
mod blur;
mod colour;
mod config;
pub mod crop;
mod decode;
mod demo;
mod geometry;
mod jpeg;
mod levels;
mod picture;
#[cfg(test)]
mod recipe;
mod sampler;
mod scan;
mod tiff;

use lejepa_core::config::{Docs, field_docs, recipe};
use lejepa_core::{
    Advice, BlobDataset, Codec, Component, Dataset, Error, Modality, Preset, Result, Source,
    SourceKind, Survey, Table, ViewSampler, kind, register,
};

pub use config::ImageConfig;
pub use decode::{Background, DecodeOptions, Pages, composite, decode, decode_with};
pub use demo::{Digit, digits};
pub use picture::{MAX_CHANNELS, Picture};
pub use sampler::ImageSampler;

/// Images: photographs, scans, micrographs, anything on a pixel grid.
pub struct ImageModality;

register!(kind::Modality: ImageModality);

impl Component for ImageModality {
    const NAME: &'static str = "image";
    const ABOUT: &'static str =
        "images: JPEG, PNG, WebP, BMP, TIFF (8 to 64 bits), GIF (first frame)";
    type Config = ImageConfig;

    fn docs() -> Docs {
        field_docs(include_str!("config.rs"), "ImageConfig")
    }
}

impl Modality for ImageModality {
    const EXTENSIONS: &'static [&'static str] = &[
        "jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "dib", "tif", "tiff", "btf", "tf8",
        "gif",
    ];

    const PRESETS: &'static [Preset] = advise::PRESETS;

    const CODEC: Option<Codec<Picture>> = Some(Picture::CODEC);

    type Sample = Picture;

    fn open(config: &ImageConfig, source: Source) -> Result<Box<dyn Dataset<Item = Picture>>> {
        let options = config.decode_options();
        Ok(match source {
            Source::Demo => Box::new(demo::Demo::new()),
            Source::Blobs(store) => Box::new(BlobDataset::new(store, move |blob, window| {
                decode_with(blob, options, window)
            })),
            other => {
                return Err(Error::Data {
                    reason: format!("images cannot be read from {other:?}"),
                    hint: "use the built-in data or encoded images".into(),
                });
            }
        })
    }

    fn sampler(config: &ImageConfig) -> Result<Box<dyn ViewSampler<Sample = Picture>>> {
        Ok(Box::new(ImageSampler::new(config)?))
    }

    fn decoding(config: &ImageConfig) -> String {
        format!("{:?}", config.decode_options())
    }

    fn recognises(start: &[u8]) -> bool {
        decode::is_known(start)
    }

    fn recipe(source: SourceKind) -> Table {
        recipe(if source == SourceKind::Demo { demo::RECIPE } else { "" })
    }

    fn advise(config: &ImageConfig, survey: &Survey<'_, Picture>) -> Result<Advice> {
        advise::advise(config, survey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lejepa_core::config::overlay;
    use lejepa_core::{OpenOptions, Purpose, Registry, Seed};

    #[test]
    fn the_demo_runs_through_the_registry() {
        let registry = Registry::discover().unwrap();
        let image = registry.find::<kind::Modality>("image", None).unwrap();
        let mut section = image.meta().defaults().unwrap();
        let recipe = (image.build().recipe)(SourceKind::Demo);
        overlay(&mut section, recipe["image"].as_table().unwrap(), "image").unwrap();
        let views = registry.find::<kind::Views>("default", Some("image")).unwrap();
        let pipeline = (views.build().build)(&section, &Table::new()).unwrap();
        assert_eq!(pipeline.spec().shape(), [1, 16, 16]);
        let source = pipeline.open(Source::Demo, &OpenOptions::default()).unwrap();
        assert_eq!(source.len(), 1797);
        assert_eq!(source.labels()[0].names().len(), 10);
        source.checked_views(3, &[], &mut Seed(0).rng(Purpose::Views, &[0])).unwrap();
    }

    #[test]
    fn values_out_of_range_are_refused_before_any_data_is_opened() {
        let config = ImageConfig { channels: 0, ..ImageConfig::default() };
        assert!(ImageModality::sampler(&config).is_err());
    }
}
