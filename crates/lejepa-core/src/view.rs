//! Views: what a sampler makes of a sample and an encoder takes.

use std::borrow::Cow;
use std::sync::Arc;

use crate::{Error, Levels, Result, Values};

/// One view: a dense array, channel first, e.g. `[C, H, W]` or `[C, T, H, W]`.
///
/// Values should be of order one (zero mean and unit variance over the data, roughly). Where they come
/// from bytes, as pixels do, [`View::from_bytes`] keeps them so: they travel in a quarter of the space,
/// and become numbers on the device.
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

/// The views of one sample: globals first, as the objective expects them.
#[derive(Debug, Clone, PartialEq)]
pub struct Views {
    /// Views that see most of the sample. All have the shape [`ViewSpec::global`].
    pub globals: Vec<View>,
    /// Views that see a part. All have the shape [`ViewSpec::local`].
    pub locals: Vec<View>,
}

/// How many views a sampler makes, and of which shapes. Fixed for a run.
///
/// ```
/// use lejepa_core::{View, ViewSpec, Views};
///
/// let spec = ViewSpec { globals: 2, locals: 1, global: vec![3, 64], local: vec![3, 16] };
/// spec.validate()?;
/// assert_eq!((spec.views(), spec.channels(), spec.grid()), (3, 3, &[64][..]));
///
/// let global = View::new([3, 64], vec![0.0; 192])?;
/// let local = View::new([3, 16], vec![0.0; 48])?;
/// let mut views = Views { globals: vec![global.clone(), global], locals: vec![local] };
/// spec.check(&views)?;
/// views.locals.clear();
/// assert!(spec.check(&views).is_err());
///
/// // With a single view there is nothing to predict.
/// assert!(ViewSpec { globals: 1, locals: 0, ..spec }.validate().is_err());
/// # Ok::<(), lejepa_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewSpec {
    /// Number of global views, at least 1 (2 in the paper).
    pub globals: usize,
    /// Number of local views (6 in the paper's experiments).
    pub locals: usize,
    /// Shape of a global view, channel first, without the batch.
    pub global: Vec<usize>,
    /// Shape of a local view. May equal the global one; must have the same rank and channels.
    pub local: Vec<usize>,
}

impl ViewSpec {
    /// Views of a sample: globals and locals.
    pub fn views(&self) -> usize {
        self.globals + self.locals
    }

    /// Channels of every view.
    pub fn channels(&self) -> usize {
        self.global.first().copied().unwrap_or(0)
    }

    /// The grid of a global view: its shape without the channels.
    pub fn grid(&self) -> &[usize] {
        self.global.get(1..).unwrap_or(&[])
    }

    /// Refuses a specification that no trainer can use.
    ///
    /// # Errors
    /// [`Error::Data`] that names the rule broken.
    pub fn validate(&self) -> Result<()> {
        let bad = |reason: &str| {
            Err(Error::Data {
                reason: format!("views {self:?}: {reason}"),
                hint: "change the sampler's `globals`, `locals` or sizes".into(),
            })
        };
        if self.globals == 0 {
            return bad("at least one global view is needed");
        }
        if self.views() < 2 {
            return bad("at least two views are needed: with one there is nothing to predict");
        }
        if self.global.len() < 2 || self.global.contains(&0) {
            return bad("a view has channels and at least one more axis, none of them empty");
        }
        if self.locals > 0
            && (self.local.len() != self.global.len()
                || self.local.first() != self.global.first()
                || self.local.contains(&0))
        {
            return bad("local views need the rank and the channels of global ones");
        }
        Ok(())
    }

    /// Checks that `views` are what this specification promises.
    ///
    /// # Errors
    /// [`Error::Shape`] for a wrong number or shape of views.
    pub fn check(&self, views: &Views) -> Result<()> {
        let groups = [
            ("global", &views.globals, self.globals, &self.global),
            ("local", &views.locals, self.locals, &self.local),
        ];
        for (what, got, count, shape) in groups {
            if got.len() != count {
                return Err(Error::Shape {
                    what: format!("{what} views"),
                    expected: format!("[{count}] views"),
                    got: vec![got.len()],
                });
            }
            if let Some(v) = got.iter().find(|v| v.shape() != shape) {
                return Err(Error::Shape {
                    what: format!("a {what} view"),
                    expected: format!("{shape:?}"),
                    got: v.shape().to_vec(),
                });
            }
        }
        Ok(())
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

    #[test]
    fn spec_rejects_what_cannot_be_trained() {
        let ok = ViewSpec { globals: 2, locals: 1, global: vec![1, 4], local: vec![1, 2] };
        assert!(ok.validate().is_ok());
        assert!(ViewSpec { globals: 0, ..ok.clone() }.validate().is_err());
        assert!(ViewSpec { globals: 1, locals: 0, ..ok.clone() }.validate().is_err());
        assert!(ViewSpec { local: vec![2, 2], ..ok.clone() }.validate().is_err());
        assert!(ViewSpec { global: vec![1], ..ok }.validate().is_err());
    }
}
