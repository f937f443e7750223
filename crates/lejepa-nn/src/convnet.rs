//! A small convolutional network for small data and small machines.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use lejepa_core::config::check::within;
use lejepa_core::{
    BoxedEncoder, BuildContext, Component, EncoderKind, Error, Features, Published, Result, Wants,
};
use lejepa_kernels::{Activation, batch_norm, linear, norm_conv2d};
use serde::{Deserialize, Serialize};

use crate::conv::{channel_norm, conv, convolve, stride_and_pad};
use crate::grid::{GridEncoder, boxed, encoder_of_any_grid};
use crate::padded::{Padded, sizes_of_maps};
use crate::published_convnet::PublishedConvNet;
use crate::vit_block::bias;

/// Settings of a [`ConvNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConvNetConfig {
    /// Channels of the first stage, 1 to 1024; each further stage has twice as many.
    pub width: usize,
    /// Stages, 1 to 6; the maps of each are half as high and wide as those of the one before. The
    /// first stage is a single layer.
    pub stages: usize,
    /// Layers of each further stage, 1 to 16.
    pub depth: usize,
    /// Stride of the first layer in space, 1 to 8. 0 chooses by the cells of a global view: 1 up to 1600
    /// (40×40), 2 up to 9216 (96×96), 4 above.
    pub stride: usize,
    /// How maps become one embedding: `mean` over all cells, or `frequency` for spectrograms:
    /// the height becomes channels, two layers follow at each time step, then mean plus maximum
    /// over time (Niizumi et al., arXiv 2103.06695).
    pub head: Head,
    /// Width of the embedding with `head = "frequency"`, 1 to 8192.
    pub hidden: usize,
}

/// Last layers of a [`ConvNet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// The mean over all cells.
    #[default]
    Mean,
    /// Height as channels, layers at each time step, mean plus maximum over time.
    Frequency,
}

impl Default for ConvNetConfig {
    fn default() -> Self {
        Self { width: 32, stages: 4, depth: 2, stride: 0, head: Head::Mean, hidden: 512 }
    }
}

/// Layers of 3×3 convolution, batch norm and ReLU. One-dimensional views are rows.
///
/// Clips are seen in space and time by turns, as in (2+1)-dimensional networks (Tran et al., arXiv
/// 1711.11248): the first layer sees three consecutive frames as channels, and after each further
/// stage a residual layer joins every position with itself a frame before and after.
#[derive(Module, Debug)]
pub struct ConvNet {
    stem: Layer,
    stages: Vec<Stage>,
    head: Option<FrequencyHead>,
    #[module(skip)]
    width: usize,
}

#[derive(Module, Debug)]
struct Layer {
    conv: Conv2d,
    norm: BatchNorm,
}

#[derive(Module, Debug)]
struct Stage {
    layers: Vec<Layer>,
    /// Joins consecutive frames of a clip.
    temporal: Option<Layer>,
}

#[derive(Module, Debug)]
struct FrequencyHead {
    first: Linear,
    second: Linear,
    #[module(skip)]
    height: usize,
}

impl Layer {
    fn new(input: usize, output: usize, kernel: usize, stride: usize, device: &Device) -> Self {
        let norm = BatchNormConfig::new(output).init(device);
        Self { conv: conv(input, output, kernel, stride, device), norm }
    }
}

