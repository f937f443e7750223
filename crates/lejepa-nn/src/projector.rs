//! The projector: the MLP between the embedding, which is probed, and the projection, which SIGReg
//! shapes.

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use lejepa_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of the [`Projector`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectorConfig {
    /// Width of the hidden layers, at least 1 (2048 in the paper; smaller serves small encoders).
    pub hidden: usize,
    /// Width of the projection, at least 1. Small is better (table 1d of the paper).
    pub output: usize,
    /// Linear layers, at least 1. A single one collapses in published ablations.
    pub layers: usize,
}

impl Default for ProjectorConfig {
    fn default() -> Self {
        Self { hidden: 512, output: 64, layers: 3 }
    }
}

impl ProjectorConfig {
    /// What its keys mean.
    ///
    /// ```
    /// assert!(lejepa_nn::ProjectorConfig::docs().iter().any(|(key, _)| key == "hidden"));
    /// ```
    pub fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("projector.rs"), "ProjectorConfig")
    }

    /// Builds the projector for embeddings of width `input`.
    ///
    /// # Errors
    /// [`Error::BadValue`] for an empty layer.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use lejepa_nn::ProjectorConfig;
    ///
    /// let device = Device::flex();
    /// let projector = ProjectorConfig { hidden: 32, output: 8, layers: 3 }.init(16, &device)?;
    /// assert_eq!(projector.forward(Tensor::zeros([4, 16], &device)).dims(), [4, 8]);
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn init(&self, input: usize, device: &Device) -> Result<Projector> {
        for (key, value) in
            [("hidden", self.hidden), ("output", self.output), ("layers", self.layers)]
        {
            if value == 0 {
                return Err(Error::bad_value(format!("projector.{key}"), "must be at least 1"));
            }
        }
        let mut hidden = Vec::new();
        let mut width = input;
        for _ in 1..self.layers {
            hidden.push(Hidden {
                // Batch norm has its own shift: a bias before it would do nothing.
                linear: LinearConfig::new(width, self.hidden).with_bias(false).init(device),
                norm: BatchNormConfig::new(self.hidden).init(device),
            });
            width = self.hidden;
        }
        Ok(Projector { hidden, output: LinearConfig::new(width, self.output).init(device) })
    }
}

/// `layers - 1` times linear, batch norm, ReLU; then linear.
#[derive(Module, Debug)]
pub struct Projector {
    hidden: Vec<Hidden>,
    output: Linear,
}

#[derive(Module, Debug)]
struct Hidden {
    linear: Linear,
    norm: BatchNorm,
}

impl Projector {
    /// Projects embeddings of all views at once, so that batch norm sees them as one batch.
    ///
    /// # Shapes
    /// `[rows, input] -> [rows, output]`
    pub fn forward(&self, embeddings: Tensor<2>) -> Tensor<2> {
        let x =
            self.hidden.iter().fold(embeddings, |x, h| relu(h.norm.forward(h.linear.forward(x))));
        self.output.forward(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_and_empty_ones_refused() {
        let device = Device::flex();
        let p = ProjectorConfig { hidden: 8, output: 4, layers: 3 }.init(6, &device).unwrap();
        assert_eq!(p.forward(Tensor::ones([5, 6], &device)).dims(), [5, 4]);
        // 6·8 + 2·8 (norm) + 8·8 + 2·8 + 8·4 + 4, and running statistics 2·2·8.
        assert_eq!(p.num_params(), 48 + 16 + 64 + 16 + 36 + 32);
        assert!(ProjectorConfig { layers: 0, ..Default::default() }.init(6, &device).is_err());
        assert!(ProjectorConfig { output: 0, ..Default::default() }.init(6, &device).is_err());
    }
}
