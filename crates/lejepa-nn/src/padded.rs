//! Feature maps of views of several sizes that are padded to one.

use burn::nn::BatchNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use lejepa_kernels::{Activation, conv2d};

use crate::conv::{stride_and_pad, update_running, uses_batch_statistics};

/// NHWC maps, 0 beyond the size of each, as a convolution pads them. What is computed of a map does not depend on
/// how far it is padded, but for batch statistics, which are those of the cells within.
pub(crate) struct Padded {
    x: Tensor<4>,
    /// Height and width of each map.
    sizes: Vec<[usize; 2]>,
    /// 1 within, 0 beyond, `[n, h, w, 1]`.
    within: Tensor<4>,
}

/// 1 within each size, 0 beyond, `[n, h, w, 1]`.
fn within(sizes: &[[usize; 2]], [h, w]: [usize; 2], like: &Tensor<4>) -> Tensor<4> {
    let cell = |&[rows, columns]: &[usize; 2]| {
        (0..h * w).map(move |at| if at / w < rows && at % w < columns { 1f32 } else { 0.0 })
    };
    let values: Vec<f32> = sizes.iter().flat_map(cell).collect();
    let data = TensorData::new(values, [sizes.len(), h, w, 1]);
    Tensor::from_data(data, (&like.device(), like.dtype()))
}

impl Padded {
    /// Maps `[n, h, w, c]` of these sizes; what lies beyond is set to 0.
    pub(crate) fn new(x: Tensor<4>, sizes: Vec<[usize; 2]>) -> Self {
        let [_, h, w, _] = x.dims();
        let within = within(&sizes, [h, w], &x);
        Self { x: x * within.clone(), sizes, within }
    }

    /// The maps.
    pub(crate) fn maps(&self) -> Tensor<4> {
        self.x.clone()
    }

    /// Of the same sizes, from maps of the same height and width.
    pub(crate) fn with(&self, x: Tensor<4>) -> Self {
        let (sizes, within) = (self.sizes.clone(), self.within.clone());
        Self { x: x * within.clone(), sizes, within }
    }

    /// The same after a window of `kernel` has moved over them by `stride`, with `pad` zeros around.
    pub(crate) fn windowed(&self, x: Tensor<4>, kernel: usize, stride: usize, pad: usize) -> Self {
        let after = |side: usize| match side {
            0 => 0,
            side => (side + 2 * pad).saturating_sub(kernel) / stride + 1,
        };
        Self::new(x, self.sizes.iter().map(|size| size.map(after)).collect())
    }

    /// A convolution, a batch norm, and what follows them.
    pub(crate) fn layer(
        &self,
        conv: &Conv2d,
        norm: &BatchNorm,
        activation: Activation,
        residual: Option<Tensor<4>>,
    ) -> Self {
        let [stride, pad] = stride_and_pad(conv);
        let y = conv2d(self.maps(), conv.weight.val(), stride, pad);
        let y = self.windowed(y, conv.kernel_size[0], stride, pad);
        let normed = y.normalized(norm);
        let sum = match residual {
            Some(residual) => normed + residual,
            None => normed,
        };
        y.with(match activation {
            Activation::Relu => relu(sum),
            Activation::None => sum,
        })
    }

    fn normalized(&self, norm: &BatchNorm) -> Tensor<4> {
        let (x, device) = (self.maps(), self.x.device());
        let [_, _, _, c] = x.dims();
        let row = |x: Tensor<1>| x.reshape([1, 1, 1, c]);
        let (mean, variance) = if uses_batch_statistics(norm, &device) {
            let cells: usize = self.sizes.iter().map(|[h, w]| h * w).sum();
            let sum = |x: Tensor<4>| x.sum_dim(0).sum_dim(1).sum_dim(2).reshape([c]);
            let mean = sum(x.clone()) / cells.max(1) as f64;
            let off = (x.clone() - row(mean.clone())) * self.within.clone();
            let variance = sum(off.square()) / cells.max(1) as f64;
            update_running(norm, mean.clone(), variance.clone(), &device);
            (mean, variance)
        } else {
            let value = |of: Tensor<1>| of.to_device(&device);
            (value(norm.running_mean.value()), value(norm.running_var.value()))
        };
        let scale = norm.gamma.val() / (variance + norm.epsilon).sqrt();
        (x - row(mean)) * row(scale) + row(norm.beta.val())
    }

