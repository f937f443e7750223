//! LeJEPA (arXiv 2511.08544) for any modality, in one dependency.
//!
//! | module | crate | what it holds |
//! |---|---|---|
//! | [`core`] | `lejepa-core` | traits, registry, views |
//! | [`objective`] | `lejepa-objective` | prediction loss and SIGReg |
//! | [`nn`] | `lejepa-nn` | backbones and the projector |
//! | [`train`] | `lejepa-train` | the trainer, the run folder, probes |
//!
//! Features: `image`, `audio`, `video` link the official modalities, `ffmpeg` reads video files,
//! `wgpu` and `cuda` add GPUs.
//!
//! SIGReg alone, on any embeddings:
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use lejepa::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::flex();
//! device.seed(0);
//! let embeddings = Tensor::<3>::random([1, 256, 16], Distribution::Normal(0.0, 1.0), &device);
//! let objective = ObjectiveConfig::default().init()?;
//! let axes = directions(Slicing::Gaussian, 16, 512, Seed(0), 0, &device);
//! let sigreg: f32 = objective.sigreg(embeddings, axes)?.into_scalar();
//! // About 1.05 for Gaussian embeddings, whatever their number; one batch scatters around it.
//! assert!((0.6..1.7).contains(&sigreg));
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

pub use lejepa_core as core;
pub use lejepa_nn as nn;
pub use lejepa_objective as objective;
pub use lejepa_train as train;

#[cfg(feature = "audio")]
pub use lejepa_audio as audio;
#[cfg(feature = "film")]
pub use lejepa_film as film;
#[cfg(feature = "image")]
pub use lejepa_image as image;
#[cfg(feature = "video")]
pub use lejepa_video as video;
#[cfg(feature = "world")]
pub use lejepa_world as world;

/// What most programs import.
pub mod prelude {
    pub use lejepa_core::{
        BoxedEncoder, BoxedStatistic, BuildContext, Component, Dataset, Decoded, Encoder,
        EncoderKind, Modality, NoConfig, Registry, Seed, Source, Statistic, StatisticKind, View,
        ViewRng, ViewSampler, ViewSource, ViewSpec, Views, ViewsKind, Window, kind, register,
    };
    pub use lejepa_nn::{Projector, ProjectorConfig};
    pub use lejepa_objective::{
        Centre, Losses, Mix, Objective, ObjectiveConfig, Reduction, Slicing, directions,
        prediction_loss,
    };
    pub use lejepa_train::{
        Callback, Embedder, Event, Learner, Model, Observer, Request, Resolved, RunDir, Silent,
        Start, Trainer,
    };
}
