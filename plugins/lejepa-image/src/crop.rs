//! Crops of a picture, resized to square planes of `f32` from 0 (black) to 1 (white).

use fast_image_resize as fir;
use rand::{Rng, RngExt};

use crate::Picture;
use crate::picture::Pixels;

/// A rectangle of a picture in pixels; its edges may lie between pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// Distance from the left edge.
    pub left: f64,
    /// Distance from the top edge.
    pub top: f64,
    /// Width, above 0.
    pub width: f64,
    /// Height, above 0.
    pub height: f64,
}

impl Area {
    /// A random area: its fraction of the picture is uniform in `scale`, its aspect ratio (width over
    /// height) log-uniform in `ratio` (Szegedy et al., arXiv 1409.4842). If ten draws do not fit, the
    /// largest centred area within `ratio`.
    ///
    /// ```
    /// use lejepa_core::{Purpose, Seed};
    /// use lejepa_image::crop::Area;
    ///
    /// let mut rng = Seed(0).rng(Purpose::Views, &[]);
    /// let area = Area::random(60, 40, [0.25, 0.5], [0.75, 1.25], &mut rng);
    /// let share = area.width * area.height / (60.0 * 40.0);
    /// assert!((0.249..0.501).contains(&share));
    /// assert!((0.749..1.251).contains(&(area.width / area.height)));
    /// assert!(area.left >= 0.0 && area.left + area.width <= 60.001);
    /// ```
    pub fn random(
        width: usize,
        height: usize,
        scale: [f64; 2],
        ratio: [f64; 2],
        rng: &mut impl Rng,
    ) -> Self {
        let (w, h) = (width as f64, height as f64);
        for _ in 0..10 {
            let area = w * h * between(rng, scale);
            let shape = between(rng, ratio.map(f64::ln)).exp();
            let (cw, ch) = ((area * shape).sqrt(), (area / shape).sqrt());
            if cw <= w && ch <= h && cw >= 1.0 && ch >= 1.0 {
                let left = between(rng, [0.0, w - cw]);
                let top = between(rng, [0.0, h - ch]);
                return Self { left, top, width: cw, height: ch };
            }
        }
        let shape = (w / h).clamp(ratio[0], ratio[1]);
        // Rounding may take w / (w / h) beyond h.
        let (cw, ch) =
            if w / h > shape { ((h * shape).min(w), h) } else { (w, (w / shape).min(h)) };
        Self { left: (w - cw) / 2.0, top: (h - ch) / 2.0, width: cw, height: ch }
    }

    /// Left edge, top edge, width and height of the smallest box of whole pixels around the area; `None` where it is
    /// empty or reaches beyond the picture.
    pub(crate) fn pixels(&self, width: usize, height: usize) -> Option<[usize; 4]> {
        let span = |from: f64, length: f64, all: usize| {
            let fits = from >= 0.0 && length > 0.0 && from + length <= all as f64 + 1e-9;
            let start = from.floor() as usize;
            let end = ((from + length).ceil() as usize).min(all);
            (fits && end > start).then_some((start, end - start))
        };
        let (left, w) = span(self.left, self.width, width)?;
        let (top, h) = span(self.top, self.height, height)?;
        Some([left, top, w, h])
    }

    /// The largest centred square.
    ///
    /// ```
    /// use lejepa_image::crop::Area;
    ///
    /// let area = Area { left: 10.0, top: 0.0, width: 40.0, height: 40.0 };
    /// assert_eq!(Area::centre_square(60, 40), area);
    /// ```
    pub fn centre_square(width: usize, height: usize) -> Self {
        let side = width.min(height) as f64;
        Self {
            left: (width as f64 - side) / 2.0,
            top: (height as f64 - side) / 2.0,
            width: side,
            height: side,
        }
    }
}

/// Uniform in `range`; its start where it is empty.
pub(crate) fn between(rng: &mut impl Rng, range: [f64; 2]) -> f64 {
    if range[1] > range[0] { rng.random_range(range[0]..=range[1]) } else { range[0] }
}

/// Cuts `area` and resizes it to `side`×`side` with an antialiased bilinear filter.
///
/// Returns `channels` planes of `side²` values in 0..=1. Grey pictures are repeated over all channels;
/// of colour pictures a single channel is the luma. Any other number of channels has to agree.
///
/// # Errors
/// A one-line reason where the area is not inside the picture, or its channels do not agree.
///
/// ```
/// use lejepa_image::Picture;
/// use lejepa_image::crop::{Area, resize};
///
/// let grey = Picture::new(6, 4, 1, vec![51; 24]).ok_or("the sizes do not agree")?;
/// let planes = resize(&grey, Area::centre_square(6, 4), 2, 3)?;
/// assert_eq!(planes.len(), 3 * 2 * 2);
/// assert!(planes.iter().all(|v| (v - 0.2).abs() < 1e-6));
///
/// let outside = Area { left: 5.0, top: 0.0, width: 4.0, height: 4.0 };
/// assert!(resize(&grey, outside, 2, 3).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn resize(
    picture: &Picture,
    area: Area,
    side: usize,
    channels: usize,
) -> Result<Vec<f32>, String> {
    let has = picture.channels();
    if has != channels && has != 1 && (has, channels) != (3, 1) {
        return Err(format!(
            "has {has} channels, where views have {channels}: set channels to {has}"
        ));
    }
    Ok(match picture.resized((side, side), area, fir::FilterType::Bilinear)? {
        Pixels::Bytes(bytes) => planes(&bytes, 1.0 / 255.0, picture.channels(), channels),
        Pixels::Words(words) => planes(&words, 1.0 / 65535.0, picture.channels(), channels),
    })
}

