//! Tests of `convnext.rs`.

use super::*;
use burn::tensor::{Int, Tolerance};

#[test]
fn sizes_are_the_published_ones() {
    // timm 1.0.31's counts with num_classes = 0.
    use ConvNextSize::*;
    for (version, size, want) in [
        (1, Atto, 3_374_520),
        (1, Femto, 4_832_784),
        (1, Pico, 8_532_672),
        (1, Nano, 14_952_560),
        (1, Tiny, 27_820_128),
        (1, Small, 49_454_688),
        (2, Atto, 3_387_400),
        (2, Femto, 4_848_240),
        (2, Pico, 8_553_280),
        (2, Nano, 14_982_800),
        (2, Tiny, 27_866_496),
        (2, Base, 87_692_800),
    ] {
        let config = ConvNextConfig { size, version, ..Default::default() };
        let net = config.init(3, 4, 2, &Device::flex());
        assert_eq!(net.num_params(), want, "{version} {size:?}");
    }
    // The largest, by the formula that the others confirm.
    let count = |version: usize, size| {
        let ConvNextConfig { width, depths, .. } =
            ConvNextConfig { size, ..Default::default() }.sized();
        let block = |w: usize| {
            let more = if version == 1 { w } else { 8 * w };
            (KERNEL * KERNEL + 1) * w + 2 * w + 8 * w * w + 5 * w + more
        };
        let stage = |s: usize| {
            let w = width << s;
            let down = if s == 0 { 0 } else { w + 2 * w * w + w };
            down + depths[s] * block(w)
        };
        let ends = 3 * 16 * width + 3 * width + 2 * (width << 3);
        ends + (0..STAGES).map(stage).sum::<usize>()
    };
    for (version, size, want) in [
        (1, Tiny, 27_820_128),
        (2, Atto, 3_387_400),
        (1, Base, 87_566_464),
        (1, Large, 196_230_336),
        (1, Xlarge, 348_147_968),
        (2, Large, 196_419_840),
        (2, Huge, 657_472_640),
    ] {
        assert_eq!(count(version, size), want, "{version} {size:?}");
    }
}

#[test]
fn a_response_of_zeros_has_a_gradient() {
    let device = Device::flex().autodiff();
    let norm = ResponseNorm {
        gamma: Initializer::Ones.init([3], &device),
        beta: Initializer::Zeros.init([3], &device),
    };
    let values = Tensor::<1, Int>::arange(0..24, &device).float().reshape([1, 2, 4, 3]);
    // The first channel is 0 throughout.
    let mask = Tensor::<1>::from_floats([0.0, 1.0, 2.0], &device).reshape([1, 1, 1, 3]);
    let x = (values * mask).require_grad();
    let gradient = norm.forward(x.clone()).sum().backward();
    let gradient: Vec<f32> = x.grad(&gradient).unwrap().try_into_vec_as().unwrap();
    assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
}

#[test]
fn takes_rows_pictures_and_clips_of_any_size() {
    let device = Device::flex();
    let config = ConvNextConfig { width: 2, depths: [1; 4], ..Default::default() };
    let build = |config: &ConvNextConfig, shape: &[usize]| {
        let views = ViewSpec::multi_crop(2, shape.to_vec(), 0, shape.to_vec());
        ConvNextKind::build(config, &BuildContext::new(&views, &device))
    };
    for shape in [vec![1, 16, 12], vec![3, 4, 32, 33], vec![2, 100], vec![1, 3], vec![1, 2, 1]] {
        let encoder = build(&config, &shape).unwrap();
        let x = Tensor::ones([2, shape.iter().product::<usize>()], &device);
        assert_eq!(encoder.encode(x, &shape).unwrap().dims(), [2, 16]);
    }
    let refused = |config: &ConvNextConfig, shape: &[usize], key: &str| {
        let error = build(config, shape).err().unwrap().to_string();
        assert!(error.contains(key), "{error}");
    };
    refused(&ConvNextConfig { patch: 4, ..config.clone() }, &[1, 3, 16], "encoder.patch");
    refused(&ConvNextConfig { patch: 3, ..config.clone() }, &[1, 64, 64], "encoder.patch");
    refused(&ConvNextConfig { version: 3, ..config.clone() }, &[1, 64, 64], "encoder.version");
    refused(&ConvNextConfig { width: 0, ..config.clone() }, &[1, 64, 64], "encoder.width");
    refused(&ConvNextConfig { depths: [1, 0, 1, 1], ..config }, &[1, 64, 64], "encoder.depths");
}

#[test]
fn a_frame_of_a_clip_is_a_picture() {
    let device = Device::flex();
    let net =
        ConvNextConfig { width: 2, depths: [1; 4], ..Default::default() }.init(1, 1, 2, &device);
    let picture = Tensor::<5>::random([2, 1, 1, 9, 8], Distribution::Default, &device);
    let clip = picture.clone().repeat_dim(2, 3);
    let [one, three] = [picture, clip].map(|views| net.forward_all(vec![views]).into_data());
    three.assert_approx_eq::<f32>(&one, Tolerance::default());
}
