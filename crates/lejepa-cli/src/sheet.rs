//! Views as pictures: rows of a contact sheet, filmstrips, curves.

use image::{Rgb, RgbImage};
use lejepa_core::{Values, View};

/// Pixels between pictures.
const GAP: u32 = 4;
/// Small views are shown larger, by a whole number, so that their longer side comes near this.
const SIDE: usize = 192;
/// Height of the curve of a channel.
const CURVE: u32 = 48;
/// Most columns of a curve.
const WIDTH: usize = 768;

/// A view as frames of a film; one frame for views that do not move. With `is_upwards` the first row of a picture is
/// drawn at the bottom, as the low frequencies of a spectrogram are.
pub(crate) fn frames(view: &View, is_upwards: bool) -> Vec<RgbImage> {
    let values = unit(view);
    match view.shape()[..] {
        [channels, length] => vec![curves(&values, channels, length)],
        [channels, height, width] => {
            let mut still = picture(&values, channels, height, width);
            if is_upwards {
                image::imageops::flip_vertical_in_place(&mut still);
            }
            vec![still]
        }
        [channels, time, height, width] => (0..time)
            .map(|t| {
                let plane = height * width;
                let of = |c: usize| &values[(c * time + t) * plane..][..plane];
                let frame: Vec<f32> = (0..channels).flat_map(of).copied().collect();
                picture(&frame, channels, height, width)
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Values of 0 to 1: bytes as they are; numbers by their smallest and largest value.
fn unit(view: &View) -> Vec<f32> {
    match view.values() {
        Values::Bytes { bytes, .. } => bytes.iter().map(|b| f32::from(*b) / 255.0).collect(),
        Values::Numbers(numbers) => {
            let least = numbers.iter().copied().fold(f32::INFINITY, f32::min);
            let most = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let range = if most > least { most - least } else { 1.0 };
            numbers.iter().map(|v| (v - least) / range).collect()
        }
    }
}

/// The first three channels as red, green and blue; one or two as grey.
fn picture(values: &[f32], channels: usize, height: usize, width: usize) -> RgbImage {
    let plane = height * width;
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let cell = y as usize * width + x as usize;
        let of = |c: usize| {
            let c = if channels < 3 { 0 } else { c };
            (values[c * plane + cell].clamp(0.0, 1.0) * 255.0 + 0.5) as u8
        };
        Rgb([of(0), of(1), of(2)])
    })
}

/// A curve for each channel, one below the other. Of a long one each column shows the range of several values.
fn curves(values: &[f32], channels: usize, length: usize) -> RgbImage {
    let height = CURVE * channels as u32;
    let step = length.div_ceil(WIDTH).max(1);
    let width = length.div_ceil(step);
    let mut out = RgbImage::from_pixel(width as u32, height.max(1), Rgb([255; 3]));
    for (channel, row) in values.chunks_exact(length.max(1)).enumerate() {
        let top = CURVE * channel as u32;
        let at = |v: f32| top + ((1.0 - v.clamp(0.0, 1.0)) * (CURVE - 1) as f32) as u32;
        for x in 0..width {
            // The first value of the next column joins them.
            let part = &row[x * step..((x + 1) * step + 1).min(length)];
            let least = part.iter().copied().fold(f32::INFINITY, f32::min);
            let most = part.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for y in at(most)..=at(least) {
                out.put_pixel(x as u32, y, Rgb([20, 60, 160]));
            }
        }
    }
    out
}

/// By which whole number pictures of this size are enlarged.
pub(crate) fn zoom(pictures: &[&RgbImage]) -> u32 {
    let sides = pictures.iter().map(|p| p.width().max(p.height()));
    (SIDE as u32 / sides.max().unwrap_or(1).max(1)).clamp(1, 8)
}

/// Pictures in rows, on white.
pub(crate) fn sheet(rows: &[Vec<RgbImage>], zoom: u32) -> RgbImage {
    let width_of = |row: &Vec<RgbImage>| row.iter().map(|p| p.width() * zoom + GAP).sum::<u32>();
    let height_of = |row: &Vec<RgbImage>| row.iter().map(|p| p.height() * zoom).max().unwrap_or(0);
    let width = rows.iter().map(width_of).max().unwrap_or(0) + GAP;
    let height = rows.iter().map(|row| height_of(row) + GAP).sum::<u32>() + GAP;
    let mut out = RgbImage::from_pixel(width.max(1), height.max(1), Rgb([255; 3]));
    let mut y = GAP;
    for row in rows {
        let mut x = GAP;
        for picture in row {
            let (w, h) = (picture.width() * zoom, picture.height() * zoom);
            let large = image::imageops::resize(picture, w, h, image::imageops::Nearest);
            image::imageops::replace(&mut out, &large, x.into(), y.into());
            x += w + GAP;
        }
        y += height_of(row) + GAP;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_of_every_rank_have_pictures() {
        let view = |shape: &[usize]| {
            let count = shape.iter().product::<usize>();
            View::new(shape, (0..count).map(|i| i as f32).collect()).unwrap()
        };
        let signal = frames(&view(&[2, 30]), true);
        assert_eq!((signal.len(), signal[0].dimensions()), (1, (30, 2 * CURVE)));
        let grey = frames(&view(&[1, 4, 6]), false);
        assert_eq!(grey[0].dimensions(), (6, 4));
        assert_eq!((grey[0].get_pixel(0, 0).0, grey[0].get_pixel(5, 3).0), ([0; 3], [255; 3]));
        let colour = frames(&view(&[3, 1, 1]), false);
        assert_eq!(colour[0].get_pixel(0, 0).0, [0, 128, 255]);
        let film = frames(&view(&[1, 5, 2, 2]), true);
        assert_eq!(film.len(), 5);
        assert!(film[4].get_pixel(1, 1).0[0] > film[0].get_pixel(0, 0).0[0]);
    }

    #[test]
    fn a_sheet_holds_all_rows_enlarged() {
        let square = |side| RgbImage::from_pixel(side, side, Rgb([9; 3]));
        let rows = [vec![square(4), square(4)], vec![square(2)]];
        let out = sheet(&rows, 3);
        assert_eq!(out.dimensions(), (2 * (12 + GAP) + GAP, 12 + 6 + 3 * GAP));
        assert_eq!(out.get_pixel(GAP, GAP).0, [9; 3]);
        assert_eq!(out.get_pixel(GAP, 2 * GAP + 12 + 5).0, [9; 3]);
        assert_eq!(out.get_pixel(0, 0).0, [255; 3]);
        assert_eq!(zoom(&[&square(24)]), 8);
        assert_eq!(zoom(&[&square(300)]), 1);
    }
}
