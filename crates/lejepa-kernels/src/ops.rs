//! The operations on burn's tensors.
//!
//! Where [`supports`](extension::supports) is true, they are fused; elsewhere they are composed of burn's own
//! operations, by the functions of [`reference`].

mod attention;
mod batch_norm;
mod channel_norm;
mod conv;
pub(crate) mod extension;
mod layer_norm;
mod linear;
pub mod reference;
mod transformer_block;

#[cfg(test)]
mod tests;

pub use attention::attention;
pub use batch_norm::{batch_norm, channel_statistics};
pub use channel_norm::{Activation, ChannelNorm};
pub use conv::{conv2d, conv2d_with_statistics, norm_conv2d};
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use transformer_block::{transformer_block, transformer_block_drop_path};
