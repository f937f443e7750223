//! Convolutional networks.

use std::collections::HashMap;

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
    /// Frames of a clip, which are views of their own between its ends; 1 of anything else.
    frames: usize,
    /// Height and width of the input. Those of maps, which follow from it, are kept by their names.
    sizes: HashMap<Name, [usize; 2]>,
}

impl<'a> Network<'a> {
    /// A network of pictures, spectrograms, rows or clips, and the name of its input `[batch, channels, height,
    /// width]`, where the batch is that of all frames.
    pub(crate) fn new(
        own: &'a Arrays,
        view: &'a [usize],
        normalization: &Normalization,
    ) -> Result<(Self, Name)> {
        let mut graph = Graph::default();
        let mut x = graph.input(view, normalization)?;
        let (frames, size) = match *view {
            [_, height, width] => (1, [height, width]),
            // Rows are pictures of height 1.
            [channels, width] => {
                let shape = graph.ints(&[0, channels as i64, 1, -1]);
                x = graph.node("Reshape", &[&x, &shape], &[]);
                (1, [1, width])
            }
            [_, frames, height, width] => {
                x = graph.frames(&x, view);
                (frames, [height, width])
            }
            _ => return Err(refused("views of this shape do not go into ONNX")),
        };
        let sizes = HashMap::from([(x.clone(), size)]);
        Ok((Self { graph, own, view, frames, sizes }, x))
    }

    fn size(&self, x: &str) -> Result<[usize; 2]> {
        self.sizes.get(x).copied().ok_or_else(|| refused("maps of unknown size"))
    }

    /// Each frame of a clip between the one before and the one after it, zeros at the ends: `[batch, channels, height,
    /// width] -> [batch, 3·channels, height, width]`.
    pub(crate) fn with_neighbours(&mut self, x: &str, channels: usize) -> Result<Name> {
        let size @ [height, width] = self.size(x)?;
        let (frames, cells) = (self.frames as i64, (channels * height * width) as i64);
        let g = &mut self.graph;
        // Channels come first in each frame, so that whole frames side by side are channels side by side.
        let rows = g.ints(&[-1, frames, cells]);
        let rows = g.node("Reshape", &[x, &rows], &[]);
        let around = g.ints(&[0, 1, 0, 0, 1, 0]);
        let padded = g.node("Pad", &[&rows, &around], &[]);
        let axis = g.ints(&[1]);
        let mut parts = Vec::new();
        for start in 0..3 {
            let (from, to) = (g.ints(&[start]), g.ints(&[start + frames]));
            parts.push(g.node("Slice", &[&padded, &from, &to, &axis], &[]));
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let rows = g.node("Concat", &parts, &[("axis", Attr::Int(2))]);
        let shape = g.ints(&[-1, 3 * channels as i64, height as i64, width as i64]);
        let y = g.node("Reshape", &[&rows, &shape], &[]);
        self.sizes.insert(y.clone(), size);
        Ok(y)
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
        let [h, w] = self.size(x)?;
        let after = |side: usize, kernel: usize| {
            (side + 2 * (kernel / 2)).saturating_sub(kernel) / layer.stride + 1
        };
        let size = [after(h, height), after(w, width)];
        let (stride, [top, left]) = (layer.stride as i64, [height, width].map(|n| n as i64 / 2));
        let attributes = [
            ("strides", Attr::Ints(&[stride, stride])),
            ("pads", Attr::Ints(&[top, left, top, left])),
        ];
        let y = self.graph.node("Conv", &[x, &scaled, &bias], &attributes);
        self.sizes.insert(y.clone(), size);
        Ok(y)
    }

    pub(crate) fn relu(&mut self, x: &str) -> Name {
        let y = self.graph.node("Relu", &[x], &[]);
        self.sized_as(y, x)
    }

    pub(crate) fn add(&mut self, a: &str, b: &str) -> Name {
        let y = self.graph.node("Add", &[a, b], &[]);
        self.sized_as(y, a)
    }

    fn sized_as(&mut self, y: Name, x: &str) -> Name {
        if let Some(size) = self.sizes.get(x).copied() {
            self.sizes.insert(y.clone(), size);
        }
        y
    }

    /// 3×3 at every second cell.
    pub(crate) fn max_pool(&mut self, x: &str) -> Name {
        let attributes = [
            ("kernel_shape", Attr::Ints(&[3, 3])),
            ("strides", Attr::Ints(&[2, 2])),
            ("pads", Attr::Ints(&[1, 1, 1, 1])),
        ];
        let y = self.graph.node("MaxPool", &[x], &attributes);
        if let Some(size) = self.sizes.get(x) {
            let halves = size.map(|side| side.div_ceil(2));
            self.sizes.insert(y.clone(), halves);
        }
        y
    }

    /// The mean over all cells of all frames, and the file.
    pub(crate) fn mean(mut self, x: &str, dim: usize) -> Vec<u8> {
        let over = [("axes", Attr::Ints(&[2, 3])), ("keepdims", Attr::Int(0))];
        let mean = self.graph.node("ReduceMean", &[x], &over);
        let mean = self.graph.mean_of_frames(&mean, self.view, dim);
        self.graph.finish(&mean, self.view, dim)
    }

    /// The `height` rows of the last maps as channels, two layers at each time step, mean plus maximum over time; and the file.
    pub(crate) fn by_frequency(mut self, x: &str, height: usize, dim: usize) -> Result<Vec<u8>> {
        let first = get(self.own, "head.first.weight")?;
        let inputs = first.shape()[0];
        if height == 0 || !inputs.is_multiple_of(height) {
            return Err(refused("`head.first.weight` has another shape"));
        }
        let [_, steps] = self.size(x)?;
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
        if self.frames > 1 {
            let shape = g.ints(&[-1, (self.frames * steps) as i64, dim as i64]);
            x = g.node("Reshape", &[&x, &shape], &[]);
        }
        let over = || [("axes", Attr::Ints(&[1])), ("keepdims", Attr::Int(0))];
        let mean = g.node("ReduceMean", &[&x], &over());
        let most = g.node("ReduceMax", &[&x], &over());
        let sum = g.node("Add", &[&mean, &most], &[]);
        Ok(self.graph.finish(&sum, self.view, dim))
    }
}
