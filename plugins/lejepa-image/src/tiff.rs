//! TIFF in the sample formats that instruments write: integers and floats of any size, palettes, BigTIFF.

use std::io::{Read, Seek};

use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer};
use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use crate::decode::{MAX_BYTES, MAX_SIDE, Raw, TOO_LARGE, one_line};
use crate::levels::{self, Range};

/// Whether a file starts like a TIFF or a BigTIFF.
pub(crate) fn is_tiff(start: &[u8]) -> bool {
    [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| start.starts_with(*magic))
}

/// Decodes the first page; `None` for what the general decoder does better: CMYK, YCbCr, bilevel.
pub(crate) fn decode(file: impl Read + Seek, range: Range) -> Result<Option<Raw>, String> {
    let say = |e: tiff::TiffError| match e {
        tiff::TiffError::LimitsExceeded => TOO_LARGE.to_string(),
        tiff::TiffError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file is cut short".into()
        }
        e => one_line(&e),
    };
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_BYTES as usize;
    limits.intermediate_buffer_size = MAX_BYTES as usize;
    let mut decoder = Decoder::new(file).map_err(say)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(say)?;
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(TOO_LARGE.into());
    }
    let (channels, colours, bits) = match decoder.colortype().map_err(say)? {
        ColorType::Gray(bits) => (1, 1, bits),
        ColorType::GrayA(bits) => (2, 1, bits),
        ColorType::RGB(bits) => (3, 3, bits),
        ColorType::RGBA(bits) => (4, 3, bits),
        ColorType::Palette(bits) => (1, 3, bits),
        ColorType::Multiband { num_samples, .. } => {
            return Err(format!("has {num_samples} channels; pictures of 1 or 3 can be read"));
        }
        _ => return Ok(None),
    };
    if bits < 8 {
        return Ok(None);
    }
    let mut remarks = Vec::new();
    if decoder.more_images() {
        remarks.push("a stack of several pictures, of which the first is used".to_string());
    }
    let orientation = decoder
        .find_tag_unsigned::<u8>(Tag::Orientation)
        .ok()
        .flatten()
        .and_then(Orientation::from_exif);
    let palette = match channels == 1 && colours == 3 {
        true => Some(decoder.get_tag_u16_vec(Tag::ColorMap).map_err(say)?),
        false => None,
    };
    let result = decoder.read_image().map_err(say)?;
    let image = if let Some(palette) = palette {
        let indices: Vec<usize> = match result {
            DecodingResult::U8(v) => v.into_iter().map(usize::from).collect(),
            DecodingResult::U16(v) => v.into_iter().map(usize::from).collect(),
            _ => return Ok(None),
        };
        let size = palette.len() / 3;
        let colour = |channel: usize, index: usize| palette.get(channel * size + index).copied();
        let values = indices.into_iter().flat_map(|i| [0, 1, 2].map(|c| colour(c, i)));
        let values: Option<Vec<u16>> = values.collect();
        let values = values.ok_or("its palette is too short")?;
        // The colours of a palette are those of 8 bits, times 257.
        let bytes = values.iter().map(|v| (v >> 8) as u8).collect();
        ImageBuffer::from_raw(width, height, bytes).map(DynamicImage::ImageRgb8)
    } else {
        match result {
            DecodingResult::U8(bytes) => of_bytes(width, height, channels, bytes),
            DecodingResult::U16(mut words) => {
                remarks.extend(levels::stretch(&mut words, channels, colours < channels, range));
                of_words(width, height, channels, words)
            }
            other => {
                let numbers = numbers(other);
                let (words, remark) = levels::of_numbers(&numbers, channels, colours, range)?;
                remarks.extend(remark);
                of_words(width, height, channels, words)
            }
        }
    };
    let image = image.ok_or(WRONG_SIZE)?;
    Ok(Some(Raw { image, bits: bits.into(), orientation, remarks }))
}

const WRONG_SIZE: &str = "its pixels are fewer than its size says";

fn of_bytes(width: u32, height: u32, channels: usize, bytes: Vec<u8>) -> Option<DynamicImage> {
    match channels {
        1 => ImageBuffer::from_raw(width, height, bytes).map(DynamicImage::ImageLuma8),
        2 => ImageBuffer::from_raw(width, height, bytes).map(DynamicImage::ImageLumaA8),
        3 => ImageBuffer::from_raw(width, height, bytes).map(DynamicImage::ImageRgb8),
        _ => ImageBuffer::from_raw(width, height, bytes).map(DynamicImage::ImageRgba8),
    }
}

fn of_words(width: u32, height: u32, channels: usize, words: Vec<u16>) -> Option<DynamicImage> {
    match channels {
        1 => ImageBuffer::from_raw(width, height, words).map(DynamicImage::ImageLuma16),
        2 => ImageBuffer::from_raw(width, height, words).map(DynamicImage::ImageLumaA16),
        3 => ImageBuffer::from_raw(width, height, words).map(DynamicImage::ImageRgb16),
        _ => ImageBuffer::from_raw(width, height, words).map(DynamicImage::ImageRgba16),
    }
}

fn numbers(result: DecodingResult) -> Vec<f64> {
    fn all<T>(values: Vec<T>, number: impl Fn(T) -> f64) -> Vec<f64> {
        values.into_iter().map(number).collect()
    }
    match result {
        DecodingResult::U8(v) => all(v, f64::from),
        DecodingResult::U16(v) => all(v, f64::from),
        DecodingResult::U32(v) => all(v, f64::from),
        DecodingResult::U64(v) => all(v, |x| x as f64),
        DecodingResult::F16(v) => all(v, |x| x.to_f64()),
        DecodingResult::F32(v) => all(v, f64::from),
        DecodingResult::F64(v) => v,
        DecodingResult::I8(v) => all(v, f64::from),
        DecodingResult::I16(v) => all(v, f64::from),
        DecodingResult::I32(v) => all(v, f64::from),
        DecodingResult::I64(v) => all(v, |x| x as f64),
    }
}
