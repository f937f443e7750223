use lejepa_core::{Encoder, Input};

use super::*;
use crate::vit_config::FeedForward;

fn spec(global: Vec<usize>, local: Vec<usize>) -> ViewSpec {
    ViewSpec::multi_crop(2, global, 1, local)
}

#[test]
fn auto_patch_divides_every_view() {
    for (global, local, want) in [
        (vec![3, 64, 64], vec![3, 32, 32], vec![8, 8]),
        (vec![3, 224, 224], vec![3, 96, 96], vec![16, 16]),
        (vec![1, 64, 96], vec![1, 64, 48], vec![8, 16]),
        (vec![2, 7], vec![2, 7], vec![1]),
    ] {
        let got = VitConfig::default().patch_for(&spec(global.clone(), local)).unwrap();
        assert_eq!(got, want, "{global:?}");
    }
}

#[test]
fn impossible_settings_are_errors() {
    let device = Device::flex();
    let views = spec(vec![3, 32, 32], vec![3, 16, 16]);
    let bad = [
        VitConfig { width: 50, heads: 3, ..Default::default() },
        VitConfig { depth: 0, ..Default::default() },
        VitConfig { patch: vec![5], ..Default::default() },
        VitConfig { patch: vec![8, 8, 8], ..Default::default() },
        VitConfig { patch: vec![0], ..Default::default() },
        VitConfig { drop_path: 1.0, ..Default::default() },
        // Heads of 6, where two axes take pairs for each.
        VitConfig { width: 18, positions: PositionKind::Rope, ..Default::default() },
        VitConfig { drop_tokens: 1.0, ..Default::default() },
    ];
    for config in bad {
        assert!(
            VitKind::build(&config, &BuildContext::new(&views, &device)).is_err(),
            "{config:?}"
        );
    }
}

#[test]
fn dropped_tokens_are_random_and_for_training_only() {
    let config =
        VitConfig { width: 24, depth: 2, heads: 2, drop_tokens: 0.5, ..Default::default() };
    let x = |device: &Device| Tensor::<4>::ones([2, 1, 32, 32], device);
    let device = Device::flex();
    device.seed(5);
    let vit = config.init(1, &[4, 4], &[4, 4], &device).unwrap();
    let first = vit.encode(x(&device)).into_data();
    first.assert_eq(&vit.encode(x(&device)).into_data(), true);
    // 64 patches: 32 stay, others in each view and each pass.
    let learning = device.clone().autodiff();
    let kept = vit.kept([3, 64, 16], &learning).unwrap();
    assert_eq!(kept.dims(), [3, 32]);
    let mut rows: Vec<Vec<i64>> = kept
        .into_data()
        .iter::<i64>()
        .collect::<Vec<_>>()
        .chunks(32)
        .map(<[i64]>::to_vec)
        .collect();
    for row in &mut rows {
        row.sort_unstable();
        row.dedup();
        assert!(row.len() == 32 && row.iter().all(|place| (0..64).contains(place)));
    }
    assert!(rows[0] != rows[1]);
    // A few tokens are never dropped, and nothing is by default.
    assert_eq!(vit.kept([1, 20, 16], &learning).unwrap().dims(), [1, 16]);
    assert!(vit.kept([1, 16, 16], &learning).is_none());
    let all = VitConfig { drop_tokens: 0.0, ..config }.init(1, &[4, 4], &[4, 4], &device).unwrap();
    assert!(all.kept([1, 64, 16], &learning).is_none());
    // The picked tokens are those at their places.
    let tokens = Tensor::<1, Int>::arange(0..12, &device).float().reshape([2, 3, 2]);
    let places = Tensor::<2, Int>::from_ints([[2, 0], [1, 1]], &device);
    let want = Tensor::<1>::from_floats([4., 5., 0., 1., 8., 9., 8., 9.], &device);
    pick(tokens, places).reshape([8]).into_data().assert_eq(&want.into_data(), true);
}

#[test]
fn rotary_positions_tell_places_apart_and_go_with_their_tokens() {
    let device = Device::flex();
    let config = VitConfig {
        width: 24,
        depth: 2,
        heads: 2,
        positions: PositionKind::Rope,
        ..Default::default()
    };
    device.seed(3);
    let vit = config.init(1, &[4, 4], &[4, 4], &device).unwrap();
    // One bright patch, which is the same wherever it is but for its place.
    let at = |row: usize, column: usize| {
        let one = Tensor::<4>::ones([1, 1, 4, 4], &device);
        let range = [0..1, 0..1, 4 * row..4 * row + 4, 4 * column..4 * column + 4];
        let mut x = Tensor::<4>::zeros([1, 1, 16, 16], &device).slice_assign(range, one.clone());
        x = x.slice_assign([0..1, 0..1, 0..4, 0..4], one * 2.0);
        vit.encode(x).try_into_vec_as::<f32>().unwrap()
    };
    let far =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far(&at(1, 2), &at(2, 1)) > 1e-4);
    assert!(far(&at(1, 2), &at(1, 3)) > 1e-4);
    // Tokens that stay keep the angles of their places.
    let places = Tensor::<2, Int>::from_ints([[3, 1, 0, 2], [0, 2, 1, 3]], &device);
    let angles = vit.rotations.get([1, 5, 5], 2, 12, &device, burn::tensor::DType::F32);
    let picked = pick(angles.clone().expand([2, 25, 12]), places).try_into_vec_as::<f32>().unwrap();
    let all = angles.try_into_vec_as::<f32>().unwrap();
    assert_eq!(picked[..12], all[36..48]);
    assert_eq!(picked[4 * 12 + 12..4 * 12 + 24], all[24..36]);
}

