//! A convolutional stem in place of the patch embedding of a vision transformer.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{Device, Tensor};
use lejepa_core::{Error, Result};
use lejepa_kernels::{Activation, batch_norm};

use crate::conv::{channel_norm, conv, convolve};

/// Layers of 3×3 convolution of stride 2, batch norm and ReLU, one for each factor of 2 of a patch; each has twice as many
/// channels as the one before (Xiao et al., arXiv 2106.14881). A linear layer follows.
#[derive(Module, Debug)]
pub(crate) struct ConvStem {
    layers: Vec<(Conv2d, BatchNorm)>,
}

/// Fewest channels of a layer.
const LEAST: usize = 16;

impl ConvStem {
    /// A stem in place of patches of `patch`, with about `width` channels in the end.
    ///
    /// # Errors
    /// [`Error::BadValue`] for patches that are no power of two, no squares, or longer than a frame.
    pub(crate) fn new(
        channels: usize,
        [pt, ph, pw]: [usize; 3],
        width: usize,
        device: &Device,
    ) -> Result<Self> {
        let is_even = pt == 1 && pw > 1 && pw.is_power_of_two() && (ph == pw || ph == 1);
        if !is_even {
            let reason = "takes patches of 2, 4, 8, ... along each axis but that of time";
            return Err(Error::bad_value("encoder.stem", reason));
        }
        let count = pw.trailing_zeros();
        let mut input = channels;
        let layer = |i: u32| {
            let output = (width >> (count - 1 - i)).max(LEAST);
            let layer = conv(input, output, 3, 2, device);
            input = output;
            (layer, BatchNormConfig::new(output).init(device))
        };
        Ok(Self { layers: (0..count).map(layer).collect() })
    }

    /// Channels of the last layer.
    pub(crate) fn width(&self) -> usize {
        self.layers.last().map_or(0, |(_, norm)| norm.gamma.dims()[0])
    }

    /// `[B, C, T, H, W] -> [B, cells, width]`
    pub(crate) fn forward(&self, views: Tensor<5>) -> Tensor<3> {
        let [b, c, t, h, w] = views.dims();
        let mut x = views.permute([0, 2, 3, 4, 1]).reshape([b * t, h, w, c]);
        for (conv, norm) in &self.layers {
            let (y, statistics) = convolve(conv, x, norm);
            x = batch_norm(y, channel_norm(norm, statistics, Activation::Relu), None);
        }
        let [_, h, w, c] = x.dims();
        x.reshape([b, t * h * w, c])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vit_config::{StemKind, VitConfig};
    use burn::tensor::Distribution;
    use lejepa_core::{BoxedEncoder, BuildContext, EncoderKind, FlatInput, ViewSpec};

    fn build(patch: Vec<usize>, shape: &[usize]) -> Result<BoxedEncoder> {
        let views = ViewSpec::multi_crop(2, shape, 0, shape);
        let (width, depth, heads) = (24, 1, 2);
        let stem = StemKind::Conv;
        let config = VitConfig { width, depth, heads, patch, stem, ..Default::default() };
        let device = Device::flex().autodiff();
        crate::VitKind::build(&config, &BuildContext::new(&views, &device))
    }

    #[test]
    fn a_stem_has_as_many_cells_as_there_are_patches_and_is_trained() {
        for (patch, shape, cells, layers) in [
            (vec![4], vec![3, 16, 16], 16, 2),
            (vec![8], vec![1, 16, 24], 6, 3),
            (vec![4], vec![2, 32], 8, 2),
            (vec![4, 4], vec![3, 3, 8, 8], 12, 2),
        ] {
            let encoder = build(patch, &shape).unwrap();
            let device = Device::flex().autodiff();
            let flat = [3, shape.iter().product()];
            let x = Tensor::<2>::random(flat, Distribution::Default, &device);
            let wants = lejepa_core::Wants::dense();
            let features = encoder.features(FlatInput::new(x.clone(), &shape), &wants).unwrap();
            assert_eq!(features.dense.unwrap().dims(), [3, cells, 24]);
            let loss = encoder.encode(x, &shape).unwrap().square().sum();
            let found = burn::optim::GradientsParams::from_grads(loss.backward(), &encoder);
            // All but two running statistics of each layer.
            let all = burn::module::list_param_ids(&encoder).len();
            assert_eq!(found.len() + 2 * layers, all, "{shape:?}");
            assert!(encoder.published().is_none() && !encoder.takes_lengths());
        }
    }

    #[test]
    fn patches_that_no_strides_make_are_refused() {
        for (patch, shape) in [
            (vec![3], vec![3, 12, 12]),
            (vec![1], vec![3, 8, 8]),
            (vec![2, 4, 4], vec![3, 4, 8, 8]),
        ] {
            let error = build(patch, &shape).unwrap_err().to_string();
            assert!(error.contains("`encoder.stem`"), "{error}");
        }
    }
}
