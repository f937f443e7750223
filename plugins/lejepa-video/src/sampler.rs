//! Views of a clip: a segment, a crop and photometric augmentations, each drawn once per view.

use std::sync::Arc;

use lejepa_core::{Error, Levels, Result, View, ViewRng, ViewSampler, ViewSpec, Views};
use lejepa_image::crop::{Area, resize};
use rand::RngExt;

use crate::clip::Clip;
use crate::config::VideoConfig;

/// Makes views `[channels, frames, size, size]` of clips.
///
/// A view samples frames at a constant stride from a random segment of the clip. Crop, flip and colours are
/// the same for all its frames, so that all motion in a view is motion in the video. If a clip has fewer
/// frames than a view, the last one is repeated.
#[derive(Debug, Clone)]
pub struct VideoSampler {
    config: VideoConfig,
    levels: Arc<Levels>,
}

impl VideoSampler {
    /// A sampler with these settings.
    ///
    /// # Errors
    /// [`Error::BadValue`] for settings out of range.
    ///
    /// ```
    /// use lejepa_core::{Purpose, Seed, ViewSampler};
    /// use lejepa_image::Picture;
    /// use lejepa_video::{Clip, VideoConfig, VideoSampler};
    ///
    /// let sampler = VideoSampler::new(&VideoConfig::default())?;
    /// // Twelve grey frames of increasing brightness.
    /// let sizes = "the sizes do not agree";
    /// let frame = |t: u8| Picture::new(48, 40, 1, vec![20 * t; 1920]).ok_or(sizes);
    /// let clip = Clip::new((0..12).map(frame).collect::<Result<Vec<_>, _>>()?)?;
    /// let views = sampler.views(&clip, &mut Seed(0).rng(Purpose::Views, &[]))?;
    /// let [globals, locals] = views.groups() else { panic!("two groups") };
    /// assert_eq!((globals.len(), globals[0].shape()), (2, &[3, 8, 32, 32][..]));
    /// assert_eq!((locals.len(), locals[0].shape()), (4, &[3, 4, 16, 16][..]));
    /// assert_eq!(sampler.eval_view(&clip)?.shape(), [3, 8, 32, 32]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(config: &VideoConfig) -> Result<Self> {
        config.validate()?;
        let (mean, std) = (&config.mean[..config.channels], &config.std[..config.channels]);
        let levels = Arc::new(Levels::normalizing(mean, std));
        Ok(Self { config: config.clone(), levels })
    }

    fn random_view(&self, clip: &Clip, kind: Kind, rng: &mut ViewRng) -> Result<View> {
        let c = &self.config;
        let (count, size, scale) = match kind {
            Kind::Global => (c.frames, c.global_size, c.global_scale),
            Kind::Local => (c.local_frames, c.local_size, c.local_scale),
        };
        let stride = rng.random_range(c.stride[0]..=c.stride[1]);
        let at = rng.random::<f64>();
        let mut frames = frame_indices(clip.frames().len(), count, stride, at);
        if chance(c.reverse, rng) {
            frames.reverse();
        }
        let area = Area::random(clip.width(), clip.height(), scale, c.ratio, rng);
        let look = Look::draw(c, rng);
        self.render(clip, &frames, area, size, &look)
    }

    fn render(
        &self,
        clip: &Clip,
        frames: &[usize],
        area: Area,
        size: usize,
        look: &Look,
    ) -> Result<View> {
        let channels = self.config.channels;
        let plane = size * size;
        let volume = frames.len() * plane;
        let mut data = vec![0f32; channels * volume];
        for (t, &index) in frames.iter().enumerate() {
            // The caller, which knows the name of the sample, fills it in.
            let mut planes = resize(clip.frame(index), area, size, channels)
                .map_err(|reason| Error::sample("", reason))?;
            if look.flip {
                planes.chunks_exact_mut(size).for_each(<[f32]>::reverse);
            }
            for (channel, pixels) in planes.chunks_exact(plane).enumerate() {
                data[channel * volume + t * plane..][..plane].copy_from_slice(pixels);
            }
        }
        look.apply(&mut data, volume);
        let bytes = data.into_iter().map(Levels::byte).collect();
        View::from_bytes([channels, frames.len(), size, size], bytes, self.levels.clone())
    }
}

impl ViewSampler for VideoSampler {
    type Sample = Clip;

    fn spec(&self) -> ViewSpec {
        let c = &self.config;
        let shape = |frames, size| [c.channels, frames, size, size];
        let (global, local) = (shape(c.frames, c.global_size), shape(c.local_frames, c.local_size));
        ViewSpec::multi_crop(c.globals, global, c.locals, local)
    }

