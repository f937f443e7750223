//! Parameters of batch norm.

use burn::tensor::Tensor;

/// The activation after a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The identity.
    None,
    /// max(x, 0).
    Relu,
}

/// Batch norm of channels with a residual r: f(γ·(x − mean)/√(variance + ε) + β + r) (Ioffe and Szegedy, arXiv
/// 1502.03167).
#[derive(Debug, Clone)]
pub struct ChannelNorm {
    /// γ, `[channels]`.
    pub gamma: Tensor<1>,
    /// β, `[channels]`.
    pub beta: Tensor<1>,
    /// Mean and variance, `[2, channels]`.
    pub statistics: Tensor<2>,
    /// Whether the statistics are the [`channel_statistics`](crate::channel_statistics) of the input, through
    /// which gradients then flow, rather than constants.
    pub batch_statistics: bool,
    /// f.
    pub activation: Activation,
    /// ε.
    pub epsilon: f64,
}
