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
        let (mut mean, mut std) =
            (config.mean[..config.channels].to_vec(), config.std[..config.channels].to_vec());
        if config.difference {
            mean.push(0.5);
            std.push(DIFFERENCE_STD);
        }
        let levels = Arc::new(Levels::normalizing(&mean, &std));
        Ok(Self { config: config.clone(), levels })
    }

    fn random_view(
        &self,
        clip: &Clip,
        kind: Kind,
        shared: Option<Span>,
        others: &[Arc<Clip>],
        rng: &mut ViewRng,
    ) -> Result<View> {
        let c = &self.config;
        let (count, size, scale) = match kind {
            Kind::Global => (c.frames, c.global_size, c.global_scale),
            Kind::Local => (c.local_frames, c.local_size, c.local_scale),
        };
        // Drawn in any case, so that changing one setting does not affect the draws of the others.
        let own = Span::draw(c, rng);
        let Span { stride, at } = shared.unwrap_or(own);
        let mut frames = frame_indices(clip.frames().len(), count, stride, at);
        if chance(c.reverse, rng) {
            frames.reverse();
        }
        let area = Area::random(clip.width(), clip.height(), scale, c.ratio, rng);
        let look = Look::draw(c, rng);
        let still = self.still(others, size, rng)?;
        self.render(clip, &frames, area, size, &look, still.as_ref())
    }

    /// A still frame of another clip, cropped like a global view, and its weight.
    fn still(&self, others: &[Arc<Clip>], size: usize, rng: &mut ViewRng) -> Result<Option<Still>> {
        let c = &self.config;
        if others.is_empty() || c.background[1] == 0.0 {
            return Ok(None);
        }
        let other = &others[rng.random_range(0..others.len())];
        let frame = other.frame(rng.random_range(0..other.frames().len()));
        let area = Area::random(frame.width(), frame.height(), [0.3, 1.0], c.ratio, rng);
        let weight = rng.random_range(c.background[0]..=c.background[1]) as f32;
        let planes = resize(frame, area, size, c.channels);
        let planes = planes.map_err(|reason| Error::sample("", reason))?;
        Ok(Some(Still { planes, weight }))
    }

    fn draw(&self, clip: &Clip, others: &[Arc<Clip>], rng: &mut ViewRng) -> Result<Views> {
        let c = &self.config;
        let shared = c.same_span.then(|| Span::draw(c, rng));
        let mut draw = |kind, count| -> Result<Vec<View>> {
            (0..count).map(|_| self.random_view(clip, kind, shared, others, rng)).collect()
        };
        let globals = draw(Kind::Global, c.globals)?;
        let locals = draw(Kind::Local, c.locals)?;
        Ok(Views::multi_crop(globals, locals))
    }

    fn render(
        &self,
        clip: &Clip,
        frames: &[usize],
        area: Area,
        size: usize,
        look: &Look,
        still: Option<&Still>,
    ) -> Result<View> {
        let channels = self.config.channels;
        let plane = size * size;
        let volume = frames.len() * plane;
        let mut data = vec![0f32; channels * volume];
        for (t, &index) in frames.iter().enumerate() {
            // The caller, which knows the name of the sample, fills it in.
            let mut planes = resize(clip.frame(index), area, size, channels)
                .map_err(|reason| Error::sample("", reason))?;
            if let Some(Still { planes: behind, weight }) = still {
                let mix = |(x, behind): (&mut f32, &f32)| *x += weight * (behind - *x);
                planes.iter_mut().zip(behind).for_each(mix);
            }
            if look.flip {
                planes.chunks_exact_mut(size).for_each(<[f32]>::reverse);
            }
            for (channel, pixels) in planes.chunks_exact(plane).enumerate() {
                data[channel * volume + t * plane..][..plane].copy_from_slice(pixels);
            }
        }
        look.apply(&mut data, volume);
        let difference =
            if self.config.difference { difference(&data, volume, plane) } else { Vec::new() };
        if self.config.remove_static {
            data.chunks_exact_mut(volume).for_each(|channel| remove_static(channel, plane));
        }
        let bytes = data.into_iter().chain(difference).map(Levels::byte).collect();
        let channels = channels + usize::from(self.config.difference);
        View::from_bytes([channels, frames.len(), size, size], bytes, self.levels.clone())
    }
}

impl ViewSampler for VideoSampler {
    type Sample = Clip;

    fn spec(&self) -> ViewSpec {
        let c = &self.config;
        let channels = c.channels + usize::from(c.difference);
        let shape = |frames, size| [channels, frames, size, size];
        let (global, local) = (shape(c.frames, c.global_size), shape(c.local_frames, c.local_size));
        ViewSpec::multi_crop(c.globals, global, c.locals, local)
    }

    fn views(&self, clip: &Clip, rng: &mut ViewRng) -> Result<Views> {
        self.draw(clip, &[], rng)
    }

    /// Where backgrounds are mixed in, two other clips for all views of a clip.
    fn companions(&self) -> usize {
        if self.config.background[1] > 0.0 { 2 } else { 0 }
    }