    fn views(&self, clip: &Clip, rng: &mut ViewRng) -> Result<Views> {
        let mut draw = |kind, count| -> Result<Vec<View>> {
            (0..count).map(|_| self.random_view(clip, kind, rng)).collect()
        };
        let globals = draw(Kind::Global, self.config.globals)?;
        let locals = draw(Kind::Local, self.config.locals)?;
        Ok(Views::multi_crop(globals, locals))
    }

    /// The middle of the clip at the largest stride, in the largest centred square.
    fn eval_view(&self, clip: &Clip) -> Result<View> {
        let c = &self.config;
        let frames = frame_indices(clip.frames().len(), c.frames, c.stride[1], 0.5);
        let area = Area::centre_square(clip.width(), clip.height());
        self.render(clip, &frames, area, c.global_size, &Look::PLAIN)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Global,
    Local,
}

/// True with this probability. Always takes one draw, so that changing one setting does not affect the
/// draws of the others.
fn chance(probability: f64, rng: &mut ViewRng) -> bool {
    rng.random::<f64>() < probability
}

/// Indices of `count` frames of `total`, at the largest stride up to `stride` that fits. `at` chooses the
/// position: 0 is the start, 1 the end. Past the end the last frame is repeated.
fn frame_indices(total: usize, count: usize, stride: usize, at: f64) -> Vec<usize> {
    let last = total.saturating_sub(1);
    let gaps = count.saturating_sub(1);
    let stride = last.checked_div(gaps).map_or(1, |fits| stride.min(fits).max(1));
    let room = last.saturating_sub(gaps * stride);
    let start = ((room + 1) as f64 * at) as usize;
    let start = start.min(room);
    (0..count).map(|i| (start + i * stride).min(last)).collect()
}

/// Augmentations of a view, the same for all its frames. Factors of 1 have no effect.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    flip: bool,
    brightness: f32,
    contrast: f32,
    saturation: f32,
}

impl Look {
    const PLAIN: Self = Self { flip: false, brightness: 1.0, contrast: 1.0, saturation: 1.0 };

    fn draw(c: &VideoConfig, rng: &mut ViewRng) -> Self {
        let flip = chance(c.flip, rng);
        let mut factor = |strength: f64| (1.0 + strength * rng.random_range(-1.0..=1.0)) as f32;
        let jittered = Self {
            flip,
            brightness: factor(c.brightness),
            contrast: factor(c.contrast),
            saturation: factor(c.saturation),
        };
        let look = if chance(c.jitter, rng) { jittered } else { Self { flip, ..Self::PLAIN } };
        if chance(c.grey, rng) { Self { saturation: 0.0, ..look } } else { look }
    }

