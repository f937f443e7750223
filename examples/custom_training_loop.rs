//! The objective in a custom training loop, with a custom model and custom data: burn and
//! `lejepa-objective`, without the trainer and without a modality.
//!
//! `cargo run --release -p lejepa --example custom-training-loop`

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, Relu};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Tensor};
use lejepa::prelude::{Centre, ObjectiveConfig, Seed, prediction_loss};

/// Samples per batch.
const BATCH: usize = 128;
/// Views per sample; prediction aims at the first two.
const VIEWS: usize = 4;
/// Dimensions of a sample.
const INPUT: usize = 20;
/// Dimensions of an embedding.
const DIM: usize = 8;

#[derive(Module, Debug)]
struct Net {
    hidden: Linear,
    norm: BatchNorm,
    out: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        Self {
            hidden: LinearConfig::new(INPUT, 64).init(device),
            norm: BatchNormConfig::new(64).init(device),
            out: LinearConfig::new(64, DIM).init(device),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let hidden: Tensor<2> = self.norm.forward(self.hidden.forward(x));
        self.out.forward(Relu::new().forward(hidden))
    }
}

/// Noisy points on a curve: the views of a sample share the position on the curve and differ in the noise.
/// `[samples] -> [samples, INPUT]`
fn view(position: Tensor<1>, device: &Device) -> Tensor<2> {
    let [samples] = position.dims();
    let waves = Tensor::<1>::from_floats(
        std::array::from_fn::<f32, INPUT, _>(|i| 0.3 + 0.2 * i as f32),
        device,
    );
    let angles = position.reshape([samples, 1]) * waves.reshape([1, INPUT]);
    angles.sin() + Tensor::random([samples, INPUT], Distribution::Normal(0.0, 0.3), device)
}

/// All views in one batch, for the statistics of the batch norm. `[VIEWS, BATCH, DIM]`
fn embed(net: &Net, views: &[Tensor<2>]) -> Tensor<3> {
    let z = net.forward(Tensor::cat(views.to_vec(), 0));
    z.reshape([VIEWS, BATCH, DIM])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex().autodiff();
    device.seed(0);
    let objective = ObjectiveConfig { lambda: 0.05, slices: 256, ..Default::default() }.init()?;
    println!("{}", objective.convention());
    let gauge = objective.gauge(VIEWS, BATCH, DIM);
    println!(
        "SIGReg is {:.2} for Gaussian embeddings and {:.1} for collapsed ones",
        gauge.gaussian, gauge.collapsed
    );

    let mut net = Net::new(&device);
    let mut optimizer: ModuleOptimizer = AdamWConfig::new().with_weight_decay(0.01).init();
    for step in 0..=300u64 {
        let position = Tensor::<1>::random([BATCH], Distribution::Uniform(-3.0, 3.0), &device);
        let views: Vec<_> = (0..VIEWS).map(|_| view(position.clone(), &device)).collect();
        let z = embed(&net, &views);
        let prediction = prediction_loss(z.clone(), &[0, 1], Centre::Targets)?;
        // Every step draws new directions, which depend on the seed and the step alone.
        let losses = objective.loss(z, prediction, Seed(0), step)?;
        if step % 100 == 0 {
            let number = |x: &Tensor<1>| x.clone().into_scalar::<f32>();
            print!("step {step:3}  loss {:.4}", number(&losses.total));
            for (name, value) in &losses.terms {
                print!("  {name} {:.4}", number(value));
            }
            println!();
        }
        let gradients = GradientsParams::from_grads(losses.total.backward(), &net);
        net = optimizer.step(3e-3, net, gradients);
    }
    Ok(())
}
