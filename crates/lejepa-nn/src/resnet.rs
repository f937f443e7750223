//! ResNet-18 (He et al., arXiv 1512.03385), with a stem for small views.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use lejepa_core::{
    BoxedEncoder, BuildContext, Component, EncoderKind, Error, Features, Result, Wants,
};
use lejepa_kernels::{Activation, batch_norm, norm_conv2d};
use serde::{Deserialize, Serialize};

use crate::conv::{channel_norm, conv, convolve, stride_and_pad};
use crate::grid::{GridEncoder, boxed, encoder_of_any_grid};

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

impl ResNetConfig {
    /// Builds the network for `channels` channels and global views whose longer side is `side`.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use lejepa_core::Encoder;
    /// use lejepa_nn::ResNetConfig;
    ///
    /// let device = Device::flex();
    /// let net = ResNetConfig { width: 4, ..Default::default() }.init(3, 16, &device);
    /// assert_eq!(net.encode(Tensor::<4>::zeros([2, 3, 16, 16], &device)).dims(), [2, 32]);
    /// ```
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

impl GridEncoder for ResNet {
    fn width(&self) -> usize {
        self.width
    }

    /// `[B, C, T, H, W] -> [B, 8·width]` for views of each shape, one after the other: batch norm sees
    /// those of a shape as a batch.
    fn forward_all(&self, views: Vec<Tensor<5>>) -> Tensor<2> {
        Tensor::cat(views.into_iter().map(|views| self.forward(views)).collect(), 0)
    }

    /// Dense features are the maps after the last block.
    fn features(&self, views: Tensor<5>, wants: &Wants) -> Result<Features> {
        if !wants.layers.is_empty() {
            let reason = "resnet18 gives features after its last block alone";
            return Err(Error::bad_value("encoder.name", reason));
        }
        let (cells, grid) = self.cells(views);
        let pooled = cells.clone().mean_dim(1).squeeze_dim::<2>(1);
        Ok(Features::pooled(pooled).with_dense(cells, grid))
    }
}

impl ResNet {
    /// `[B, C, T, H, W] -> [B, T·h·w, 8·width]`, and T, h and w.
    fn cells(&self, views: Tensor<5>) -> (Tensor<3>, [usize; 3]) {
        let [b, c, t, h, w] = views.dims();
        let frames = if t == 1 {
            views.reshape([b, c, h, w])
        } else {
            views.swap_dims(1, 2).reshape([b * t, c, h, w])
        };
        let x = self.maps(frames.permute([0, 2, 3, 1]));
        let [_, h, w, width] = x.dims();
        (x.reshape([b, t * h * w, width]), [t, h, w])
    }

    /// `[B, C, T, H, W] -> [B, 8·width]`
    fn forward(&self, views: Tensor<5>) -> Tensor<2> {
        self.cells(views).0.mean_dim(1).squeeze_dim::<2>(1)
    }

    /// `[B, H, W, C] -> [B, h, w, 8·width]`, the feature maps after the last block.
    fn maps(&self, x: Tensor<4>) -> Tensor<4> {
        let (x, statistics) = convolve(&self.stem, x, &self.stem_norm);
        let norm = channel_norm(&self.stem_norm, statistics, Activation::Relu);
        let mut x = batch_norm(x, norm, None);
        if let Some(pool) = &self.pool {
            x = pool.forward(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1]);
        }
        for block in &self.blocks {
            x = block.forward(x);
        }
        x
    }
}

impl Residual {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (y, statistics) = convolve(&self.conv1, x.clone(), &self.norm1);
        let norm = channel_norm(&self.norm1, statistics, Activation::Relu);
        let [stride, pad] = stride_and_pad(&self.conv2);
        let (y, statistics) = norm_conv2d(y, norm, self.conv2.weight.val(), stride, pad);
        let x = match (&self.shortcut, &self.shortcut_norm) {
            (Some(conv), Some(norm)) => {
                let (x, statistics) = convolve(conv, x, norm);
                batch_norm(x, channel_norm(norm, statistics, Activation::None), None)
            }
            _ => x,
        };
        batch_norm(y, channel_norm(&self.norm2, statistics, Activation::Relu), Some(x))
    }
}

encoder_of_any_grid!(ResNet);

/// Registers [`ResNet`] as `resnet18`.
pub struct ResNetKind;

impl Component for ResNetKind {
    const NAME: &'static str = "resnet18";
    const ABOUT: &'static str = "ResNet-18; frames of a clip are averaged";
    type Config = ResNetConfig;

    fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("resnet.rs"), "ResNetConfig")
    }
}

