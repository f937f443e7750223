//! Inputs that do not require a gradient.

use burn::tensor::{DType, Device, Tensor};

use super::{
    Leaf, Objective, block_shapes, block_weights, differentiate, leaf_values, leaves, objective,
    sequences,
};
use crate::{
    Activation, BlockShape, ChannelNorm, batch_norm, channel_statistics, conv2d, layer_norm,
    linear, norm_conv2d, transformer_block,
};

/// With each input frozen, and with each input alone trainable: frozen inputs have no gradient, and the
/// gradients of the others have the same bits as if none were frozen.
fn check(name: &str, shapes: &[&[usize]], function: &Objective<'_>) {
    let device = Device::flex().autodiff();
    let values = leaf_values(shapes);
    let run = |device: &Device, tracked: &[bool]| {
        differentiate(&leaves(&values, shapes, tracked, device, DType::F32), function).1
    };
    let count = shapes.len();
    let all = run(&device, &vec![true; count]);
    assert!(all.iter().all(Option::is_some), "{name}");
    for device in [device.clone(), device.gradient_checkpointing()] {
        for i in 0..count {
            for frozen in [true, false] {
                let tracked: Vec<bool> = (0..count).map(|j| (i == j) != frozen).collect();
                if !tracked.contains(&true) {
                    continue;
                }
                let gradients = run(&device, &tracked);
                for (j, gradient) in gradients.into_iter().enumerate() {
                    let want = all[j].clone().filter(|_| tracked[j]);
                    assert!(gradient == want, "{name}: gradient {j} of {tracked:?}");
                }
            }
        }
    }
}

#[test]
fn layers() {
    check("linear", &[&[70, 5], &[5, 7], &[7]], &|leaves| {
        objective(linear(leaves[0].r2(), leaves[1].r2(), leaves[2].r1()))
    });
    check("layer_norm", &[&[70, 5], &[5], &[5]], &|leaves| {
        objective(layer_norm(leaves[0].r2(), leaves[1].r1(), leaves[2].r1(), 1e-5))
    });
}

#[test]
fn block() {
    let shape = BlockShape { width: 12, heads: 3, hidden: 20, epsilon: 1e-5 };
    let sequences = sequences(&[[9, 7], [2, 3]]);
    let shapes = block_shapes(shape, &sequences);
    let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    check("transformer_block", &shapes, &|leaves| {
        let (matrices, vectors) = block_weights(leaves);
        objective(transformer_block(leaves[0].r2(), matrices, vectors, shape, &sequences))
    });
}

#[test]
fn images() {
    let norm = |leaves: &[Leaf], x: &Tensor<4>| ChannelNorm {
        gamma: leaves[0].r1(),
        beta: leaves[1].r1(),
        statistics: channel_statistics(x.clone()),
        batch_statistics: true,
        activation: Activation::Relu,
        epsilon: 1e-5,
    };
    for (input, output) in [(3, 4), (16, 16)] {
        let filters = [output, input, 3, 3];
        let image = [2, 6, 6, input];
        check("conv2d", &[&image, &filters], &|leaves| {
            objective(conv2d(leaves[0].r4(), leaves[1].r4(), 1, 1))
        });
        check("batch_norm", &[&image, &[input], &[input], &image], &|leaves| {
            let x = leaves[0].r4();
            let norm = norm(&leaves[1..], &x);
            objective(batch_norm(x, norm, Some(leaves[3].r4())))
        });
        check("norm_conv2d", &[&image, &[input], &[input], &filters], &|leaves| {
            let x = leaves[0].r4();
            let norm = norm(&leaves[1..], &x);
            objective(norm_conv2d(x, norm, leaves[3].r4(), 1, 1).0)
        });
    }
}
