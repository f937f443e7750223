//! Views of images: a random resized crop, then photometric augmentations.

use std::sync::Arc;

use lejepa_core::{Error, Levels, Result, View, ViewRng, ViewSampler, ViewSpec, Views};
use rand::RngExt;

use crate::blur::gaussian;
use crate::colour::{Jitter, saturation, solarize};
use crate::crop::{Area, between, resize};
use crate::geometry::{flip, flip_vertical, quarter_turn, warp};
use crate::{ImageConfig, Picture};

/// Makes views of [`Picture`]s, configured by [`ImageConfig`].
#[derive(Debug, Clone)]
pub struct ImageSampler {
    config: ImageConfig,
    levels: Arc<Levels>,
}

impl ImageSampler {
    /// A sampler with these settings.
    ///
    /// # Errors
    /// [`Error::BadValue`] for values out of range.
    ///
    /// ```
    /// use lejepa_core::{Purpose, Seed, ViewSampler};
    /// use lejepa_image::{ImageConfig, ImageSampler, Picture};
    ///
    /// let config = ImageConfig { locals: 4, ..ImageConfig::default() };
    /// let sampler = ImageSampler::new(&config)?;
    /// let picture = Picture::new(80, 60, 1, vec![99; 4800]).ok_or("the sizes do not agree")?;
    /// let views = sampler.views(&picture, &mut Seed(0).rng(Purpose::Views, &[]))?;
    /// let [globals, locals] = views.groups() else { panic!("two groups") };
    /// assert_eq!((globals.len(), locals.len()), (2, 4));
    /// assert_eq!(locals[0].shape(), [3, 32, 32]);
    /// assert_eq!(sampler.eval_view(&picture)?.shape(), [3, 64, 64]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(config: &ImageConfig) -> Result<Self> {
        config.validate()?;
        let (mean, std) = config.moments();
        let levels = Arc::new(Levels::normalizing(&mean, &std));
        Ok(Self { config: config.clone(), levels })
    }

    fn random_view(
        &self,
        picture: &Picture,
        side: usize,
        scale: [f64; 2],
        rng: &mut ViewRng,
    ) -> Result<View> {
        let c = &self.config;
        let area = Area::random(picture.width(), picture.height(), scale, c.ratio, rng);
        let mut planes = cut(picture, area, side, c.channels)?;
        if c.rotate > 0.0 || c.shear > 0.0 {
            let angle = between(rng, [-c.rotate, c.rotate]).to_radians();
            let shear = [(); 2].map(|()| between(rng, [-c.shear, c.shear]));
            planes = warp(&planes, side, angle, shear);
        }
        if rng.random_bool(c.flip) {
            flip(&mut planes, side);
        }
        if rng.random_bool(c.flip_vertical) {
            flip_vertical(&mut planes, side);
        }
        if c.quarter_turn > 0.0 && rng.random_bool(c.quarter_turn) {
            for _ in 0..rng.random_range(1..=3) {
                planes = quarter_turn(&planes, side);
            }
        }
        if rng.random_bool(c.jitter) {
            let jitter = Jitter {
                brightness: c.brightness,
                contrast: c.contrast,
                saturation: c.saturation,
                hue: c.hue,
            };
            jitter.apply(&mut planes, c.channels, rng);
        }
        if rng.random_bool(c.grey) {
            saturation(&mut planes, c.channels, 0.0);
        }
        if rng.random_bool(c.blur) {
            // Relative to the side, so that the blur does not depend on the resolution of the view.
            let sigma = between(rng, c.sigma) * side as f64 / 224.0;
            gaussian(&mut planes, side, sigma as f32);
        }
        if rng.random_bool(c.solarize) {
            solarize(&mut planes);
        }
        self.finish(picture, planes, side)
    }

    /// Quantises the planes of a picture of bytes to bytes, which are normalised on the device; deeper ones stay
    /// numbers.
    fn finish(&self, picture: &Picture, mut planes: Vec<f32>, side: usize) -> Result<View> {
        if picture.is_deep() {
            for (channel, plane) in planes.chunks_exact_mut(side * side).enumerate() {
                let (scale, shift) =
                    (255.0 * self.levels.scale[channel], self.levels.shift[channel]);
                plane.iter_mut().for_each(|x| *x = *x * scale + shift);
            }
            return View::new([self.config.channels, side, side], planes);
        }
        let bytes = planes.iter().copied().map(Levels::byte).collect();
        View::from_bytes([self.config.channels, side, side], bytes, self.levels.clone())
    }
}

