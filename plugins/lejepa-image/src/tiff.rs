//! TIFF in the sample formats that instruments write: integers and floats of any size, palettes, any number of
//! channels, stacks of pages, BigTIFF.

use std::io::{Read, Seek};

use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer};
use lejepa_core::Window;
use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{PlanarConfiguration, Tag};

use crate::decode::{DecodeOptions, MAX_BYTES, MAX_SIDE, Pages, Raw, TOO_LARGE, one_line};
use crate::levels::{self, Range};
use crate::picture::MAX_CHANNELS;

/// Most pages of a stack.
const MAX_PAGES: usize = 100_000;

/// Whether a file starts like a TIFF or a BigTIFF.
pub(crate) fn is_tiff(start: &[u8]) -> bool {
    [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| start.starts_with(*magic))
}

fn say(error: tiff::TiffError) -> String {
    match error {
        tiff::TiffError::LimitsExceeded => TOO_LARGE.to_string(),
        tiff::TiffError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file is cut short".into()
        }
        e => one_line(&e),
    }
}

/// Decodes the pages that the options ask for; `None` for what the general decoder does better: CMYK, YCbCr,
/// bilevel.
pub(crate) fn decode(
    file: impl Read + Seek,
    options: DecodeOptions,
    mut window: Window<'_>,
) -> Result<Option<Raw>, String> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_BYTES as usize;
    limits.intermediate_buffer_size = MAX_BYTES as usize;
    let mut decoder = Decoder::new(file).map_err(say)?.with_limits(limits);
    if options.pages == Pages::First || !decoder.more_images() {
        let is_stack = decoder.more_images();
        let Some(mut raw) = page(&mut decoder, options.range)? else { return Ok(None) };
        if is_stack {
            raw.remarks.push(
                "a stack of several pictures, of which the first is used (image.pages)".into(),
            );
        }
        return Ok(Some(raw));
    }
    let pages = pages(&mut decoder)?;
    let mut read = |index: &usize| {
        decoder.seek_to_image(*index).map_err(say)?;
        page(&mut decoder, options.range)?.ok_or_else(|| {
            "pages of 1 bit, CMYK or YCbCr can only be read as the first".to_string()
        })
    };
    if options.pages == Pages::Any {
        let index = pages.get(window.start(pages.len(), 1)).unwrap_or(&0);
        let raw = read(index)?;
        return Ok(Some(Raw { is_whole: pages.len() < 2, ..raw }));
    }
    let (mut all, mut bytes) = (None::<Raw>, 0);
    for index in &pages {
        let next = read(index)?;
        bytes += next.images.iter().map(|i| i.as_bytes().len() as u64).sum::<u64>();
        if bytes > MAX_BYTES {
            return Err(TOO_LARGE.into());
        }
        match &mut all {
            Some(all) => {
                all.images.extend(next.images);
                all.bits = all.bits.max(next.bits);
                let unknown = next.remarks.into_iter().filter(|r| !all.remarks.contains(r));
                let unknown: Vec<_> = unknown.collect();
                all.remarks.extend(unknown);
            }
            None => all = Some(next),
        }
        if all.as_ref().is_some_and(|all| all.images.len() > MAX_CHANNELS) {
            return Err(format!(
                "has {} pages; at most {MAX_CHANNELS} can be channels",
                pages.len()
            ));
        }
    }
    Ok(all)
}

/// The pages of a stack that are not smaller versions of another one.
fn pages<R: Read + Seek>(decoder: &mut Decoder<R>) -> Result<Vec<usize>, String> {
    let mut pages = Vec::new();
    for index in 0..MAX_PAGES {
        let kind = decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType).ok().flatten();
        if index == 0 || kind.is_none_or(|kind| kind & 1 == 0) {
            pages.push(index);
        }
        if !decoder.more_images() {
            return Ok(pages);
        }
        decoder.next_image().map_err(say)?;
    }
    Err(format!("has more than {MAX_PAGES} pages"))
}

