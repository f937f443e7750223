//! The stages of a view are torchvision's, to the pixel: `recipe/views.py` made `recipe/views.json` with version 2 of
//! its transforms.

use serde::Deserialize;

use crate::Picture;
use crate::blur::gaussian;
use crate::colour::{brightness, contrast, hue, saturation, solarize};
use crate::crop::{Area, resize};
use crate::geometry::{flip, flip_vertical};

/// Levels of 255 by which a value may differ: both round, torchvision after each stage.
const TOLERANCE: f32 = 2.0;

const SIZE: [usize; 2] = [150, 110];

#[derive(Deserialize)]
struct Fixtures {
    /// Every tenth pixel of the picture, by channel.
    picture: Vec<u8>,
    /// Its crop of 24 × 24, which the photometric stages start from.
    small: Vec<u8>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    values: Vec<f32>,
    #[serde(default)]
    area: [f64; 4],
    #[serde(default)]
    side: usize,
    #[serde(default)]
    factor: f32,
}

fn fixtures() -> Fixtures {
    serde_json::from_str(include_str!("recipe/views.json")).unwrap()
}

/// The formula of `views.py`.
fn picture() -> Picture {
    let [width, height] = SIZE;
    let mut pixels = Vec::with_capacity(width * height * 3);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        for c in 0..3 {
            let mixed = ((x * 73 + y * 151 + c * 199) * 2_654_435_761) & 0xffff_ffff;
            let noise = ((mixed >> 20) % 64) as f32;
            let waves = (x as f32 / (7.0 + 3.0 * c as f32)).sin()
                * (y as f32 / (11.0 - 2.0 * c as f32)).cos();
            pixels.push(((96.0 + 80.0 * waves).round_ties_even() + noise).clamp(0.0, 255.0) as u8);
        }
    }
    Picture::new(width, height, 3, pixels).unwrap()
}

#[test]
fn every_stage_is_that_of_torchvision() {
    let Fixtures { picture: sampled, small, cases } = fixtures();
    let picture = picture();
    let [width, height] = SIZE;
    let pixels = picture.pixels();
    let at = |c, y, x| pixels[(y * width + x) * 3 + c];
    let ours: Vec<u8> = (0..3)
        .flat_map(|c| (0..height).step_by(10).map(move |y| (c, y)))
        .flat_map(|(c, y)| (0..width).step_by(10).map(move |x| at(c, y, x)))
        .collect();
    assert_eq!(ours, sampled, "the formula makes another picture than in `views.py`");
    let start: Vec<f32> = small.iter().map(|&level| f32::from(level) / 255.0).collect();
    for case in cases {
        let mut planes = start.clone();
        match case.name.as_str() {
            "crop" => {
                let [left, top, width, height] = case.area;
                let area = Area { left, top, width, height };
                planes = resize(&picture, area, case.side, 3).unwrap();
            }
            "brightness" => brightness(&mut planes, case.factor),
            "contrast" => contrast(&mut planes, 3, case.factor),
            "saturation" => saturation(&mut planes, 3, case.factor),
            "hue" => hue(&mut planes, 3, case.factor),
            "grey" => saturation(&mut planes, 3, 0.0),
            "blur" => gaussian(&mut planes, 24, case.factor),
            "solarize" => solarize(&mut planes),
            "flip" => flip(&mut planes, 24),
            "flip vertical" => flip_vertical(&mut planes, 24),
            other => panic!("{other} is unknown"),
        }
        assert_eq!(planes.len(), case.values.len());
        let off = planes.iter().zip(&case.values).map(|(a, b)| (255.0 * a - b).abs());
        let off = off.fold(0.0, f32::max);
        let Case { name, area, factor, .. } = case;
        assert!(off <= TOLERANCE, "{name} {area:?} {factor}: {off} of 255");
    }
}
