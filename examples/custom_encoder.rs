//! A custom encoder, chosen by name like the built-in ones.
//!
//! `cargo run --release -p lejepa --example custom-encoder`

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, Relu};
use burn::tensor::{Device, Tensor};
use lejepa::core::config::{Docs, check, field_docs};
use lejepa::core::{
    BoxedEncoder, BuildContext, Component, Encoder, EncoderKind, Result, kind, register,
};
use lejepa::prelude::{Registry, Request, RunDir, Trainer};
use lejepa::train::Start;
// Linked to register the modality `image`.
use lejepa_image as _;
use serde::{Deserialize, Serialize};

/// A perceptron on the means of rows and columns.
#[derive(Module, Debug)]
struct Margins {
    norm: LayerNorm,
    first: Linear,
    second: Linear,
    #[module(skip)]
    cells: usize,
    #[module(skip)]
    dim: usize,
}

/// The keys of `[encoder]`, in addition to `name`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MarginsConfig {
    /// Width of the embedding, 1 to 4096.
    width: usize,
}

impl Default for MarginsConfig {
    fn default() -> Self {
        Self { width: 64 }
    }
}

impl Encoder<4> for Margins {
    fn encode(&self, views: Tensor<4>) -> Tensor<2> {
        // Global and local views differ in size; pooled to one grid, they fit the same weights.
        let grid = [self.cells, self.cells];
        let x = burn::tensor::module::adaptive_avg_pool2d(views, grid);
        let [batch, channels, _, _] = x.dims();
        let rows = x.clone().mean_dim(3).reshape([batch, channels * self.cells]);
        let columns = x.mean_dim(2).reshape([batch, channels * self.cells]);
        let margins = self.norm.forward(Tensor::cat(vec![rows, columns], 1));
        self.second.forward(Relu::new().forward(self.first.forward(margins)))
    }

    fn dim(&self) -> usize {
        self.dim
    }
}

impl Component for Margins {
    const NAME: &'static str = "margins";
    const ABOUT: &'static str = "row and column means of images";
    type Config = MarginsConfig;

    fn docs() -> Docs {
        field_docs(include_str!("custom_encoder.rs"), "MarginsConfig")
    }
}

impl EncoderKind for Margins {
    const MODALITY: Option<&'static str> = Some("image");

    fn build(config: &MarginsConfig, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
        check::within("encoder.width", config.width, 1..=4096)?;
        // The side of the smallest views.
        let cells = at.views.grids().iter().map(|grid| grid[0]).min().unwrap_or(1);
        let inputs = 2 * at.views.channels() * cells;
        Ok(BoxedEncoder::new::<4>(Margins {
            norm: LayerNormConfig::new(inputs).init(at.device),
            first: LinearConfig::new(inputs, 2 * config.width).init(at.device),
            second: LinearConfig::new(2 * config.width, config.width).init(at.device),
            cells,
            dim: config.width,
        }))
    }
}

register!(kind::Encoder: Margins);

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let assignments =
        ["modality=image", "encoder.name=margins", "encoder.width=48", "train.steps=300"];
    let request =
        Request { assignments: assignments.map(String::from).into(), ..Request::default() };
    let resolved = request.resolve(&Registry::discover()?)?;
    let folder = tempfile::tempdir()?;
    let run = RunDir::create(&folder.path().join("run"))?;
    let outcome = Trainer::new(&resolved, &Device::flex()).run(&run, Start::New)?;
    for probe in &outcome.probes {
        println!(
            "{}: k-NN {:.3} trained, {:.3} untrained",
            probe.trained.name, probe.trained.scores.knn, probe.untrained.knn
        );
    }
    Ok(())
}
