//! Decoding of untrusted files.

use std::io::{BufRead, BufReader, Cursor, ErrorKind, Seek, SeekFrom};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use lejepa_core::{Blob, Decoded, Facts, Window};
use serde::{Deserialize, Serialize};

use crate::{Picture, jpeg, levels, tiff};

/// Longest side that is decoded: anything larger is more likely an attack than an image.
pub(crate) const MAX_SIDE: u32 = 32_768;
/// Limit, in bytes, of a file.
const MAX_FILE: u64 = 1 << 30;
/// Limit, in bytes, of decoded pixels, and of a decoder's own allocations: 178 megapixels of RGB. A file of a few
/// bytes can claim any size.
pub(crate) const MAX_BYTES: u64 = 1 << 29;
/// The same for GIF and WebP, whose decoders take up to six times the memory of the pixels.
const MAX_ANIMATION: u64 = 96 << 20;

/// What is seen through transparent pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Background {
    /// White behind what is dark, black behind what is light.
    #[default]
    Auto,
    /// Black.
    Black,
    /// White.
    White,
}

/// Which pages of a stack (a TIFF of several pictures) are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pages {
    /// The first.
    #[default]
    First,
    /// One of them: another one each time in training, the middle one in evaluation.
    Any,
    /// All of them, as channels of one picture.
    Channels,
}

/// How values become pixels where a file leaves it open.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DecodeOptions {
    /// What is seen through transparent pixels.
    pub background: Background,
    /// Which pages of a stack are read.
    pub pages: Pages,
    /// The values of black and white in files of more than 8 bits; `None` for what each file holds.
    pub range: Option<[f64; 2]>,
    /// The longest side in pixels; a larger picture is scaled down. 0 for no limit.
    pub max_side: usize,
}

/// Decodes an image with the default options: see [`decode_with`].
///
/// # Errors
/// As [`decode_with`].
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
/// assert_eq!(picture.pixels()[..], [9; 8]);
///
/// let bytes = std::fs::read(&path)?;
/// assert_eq!(decode(&Blob::bytes("a cell of a table", bytes))?, picture);
/// assert!(decode(&Blob::bytes("a.png", &b"text"[..])).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn decode(blob: &Blob<'_>) -> Result<Picture, String> {
    Ok(decode_with(blob, DecodeOptions::default(), Window::Centre)?.item)
}

/// Decodes an image. The format is detected from the content, not from the name, and the EXIF orientation is
/// applied. Pixels of more than 8 bits keep 16. Of an animation only the first picture is decoded,
/// of a stack what [`DecodeOptions::pages`] says; `window` chooses one of [`Pages::Any`]. What a user should know
/// of it is in [`Decoded::facts`].
///
/// Integers of more than 8 bits are scaled by the bits that a file uses (a camera's 12 bits in 16), floats by 1
/// or 255 where they lie in 0 to 1 or 0 to 255, everything else by its smallest and largest value, unless
/// [`DecodeOptions::range`] says.
///
/// A JPEG of at least twice [`DecodeOptions::max_side`] is decoded at half, a quarter or an eighth of its size, by
/// smaller inverse transforms of its blocks, and scaled down from there.
///
/// # Errors
/// A one-line reason why this is not a usable image. Sides beyond 32,768 pixels and more than 1 GiB of
/// file, or 512 MiB of pixels, are refused before memory is allocated for them.
pub fn decode_with(
    blob: &Blob<'_>,
    options: DecodeOptions,
    window: Window<'_>,
) -> Result<Decoded<Picture>, String> {
    let length = blob.len().map_err(|e| e.to_string())?;
    // Checked before opening: to open a pipe is to wait for a writer.
    if blob.path().is_some_and(|path| !path.is_file()) {
        return Err("not a regular file".into());
    }
    if length > MAX_FILE {
        return Err("the file is larger than 1 GiB".into());
    }
    let mut file = BufReader::new(blob.open().map_err(|e| e.to_string())?);
    let raw = read(&mut file, options, window)?;
    let size = raw.upright_size();
    let (mut pictures, mut remarks) = (Vec::new(), raw.remarks);
    for mut image in raw.images {
        if let Some(orientation) = raw.orientation {
            image.apply_orientation(orientation);
        }
        let (picture, remark) = flatten(image, options.background).ok_or("the picture is empty")?;
        pictures.push(picture);
        let remark = remark.map(|remark| format!("{remark} (image.background sets one for all)"));
        remarks.extend(remark.filter(|remark| !remarks.contains(remark)));
    }
    let picture = match pictures.len() {
        1 => pictures.pop(),
        _ => Picture::stacked(pictures),
    };
    let picture = picture.ok_or("its pages differ in size, so that they cannot be channels")?;
    let [width, height] = size.unwrap_or([picture.width(), picture.height()]);
    let picture = picture.at_most(options.max_side);
    let facts = Facts::new()
        .number("width", width as f64)
        .number("height", height as f64)
        .number("channels", picture.channels() as f64)
        .number("bits", raw.bits.into())
        .remarks_of(remarks);
    let mut decoded = picture.decoded();
    decoded.is_whole = raw.is_whole;
    Ok(decoded.with_facts(facts))
}

