//! JPEG, with files refused that are cut short or damaged: a decoder fills what is missing with grey or noise.

use std::io::{BufRead, Cursor, ErrorKind, Read, Result, Seek, SeekFrom};

use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer};
use jpeg_decoder::PixelFormat;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::decode::{MAX_BYTES, MAX_SIDE, Raw, TOO_LARGE, one_line};
use crate::{Picture, scan};

/// The most pixels that a byte can stand for: eight blocks of 8 × 8.
const PIXELS_PER_BYTE: u64 = 8 * 64;

/// Decodes grey and colour JPEGs strictly; `None` for other colour spaces. Of those that are at least twice as
/// long as `max_side` (0 for no limit) only the low frequencies that it takes are transformed.
pub(crate) fn decode(bytes: &[u8], max_side: usize) -> std::result::Result<Option<Raw>, String> {
    if !is_whole(&mut Cursor::new(bytes)).map_err(|e| e.to_string())? {
        return Err("the JPEG is cut short: it has no end marker".into());
    }
    if scan::is_suspect(bytes) && !scan::is_consistent(bytes) {
        return Err("the JPEG is damaged: a part of it is lost".into());
    }
    let options = || DecoderOptions::default().set_max_width(usize::MAX).set_max_height(usize::MAX);
    let open = |options| -> std::result::Result<_, String> {
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(|e| damaged(&e))?;
        Ok(decoder)
    };
    // Cameras leave bytes between segments, which strict headers refuse and pixels do not depend on.
    let strict = options().set_strict_mode(true);
    let (mut decoder, options) = match open(strict) {
        Ok(decoder) => (decoder, strict),
        Err(_) => {
            let lenient = options().set_strict_mode(false);
            (open(lenient)?, lenient)
        }
    };
    let (width, height) = decoder.dimensions().ok_or("has no size")?;
    let pixels = width as u64 * height as u64;
    if width.max(height) > MAX_SIDE as usize || 3 * pixels > MAX_BYTES {
        return Err(TOO_LARGE.into());
    }
    // Every block of 8 × 8 pixels takes a bit at least: a few damaged bytes must not claim gigabytes.
    if pixels > PIXELS_PER_BYTE * bytes.len() as u64 {
        return Err(damaged(&"it has fewer bytes than its size needs"));
    }
    let space = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => ColorSpace::Luma,
        Some(ColorSpace::YCbCr | ColorSpace::RGB) => ColorSpace::RGB,
        _ => return Ok(None),
    };
    let exif = decoder.exif().map(|exif| exif.to_vec());
    let orientation = exif.and_then(|exif| Orientation::from_exif_chunk(&exif));
    let scaled = reduction(width.max(height), max_side).and_then(|by| {
        let low = low(bytes, space, by)?.reduced([width, height], by.into(), max_side);
        let size = [low.width(), low.height()].map(|n| n as u32);
        Some((size[0], size[1], low.pixels().into_owned()))
    });
    let size = scaled.is_some().then_some([width, height]);
    let (width, height, pixels) = match scaled {
        Some(scaled) => scaled,
        None => {
            decoder.set_options(options.jpeg_set_out_colorspace(space));
            let pixels = decoder.decode().map_err(|e| damaged(&e))?;
            (width as u32, height as u32, pixels)
        }
    };
    let image = match space {
        ColorSpace::Luma => {
            ImageBuffer::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8)
        }
        _ => ImageBuffer::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8),
    };
    let image = image.ok_or("its pixels are fewer than its size says")?;
    Ok(Some(Raw { size, orientation, ..Raw::of(vec![image], 8) }))
}

/// The largest of 8, 4 and 2 that a side can be divided by and still be as long as asked.
fn reduction(longer: usize, max_side: usize) -> Option<u16> {
    [8, 4, 2].into_iter().find(|by| max_side > 0 && longer / usize::from(*by) >= max_side)
}

