//! The fused SIGReg on wgpu, on whatever Vulkan device there is, against the CPU's.
#![cfg(feature = "wgpu")]

use burn::tensor::{Device, DeviceKind, Distribution, Tensor};
use lejepa_core::Seed;
use lejepa_objective::statistics::EppsPulley;
use lejepa_objective::{ObjectiveConfig, Slicing, directions};

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

fn normal(shape: [usize; 3], std: f64) -> Vec<f32> {
    let device = Device::flex();
    device.seed(1);
    let z = Tensor::<3>::random(shape, Distribution::Normal(0.3, std), &device);
    z.into_data().iter::<f32>().collect()
}

/// Value and gradient on a device, by the fused operation or by plain ones.
fn on(
    device: &Device,
    z: &[f32],
    shape: [usize; 3],
    config: &ObjectiveConfig,
    statistic: &EppsPulley,
    plain: bool,
) -> (f64, Vec<f64>) {
    let data = burn::tensor::TensorData::new(z.to_vec(), shape);
    let z = Tensor::<3>::from_data(data, device).require_grad();
    let objective = config.init_with(statistic.clone().into()).unwrap();
    let axes = directions(Slicing::Gaussian, shape[2], config.slices, Seed(3), 0, device);
    let value = if plain {
        objective.sigreg_per_slice(z.clone(), axes).unwrap().mean()
    } else {
        objective.sigreg(z.clone(), axes).unwrap()
    };
    let gradient = z.grad(&(value.clone() * 3.0).backward()).unwrap();
    (values(value)[0], values(gradient))
}

#[track_caller]
fn assert_same(a: &(f64, Vec<f64>), b: &(f64, Vec<f64>), what: &str) {
    assert!((a.0 - b.0).abs() <= 1e-5 * b.0.abs(), "{what}: {} {}", a.0, b.0);
    let scale = b.1.iter().fold(0f64, |m, x| m.max(x.abs())).max(1e-12);
    for (i, (x, y)) in a.1.iter().zip(&b.1).enumerate() {
        assert!((x - y).abs() <= 1e-4 * scale, "{what}, gradient {i}: {x} {y}, scale {scale}");
    }
}

#[test]
fn wgpu_equals_the_cpu() {
    let (cpu, gpu) =
        (Device::flex().autodiff(), Device::wgpu(DeviceKind::DefaultDevice).autodiff());
    for (shape, slices) in [
        ([4, 256, 16], 256),
        ([1, 1, 3], 5),
        ([3, 7, 5], 17),
        ([2, 131, 9], 300),
        ([1, 1500, 8], 40),
        ([5, 2, 1], 1),
    ] {
        for (knots, t_max) in [(17, 3.0), (5, 5.0), (2, 1.0)] {
            let config = ObjectiveConfig { slices, ..Default::default() };
            let statistic = EppsPulley { knots, t_max, ..Default::default() };
            let z = normal(shape, 1.5);
            let [a, b, c] = [(&gpu, false), (&cpu, false), (&gpu, true)]
                .map(|(device, plain)| on(device, &z, shape, &config, &statistic, plain));
            assert_same(&a, &b, &format!("{shape:?} {slices} {knots}, CPU"));
            assert_same(&a, &c, &format!("{shape:?} {slices} {knots}, plain"));
        }
    }
}

#[test]
fn wgpu_stays_finite() {
    let gpu = Device::wgpu(DeviceKind::DefaultDevice).autodiff();
    let (shape, statistic) = ([2, 30, 4], EppsPulley::default());
    let config = ObjectiveConfig { slices: 70, ..Default::default() };
    let mut z = normal(shape, 1.0);
    for outlier in [1e4, -1e8, 1e30] {
        z[7] = outlier;
        let (value, gradient) = on(&gpu, &z, shape, &config, &statistic, false);
        assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()), "{outlier}");
    }
}

/// The size at which the plain path's tensors do not fit on small devices.
#[test]
fn wgpu_takes_a_large_problem() {
    let (cpu, gpu) =
        (Device::flex().autodiff(), Device::wgpu(DeviceKind::DefaultDevice).autodiff());
    let (shape, statistic) = ([2, 512, 64], EppsPulley::default());
    let config = ObjectiveConfig { slices: 512, ..Default::default() };
    let z = normal(shape, 1.0);
    let [a, b] = [&gpu, &cpu].map(|device| on(device, &z, shape, &config, &statistic, false));
    assert_same(&a, &b, "large");
}