    fn views_with(&self, clip: &Clip, others: &[Arc<Clip>], rng: &mut ViewRng) -> Result<Views> {
        self.draw(clip, others, rng)
    }

    /// Differences of consecutive frames, 8×8 a frame: what motion a simple method would see.
    fn raw_features(&self, view: &View) -> Vec<f32> {
        let [channels, frames, size, _] = view.shape() else { return view.data().to_vec() };
        let (data, plane, cell) = (view.data(), size * size, size.div_ceil(8));
        let mut out = vec![0f32; frames.saturating_sub(1) * 64];
        for channel in data.chunks_exact(frames * plane).take(self.config.channels) {
            for (t, pair) in
                (1..*frames).map(|t| (t - 1, &channel[(t - 1) * plane..(t + 1) * plane]))
            {
                for i in 0..plane {
                    let (y, x) = (i / size / cell, i % size / cell);
                    out[t * 64 + y * 8 + x] += (pair[plane + i] - pair[i]).abs();
                }
            }
        }
        let cells = (self.config.channels.min(*channels) * cell * cell) as f32;
        out.iter_mut().for_each(|v| *v /= cells);
        out
    }

    /// The middle of the clip at the largest stride, in the largest centred square.
    fn eval_view(&self, clip: &Clip) -> Result<View> {
        let c = &self.config;
        let frames = frame_indices(clip.frames().len(), c.frames, c.stride[1], 0.5);
        let area = Area::centre_square(clip.width(), clip.height());
        self.render(clip, &frames, area, c.global_size, &Look::PLAIN, None)
    }
}

/// What the channel of differences is divided by.
const DIFFERENCE_STD: f64 = 0.1;

/// Half of the difference of luma from the frame before, around 0.5, of channels of length `volume`.
fn difference(data: &[f32], volume: usize, plane: usize) -> Vec<f32> {
    let luma = |at: usize| match data.len() / volume.max(1) {
        3 => LUMA.iter().zip(data[at..].iter().step_by(volume)).map(|(w, v)| w * v).sum(),
        _ => data[at],
    };
    let change = |at: usize| 0.5 + 0.5 * (luma(at) - luma(at - plane));
    (0..volume).map(|at| if at < plane { 0.5 } else { change(at) }).collect()
}

/// ITU-R BT.601.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Half of the difference from a pixel's mean over time, around 0.5.
pub(crate) fn remove_static(channel: &mut [f32], plane: usize) {
    let frames = (channel.len() / plane).max(1) as f32;
    let mut mean = vec![0f32; plane];
    for frame in channel.chunks_exact(plane) {
        mean.iter_mut().zip(frame).for_each(|(m, v)| *m += v / frames);
    }
    for frame in channel.chunks_exact_mut(plane) {
        frame.iter_mut().zip(&mean).for_each(|(v, m)| *v = 0.5 + 0.5 * (*v - m));
    }
}

/// A stretch of time: the stride of its frames, and its position from 0 (the start) to 1 (the end).
#[derive(Debug, Clone, Copy)]
struct Span {
    stride: usize,
    at: f64,
}

impl Span {
    fn draw(c: &VideoConfig, rng: &mut ViewRng) -> Self {
        let stride = rng.random_range(c.stride[0]..=c.stride[1]);
        Self { stride, at: rng.random::<f64>() }
    }
}

/// A background and its weight.
struct Still {
    planes: Vec<f32>,
    weight: f32,
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
    invert: bool,
}

impl Look {
    const PLAIN: Self =
        Self { flip: false, brightness: 1.0, contrast: 1.0, saturation: 1.0, invert: false };

    fn draw(c: &VideoConfig, rng: &mut ViewRng) -> Self {
        let flip = chance(c.flip, rng);
        let mut factor = |strength: f64| (1.0 + strength * rng.random_range(-1.0..=1.0)) as f32;
        let jittered = Self {
            flip,
            brightness: factor(c.brightness),
            contrast: factor(c.contrast),
            saturation: factor(c.saturation),
            invert: false,
        };
        let look = if chance(c.jitter, rng) { jittered } else { Self { flip, ..Self::PLAIN } };
        let look = if chance(c.grey, rng) { Self { saturation: 0.0, ..look } } else { look };
        Self { invert: chance(c.invert, rng), ..look }
    }

    /// Changes planes of length `volume` with values in 0..=1, which stay in this range.
    fn apply(&self, data: &mut [f32], volume: usize) {
        if self.invert {
            data.iter_mut().for_each(|v| *v = 1.0 - *v);
        }
        if let Some((r, rest)) = data.split_at_mut_checked(volume)
            && let Some((g, b)) = rest.split_at_mut_checked(volume)
            && b.len() == volume
            && self.saturation != 1.0
        {
            for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
                let luma = LUMA[0] * *r + LUMA[1] * *g + LUMA[2] * *b;
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
#[path = "sampler_tests.rs"]
mod tests;
