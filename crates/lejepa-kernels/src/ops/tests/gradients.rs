//! Values and gradients against the reference in f64, and gradients against its finite differences.

use burn::tensor::{DType, Device, Tensor};

use super::{
    Leaf, Objective, block_shapes, block_weights, differentiate, leaf_values, leaves, objective,
    sequences,
};
use crate::{
    Activation, BlockShape, ChannelNorm, batch_norm, channel_statistics, conv2d,
    conv2d_with_statistics, layer_norm, linear, norm_conv2d, transformer_block,
    transformer_block_drop_path,
};

/// Elements of each leaf whose gradient is compared with a difference quotient.
const PROBES: usize = 3;

fn assert_close(name: &str, values: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(values.len(), want.len(), "{name}");
    let size = want.iter().fold(1.0, |max: f64, x| max.max(x.abs()));
    for (i, (value, want)) in values.iter().zip(want).enumerate() {
        let error = (value - want).abs();
        assert!(error <= tolerance * size, "{name}[{i}]: {value}, not {want}");
    }
}

/// Compares the fused operation with the reference, with and without gradient checkpointing.
fn check(name: &str, shapes: &[&[usize]], function: &Objective<'_>) {
    let device = Device::flex().autodiff();
    let values = leaf_values(shapes);
    let tracked = vec![true; shapes.len()];
    let run = |values: &[Vec<f64>], device: &Device, dtype| {
        differentiate(&leaves(values, shapes, &tracked, device, dtype), function)
    };
    let (value, gradients) = run(&values, &device, DType::F32);
    let (want, want_gradients) = run(&values, &device, DType::F64);
    assert_close(name, &[value], &[want], 2e-4);
    for (i, (gradient, want)) in gradients.iter().zip(&want_gradients).enumerate() {
        let name = format!("{name}: gradient {i}");
        assert_close(&name, gradient.as_ref().unwrap(), want.as_ref().unwrap(), 2e-4);
    }

    let checkpointing = device.clone().gradient_checkpointing();
    let again = run(&values, &checkpointing, DType::F32);
    assert_eq!(again, (value, gradients.clone()), "{name}: with gradient checkpointing");

    // Small enough that hardly any ReLU changes its state.
    const STEP: f64 = 1e-6;
    for (i, gradient) in gradients.iter().enumerate() {
        let gradient = gradient.as_ref().unwrap();
        let size = gradient.iter().fold(1.0, |max: f64, x| max.max(x.abs()));
        for probe in 0..PROBES.min(gradient.len()) {
            let at = (probe * 7919 + 3) % gradient.len();
            let shifted = |step: f64| {
                let mut values = values.clone();
                values[i][at] += step;
                let leaves = leaves(&values, shapes, &tracked, &device, DType::F64);
                super::values(function(&leaves))[0]
            };
            let quotient = (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP);
            let error = (gradient[at] - quotient).abs();
            let message = format!("{name}: gradient {i}[{at}] is {}, not {quotient}", gradient[at]);
            assert!(error <= 1e-3 * size, "{message}");
        }
    }
}

#[test]
fn linear_of_ragged_sizes() {
    for [rows, input, output] in [[1, 1, 1], [13, 7, 5], [600, 33, 20], [2, 130, 16]] {
        let shapes: &[&[usize]] = &[&[rows, input], &[input, output], &[output]];
        check(&format!("{shapes:?}"), shapes, &|leaves| {
            objective(linear(leaves[0].r2(), leaves[1].r2(), leaves[2].r1()))
        });
    }
    check("rank 3", &[&[3, 5, 7], &[7, 2], &[2]], &|leaves| {
        objective(linear(leaves[0].r3(), leaves[1].r2(), leaves[2].r1()))
    });
}

/// Large enough for Strassen's algorithm, in both passes and for the gradient of the weight.
#[test]
fn linear_with_strassen() {
    let shapes: &[&[usize]] = &[&[150, 128], &[128, 192], &[192]];
    check("128 to 192", shapes, &|leaves| {
        objective(linear(leaves[0].r2(), leaves[1].r2(), leaves[2].r1()))
    });
}

#[test]
fn layer_norm_of_ragged_sizes() {
    for [rows, width] in [[1, 1], [1, 16], [3, 5], [515, 37]] {
        let shapes: &[&[usize]] = &[&[rows, width], &[width], &[width]];
        check(&format!("{shapes:?}"), shapes, &|leaves| {
            objective(layer_norm(leaves[0].r2(), leaves[1].r1(), leaves[2].r1(), 1e-5))
        });
    }
}

/// Samples of one token, more samples than a chunk holds, more tokens than a block of queries, and mixed lengths.
const BLOCKS: [(&[[usize; 2]], usize, usize, usize); 5] = [
    (&[[2, 1]], 6, 1, 5),
    (&[[1, 3]], 5, 1, 7),
    (&[[37, 17]], 24, 2, 40),
    (&[[1, 600]], 16, 2, 20),
    (&[[40, 17], [3, 60], [1, 1]], 24, 2, 50),
];

#[test]
fn transformer_block_of_ragged_sizes() {
    for (lengths, width, heads, hidden) in BLOCKS {
        let shape = BlockShape { width, heads, hidden, epsilon: 1e-5 };
        let sequences = sequences(lengths);
        let shapes = block_shapes(shape, &sequences);
        let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        check(&format!("{lengths:?}, width {width}"), &shapes, &|leaves| {
            let (matrices, vectors) = block_weights(leaves);
            objective(transformer_block(leaves[0].r2(), matrices, vectors, shape, &sequences))
        });
    }
}

