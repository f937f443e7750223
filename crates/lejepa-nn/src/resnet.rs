//! Residual networks (He et al., arXiv 1512.03385), with a stem for small views.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use lejepa_core::{
    Arrays, BoxedEncoder, BuildContext, Component, EncoderKind, Error, Features, Published, Result,
    Table, Wants,
};
use lejepa_kernels::{Activation, batch_norm, norm_conv2d};
use serde::{Deserialize, Serialize};

use crate::conv::{channel_norm, conv, convolve, stride_and_pad};
use crate::grid::{GridEncoder, boxed, encoder_of_any_grid};
use crate::padded::{Padded, sizes_of_maps};
use crate::published_resnet::PublishedResNet;

/// Settings of a [`ResNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResNetConfig {
    /// Layers: 18, 34, 50, 101 or 152. From 50 on blocks are bottlenecks of three convolutions.
    pub depth: usize,
    /// Channels of the first stage; the embedding is 8 times as wide, 32 times from a depth of 50 on. At least 1;
    /// published networks have 64.
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
        Self { depth: 18, width: 64, stem: Stem::Auto }
    }
}

/// A residual network without its classifier. One-dimensional views are rows; the frames of a
/// three-dimensional view are embedded one by one and averaged.
#[derive(Module, Debug)]
pub struct ResNet {
    stem: Conv2d,
    stem_norm: BatchNorm,
    pool: Option<MaxPool2d>,
    blocks: Vec<Residual>,
    #[module(skip)]
    width: usize,
    #[module(skip)]
    stages: [usize; 4],
}

#[derive(Module, Debug)]
struct Residual {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
    /// Of a bottleneck.
    conv3: Option<Conv2d>,
    norm3: Option<BatchNorm>,
    shortcut: Option<Conv2d>,
    shortcut_norm: Option<BatchNorm>,
}

/// Channels that leave a bottleneck over those within it.
const EXPANSION: usize = 4;

impl ResNetConfig {
    /// Blocks of each stage, and whether they are bottlenecks; `None` for a depth that is not known.
    fn stages(&self) -> Option<([usize; 4], bool)> {
        match self.depth {
            18 => Some(([2, 2, 2, 2], false)),
            34 => Some(([3, 4, 6, 3], false)),
            50 => Some(([3, 4, 6, 3], true)),
            101 => Some(([3, 4, 23, 3], true)),
            152 => Some(([3, 8, 36, 3], true)),
            _ => None,
        }
    }