    /// Changes planes of length `volume` with values in 0..=1, which stay in this range.
    fn apply(&self, data: &mut [f32], volume: usize) {
        if let Some((r, rest)) = data.split_at_mut_checked(volume)
            && let Some((g, b)) = rest.split_at_mut_checked(volume)
            && b.len() == volume
            && self.saturation != 1.0
        {
            for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
                let luma = 0.299 * *r + 0.587 * *g + 0.114 * *b;
                for v in [r, g, b] {
                    *v = (luma + self.saturation * (*v - luma)).clamp(0.0, 1.0);
                }
            }
        }
        if self.brightness == 1.0 && self.contrast == 1.0 {
            return;
        }
        let mean = data.iter().sum::<f32>() / data.len().max(1) as f32;
        let centre = mean * self.brightness;
        for v in data {
            let bright = *v * self.brightness;
            *v = (centre + self.contrast * (bright - centre)).clamp(0.0, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lejepa_core::{Purpose, Seed};
    use lejepa_image::Picture;
    use proptest::prelude::*;

    /// A ramp in space and time: no two frames and no two positions are equal.
    fn ramp(frames: usize, height: usize, width: usize, channels: usize) -> Clip {
        let value = |t: usize, i: usize| {
            let place = i / channels;
            ((place % width * 3 + place / width * 5 + t * 11 + i % channels * 17) % 256) as u8
        };
        let frame = |t| {
            let pixels = (0..height * width * channels).map(|i| value(t, i)).collect();
            Picture::new(width, height, channels, pixels).unwrap()
        };
        Clip::new((0..frames).map(frame).collect()).unwrap()
    }

    fn rng(n: u64) -> ViewRng {
        Seed(3).rng(Purpose::Views, &[n])
    }

    #[test]
    fn views_have_the_specified_shapes_and_are_deterministic() {
        let sampler = VideoSampler::new(&VideoConfig::default()).unwrap();
        let spec = sampler.spec();
        spec.validate().unwrap();
        assert_eq!(spec.groups()[0].max_shape(), [3, 8, 32, 32]);
        assert_eq!(spec.groups()[1].max_shape(), [3, 4, 16, 16]);
        for clip in [ramp(2, 48, 64, 3), ramp(16, 32, 32, 1), ramp(40, 1, 9, 3)] {
            let views = sampler.views(&clip, &mut rng(0)).unwrap();
            spec.check(&views).unwrap();
            assert_eq!(views, sampler.views(&clip, &mut rng(0)).unwrap());
            assert_ne!(views, sampler.views(&clip, &mut rng(1)).unwrap());
            let eval = sampler.eval_view(&clip).unwrap();
            assert_eq!(eval.shape(), spec.shape());
            assert!(eval.is_finite());
        }
    }

    #[test]
    fn colour_clips_give_views_of_one_channel() {
        let config = VideoConfig { channels: 1, ..VideoConfig::default() };
        let sampler = VideoSampler::new(&config).unwrap();
        assert_eq!(sampler.eval_view(&ramp(8, 32, 32, 3)).unwrap().shape(), [1, 8, 32, 32]);
    }

    #[test]
    fn frames_are_evenly_spaced_and_the_last_one_is_repeated() {
        assert_eq!(frame_indices(16, 8, 2, 0.0), [0, 2, 4, 6, 8, 10, 12, 14]);
        assert_eq!(frame_indices(16, 8, 2, 1.0), [1, 3, 5, 7, 9, 11, 13, 15]);
        assert_eq!(frame_indices(9, 4, 9, 0.5), [1, 3, 5, 7]);
        assert_eq!(frame_indices(8, 4, 9, 0.5), [1, 3, 5, 7]);
        assert_eq!(frame_indices(3, 5, 2, 0.9), [0, 1, 2, 2, 2]);
        assert_eq!(frame_indices(5, 1, 2, 0.5), [2]);
    }

    #[test]
    fn time_can_be_reversed() {
        let clip = ramp(8, 32, 32, 1);
        let plain =
            VideoConfig { channels: 1, brightness: 0.0, contrast: 0.0, ..VideoConfig::default() };
        let forwards = VideoSampler::new(&plain).unwrap();
        let backwards = VideoSampler::new(&VideoConfig { reverse: 1.0, ..plain }).unwrap();
        let first = |s: &VideoSampler| s.views(&clip, &mut rng(5)).unwrap().groups()[0][0].clone();
        let (a, b) = (first(&forwards), first(&backwards));
        let frames = |v: &View| v.data().chunks(32 * 32).map(<[f32]>::to_vec).collect::<Vec<_>>();
        let mut reversed = frames(&b);
        reversed.reverse();
        assert!(frames(&a) == reversed && a != b);
    }

    #[test]
    fn a_flip_reverses_rows() {
        let clip = ramp(8, 32, 32, 1);
        let config = VideoConfig { channels: 1, ..VideoConfig::default() };
        let sampler = VideoSampler::new(&config).unwrap();
        let area = Area::centre_square(32, 32);
        let of = |look: &Look| sampler.render(&clip, &[0], area, 32, look).unwrap();
        let (a, b) = (of(&Look::PLAIN), of(&Look { flip: true, ..Look::PLAIN }));
        for (a, b) in a.data().chunks(32).zip(b.data().chunks(32)) {
            assert!(a.iter().eq(b.iter().rev()));
        }
    }

    #[test]
    fn augmentations_keep_flat_frames_flat_over_time() {
        let frame = Picture::new(8, 8, 3, [60, 120, 180].repeat(64)).unwrap();
        let clip = Clip::new(vec![frame; 8]).unwrap();
        let sampler = VideoSampler::new(&VideoConfig::default()).unwrap();
        let views = sampler.views(&clip, &mut rng(2)).unwrap();
        for view in &views.groups()[0] {
            for plane in view.data().chunks(8 * 32 * 32) {
                assert!(plane.iter().all(|v| (v - plane[0]).abs() < 1e-4));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_clip_gives_finite_views(
            frames in 2usize..40, height in 1usize..40, width in 1usize..40, grey: bool, seed: u64,
        ) {
            let clip = ramp(frames, height, width, if grey { 1 } else { 3 });
            let config = VideoConfig { local_scale: [0.001, 1.0], ..VideoConfig::default() };
            let sampler = VideoSampler::new(&config).unwrap();
            let views = sampler.views(&clip, &mut rng(seed)).unwrap();
            sampler.spec().check(&views).unwrap();
            prop_assert!(views.iter().all(View::is_finite));
        }
    }
}
