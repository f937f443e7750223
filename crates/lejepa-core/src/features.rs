//! What goes into an encoder and what comes out of it.

use burn::tensor::{Int, Tensor};

/// A batch of views of one shape, and how long each of them is where lengths vary.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Input<const RANK: usize> {
    /// `[B, C, ...grid]`; cells beyond a view's length are 0.
    pub values: Tensor<RANK>,
    /// `[B, axes of the grid]`: the length of each view along each axis; `None` where all fill the grid.
    pub lengths: Option<Tensor<2, Int>>,
}

impl<const RANK: usize> Input<RANK> {
    /// Views that fill their grid.
    pub fn new(values: Tensor<RANK>) -> Self {
        Self { values, lengths: None }
    }

    /// Views of these lengths.
    #[must_use]
    pub fn with_lengths(mut self, lengths: Tensor<2, Int>) -> Self {
        self.lengths = Some(lengths);
        self
    }
}

/// [`Input`] of any rank: values `[B, prod(shape)]` with the shape that they have.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FlatInput<'a> {
    /// `[B, prod(shape)]`.
    pub values: Tensor<2>,
    /// Channels and grid.
    pub shape: &'a [usize],
    /// As [`Input::lengths`].
    pub lengths: Option<Tensor<2, Int>>,
}

impl<'a> FlatInput<'a> {
    /// Views that fill their grid.
    pub fn new(values: Tensor<2>, shape: &'a [usize]) -> Self {
        Self { values, shape, lengths: None }
    }

    /// Views of these lengths.
    #[must_use]
    pub fn with_lengths(mut self, lengths: Option<Tensor<2, Int>>) -> Self {
        self.lengths = lengths;
        self
    }
}

/// Which features to compute in addition to the pooled embedding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wants {
    /// A vector for each cell of the encoder's grid: for each patch, for each time step.
    pub dense: bool,
    /// Cells after these layers, counted from 0.
    pub layers: Vec<usize>,
}

impl Wants {
    /// The pooled embedding alone.
    pub fn pooled() -> Self {
        Self::default()
    }

    /// Dense features as well.
    pub fn dense() -> Self {
        Self { dense: true, ..Self::default() }
    }

    /// Cells after these layers as well.
    #[must_use]
    pub fn layers(mut self, layers: impl Into<Vec<usize>>) -> Self {
        self.layers = layers.into();
        self
    }

    /// Whether the pooled embedding is all.
    pub fn is_pooled(&self) -> bool {
        !self.dense && self.layers.is_empty()
    }
}

/// Features of a batch of views.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Features {
    /// `[B, dim]`: the embedding, as [`Encoder::encode`](crate::Encoder::encode) gives it.
    pub pooled: Tensor<2>,
    /// `[B, cells, width]`, cells in row-major order of [`Features::grid`], where wanted.
    pub dense: Option<Tensor<3>>,
    /// The grid of the cells.
    pub grid: Vec<usize>,
    /// As [`Features::dense`], for each wanted layer.
    pub layers: Vec<Tensor<3>>,
}

impl Features {
    /// The pooled embedding alone.
    pub fn pooled(pooled: Tensor<2>) -> Self {
        Self { pooled, dense: None, grid: Vec::new(), layers: Vec::new() }
    }

    /// Adds a vector for each cell of `grid`.
    #[must_use]
    pub fn with_dense(mut self, dense: Tensor<3>, grid: impl Into<Vec<usize>>) -> Self {
        self.dense = Some(dense);
        self.grid = grid.into();
        self
    }

    /// Adds the cells after some layers.
    #[must_use]
    pub fn with_layers(mut self, layers: Vec<Tensor<3>>) -> Self {
        self.layers = layers;
        self
    }
}
