//! Decoded images.

use std::borrow::Cow;

use fast_image_resize as fir;
use lejepa_core::Decoded;

/// A decoded image: interleaved pixels with 1 (grey) or 3 (RGB) channels, of 8 or 16 bits.
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

    fn of(width: usize, height: usize, channels: usize, pixels: Pixels) -> Option<Self> {
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
        match self.resized((width, height), &fir::ResizeOptions::new()) {
            Ok(pixels) => Self { width, height, channels: self.channels, pixels },
            Err(_) => self,
        }
    }

    /// The pixels of this picture, or of the area that the options name, at another size.
    pub(crate) fn resized(
        &self,
        (width, height): (usize, usize),
        options: &fir::ResizeOptions,
    ) -> Result<Pixels, String> {
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
        let mut target = fir::images::Image::new(width as u32, height as u32, kind);
        fir::Resizer::new().resize(&source, &mut target, options).map_err(|e| e.to_string())?;
        Ok(match &self.pixels {
            Pixels::Bytes(_) => Pixels::Bytes(target.into_vec()),
            Pixels::Words(_) => Pixels::Words(
                target.buffer().chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect(),
            ),
        })
    }
}
