//! The built-in data: handwritten digits.
//!
//! Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), UCI Machine Learning
//! Repository, <https://doi.org/10.24432/C50P49>, CC BY 4.0: the 1,797 digits of its test part.

use std::sync::LazyLock;

use lejepa_core::{Dataset, Decoded, Error, Labels, Result, Window};

use crate::Picture;

/// One digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digit {
    /// 0 to 9.
    pub label: u8,
    /// 8×8 pixels row by row, 0 (paper) to 16 (ink).
    pub pixels: [u8; 64],
}

static DIGITS: LazyLock<Vec<Digit>> =
    LazyLock::new(|| include_str!("optdigits.csv").lines().filter_map(parse).collect());

/// All digits, in the order of the file.
///
/// ```
/// let digits = lejepa_image::digits();
/// assert_eq!(digits.len(), 1797);
/// assert!(digits.iter().all(|d| d.label <= 9 && d.pixels.iter().all(|&ink| ink <= 16)));
/// ```
pub fn digits() -> &'static [Digit] {
    &DIGITS
}

fn parse(line: &str) -> Option<Digit> {
    let mut numbers = line.split(',').map(|word| word.trim().parse::<u8>());
    let label = numbers.next()?.ok()?;
    let mut pixels = [0; 64];
    for pixel in &mut pixels {
        *pixel = numbers.next()?.ok().filter(|ink| *ink <= 16)?;
    }
    (label <= 9 && numbers.next().is_none()).then_some(Digit { label, pixels })
}

/// The digits as a data set with one label column, `digit`.
pub(crate) struct Demo {
    labels: Vec<Labels>,
}

impl Demo {
    pub(crate) fn new() -> Self {
        let words: Vec<Option<String>> =
            digits().iter().map(|d| Some(d.label.to_string())).collect();
        Self { labels: vec![Labels::from_words("digit", &words)] }
    }
}

impl Dataset for Demo {
    type Item = Picture;

    fn len(&self) -> usize {
        digits().len()
    }

    fn name(&self, index: usize) -> String {
        format!("digit {index}")
    }

    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Picture>> {
        digits()
            .get(index)
            .and_then(|d| {
                let pixels = d.pixels.iter().map(|&v| (u16::from(v) * 255 / 16) as u8).collect();
                Picture::new(8, 8, 1, pixels)
            })
            .map(Picture::decoded)
            .ok_or_else(|| Error::sample(self.name(index), "no such digit"))
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }
}

/// Settings for 8×8 digits: small grey views, no flips, which would change what a digit is, and an
/// encoder that two CPU cores train in a minute.
pub(crate) const RECIPE: &str = "
[train]
epochs = 20.0

[encoder]
name = 'vit'
width = 96
depth = 4
patch = [4]

[image]
channels = 1
locals = 4
global_size = 16
local_size = 8
global_scale = [0.5, 1.0]
local_scale = [0.25, 0.6]
flip = 0.0
solarize = 0.0
blur = 0.2
# Mean and standard deviation of the digits' pixels.
mean = [0.305, 0.305, 0.305]
std = [0.376, 0.376, 0.376]
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_digits_are_there() {
        assert_eq!(digits().len(), 1797);
        assert_eq!(include_str!("optdigits.csv").lines().count(), 1797);
        assert!(digits().iter().all(|d| d.label <= 9 && d.pixels.iter().all(|&p| p <= 16)));
        let demo = Demo::new();
        assert_eq!(demo.labels()[0].names().len(), 10);
        assert_eq!(demo.item(0, Window::Centre).unwrap().item.width(), 8);
        assert!(demo.item(1797, Window::Centre).is_err());
    }

    #[test]
    fn the_normalisation_is_that_of_the_digits() {
        let all: Vec<f64> = digits()
            .iter()
            .flat_map(|d| d.pixels.map(|p| f64::from(u16::from(p) * 255 / 16) / 255.0))
            .collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let var = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64;
        assert!((mean - 0.305).abs() < 0.005 && (var.sqrt() - 0.376).abs() < 0.005, "{mean} {var}");
    }
}
