//! Weights in the names and layouts in which others publish them.

use std::collections::BTreeMap;

use toml::Table;

use crate::{Error, Result};

/// An array of 32-bit numbers, row-major.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Array {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Arrays by name.
pub type Arrays = BTreeMap<String, Array>;

impl Array {
    /// An array; `None` where shape and number of values do not agree.
    ///
    /// ```
    /// use lejepa_core::Array;
    ///
    /// let array = Array::new([2, 3], (0..6).map(|i| i as f32).collect()).ok_or("shape")?;
    /// let transposed = array.transposed().ok_or("not a matrix")?;
    /// assert_eq!((transposed.shape(), transposed.values()[1]), (&[3, 2][..], 3.0));
    /// assert_eq!(transposed.reshaped([6]).ok_or("shape")?.shape(), [6]);
    /// assert!(Array::new([2, 2], vec![0.0]).is_none());
    /// # Ok::<(), &str>(())
    /// ```
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Option<Self> {
        let shape = shape.into();
        let count = shape.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis))?;
        (count == values.len()).then_some(Self { shape, values })
    }

    /// Lengths along the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The same values in another shape; `None` where their number does not agree.
    pub fn reshaped(self, shape: impl Into<Vec<usize>>) -> Option<Self> {
        Self::new(shape, self.values)
    }

    /// The transpose of a matrix; `None` for anything else.
    pub fn transposed(&self) -> Option<Self> {
        let [rows, columns] = self.shape[..] else { return None };
        let column = |c| self.values.iter().skip(c).step_by(columns.max(1)).copied();
        Self::new([columns, rows], (0..columns).flat_map(column).collect())
    }

    /// Each value, changed.
    #[must_use]
    pub fn map(mut self, f: impl Fn(f32) -> f32) -> Self {
        self.values.iter_mut().for_each(|v| *v = f(*v));
        self
    }
}

/// An encoder in the terms of a library that publishes such encoders.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedModel {
    /// The architecture by that library's name.
    pub architecture: String,
    /// What its constructor takes beside the name.
    pub arguments: Table,
    /// The weights by that library's names.
    pub arrays: Arrays,
}

/// Foreign weights as an encoder's own.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedWeights {
    /// All arrays of the encoder, by its own names.
    pub arrays: Arrays,
    /// What was changed to fit, what was not used, and what is not from the file.
    pub notes: Vec<String>,
}

/// What is taken from a view and what the rest is divided by, for each channel; the last value holds for all
/// further channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    /// The means.
    pub mean: Vec<f64>,
    /// The standard deviations.
    pub std: Vec<f64>,
}

impl Normalization {
    /// Of views that are taken as they are.
    pub fn none() -> Self {
        Self { mean: vec![0.0], std: vec![1.0] }
    }
}

/// How an encoder is published for other programs: by which names its weights go, and as which graph.
/// [`Encoder::published`](crate::Encoder::published) returns it.
pub trait Published {
    /// The encoder's `own` weights in the published form.
    ///
    /// # Errors
    /// [`Error::BadValue`] for settings that no published architecture has.
    fn export(&self, own: &Arrays) -> Result<PublishedModel>;

    /// Published weights as the encoder's own, of whose names and shapes `own` are.
    ///
    /// # Errors
    /// [`Error::BadValue`] where they are those of another encoder.
    fn import(&self, foreign: Arrays, own: &Arrays) -> Result<ImportedWeights>;

    /// Multiply-adds of embedding one view of this shape, in matrix products and convolutions, as publications
    /// count them; `None` where it is not known.
    fn multiply_adds(&self, view: &[usize]) -> Option<u64> {
        let _ = view;
        None
    }

    /// The encoder of one view shape as a file of ONNX. Its input `view` is `[batch, shape…]` before
    /// `normalization`, its output `embedding` is `[batch, width]`; the batch is free.
    ///
    /// # Errors
    /// [`Error::BadValue`] for an encoder or a shape that has no graph.
    fn onnx(&self, own: &Arrays, view: &[usize], normalization: &Normalization) -> Result<Vec<u8>> {
        let _ = (own, view, normalization);
        Err(Error::bad_value("encoder.name", "this encoder has no ONNX graph"))
    }
}