/// A decoded file before alpha is gone.
pub(crate) struct Raw {
    /// One picture, or several that are channels of one.
    pub(crate) images: Vec<DynamicImage>,
    /// Width and height in the file, where the pictures are smaller.
    pub(crate) size: Option<[usize; 2]>,
    /// Bits of a value in the file.
    pub(crate) bits: u32,
    pub(crate) orientation: Option<Orientation>,
    pub(crate) remarks: Vec<String>,
    /// Whether every window gives this.
    pub(crate) is_whole: bool,
}

impl Raw {
    pub(crate) fn of(images: Vec<DynamicImage>, bits: u32) -> Self {
        Self { images, size: None, bits, orientation: None, remarks: Vec::new(), is_whole: true }
    }

    /// Width and height as the orientation has them, where they are not those of the pictures.
    fn upright_size(&self) -> Option<[usize; 2]> {
        let [width, height] = self.size?;
        let is_turned = matches!(
            self.orientation,
            Some(
                Orientation::Rotate90
                    | Orientation::Rotate270
                    | Orientation::Rotate90FlipH
                    | Orientation::Rotate270FlipH
            )
        );
        Some(if is_turned { [height, width] } else { [width, height] })
    }
}

fn read(
    file: &mut (impl BufRead + Seek),
    options: DecodeOptions,
    window: Window<'_>,
) -> Result<Raw, String> {
    let words = |e: std::io::Error| e.to_string();
    let start = file.fill_buf().map_err(words)?;
    let is_tiff = tiff::is_tiff(start);
    let format = image::guess_format(start).ok();
    if is_tiff {
        if let Some(raw) = tiff::decode(&mut *file, options, window)? {
            return Ok(raw);
        }
        file.seek(SeekFrom::Start(0)).map_err(words)?;
    }
    match format {
        Some(ImageFormat::Jpeg) => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(words)?;
            if let Some(raw) = jpeg::decode(&bytes, options.max_side)? {
                return Ok(raw);
            }
            by_format(Cursor::new(bytes), ImageFormat::Jpeg, options)
        }
        Some(format) => by_format(file, format, options),
        None => Err("not a picture of a known format".into()),
    }
}

fn by_format(
    file: impl BufRead + Seek,
    format: ImageFormat,
    options: DecodeOptions,
) -> Result<Raw, String> {
    let mut reader = ImageReader::with_format(file, format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    let most = match format {
        ImageFormat::Gif | ImageFormat::WebP => MAX_ANIMATION,
        _ => MAX_BYTES,
    };
    limits.max_alloc = Some(most);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(plain)?;
    // The limits cover the decoder's own allocations, not the pixels that it returns.
    if decoder.total_bytes() > most {
        return Err(TOO_LARGE.into());
    }
    let orientation = decoder.orientation().ok();
    let mut image = DynamicImage::from_decoder(decoder).map_err(plain)?;
    let mut remarks = Vec::new();
    let color = image.color();
    let bits = 8 * u32::from(color.bytes_per_pixel()) / u32::from(color.channel_count()).max(1);
    let alpha = color.has_alpha();
    match &mut image {
        DynamicImage::ImageLuma16(i) => {
            remarks.extend(levels::stretch(i, 1, alpha, options.range));
        }
        DynamicImage::ImageLumaA16(i) => {
            remarks.extend(levels::stretch(i, 2, alpha, options.range));
        }
        DynamicImage::ImageRgb16(i) => {
            remarks.extend(levels::stretch(i, 3, alpha, options.range));
        }
        DynamicImage::ImageRgba16(i) => {
            remarks.extend(levels::stretch(i, 4, alpha, options.range));
        }
        _ => {}
    }
    Ok(Raw { orientation, remarks, ..Raw::of(vec![image], bits) })
}

/// Whether a file that begins like this is a picture of a format that can be read.
pub(crate) fn is_known(start: &[u8]) -> bool {
    tiff::is_tiff(start) || image::guess_format(start).is_ok_and(|format| format.reading_enabled())
}

pub(crate) const TOO_LARGE: &str = "the picture is too large: at most 32768 pixels a side and 512 MiB of pixels (96 of GIF and WebP) can be read";

/// A decoder's message in one line.
fn plain(error: ImageError) -> String {
    match error {
        ImageError::Limits(_) => TOO_LARGE.into(),
        ImageError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            "the file is cut short".into()
        }
        error => one_line(&error),
    }
}

