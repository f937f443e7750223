use super::*;

fn spec(global: Vec<usize>, local: Vec<usize>) -> ViewSpec {
    ViewSpec::multi_crop(2, global, 1, local)
}

#[test]
fn patches_keep_pixels_together() {
    let device = Device::flex();
    let x = Tensor::<1, burn::tensor::Int>::arange(0..16, &device).float().reshape([1, 1, 1, 4, 4]);
    let p: Vec<f32> = patchify(x, [1, 2, 2]).into_data().try_to_vec().unwrap();
    assert_eq!(p[..4], [0.0, 1.0, 4.0, 5.0]);
    assert_eq!(p[12..], [10.0, 11.0, 14.0, 15.0]);
}

#[test]
fn two_and_three_axes_agree_where_they_should() {
    let device = Device::flex();
    let x = Tensor::<5>::random([2, 3, 4, 4, 6], Distribution::Default, &device);
    let flat = patchify(x.clone(), [1, 2, 3]);
    let frame = patchify(x.narrow(2, 1, 1), [1, 2, 3]);
    // Frame 1 is the second block of 2·2 patches.
    flat.narrow(1, 4, 4).into_data().assert_eq(&frame.into_data(), true);
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
fn positions_differ_and_local_lies_inside_global() {
    let p = sincos_positions([1, 4, 4], 32);
    let rows: Vec<&[f32]> = p.chunks(32).collect();
    for i in 0..16 {
        for j in 0..i {
            assert_ne!(rows[i], rows[j]);
        }
    }
    let local = sincos_positions([1, 2, 2], 32);
    assert_eq!(rows[5], &local[..32]);
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
    ];
    for config in bad {
        assert!(
            VitKind::build(&config, &BuildContext::new(&views, &device)).is_err(),
            "{config:?}"
        );
    }
}

#[test]
fn drop_path_is_for_training_only() {
    let device = Device::flex();
    let config = VitConfig { width: 24, depth: 3, heads: 2, drop_path: 0.5, ..Default::default() };
    let vit = config.init(1, &[4], &device.clone().autodiff());
    let x = Tensor::<3>::random([4, 1, 16], Distribution::Default, &device.clone().autodiff());
    use lejepa_core::Encoder;
    let run = |v: &Vit, x: Tensor<3>| v.encode(x).into_data();
    assert_ne!(run(&vit, x.clone()), run(&vit, x.clone()));
    let calm = vit.valid();
    assert_eq!(run(&calm, x.clone().inner()), run(&calm, x.inner()));
}

#[test]
fn the_fused_block_is_the_plain_one() {
    use burn::optim::GradientsParams;
    let device = Device::flex().autodiff();
    // More samples than one chunk of the fused way holds, more tokens than it takes at once, and samples
    // of several lengths.
    let of = |samples: usize, tokens: usize| Sequences { samples, tokens };
    for (sequences, width, heads, drop_path) in [
        (vec![of(37, 17)], 24, 2, 0.0),
        (vec![of(2, 600)], 16, 4, 0.0),
        (vec![of(2, 1)], 6, 1, 0.0),
        (vec![of(37, 17)], 24, 2, 0.4),
        (vec![of(40, 17), of(3, 60), of(1, 1)], 24, 2, 0.0),
    ] {
        let config = VitConfig { width, depth: 2, heads, drop_path, ..Default::default() };
        let make = |device: &Device| {
            device.seed(7);
            let vit = config.init(1, &[1], device);
            // Weights are drawn when they are first read.
            assert!(vit.blocks.iter().all(|b| b.weights().is_some()));
            vit
        };
        let vit = make(&device);
        // The last one, which drops most.
        let block = &vit.blocks[1];
        let rows = sequences.iter().map(|of| of.samples * of.tokens).sum();
        let noise = || Tensor::<2>::random([rows, width], Distribution::Default, &device);
        let (x, weight) = (noise().require_grad(), noise());
        let spare = device.clone().gradient_checkpointing();
        let spared = make(&spare);
        let [plain, fused, spared] = [0, 1, 2].map(|way| {
            let (x, block) = match way {
                2 => (Tensor::from_data(x.to_data(), &spare).require_grad(), &spared.blocks[1]),
                _ => (x.clone(), block),
            };
            device.seed(11);
            let y = if way == 0 {
                let parts = parted(x.clone(), &sequences).into_iter();
                joined(parts.map(|x| block.forward_plain(x)).collect()).0
            } else {
                block.forward_fused(x.clone(), block.weights().unwrap(), &sequences)
            };
            let weight = Tensor::from_data(weight.to_data(), &x.device());
            let mut gradients = (y.clone() * weight).sum().backward();
            let dx = x.grad_remove(&mut gradients).unwrap().into_data();
            let gradients = GradientsParams::from_grads(gradients, block);
            assert_eq!(gradients.len(), 12);
            let mut all = vec![y.into_data(), dx];
            for layer in [&block.attention.qkv, &block.attention.out, &block.up, &block.down] {
                all.push(gradients.get::<2>(layer.weight.id).unwrap().into_data());
                all.push(gradients.get::<1>(layer.bias.as_ref().unwrap().id).unwrap().into_data());
            }
            for norm in [&block.norm1, &block.norm2] {
                all.push(gradients.get::<1>(norm.gamma.id).unwrap().into_data());
                all.push(gradients.get::<1>(norm.beta.as_ref().unwrap().id).unwrap().into_data());
            }
            all
        });
        for ((plain, fused), spared) in plain.iter().zip(&fused).zip(&spared) {
            fused.assert_approx_eq::<f32>(plain, burn::tensor::Tolerance::rel_abs(1e-4, 1e-4));
            fused.assert_eq(spared, true);
        }
    }
}

#[test]
fn views_of_several_shapes_are_embedded_as_by_themselves() {
    use lejepa_core::{Encoder, Input};
    let device = Device::flex();
    for pool in [Pool::Cls, Pool::Mean] {
        let config = VitConfig { width: 24, depth: 2, heads: 2, pool, ..Default::default() };
        let vit = config.init(3, &[4, 4], &device);
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