impl ConvNetConfig {
    /// Builds the network for `channels` channels and global views of `grid` (1 to 3 axes).
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use lejepa_core::Encoder;
    /// use lejepa_nn::ConvNetConfig;
    ///
    /// let device = Device::flex();
    /// let net = ConvNetConfig { width: 4, stages: 3, ..Default::default() };
    /// let net = net.init(3, &[16, 16], &device);
    /// assert_eq!(net.encode(Tensor::<4>::zeros([2, 3, 16, 16], &device)).dims(), [2, 16]);
    /// ```
    pub fn init(&self, channels: usize, grid: &[usize], device: &Device) -> ConvNet {
        let is_clip = grid.len() == 3 && grid[0] > 1;
        let plane = &grid[grid.len().saturating_sub(2)..];
        let stride = match self.stride {
            0 => match grid.iter().product::<usize>() {
                0..=1600 => 1,
                1601..=9216 => 2,
                _ => 4,
            },
            stride => stride,
        };
        let frames = if is_clip { 3 } else { 1 };
        let kernel = if stride > 2 { 2 * (stride / 2) + 3 } else { 3 };
        let mut width = self.width;
        let mut stages = Vec::new();
        for _ in 1..self.stages {
            let layers = (0..self.depth).map(|i| match i {
                0 => Layer::new(width, 2 * width, 3, 2, device),
                _ => Layer::new(2 * width, 2 * width, 3, 1, device),
            });
            let layers = layers.collect();
            width *= 2;
            let temporal = is_clip.then(|| Layer::new(3 * width, width, 1, 1, device));
            stages.push(Stage { layers, temporal });
        }
        let head = (self.head == Head::Frequency).then(|| {
            let mut height = if plane.len() < 2 { 1 } else { plane[0].div_ceil(stride) };
            for _ in 1..self.stages {
                height = height.div_ceil(2);
            }
            FrequencyHead {
                first: LinearConfig::new(height * width, self.hidden).init(device),
                second: LinearConfig::new(self.hidden, self.hidden).init(device),
                height,
            }
        });
        let stem = Layer::new(frames * channels, self.width, kernel, stride, device);
        ConvNet { stem, stages, width: head.as_ref().map_or(width, |_| self.hidden), head }
    }

    fn validate(&self) -> Result<()> {
        within("encoder.width", self.width, 1..=1024)?;
        within("encoder.stages", self.stages, 1..=6)?;
        within("encoder.depth", self.depth, 1..=16)?;
        within("encoder.stride", self.stride, 0..=8)?;
        within("encoder.hidden", self.hidden, 1..=8192)
    }
}

impl GridEncoder for ConvNet {
    fn width(&self) -> usize {
        self.width
    }

    /// `[B, C, T, H, W] -> [B, width]` for views of each shape, one after the other: batch norm sees those of
    /// a shape as a batch.
    fn forward_all(&self, views: Vec<Tensor<5>>) -> Tensor<2> {
        Tensor::cat(views.into_iter().map(|views| self.forward(views)).collect(), 0)
    }

    fn takes_lengths(&self) -> bool {
        true
    }

    fn forward_padded(&self, views: Tensor<5>, sizes: &[[usize; 3]]) -> Option<Tensor<2>> {
        let (frames, t) = frames(views);
        let frames = Padded::new(frames, sizes_of_maps(sizes, t));
        let mut maps = frames.with(self.joined(frames.maps(), t));
        for (layer, temporal) in self.layers() {
            maps = maps.layer(&layer.conv, &layer.norm, Activation::Relu, None);
            if let Some(layer) = temporal {
                let before = maps.maps();
                let joined = maps.with(with_neighbours(before.clone(), t));
                maps = joined.layer(&layer.conv, &layer.norm, Activation::Relu, Some(before));
            }
        }
        Some(match &self.head {
            Some(head) => maps.pooled_columns(head.steps(maps.maps()), t),
            None => maps.mean(t),
        })
    }

    /// Dense features are the maps after the last stage; those of a spectrogram with the frequency head
    /// are the layers at each time step.
    fn features(&self, views: Tensor<5>, wants: &Wants) -> Result<Features> {
        if !wants.layers.is_empty() {
            let reason = "convnet gives features after its last stage alone";
            return Err(Error::bad_value("encoder.name", reason));
        }
        let (maps, frames) = self.maps(views);
        let [n, h, w, c] = maps.dims();
        let b = n / frames;
        if let Some(head) = &self.head {
            let steps = head.steps(maps);
            let [_, width, dim] = steps.dims();
            let dense = steps.clone().reshape([b, frames * width, dim]);
            return Ok(Features::pooled(pooled(steps, b)).with_dense(dense, [frames, 1, w]));
        }
        let cells = maps.reshape([b, frames * h * w, c]);
        let mean = cells.clone().mean_dim(1).squeeze_dim::<2>(1);
        Ok(Features::pooled(mean).with_dense(cells, [frames, h, w]))
    }

