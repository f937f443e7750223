//! Fused CPU operations for burn-flex, each with its own backward pass.
//!
//! burn composes a transformer block of some fifty tensor operations, each of which reads and writes
//! all of its data. Here the block is one operation that takes a chunk of samples through all of its
//! layers while the chunk is in the cache, and comes back the same way. Vector instructions (up to
//! AVX-512) are chosen at run time, so that one binary is fast everywhere. Weights are packed once for a
//! way, and what they are multiplied with is read where it lies; the small products within attention
//! are those of the crate `gemm`. With [`Precision::Bf16`] both use what the processor has for it (AMX,
//! AVX512-BF16).
//!
//! Results have the same bits for any number of threads: work is divided by shape alone, and sums are
//! made in a fixed order.
//!
//! | module | what |
//! |---|---|
//! | `ops` | the operations on tensors: [`transformer_block`], [`linear`], [`layer_norm`] |
//! | `pictures` | those on pictures: [`conv2d`], [`batch_norm`], [`norm_conv2d`] |
//! | `extension` | how they become burn's, with autodiff; [`supports`] |
//! | `block`, `attention`, `dense`, `conv`, `batch` | the same on slices |
//! | `adamw` | an optimizer's step in one pass: [`adamw()`] |
//! | `halves` | numbers kept in half the memory |
//! | `groups` | sums in a fixed order |
//! | `lanes` | elementwise and row-wise passes in vectors |
//! | `matrix`, `bf16` | matrix products |
//! | `rows`, `joins`, `unit`, `weight` | the same with factors taken from where they lie |
//! | `strassen` | matrix products in fewer multiplications |
//! | `winograd` | 3 × 3 convolution in fewer multiplications |
//! | `profile` | how long each operation takes: [`profile()`] |
//! | `memory` | buffers that are used again |
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//!
//! let device = Device::flex().autodiff();
//! let x = Tensor::<2>::random([4, 8], Distribution::Default, &device);
//! let (gamma, beta) = (Tensor::ones([8], &device).require_grad(), Tensor::zeros([8], &device));
//! let y = lejepa_kernels::layer_norm(x, gamma.clone(), beta, 1e-5);
//! let gradients = y.powf_scalar(2.0).sum().backward();
//! assert!(gamma.grad(&gradients).is_some());
//! ```

mod adamw;
mod attention;
mod batch;
mod bf16;
mod block;
mod conv;
mod dense;
mod extension;
mod groups;
mod halves;
mod joins;
mod lanes;
mod matrix;
mod memory;
mod ops;
mod pictures;
mod precision;
mod profile;
mod rows;
mod strassen;
mod unit;
mod weight;
mod winograd;

pub use adamw::{AdamWStep, adamw};
pub use block::{BlockShape, Sequences};
pub use extension::supports;
pub use lanes::{NARROWER, SIMD_VARIABLE, arch};
pub use matrix::{Matrix, product};
pub use memory::Buffer;
pub use ops::{layer_norm, linear, thinned_transformer_block, transformer_block};
pub use pictures::{
    Activation, ChannelNorm, batch_norm, channel_statistics, conv2d, conv2d_with_statistics,
    norm_conv2d,
};
pub use precision::Precision;
pub use profile::{OperationTime, profile};
