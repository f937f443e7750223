use super::*;
use burn::tensor::{Distribution, Tolerance};

fn clips(shape: [usize; 5]) -> Tensor<5> {
    Tensor::random(shape, Distribution::Default, &Device::flex())
}

fn build(words: &str, change: impl Fn(&mut FramesConfig)) -> Result<BoxedEncoder> {
    let device = Device::flex();
    device.seed(5);
    let views = ViewSpec::multi_crop(2, [3, 4, 16, 16], 1, [3, 2, 8, 8]);
    let mut config = FramesConfig { frame: words.into(), ..FramesConfig::default() };
    change(&mut config);
    FramesKind::build(&config, &BuildContext::new(&views, &device))
}

const VIT: &str = "vit width=24 depth=1 heads=2 patch=[4]";

#[test]
fn clips_of_several_shapes_are_embedded_as_one_shape_at_a_time() {
    for words in [VIT, "resnet depth=18 width=8", "convnext size=atto patch=2", "mlp"] {
        let encoder = build(words, |_| {}).unwrap_or_else(|e| panic!("{words}: {e}"));
        let flat = |x: &Tensor<5>| {
            let [b, rest @ ..] = x.dims();
            (x.clone().reshape([b, rest.iter().product()]), rest.to_vec())
        };
        let all = [flat(&clips([3, 3, 4, 16, 16])), flat(&clips([2, 3, 2, 8, 8]))];
        let apart = all.clone().map(|(x, shape)| encoder.encode(x, &shape).unwrap());
        let inputs = all.iter().map(|(x, shape)| FlatInput::new(x.clone(), shape)).collect();
        let together = encoder.encode_all(inputs).unwrap();
        assert_eq!(together.dims(), [5, encoder.dim()]);
        let apart = Tensor::cat(apart.to_vec(), 0).into_data();
        together.into_data().assert_approx_eq::<f32>(&apart, Tolerance::rel_abs(1e-4, 1e-5));
    }
}

/// The embedding of a clip and of the same clip with its last frame changed, frame by frame.
fn changed(causal: bool) -> (Vec<f32>, Vec<f32>) {
    let device = Device::flex();
    device.seed(3);
    let frame = VitConfig { width: 16, depth: 1, heads: 2, ..VitConfig::default() };
    let frame = BoxedEncoder::new::<4>(frame.init(1, &[4, 4], &[2, 2], &device).unwrap());
    let frames = FramesConfig { causal, ..FramesConfig::default() }.init(frame, &device).unwrap();
    let out = |clip: Tensor<5>| {
        let of_frames = frames.frame.encode(flat_frames(clip), &[1, 8, 8]).unwrap();
        let (x, samples) = Samples::concatenate(vec![frames.tokens(of_frames, [1, 4])]);
        let x = frames.blocks.iter().fold(x, |x, block| block.forward(x, &samples));
        x.into_data().try_to_vec().unwrap()
    };
    let clip = clips([1, 1, 4, 8, 8]);
    let other = Tensor::cat(vec![clip.clone().narrow(2, 0, 3), clips([1, 1, 1, 8, 8])], 2);
    (out(clip), out(other))
}

#[test]
fn a_causal_frame_does_not_see_what_comes_after_it() {
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    let (a, b) = changed(true);
    assert!(near(&a[..48], &b[..48]) && !near(&a[48..], &b[48..]));
    let (a, b) = changed(false);
    assert!(!near(&a[..48], &b[..48]));
}

#[test]
fn the_order_of_frames_matters_to_the_transformer_alone() {
    let x = clips([2, 3, 4, 16, 16]);
    let reversed = x.clone().flip([2]);
    let embed = |encoder: &BoxedEncoder, x: Tensor<5>| {
        encoder.encode(x.reshape([2, 3 * 4 * 256]), &[3, 4, 16, 16]).unwrap().into_data()
    };
    let transformer = build(VIT, |_| {}).unwrap();
    let (a, b) = (embed(&transformer, x.clone()), embed(&transformer, reversed.clone()));
    let apart = a.iter::<f32>().zip(b.iter::<f32>()).map(|(a, b)| (a - b).abs());
    assert!(apart.fold(0.0, f32::max) > 1e-3);
    let mean = build(VIT, |config| config.depth = 0).unwrap();
    let (a, b) = (embed(&mean, x), embed(&mean, reversed));
    a.assert_approx_eq::<f32>(&b, Tolerance::rel_abs(1e-4, 1e-5));
}

#[test]
fn dense_features_are_those_of_the_frames() {
    let encoder = build(VIT, |_| {}).unwrap();
    let x = clips([2, 3, 4, 16, 16]).reshape([2, 3 * 4 * 256]);
    let shape = [3, 4, 16, 16];
    let wants = Wants::dense().layers([0]);
    let features = encoder.features(FlatInput::new(x.clone(), &shape), &wants).unwrap();
    assert_eq!(features.grid, [4, 4, 4]);
    assert_eq!(features.dense.unwrap().dims(), [2, 64, 24]);
    assert_eq!(features.layers[0].dims(), [2, 64, 24]);
    let pooled = encoder.encode(x, &shape).unwrap().into_data();
    features.pooled.into_data().assert_approx_eq::<f32>(&pooled, Tolerance::rel_abs(1e-5, 1e-5));
}

#[test]
fn an_encoder_is_put_under_it_as_words() {
    let vit: Table =
        "name = 'vit'\nsize = 'small'\npatch = [2, 16, 16]\nregisters = 4".parse().unwrap();
    let table = FramesKind::around(&vit).unwrap();
    assert_eq!(table["name"].as_str(), Some("frames"));
    let words = table["frame"].as_str().unwrap();
    assert!(words.starts_with("vit ") && words.contains("patch=[2,16,16]"), "{words}");
    assert!(words.contains("size=small") && words.contains("registers=4"), "{words}");
}

#[test]
fn bad_settings_are_refused() {
    for words in ["", "frames", "nothing", "vit width", "vit colour=3", "vit width=25 heads=2"] {
        let error = build(words, |_| {}).unwrap_err().to_string();
        assert!(error.contains("encoder.frame"), "{words}: {error}");
    }
    type Change = fn(&mut FramesConfig);
    let bad: [(Change, &str); 4] = [
        (|c| c.depth = 65, "encoder.depth"),
        (|c| c.heads = 0, "encoder.heads"),
        (|c| c.heads = 5, "encoder.heads"),
        (|c| c.mlp_ratio = 0.0, "encoder.mlp_ratio"),
    ];
    for (change, key) in bad {
        let error = build(VIT, change).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    let (views, device) = (ViewSpec::multi_crop(2, [3, 16, 16], 0, [3, 8, 8]), Device::flex());
    let error = FramesKind::build(&FramesConfig::default(), &BuildContext::new(&views, &device));
    assert!(error.unwrap_err().to_string().contains("2 grid axes"));
}