    fn published(&self) -> Option<Box<dyn Published>> {
        let stride = |layer: &Layer| layer.conv.stride[0];
        Some(Box::new(PublishedConvNet {
            stem_stride: stride(&self.stem),
            stages: self
                .stages
                .iter()
                .map(|stage| stage.layers.iter().map(stride).collect())
                .collect(),
            is_clip: self.stages.iter().any(|stage| stage.temporal.is_some()),
            height: self.head.as_ref().map(|head| head.height),
            width: self.width,
        }))
    }
}

impl ConvNet {
    fn forward(&self, views: Tensor<5>) -> Tensor<2> {
        let (maps, frames) = self.maps(views);
        let [n, h, w, c] = maps.dims();
        match &self.head {
            Some(head) => pooled(head.steps(maps), n / frames),
            None => maps.reshape([n / frames, frames * h * w, c]).mean_dim(1).squeeze_dim::<2>(1),
        }
    }

    /// What the first layer sees of frames.
    fn joined(&self, frames: Tensor<4>, t: usize) -> Tensor<4> {
        let [_, _, _, c] = frames.dims();
        let is_clip = self.stem.conv.weight.dims()[1] == 3 * c;
        if is_clip { with_neighbours(frames, t) } else { frames }
    }

    /// `[B, C, T, H, W] -> [B·T, h, w, channels]`, the maps after the last stage, and T.
    fn maps(&self, views: Tensor<5>) -> (Tensor<4>, usize) {
        let (frames, t) = frames(views);
        let mut maps = Maps { x: self.joined(frames, t), pending: None };
        for (layer, temporal) in self.layers() {
            maps = maps.through(layer);
            if let Some(layer) = temporal {
                let before = maps.activated();
                let (y, statistics) =
                    convolve(&layer.conv, with_neighbours(before.clone(), t), &layer.norm);
                let norm = channel_norm(&layer.norm, statistics, Activation::Relu);
                maps = Maps { x: batch_norm(y, norm, Some(before)), pending: None };
            }
        }
        (maps.activated(), t)
    }

    /// All spatial layers, each with the temporal one that follows it.
    fn layers(&self) -> impl Iterator<Item = (&Layer, Option<&Layer>)> {
        let stages = self.stages.iter().flat_map(|stage| {
            let last = stage.layers.len().saturating_sub(1);
            let temporal = move |i| if i == last { stage.temporal.as_ref() } else { None };
            stage.layers.iter().enumerate().map(move |(i, layer)| (layer, temporal(i)))
        });
        std::iter::once((&self.stem, None)).chain(stages)
    }
}

/// `[B, C, T, H, W] -> [B·T, H, W, C]`, and T.
fn frames(views: Tensor<5>) -> (Tensor<4>, usize) {
    let [b, c, t, h, w] = views.dims();
    (views.permute([0, 2, 3, 4, 1]).reshape([b * t, h, w, c]), t)
}

/// Maps on their way: what the last convolution gave, and its norm, which is applied where it is read.
struct Maps<'a> {
    x: Tensor<4>,
    pending: Option<(&'a Layer, Option<Tensor<2>>)>,
}

impl<'a> Maps<'a> {
    fn through(self, layer: &'a Layer) -> Self {
        let (x, statistics) = match self.pending {
            None => convolve(&layer.conv, self.x, &layer.norm),
            Some((last, statistics)) => {
                let norm = channel_norm(&last.norm, statistics, Activation::Relu);
                let [stride, pad] = stride_and_pad(&layer.conv);
                norm_conv2d(self.x, norm, layer.conv.weight.val(), stride, pad)
            }
        };
        Self { x, pending: Some((layer, statistics)) }
    }

