//! Images for LeJEPA: the modality `image`.
//!
//! A sample is a [`Picture`]; a view is `[channels, side, side]`, a random resized crop with the
//! usual photometric augmentations ([`ImageConfig`] has them all).
//!
//! | Part | Does |
//! |---|---|
//! | [`ImageModality`] | the plugin itself |
//! | [`ImageConfig`] | the `[image]` section |
//! | [`ImageSampler`] | crops and looks |
//! | [`decode`] | files to [`Picture`]s |
//! | [`crop`] | areas of a picture to planes of `f32` |
//! | [`digits`] | the built-in data: 1,797 handwritten digits |

mod blur;
mod colour;
mod config;
pub mod crop;
mod demo;
mod jpeg;
mod picture;
mod sampler;

use lejepa_core::{
    Dataset, FileDataset, Modality, Result, Source, Table, ViewSampler, register_modality,
};

pub use config::ImageConfig;
pub use demo::{Digit, digits};
pub use picture::{Picture, decode};
pub use sampler::ImageSampler;

/// Pictures: photographs, scans, microscopy, anything on a pixel grid.
pub struct ImageModality;

register_modality!(ImageModality);

impl Modality for ImageModality {
    const NAME: &'static str = "image";
    const ABOUT: &'static str = "pictures: JPEG, PNG, WebP, BMP, TIFF, GIF (first frame)";
    const EXTENSIONS: &'static [&'static str] =
        &["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"];

    type Config = ImageConfig;
    type Sample = Picture;

    fn open(config: &ImageConfig, source: Source) -> Result<Box<dyn Dataset<Item = Picture>>> {
        config.validate()?;
        let max_side = config.max_side;
        Ok(match source {
            Source::Demo => Box::new(demo::Demo::new()),
            Source::Files(listing) => {
                Box::new(FileDataset::new(listing, Picture::bytes, move |path, _| {
                    Ok(decode(path)?.at_most(max_side))
                }))
            }
        })
    }

    fn sampler(config: &ImageConfig) -> Result<Box<dyn ViewSampler<Sample = Picture>>> {
        Ok(Box::new(ImageSampler::new(config)?))
    }

    fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("config.rs"), "ImageConfig")
    }

    fn recipe(demo: bool) -> Table {
        lejepa_core::config::recipe(if demo { demo::RECIPE } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lejepa_core::{Registry, config};

    #[test]
    fn the_demo_runs_through_the_registry() {
        let registry = Registry::discover().unwrap();
        let image = registry.find_modality("image").unwrap();
        let mut table = (image.defaults)().unwrap();
        let recipe = ImageModality::recipe(true);
        config::overlay(&mut table, recipe["image"].as_table().unwrap(), "image").unwrap();
        let source = (image.open)(&table, Source::Demo, 1 << 20).unwrap();
        assert_eq!(source.len(), 1797);
        assert_eq!(source.labels()[0].classes.len(), 10);
        let mut rng = lejepa_core::Seed(0).rng(lejepa_core::Purpose::Views, &[0]);
        source.spec().check(&source.views(3, &mut rng).unwrap()).unwrap();
    }
}
