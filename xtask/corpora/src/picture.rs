//! Pictures as files.

use std::path::Path;

use image::ExtendedColorType;

use crate::corpus::said;

/// Writes rows of RGB bytes as a PNG file.
pub(crate) fn write_rgb(file: &Path, side: u32, pixels: &[u8]) -> Result<(), String> {
    image::save_buffer(file, pixels, side, side, ExtendedColorType::Rgb8).map_err(|e| said(file, e))
}

/// Writes rows of grey bytes as a PNG file.
pub(crate) fn write_grey(file: &Path, side: u32, pixels: &[u8]) -> Result<(), String> {
    image::save_buffer(file, pixels, side, side, ExtendedColorType::L8).map_err(|e| said(file, e))
}

/// A level of 0 to 1 as a byte; what lies outside is clipped.
pub(crate) fn byte(level: f64) -> u8 {
    (level.clamp(0.0, 1.0) * 255.0).round() as u8
}