    fn activated(self) -> Tensor<4> {
        match self.pending {
            None => self.x,
            Some((last, statistics)) => {
                let norm = channel_norm(&last.norm, statistics, Activation::Relu);
                batch_norm(self.x, norm, None)
            }
        }
    }
}

/// `[B·T, h, w, C] -> [B·T, h, w, 3·C]`: each frame between the one before and the one after it; zeros at
/// the ends.
fn with_neighbours(x: Tensor<4>, t: usize) -> Tensor<4> {
    let [n, h, w, c] = x.dims();
    let x = x.reshape([n / t, t, h, w, c]);
    let zeros = Tensor::<5>::zeros([n / t, 1, h, w, c], (&x.device(), x.dtype()));
    let (before, after) = match t {
        1 => (zeros.clone(), zeros),
        _ => (
            Tensor::cat(vec![zeros.clone(), x.clone().narrow(1, 0, t - 1)], 1),
            Tensor::cat(vec![x.clone().narrow(1, 1, t - 1), zeros], 1),
        ),
    };
    Tensor::cat(vec![before, x, after], 4).reshape([n, h, w, 3 * c])
}

impl FrequencyHead {
    /// `[n, height, w, C] -> [n, w, hidden]`
    fn steps(&self, maps: Tensor<4>) -> Tensor<3> {
        let [n, h, w, c] = maps.dims();
        // Views of another height than the layers were made for are padded or cut.
        let maps = match h.cmp(&self.height) {
            std::cmp::Ordering::Less => {
                let zeros = [n, self.height - h, w, c];
                let zeros = Tensor::zeros(zeros, (&maps.device(), maps.dtype()));
                Tensor::cat(vec![maps, zeros], 1)
            }
            std::cmp::Ordering::Equal => maps,
            std::cmp::Ordering::Greater => maps.narrow(1, 0, self.height),
        };
        let columns = maps.permute([0, 2, 1, 3]).reshape([n, w, self.height * c]);
        let apply = |x, layer: &Linear| relu(linear(x, layer.weight.val(), bias(layer)));
        apply(apply(columns, &self.first), &self.second)
    }
}

/// `[n, w, dim] -> [b, dim]`: mean plus maximum over all time steps of a view.
fn pooled(steps: Tensor<3>, b: usize) -> Tensor<2> {
    let [n, w, dim] = steps.dims();
    let steps = steps.reshape([b, n / b * w, dim]);
    let mean = steps.clone().mean_dim(1).squeeze_dim::<2>(1);
    mean + steps.max_dim(1).squeeze_dim::<2>(1)
}

encoder_of_any_grid!(ConvNet);

/// Registers [`ConvNet`] as `convnet`.
pub struct ConvNetKind;

impl Component for ConvNetKind {
    const NAME: &'static str = "convnet";
    const ABOUT: &'static str = "small convolutional network, in space and time";
    type Config = ConvNetConfig;

    fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("convnet.rs"), "ConvNetConfig")
    }
}

