//! An encoder of its own for this modality. The general ones (`lejepa encoders`) work too: try
//! `--encoder vit`.

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig1d, Relu};
use burn::tensor::{Device, Tensor};
use lejepa_core::{BoxedEncoder, Encoder, EncoderKind, Error, Result, ViewSpec, register_encoder};
use serde::{Deserialize, Serialize};

/// Its keys in the `[encoder]` section.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConvConfig {
    /// Channels of the first layer, at least 1; the embedding has four times as many.
    pub width: usize,
    /// Moments that a filter sees, at least 1.
    pub kernel: usize,
}

impl Default for ConvConfig {
    fn default() -> Self {
        Self { width: 24, kernel: 7 }
    }
}

/// Three convolutions over time, each halving the resolution, then the mean: views of any length
/// give embeddings of one size.
#[derive(Module, Debug)]
pub struct Conv {
    layers: Vec<Conv1d>,
    norms: Vec<BatchNorm>,
    #[module(skip)]
    dim: usize,
}

impl Encoder<3> for Conv {
    /// `[batch, channels, moments] -> [batch, dim]`
    fn encode(&self, views: Tensor<3>) -> Tensor<2> {
        let mut x = views;
        for (layer, norm) in self.layers.iter().zip(&self.norms) {
            x = Relu::new().forward(norm.forward(layer.forward(x)));
        }
        let [batch, dim, _] = x.dims();
        x.mean_dim(2).reshape([batch, dim])
    }

    fn dim(&self) -> usize {
        self.dim
    }
}

impl EncoderKind for Conv {
    const NAME: &'static str = "accelerometer-conv";
    const ABOUT: &'static str = "three convolutions over time";
    const MODALITY: Option<&'static str> = Some("accelerometer");
    type Config = ConvConfig;

    fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("encoder.rs"), "ConvConfig")
    }

    fn build(config: &ConvConfig, views: &ViewSpec, device: &Device) -> Result<BoxedEncoder> {
        if config.width == 0 || config.kernel == 0 {
            return Err(Error::bad_value("encoder", "width and kernel must be at least 1"));
        }
        let widths = [views.global[0], config.width, 2 * config.width, 4 * config.width];
        let layer = |pair: &[usize]| {
            Conv1dConfig::new(pair[0], pair[1], config.kernel)
                .with_stride(2)
                .with_padding(PaddingConfig1d::Explicit(config.kernel / 2, config.kernel / 2))
                // The norm that follows has its own.
                .with_bias(false)
                .init(device)
        };
        let norms = widths[1..].iter().map(|&w| BatchNormConfig::new(w).init(device)).collect();
        let conv = Conv { layers: widths.windows(2).map(layer).collect(), norms, dim: widths[3] };
        Ok(BoxedEncoder::new::<3>(conv))
    }
}

register_encoder!(Conv);
