//! Decoded images.

use std::borrow::Cow;

use fast_image_resize as fir;
use lejepa_core::{Codec, Decoded};

use crate::crop::Area;

/// Most channels of a picture.
pub const MAX_CHANNELS: usize = 64;

/// A decoded image: interleaved pixels of 8 or 16 bits, with 1 channel (grey), 3 (RGB), or any number up to
/// [`MAX_CHANNELS`] of an instrument's own.
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
/// let deep = Picture::deep(1, 1, 1, vec![0x8000]).ok_or("the sizes do not agree")?;
/// assert_eq!((deep.pixels()[0], deep.bytes(), deep.is_deep()), (0x80, 2, true));
///
/// assert!(Picture::new(2, 2, 3, vec![0; 6]).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Pixels,
}

/// Row-major, interleaved pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pixels {
    /// 0 is black, 255 white.
    Bytes(Vec<u8>),
    /// 0 is black, 65,535 white.
    Words(Vec<u16>),
}

impl Pixels {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Words(words) => words.len(),
        }
    }
}

impl Picture {
    /// A picture of row-major, interleaved pixels; `None` where sizes do not agree or a side is 0.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Option<Self> {
        Self::of(width, height, channels, Pixels::Bytes(pixels))
    }

    /// As [`Picture::new`], of 16 bits a value.
    pub fn deep(width: usize, height: usize, channels: usize, pixels: Vec<u16>) -> Option<Self> {
        Self::of(width, height, channels, Pixels::Words(pixels))
    }

    /// Its sizes and depth, 4 bytes each, and its pixels.
    pub const CODEC: Codec<Self> = Codec { encode: Self::to_bytes, decode: Self::of_bytes };

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.bytes());
        for n in [self.width, self.height, self.channels, 8 << usize::from(self.is_deep())] {
            bytes.extend((n as u32).to_le_bytes());
        }
        match &self.pixels {
            Pixels::Bytes(values) => bytes.extend(values),
            Pixels::Words(values) => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        }
        bytes
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, values) = bytes.split_at_checked(16)?;
        let (sizes, _) = head.as_chunks::<4>();
        let [width, height, channels, bits] = <[[u8; 4]; 4]>::try_from(sizes).ok()?;
        let [width, height, channels] =
            [width, height, channels].map(|n| u32::from_le_bytes(n) as usize);
        match (u32::from_le_bytes(bits), values.as_chunks::<2>()) {
            (8, _) => Self::new(width, height, channels, values.to_vec()),
            (16, (words, [])) => {
                let words = words.iter().map(|b| u16::from_le_bytes(*b)).collect();
                Self::deep(width, height, channels, words)
            }
            _ => None,
        }
    }

    fn of(width: usize, height: usize, channels: usize, pixels: Pixels) -> Option<Self> {
        let fits = width > 0
            && height > 0
            && (1..=MAX_CHANNELS).contains(&channels)
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

    /// 1 (grey), 3 (RGB) or another number up to [`MAX_CHANNELS`].
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Whether values have 16 bits.
    pub fn is_deep(&self) -> bool {
        matches!(self.pixels, Pixels::Words(_))
    }

    /// Row-major, interleaved pixels of 8 bits; of deeper ones the high byte.
    pub fn pixels(&self) -> Cow<'_, [u8]> {
        match &self.pixels {
            Pixels::Bytes(bytes) => Cow::Borrowed(bytes),
            Pixels::Words(words) => words.iter().map(|v| (v >> 8) as u8).collect(),
        }
    }

    /// Memory taken by the pixels.
    pub fn bytes(&self) -> usize {
        match &self.pixels {
            Pixels::Bytes(bytes) => bytes.len(),
            Pixels::Words(words) => size_of_val(words.as_slice()),
        }
    }

    /// The channels of several pictures of one size, one after the other; `None` where their sizes differ.
    pub(crate) fn stacked(pictures: Vec<Self>) -> Option<Self> {
        let (width, height) = pictures.first().map(|p| (p.width, p.height))?;
        let same = |p: &Self| (p.width, p.height) == (width, height);
        if !pictures.iter().all(same) {
            return None;
        }
        let channels = pictures.iter().map(|p| p.channels).sum();
        let pixels = if pictures.iter().any(Self::is_deep) {
            let words = pictures.into_iter().map(|p| match p.pixels {
                Pixels::Bytes(bytes) => {
                    (p.channels, bytes.into_iter().map(|v| u16::from(v) * 257).collect())
                }
                Pixels::Words(words) => (p.channels, words),
            });
            Pixels::Words(interleave(words.collect()))
        } else {
            let bytes = pictures.into_iter().map(|p| match p.pixels {
                Pixels::Bytes(bytes) => (p.channels, bytes),
                Pixels::Words(_) => (p.channels, Vec::new()),
            });
            Pixels::Bytes(interleave(bytes.collect()))
        };
        Self::of(width, height, channels, pixels)
    }

    /// The part of one channel within a box of whole pixels, as a picture of its own.
    fn channel(&self, index: usize, [left, top, width, height]: [usize; 4]) -> Self {
        let (stride, channels) = (self.width * self.channels, self.channels);
        fn pick<T: Copy>(row: &[T], index: usize, channels: usize) -> impl Iterator<Item = T> {
            row.iter().copied().skip(index).step_by(channels)
        }
        let row = |y| y * stride + left * channels..y * stride + (left + width) * channels;
        let rows = top..top + height;
        let pixels = match &self.pixels {
            Pixels::Bytes(bytes) => {
                Pixels::Bytes(rows.flat_map(|y| pick(&bytes[row(y)], index, channels)).collect())
            }
            Pixels::Words(words) => {
                Pixels::Words(rows.flat_map(|y| pick(&words[row(y)], index, channels)).collect())
            }
        };
        Self { width, height, channels: 1, pixels }
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
        let size = [self.width, self.height];
        self.reduced(size, 1, side)
    }

    /// What [`Picture::at_most`] makes of a picture of `size`, which this is at a fraction 1/`by` of its size. It may
    /// be longer than that by a part of a pixel, at its right and lower edges.
    pub(crate) fn reduced(self, size: [usize; 2], by: usize, side: usize) -> Self {
        let longer = size[0].max(size[1]);
        if side == 0 || longer <= side {
            return self;
        }
        let [width, height] = size.map(|n| (n * side).div_ceil(longer).max(1));
        let [across, down] = size.map(|n| n as f64 / by as f64);
        let area = Area {
            left: 0.0,
            top: 0.0,
            width: across.min(self.width as f64),
            height: down.min(self.height as f64),
        };
        match self.resized((width, height), area, fir::FilterType::Lanczos3) {
            Ok(pixels) => Self { width, height, channels: self.channels, pixels },
            Err(_) => self,
        }
    }

    /// The pixels of an area of this picture at another size. The filter sees no pixel that lies outside the area, as
    /// if the area had been cut out before.
    pub(crate) fn resized(
        &self,
        (width, height): (usize, usize),
        area: Area,
        filter: fir::FilterType,
    ) -> Result<Pixels, String> {
        let within =
            area.pixels(self.width, self.height).ok_or("the area is not inside the picture")?;
        let [left, top, ..] = within;
        let area = Area { left: area.left - left as f64, top: area.top - top as f64, ..area };
        if !matches!(self.channels, 1 | 3) {
            let part = |index| -> Result<Self, String> {
                let channel = self.channel(index, within);
                let pixels = channel.resized((width, height), area, filter)?;
                Ok(Self { width, height, channels: 1, pixels })
            };
            let parts = (0..self.channels).map(part).collect::<Result<_, String>>()?;
            return Self::stacked(parts).map(|p| p.pixels).ok_or_else(|| "is empty".into());
        }
        let kind = match (&self.pixels, self.channels) {
            (Pixels::Bytes(_), 1) => fir::PixelType::U8,
            (Pixels::Bytes(_), _) => fir::PixelType::U8x3,
            (Pixels::Words(_), 1) => fir::PixelType::U16,
            (Pixels::Words(_), _) => fir::PixelType::U16x3,
        };
        let bytes = match &self.pixels {
            Pixels::Bytes(bytes) => bytes.as_slice(),
            Pixels::Words(words) => bytemuck::cast_slice(words),
        };
        let (w, h) = (self.width as u32, self.height as u32);
        let source = fir::images::ImageRef::new(w, h, bytes, kind).map_err(|e| e.to_string())?;
        let [left, top, w, h] = within.map(|n| n as u32);
        let source =
            fir::images::CroppedImage::new(&source, left, top, w, h).map_err(|e| e.to_string())?;
        let mut target = fir::images::Image::new(width as u32, height as u32, kind);
        let options = fir::ResizeOptions::new()
            .resize_alg(fir::ResizeAlg::Convolution(filter))
            .crop(area.left, area.top, area.width, area.height);
        fir::Resizer::new().resize(&source, &mut target, &options).map_err(|e| e.to_string())?;
        Ok(match &self.pixels {
            Pixels::Bytes(_) => Pixels::Bytes(target.into_vec()),
            Pixels::Words(_) => Pixels::Words(
                target.buffer().chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect(),
            ),
        })
    }
}

/// Values of several pictures, each of a number of channels, pixel by pixel.
fn interleave<T: Copy>(parts: Vec<(usize, Vec<T>)>) -> Vec<T> {
    let pixels = parts.first().map_or(0, |(channels, values)| values.len() / channels);
    let mut all = Vec::with_capacity(parts.iter().map(|(_, values)| values.len()).sum());
    for pixel in 0..pixels {
        for (channels, values) in &parts {
            all.extend_from_slice(&values[pixel * channels..][..*channels]);
        }
    }
    all
}