/// ITU-R BT.601 luma, which torchvision and Pillow use too.
pub(crate) const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

fn planes<T: Copy + Into<f32>>(pixels: &[T], scale: f32, from: usize, to: usize) -> Vec<f32> {
    match (from, to) {
        (1, _) => {
            let plane: Vec<f32> = pixels.iter().map(|&v| v.into() * scale).collect();
            plane.repeat(to)
        }
        (3, 1) => pixels
            .chunks_exact(3)
            .map(|p| {
                scale * (LUMA[0] * p[0].into() + LUMA[1] * p[1].into() + LUMA[2] * p[2].into())
            })
            .collect(),
        (3, _) => {
            let count = pixels.len() / 3;
            let mut out = vec![0.0; 3 * count];
            let (red, rest) = out.split_at_mut(count);
            let (green, blue) = rest.split_at_mut(count);
            for (((p, r), g), b) in pixels.chunks_exact(3).zip(red).zip(green).zip(blue) {
                *r = p[0].into() * scale;
                *g = p[1].into() * scale;
                *b = p[2].into() * scale;
            }
            out
        }
        _ => {
            let plane = |c| pixels.iter().skip(c).step_by(from).map(|&v| v.into() * scale);
            (0..from).flat_map(plane).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lejepa_core::{Purpose, Seed};

    #[test]
    fn areas_keep_to_scale_ratio_and_picture() {
        let mut rng = Seed(0).rng(Purpose::Demo, &[]);
        for _ in 0..500 {
            let a = Area::random(60, 40, [0.2, 0.5], [0.75, 4.0 / 3.0], &mut rng);
            let share = a.width * a.height / 2400.0;
            assert!((0.199..0.501).contains(&share), "{a:?}");
            assert!((0.74..1.34).contains(&(a.width / a.height)), "{a:?}");
            assert!(a.left >= 0.0 && a.left + a.width <= 60.0 + 1e-9);
            assert!(a.top >= 0.0 && a.top + a.height <= 40.0 + 1e-9);
        }
        // No crop of these ratios fits so narrow a picture: this is the centred fallback.
        let a = Area::random(1000, 2, [0.9, 1.0], [0.75, 1.0], &mut rng);
        assert!(a.height <= 2.0 && a.width <= 2.0);
    }

    #[test]
    fn the_fallback_never_leaves_the_picture() {
        let mut rng = Seed(0).rng(Purpose::Demo, &[]);
        for (w, h) in (1..150).flat_map(|w| (1..150).map(move |h| (w, h))) {
            let a = Area::random(w, h, [1.0, 1.0], [0.75, 4.0 / 3.0], &mut rng);
            assert!(a.left >= 0.0 && a.top >= 0.0, "{w}x{h}: {a:?}");
            assert!(a.left + a.width <= w as f64 && a.top + a.height <= h as f64, "{w}x{h}: {a:?}");
        }
    }

    #[test]
    fn resizing_keeps_constants_and_channels() {
        let p = Picture::new(8, 6, 3, [10, 20, 30].repeat(48)).unwrap();
        let out = resize(&p, Area::centre_square(8, 6), 4, 3).unwrap();
        for (c, v) in [10.0, 20.0, 30.0].into_iter().enumerate() {
            assert!(out[c * 16..][..16].iter().all(|x| (x - v / 255.0).abs() < 1e-6));
        }
        let luma = resize(&p, Area::centre_square(8, 6), 4, 1).unwrap();
        let want = (0.299 * 10.0 + 0.587 * 20.0 + 0.114 * 30.0) / 255.0;
        assert!(luma.len() == 16 && luma.iter().all(|x| (x - want).abs() < 1e-6));
        let grey = Picture::new(2, 2, 1, vec![51; 4]).unwrap();
        let spread = resize(&grey, Area::centre_square(2, 2), 3, 3).unwrap();
        assert!(spread.len() == 27 && spread.iter().all(|x| (x - 0.2).abs() < 1e-6));
    }

    #[test]
    fn any_number_of_channels_is_resized_like_each_alone() {
        let value = |i: usize, c: usize| ((i * 37 + c * 91) % 251) as u8;
        let all = (0..48).flat_map(|i| (0..5).map(move |c| value(i, c))).collect();
        let picture = Picture::new(8, 6, 5, all).unwrap();
        let area = Area { left: 1.0, top: 0.5, width: 5.0, height: 4.0 };
        let planes = resize(&picture, area, 4, 5).unwrap();
        for c in 0..5 {
            let alone = Picture::new(8, 6, 1, (0..48).map(|i| value(i, c)).collect()).unwrap();
            assert_eq!(planes[c * 16..][..16], resize(&alone, area, 4, 1).unwrap());
        }
        for channels in [1, 3, 4] {
            let reason = resize(&picture, area, 4, channels).unwrap_err();
            assert!(reason.contains("5 channels"), "{reason}");
        }
    }

    #[test]
    fn an_area_outside_is_an_error() {
        let p = Picture::new(4, 4, 1, vec![0; 16]).unwrap();
        let a = Area { left: 2.0, top: 2.0, width: 4.0, height: 4.0 };
        assert!(resize(&p, a, 4, 1).is_err());
    }
}
