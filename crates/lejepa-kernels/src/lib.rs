//! Fused CPU operations for burn-flex, each with its own backward pass.
//!
//! burn composes a transformer block of some fifty tensor operations, each of which reads and writes all of its
//! data. Here the block is one operation that runs all layers on one cache-sized chunk of samples at a time; the
//! backward pass does the same in reverse. Vector instructions up to AVX-512 are chosen at run time, so one
//! binary is fast on every processor. Weights are packed once for each pass; activations are not packed. With
//! [`Precision::Bf16`], products run on AMX or AVX512-BF16.
//!
//! Results have the same bits for any number of threads: work is divided by shape alone, and sums run in a
//! fixed order. NaN and ±∞ propagate as in burn's own operations, except that 3 × 3 convolution by Winograd's
//! algorithm and products by Strassen's spread them to neighbouring outputs.
//!
//! On other devices and types, the functions call burn's own operations; [`supports`] says where they are fused.
//!
//! | module | contents |
//! |---|---|
//! | `ops` | the operations on tensors: [`transformer_block`], [`attention`], [`linear`], [`layer_norm`], [`conv2d`], [`batch_norm`], [`norm_conv2d`]; `ops::extension` binds them to burn, `ops::reference` composes them of burn's own |
//! | `layers` | the same on slices |
//! | `gemm` | matrix products: [`product()`] |
//! | `elementwise`, `normalize` | elementwise and row-wise passes |
//! | `simd` | choice of the instruction set: [`arch`] |
//! | `activations`, `bf16` | activations saved in bf16; rounding to it |
//! | `adamw` | an optimiser step in one pass: [`adamw()`] |
//! | `reduce` | deterministic parallel sums |
//! | `buffer`, `output` | pooled scratch memory: [`Buffer`]; output vectors |
//! | `sync_batch_norm` | batch norm over several workers: [`AllReduce`] |
//! | `precision`, `profile` | [`Precision`]; wall time of operations: [`profile()`] |
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

#![deny(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod activations;
mod adamw;
mod bf16;
mod buffer;
mod elementwise;
mod gemm;
mod layers;
mod normalize;
mod ops;
mod output;
mod precision;
mod profile;
mod reduce;
mod simd;
mod sync_batch_norm;

pub use self::gemm::matrix::Matrix;
pub use self::gemm::product;
pub use adamw::{AdamWStep, adamw};
pub use buffer::Buffer;
pub use layers::transformer_block::{BlockShape, Sequences};
pub use ops::extension::supports;
#[doc(hidden)]
pub use ops::reference;
pub use ops::{
    Activation, ChannelNorm, attention, batch_norm, channel_statistics, conv2d,
    conv2d_with_statistics, layer_norm, linear, norm_conv2d, transformer_block,
    transformer_block_drop_path,
};
pub use precision::Precision;
pub use profile::{OperationTime, profile};
pub use simd::{NARROWER, SIMD_VARIABLE, arch};
pub use sync_batch_norm::AllReduce;
