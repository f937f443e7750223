//! What each of the two terms does to a model alone: SIGReg makes embeddings Gaussian, prediction
//! alone makes them collapse; and what coarse products leave of SIGReg.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use lejepa::prelude::*;
use lejepa_objective::{Slicing, directions};

#[derive(Module, Debug)]
struct Small {
    linear: Linear,
    projector: Projector,
}

impl Small {
    fn init(device: &Device) -> Self {
        device.seed(0);
        Self {
            linear: LinearConfig::new(12, 32).init(device),
            projector: ProjectorConfig { hidden: 64, output: 8, layers: 3 }
                .init(32, device)
                .unwrap(),
        }
    }

    fn project(&self, x: Tensor<3>) -> Tensor<3> {
        let [v, n, d] = x.dims();
        let z = self.projector.forward(relu(self.linear.forward(x.reshape([v * n, d]))));
        let [_, k] = z.dims();
        z.reshape([v, n, k])
    }
}

const SAMPLES: usize = 128;

/// Three noisy looks at samples that fill the space unevenly.
fn views(device: &Device) -> Tensor<3> {
    let base = Tensor::<3>::random([1, SAMPLES, 12], Distribution::Uniform(-1.0, 1.0), device);
    let noise = Tensor::<3>::random([3, SAMPLES, 12], Distribution::Normal(0.0, 0.2), device);
    base.expand([3, SAMPLES, 12]) + noise
}

fn loss(objective: &Objective, z: Tensor<3>, step: u64) -> Losses {
    let prediction = prediction_loss(z.clone(), &[0, 1], Centre::Targets).unwrap();
    objective.loss(z, prediction, Seed(0), step).unwrap()
}

/// SIGReg of the last step and the mean over the last 20, of a model trained with this λ.
fn train(lambda: f64, steps: u64) -> (f64, f64) {
    let device = Device::flex().autodiff();
    let objective = ObjectiveConfig { lambda, slices: 128, ..Default::default() }.init().unwrap();
    let mut model = Small::init(&device);
    let mut optimizer: ModuleOptimizer = AdamWConfig::new().with_weight_decay(0.0).init();
    let mut trail = Vec::new();
    for step in 0..steps {
        let losses = loss(&objective, model.project(views(&device)), step);
        let sigreg = losses.term("sigreg").unwrap().clone();
        trail.push(sigreg.into_scalar::<f32>() as f64);
        let gradients = GradientsParams::from_grads(losses.total.backward(), &model);
        model = optimizer.step(3e-3, model, gradients);
    }
    let tail = &trail[trail.len() - 20..];
    (trail[0], tail.iter().sum::<f64>() / 20.0)
}

#[test]
fn sigreg_alone_reaches_the_gaussian_expectation() {
    let (first, last) = train(1.0, 300);
    assert!(first > 3.0, "the start is already Gaussian: {first}");
    // 1.0525 is the expectation for fresh Gaussian samples; a mean of 20 steps scatters by 0.03.
    assert!(last < 1.0525 + 0.15, "SIGReg {last}");
}

#[test]
fn prediction_alone_collapses() {
    let (_, last) = train(0.0, 300);
    let collapsed = 0.40204757973166455 * SAMPLES as f64;
    assert!((last / collapsed - 1.0).abs() < 0.05, "SIGReg {last}, total collapse {collapsed}");
}

/// The nearest number with ten bits of mantissa, as the tensor cores of CUDA round factors of f32 (TF32).
fn to_ten_bits(x: f32) -> f32 {
    f32::from_bits((x.to_bits() + 0x1000) & !0x1fff)
}

#[test]
fn factors_of_ten_bits_leave_sigreg_and_its_gradient() {
    let device = Device::flex().autodiff();
    device.seed(1);
    for [views, samples, dim, slices] in [[6, 64, 64, 256], [4, 256, 128, 512]] {
        let objective = ObjectiveConfig { slices, ..Default::default() }.init().unwrap();
        let shape = [views, samples, dim];
        let z = Tensor::<3>::random(shape, Distribution::Normal(0.3, 1.2), &device);
        let axes = directions(Slicing::Gaussian, dim, slices, Seed(0), 0, &device);
        let sigreg = |rounded: bool| {
            let round = |values: Vec<f32>| -> Vec<f32> {
                values.into_iter().map(|x| if rounded { to_ten_bits(x) } else { x }).collect()
            };
            let of_z = round(z.clone().try_into_vec_as::<f32>().unwrap());
            let of_axes = round(axes.clone().try_into_vec_as::<f32>().unwrap());
            let z = Tensor::<3>::from_data(TensorData::new(of_z, shape), &device).require_grad();
            let axes = Tensor::from_data(TensorData::new(of_axes, [dim, slices]), &device);
            let value = objective.sigreg(z.clone(), axes).unwrap();
            let gradient = z.grad(&value.clone().backward()).unwrap();
            (value.into_scalar::<f32>(), gradient.try_into_vec_as::<f32>().unwrap())
        };
        let ((exact, gradient), (rounded, other)) = (sigreg(false), sigreg(true));
        assert_ne!(exact, rounded);
        assert!((rounded / exact - 1.0).abs() < 1e-3, "{exact} {rounded}");
        let norm =
            |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
        let apart = norm(&mut gradient.iter().zip(&other).map(|(a, b)| a - b));
        let whole = norm(&mut gradient.iter().copied());
        assert!(apart / whole < 2e-3, "{apart} {whole}");
    }
}
