//! Decoded images, and decoding of untrusted files.

use std::io::{BufReader, ErrorKind};

use fast_image_resize as fir;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use lejepa_core::{Blob, Decoded};

use crate::jpeg;

/// A decoded image: interleaved 8-bit pixels with 1 (grey) or 3 (RGB) channels.
///
/// ```
/// use lejepa_image::Picture;
///
/// // A red pixel and a blue one to its right.
/// let pixels = vec![255, 0, 0, 0, 0, 255];
/// let picture = Picture::new(2, 1, 3, pixels).ok_or("the sizes do not agree")?;
/// assert_eq!((picture.width(), picture.height(), picture.channels()), (2, 1, 3));
/// assert_eq!(picture.pixels()[3..], [0, 0, 255]);
/// assert_eq!(picture.bytes(), 6);
///
/// assert!(Picture::new(2, 2, 3, vec![0; 6]).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
}

/// Longest side that is decoded: anything larger is more likely an attack than an image.
const MAX_SIDE: u32 = 32_768;
/// Limit, in bytes, of a file, of its decoded pixels, and of the decoder's own allocations.
const MAX_BYTES: u64 = 1 << 30;

impl Picture {
    /// A picture of row-major, interleaved pixels; `None` where sizes do not agree or a side is 0.
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

    pub(crate) fn decoded(self) -> Decoded<Self> {
        let bytes = self.bytes();
        Decoded::whole(self, bytes)
    }

    /// Scales the picture down so that its longer side is at most `side`; 0 leaves it unchanged.
    ///
    /// ```
    /// use lejepa_image::Picture;
    ///
    /// let picture = Picture::new(100, 50, 1, vec![7; 5000]).ok_or("the sizes do not agree")?;
    /// assert_eq!(picture.clone().at_most(0), picture);
    /// let small = picture.at_most(20);
    /// assert_eq!((small.width(), small.height()), (20, 10));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

/// Decodes an image. The format is detected from the content, not from the name. Transparent pixels are
/// composited on black, deeper ones reduced to 8 bits, and the EXIF orientation is applied. Of an
/// animation only the first frame is decoded.
///
/// # Errors
/// A one-line reason why this is not a usable image. Sides beyond 32,768 pixels and more than 1 GiB of
/// pixels or of file are refused before memory is allocated for them.
///
/// ```
/// use image::{GrayImage, ImageFormat, Luma};
/// use lejepa_core::Blob;
/// use lejepa_image::decode;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("any.name");
/// GrayImage::from_pixel(4, 2, Luma([9])).save_with_format(&path, ImageFormat::Png)?;
/// let picture = decode(&Blob::file(&path))?;
/// assert_eq!((picture.width(), picture.height(), picture.channels()), (4, 2, 1));
/// assert_eq!(picture.pixels(), [9; 8]);
///
/// let bytes = std::fs::read(&path)?;
/// assert_eq!(decode(&Blob::bytes("a cell of a table", bytes))?, picture);
/// assert!(decode(&Blob::bytes("a.png", &b"text"[..])).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn decode(blob: &Blob<'_>) -> Result<Picture, String> {
    let length = blob.len().map_err(|e| e.to_string())?;
    // Checked before opening: to open a pipe is to wait for a writer.
    if blob.path().is_some_and(|path| !path.is_file()) {
        return Err("not a regular file".into());
    }
    if length > MAX_BYTES {
        return Err("the file is larger than 1 GiB".into());
    }
    let mut file = BufReader::new(blob.open().map_err(|e| e.to_string())?);
    let mut reader =
        ImageReader::new(&mut file).with_guessed_format().map_err(|e| e.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let format = reader.format().ok_or("not a picture of a known format")?;
    let mut decoder = reader.into_decoder().map_err(plain)?;
    // The limits cover the decoder's own allocations, not the pixels that it returns.
    if decoder.total_bytes() > MAX_BYTES {
        return Err(TOO_LARGE.into());
    }
    let orientation = decoder.orientation().ok();
    let mut image = DynamicImage::from_decoder(decoder).map_err(plain)?;
    if format == ImageFormat::Jpeg && !jpeg::is_whole(&mut file).map_err(|e| e.to_string())? {
        return Err("the JPEG is cut short: it has no end marker".into());
    }
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    flatten(image).ok_or_else(|| "the picture is empty".into())
}

const TOO_LARGE: &str =
    "the picture is too large: at most 32768 pixels a side and 1 GiB of pixels can be read";

/// A decoder's message in one line.
fn plain(error: ImageError) -> String {
    match error {
        ImageError::Limits(_) => TOO_LARGE.into(),
        ImageError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            "the file is cut short".into()
        }
        error => error.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    }
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
#[path = "picture_tests.rs"]
mod tests;
