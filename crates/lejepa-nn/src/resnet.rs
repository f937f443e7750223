//! ResNet-18 (He et al., arXiv 1512.03385), with a stem for small views.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Initializer, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use lejepa_core::{BoxedEncoder, EncoderKind, Error, Result, ViewSpec, register_encoder};
use serde::{Deserialize, Serialize};

use crate::grid::{boxed, encoder_of_any_grid};

/// Settings of a [`ResNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResNetConfig {
    /// Channels of the first stage; the embedding is 8 times as wide. At least 1; 64 is ResNet-18.
    pub width: usize,
    /// Stem: `"small"` (3×3, stride 1), `"large"` (7×7, stride 2, max pool), or `"auto"`: large
    /// where the longer side of a global view has more than 96 cells.
    pub stem: Stem,
}

/// First layers of a [`ResNet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// By the size of the global views.
    #[default]
    Auto,
    /// 3×3, stride 1, no pooling.
    Small,
    /// 7×7, stride 2, then max pooling, as for ImageNet.
    Large,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self { width: 64, stem: Stem::Auto }
    }
}

/// ResNet-18 without its classifier. One-dimensional views are rows; the frames of a
/// three-dimensional view are embedded one by one and averaged.
#[derive(Module, Debug)]
pub struct ResNet {
    stem: Conv2d,
    stem_norm: BatchNorm,
    pool: Option<MaxPool2d>,
    blocks: Vec<Residual>,
    #[module(skip)]
    width: usize,
}

#[derive(Module, Debug)]
struct Residual {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
    shortcut: Option<Conv2d>,
    shortcut_norm: Option<BatchNorm>,
}

fn conv(input: usize, output: usize, kernel: usize, stride: usize, device: &Device) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new([input, output], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .with_initializer(Initializer::KaimingNormal { gain: 2f64.sqrt(), fan_out_only: true })
        .init(device)
}

impl ResNetConfig {
    /// Builds the network for `channels` channels and global views whose longer side is `side`.
    pub fn init(&self, channels: usize, side: usize, device: &Device) -> ResNet {
        let large = match self.stem {
            Stem::Auto => side > 96,
            Stem::Small => false,
            Stem::Large => true,
        };
        let (kernel, stride) = if large { (7, 2) } else { (3, 1) };
        let mut blocks = Vec::new();
        let mut input = self.width;
        for stage in 0..4 {
            let output = self.width << stage;
            for i in 0..2 {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let changes = stride != 1 || input != output;
                blocks.push(Residual {
                    conv1: conv(input, output, 3, stride, device),
                    norm1: BatchNormConfig::new(output).init(device),
                    conv2: conv(output, output, 3, 1, device),
                    norm2: BatchNormConfig::new(output).init(device),
                    shortcut: changes.then(|| conv(input, output, 1, stride, device)),
                    shortcut_norm: changes.then(|| BatchNormConfig::new(output).init(device)),
                });
                input = output;
            }
        }
        ResNet {
            stem: conv(channels, self.width, kernel, stride, device),
            stem_norm: BatchNormConfig::new(self.width).init(device),
            pool: large.then(|| {
                MaxPool2dConfig::new([3, 3])
                    .with_strides([2, 2])
                    .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                    .init()
            }),
            blocks,
            width: self.width * 8,
        }
    }
}

impl ResNet {
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// `[B, C, T, H, W] -> [B, 8·width]`
    pub(crate) fn forward(&self, views: Tensor<5>) -> Tensor<2> {
        let [b, c, t, h, w] = views.dims();
        let frames = if t == 1 {
            views.reshape([b, c, h, w])
        } else {
            views.swap_dims(1, 2).reshape([b * t, c, h, w])
        };
        let mut x = relu(self.stem_norm.forward(self.stem.forward(frames)));
        if let Some(pool) = &self.pool {
            x = pool.forward(x);
        }
        for block in &self.blocks {
            x = block.forward(x);
        }
        let [rows, width, ..] = x.dims();
        let x = x.reshape([rows as isize, width as isize, -1]).mean_dim(2).reshape([b, t, width]);
        x.mean_dim(1).reshape([b, width])
    }
}

impl Residual {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.norm1.forward(self.conv1.forward(x.clone())));
        let y = self.norm2.forward(self.conv2.forward(y));
        let x = match (&self.shortcut, &self.shortcut_norm) {
            (Some(conv), Some(norm)) => norm.forward(conv.forward(x)),
            _ => x,
        };
        relu(x + y)
    }
}

encoder_of_any_grid!(ResNet);

/// Registers [`ResNet`] as `resnet18`.
pub struct ResNetKind;

impl EncoderKind for ResNetKind {
    const NAME: &'static str = "resnet18";
    const ABOUT: &'static str = "ResNet-18; frames of a clip are averaged";
    type Config = ResNetConfig;

    fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("resnet.rs"), "ResNetConfig")
    }

    fn build(config: &ResNetConfig, views: &ViewSpec, device: &Device) -> Result<BoxedEncoder> {
        if config.width == 0 {
            return Err(Error::bad_value("encoder.width", "must be at least 1"));
        }
        let plane = &views.grid()[views.grid().len().saturating_sub(2)..];
        let side = plane.iter().copied().max().unwrap_or(1);
        boxed(config.init(views.channels(), side, device), views.grid().len())
    }
}

register_encoder!(ResNetKind);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_resnet18() {
        let net = ResNetConfig::default().init(3, 224, &Device::flex());
        // 11,176,512 weights without the classifier, and 2 · 4,800 running statistics.
        assert_eq!(net.num_params(), 11_176_512 + 9_600);
    }

    #[test]
    fn takes_rows_pictures_and_clips() {
        let device = Device::flex();
        let config = ResNetConfig { width: 2, ..Default::default() };
        for shape in [vec![2, 16], vec![1, 16, 12], vec![3, 4, 8, 8]] {
            let views =
                ViewSpec { globals: 2, locals: 0, global: shape.clone(), local: shape.clone() };
            let e = ResNetKind::build(&config, &views, &device).unwrap();
            let x = Tensor::ones([2, shape.iter().product::<usize>()], &device);
            assert_eq!(e.encode(x, &shape).unwrap().dims(), [2, 16]);
        }
    }
}