#[test]
fn transformer_block_with_drop_path() {
    for (lengths, width, heads, hidden) in [BLOCKS[2], BLOCKS[4]] {
        let shape = BlockShape { width, heads, hidden, epsilon: 1e-5 };
        let sequences = sequences(lengths);
        let samples: usize = sequences.iter().map(|s| s.samples).sum();
        let shapes = block_shapes(shape, &sequences);
        let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        check(&format!("{lengths:?}, width {width}"), &shapes, &|leaves| {
            let x = leaves[0].r2();
            let scale = |dropped: usize| {
                let scale = |i: usize| if i % 3 == dropped { 0.0 } else { 1.5 };
                let scales: Vec<f64> = (0..samples).map(scale).collect();
                Leaf::new(&scales, &[samples], &x.device(), x.dtype()).r1()
            };
            let (scales, (matrices, vectors)) = ([scale(0), scale(1)], block_weights(leaves));
            objective(transformer_block_drop_path(
                x.clone(),
                matrices,
                vectors,
                shape,
                &sequences,
                scales,
            ))
        });
    }
}

/// `[batch, height, width, input, output, kernel, stride, pad]`: strides, kernels of all sizes, no padding, odd
/// sizes, and channels for which Winograd's algorithm is profitable.
const CONVOLUTIONS: [[usize; 8]; 9] = [
    [1, 4, 4, 1, 1, 1, 1, 0],
    [3, 9, 6, 5, 7, 3, 1, 1],
    [2, 9, 6, 5, 7, 3, 2, 1],
    [2, 8, 8, 3, 4, 3, 3, 1],
    [2, 5, 5, 3, 4, 5, 2, 2],
    [2, 7, 7, 4, 3, 1, 2, 0],
    [1, 3, 3, 2, 2, 3, 1, 0],
    [3, 8, 7, 16, 20, 3, 1, 1],
    [1, 6, 6, 33, 16, 3, 1, 0],
];

#[test]
fn convolutions_of_ragged_sizes() {
    for [batch, height, width, input, output, kernel, stride, pad] in CONVOLUTIONS {
        let shapes: &[&[usize]] =
            &[&[batch, height, width, input], &[output, input, kernel, kernel]];
        check(&format!("{shapes:?}, stride {stride}, pad {pad}"), shapes, &|leaves| {
            objective(conv2d(leaves[0].r4(), leaves[1].r4(), stride, pad))
        });
    }
}

#[test]
fn statistics_of_convolutions_are_those_of_their_output() {
    let device = Device::flex();
    for [batch, height, width, input, output, kernel, stride, pad] in CONVOLUTIONS {
        let shapes: &[&[usize]] =
            &[&[batch, height, width, input], &[output, input, kernel, kernel]];
        let values = leaf_values(shapes);
        for dtype in [DType::F32, DType::F64] {
            let leaves = leaves(&values, shapes, &[false; 2], &device, dtype);
            let (x, filters) = (leaves[0].r4(), leaves[1].r4());
            let (y, statistics) = conv2d_with_statistics(x, filters, stride, pad);
            let want = super::values(channel_statistics(y));
            assert_close(&format!("{shapes:?}"), &super::values(statistics), &want, 1e-5);
        }
    }
}

fn norm(leaves: &[Leaf], x: &Tensor<4>, batch_statistics: bool, relu: bool) -> ChannelNorm {
    let [_, _, _, channels] = x.dims();
    let statistics = if batch_statistics {
        channel_statistics(x.clone())
    } else {
        let row: Vec<f64> = (0..2 * channels).map(|i| 0.2 + 0.1 * i as f64).collect();
        Leaf::new(&row, &[2, channels], &x.device(), x.dtype()).r2()
    };
    let (gamma, beta) = (leaves[0].r1(), leaves[1].r1());
    let activation = if relu { Activation::Relu } else { Activation::None };
    ChannelNorm { gamma, beta, statistics, batch_statistics, activation, epsilon: 1e-5 }
}

#[test]
fn batch_norm_of_ragged_sizes() {
    for [batch, height, width, channels] in [[1, 1, 2, 3], [2, 3, 5, 17], [3, 10, 11, 5]] {
        let image = [batch, height, width, channels];
        let shapes: &[&[usize]] = &[&image, &[channels], &[channels], &image];
        for setting in 0..8 {
            let [batch_statistics, relu, has_residual] = [1, 2, 4].map(|bit| setting & bit != 0);
            // Leaves that an objective ignores have no gradient.
            let shapes = if has_residual { shapes } else { &shapes[..3] };
            check(&format!("{shapes:?}, setting {setting}"), shapes, &|leaves| {
                let x = leaves[0].r4();
                let norm = norm(&leaves[1..], &x, batch_statistics, relu);
                objective(batch_norm(x, norm, leaves.get(3).map(Leaf::r4)))
            });
        }
    }
}

#[test]
fn norm_conv2d_of_ragged_sizes() {
    for [input, output] in [[5, 7], [16, 20]] {
        let shapes: &[&[usize]] = &[&[3, 8, 5, input], &[input], &[input], &[output, input, 3, 3]];
        for setting in 0..4 {
            let [batch_statistics, relu] = [1, 2].map(|bit| setting & bit != 0);
            check(&format!("{shapes:?}, setting {setting}"), shapes, &|leaves| {
                let x = leaves[0].r4();
                let norm = norm(&leaves[1..], &x, batch_statistics, relu);
                let (y, statistics) = norm_conv2d(x, norm, leaves[3].r4(), 1, 1);
                assert_eq!(statistics.is_some(), batch_statistics);
                objective(y)
            });
        }
    }
}
