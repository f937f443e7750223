//! Settings that follow from a look at the pictures.

use lejepa_core::{AUTO, Advice, Preset, Result, Survey, median};

use crate::crop::LUMA;
use crate::{ImageConfig, Picture};

/// Most pictures that are looked at.
const SAMPLES: usize = 512;

/// Presets; `auto` takes one of the first three.
pub(crate) const PRESETS: &[Preset] = &[
    Preset {
        name: "photos",
        about: "keeps objects and scenes; loses left and right, exact colours",
    },
    Preset {
        name: "small",
        about: "pictures of at most 96 pixels; keeps and loses the same as photos",
    },
    Preset {
        name: "glyph",
        about: "letters, digits, symbols; keeps shape and orientation; loses thickness, slant, brightness",
    },
    Preset {
        name: "flat",
        about: "drawings and icons of few colours; keeps shape; loses hue, brightness, left and right",
    },
    Preset {
        name: "scientific",
        about: "micrographs, aerial pictures; keeps texture and colour; loses orientation",
    },
];

/// What was seen of a set of pictures.
#[derive(Debug)]
struct Seen {
    /// Median of the shorter side in pixels.
    side: usize,
    /// Share of pictures with a grey value in every pixel, but for a few.
    grey: f64,
    /// Median number of channels.
    channels: usize,
    /// Median share of the variance of a picture that two levels of luma explain (Otsu 1979): 1 for two
    /// flat areas, 0.64 for a normal distribution.
    two_level: f64,
    /// Mean and standard deviation of the luma.
    luma: [f64; 2],
    /// Mean and standard deviation of each channel.
    moments: Vec<[f64; 2]>,
}

fn luma(pixel: &[u8]) -> f64 {
    match pixel {
        [r, g, b] => {
            let [wr, wg, wb] = LUMA.map(f64::from);
            wr * f64::from(*r) + wg * f64::from(*g) + wb * f64::from(*b)
        }
        _ => pixel.first().copied().map_or(0.0, f64::from),
    }
}

/// See [`Seen::two_level`]; 0 for a flat picture.
fn two_level(picture: &Picture) -> f64 {
    let mut counts = [0f64; 256];
    for pixel in picture.pixels().chunks_exact(picture.channels()) {
        counts[luma(pixel).round().clamp(0.0, 255.0) as usize] += 1.0;
    }
    let n: f64 = counts.iter().sum();
    let mean = counts.iter().enumerate().map(|(v, c)| v as f64 * c).sum::<f64>() / n;
    let variance =
        counts.iter().enumerate().map(|(v, c)| (v as f64 - mean).powi(2) * c).sum::<f64>() / n;
    let (mut below, mut sum, mut best) = (0.0, 0.0, 0f64);
    for (value, count) in counts.iter().enumerate() {
        below += count;
        sum += value as f64 * count;
        let above = n - below;
        if below > 0.0 && above > 0.0 {
            let apart = sum / below - (mean * n - sum) / above;
            best = best.max(below * above / (n * n) * apart * apart);
        }
    }
    if variance > 0.0 { best / variance } else { 0.0 }
}

fn is_grey(picture: &Picture) -> bool {
    if picture.channels() != 3 {
        return picture.channels() == 1;
    }
    let coloured = |p: &&[u8]| p.iter().max().zip(p.iter().min()).is_some_and(|(a, b)| a - b > 12);
    let count = picture.pixels().chunks_exact(3).filter(coloured).count();
    (count as f64) < 0.01 * (picture.width() * picture.height()) as f64
}

/// `None` where none can be read.
fn look(pictures: impl Iterator<Item = Picture>) -> Option<Seen> {
    let (mut sides, mut levels, mut channels, mut grey) = (vec![], vec![], vec![], 0usize);
    let (mut lumas, mut sums) = (Sums::default(), Vec::<Sums>::new());
    for picture in pictures {
        sides.push(picture.width().min(picture.height()));
        levels.push(two_level(&picture));
        channels.push(picture.channels());
        grey += usize::from(is_grey(&picture));
        let (pixels, count) = (picture.pixels(), picture.channels());
        lumas.add(pixels.chunks_exact(count).map(luma));
        // A grey picture counts for each colour.
        let shown = if count == 1 { 3 } else { count };
        sums.resize(sums.len().max(shown), Sums::default());
        for (channel, sums) in sums.iter_mut().enumerate().take(shown) {
            let own = pixels.iter().skip(channel % count).step_by(count);
            sums.add(own.map(|v| f64::from(*v)));
        }
    }
    let count = sides.len() as f64;
    if sides.is_empty() {
        return None;
    }
    Some(Seen {
        side: median(sides),
        grey: grey as f64 / count,
        channels: median(channels),
        two_level: median(levels),
        luma: lumas.moments(),
        moments: sums.iter().map(Sums::moments).collect(),
    })
}

