//! Convolutional networks.

use lejepa_core::{Array, Arrays, Normalization, Result};

use super::{Attr, Graph, Name, get};
use crate::published_vit::refused;

/// What is added to the variance in a batch norm.
const EPSILON: f32 = 1e-5;

/// A convolution and the batch norm behind it, by their names.
#[derive(Debug, Clone)]
pub(crate) struct ConvLayer {
    pub(crate) conv: String,
    pub(crate) norm: String,
    pub(crate) stride: usize,
}

/// A network under construction.
pub(crate) struct Network<'a> {
    graph: Graph,
    own: &'a Arrays,
    view: &'a [usize],
}

impl<'a> Network<'a> {
    /// A network of pictures, spectrograms or rows, and the name of its input `[batch, channels, height, width]`.
    pub(crate) fn new(
        own: &'a Arrays,
        view: &'a [usize],
        normalization: &Normalization,
    ) -> Result<(Self, Name)> {
        let mut graph = Graph::default();
        let mut x = graph.input(view, normalization)?;
        match view.len() {
            3 => {}
            // Rows are pictures of height 1.
            2 => {
                let shape = graph.ints(&[0, view[0] as i64, 1, -1]);
                x = graph.node("Reshape", &[&x, &shape], &[]);
            }
            _ => return Err(refused("networks of clips do not go into ONNX")),
        }
        Ok((Self { graph, own, view }, x))
    }

    /// Convolution and batch norm, as one convolution with a bias.
    pub(crate) fn convolve(&mut self, layer: &ConvLayer, x: &str) -> Result<Name> {
        let filters = get(self.own, &format!("{}.weight", layer.conv))?;
        let [out, input, height, width] = filters.shape()[..] else {
            return Err(refused(format!("`{}` is no convolution", layer.conv)));
        };
        let part = |part: &str| get(self.own, &format!("{}.{part}", layer.norm));
        let [gamma, beta] = [part("gamma")?, part("beta")?].map(Array::values);
        let [mean, var] = [part("running_mean")?, part("running_var")?].map(Array::values);
        let scale: Vec<f32> =
            gamma.iter().zip(var).map(|(gamma, var)| gamma / (var + EPSILON).sqrt()).collect();
        let bias = beta.iter().zip(mean).zip(&scale).map(|((beta, mean), s)| beta - mean * s);
        let bias = Array::new([out], bias.collect());
        let size = (input * height * width).max(1);
        let scaled = filters.values().chunks(size).zip(&scale);
        let scaled = scaled.flat_map(|(filter, s)| filter.iter().map(move |v| v * s)).collect();
        let scaled = Array::new(filters.shape(), scaled);
        let (Some(scaled), Some(bias)) = (scaled, bias) else {
            return Err(refused(format!("`{}` does not fit its norm", layer.conv)));
        };
        let (scaled, bias) = (self.graph.constant(&scaled), self.graph.constant(&bias));
        let (stride, [top, left]) = (layer.stride as i64, [height, width].map(|n| n as i64 / 2));
        let attributes = [
            ("strides", Attr::Ints(&[stride, stride])),
            ("pads", Attr::Ints(&[top, left, top, left])),
        ];
        Ok(self.graph.node("Conv", &[x, &scaled, &bias], &attributes))
    }

    pub(crate) fn relu(&mut self, x: &str) -> Name {
        self.graph.node("Relu", &[x], &[])
    }

    pub(crate) fn add(&mut self, a: &str, b: &str) -> Name {
        self.graph.node("Add", &[a, b], &[])
    }

    /// 3×3 at every second cell.
    pub(crate) fn max_pool(&mut self, x: &str) -> Name {
        let attributes = [
            ("kernel_shape", Attr::Ints(&[3, 3])),
            ("strides", Attr::Ints(&[2, 2])),
            ("pads", Attr::Ints(&[1, 1, 1, 1])),
        ];
        self.graph.node("MaxPool", &[x], &attributes)
    }

    /// The mean over all cells, and the file.
    pub(crate) fn mean(mut self, x: &str, dim: usize) -> Vec<u8> {
        let over = [("axes", Attr::Ints(&[2, 3])), ("keepdims", Attr::Int(0))];
        let mean = self.graph.node("ReduceMean", &[x], &over);
        self.graph.finish(&mean, self.view, dim)
    }

    /// The `height` rows of the last maps as channels, two layers at each time step, mean plus maximum over time; and the file.
    pub(crate) fn by_frequency(mut self, x: &str, height: usize, dim: usize) -> Result<Vec<u8>> {
        let first = get(self.own, "head.first.weight")?;
        let inputs = first.shape()[0];
        if height == 0 || !inputs.is_multiple_of(height) {
            return Err(refused("`head.first.weight` has another shape"));
        }
        let g = &mut self.graph;
        let columns = g.node("Transpose", &[x], &[("perm", Attr::Ints(&[0, 3, 2, 1]))]);
        let shape = g.ints(&[0, 0, inputs as i64]);
        let mut x = g.node("Reshape", &[&columns, &shape], &[]);
        for layer in ["head.first", "head.second"] {
            let weight = get(self.own, &format!("{layer}.weight"))?;
            let bias = get(self.own, &format!("{layer}.bias"))?;
            let y = g.linear(&x, weight, bias);
            x = g.node("Relu", &[&y], &[]);
        }
        let over = || [("axes", Attr::Ints(&[1])), ("keepdims", Attr::Int(0))];
        let mean = g.node("ReduceMean", &[&x], &over());
        let most = g.node("ReduceMax", &[&x], &over());
        let sum = g.node("Add", &[&mean, &most], &[]);
        Ok(self.graph.finish(&sum, self.view, dim))
    }
}
