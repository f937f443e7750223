//! Vision transformers.

use lejepa_core::{Array, Arrays, Normalization, Result};

use super::{Attr, Graph, Name, gelu, get, layer_norm};
use crate::position::sincos;
use crate::published_vit::{PublishedVit, refused};
use crate::vit::EPSILON;

/// A transformer for pictures of one size.
pub(crate) struct Transformer<'a> {
    pub(crate) sizes: &'a PublishedVit,
}

impl Transformer<'_> {
    pub(crate) fn graph(
        &self,
        own: &Arrays,
        view: &[usize],
        normalization: &Normalization,
    ) -> Result<Vec<u8>> {
        let PublishedVit { width, depth, grid, patch, .. } = *self.sizes;
        let [pt, ph, pw] = patch;
        let &[channels, height, length] = view else {
            return Err(refused("only transformers of pictures and spectrograms go into ONNX"));
        };
        if pt != 1 || [height, length] != [grid[1] * ph, grid[2] * pw] {
            return Err(refused("the view is not one of whole patches"));
        }
        let mut g = Graph::default();
        let x = g.input(view, normalization)?;
        let filters = get(own, "embed.weight")?
            .transposed()
            .and_then(|m| m.reshaped([width, channels, ph, pw]))
            .ok_or_else(|| refused("`embed.weight` has another shape"))?;
        let (filters, bias) = (g.constant(&filters), g.constant(get(own, "embed.bias")?));
        let size = [ph as i64, pw as i64];
        let attributes = [("strides", Attr::Ints(&size)), ("kernel_shape", Attr::Ints(&size))];
        let patches = g.node("Conv", &[&x, &filters, &bias], &attributes);
        let flat = g.ints(&[0, width as i64, -1]);
        let flat = g.node("Reshape", &[&patches, &flat], &[]);
        let tokens = g.node("Transpose", &[&flat], &[("perm", Attr::Ints(&[0, 2, 1]))]);
        let positions = match self.sizes.is_learned {
            true => get(own, "places")?.clone(),
            false => Array::new([1, grid.iter().product(), width], sincos(grid, width))
                .ok_or_else(|| refused("no positions"))?,
        };
        let positions = g.constant(&positions);
        let mut x = g.node("Add", &[&tokens, &positions], &[]);
        let prefix: Vec<&Array> =
            ["cls", "registers"].iter().filter_map(|name| own.get(*name)).collect();
        let before: usize = prefix.iter().map(|tokens| tokens.shape()[1]).sum();
        if !prefix.is_empty() {
            let values = prefix.iter().flat_map(|tokens| tokens.values()).copied().collect();
            let tokens = Array::new([1, before, width], values);
            let tokens = g.constant(&tokens.ok_or_else(|| refused("no tokens"))?);
            // As many as there are views.
            let shape = g.node("Shape", &[&x], &[("end", Attr::Int(1))]);
            let rest = g.ints(&[before as i64, width as i64]);
            let shape = g.node("Concat", &[&shape, &rest], &[("axis", Attr::Int(0))]);
            let tokens = g.node("Expand", &[&tokens, &shape], &[]);
            x = g.node("Concat", &[&tokens, &x], &[("axis", Attr::Int(1))]);
        }
        for block in 0..depth {
            x = self.block(&mut g, own, &format!("blocks.{block}"), &x)?;
        }
        let pooled = if self.sizes.is_cls {
            let first = g.ints(&[0]);
            let cls = g.node("Gather", &[&x, &first], &[("axis", Attr::Int(1))]);
            let cls = layer_norm(&mut g, own, "norm", &cls, EPSILON)?;
            let shape = g.ints(&[0, width as i64]);
            g.node("Reshape", &[&cls, &shape], &[])
        } else {
            let [from, to, axis] = [before as i64, i64::MAX, 1].map(|n| g.ints(&[n]));
            let patches = g.node("Slice", &[&x, &from, &to, &axis], &[]);
            let patches = layer_norm(&mut g, own, "norm", &patches, EPSILON)?;
            let over = [("axes", Attr::Ints(&[1])), ("keepdims", Attr::Int(0))];
            g.node("ReduceMean", &[&patches], &over)
        };
        Ok(g.finish(&pooled, view, width))
    }

    fn block(&self, g: &mut Graph, own: &Arrays, name: &str, x: &str) -> Result<Name> {
        let (width, heads) = (self.sizes.width as i64, self.sizes.heads as i64);
        let linear = |g: &mut Graph, x: &str, layer: &str| -> Result<Name> {
            let weight = get(own, &format!("{name}.{layer}.weight"))?;
            Ok(g.linear(x, weight, get(own, &format!("{name}.{layer}.bias"))?))
        };
        let y = layer_norm(g, own, &format!("{name}.norm1"), x, EPSILON)?;
        let all = linear(g, &y, "attention.qkv")?;
        let parts = g.split(&all, 3, -1);
        let by_head = g.ints(&[0, 0, heads, width / heads]);
        let part = |g: &mut Graph, i: usize, order: &[i64]| {
            let part = g.node("Reshape", &[&parts[i], &by_head], &[]);
            g.node("Transpose", &[&part], &[("perm", Attr::Ints(order))])
        };
        let queries = part(g, 0, &[0, 2, 1, 3]);
        let keys = part(g, 1, &[0, 2, 3, 1]);
        let values = part(g, 2, &[0, 2, 1, 3]);
        let scale = g.number(1.0 / ((width / heads) as f32).sqrt());
        let queries = g.node("Mul", &[&queries, &scale], &[]);
        let scores = g.node("MatMul", &[&queries, &keys], &[]);
        let weights = g.node("Softmax", &[&scores], &[("axis", Attr::Int(-1))]);
        let y = g.node("MatMul", &[&weights, &values], &[]);
        let y = g.node("Transpose", &[&y], &[("perm", Attr::Ints(&[0, 2, 1, 3]))]);
        let together = g.ints(&[0, 0, width]);
        let y = g.node("Reshape", &[&y, &together], &[]);
        let y = linear(g, &y, "attention.out")?;
        let x = g.node("Add", &[x, &y], &[]);
        let y = layer_norm(g, own, &format!("{name}.norm2"), &x, EPSILON)?;
        let y = linear(g, &y, "up")?;
        let y = gelu(g, &y);
        let y = linear(g, &y, "down")?;
        Ok(g.node("Add", &[&x, &y], &[]))
    }
}
