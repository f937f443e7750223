//! Photometric augmentations of planes of `f32` in 0..=1, as loops that the compiler vectorises.

use rand::{Rng, RngExt};

use crate::crop::{LUMA, between};

/// Strengths of the colour jitter: largest relative changes; for `hue` a fraction of a full turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jitter {
    pub(crate) brightness: f64,
    pub(crate) contrast: f64,
    pub(crate) saturation: f64,
    pub(crate) hue: f64,
}

impl Jitter {
    /// Changes brightness, contrast, saturation and hue by random amounts in random order, as
    /// torchvision's ColorJitter does. Saturation and hue have no effect on a single plane.
    pub(crate) fn apply(&self, planes: &mut [f32], channels: usize, rng: &mut impl Rng) {
        let mut order = [0, 1, 2, 3];
        for i in (1..4).rev() {
            order.swap(i, rng.random_range(0..=i));
        }
        let factor =
            |rng: &mut _, strength: f64| between(rng, [1.0 - strength, 1.0 + strength]) as f32;
        for step in order {
            match step {
                0 => brightness(planes, factor(rng, self.brightness)),
                1 => contrast(planes, channels, factor(rng, self.contrast)),
                2 => saturation(planes, channels, factor(rng, self.saturation)),
                _ => hue(planes, channels, between(rng, [-self.hue, self.hue]) as f32),
            }
        }
    }
}

pub(crate) fn brightness(planes: &mut [f32], factor: f32) {
    planes.iter_mut().for_each(|x| *x = (*x * factor).clamp(0.0, 1.0));
}

/// Moves values towards the mean luma of the picture, or away from it.
pub(crate) fn contrast(planes: &mut [f32], channels: usize, factor: f32) {
    let count = planes.len() / channels;
    let mean = match channels {
        3 => LUMA
            .iter()
            .zip(planes.chunks_exact(count))
            .map(|(w, plane)| w * sum(plane))
            .sum::<f32>(),
        _ => sum(planes) / channels as f32,
    } / count as f32;
    let shift = mean * (1.0 - factor);
    planes.iter_mut().for_each(|x| *x = (*x * factor + shift).clamp(0.0, 1.0));
}

/// The sum in sixteen lanes: with a single accumulator each addition would wait for the one before.
fn sum(plane: &[f32]) -> f32 {
    let (chunks, rest) = plane.as_chunks::<16>();
    let mut lanes = [0.0; 16];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += x);
    }
    lanes.iter().chain(rest).sum()
}

/// Moves colours towards their luma, or away from it; a `factor` of 0 makes the picture grey.
pub(crate) fn saturation(planes: &mut [f32], channels: usize, factor: f32) {
    let Some([red, green, blue]) = rgb(planes, channels) else { return };
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let luma = LUMA[0] * *r + LUMA[1] * *g + LUMA[2] * *b;
        let shift = luma * (1.0 - factor);
        *r = (*r * factor + shift).clamp(0.0, 1.0);
        *g = (*g * factor + shift).clamp(0.0, 1.0);
        *b = (*b * factor + shift).clamp(0.0, 1.0);
    }
}

/// Rotates the hue by the fraction `turn` of a full turn in the HSV colour space (Smith 1978), keeping
/// saturation and value.
pub(crate) fn hue(planes: &mut [f32], channels: usize, turn: f32) {
    let Some([red, green, blue]) = rgb(planes, channels) else { return };
    // In sixths of a turn, 0 to 6. Sums are brought back below 6 by one subtraction, which is faster
    // than a remainder.
    let turn = 6.0 * turn.rem_euclid(1.0);
    let below_six = |x: f32| if x >= 6.0 { x - 6.0 } else { x };
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let (max, min) = (r.max(*g).max(*b), r.min(*g).min(*b));
        let chroma = max - min;
        let safe = if chroma > 0.0 { chroma } else { 1.0 };
        let (from_green, from_blue) = (2.0 * safe + (*b - *r), 4.0 * safe + (*r - *g));
        let sector = if max == *g { from_green } else { from_blue };
        let sector = if max == *r { *g - *b } else { sector } / safe;
        let turned = below_six(sector + turn);
        // One channel of HSV to RGB: value − chroma · clamp(min(k, 4 − k), 0, 1).
        let channel = |n: f32| {
            let k = below_six(n + turned);
            max - chroma * k.min(4.0 - k).clamp(0.0, 1.0)
        };
        (*r, *g, *b) = (channel(5.0), channel(3.0), channel(1.0));
    }
}

