//! The operations on slices.
//!
//! Work is divided by shape alone, and sums run in a fixed order: results have the same bits for any number
//! of threads.

pub(crate) mod attention;
pub(crate) mod batch_norm;
pub(crate) mod conv;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod transformer_block;
pub(crate) mod winograd;