pub(crate) fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The picture without alpha, and what was put behind it.
fn flatten(image: DynamicImage, background: Background) -> Option<(Picture, Option<String>)> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let color = image.color();
    let channels = if color.has_color() { 3 } else { 1 };
    let is_deep = color.bytes_per_pixel() > color.channel_count();
    if !color.has_alpha() {
        let picture = match (is_deep, channels) {
            (false, 1) => Picture::new(width, height, 1, image.into_luma8().into_raw()),
            (false, _) => Picture::new(width, height, 3, image.into_rgb8().into_raw()),
            (true, 1) => Picture::deep(width, height, 1, image.into_luma16().into_raw()),
            (true, _) => Picture::deep(width, height, 3, image.into_rgb16().into_raw()),
        };
        return Some((picture?, None));
    }
    let flat = match image {
        DynamicImage::ImageLumaA8(i) => over(i.into_raw(), 1, background, u8::MAX.into()),
        DynamicImage::ImageRgba8(i) => over(i.into_raw(), 3, background, u8::MAX.into()),
        DynamicImage::ImageLumaA16(i) => {
            let (pixels, white, transparent) = over(i.into_raw(), 1, background, u16::MAX.into());
            return Some((
                Picture::deep(width, height, 1, pixels)?,
                transparent.then(|| put_on(white)),
            ));
        }
        image => {
            let pixels = image.into_rgba16().into_raw();
            let (pixels, white, transparent) = over(pixels, 3, background, u16::MAX.into());
            return Some((
                Picture::deep(width, height, 3, pixels)?,
                transparent.then(|| put_on(white)),
            ));
        }
    };
    let (pixels, white, transparent) = flat;
    let picture = Picture::new(width, height, channels, pixels)?;
    Some((picture, transparent.then(|| put_on(white))))
}

/// A picture on a background, which of the two it was, and what a user should know: for the frames of an
/// animation, of which the first one decides for all. `None` for an empty picture.
///
/// ```
/// use image::{Rgba, RgbaImage};
/// use lejepa_image::{Background, composite};
///
/// let ink = RgbaImage::from_fn(4, 1, |x, _| Rgba([0, 0, 0, 255 * u8::from(x == 0)]));
/// let (picture, behind, _) = composite(ink, Background::Auto).ok_or("empty")?;
/// assert_eq!((picture.pixels()[0], picture.pixels()[3], behind), (0, 255, Background::White));
/// # Ok::<(), &str>(())
/// ```
pub fn composite(
    image: image::RgbaImage,
    background: Background,
) -> Option<(Picture, Background, Option<String>)> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (pixels, white, transparent) = over(image.into_raw(), 3, background, u8::MAX.into());
    let picture = Picture::new(width, height, 3, pixels)?;
    let behind = if white { Background::White } else { Background::Black };
    Some((picture, behind, transparent.then(|| put_on(white))))
}

fn put_on(white: bool) -> String {
    let colour = if white { "white" } else { "black" };
    format!("transparent, put on {colour}")
}

/// Pixels whose last channel was alpha on a background, in place; whether that is white, and whether any of it is
/// seen. `full` is the largest value.
fn over<T: Copy + Into<u32> + TryFrom<u32> + Default>(
    mut pixels: Vec<T>,
    channels: usize,
    background: Background,
    full: u32,
) -> (Vec<T>, bool, bool) {
    let (mut visible, mut weight, mut transparent) = (0.0, 0.0, false);
    for pixel in pixels.chunks_exact(channels + 1) {
        let alpha: u32 = pixel[channels].into();
        transparent |= alpha < full;
        weight += f64::from(alpha);
        visible += f64::from(alpha) * luma(&pixel[..channels]);
    }
    let is_dark = weight > 0.0 && visible / weight < 0.5 * f64::from(full);
    let white = match background {
        Background::Auto => is_dark,
        Background::White => true,
        Background::Black => false,
    };
    let behind = if white { full } else { 0 };
    let mut to = 0;
    for from in (0..pixels.len() / (channels + 1)).map(|i| i * (channels + 1)) {
        let alpha: u32 = pixels[from + channels].into();
        for channel in 0..channels {
            let value: u32 = pixels[from + channel].into();
            // Below 2^32: alpha and its complement add up to `full`, which is at most 2^16 - 1.
            let mixed = (value * alpha + behind * (full - alpha) + full / 2) / full;
            pixels[to] = T::try_from(mixed).unwrap_or_default();
            to += 1;
        }
    }
    pixels.truncate(to);
    (pixels, white, transparent)
}

fn luma<T: Copy + Into<u32>>(pixel: &[T]) -> f64 {
    let value = |v: &T| f64::from((*v).into());
    match pixel {
        [_, _, _] => {
            pixel.iter().zip(crate::crop::LUMA).map(|(v, w)| value(v) * f64::from(w)).sum()
        }
        _ => pixel.first().map_or(0.0, value),
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
