//! The values of views: numbers, or bytes with what they stand for.

use std::borrow::Cow;
use std::sync::Arc;

/// What bytes stand for: byte·scale + shift, with one scale and one shift for each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Levels {
    /// What one step of a byte is worth, for each channel.
    pub scale: Vec<f32>,
    /// What a byte of 0 stands for, for each channel.
    pub shift: Vec<f32>,
}

impl Levels {
    /// Bytes 0..=255 stand for 0..=1, from which `mean` is taken and which is divided by `std`, for each
    /// channel.
    ///
    /// ```
    /// use lejepa_core::Levels;
    ///
    /// let levels = Levels::normalizing(&[0.5], &[0.25]);
    /// assert_eq!(levels.of(&[0, 255], &[1, 2]), [-2.0, 2.0]);
    /// ```
    pub fn normalizing(mean: &[f64], std: &[f64]) -> Self {
        let pairs = || mean.iter().zip(std);
        Self {
            scale: pairs().map(|(_, s)| (1.0 / (255.0 * s)) as f32).collect(),
            shift: pairs().map(|(m, s)| (-m / s) as f32).collect(),
        }
    }

    /// The byte nearest to a number of 0..=1, which stands for it under [`Levels::normalizing`].
    ///
    /// ```
    /// use lejepa_core::Levels;
    ///
    /// assert_eq!([-0.2, 0.0, 0.5, 1.0, 7.0].map(Levels::byte), [0, 0, 128, 255, 255]);
    /// ```
    pub fn byte(unit: f32) -> u8 {
        // The cast holds what is beyond at the ends.
        (unit * 255.0 + 0.5) as u8
    }

    /// How many channels these are for.
    pub fn channels(&self) -> usize {
        self.scale.len().min(self.shift.len())
    }

    /// The numbers that bytes of `shape`, whose channels come first, stand for.
    pub fn of(&self, bytes: &[u8], shape: &[usize]) -> Vec<f32> {
        let mut numbers = vec![0.0; bytes.len()];
        self.write(bytes, shape, &mut numbers);
        numbers
    }

    fn write(&self, bytes: &[u8], shape: &[usize], into: &mut [f32]) {
        let cells = shape.iter().skip(1).product::<usize>().max(1);
        let planes = bytes.chunks(cells).zip(into.chunks_mut(cells));
        for (channel, (bytes, into)) in planes.enumerate() {
            let (scale, shift) = (self.scale[channel], self.shift[channel]);
            into.iter_mut().zip(bytes).for_each(|(x, b)| *x = f32::from(*b) * scale + shift);
        }
    }
}

/// The values of a view.
///
/// ```
/// use std::sync::Arc;
/// use lejepa_core::{Levels, Values, View};
///
/// let levels = Arc::new(Levels::normalizing(&[0.5], &[0.5]));
/// let view = View::from_bytes([1, 2], vec![0, 255], levels)?;
/// assert!(matches!(view.values(), Values::Bytes { .. }));
/// assert_eq!((view.values().len(), view.values().bytes()), (2, 2));
/// assert_eq!(view.values().numbers(&[1, 2])[..], [-1.0, 1.0]);
/// assert_eq!(View::new([1, 2], vec![7.0, 8.0])?.values().bytes(), 8);
/// # Ok::<(), lejepa_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Numbers.
    Numbers(Vec<f32>),
    /// Bytes, and what they stand for.
    Bytes {
        /// One for each value.
        bytes: Vec<u8>,
        /// What they stand for.
        levels: Arc<Levels>,
    },
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Bytes { bytes, .. } => bytes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory that they take.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Numbers(numbers) => size_of_val(numbers.as_slice()),
            Self::Bytes { bytes, .. } => bytes.len(),
        }
    }

    /// As numbers; `shape` is that of the view.
    pub fn numbers(&self, shape: &[usize]) -> Cow<'_, [f32]> {
        match self {
            Self::Numbers(numbers) => Cow::Borrowed(numbers),
            Self::Bytes { bytes, levels } => Cow::Owned(levels.of(bytes, shape)),
        }
    }

    /// Writes them as numbers.
    pub(crate) fn write(&self, shape: &[usize], into: &mut [f32]) {
        match self {
            Self::Numbers(numbers) => into.copy_from_slice(numbers),
            Self::Bytes { bytes, levels } => levels.write(bytes, shape, into),
        }
    }
}