impl EncoderKind for ConvNetKind {
    fn build(config: &ConvNetConfig, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
        config.validate()?;
        let grid = at.views.grid();
        boxed(config.init(at.views.channels(), &grid, at.device), grid.len())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    fn net(config: &ConvNetConfig, channels: usize, grid: &[usize]) -> ConvNet {
        Device::flex().seed(3);
        config.init(channels, grid, &Device::flex())
    }

    #[test]
    fn takes_rows_pictures_and_clips() {
        for head in [Head::Mean, Head::Frequency] {
            let config =
                ConvNetConfig { width: 2, stages: 3, head, hidden: 8, ..Default::default() };
            for shape in [vec![2, 16], vec![1, 16, 12], vec![3, 4, 8, 8], vec![3, 1, 8, 8]] {
                let device = Device::flex();
                let views = lejepa_core::ViewSpec::multi_crop(2, shape.clone(), 0, shape.clone());
                let at = BuildContext::new(&views, &device);
                let encoder = ConvNetKind::build(&config, &at).unwrap();
                let x = Tensor::ones([2, shape.iter().product::<usize>()], &device);
                assert_eq!(encoder.encode(x, &shape).unwrap().dims(), [2, 8], "{shape:?}");
            }
        }
    }

    #[test]
    fn neighbours_are_those_of_the_same_clip() {
        let x = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0], &Device::flex());
        let joined = with_neighbours(x.clone().reshape([4, 1, 1, 1]), 2);
        let want = [[0.0, 1.0, 2.0], [1.0, 2.0, 0.0], [0.0, 3.0, 4.0], [3.0, 4.0, 0.0]];
        joined
            .reshape([4, 3])
            .into_data()
            .assert_eq(&Tensor::<2>::from_floats(want, &Device::flex()).into_data(), true);
        let alone = with_neighbours(x.reshape([4, 1, 1, 1]), 1).reshape([4, 3]);
        assert_eq!(alone.sum_dim(0).into_data().try_to_vec::<f32>().unwrap(), [0.0, 10.0, 0.0]);
    }

    #[test]
    fn the_order_of_frames_matters_and_that_of_pictures_does_not() {
        let device = Device::flex();
        let config = ConvNetConfig { width: 4, stages: 3, ..Default::default() };
        let clip = Tensor::<5>::random([1, 1, 4, 8, 8], Distribution::Default, &device);
        let moving = net(&config, 1, &[4, 8, 8]);
        let far =
            |a: Tensor<2>, b: Tensor<2>| (a - b).abs().max().try_into_scalar::<f32>().unwrap();
        let backwards = clip.clone().flip([2]);
        assert!(far(moving.forward(clip.clone()), moving.forward(backwards)) > 1e-4);
    }

    #[test]
    fn the_frequency_head_tells_low_from_high() {
        let device = Device::flex();
        let config =
            ConvNetConfig { width: 4, stages: 2, head: Head::Frequency, ..Default::default() };
        let net = net(&config, 1, &[16, 8]);
        let tone = |row: usize| {
            let one = Tensor::<4>::ones([1, 1, 2, 8], &device);
            let zeros = |rows: usize| Tensor::<4>::zeros([1, 1, rows, 8], &device);
            Tensor::cat(vec![zeros(row), one, zeros(14 - row)], 2).unsqueeze_dim::<5>(2)
        };
        let difference = net.forward(tone(4)) - net.forward(tone(8));
        assert!(difference.abs().max().try_into_scalar::<f32>().unwrap() > 1e-3);
    }

    #[test]
    fn strides_follow_the_size_of_views_and_the_layers_pass_gradients() {
        let config = ConvNetConfig { width: 2, stages: 2, ..Default::default() };
        for (side, stride) in [(32, 1), (96, 2), (224, 4)] {
            assert_eq!(net(&config, 3, &[side, side]).stem.conv.stride, [stride; 2]);
        }
        let device = Device::flex().autodiff();
        let net = config.init(1, &[4, 8, 8], &device);
        let x = Tensor::<5>::random([3, 1, 4, 8, 8], Distribution::Default, &device);
        let gradients = (net.forward(x).powf_scalar(2.0)).sum().backward();
        let temporal = net.stages[0].temporal.as_ref().unwrap();
        for layer in [&net.stem, &net.stages[0].layers[1], temporal] {
            let gradient = layer.conv.weight.grad(&gradients).unwrap();
            assert!(gradient.abs().max().try_into_scalar::<f32>().unwrap() > 0.0);
        }
    }

    #[test]
    fn values_out_of_range_name_their_key() {
        let ok = ConvNetConfig::default();
        for (key, bad) in [
            ("width", ConvNetConfig { width: 0, ..ok.clone() }),
            ("stages", ConvNetConfig { stages: 7, ..ok.clone() }),
            ("depth", ConvNetConfig { depth: 0, ..ok.clone() }),
            ("stride", ConvNetConfig { stride: 9, ..ok.clone() }),
            ("hidden", ConvNetConfig { hidden: 0, ..ok }),
        ] {
            let error = bad.validate().unwrap_err().to_string();
            assert!(error.contains(&format!("`encoder.{key}`")), "{error}");
        }
    }
}