    /// The mean over the cells of the `t` maps of each view, `[n / t, c]`.
    pub(crate) fn mean(&self, t: usize) -> Tensor<2> {
        let [n, h, w, c] = self.x.dims();
        let sums = self.maps().reshape([n / t, t * h * w, c]).sum_dim(1).squeeze_dim::<2>(1);
        sums / counts(&self.sizes, t, |[h, w]| h * w, &self.x.device())
    }

    /// Mean plus maximum over the columns of the `t` maps of each view, of what is not negative, `[n, w, dim]`.
    pub(crate) fn pooled_columns(&self, columns: Tensor<3>, t: usize) -> Tensor<2> {
        let [n, w, dim] = columns.dims();
        let within = self.within.clone().narrow(1, 0, 1).reshape([n, w, 1]);
        let columns = (columns * within).reshape([n / t, t * w, dim]);
        let sums = columns.clone().sum_dim(1).squeeze_dim::<2>(1);
        let of = |[h, w]: [usize; 2]| if h == 0 { 0 } else { w };
        sums / counts(&self.sizes, t, of, &self.x.device()) + columns.max_dim(1).squeeze_dim::<2>(1)
    }
}

/// What `of` counts in the `t` maps of each view, at least 1, `[n / t, 1]`.
fn counts(
    sizes: &[[usize; 2]],
    t: usize,
    of: impl Fn([usize; 2]) -> usize,
    device: &Device,
) -> Tensor<2> {
    let count =
        |maps: &[[usize; 2]]| maps.iter().map(|size| of(*size)).sum::<usize>().max(1) as f32;
    let counts: Vec<f32> = sizes.chunks(t.max(1)).map(count).collect();
    let views = counts.len();
    Tensor::from_data(TensorData::new(counts, [views, 1]), device)
}

