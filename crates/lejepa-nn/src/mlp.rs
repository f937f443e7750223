//! A perceptron on a pooled grid: the plainest encoder there is.

use burn::module::Module;
use burn::nn::{Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::Tensor;
use burn::tensor::module::adaptive_avg_pool3d;
use lejepa_core::{BoxedEncoder, BuildContext, Component, EncoderKind, Error, Result};
use serde::{Deserialize, Serialize};

use crate::grid::{GridEncoder, boxed, encoder_of_any_grid};

/// Settings of an [`Mlp`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpConfig {
    /// Width of the hidden layers and of the embedding, at least 1.
    pub width: usize,
    /// Number of layers, at least 1.
    pub depth: usize,
    /// Views are average-pooled to this many cells per grid axis, so that all sizes fit the same
    /// weights. `[]` takes the smaller of the global and the local view, axis by axis.
    pub grid: Vec<usize>,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { width: 256, depth: 3, grid: Vec::new() }
    }
}

/// Layer norm, linear and GELU, `depth` times, on a view pooled to a fixed grid.
#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
    norms: Vec<LayerNorm>,
    #[module(skip)]
    grid: [usize; 3],
    #[module(skip)]
    width: usize,
}

impl GridEncoder for Mlp {
    fn width(&self) -> usize {
        self.width
    }

    /// `[B, C, T, H, W] -> [B, width]` for views of each shape, one after the other.
    fn forward_all(&self, views: Vec<Tensor<5>>) -> Tensor<2> {
        let pooled = |views: Tensor<5>| {
            let [b, c, t, h, w] = views.dims();
            let pooled =
                if [t, h, w] == self.grid { views } else { adaptive_avg_pool3d(views, self.grid) };
            pooled.reshape([b, c * self.grid.iter().product::<usize>()])
        };
        let mut x = Tensor::cat(views.into_iter().map(pooled).collect(), 0);
        let last = self.layers.len() - 1;
        for (i, (layer, norm)) in self.layers.iter().zip(&self.norms).enumerate() {
            x = layer.forward(norm.forward(x));
            if i < last {
                x = Gelu::new().forward(x);
            }
        }
        x
    }
}

encoder_of_any_grid!(Mlp);

/// Registers [`Mlp`] as `mlp`.
pub struct MlpKind;

impl Component for MlpKind {
    const NAME: &'static str = "mlp";
    const ABOUT: &'static str = "perceptron on a pooled grid";
    type Config = MlpConfig;

    fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("mlp.rs"), "MlpConfig")
    }
}

impl EncoderKind for MlpKind {
    fn build(config: &MlpConfig, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
        let (views, device) = (at.views, at.device);
        let axes = views.grid().len();
        if config.width == 0 || config.depth == 0 {
            return Err(Error::bad_value("encoder.width", "width and depth must be at least 1"));
        }
        let wanted: Vec<usize> = match config.grid.len() {
            0 => (0..axes).map(|a| views.grids().iter().map(|g| g[a]).min().unwrap_or(1)).collect(),
            n if n == axes && !config.grid.contains(&0) => config.grid.clone(),
            _ => {
                return Err(Error::bad_value(
                    "encoder.grid",
                    format!("needs {axes} sizes, none of them 0"),
                ));
            }
        };
        if axes == 0 || axes > 3 {
            return Err(Error::bad_value("encoder.name", "mlp takes views of 1 to 3 grid axes"));
        }
        let mut grid = [1; 3];
        grid[3 - axes..].copy_from_slice(&wanted);
        let mut input = views.channels() * grid.iter().product::<usize>();
        let (mut layers, mut norms) = (Vec::new(), Vec::new());
        for _ in 0..config.depth {
            norms.push(LayerNormConfig::new(input).init(device));
            layers.push(LinearConfig::new(input, config.width).init(device));
            input = config.width;
        }
        boxed(Mlp { layers, norms, grid, width: config.width }, axes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use lejepa_core::ViewSpec;

    #[test]
    fn takes_every_view_size_of_every_rank() {
        let device = Device::flex();
        for (global, local) in [
            (vec![2, 12], vec![2, 6]),
            (vec![1, 8, 12], vec![1, 8, 6]),
            (vec![3, 4, 8, 8], vec![3, 2, 4, 4]),
        ] {
            let views = ViewSpec::multi_crop(1, global.clone(), 1, local.clone());
            let config = MlpConfig { width: 5, ..Default::default() };
            let e = MlpKind::build(&config, &BuildContext::new(&views, &device)).unwrap();
            for shape in [&global, &local] {
                let x = Tensor::ones([2, shape.iter().product::<usize>()], &device);
                assert_eq!(e.encode(x, shape).unwrap().dims(), [2, 5]);
            }
        }
    }
}