    /// Builds the network for `channels` channels and global views whose longer side is `side`. An unknown depth
    /// is taken for 18.
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
        let (stages, is_bottleneck) = self.stages().unwrap_or(([2; 4], false));
        let mut blocks = Vec::new();
        let mut input = self.width;
        let norm = |channels| BatchNormConfig::new(channels).init(device);
        for (stage, count) in stages.into_iter().enumerate() {
            let inner = self.width << stage;
            let output = if is_bottleneck { EXPANSION * inner } else { inner };
            for i in 0..count {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let changes = stride != 1 || input != output;
                // A bottleneck narrows, strides in its middle, and widens.
                let (first, second) = match is_bottleneck {
                    true => {
                        (conv(input, inner, 1, 1, device), conv(inner, inner, 3, stride, device))
                    }
                    false => {
                        (conv(input, inner, 3, stride, device), conv(inner, inner, 3, 1, device))
                    }
                };
                blocks.push(Residual {
                    conv1: first,
                    norm1: norm(inner),
                    conv2: second,
                    norm2: norm(inner),
                    conv3: is_bottleneck.then(|| conv(inner, output, 1, 1, device)),
                    norm3: is_bottleneck.then(|| norm(output)),
                    shortcut: changes.then(|| conv(input, output, 1, stride, device)),
                    shortcut_norm: changes.then(|| norm(output)),
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
            width: input,
            stages,
        }
    }
}

impl GridEncoder for ResNet {
    fn width(&self) -> usize {
        self.width
    }

    /// `[B, C, T, H, W] -> [B, embedding]` for views of each shape, one after the other: batch norm sees
    /// those of a shape as a batch.
    fn forward_all(&self, views: Vec<Tensor<5>>) -> Tensor<2> {
        Tensor::cat(views.into_iter().map(|views| self.forward(views)).collect(), 0)
    }

    fn takes_lengths(&self) -> bool {
        true
    }

    fn forward_padded(&self, views: Tensor<5>, sizes: &[[usize; 3]]) -> Option<Tensor<2>> {
        let [_, _, t, _, _] = views.dims();
        let frames = frames(views).permute([0, 2, 3, 1]);
        let maps = Padded::new(frames, sizes_of_maps(sizes, t));
        let mut maps = maps.layer(&self.stem, &self.stem_norm, Activation::Relu, None);
        if let Some(pool) = &self.pool {
            // After ReLU nothing is below the zeros beyond a map.
            let x = pool.forward(maps.maps().permute([0, 3, 1, 2])).permute([0, 2, 3, 1]);
            maps = maps.windowed(x, pool.kernel_size[0], pool.stride[0], 1);
        }
        for block in &self.blocks {
            maps = block.forward_padded(maps);
        }
        Some(maps.mean(t))
    }

    /// Dense features are the maps after the last block.
    fn features(&self, views: Tensor<5>, wants: &Wants) -> Result<Features> {
        if !wants.layers.is_empty() {
            let reason = "resnet gives features after its last block alone";
            return Err(Error::bad_value("encoder.name", reason));
        }
        let (cells, grid) = self.cells(views);
        let pooled = cells.clone().mean_dim(1).squeeze_dim::<2>(1);
        Ok(Features::pooled(pooled).with_dense(cells, grid))
    }

    fn published(&self) -> Option<Box<dyn Published>> {
        let is_bottleneck = self.blocks.first()?.conv3.is_some();
        let is_large = self.pool.is_some();
        let width = self.stem_norm.gamma.dims()[0];
        Some(Box::new(PublishedResNet { stages: self.stages, is_bottleneck, is_large, width }))
    }
}

impl ResNet {
    /// `[B, C, T, H, W] -> [B, T·h·w, embedding]`, and T, h and w.
    fn cells(&self, views: Tensor<5>) -> (Tensor<3>, [usize; 3]) {
        let [b, _, t, _, _] = views.dims();
        let x = self.maps(frames(views).permute([0, 2, 3, 1]));
        let [_, h, w, width] = x.dims();
        (x.reshape([b, t * h * w, width]), [t, h, w])
    }

    /// `[B, C, T, H, W] -> [B, embedding]`
    fn forward(&self, views: Tensor<5>) -> Tensor<2> {
        self.cells(views).0.mean_dim(1).squeeze_dim::<2>(1)
    }

    /// `[B, H, W, C] -> [B, h, w, embedding]`, the feature maps after the last block.
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

/// `[B, C, T, H, W] -> [B·T, C, H, W]`
fn frames(views: Tensor<5>) -> Tensor<4> {
    let [b, c, t, h, w] = views.dims();
    if t == 1 {
        views.reshape([b, c, h, w])
    } else {
        views.swap_dims(1, 2).reshape([b * t, c, h, w])
    }
}

impl Residual {
    /// The same for maps of several sizes.
    fn forward_padded(&self, x: Padded) -> Padded {
        let shortcut = match (&self.shortcut, &self.shortcut_norm) {
            (Some(conv), Some(norm)) => x.layer(conv, norm, Activation::None, None).maps(),
            _ => x.maps(),
        };
        let y = x.layer(&self.conv1, &self.norm1, Activation::Relu, None);
        match (&self.conv3, &self.norm3) {
            (Some(conv), Some(norm)) => y
                .layer(&self.conv2, &self.norm2, Activation::Relu, None)
                .layer(conv, norm, Activation::Relu, Some(shortcut)),
            _ => y.layer(&self.conv2, &self.norm2, Activation::Relu, Some(shortcut)),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (y, statistics) = convolve(&self.conv1, x.clone(), &self.norm1);
        let norm = channel_norm(&self.norm1, statistics, Activation::Relu);
        let [stride, pad] = stride_and_pad(&self.conv2);
        let (y, statistics) = norm_conv2d(y, norm, self.conv2.weight.val(), stride, pad);
        let (y, statistics, last) = match (&self.conv3, &self.norm3) {
            (Some(conv), Some(last)) => {
                let norm = channel_norm(&self.norm2, statistics, Activation::Relu);
                let [stride, pad] = stride_and_pad(conv);
                let (y, statistics) = norm_conv2d(y, norm, conv.weight.val(), stride, pad);
                (y, statistics, last)
            }
            _ => (y, statistics, &self.norm2),
        };
        let x = match (&self.shortcut, &self.shortcut_norm) {
            (Some(conv), Some(norm)) => {
                let (x, statistics) = convolve(conv, x, norm);
                batch_norm(x, channel_norm(norm, statistics, Activation::None), None)
            }
            _ => x,
        };
        batch_norm(y, channel_norm(last, statistics, Activation::Relu), Some(x))
    }
}

encoder_of_any_grid!(ResNet);

/// Registers [`ResNet`] as `resnet`.
pub struct ResNetKind;

impl Component for ResNetKind {
    const NAME: &'static str = "resnet";
    const ABOUT: &'static str =
        "residual network of 18 to 152 layers; frames of a clip are averaged";
    type Config = ResNetConfig;

    fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("resnet.rs"), "ResNetConfig")
    }
}

impl EncoderKind for ResNetKind {
    const SIZES: &'static [(&'static str, &'static str)] = &[
        ("resnet18", "depth=18 stem=large"),
        ("resnet34", "depth=34 stem=large"),
        ("resnet50", "depth=50 stem=large"),
        ("resnet101", "depth=101 stem=large"),
        ("resnet152", "depth=152 stem=large"),
    ];

    fn build(config: &ResNetConfig, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
        let (views, device) = (at.views, at.device);
        if config.width == 0 {
            return Err(Error::bad_value("encoder.width", "must be at least 1"));
        }
        if config.stages().is_none() {
            let reason = format!("must be 18, 34, 50, 101 or 152, got {}", config.depth);
            return Err(Error::bad_value("encoder.depth", reason));
        }
        let grid = views.grid();
        let plane = &grid[grid.len().saturating_sub(2)..];
        let side = plane.iter().copied().max().unwrap_or(1);
        boxed(config.init(views.channels(), side, device), grid.len())
    }

    fn recognise(published: &Arrays) -> Option<Table> {
        PublishedResNet::recognise(published)
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
        let y = match (&block.conv3, &block.norm3) {
            (Some(conv), Some(norm)) => norm.forward(conv.forward(relu(y))),
            _ => y,
        };
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
        let kinds = [(1, 5, 5, 0), (2, 5, 7, 0), (1, 16, 32, 0), (1, 8, 8, 3), (2, 6, 8, 5)];
        // A bottleneck has an inner width.
        for (stride, input, output, inner) in kinds {
            let make = || {
                device.seed(3);
                let conv = |a, b, kernel, stride| conv(a, b, kernel, stride, &device);
                let norm = |width| BatchNormConfig::new(width).init(&device);
                let changes = stride != 1 || input != output;
                let (first, second) = match inner {
                    0 => (conv(input, output, 3, stride), conv(output, output, 3, 1)),
                    _ => (conv(input, inner, 1, 1), conv(inner, inner, 3, stride)),
                };
                let width = if inner == 0 { output } else { inner };
                let block = Residual {
                    conv1: first,
                    norm1: norm(width),
                    conv2: second,
                    norm2: norm(width),
                    conv3: (inner > 0).then(|| conv(inner, output, 1, 1)),
                    norm3: (inner > 0).then(|| norm(output)),
                    shortcut: changes.then(|| conv(input, output, 1, stride)),
                    shortcut_norm: changes.then(|| norm(output)),
                };
                // Weights are drawn when they are first read.
                let others = [block.conv3.as_ref(), block.shortcut.as_ref()];
                for conv in [Some(&block.conv1), Some(&block.conv2)].into_iter().chain(others) {
                    let _ = conv.map(|c| c.weight.val());
                }
                block
            };
            device.seed(4);
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
    fn sizes_are_the_published_ones() {
        // torchvision's counts without the classifier; running statistics are two more for each channel normed.
        for (depth, want, normed) in [
            (18, 11_176_512, 4_800),
            (34, 21_284_672, 8_512),
            (50, 23_508_032, 26_560),
            (101, 42_500_160, 52_672),
        ] {
            let net =
                ResNetConfig { depth, ..ResNetConfig::default() }.init(3, 224, &Device::flex());
            assert_eq!(net.num_params(), want + 2 * normed, "{depth}");
        }
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
