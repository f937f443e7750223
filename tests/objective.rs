//! What each of the two terms does to a model alone: SIGReg makes embeddings Gaussian, prediction
//! alone makes them collapse.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor};
use lejepa::prelude::*;

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