#[test]
fn drop_path_is_for_training_only() {
    let device = Device::flex();
    let config = VitConfig { width: 24, depth: 3, heads: 2, drop_path: 0.5, ..Default::default() };
    let vit = config.init(1, &[4], &[16], &device.clone().autodiff()).unwrap();
    let x = Tensor::<3>::random([4, 1, 16], Distribution::Default, &device.clone().autodiff());
    let run = |v: &Vit, x: Tensor<3>| v.encode(x).into_data();
    assert_ne!(run(&vit, x.clone()), run(&vit, x.clone()));
    let calm = vit.valid();
    assert_eq!(run(&calm, x.clone().inner()), run(&calm, x.inner()));
}

#[test]
fn views_of_several_shapes_are_embedded_as_one_shape_at_a_time() {
    let device = Device::flex();
    let (rope, swiglu) = (PositionKind::Rope, FeedForward::Swiglu);
    let base = VitConfig { width: 24, depth: 2, heads: 2, ..Default::default() };
    for config in [
        VitConfig { pool: Pool::Cls, ..base.clone() },
        VitConfig { positions: rope, registers: 2, ..base.clone() },
        VitConfig { mlp: swiglu, pool: Pool::Cls, positions: rope, ..base.clone() },
        base,
    ] {
        let vit = config.init(3, &[4, 4], &[4, 4], &device).unwrap();
        let noise = |shape| Tensor::<4>::random(shape, Distribution::Default, &device);
        let (global, local) = (noise([5, 3, 16, 16]), noise([7, 3, 8, 8]));
        let apart = [vit.encode(global.clone()), vit.encode(local.clone())];
        let together =
            vit.encode_all(vec![Input::new(global), Input::new(local)]).unwrap().into_data();
        let near = burn::tensor::Tolerance::rel_abs(1e-5, 1e-5);
        together.assert_approx_eq::<f32>(&Tensor::cat(apart.to_vec(), 0).into_data(), near);
    }
}

#[test]
fn class_token_and_mean_pool_have_the_same_shape() {
    let device = Device::flex();
    for pool in [Pool::Cls, Pool::Mean] {
        let config = VitConfig { width: 24, depth: 1, heads: 2, pool, ..Default::default() };
        let views = spec(vec![3, 4, 16, 16], vec![3, 2, 8, 8]);
        let e = VitKind::build(&config, &BuildContext::new(&views, &device)).unwrap();
        for shape in [vec![3, 4, 16, 16], vec![3, 2, 8, 8]] {
            let x = Tensor::ones([2, shape.iter().product::<usize>()], &device);
            assert_eq!(e.encode(x, &shape).unwrap().dims(), [2, 24]);
        }
    }
}

#[test]
fn dense_features_are_those_that_are_pooled() {
    let device = Device::flex();
    let x = Tensor::<4>::random([3, 2, 12, 8], Distribution::Default, &device);
    for pool in [Pool::Cls, Pool::Mean] {
        let config = VitConfig { width: 16, depth: 3, heads: 2, pool, ..Default::default() };
        let vit = config.init(2, &[4, 4], &[4, 4], &device).unwrap();
        let wants = Wants::dense().layers([2, 0]);
        let features = Encoder::<4>::features(&vit, Input::new(x.clone()), &wants).unwrap();
        assert_eq!(features.grid, [3, 2]);
        let dense = features.dense.unwrap();
        assert_eq!(dense.dims(), [3, 6, 16]);
        let encoded = vit.encode(x.clone()).into_data();
        features.pooled.into_data().assert_eq(&encoded, true);
        if pool == Pool::Mean {
            let mean = dense.clone().mean_dim(1).squeeze_dim::<2>(1).into_data();
            mean.assert_approx_eq::<f32>(&encoded, burn::tensor::Tolerance::rel_abs(1e-5, 1e-5));
        }
        // The tokens after the last block, which only the norm parts from the dense features.
        let [last, first] = &features.layers[..] else { panic!("two layers") };
        vit.normalize(last.clone()).into_data().assert_eq(&dense.into_data(), true);
        assert_ne!(first.clone().into_data(), last.clone().into_data());
        let beyond = Wants::pooled().layers([3]);
        assert!(Encoder::<4>::features(&vit, Input::new(x.clone()), &beyond).is_err());
        let names = if pool == Pool::Cls { vec!["cls".to_string()] } else { vec![] };
        assert_eq!(Encoder::<4>::undecayed(&vit), names);
    }
}