fn cut(picture: &Picture, area: Area, side: usize, channels: usize) -> Result<Vec<f32>> {
    // The caller, which knows the name of the sample, fills it in.
    resize(picture, area, side, channels).map_err(|reason| Error::sample("", reason))
}

impl ViewSampler for ImageSampler {
    type Sample = Picture;

    fn spec(&self) -> ViewSpec {
        let c = &self.config;
        let shape = |side| [c.channels, side, side];
        ViewSpec::multi_crop(c.globals, shape(c.global_size), c.locals, shape(c.local_size))
    }

    fn views(&self, picture: &Picture, rng: &mut ViewRng) -> Result<Views> {
        let c = &self.config;
        let mut make = |count, side, scale| -> Result<Vec<View>> {
            (0..count).map(|_| self.random_view(picture, side, scale, rng)).collect()
        };
        let globals = make(c.globals, c.global_size, c.global_scale)?;
        let locals = make(c.locals, c.local_size, c.local_scale)?;
        Ok(Views::multi_crop(globals, locals))
    }

    fn eval_view(&self, picture: &Picture) -> Result<View> {
        let side = self.config.global_size;
        let area = Area::centre_square(picture.width(), picture.height());
        self.finish(picture, cut(picture, area, side, self.config.channels)?, side)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lejepa_core::{Purpose, Seed};

    fn picture() -> Picture {
        let pixels = (0..60 * 50 * 3).map(|i| ((i * 37 + i / 7) % 251) as u8).collect();
        Picture::new(60, 50, 3, pixels).unwrap()
    }

    fn rng(n: u64) -> ViewRng {
        Seed(0).rng(Purpose::Views, &[n])
    }

    #[test]
    fn views_follow_the_spec_and_the_generator() {
        for channels in [1, 3] {
            let config = ImageConfig { channels, ..ImageConfig::default() };
            let sampler = ImageSampler::new(&config).unwrap();
            let views = sampler.views(&picture(), &mut rng(0)).unwrap();
            sampler.spec().check(&views).unwrap();
            assert_eq!(views, sampler.views(&picture(), &mut rng(0)).unwrap());
            assert_ne!(views, sampler.views(&picture(), &mut rng(1)).unwrap());
            assert_ne!(views.groups()[0][0], views.groups()[0][1]);
            assert!(views.iter().all(View::is_finite));
        }
    }

    #[test]
    fn pictures_of_many_channels_have_views_of_as_many() {
        let values = (0..60 * 50 * 7).map(|i| ((i * 37 + i / 7) % 251) as u16 * 200).collect();
        let picture = Picture::deep(60, 50, 7, values).unwrap();
        let config = ImageConfig {
            channels: 7,
            mean: vec![0.4],
            std: vec![0.2, 0.3],
            grey: 1.0,
            jitter: 1.0,
            blur: 1.0,
            rotate: 20.0,
            quarter_turn: 1.0,
            ..ImageConfig::default()
        };
        let sampler = ImageSampler::new(&config).unwrap();
        let views = sampler.views(&picture, &mut rng(0)).unwrap();
        sampler.spec().check(&views).unwrap();
        assert!(views.iter().all(View::is_finite));
        assert_eq!(sampler.eval_view(&picture).unwrap().shape(), [7, 64, 64]);
        // Another number is an error that names both, not a guess.
        let error = ImageSampler::new(&ImageConfig::default()).unwrap().eval_view(&picture);
        assert!(error.unwrap_err().to_string().contains("7 channels"));
    }

    #[test]
    fn the_evaluation_view_is_the_centre() {
        let sampler = ImageSampler::new(&ImageConfig::default()).unwrap();
        let view = sampler.eval_view(&picture()).unwrap();
        assert_eq!(view.shape(), [3, 64, 64]);
        assert_eq!(view, sampler.eval_view(&picture()).unwrap());
    }

    #[test]
    fn pictures_of_one_pixel_have_views() {
        let sampler = ImageSampler::new(&ImageConfig::default()).unwrap();
        for (w, h) in [(1, 1), (1, 300), (300, 1)] {
            let p = Picture::new(w, h, 1, vec![7; w * h]).unwrap();
            let views = sampler.views(&p, &mut rng(2)).unwrap();
            assert!(views.iter().all(View::is_finite));
            sampler.eval_view(&p).unwrap();
        }
    }
}
