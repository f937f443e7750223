//! `cargo bench --workspace --bench sigreg`: SIGReg, its statistics and its directions on the CPU.

use burn::tensor::{Device, Distribution, Tensor};
use divan::{Bencher, black_box};
use lejepa_core::{Registry, Seed, kind};
use lejepa_objective::{Objective, ObjectiveConfig, Slicing, directions};

fn main() {
    divan::main();
}

fn normal(shape: [usize; 3]) -> Tensor<3> {
    let device = Device::flex().autodiff();
    device.seed(0);
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device)
}

fn forward_and_backward(bencher: Bencher<'_, '_>, objective: &Objective, shape: [usize; 3]) {
    let z = normal(shape);
    let axes = objective.axes(&z, Seed(0), 0);
    bencher.bench_local(|| {
        let z = z.clone().require_grad();
        let value = objective.sigreg(z.clone(), axes.clone()).expect("finite embeddings");
        black_box(z.grad(&value.backward()))
    });
}

/// Views, samples, dimensions, slices.
#[divan::bench(args = [[4, 256, 16, 256], [8, 128, 64, 1024], [2, 1024, 512, 1024]])]
fn fused(bencher: Bencher<'_, '_>, [v, n, k, m]: [usize; 4]) {
    let config = ObjectiveConfig { slices: m, ..Default::default() };
    forward_and_backward(bencher, &config.init().expect("defaults"), [v, n, k]);
}

/// Every registered statistic on 2 views of 128 samples in 32 dimensions, 128 slices.
#[divan::bench(args = Registry::discover().expect("unique names").all::<kind::Statistic>().map(|s| s.meta().name).collect::<Vec<_>>())]
fn statistic(bencher: Bencher<'_, '_>, name: &str) {
    let registry = Registry::discover().expect("unique names");
    let entry = registry.find::<kind::Statistic>(name, None).expect("a known name");
    let statistic = entry.meta().defaults().and_then(|d| (entry.build())(&d)).expect("defaults");
    let config = ObjectiveConfig { slices: 128, ..Default::default() };
    let objective = config.init_with(statistic).expect("defaults");
    forward_and_backward(bencher, &objective, [2, 128, 32]);
}

/// 1024 directions in 64 dimensions.
#[divan::bench(args = [Slicing::Gaussian, Slicing::Sobol, Slicing::Orthogonal])]
fn drawing(bencher: Bencher<'_, '_>, slicing: &Slicing) {
    let device = Device::flex();
    bencher.bench_local(|| black_box(directions(*slicing, 64, 1024, Seed(0), 0, &device)));
}