/// Inverts values of at least one half.
pub(crate) fn solarize(planes: &mut [f32]) {
    planes.iter_mut().for_each(|x| *x = if *x >= 0.5 { 1.0 - *x } else { *x });
}

fn rgb(planes: &mut [f32], channels: usize) -> Option<[&mut [f32]; 3]> {
    if channels != 3 {
        return None;
    }
    let count = planes.len() / 3;
    let (red, rest) = planes.split_at_mut(count);
    let (green, blue) = rest.split_at_mut(count);
    Some([red, green, blue])
}

#[cfg(test)]
mod tests {
    use super::*;
    use lejepa_core::{Purpose, Seed};

    fn noise(n: usize) -> Vec<f32> {
        let mut rng = Seed(4).rng(Purpose::Demo, &[]);
        (0..n).map(|_| rng.random_range(0.0..1.0)).collect()
    }

    fn close(a: &[f32], b: &[f32]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
    }

    #[test]
    fn neutral_factors_change_nothing() {
        let original = noise(75);
        let mut x = original.clone();
        brightness(&mut x, 1.0);
        contrast(&mut x, 3, 1.0);
        saturation(&mut x, 3, 1.0);
        hue(&mut x, 3, 0.0);
        assert!(close(&x, &original));
        hue(&mut x, 3, 1.0);
        assert!(close(&x, &original), "a full turn of the hue");
    }

    #[test]
    fn the_hue_rotates_from_red_to_green_to_blue() {
        let mut x = vec![0.8, 0.2, 0.2];
        hue(&mut x, 3, 1.0 / 3.0);
        assert!(close(&x, &[0.2, 0.8, 0.2]), "{x:?}");
        hue(&mut x, 3, 1.0 / 3.0);
        assert!(close(&x, &[0.2, 0.2, 0.8]), "{x:?}");
        hue(&mut x, 3, -2.0 / 3.0);
        assert!(close(&x, &[0.8, 0.2, 0.2]), "{x:?}");
    }

    #[test]
    fn rotations_of_the_hue_add_up_and_keep_value_and_chroma() {
        let original = noise(300);
        let bounds = |x: &[f32], i: usize| {
            let (r, g, b) = (x[i], x[100 + i], x[200 + i]);
            (r.max(g).max(b), r.min(g).min(b))
        };
        for turn in [-0.5, -0.3, -0.01, 0.1, 0.25, 0.5] {
            let mut x = original.clone();
            hue(&mut x, 3, turn);
            for i in 0..100 {
                let ((max, min), (a, b)) = (bounds(&x, i), bounds(&original, i));
                assert!((max - a).abs() < 1e-5 && (min - b).abs() < 1e-5, "{turn}");
            }
            hue(&mut x, 3, -turn);
            assert!(close(&x, &original), "{turn} and back");
        }
    }

    #[test]
    fn sums_count_every_value() {
        for n in [1, 15, 16, 17, 100] {
            assert_eq!(sum(&vec![0.5; n]), n as f32 / 2.0);
        }
    }

    #[test]
    fn no_saturation_is_grey_and_no_contrast_is_flat() {
        let mut x = noise(75);
        saturation(&mut x, 3, 0.0);
        assert!(close(&x[..25], &x[25..50]) && close(&x[..25], &x[50..]));
        contrast(&mut x, 3, 0.0);
        assert!(x.iter().all(|v| (v - x[0]).abs() < 1e-5));
        let mut y = vec![0.2, 0.5, 0.9];
        solarize(&mut y);
        assert!(close(&y, &[0.2, 0.5, 0.1]));
    }

    #[test]
    fn contrast_of_any_number_of_channels_is_about_their_mean() {
        for channels in [1, 2, 5] {
            let original = noise(channels * 25);
            let mut flat = original.clone();
            contrast(&mut flat, channels, 0.0);
            let mean = original.iter().sum::<f32>() / original.len() as f32;
            assert!(flat.iter().all(|x| (x - mean).abs() < 1e-5), "{channels}");
        }
    }

    #[test]
    fn jitter_stays_in_range_and_leaves_grey_grey() {
        let strong = Jitter { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.5 };
        let mut rng = Seed(0).rng(Purpose::Views, &[]);
        for _ in 0..50 {
            let mut x = noise(75);
            strong.apply(&mut x, 3, &mut rng);
            assert!(x.iter().all(|v| (0.0..=1.0).contains(v)));
            let plane = noise(25);
            let mut grey = plane.repeat(3);
            strong.apply(&mut grey, 3, &mut rng);
            assert!(close(&grey[..25], &grey[25..50]) && close(&grey[..25], &grey[50..]));
        }
    }
}