/// The page that the decoder stands at.
fn page<R: Read + Seek>(decoder: &mut Decoder<R>, range: Range) -> Result<Option<Raw>, String> {
    let (width, height) = decoder.dimensions().map_err(say)?;
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(TOO_LARGE.into());
    }
    let color = decoder.colortype().map_err(say)?;
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten();
    // 1 and 2 are alpha, associated or not.
    let is_alpha = extra.is_some_and(|e| matches!(e[..], [1 | 2]));
    let (channels, colours, bits) = match color {
        ColorType::Gray(bits) => (1, 1, bits),
        ColorType::GrayA(bits) => (2, 1, bits),
        ColorType::Multiband { bit_depth, num_samples: 2 } if is_alpha => (2, 1, bit_depth),
        ColorType::RGB(bits) => (3, 3, bits),
        ColorType::RGBA(bits) => (4, 3, bits),
        ColorType::Palette(bits) => (1, 3, bits),
        ColorType::Multiband { bit_depth, num_samples } => {
            (num_samples.into(), num_samples.into(), bit_depth)
        }
        _ => return Ok(None),
    };
    if bits < 8 {
        return Ok(None);
    }
    if channels > MAX_CHANNELS {
        return Err(format!("has {channels} channels; at most {MAX_CHANNELS} can be read"));
    }
    // What is neither 8 nor 16 bits is converted through 64.
    let value_bytes = if matches!(bits, 8 | 16) { 2 } else { 8 };
    let bytes = u64::from(width) * u64::from(height) * channels as u64 * value_bytes;
    if bytes > 2 * MAX_BYTES {
        return Err(TOO_LARGE.into());
    }
    let mut remarks = Vec::new();
    let samples =
        decoder.find_tag_unsigned::<u16>(Tag::SamplesPerPixel).ok().flatten().unwrap_or(1);
    if usize::from(samples) > channels {
        let further = usize::from(samples) - channels;
        remarks.push(format!("{further} channels beside RGB are not read"));
    }
    let orientation = decoder
        .find_tag_unsigned::<u8>(Tag::Orientation)
        .ok()
        .flatten()
        .and_then(Orientation::from_exif);
    let palette = match color {
        ColorType::Palette(_) => Some(decoder.get_tag_u16_vec(Tag::ColorMap).map_err(say)?),
        _ => None,
    };
    let layout = decoder.find_tag_unsigned::<u16>(Tag::PlanarConfiguration).ok().flatten();
    let is_planar = layout == Some(PlanarConfiguration::Planar.to_u16()) && channels > 1;
    let mut result = DecodingResult::U8(Vec::new());
    let needed = decoder.read_image_to_buffer(&mut result).map_err(say)?.complete_len;
    if result.as_buffer(0).as_bytes().len() < needed {
        return Err(TOO_LARGE.into());
    }
    let pixels = width as usize * height as usize;
    let order = |count: usize| (is_planar && count == pixels * channels).then_some(pixels);
    let images = if let Some(palette) = palette {
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
        ImageBuffer::from_raw(width, height, bytes).map(|i| vec![DynamicImage::ImageRgb8(i)])
    } else {
        match result {
            DecodingResult::U8(bytes) => {
                let bytes = chunky(bytes, order, channels);
                of_bytes(width, height, channels, colours, bytes)
            }
            DecodingResult::U16(words) => {
                let mut words = chunky(words, order, channels);
                remarks.extend(levels::stretch(&mut words, channels, colours < channels, range));
                of_words(width, height, channels, colours, words)
            }
            other => {
                let numbers = chunky(numbers(other), order, channels);
                let (words, remark) = levels::of_numbers(&numbers, channels, colours, range)?;
                remarks.extend(remark);
                of_words(width, height, channels, colours, words)
            }
        }
    };
    let images = images.ok_or("its pixels are fewer than its size says")?;
    Ok(Some(Raw { orientation, remarks, ..Raw::of(images, bits.into()) }))
}

/// Values pixel by pixel, where `planes` gives the length of the planes that they are stored in.
fn chunky<T: Copy>(
    values: Vec<T>,
    planes: impl Fn(usize) -> Option<usize>,
    channels: usize,
) -> Vec<T> {
    let Some(length) = planes(values.len()) else { return values };
    (0..length)
        .flat_map(|at| (0..channels).map(move |c| c * length + at))
        .map(|i| values[i])
        .collect()
}

type Images = Option<Vec<DynamicImage>>;

/// One picture, or one for each channel where they are not colours.
fn of_bytes(w: u32, h: u32, channels: usize, colours: usize, bytes: Vec<u8>) -> Images {
    use DynamicImage as I;
    let one = match (channels, colours) {
        (1, _) => ImageBuffer::from_raw(w, h, bytes).map(I::ImageLuma8),
        (2, 1) => ImageBuffer::from_raw(w, h, bytes).map(I::ImageLumaA8),
        (3, _) => ImageBuffer::from_raw(w, h, bytes).map(I::ImageRgb8),
        (4, 3) => ImageBuffer::from_raw(w, h, bytes).map(I::ImageRgba8),
        _ => return split(w, h, channels, &bytes, I::ImageLuma8),
    };
    one.map(|image| vec![image])
}

fn of_words(w: u32, h: u32, channels: usize, colours: usize, words: Vec<u16>) -> Images {
    use DynamicImage as I;
    let one = match (channels, colours) {
        (1, _) => ImageBuffer::from_raw(w, h, words).map(I::ImageLuma16),
        (2, 1) => ImageBuffer::from_raw(w, h, words).map(I::ImageLumaA16),
        (3, _) => ImageBuffer::from_raw(w, h, words).map(I::ImageRgb16),
        (4, 3) => ImageBuffer::from_raw(w, h, words).map(I::ImageRgba16),
        _ => return split(w, h, channels, &words, I::ImageLuma16),
    };
    one.map(|image| vec![image])
}

fn split<T: image::Primitive>(
    width: u32,
    height: u32,
    channels: usize,
    values: &[T],
    image: impl Fn(ImageBuffer<image::Luma<T>, Vec<T>>) -> DynamicImage,
) -> Images {
    let channel = |c| {
        let plane = values.iter().copied().skip(c).step_by(channels).collect();
        ImageBuffer::from_raw(width, height, plane).map(&image)
    };
    (0..channels).map(channel).collect()
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
