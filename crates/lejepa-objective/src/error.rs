//! What the objective refuses.

/// An input or a setting that the objective cannot work with.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// A setting out of its range.
    #[error("objective.{key}: {reason}")]
    Setting {
        /// The key in the `[objective]` section.
        key: &'static str,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// Embeddings of a shape that makes no batch of views.
    #[error("embeddings of shape {shape:?}: {reason}")]
    Shape {
        /// `[views, samples, dim]` as given.
        shape: [usize; 3],
        /// What is wrong.
        reason: &'static str,
    },
    /// NaN or infinity in an input.
    #[error(
        "{tensor} hold {bad} of {total} values that are not finite, the first of them {value} at {place:?}"
    )]
    NotFinite {
        /// Which tensor.
        tensor: &'static str,
        /// How many of its values are not finite.
        bad: usize,
        /// Of how many.
        total: usize,
        /// Where the first one is.
        place: Vec<usize>,
        /// What it is.
        value: f64,
    },
}