/// Sums over pictures of the mean value and of the mean square of their pixels.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    pictures: f64,
    mean: f64,
    square: f64,
}

impl Sums {
    /// Adds the pixels of a picture, 0 to 255.
    fn add(&mut self, values: impl Iterator<Item = f64>) {
        let (mut count, mut sum, mut square) = (0.0, 0.0, 0.0);
        for value in values {
            count += 1.0;
            sum += value / 255.0;
            square += (value / 255.0).powi(2);
        }
        self.pictures += 1.0;
        self.mean += sum / count;
        self.square += square / count;
    }

    /// Mean and standard deviation; the latter is at least 0.02, so that a constant is not divided by 0.
    fn moments(&self) -> [f64; 2] {
        let mean = self.mean / self.pictures;
        [mean, (self.square / self.pictures - mean * mean).max(0.0).sqrt().max(0.02)]
    }
}

/// The nearest multiple of 4, which two halvings divide, from 8; of patches of another size the largest multiple
/// that is not above, but two at least.
fn rounded(side: usize, multiple: Option<usize>) -> usize {
    match multiple {
        Some(patch) if !patch.is_power_of_two() || patch > 4 => (side / patch).max(2) * patch,
        _ => ((side + 2) / 4 * 4).max(8),
    }
}

pub(crate) fn advise(config: &ImageConfig, survey: &Survey<'_, Picture>) -> Result<Advice> {
    // The scan names what cannot be read.
    let Some(seen) = look(survey.samples(SAMPLES)) else { return Ok(Advice::default()) };
    let at = survey.context();
    let small = seen.side <= 96;
    let is_two_level = seen.two_level >= 0.85;
    let is_spectral = !matches!(seen.channels, 1 | 3);
    let preset = match at.preset {
        AUTO if is_spectral => "scientific",
        AUTO if seen.grey > 0.98 && is_two_level => "glyph",
        AUTO if is_two_level => "flat",
        AUTO if small => "small",
        AUTO => "photos",
        named => named,
    };
    let mut advice = Advice::default();
    let side = seen.side;
    let most = match (at.is_gpu, survey.len()) {
        (false, _) => 64,
        (true, 0..100_000) => 128,
        (true, _) => 224,
    };
    let why = format!("the median shorter side is {side} pixels");
    let wanted = if small && side <= most.max(64) { side } else { most };
    let global = rounded(wanted.max(16), at.multiple);
    advice.set("image.global_size", global as i64, &*why);
    advice.set(
        "image.local_size",
        rounded(global / 2, at.multiple) as i64,
        "half of a global view",
    );
    let (global_scale, local_scale) = match side {
        0..=48 => ([0.5, 1.0], [0.2, 0.5]),
        49..=96 => ([0.4, 1.0], [0.15, 0.4]),
        _ => ([0.3, 1.0], [0.08, 0.3]),
    };
    advice.set_numbers("image.global_scale", global_scale, &*why);
    advice.set_numbers("image.local_scale", local_scale, why);
    let is_luma = seen.grey > 0.98;
    if is_luma {
        advice.set("image.channels", 1, "the pictures are grey");
    } else if is_spectral {
        advice.set("image.channels", seen.channels as i64, "the pictures have as many");
    } else {
        let why = format!("{:.0} % of the pictures have colours", 100.0 * (1.0 - seen.grey));
        advice.set("image.channels", 3, why);
    }
    let moments = match () {
        () if is_luma => vec![seen.luma; 3],
        () if is_spectral => seen.moments[..seen.channels.min(seen.moments.len())].to_vec(),
        () => seen.moments[..3].to_vec(),
    };
    advice.set_numbers("image.mean", moments.iter().map(|m| m[0]), "measured");
    advice.set_numbers("image.std", moments.iter().map(|m| m[1]), "measured");
    if side <= 48 {
        advice.set("image.blur", 0.0, "nothing to blur in so few pixels");
    }
    let what = format!(
        "two levels explain {:.0} % of a picture's variance: preset {preset}",
        100.0 * seen.two_level
    );
    match preset {
        "glyph" => {
            advice.set("image.flip", 0.0, &*what);
            advice.set("image.rotate", 15.0, &*what);
            advice.set("image.shear", 0.2, &*what);
            advice.set("image.solarize", 0.0, &*what);
            advice.set_numbers("image.local_scale", [0.25, 0.6], what);
        }
        "flat" => {
            advice.set("image.hue", 0.5, &*what);
            advice.set("image.grey", 0.3, &*what);
            advice.set("image.solarize", 0.0, &*what);
            advice.set("image.rotate", 15.0, what);
        }
        "scientific" => {
            let why = format!("preset {preset}");
            advice.set("image.flip_vertical", 0.5, &*why);
            advice.set("image.quarter_turn", 0.75, &*why);
            advice.set("image.solarize", 0.0, &*why);
            advice.set("image.hue", 0.05, &*why);
            advice.set("image.grey", 0.0, why);
        }
        _ => {}
    }
    if config.locals > 4 && !at.is_gpu {
        advice.set("image.locals", 4, "fewer views take less time on a CPU");
    }
    if at.is_gpu && survey.len() >= 100_000 {
        let why = format!("{} pictures", survey.len());
        advice.set("encoder.name", "vit", &*why);
        advice.set("encoder.width", 384, &*why);
        advice.set("encoder.depth", 12, &*why);
        advice.set("encoder.heads", 6, why);
    } else if at.is_gpu {
        let why = format!("a convolutional network learns faster from {} pictures", survey.len());
        advice.set("encoder.name", "resnet", why);
    } else {
        let why = "a small convolutional network learns most in little time on a CPU";
        advice.set("encoder.name", "convnet", why);
    }
    Ok(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(side: usize, pixel: impl Fn(usize) -> [u8; 3]) -> Picture {
        Picture::new(side, side, 3, (0..side * side).flat_map(pixel).collect()).unwrap()
    }

    #[test]
    fn greyness_and_levels_are_seen() {
        let ramp = picture(16, |i| [i as u8; 3]);
        assert!(is_grey(&ramp));
        // A ramp: 1 − 1/4 of the variance is between its halves.
        assert!((two_level(&ramp) - 0.75).abs() < 0.01);
        let halves = picture(16, |i| if i < 100 { [10, 200, 30] } else { [200, 10, 30] });
        assert!(!is_grey(&halves));
        assert!((two_level(&halves) - 1.0).abs() < 1e-9);
        assert_eq!(two_level(&picture(4, |_| [7; 3])), 0.0);
    }

    #[test]
    fn sides_are_multiples_of_patches() {
        assert_eq!([27, 28, 30].map(|side| rounded(side, None)), [28, 28, 32]);
        assert_eq!([64, 32, 10].map(|side| rounded(side, Some(14))), [56, 28, 28]);
        assert_eq!([64, 30].map(|side| rounded(side, Some(16))), [64, 32]);
        assert_eq!(rounded(27, Some(2)), 28);
    }

    #[test]
    fn moments_are_those_of_all_pixels() {
        let one = picture(8, |i| if i % 2 == 0 { [255, 0, 51] } else { [0, 0, 51] });
        let seen = look([one.clone(), one].into_iter()).unwrap();
        let [red, green, blue] = seen.moments[..] else { panic!("{seen:?}") };
        assert!((red[0] - 0.5).abs() < 1e-9 && (red[1] - 0.5).abs() < 1e-9);
        // A constant channel is not divided by 0.
        assert!(green == [0.0, 0.02] && (blue[0] - 0.2).abs() < 1e-9);
        assert_eq!((seen.side, seen.grey, seen.channels), (8, 0.0, 3));
        assert!(look(std::iter::empty()).is_none());
    }
}
