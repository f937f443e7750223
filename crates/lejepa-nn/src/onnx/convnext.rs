//! ConvNeXt.

use lejepa_core::{Arrays, Normalization, Result};

use super::{Attr, Graph, Name, gelu, get, layer_norm};
use crate::convnext::EPSILON;
use crate::published_convnext::PublishedConvNext;
use crate::published_vit::refused;

/// Order of the axes of an NCHW image as NHWC, and back.
const LAST: [i64; 4] = [0, 2, 3, 1];
const FIRST: [i64; 4] = [0, 3, 1, 2];

/// A graph for pictures, spectrograms or clips of one size.
pub(crate) fn convnext(
    sizes: &PublishedConvNext,
    own: &Arrays,
    view: &[usize],
    normalization: &Normalization,
) -> Result<Vec<u8>> {
    if view.len() < 3 {
        return Err(refused("networks of rows do not go into ONNX"));
    }
    if view[view.len() - 2..].iter().any(|side| side / sizes.patch < 8) {
        return Err(refused("a view of less than eight patches a side does not go into ONNX"));
    }
    let dim = get(own, "norm.gamma")?.values().len();
    let mut net = Net { g: Graph::default(), own };
    let x = net.g.input(view, normalization)?;
    let x = net.g.frames(&x, view);
    let x = net.conv("stem", &x, sizes.patch, 0, 1)?;
    // Maps are [batch, height, width, channels] between the convolutions.
    let x = net.order(&x, &LAST);
    let mut x = layer_norm(&mut net.g, own, "stem_norm", &x, EPSILON)?;
    for (s, depth) in sizes.depths.into_iter().enumerate() {
        let stage = format!("stages.{s}");
        if s > 0 {
            let y = layer_norm(&mut net.g, own, &format!("{stage}.norm"), &x, EPSILON)?;
            let y = net.order(&y, &FIRST);
            let y = net.conv(&format!("{stage}.down"), &y, 2, 0, 1)?;
            x = net.order(&y, &LAST);
        }
        for b in 0..depth {
            x = net.block(&format!("{stage}.blocks.{b}"), &x)?;
        }
    }
    let over = [("axes", Attr::Ints(&[1, 2])), ("keepdims", Attr::Int(0))];
    let mean = net.g.node("ReduceMean", &[&x], &over);
    let mean = net.g.mean_of_frames(&mean, view, dim);
    let pooled = layer_norm(&mut net.g, own, "norm", &mean, EPSILON)?;
    Ok(net.g.finish(&pooled, view, dim))
}

struct Net<'a> {
    g: Graph,
    own: &'a Arrays,
}

impl Net<'_> {
    fn order(&mut self, x: &str, axes: &[i64]) -> Name {
        self.g.node("Transpose", &[x], &[("perm", Attr::Ints(axes))])
    }

    fn conv(
        &mut self,
        name: &str,
        x: &str,
        stride: usize,
        pad: i64,
        groups: usize,
    ) -> Result<Name> {
        let filters = self.g.constant(get(self.own, &format!("{name}.weight"))?);
        let bias = self.g.constant(get(self.own, &format!("{name}.bias"))?);
        let stride = stride as i64;
        let attributes = [
            ("strides", Attr::Ints(&[stride, stride])),
            ("pads", Attr::Ints(&[pad, pad, pad, pad])),
            ("group", Attr::Int(groups as i64)),
        ];
        Ok(self.g.node("Conv", &[x, &filters, &bias], &attributes))
    }

    fn linear(&mut self, name: &str, x: &str) -> Result<Name> {
        let weight = get(self.own, &format!("{name}.weight"))?;
        Ok(self.g.linear(x, weight, get(self.own, &format!("{name}.bias"))?))
    }

    fn block(&mut self, name: &str, x: &str) -> Result<Name> {
        let groups = get(self.own, &format!("{name}.norm.gamma"))?.values().len();
        let y = self.order(x, &FIRST);
        let y = self.conv(&format!("{name}.conv"), &y, 1, 3, groups)?;
        let y = self.order(&y, &LAST);
        let y = layer_norm(&mut self.g, self.own, &format!("{name}.norm"), &y, EPSILON)?;
        let y = self.linear(&format!("{name}.up"), &y)?;
        let mut y = gelu(&mut self.g, &y);
        if let Some(gamma) = self.own.get(&format!("{name}.response.gamma")) {
            let beta = get(self.own, &format!("{name}.response.beta"))?;
            let (gamma, beta) = (self.g.constant(gamma), self.g.constant(beta));
            let epsilon = self.g.number(EPSILON as f32);
            let over = [("axes", Attr::Ints(&[1, 2]))];
            let norms = self.g.node("ReduceL2", &[&y], &over);
            let mean = self.g.node("ReduceMean", &[&norms], &[("axes", Attr::Ints(&[3]))]);
            let mean = self.g.node("Add", &[&mean, &epsilon], &[]);
            let shares = self.g.node("Div", &[&norms, &mean], &[]);
            let scaled = self.g.node("Mul", &[&y, &shares], &[]);
            let scaled = self.g.node("Mul", &[&scaled, &gamma], &[]);
            let shifted = self.g.node("Add", &[&scaled, &beta], &[]);
            y = self.g.node("Add", &[&y, &shifted], &[]);
        }
        let mut y = self.linear(&format!("{name}.down"), &y)?;
        if let Some(scale) = self.own.get(&format!("{name}.scale")) {
            let scale = self.g.constant(scale);
            y = self.g.node("Mul", &[&y, &scale], &[]);
        }
        Ok(self.g.node("Add", &[x, &y], &[]))
    }
}