impl EncoderKind for ResNetKind {
    fn build(config: &ResNetConfig, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
        let (views, device) = (at.views, at.device);
        if config.width == 0 {
            return Err(Error::bad_value("encoder.width", "must be at least 1"));
        }
        let grid = views.grid();
        let plane = &grid[grid.len().saturating_sub(2)..];
        let side = plane.iter().copied().max().unwrap_or(1);
        boxed(config.init(views.channels(), side, device), grid.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block composed of burn's own modules, on NCHW images.
    fn plain(block: &Residual, x: Tensor<4>) -> Tensor<4> {
        use burn::tensor::activation::relu;
        let y = relu(block.norm1.forward(block.conv1.forward(x.clone())));
        let y = block.norm2.forward(block.conv2.forward(y));
        let x = match (&block.shortcut, &block.shortcut_norm) {
            (Some(conv), Some(norm)) => norm.forward(conv.forward(x)),
            _ => x,
        };
        relu(x + y)
    }

    #[test]
    fn a_block_is_the_composition_of_its_layers() {
        use burn::tensor::{Distribution, Tolerance};
        use lejepa_kernels::Precision;
        let device = Device::flex().autodiff();
        for (stride, input, output) in [(1, 5, 5), (2, 5, 7), (1, 16, 32)] {
            let make = || {
                device.seed(3);
                let conv = |a, b, kernel, stride| conv(a, b, kernel, stride, &device);
                let norm = || BatchNormConfig::new(output).init(&device);
                let changes = stride != 1 || input != output;
                let block = Residual {
                    conv1: conv(input, output, 3, stride),
                    norm1: norm(),
                    conv2: conv(output, output, 3, 1),
                    norm2: norm(),
                    shortcut: changes.then(|| conv(input, output, 1, stride)),
                    shortcut_norm: changes.then(norm),
                };
                // Weights are drawn when they are first read.
                for conv in [Some(&block.conv1), Some(&block.conv2), block.shortcut.as_ref()] {
                    let _ = conv.map(|c| c.weight.val());
                }
                block
            };
            let x = Tensor::<4>::random([3, input, 9, 6], Distribution::Default, &device);
            let run = |is_plain: bool| {
                let (block, x) = (make(), x.clone().require_grad());
                let forward = |block: &Residual, x: Tensor<4>| match is_plain {
                    true => plain(block, x),
                    false => block.forward(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2]),
                };
                let y = forward(&block, x.clone());
                let weights = Tensor::<1, burn::tensor::Int>::arange(
                    0..y.shape().num_elements() as i64,
                    &device,
                );
                let weights = (weights.float() * 0.37).sin().reshape(y.dims());
                let gradients = (y.clone() * weights).sum().backward();
                let filters = block.conv1.weight.grad(&gradients).unwrap();
                let evaluated = forward(&block.valid(), x.clone().inner());
                let shortcut =
                    block.shortcut.as_ref().map(|c| c.weight.grad(&gradients).unwrap().into_data());
                let mut all = vec![
                    y.into_data(),
                    x.grad(&gradients).unwrap().into_data(),
                    filters.into_data(),
                    block.conv2.weight.grad(&gradients).unwrap().into_data(),
                    block.norm1.gamma.grad(&gradients).unwrap().into_data(),
                    block.norm2.beta.grad(&gradients).unwrap().into_data(),
                    block.norm2.running_mean.value().into_data(),
                    block.norm2.running_var.value().into_data(),
                    evaluated.into_data(),
                ];
                all.extend(shortcut);
                all
            };
            let want = run(true);
            for (value, want) in run(false).iter().zip(&want) {
                value.assert_approx_eq::<f32>(want, Tolerance::rel_abs(1e-3, 1e-4));
            }
            // Where rounding to bf16 changes a ReLU mask, an element of the gradient passes or vanishes.
            for (value, want) in Precision::Bf16.scope(|| run(false)).iter().zip(&want) {
                let (value, want) =
                    (value.try_to_vec::<f32>().unwrap(), want.try_to_vec::<f32>().unwrap());
                let norm = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
                let error: Vec<f32> = value.iter().zip(&want).map(|(a, b)| a - b).collect();
                assert!(norm(&error) < 0.2 * norm(&want), "{} of {}", norm(&error), norm(&want));
            }
        }
    }

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
            let views = lejepa_core::ViewSpec::multi_crop(2, shape.clone(), 0, shape.clone());
            let e = ResNetKind::build(&config, &BuildContext::new(&views, &device)).unwrap();
            let x = Tensor::ones([2, shape.iter().product::<usize>()], &device);
            assert_eq!(e.encode(x, &shape).unwrap().dims(), [2, 16]);
        }
    }
}
