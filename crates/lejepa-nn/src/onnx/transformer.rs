//! Vision transformers.

use lejepa_core::{Array, Arrays, Normalization, Result};

use super::{Attr, Graph, Name, gelu, get, layer_norm};
use crate::position::rotary_angles;
use crate::published_vit::{PublishedVit, refused};
use crate::vit_block::epsilon;

/// A transformer for views of one size.
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
        let (channels, axes) = (view[0], view.len() - 1);
        // Views of fewer axes than three have patches of length 1 along the others.
        let (others, patch) = patch.split_at(3 - axes);
        let sides: Vec<usize> = grid[3 - axes..].iter().zip(patch).map(|(n, p)| n * p).collect();
        if others.iter().any(|n| *n != 1) || view[1..] != sides {
            return Err(refused("the view is not one of whole patches"));
        }
        let mut g = Graph::default();
        let x = g.input(view, normalization)?;
        let filters = get(own, "embed.weight")?
            .transposed()
            .and_then(|m| m.reshaped([&[width, channels], patch].concat()))
            .ok_or_else(|| refused("`embed.weight` has another shape"))?;
        let (filters, bias) = (g.constant(&filters), g.constant(get(own, "embed.bias")?));
        let size: Vec<i64> = patch.iter().map(|n| *n as i64).collect();
        let attributes = [("strides", Attr::Ints(&size)), ("kernel_shape", Attr::Ints(&size))];
        let patches = g.node("Conv", &[&x, &filters, &bias], &attributes);
        let flat = g.ints(&[0, width as i64, -1]);
        let flat = g.node("Reshape", &[&patches, &flat], &[]);
        let tokens = g.node("Transpose", &[&flat], &[("perm", Attr::Ints(&[0, 2, 1]))]);
        let mut x = tokens;
        if !self.sizes.is_rope {
            let positions = self.sizes.positions(own)?.ok_or_else(|| refused("no positions"))?;
            let positions = g.constant(&positions);
            x = g.node("Add", &[&x, &positions], &[]);
        }
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
        let rotation =
            self.sizes.is_rope.then(|| self.rotation(&mut g, axes, before)).transpose()?;
        for block in 0..depth {
            x = self.block(&mut g, own, &format!("blocks.{block}"), &x, rotation.as_ref())?;
        }
        let pooled = if self.sizes.is_cls {
            let first = g.ints(&[0]);
            let cls = g.node("Gather", &[&x, &first], &[("axis", Attr::Int(1))]);
            let cls = layer_norm(&mut g, own, "norm", &cls, epsilon(self.sizes.is_rope))?;
            let shape = g.ints(&[0, width as i64]);
            g.node("Reshape", &[&cls, &shape], &[])
        } else {
            let [from, to, axis] = [before as i64, i64::MAX, 1].map(|n| g.ints(&[n]));
            let patches = g.node("Slice", &[&x, &from, &to, &axis], &[]);
            let patches = layer_norm(&mut g, own, "norm", &patches, epsilon(self.sizes.is_rope))?;
            let over = [("axes", Attr::Ints(&[1])), ("keepdims", Attr::Int(0))];
            g.node("ReduceMean", &[&patches], &over)
        };
        Ok(g.finish(&pooled, view, width))
    }

    /// Cosines and sines `[tokens, depth]` of rotary positions, after `prefix` tokens that are not turned.
    fn rotation(&self, g: &mut Graph, axes: usize, prefix: usize) -> Result<[Name; 2]> {
        let depth = self.sizes.width / self.sizes.heads;
        let mut angles = vec![0.0; prefix * depth];
        angles.extend(rotary_angles(self.sizes.grid, axes, depth));
        let tokens = angles.len() / depth;
        let mut table = |of: fn(f32) -> f32| {
            let values = angles.iter().map(|angle| of(*angle)).collect();
            let table = Array::new([tokens, depth], values).ok_or_else(|| refused("no angles"))?;
            Ok(g.constant(&table))
        };
        Ok([table(f32::cos)?, table(f32::sin)?])
    }

    fn block(
        &self,
        g: &mut Graph,
        own: &Arrays,
        name: &str,
        x: &str,
        rotation: Option<&[Name; 2]>,
    ) -> Result<Name> {
        let (width, heads) = (self.sizes.width as i64, self.sizes.heads as i64);
        let linear = |g: &mut Graph, x: &str, layer: &str| -> Result<Name> {
            let weight = get(own, &format!("{name}.{layer}.weight"))?;
            let mut bias = get(own, &format!("{name}.{layer}.bias"))?.clone();
            if rotation.is_some() && layer == "attention.qkv" {
                // Keys have none.
                let mut values = bias.values().to_vec();
                values[width as usize..2 * width as usize].fill(0.0);
                bias = Array::new(bias.shape(), values).ok_or_else(|| refused("no bias"))?;
            }
            Ok(g.linear(x, weight, &bias))
        };
        let y = layer_norm(g, own, &format!("{name}.norm1"), x, epsilon(self.sizes.is_rope))?;
        let all = linear(g, &y, "attention.qkv")?;
        let parts = g.split(&all, 3, -1);
        let by_head = g.ints(&[0, 0, heads, width / heads]);
        let transposed = |g: &mut Graph, x: &str, order: &[i64]| {
            g.node("Transpose", &[x], &[("perm", Attr::Ints(order))])
        };
        let part = |g: &mut Graph, i: usize| {
            let part = g.node("Reshape", &[&parts[i], &by_head], &[]);
            transposed(g, &part, &[0, 2, 1, 3])
        };
        let turned = |g: &mut Graph, x: Name| {
            let Some([cos, sin]) = rotation else { return x };
            let halves = g.split(&x, 2, -1);
            let second = g.node("Neg", &[&halves[1]], &[]);
            let turned = g.node("Concat", &[&second, &halves[0]], &[("axis", Attr::Int(-1))]);
            let (x, turned) = (g.node("Mul", &[&x, cos], &[]), g.node("Mul", &[&turned, sin], &[]));
            g.node("Add", &[&x, &turned], &[])
        };
        let (queries, keys, values) = (part(g, 0), part(g, 1), part(g, 2));
        let (queries, keys) = (turned(g, queries), turned(g, keys));
        let keys = transposed(g, &keys, &[0, 1, 3, 2]);
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
        let y = layer_norm(g, own, &format!("{name}.norm2"), &x, epsilon(self.sizes.is_rope))?;
        let up = linear(g, &y, "up")?;
        let y = if self.sizes.is_gated {
            let gate = linear(g, &y, "gate")?;
            let open = g.node("Sigmoid", &[&gate], &[]);
            let gate = g.node("Mul", &[&gate, &open], &[]);
            g.node("Mul", &[&gate, &up], &[])
        } else {
            gelu(g, &up)
        };
        let y = linear(g, &y, "down")?;
        Ok(g.node("Add", &[&x, &y], &[]))
    }
}