/// Decodes at a fraction of the size, by a smaller inverse DCT of each block. `None` for what this decoder does not
/// take: the other one then says what is wrong, if anything is.
fn low(bytes: &[u8], space: ColorSpace, by: u16) -> Option<Picture> {
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    decoder.read_info().ok()?;
    let info = decoder.info()?;
    let expected = match space {
        ColorSpace::Luma => PixelFormat::L8,
        _ => PixelFormat::RGB24,
    };
    if info.pixel_format != expected {
        return None;
    }
    let (width, height) = decoder.scale(info.width.div_ceil(by), info.height.div_ceil(by)).ok()?;
    let channels = if expected == PixelFormat::L8 { 1 } else { 3 };
    Picture::new(width.into(), height.into(), channels, decoder.decode().ok()?)
}

fn damaged(error: &dyn std::fmt::Display) -> String {
    format!("the JPEG is damaged: {}", one_line(error))
}

/// Whether the image at the start of `file` reaches its end-of-image marker.
///
/// Searching for the marker is not enough: an embedded thumbnail has one too, and phones append whole
/// videos after it.
pub(crate) fn is_whole(file: &mut (impl BufRead + Seek)) -> Result<bool> {
    // Most files simply end with it. Entropy-coded data cannot end so by chance: in them a zero or a
    // restart marker follows 0xff.
    let mut end = [0; 2];
    file.seek(SeekFrom::End(-2))?;
    file.read_exact(&mut end)?;
    if end == [0xff, 0xd9] {
        return Ok(true);
    }
    file.seek(SeekFrom::Start(0))?;
    match walk(file) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        found => found,
    }
}

/// Walks from marker to marker, skipping the contents of segments, to the end of the image.
fn walk(file: &mut (impl BufRead + Seek)) -> Result<bool> {
    loop {
        file.skip_until(0xff)?;
        let mut marker = 0xff;
        while marker == 0xff {
            marker = byte(file)?;
        }
        match marker {
            0xd9 => return Ok(true),
            // An escaped 0xff, and markers without contents.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let length = u16::from_be_bytes([byte(file)?, byte(file)?]);
                file.seek_relative(i64::from(length.saturating_sub(2)))?;
            }
        }
    }
}

fn byte(file: &mut impl Read) -> Result<u8> {
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn whole(bytes: &[u8]) -> bool {
        is_whole(&mut Cursor::new(bytes)).unwrap()
    }

    #[test]
    fn a_size_that_the_bytes_cannot_fill_is_refused() {
        let mut file = Cursor::new(Vec::new());
        let picture = image::RgbImage::from_pixel(640, 640, image::Rgb([9, 90, 200]));
        picture.write_to(&mut file, image::ImageFormat::Jpeg).unwrap();
        let mut bytes = file.into_inner();
        // A flat picture takes the fewest bytes.
        assert!(decode(&bytes, 0).unwrap().is_some());
        let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        for (side, says) in
            [(10_000u16, "fewer bytes"), (30_000, "too large"), (60_000, "too large")]
        {
            bytes[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
            bytes[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
            let reason = decode(&bytes, 0).err().unwrap_or_default();
            assert!(reason.contains(says), "{side}: {reason}");
        }
    }

    #[test]
    fn only_the_end_marker_of_the_image_itself_counts() {
        let thumbnail = [0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9];
        let scan = [0xff, 0xda, 0, 3, 1, 9, 0xff, 0, 8, 0xff, 0xd3, 7];
        let end = [0xff, 0xff, 0xd9];
        let picture = [&[0xff, 0xd8][..], &thumbnail, &scan, &end].concat();
        assert!(whole(&picture));
        assert!(whole(&[&picture[..], b"a video"].concat()));
        for keep in 2..picture.len() {
            // Cut right after the thumbnail there is no scan, which the decoder refuses.
            assert_eq!(whole(&picture[..keep]), keep == 10, "cut to {keep}");
        }
    }
}