#[test]
fn padding_does_not_change_an_embedding() {
    let device = Device::flex();
    for pool in [Pool::Cls, Pool::Mean] {
        let config = VitConfig { width: 16, depth: 2, heads: 2, pool, ..Default::default() };
        let vit = config.init(2, &[4], &[16], &device).unwrap();
        let noise = |length| Tensor::<3>::random([1, 2, length], Distribution::Default, &device);
        // One that fills its patches, one that ends within a patch, one longer than whole patches.
        let lengths = [8usize, 5, 14];
        let views = lengths.map(noise);
        let padded = views.clone().map(|view| {
            let [_, _, length] = view.dims();
            let zeros = Tensor::<3>::zeros([1, 2, 14 - length], &device);
            if length == 14 { view } else { Tensor::cat(vec![view, zeros], 2) }
        });
        let of = |n: usize| Tensor::<2, burn::tensor::Int>::from_data([[n as i32]], &device);
        let batch = Tensor::cat(padded.to_vec(), 0);
        let all = Tensor::cat(lengths.map(of).to_vec(), 0);
        let together = vit.encode_all(vec![Input::new(batch).with_lengths(all)]).unwrap();
        for (i, (view, length)) in views.into_iter().zip(lengths).enumerate() {
            let alone = Input::new(view).with_lengths(of(length));
            let alone = vit.encode_all(vec![alone]).unwrap().into_data();
            let row = together.clone().narrow(0, i, 1).into_data();
            row.assert_approx_eq::<f32>(&alone, burn::tensor::Tolerance::rel_abs(1e-5, 1e-5));
        }
    }
}

#[test]
fn causal_patches_do_not_see_later_frames() {
    let device = Device::flex();
    let noise = |frames| Tensor::<5>::random([2, 1, frames, 8, 8], Distribution::Default, &device);
    let start = noise(3);
    let ends = [(); 2].map(|()| Tensor::cat(vec![start.clone(), noise(1)], 2));
    let base = VitConfig { width: 24, depth: 2, heads: 2, registers: 1, ..Default::default() };
    let (cls, rope) = (Pool::Cls, PositionKind::Rope);
    for config in [
        VitConfig { pool: cls, ..base.clone() },
        VitConfig { positions: rope, heads: 4, ..base.clone() },
        base,
    ] {
        let near = burn::tensor::Tolerance::rel_abs(1e-5, 1e-5);
        let features = |causal, clip: &Tensor<5>| {
            device.seed(1);
            let vit = VitConfig { causal, ..config.clone() };
            let vit = vit.init(1, &[1, 4, 4], &[4, 2, 2], &device).unwrap();
            let input = Input::new(clip.clone());
            let features = Encoder::<5>::features(&vit, input, &Wants::dense()).unwrap();
            (features.pooled.into_data(), features.dense.unwrap())
        };
        let [(pooled, a), (other, b)] = [0, 1].map(|i| features(true, &ends[i]));
        let first = |x: &Tensor<3>| x.clone().narrow(1, 0, 12).into_data();
        first(&a).assert_approx_eq::<f32>(&first(&b), near);
        // The class token, or the mean, sees all frames; so do all patches without the mask.
        assert_ne!(pooled, other);
        let [a, b] = [0, 1].map(|i| first(&features(false, &ends[i]).1));
        assert_ne!(a, b);
        // A frame alone attends to all of itself.
        let one = start.clone().narrow(2, 0, 1);
        let [a, b] = [true, false].map(|causal| features(causal, &one).1.into_data());
        a.assert_eq(&b, true);
    }
    let views = spec(vec![3, 16, 16], vec![3, 8, 8]);
    let config = VitConfig { causal: true, ..Default::default() };
    let error = VitKind::build(&config, &BuildContext::new(&views, &device)).unwrap_err();
    assert!(error.to_string().contains("encoder.causal"), "{error}");
}

#[test]
fn causal_attention_knows_which_tokens_were_dropped() {
    let device = Device::flex().autodiff();
    let config = VitConfig {
        width: 16,
        depth: 1,
        heads: 2,
        causal: true,
        drop_tokens: 0.5,
        pool: Pool::Cls,
        ..Default::default()
    };
    let vit = config.init(1, &[1, 2, 2], &[4, 4, 4], &device).unwrap();
    let x = Tensor::<5>::random([3, 1, 4, 8, 8], Distribution::Default, &device);
    let y = vit.encode(x);
    assert_eq!(y.dims(), [3, 16]);
    let gradients = y.sum().backward();
    let gradient = vit.embed.weight.val().grad(&gradients).unwrap();
    assert!(gradient.try_into_vec_as::<f32>().unwrap().iter().all(|g| g.is_finite()));
}
