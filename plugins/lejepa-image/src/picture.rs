//! Decoded pictures, and decoding files of which nothing is known but the name.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use fast_image_resize as fir;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

/// A decoded picture: interleaved 8-bit pixels with 1 (grey) or 3 (RGB) channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
}

/// No side of a picture may be longer: beyond this a file is more likely hostile than a picture.
const MAX_SIDE: u32 = 32_768;
/// Memory that decoding one picture may take, in bytes.
const MAX_ALLOC: u64 = 1 << 30;

impl Picture {
    /// A picture from row-major, interleaved pixels; `None` where sizes do not agree or a side is 0.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Option<Self> {
        let fits = width > 0
            && height > 0
            && matches!(channels, 1 | 3)
            && width.checked_mul(height)?.checked_mul(channels)? == pixels.len();
        fits.then_some(Self { width, height, channels, pixels })
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// 1 or 3.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Row-major, interleaved pixels.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Memory taken by the pixels.
    pub fn bytes(&self) -> usize {
        self.pixels.len()
    }

    /// The picture with its longer side scaled down to `side` where it is longer; 0 means never.
    pub fn at_most(self, side: usize) -> Self {
        let longer = self.width.max(self.height);
        if side == 0 || longer <= side {
            return self;
        }
        let scaled = |n: usize| (n * side).div_ceil(longer).max(1);
        let (width, height) = (scaled(self.width), scaled(self.height));
        let kind = if self.channels == 1 { fir::PixelType::U8 } else { fir::PixelType::U8x3 };
        let mut target = fir::images::Image::new(width as u32, height as u32, kind);
        let (w, h) = (self.width as u32, self.height as u32);
        let resized = fir::images::ImageRef::new(w, h, &self.pixels, kind)
            .is_ok_and(|source| fir::Resizer::new().resize(&source, &mut target, None).is_ok());
        if resized {
            Self { width, height, channels: self.channels, pixels: target.into_vec() }
        } else {
            self
        }
    }
}

/// Decodes a file by its content, whatever its name says. Transparency is laid on black, deeper
/// pixels are reduced to 8 bits, and the orientation that cameras note is applied.
///
/// # Errors
/// Why the file is no usable picture, in words.
pub fn decode(path: &Path) -> Result<Picture, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut file = BufReader::new(file);
    let mut reader =
        ImageReader::new(&mut file).with_guessed_format().map_err(|e| e.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    let format = reader.format().ok_or("not a picture of a known format")?;
    let mut decoder = reader.into_decoder().map_err(|e| plain(&e))?;
    let orientation = decoder.orientation().ok();
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| plain(&e))?;
    if format == ImageFormat::Jpeg && !ends_as_jpeg(&mut file).map_err(|e| e.to_string())? {
        // The decoder fills what is missing with grey and says nothing.
        return Err("the JPEG is cut short: it has no end marker".into());
    }
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    flatten(image).ok_or_else(|| "the picture is empty".into())
}

fn plain(error: &image::ImageError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the end-of-image marker stands in the last few kilobytes; programs append things to it.
fn ends_as_jpeg(file: &mut (impl Read + Seek)) -> std::io::Result<bool> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(64 << 10)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok(tail.windows(2).any(|w| w == [0xff, 0xd9]))
}

fn flatten(image: DynamicImage) -> Option<Picture> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let grey = !image.color().has_color();
    if !image.color().has_alpha() {
        return if grey {
            Picture::new(width, height, 1, image.into_luma8().into_raw())
        } else {
            Picture::new(width, height, 3, image.into_rgb8().into_raw())
        };
    }
    let over_black = |value: u8, alpha: u8| (u16::from(value) * u16::from(alpha) / 255) as u8;
    if grey {
        let pixels = image.into_luma_alpha8().pixels().map(|p| over_black(p[0], p[1])).collect();
        return Picture::new(width, height, 1, pixels);
    }
    let pixels = image
        .into_rgba8()
        .pixels()
        .flat_map(|p| [over_black(p[0], p[3]), over_black(p[1], p[3]), over_black(p[2], p[3])])
        .collect();
    Picture::new(width, height, 3, pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> image::RgbImage {
        image::RgbImage::from_fn(40, 24, |x, y| image::Rgb([x as u8 * 6, y as u8 * 10, 77]))
    }

    #[test]
    fn every_format_comes_back() {
        let d = tempfile::tempdir().unwrap();
        for ext in ["png", "bmp", "tiff", "webp", "gif", "jpg"] {
            let path = d.path().join(format!("x.{ext}"));
            sample().save(&path).unwrap();
            let p = decode(&path).unwrap();
            assert_eq!((p.width(), p.height(), p.channels()), (40, 24, 3), "{ext}");
            let lossless = !matches!(ext, "jpg" | "gif");
            let off = p.pixels().iter().zip(sample().as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(!lossless || off == Some(0), "{ext}: {off:?}");
            // The content counts, not the name.
            let wrong = d.path().join("wrong.name");
            std::fs::copy(&path, &wrong).unwrap();
            assert_eq!(decode(&wrong).unwrap(), p);
        }
    }

    #[test]
    fn alpha_and_depth_are_reduced() {
        let d = tempfile::tempdir().unwrap();
        let path = d.path().join("a.png");
        image::RgbaImage::from_pixel(4, 4, image::Rgba([200, 100, 50, 0])).save(&path).unwrap();
        assert!(decode(&path).unwrap().pixels().iter().all(|&v| v == 0));
        image::ImageBuffer::<image::Luma<u16>, _>::from_pixel(4, 4, image::Luma([0x8000u16]))
            .save(&path)
            .unwrap();
        let grey = decode(&path).unwrap();
        assert_eq!((grey.channels(), grey.pixels()[0]), (1, 0x80));
    }

    #[test]
    fn broken_files_are_errors() {
        let d = tempfile::tempdir().unwrap();
        for ext in ["png", "jpg", "webp", "bmp", "tiff"] {
            let path = d.path().join(format!("x.{ext}"));
            sample().save(&path).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            for keep in [0, 1, 9, bytes.len() / 2, bytes.len() * 9 / 10] {
                std::fs::write(&path, &bytes[..keep]).unwrap();
                assert!(decode(&path).is_err(), "{ext} cut to {keep} of {}", bytes.len());
            }
        }
        let path = d.path().join("text.png");
        std::fs::write(&path, "not a picture at all").unwrap();
        assert!(decode(&path).unwrap_err().contains("not a picture"));
        assert!(decode(&d.path().join("missing.png")).is_err());
    }

    #[test]
    fn large_pictures_are_scaled_down_once() {
        let p = Picture::new(100, 40, 3, vec![9; 12_000]).unwrap().at_most(50);
        assert_eq!((p.width(), p.height()), (50, 20));
        assert!(p.pixels().iter().all(|&v| v == 9));
        assert_eq!(p.clone().at_most(50), p);
        assert_eq!(p.clone().at_most(0), p);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn hostile_bytes_never_panic(
            magic in prop::sample::select(vec![
                &b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], b"\xff\xd8\xff\xe0\0\x10JFIF", b"GIF89a",
                b"BM", b"II*\0", b"RIFF\x40\0\0\0WEBPVP8 ", b"",
            ]),
            body in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let d = tempfile::tempdir().unwrap();
            let path = d.path().join("x");
            std::fs::write(&path, [magic, &body].concat()).unwrap();
            let _ = decode(&path);
        }
    }
}
