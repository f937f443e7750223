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
    #[error("embeddings of shape {shape:?} with {globals} global views: {reason}")]
    Shape {
        /// `[views, samples, dim]` as given.
        shape: [usize; 3],
        /// Number of global views as given.
        globals: usize,
        /// What is wrong.
        reason: &'static str,
    },
}
