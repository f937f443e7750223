//! Backbones that any modality can use, and the projector.
//!
//! | name | encoder | views |
//! |---|---|---|
//! | `vit` | [`Vit`]: vision transformer over any patch grid, of a published size or any other | 1-D, 2-D, 3-D |
//! | `convnet` | [`ConvNet`]: small convolutional network; keeps the frequency of spectrograms, sees motion in clips | 1-D, 2-D, 3-D |
//! | `resnet` | [`ResNet`]: residual network of 18 to 152 layers; frames of a clip are averaged | 1-D, 2-D, 3-D |
//! | `convnext` | [`ConvNext`]: ConvNeXt V1 and V2, atto to huge; frames of a clip are averaged | 1-D, 2-D, 3-D |
//! | `frames` | [`Frames`]: any of these, or another crate's, for frames, and a transformer over them | 3-D |
//! | `filterbank` | [`Filterbank`]: learned filters of a signal, and any encoder of spectrograms | 1-D |
//! | `mlp` | [`Mlp`]: perceptron on a pooled grid | 1-D, 2-D, 3-D |
//!
//! [`Predictor`] and [`Rollout`] are prediction terms, [`Projector`] stands between an encoder and the loss.
//!
//! All are registered for every modality; a binary needs only `use lejepa_nn as _;`.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use lejepa_core::Encoder;
//! use lejepa_nn::{Vit, VitConfig};
//!
//! let device = Device::flex();
//! let config = VitConfig { width: 48, depth: 2, heads: 3, ..VitConfig::default() };
//! let vit: Vit = config.init(1, &[8, 8], &[4, 4], &device)?;
//! // Global and local views of different sizes go through the same weights.
//! assert_eq!(vit.encode(Tensor::<4>::zeros([2, 1, 32, 32], &device)).dims(), [2, 48]);
//! assert_eq!(vit.encode(Tensor::<4>::zeros([2, 1, 16, 16], &device)).dims(), [2, 48]);
//! # Ok::<(), lejepa_core::Error>(())
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod conv;
mod convnet;
mod convnext;
mod filterbank;
mod filters;
mod frames;
mod grid;
mod inner;
mod mlp;
mod onnx;
mod padded;
mod patch;
mod position;
mod predictor;
mod projector;
mod published_convnet;
mod published_convnext;
mod published_resnet;
mod published_vit;
mod resample;
mod resnet;
mod rollout;
mod vit;
mod vit_block;
mod vit_config;
mod vit_names;
mod vit_stem;

pub use convnet::{ConvNet, ConvNetConfig, ConvNetKind, Head};
pub use convnext::{ConvNext, ConvNextConfig, ConvNextKind, ConvNextSize};
pub use filterbank::{Filterbank, FilterbankConfig, FilterbankKind};
pub use frames::{Frames, FramesConfig, FramesKind};
pub use mlp::{Mlp, MlpConfig, MlpKind};
pub use onnx::with_front_end;
pub use predictor::{Predictor, PredictorConfig};
pub use projector::{Projector, ProjectorConfig};
pub use resnet::{ResNet, ResNetConfig, ResNetKind};
pub use rollout::{Rollout, RolloutConfig};
pub use vit::{Vit, VitKind};
pub use vit_config::{FeedForward, Pool, PositionKind, StemKind, VitConfig, VitSize};

use lejepa_core::{kind, register};

register!(kind::Encoder: VitKind, kind::Encoder: ConvNetKind,
    kind::Encoder: ConvNextKind, kind::Encoder: ResNetKind, kind::Encoder: MlpKind,
    kind::Encoder: FramesKind, kind::Encoder: FilterbankKind,
    kind::Prediction: Predictor, kind::Prediction: Rollout);
