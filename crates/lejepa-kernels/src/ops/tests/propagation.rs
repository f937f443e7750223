//! NaN and ±∞ against burn's own operations in f32.

use burn::tensor::{DType, Device, Tensor, activation};

use super::{Leaf, block_shapes, block_weights, leaf_values, leaves, sequences, values};
use crate::{
    Activation, BlockShape, ChannelNorm, batch_norm, channel_statistics, conv2d, elementwise,
    layer_norm, linear, reference, transformer_block,
};

const POISONS: [f64; 3] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Nan,
    Infinity,
    NegativeInfinity,
    Finite,
}

fn class(x: f64) -> Class {
    match x {
        x if x.is_nan() => Class::Nan,
        f64::INFINITY => Class::Infinity,
        f64::NEG_INFINITY => Class::NegativeInfinity,
        _ => Class::Finite,
    }
}

/// Poisons an element of each leaf in turn, a leaf in `finite` with NaN only, and compares the class of every
/// output.
fn check<const D: usize>(
    name: &str,
    shapes: &[&[usize]],
    finite: &[usize],
    fused: &dyn Fn(&[Leaf]) -> Tensor<D>,
    reference: &dyn Fn(&[Leaf]) -> Tensor<D>,
    agrees: fn(Class, Class) -> bool,
) {
    let device = Device::flex();
    let clean = leaf_values(shapes);
    for (i, leaf) in clean.iter().enumerate() {
        for at in [0, leaf.len() / 2, leaf.len() - 1] {
            for poison in POISONS {
                if finite.contains(&i) && !poison.is_nan() {
                    continue;
                }
                let mut poisoned = clean.clone();
                poisoned[i][at] = poison;
                let tracked = vec![false; shapes.len()];
                let leaves = leaves(&poisoned, shapes, &tracked, &device, DType::F32);
                let (y, want) = (values(fused(&leaves)), values(reference(&leaves)));
                for (n, (y, want)) in y.into_iter().zip(want).enumerate() {
                    assert!(
                        agrees(class(y), class(want)),
                        "{name}: {poison} at {i}[{at}]: output {n} is {y}, not {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn gelu_of_nan_and_infinity() {
    let special =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e20, -1e20, 100.0, -100.0, 0.0, f32::MAX];
    // Whole vectors and a tail.
    let u = special.repeat(3);
    let (mut y, mut dy, mut again) = (vec![0.0; u.len()], vec![1.0; u.len()], vec![0.0; u.len()]);
    elementwise::gelu(&u, &mut y);
    elementwise::gelu_backward(&u, &mut dy, &mut again);
    let x = Tensor::<1>::from_floats(u.as_slice(), &Device::flex().autodiff()).require_grad();
    let want = activation::gelu(x.clone());
    let want_gradient = x.grad(&want.clone().sum().backward()).unwrap();
    let (want, want_gradient) = (values(want), values(want_gradient));
    for (i, u) in u.iter().enumerate() {
        assert_eq!(class(y[i].into()), class(want[i]), "GELU({u})");
        assert_eq!(class(again[i].into()), class(want[i]), "GELU({u})");
        assert_eq!(class(dy[i].into()), class(want_gradient[i]), "GELU'({u})");
    }
}

#[test]
fn linear_of_nan_and_infinity() {
    for [rows, input, output] in [[1, 1, 1], [11, 19, 5]] {
        let shapes: &[&[usize]] = &[&[rows, input], &[input, output], &[output]];
        check(
            "linear",
            shapes,
            &[],
            &|l| linear(l[0].r2(), l[1].r2(), l[2].r1()),
            &|l| reference::linear(l[0].r2(), l[1].r2(), l[2].r1()),
            |a, b| a == b,
        );
    }
}

#[test]
fn layer_norm_of_nan_and_infinity() {
    for [rows, width] in [[1, 1], [3, 5], [4, 16], [3, 37]] {
        check(
            "layer_norm",
            &[&[rows, width], &[width], &[width]],
            &[],
            &|l| layer_norm(l[0].r2(), l[1].r1(), l[2].r1(), 1e-5),
            &|l| reference::layer_norm(l[0].r2(), l[1].r1(), l[2].r1(), 1e-5),
            |a, b| a == b,
        );
    }
}

/// Poisons reach softmax through queries and keys, the weighted sum through values, and GELU through the
/// perceptron.
#[test]
fn transformer_block_of_nan_and_infinity() {
    for (lengths, width, heads) in [(&[[3, 5], [1, 1], [2, 18]][..], 12, 2), (&[[1, 3]][..], 5, 1)]
    {
        let shape = BlockShape { width, heads, hidden: 2 * width, epsilon: 1e-5 };
        let sequences = sequences(lengths);
        let shapes = block_shapes(shape, &sequences);
        let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        check(
            "transformer_block",
            &shapes,
            &[],
            &|l| {
                let (matrices, vectors) = block_weights(l);
                transformer_block(l[0].r2(), matrices, vectors, shape, &sequences)
            },
            &|l| {
                let (matrices, vectors) = block_weights(l);
                let x = l[0].r2();
                reference::transformer_block(x, matrices, vectors, shape, &sequences, None)
            },
            |a, b| a == b,
        );
    }
}

fn norm(l: &[Leaf], x: &Tensor<4>, batch_statistics: bool) -> ChannelNorm {
    let [_, _, _, channels] = x.dims();
    let statistics = if batch_statistics {
        channel_statistics(x.clone())
    } else {
        Tensor::ones([2, channels], &x.device())
    };
    let (gamma, beta) = (l[0].r1(), l[1].r1());
    let activation = Activation::Relu;
    ChannelNorm { gamma, beta, statistics, batch_statistics, activation, epsilon: 1e-5 }
}

#[test]
fn batch_norm_and_relu_of_nan_and_infinity() {
    for batch_statistics in [false, true] {
        for channels in [1, 5, 19] {
            let image = [2, 3, 4, channels];
            check(
                "batch_norm",
                &[&image, &[channels], &[channels], &image],
                // γ·x and −γ·mean are added separately, so that an infinite γ may give NaN.
                &[1],
                &|l| {
                    let norm = norm(&l[1..], &l[0].r4(), batch_statistics);
                    batch_norm(l[0].r4(), norm, Some(l[3].r4()))
                },
                &|l| {
                    let norm = norm(&l[1..], &l[0].r4(), batch_statistics);
                    reference::batch_norm(l[0].r4(), norm, Some(l[3].r4()))
                },
                |a, b| a == b,
            );
        }
    }
}

#[test]
fn direct_convolution_of_nan_and_infinity() {
    for (kernel, stride) in [(1, 1), (3, 1), (3, 2)] {
        check(
            "conv2d",
            &[&[2, 7, 6, 5], &[4, 5, kernel, kernel]],
            &[],
            &|l| conv2d(l[0].r4(), l[1].r4(), stride, 0),
            &|l| reference::conv2d(l[0].r4(), l[1].r4(), stride, 0),
            |a, b| a == b,
        );
    }
}

/// Winograd's algorithm spreads NaN and ∞ to other outputs of a tile, but does not lose them.
#[test]
fn winograd_convolution_of_nan_and_infinity() {
    check(
        "conv2d",
        &[&[2, 8, 7, 16], &[17, 16, 3, 3]],
        &[],
        &|l| conv2d(l[0].r4(), l[1].r4(), 1, 1),
        &|l| reference::conv2d(l[0].r4(), l[1].r4(), 1, 1),
        |a, b| b == Class::Finite || a != Class::Finite,
    );
}
