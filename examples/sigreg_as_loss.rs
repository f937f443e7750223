//! SIGReg as the only loss: turns an anisotropic cloud of points into an isotropic Gaussian one.
//!
//! `cargo run --release -p lejepa --example sigreg-as-loss`

use burn::module::{Module, Param};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Tensor};
use lejepa::prelude::*;

/// The points themselves are the parameters.
#[derive(Module, Debug)]
struct Points {
    at: Param<Tensor<2>>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex().autodiff();
    device.seed(0);
    let (count, dim) = (256, 8);
    // Off-centre, and stretched fivefold along the first axis.
    let round = Tensor::<2>::random([count, dim], Distribution::Normal(0.0, 1.0), &device);
    let stretch = Tensor::cat(
        vec![Tensor::<2>::full([1, 1], 5.0, &device), Tensor::ones([1, dim - 1], &device)],
        1,
    );
    let mut points = Points { at: Param::from_tensor(round * stretch + 2.0) };

    let objective = ObjectiveConfig::default().init()?;
    println!("SIGReg of a Gaussian cloud: about {:.3}", objective.gauge(1, count, dim).gaussian);
    let mut optimizer: ModuleOptimizer = AdamWConfig::new().with_weight_decay(0.0).init();
    for step in 0..=300 {
        // Few directions are enough, since every step draws new ones.
        let axes = directions(Slicing::Gaussian, dim, 32, Seed(0), step, &device);
        let sigreg = objective.sigreg(points.at.val().unsqueeze::<3>(), axes)?;
        if step % 100 == 0 {
            let std: Vec<f32> = points.at.val().var(0).sqrt().into_data().try_to_vec()?;
            let value: f32 = sigreg.clone().into_scalar();
            println!("step {step:3}  SIGReg {value:8.3}  std of the axes {std:.2?}");
        }
        let gradients = GradientsParams::from_grads(sigreg.backward(), &points);
        points = optimizer.step(0.05, points, gradients);
    }
    Ok(())
}
