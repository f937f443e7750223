//! A view: what a sampler makes of a sample and an encoder takes.

use std::borrow::Cow;
use std::sync::Arc;

use crate::{Error, Levels, Result, Values};

/// One view: a dense array, channel first, e.g. `[C, H, W]` or `[C, T, H, W]`.
///
/// Normalise values to roughly zero mean and unit variance over the data. Where they come from bytes, as
/// pixels do, [`View::from_bytes`] keeps them as bytes, a quarter of the size, until they reach the device.
///
/// ```
/// use lejepa_core::View;
///
/// // Two channels of three values each.
/// let view = View::new([2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0])?;
/// assert_eq!(view.shape(), [2, 3]);
/// assert_eq!(view.data()[3..], [3.0, 4.0, 5.0]);
/// assert!(view.is_finite());
///
/// assert!(View::new([2, 3], vec![0.0; 5]).is_err());
/// assert!(!View::new([1, 1], vec![f32::NAN])?.is_finite());
/// # Ok::<(), lejepa_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    shape: Vec<usize>,
    values: Values,
}

impl View {
    /// A view of `shape` with `data` in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shape's product is not the data's length.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        Self::of(shape.into(), Values::Numbers(data))
    }

    /// A view of `shape` with `bytes` in row-major order, and what they stand for.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shape's product is not the number of bytes, or `levels` are for
    /// another number of channels.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use lejepa_core::{Levels, View};
    ///
    /// // Two channels of two pixels each.
    /// let levels = Arc::new(Levels::normalizing(&[0.0, 1.0], &[1.0, 0.5]));
    /// let view = View::from_bytes([2, 2], vec![0, 255, 0, 255], levels)?;
    /// assert_eq!(view.data()[..], [0.0, 1.0, -2.0, 0.0]);
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn from_bytes(
        shape: impl Into<Vec<usize>>,
        bytes: Vec<u8>,
        levels: Arc<Levels>,
    ) -> Result<Self> {
        let shape = shape.into();
        let channels = shape.first().copied().unwrap_or(0);
        if levels.channels() != channels {
            return Err(Error::Shape {
                what: "view".into(),
                expected: format!("{} channels, as the levels have", levels.channels()),
                got: shape,
            });
        }
        Self::of(shape, Values::Bytes { bytes, levels })
    }

    fn of(shape: Vec<usize>, values: Values) -> Result<Self> {
        if shape.iter().product::<usize>() != values.len() || values.is_empty() {
            return Err(Error::Shape {
                what: "view".into(),
                expected: format!("a product of {}", values.len()),
                got: shape,
            });
        }
        Ok(Self { shape, values })
    }

    /// Channels first, then the grid.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Values in row-major order, as numbers.
    pub fn data(&self) -> Cow<'_, [f32]> {
        self.values.numbers(&self.shape)
    }

    /// Writes the values as numbers where they are wanted, e.g. into a batch, in one pass.
    ///
    /// # Errors
    /// [`Error::Shape`] where `into` has not as many places as the view has values.
    ///
    /// ```
    /// use lejepa_core::View;
    ///
    /// let mut batch = [0.0; 4];
    /// View::new([1, 2], vec![7.0, 8.0])?.write_to(&mut batch[2..])?;
    /// assert_eq!(batch, [0.0, 0.0, 7.0, 8.0]);
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn write_to(&self, into: &mut [f32]) -> Result<()> {
        if into.len() != self.values.len() {
            return Err(Error::Shape {
                what: "view".into(),
                expected: format!("a product of {}", into.len()),
                got: self.shape.clone(),
            });
        }
        self.values.write(&self.shape, into);
        Ok(())
    }

    /// Values as they are kept.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Whether every value is finite.
    pub fn is_finite(&self) -> bool {
        match &self.values {
            Values::Numbers(numbers) => numbers.iter().all(|x| x.is_finite()),
            Values::Bytes { levels, .. } => {
                levels.scale.iter().chain(&levels.shift).all(|x| x.is_finite())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_must_match_data() {
        assert!(View::new([1, 2], vec![0.0; 2]).is_ok());
        assert!(View::new([1, 3], vec![0.0; 2]).is_err());
        assert!(View::new([0], vec![]).is_err());
    }
}
