//! The fused SIGReg against the path of plain tensor operations.

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use lejepa_core::Seed;
use lejepa_objective::statistics::EppsPulley;
use lejepa_objective::{ObjectiveConfig, Reduction, Slicing, directions, sigreg_plain};
use proptest::prelude::*;

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Value and gradient of the fused and of the plain path.
fn both(z: Tensor<3>, slices: usize, knots: usize, t_max: f64) -> [(f64, Vec<f64>); 2] {
    let device = z.device();
    let [_, _, dim] = z.dims();
    let axes = directions(Slicing::Gaussian, dim, slices, Seed(3), 0, &device);
    let config = ObjectiveConfig { slices, ..ObjectiveConfig::default() };
    let plain = EppsPulley { t_max, knots, ..EppsPulley::default() };
    let objective = config.init_with(plain.clone().into()).unwrap();
    [true, false].map(|fused| {
        let z = z.clone().detach().require_grad();
        let value = if fused {
            objective.sigreg(z.clone(), axes.clone()).unwrap()
        } else {
            // In 64 bits, so that only the fused path's rounding is measured.
            let wide = burn::tensor::FloatDType::F64;
            sigreg_plain(&plain, z.clone().cast(wide), axes.clone().cast(wide))
                .cast(burn::tensor::FloatDType::F32)
        };
        let gradient = z.grad(&(value.clone() * 3.0).backward()).unwrap();
        (values(value)[0], values(gradient))
    })
}

#[track_caller]
fn assert_same([fused, plain]: [(f64, Vec<f64>); 2], what: &str) {
    assert!((fused.0 - plain.0).abs() <= 1e-5 * plain.0.abs(), "{what}: {} {}", fused.0, plain.0);
    let scale = plain.1.iter().fold(0f64, |a, x| a.max(x.abs())).max(1e-12);
    // Where the terms of all knots cancel, what is left is their rounding in 32 bits.
    let rounding = 1e-6 / plain.1.len() as f64;
    for (i, (f, p)) in fused.1.iter().zip(&plain.1).enumerate() {
        let near = (f - p).abs() <= (1e-4 * scale).max(rounding);
        assert!(near, "{what}, gradient {i}: {f} {p}, scale {scale}");
    }
}

fn normal(shape: [usize; 3], std: f64) -> Tensor<3> {
    let device = Device::flex().autodiff();
    device.seed(1);
    Tensor::random(shape, Distribution::Normal(0.3, std), &device)
}

#[test]
fn equals_the_plain_path() {
    for (shape, slices) in [
        ([4, 256, 16], 256),
        ([2, 64, 64], 1024),
        ([1, 1, 3], 5),
        ([3, 7, 5], 17),
        ([2, 131, 9], 300),
        ([1, 1500, 8], 40),
        ([5, 2, 1], 1),
    ] {
        for (knots, t_max) in [(17, 3.0), (5, 5.0), (2, 1.0)] {
            let what = format!("{shape:?} {slices} {knots}");
            assert_same(both(normal(shape, 1.5), slices, knots, t_max), &what);
        }
    }
}

#[test]
fn pooled_views_are_one_sample() {
    let device = Device::flex();
    device.seed(2);
    let z = Tensor::<3>::random([3, 20, 6], Distribution::Normal(0.0, 1.0), &device);
    let axes = directions(Slicing::Gaussian, 6, 30, Seed(0), 0, &device);
    let config = ObjectiveConfig { reduction: Reduction::Pooled, ..Default::default() };
    let fused = config.init().unwrap().sigreg(z.clone(), axes.clone()).unwrap();
    let plain = sigreg_plain(&EppsPulley::default(), z.reshape([1, 60, 6]), axes);
    assert!((values(fused)[0] / values(plain)[0] - 1.0).abs() < 1e-5);
}

#[test]
fn outliers_and_constants_are_finite() {
    let device = Device::flex().autodiff();
    for outlier in [0.0, 1.0, -1e4, 1e4, 1e8, 1e30] {
        let mut data = vec![0.5f32; 12 * 4];
        data[5] = outlier;
        let z = Tensor::<3>::from_data(TensorData::new(data, [1, 12, 4]), &device);
        let [fused, _] = both(z, 33, 17, 3.0);
        assert!(fused.0.is_finite() && fused.0 >= 0.0, "{outlier}: {}", fused.0);
        assert!(fused.1.iter().all(|g| g.is_finite()), "{outlier}");
    }
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let [fused, _] = both(normal([3, 200, 24], 1.0), 500, 17, 3.0);
            let bits: Vec<u64> = fused.1.iter().map(|x| x.to_bits()).collect();
            (fused.0.to_bits(), bits)
        })
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert_eq!(one, run(threads), "{threads} threads");
    }
}

#[test]
fn repeated_calls_reuse_memory_and_agree() {
    // Small after large: what a pooled buffer held before must not show.
    let small = || both(normal([2, 9, 5], 1.0), 20, 17, 3.0)[0].clone();
    let first = small();
    both(normal([4, 300, 32], 2.0), 700, 17, 3.0);
    assert_eq!(first, small());
}

#[test]
fn knots_that_are_not_even_take_the_plain_path() {
    // f64 embeddings, too: the fused operation is for 32 bits.
    let device = Device::flex();
    let z = Tensor::<3>::random([2, 30, 4], Distribution::Normal(0.0, 1.0), &device);
    let wide = z.clone().cast(burn::tensor::FloatDType::F64);
    let axes = directions(Slicing::Gaussian, 4, 10, Seed(0), 0, &device);
    let objective = ObjectiveConfig { slices: 10, ..Default::default() }.init().unwrap();
    let narrow = values(objective.sigreg(z, axes.clone()).unwrap())[0];
    let wide = values(objective.sigreg(wide, axes.cast(burn::tensor::FloatDType::F64)).unwrap())[0];
    assert!((narrow / wide - 1.0).abs() < 1e-5, "{narrow} {wide}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_shape_equals_the_plain_path(
        v in 1usize..4, n in 1usize..70, k in 1usize..20, m in 1usize..90, std in 0.01f64..4.0,
    ) {
        assert_same(both(normal([v, n, k], std), m, 17, 3.0), &format!("{v} {n} {k} {m} {std}"));
    }
}