/// Height and width of the `t` maps of each view; none of a frame beyond its length.
pub(crate) fn sizes_of_maps(sizes: &[[usize; 3]], t: usize) -> Vec<[usize; 2]> {
    let of = |&[frames, h, w]: &[usize; 3]| {
        (0..t).map(move |frame| if frame < frames { [h, w] } else { [0, 0] })
    };
    sizes.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::{Device, Distribution, Tensor, TensorData, Tolerance};
    use lejepa_core::{BoxedEncoder, BuildContext, EncoderKind, FlatInput, ViewSpec};

    use crate::{ConvNetConfig, ConvNetKind, Head, ResNetConfig, ResNetKind};

    fn encoders(shape: &[usize], device: &Device) -> Vec<BoxedEncoder> {
        device.seed(4);
        let views = ViewSpec::multi_crop(2, shape, 0, shape);
        let at = BuildContext::new(&views, device);
        let convnet = |head| {
            let config =
                ConvNetConfig { width: 4, stages: 3, head, hidden: 12, ..Default::default() };
            ConvNetKind::build(&config, &at).unwrap()
        };
        let resnet = |words: &str| {
            let mut own = lejepa_core::config::defaults::<ResNetConfig>("encoder").unwrap();
            for word in words.split(' ') {
                lejepa_core::config::assign(&mut own, word).unwrap();
            }
            let config = lejepa_core::config::parse("encoder", &own).unwrap();
            ResNetKind::build(&config, &at).unwrap()
        };
        vec![
            convnet(Head::Mean),
            convnet(Head::Frequency),
            resnet("width=4 stem=small"),
            resnet("width=4 stem=large depth=50"),
        ]
    }

    fn flat(x: Tensor<4>) -> Tensor<2> {
        let [b, rest @ ..] = x.dims();
        x.reshape([b, rest.iter().product()])
    }

    fn lengths(all: &[[i32; 2]], device: &Device) -> Tensor<2, burn::tensor::Int> {
        let data = TensorData::new(all.concat(), [all.len(), 2]);
        Tensor::from_data(data, device)
    }

    #[test]
    fn how_far_a_view_is_padded_does_not_change_its_embedding() {
        let device = Device::flex();
        for encoder in encoders(&[1, 16, 24], &device) {
            let noise = |w| Tensor::<4>::random([1, 1, 16, w], Distribution::Default, &device);
            let views = [24usize, 9, 14].map(noise);
            let padded = views.clone().map(|view| {
                let [_, _, _, w] = view.dims();
                // Whatever stands beyond the end.
                if w == 24 { view } else { Tensor::cat(vec![view, noise(24 - w) * 9.0], 3) }
            });
            let batch = flat(Tensor::cat(padded.to_vec(), 0));
            let input = FlatInput::new(batch, &[1, 16, 24]);
            let of_batch = lengths(&[[16, 24], [16, 9], [16, 14]], &device);
            let together = encoder.encode_all(vec![input.with_lengths(Some(of_batch))]).unwrap();
            for (i, view) in views.into_iter().enumerate() {
                let w = view.dims()[3];
                let alone = encoder.encode(flat(view), &[1, 16, w]).unwrap().into_data();
                let row = together.clone().narrow(0, i, 1).into_data();
                row.assert_approx_eq::<f32>(&alone, Tolerance::rel_abs(1e-4, 1e-5));
            }
        }
    }

    #[test]
    fn views_without_padding_are_embedded_and_trained_on_alike() {
        let device = Device::flex().autodiff();
        // Fifty layers of batch norm over four cells are no test of rounding.
        for encoder in encoders(&[1, 16, 12], &device).into_iter().take(3) {
            let x = Tensor::<4>::random([4, 1, 16, 12], Distribution::Default, &device);
            let run = |lengths| {
                let encoder = encoder.clone();
                let input = FlatInput::new(flat(x.clone()), &[1, 16, 12]).with_lengths(lengths);
                let y = encoder.encode_all(vec![input]).unwrap();
                let gradients = y.clone().square().sum().backward();
                let found = burn::optim::GradientsParams::from_grads(gradients, &encoder);
                (y.into_data(), found, encoder)
            };
            let full = lengths(&[[16, 12]; 4], &device);
            let ((a, of_a, encoder), (b, of_b, _)) = (run(None), run(Some(full)));
            b.assert_approx_eq::<f32>(&a, Tolerance::rel_abs(1e-3, 1e-4));
            let mut compare = Compare(&of_a, &of_b, 0);
            encoder.visit(&mut compare);
            assert!(compare.2 > 4);
        }
    }

    struct Compare<'a>(&'a burn::optim::GradientsParams, &'a burn::optim::GradientsParams, usize);

    impl burn::module::ModuleVisitor for Compare<'_> {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            let (a, b) = (self.0.get::<D>(param.id), self.1.get::<D>(param.id));
            if let (Some(a), Some(b)) = (a, b) {
                let scale = a.clone().abs().max().into_scalar::<f32>().max(1e-2);
                let off = (a - b).abs().max().into_scalar::<f32>();
                assert!(off < 1e-2 * scale, "{off} of {scale}");
                self.2 += 1;
            }
        }
    }

    #[test]
    fn batch_statistics_are_those_of_the_cells_within() {
        let device = Device::flex().autodiff();
        for encoder in encoders(&[1, 16, 12], &device).into_iter().take(3) {
            let noise = |w| Tensor::<4>::random([4, 1, 16, w], Distribution::Default, &device);
            let x = noise(12);
            let run = |x: Tensor<4>| {
                let shape = [1, 16, x.dims()[3]];
                let of = lengths(&[[16, 12]; 4], &device);
                let input = FlatInput::new(flat(x), &shape).with_lengths(Some(of));
                encoder.encode_all(vec![input]).unwrap().into_data()
            };
            let longer = Tensor::cat(vec![x.clone(), noise(8)], 3);
            run(longer).assert_approx_eq::<f32>(&run(x), Tolerance::rel_abs(1e-3, 1e-4));
        }
    }

    #[test]
    fn clips_of_several_lengths_are_embedded_as_each_alone() {
        let device = Device::flex();
        device.seed(2);
        let net = ConvNetConfig { width: 4, stages: 3, ..Default::default() };
        let net = net.init(1, &[4, 8, 8], &device);
        let noise = |t| Tensor::<5>::random([1, 1, t, 8, 8], Distribution::Default, &device);
        let (short, long) = (noise(2), noise(4));
        let padded = Tensor::cat(vec![short.clone(), noise(2)], 2);
        let both = Tensor::cat(vec![padded, long.clone()], 0);
        let data = TensorData::new(vec![2i32, 8, 8, 4, 8, 8], [2, 3]);
        let input = lejepa_core::Input::new(both).with_lengths(Tensor::from_data(data, &device));
        let together = lejepa_core::Encoder::<5>::encode_all(&net, vec![input]).unwrap();
        let alone = [short, long].map(|clip| lejepa_core::Encoder::<5>::encode(&net, clip));
        let alone = Tensor::cat(alone.to_vec(), 0).into_data();
        together.into_data().assert_approx_eq::<f32>(&alone, Tolerance::rel_abs(1e-4, 1e-5));
    }
}
