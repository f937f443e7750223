//! The values of views: numbers, or bytes with what they stand for.

use std::borrow::Cow;
use std::ops::Range;
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

    /// The numbers of rows of bytes, each of `shape`, whose channels come first.
    pub fn of(&self, bytes: &[u8], shape: &[usize]) -> Vec<f32> {
        let cells = shape.iter().skip(1).product::<usize>().max(1);
        let mut numbers = Vec::with_capacity(bytes.len());
        for (plane, bytes) in bytes.chunks(cells).enumerate() {
            let channel = plane % self.channels().max(1);
            let (scale, shift) = (self.scale[channel], self.shift[channel]);
            numbers.extend(bytes.iter().map(|b| f32::from(*b) * scale + shift));
        }
        numbers
    }
}

/// Values of one view or of many, one after the other.
///
/// ```
/// use std::sync::Arc;
/// use lejepa_core::{Levels, Values, View};
///
/// let levels = Arc::new(Levels::normalizing(&[0.0], &[1.0]));
/// let black = View::from_bytes([1, 2], vec![0, 0], levels.clone())?;
/// let white = View::from_bytes([1, 2], vec![255, 255], levels)?;
/// let mut all = Values::default();
/// all.push(&black);
/// all.push(&white);
/// assert!(matches!(all, Values::Bytes { .. }) && all.len() == 4);
/// assert_eq!(all.numbers(&[1, 2])[..], [0.0, 0.0, 1.0, 1.0]);
/// // Beside numbers, bytes become numbers.
/// all.push(&View::new([1, 2], vec![7.0, 8.0])?);
/// assert_eq!(all, Values::from(vec![0.0, 0.0, 1.0, 1.0, 7.0, 8.0]));
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

impl Default for Values {
    fn default() -> Self {
        Self::Numbers(Vec::new())
    }
}

impl From<Vec<f32>> for Values {
    fn from(numbers: Vec<f32>) -> Self {
        Self::Numbers(numbers)
    }
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

    /// All as numbers; `shape` is that of one view.
    pub fn numbers(&self, shape: &[usize]) -> Cow<'_, [f32]> {
        match self {
            Self::Numbers(numbers) => Cow::Borrowed(numbers),
            Self::Bytes { bytes, levels } => Cow::Owned(levels.of(bytes, shape)),
        }
    }

    /// Appends a view. Bytes stay bytes as long as all of them stand for the same.
    pub fn push(&mut self, view: &crate::View) {
        self.extend(view.values(), view.shape());
    }

    /// Appends the values of views of `shape`, as [`Values::push`] does.
    pub fn extend(&mut self, more: &Self, shape: &[usize]) {
        match (&mut *self, more) {
            (Self::Bytes { bytes, levels }, Self::Bytes { bytes: more, levels: same })
                if levels == same =>
            {
                bytes.extend_from_slice(more);
            }
            (mine, more) if mine.is_empty() => *mine = more.clone(),
            (Self::Numbers(numbers), more) => numbers.extend_from_slice(&more.numbers(shape)),
            (mine, more) => {
                let mut numbers = mine.numbers(shape).into_owned();
                numbers.extend_from_slice(&more.numbers(shape));
                *mine = Self::Numbers(numbers);
            }
        }
    }

    /// The values of a range, which should be of whole views.
    ///
    /// # Panics
    /// If the range ends beyond the last value.
    pub fn part(&self, range: Range<usize>) -> Self {
        match self {
            Self::Numbers(numbers) => Self::Numbers(numbers[range].to_vec()),
            Self::Bytes { bytes, levels } => {
                Self::Bytes { bytes: bytes[range].to_vec(), levels: levels.clone() }
            }
        }
    }
}
