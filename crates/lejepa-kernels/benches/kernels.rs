//! `cargo bench --package lejepa-kernels`: forward and backward pass of every operation on the CPU, with
//! multiplications or elements per second.

use burn::tensor::{Device, Distribution, Tensor};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use lejepa_kernels::{
    Activation, AdamWStep, BlockShape, ChannelNorm, Matrix, Precision, Sequences, adamw,
    batch_norm, channel_statistics, conv2d, layer_norm, product, transformer_block,
};

fn main() {
    divan::main();
}

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

fn noise<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 0.1), device)
}

/// A product on one thread, `[m, n, k]`: of plain operands, and with the left or the right one transposed as in
/// the backward pass of a layer.
#[divan::bench(
    consts = [0, 1, 2],
    args = [(512, 192, 192), (512, 768, 192), (784, 384, 384), (784, 1536, 384), (196, 64, 196)],
)]
fn products<const TRANSPOSED: usize>(bencher: Bencher<'_, '_>, shape: &(usize, usize, usize)) {
    one_product(bencher, *shape, TRANSPOSED, Precision::F32);
}

/// The same in bf16.
#[divan::bench(
    consts = [0, 1, 2],
    args = [(512, 192, 192), (512, 768, 192), (784, 384, 384), (784, 1536, 384), (196, 64, 196)],
)]
fn products_bf16<const TRANSPOSED: usize>(bencher: Bencher<'_, '_>, shape: &(usize, usize, usize)) {
    one_product(bencher, *shape, TRANSPOSED, Precision::Bf16);
}

fn one_product(
    bencher: Bencher<'_, '_>,
    (m, n, k): (usize, usize, usize),
    transposed: usize,
    precision: Precision,
) {
    let fill = |n: usize| (0..n).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>();
    let (a, b, mut c) = (fill(m * k), fill(k * n), vec![0.0; m * n]);
    let left = if transposed == 1 { Matrix::rows(&a, m).transposed() } else { Matrix::rows(&a, k) };
    let right =
        if transposed == 2 { Matrix::rows(&b, k).transposed() } else { Matrix::rows(&b, n) };
    bencher.counter(ItemsCount::new(m * n * k)).bench_local(|| {
        product(&mut c, n, false, left, right, [m, n, k], precision);
        black_box(&c);
    });
}

/// A block of ViT-Ti on 32 views of 64 tokens, and of ViT-S on 4 views of 196.
#[divan::bench(
    consts = [0, 1],
    args = [(32, 64, 192, 3), (4, 196, 384, 6)],
)]
fn block<const BF16: usize>(
    bencher: Bencher<'_, '_>,
    &(samples, tokens, width, heads): &(usize, usize, usize, usize),
) {
    let device = Device::flex().autodiff();
    let hidden = 4 * width;
    let shape = BlockShape { width, heads, hidden, epsilon: 1e-5 };
    let matrices = [[width, 3 * width], [width, width], [width, hidden], [hidden, width]]
        .map(|shape| noise(shape, &device).require_grad());
    let vectors = [width, width, 3 * width, width, width, width, hidden, width]
        .map(|n| noise([n], &device).require_grad());
    let x = noise([samples * tokens, width], &device).require_grad();
    let sequences = [Sequences { samples, tokens }];
    let multiplications = samples * tokens * (12 * width * width + 2 * tokens * width) * 3;
    bencher.counter(ItemsCount::new(multiplications)).bench_local(|| {
        PRECISIONS[BF16].scope(|| {
            let y =
                transformer_block(x.clone(), matrices.clone(), vectors.clone(), shape, &sequences);
            black_box(y.sum().backward())
        })
    });
}

/// A convolution of ResNet-18 on 8 images: batch, side, input, output and stride.
#[divan::bench(
    consts = [0, 1],
    args = [(8, 64, 64, 64, 1), (8, 64, 64, 128, 2), (8, 32, 128, 128, 1), (8, 8, 512, 512, 1)],
)]
fn convolution<const BF16: usize>(
    bencher: Bencher<'_, '_>,
    &(batch, side, input, output, stride): &(usize, usize, usize, usize, usize),
) {
    let device = Device::flex().autodiff();
    let x = noise([batch, side, side, input], &device).require_grad();
    let filters = noise([output, input, 3, 3], &device).require_grad();
    let positions = (side / stride).pow(2);
    bencher.counter(ItemsCount::new(batch * positions * 9 * input * output * 3)).bench_local(
        || {
            PRECISIONS[BF16]
                .scope(|| black_box(conv2d(x.clone(), filters.clone(), stride, 1).sum().backward()))
        },
    );
}

/// Batch norm, residual and ReLU on images of the first stage of ResNet-18.
#[divan::bench]
fn batch_norm_residual_relu(bencher: Bencher<'_, '_>) {
    let device = Device::flex().autodiff();
    let x = noise([8, 64, 64, 64], &device).require_grad();
    let residual = noise([8, 64, 64, 64], &device).require_grad();
    let (gamma, beta) = (noise([64], &device).require_grad(), noise([64], &device));
    bencher.counter(ItemsCount::new(8usize * 64 * 64 * 64)).bench_local(|| {
        let statistics = channel_statistics(x.clone());
        let norm = ChannelNorm {
            gamma: gamma.clone(),
            beta: beta.clone(),
            statistics,
            batch_statistics: true,
            activation: Activation::Relu,
            epsilon: 1e-5,
        };
        black_box(batch_norm(x.clone(), norm, Some(residual.clone())).sum().backward())
    });
}

/// Layer norm of 8192 rows of 192.
#[divan::bench]
fn layer_norm_rows(bencher: Bencher<'_, '_>) {
    let device = Device::flex().autodiff();
    let x = noise([8192, 192], &device).require_grad();
    let (gamma, beta) = (noise([192], &device).require_grad(), noise([192], &device));
    bencher.counter(ItemsCount::new(8192usize * 192)).bench_local(|| {
        black_box(layer_norm(x.clone(), gamma.clone(), beta.clone(), 1e-5).sum().backward())
    });
}

/// AdamW on ten million parameters.
#[divan::bench]
fn adamw_step(bencher: Bencher<'_, '_>) {
    const N: usize = 10_000_000;
    let step =
        AdamWStep { lr: 1e-3, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.05, time: 3 };
    let [mut w, mut m, mut v] = [0.5, 0.1, 0.2].map(|x| vec![x; N]);
    let g = vec![0.3; N];
    bencher
        .counter(ItemsCount::new(N))
        .bench_local(|| adamw(step, black_box(&mut w), &g, &mut m, &mut v));
}
