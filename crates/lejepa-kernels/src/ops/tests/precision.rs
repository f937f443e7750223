//! bf16 against f32, and results for any number of threads.

use burn::tensor::{DType, Device, Tensor};

use super::{
    Leaf, Objective, block_shapes, block_weights, differentiate, leaf_values, leaves, objective,
    sequences,
};
use crate::gemm::tests::has_bf16;
use crate::{
    Activation, BlockShape, ChannelNorm, Precision, batch_norm, channel_statistics, conv2d,
    norm_conv2d, reference, transformer_block,
};

fn run(shapes: &[&[usize]], function: &Objective<'_>) -> Vec<Vec<f64>> {
    let device = Device::flex().autodiff();
    let tracked = vec![true; shapes.len()];
    let leaves = leaves(&leaf_values(shapes), shapes, &tracked, &device, DType::F32);
    let (_, gradients) = differentiate(&leaves, function);
    gradients.into_iter().map(Option::unwrap).collect()
}

/// Where this processor has bf16.
fn check_bf16(name: &str, shapes: &[&[usize]], tolerance: f64, function: &Objective<'_>) {
    if has_bf16() {
        check_narrow(name, shapes, tolerance, function);
    }
}

/// Gradients in bf16 differ from those in f32, by at most `tolerance` of their norm.
fn check_narrow(name: &str, shapes: &[&[usize]], tolerance: f64, function: &Objective<'_>) {
    let want = run(shapes, function);
    let gradients = Precision::Bf16.scope(|| run(shapes, function));
    assert_ne!(gradients, want, "{name}: bf16 was not used");
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    for (i, (gradient, want)) in gradients.iter().zip(&want).enumerate() {
        let error = norm(&mut gradient.iter().zip(want).map(|(a, b)| a - b));
        let size = norm(&mut want.iter().copied());
        assert!(error <= tolerance * size, "{name}: gradient {i}: error {error} of {size}");
    }
}

fn block(check: impl Fn(&str, &[&[usize]], &Objective<'_>)) {
    let shape = BlockShape { width: 48, heads: 3, hidden: 80, epsilon: 1e-5 };
    let sequences = sequences(&[[33, 17], [2, 40]]);
    let shapes = block_shapes(shape, &sequences);
    let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    check("transformer_block", &shapes, &|leaves| {
        let (matrices, vectors) = block_weights(leaves);
        objective(transformer_block(leaves[0].r2(), matrices, vectors, shape, &sequences))
    });
}

fn convolutions(check: impl Fn(&str, &[&[usize]], &Objective<'_>)) {
    let norm = |leaves: &[Leaf], x: &Tensor<4>| ChannelNorm {
        gamma: leaves[0].r1(),
        beta: leaves[1].r1(),
        statistics: channel_statistics(x.clone()),
        batch_statistics: true,
        activation: Activation::Relu,
        epsilon: 1e-5,
    };
    for (input, output, stride) in [(5, 7, 2), (16, 20, 1)] {
        let (image, filters) = ([3, 9, 8, input], [output, input, 3, 3]);
        check("conv2d", &[&image, &filters], &|leaves| {
            objective(conv2d(leaves[0].r4(), leaves[1].r4(), stride, 1))
        });
        check("norm_conv2d", &[&image, &[input], &[input], &filters, &image], &|leaves| {
            let x = leaves[0].r4();
            let first = norm(&leaves[1..], &x);
            let y = norm_conv2d(x.clone(), first, leaves[3].r4(), stride, 1).0;
            let second = norm(&leaves[1..], &x);
            objective(y) + objective(batch_norm(x, second, Some(leaves[4].r4())))
        });
    }
}

#[test]
fn bf16_transformer_block() {
    block(|name, shapes, function| check_bf16(name, shapes, 0.05, function));
}

/// Where rounding changes a ReLU mask, an element of the gradient passes or vanishes.
#[test]
fn bf16_convolutions() {
    convolutions(|name, shapes, function| check_bf16(name, shapes, 0.2, function));
}

/// As on graphics cards.
#[test]
fn bf16_products_of_burns_own() {
    check_narrow("linear", &[&[11, 19], &[19, 5], &[5]], 0.01, &|l| {
        objective(reference::linear(l[0].r2(), l[1].r2(), l[2].r1()))
    });
    check_narrow("conv2d", &[&[3, 9, 8, 5], &[7, 5, 3, 3]], 0.01, &|l| {
        objective(reference::conv2d(l[0].r4(), l[1].r4(), 2, 1))
    });
    let shape = BlockShape { width: 48, heads: 3, hidden: 80, epsilon: 1e-5 };
    let sequences = sequences(&[[33, 17], [2, 40]]);
    let shapes = block_shapes(shape, &sequences);
    let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    check_narrow("transformer_block", &shapes, 0.05, &|l| {
        let (matrices, vectors) = block_weights(l);
        let x = l[0].r2();
        objective(reference::transformer_block(x, matrices, vectors, shape, &sequences, None))
    });
}

#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    let check = |name: &str, shapes: &[&[usize]], function: &Objective<'_>| {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(shapes, function))
        };
        assert!(on(1) == on(3), "{name}");
    };
    block(check);
    convolutions(check);
}
