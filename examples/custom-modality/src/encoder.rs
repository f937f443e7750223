//! An encoder for this modality. The general ones work too: try `--encoder vit`.

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig1d, Relu};
use burn::tensor::Tensor;
use lejepa_core::config::{self, check};
use lejepa_core::{BoxedEncoder, BuildContext, Component, Encoder, EncoderKind, Result};
use serde::{Deserialize, Serialize};

/// Its keys in the section `[encoder]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConvConfig {
    /// Channels of the first layer, 1 to 4096; the embedding is four times as wide.
    pub width: usize,
    /// Kernel size, 1 to 99.
    pub kernel: usize,
}

impl Default for ConvConfig {
    fn default() -> Self {
        Self { width: 24, kernel: 7 }
    }
}

/// Three strided convolutions and global average pooling, so that views of any length fit.
#[derive(Module, Debug)]
pub struct Conv {
    layers: Vec<Conv1d>,
    norms: Vec<BatchNorm>,
    #[module(skip)]
    dim: usize,
}

impl Encoder<3> for Conv {
    /// `[batch, channels, steps] -> [batch, dim]`
    fn encode(&self, views: Tensor<3>) -> Tensor<2> {
        let mut x = views;
        for (layer, norm) in self.layers.iter().zip(&self.norms) {
            x = Relu::new().forward(norm.forward(layer.forward(x)));
        }
        x.mean_dim(2).squeeze_dim::<2>(2)
    }

    fn dim(&self) -> usize {
        self.dim
    }
}

impl Component for Conv {
    const NAME: &'static str = "accelerometer-conv";
    const ABOUT: &'static str = "three strided convolutions";
    type Config = ConvConfig;

    fn docs() -> config::Docs {
        config::field_docs(include_str!("encoder.rs"), "ConvConfig")
    }
}

impl EncoderKind for Conv {
    const MODALITY: Option<&'static str> = Some("accelerometer");

    fn build(config: &ConvConfig, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
        check::within("encoder.width", config.width, 1..=4096)?;
        check::within("encoder.kernel", config.kernel, 1..=99)?;
        let (width, pad) = (config.width, config.kernel / 2);
        let widths = [at.views.channels(), width, 2 * width, 4 * width];
        let layer = |pair: &[usize]| {
            Conv1dConfig::new(pair[0], pair[1], config.kernel)
                .with_stride(2)
                .with_padding(PaddingConfig1d::Explicit(pad, pad))
                // The norm that follows has a bias.
                .with_bias(false)
                .init(at.device)
        };
        let norms = widths[1..].iter().map(|&w| BatchNormConfig::new(w).init(at.device)).collect();
        let layers = widths.windows(2).map(layer).collect();
        Ok(BoxedEncoder::new::<3>(Conv { layers, norms, dim: 4 * width }))
    }
}
