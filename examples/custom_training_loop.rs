//! The objective inside a training loop of one's own, with a model and data of one's own: burn and
//! `lejepa-objective`, no trainer, no modality.
//!
//! `cargo run --release -p lejepa --example custom-training-loop`

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, Relu};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Tensor};
use lejepa::prelude::{ObjectiveConfig, Seed};

/// Samples a batch, views of each of them (two are global), numbers of a sample and of its embedding.
const BATCH: usize = 128;
const VIEWS: usize = 4;
const INPUT: usize = 20;
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

/// Points on a curve in 20 dimensions: what two views share is the place on the curve, what differs
/// is noise. `[samples] -> [samples, INPUT]`
fn view(place: Tensor<1>, device: &Device) -> Tensor<2> {
    let [samples] = place.dims();
    let waves = Tensor::<1>::from_floats(
        std::array::from_fn::<f32, INPUT, _>(|i| 0.3 + 0.2 * i as f32),
        device,
    );
    let angles = place.reshape([samples, 1]) * waves.reshape([1, INPUT]);
    angles.sin() + Tensor::random([samples, INPUT], Distribution::Normal(0.0, 0.3), device)
}

/// Batch norm by its statistics over the batch, so no embedding can become a constant.
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
        "SIGReg lies between {:.2} (Gaussian) and {:.1} (collapse)",
        gauge.gaussian, gauge.collapsed
    );

    let mut net = Net::new(&device);
    let mut optimizer: ModuleOptimizer = AdamWConfig::new().with_weight_decay(0.01).init();
    for step in 0..=300u64 {
        let place = Tensor::<1>::random([BATCH], Distribution::Uniform(-3.0, 3.0), &device);
        let views: Vec<_> = (0..VIEWS).map(|_| view(place.clone(), &device)).collect();
        let z = embed(&net, &views);
        // New directions every step, the same ones wherever this seed and step are used.
        let losses = objective.loss(z, 2, Seed(0), step)?;
        if step % 100 == 0 {
            let number = |x: &Tensor<1>| x.clone().into_scalar::<f32>();
            println!(
                "step {step:3}  loss {:.4}  prediction {:.4}  SIGReg {:.3}",
                number(&losses.total),
                number(&losses.prediction),
                number(&losses.sigreg)
            );
        }
        let gradients = GradientsParams::from_grads(losses.total.backward(), &net);
        net = optimizer.step(3e-3, net, gradients);
    }
    Ok(())
}
