//! Vision transformers as timm, torchvision, DINOv2 and Hugging Face publish them.

use std::collections::BTreeMap;

use lejepa_core::{
    Array, Arrays, Error, ImportedWeights, Normalization, Published, PublishedModel, Result, Table,
    Value,
};

use crate::filters::{other_channels, other_patch};
use crate::onnx::Transformer;
use crate::resample::resampling;
use crate::vit_names::{in_timm_names, join, timm_name};

/// A transformer's sizes.
#[derive(Debug)]
pub(crate) struct PublishedVit {
    pub(crate) width: usize,
    pub(crate) depth: usize,
    pub(crate) heads: usize,
    pub(crate) hidden: usize,
    pub(crate) patch: [usize; 3],
    /// Patches of a global view along each axis.
    pub(crate) grid: [usize; 3],
    pub(crate) is_cls: bool,
    pub(crate) registers: usize,
    pub(crate) is_learned: bool,
    pub(crate) is_rope: bool,
    /// Whether the perceptron is SwiGLU.
    pub(crate) is_gated: bool,
    /// Whether patches attend to earlier ones alone.
    pub(crate) is_causal: bool,
}

/// A block's parameters here and in timm, and whether it is a matrix, which timm stores transposed.
const BLOCK: [(&str, &str, bool); 10] = [
    ("norm1.gamma", "norm1.weight", false),
    ("norm1.beta", "norm1.bias", false),
    ("attention.qkv.weight", "attn.qkv.weight", true),
    ("attention.qkv.bias", "attn.qkv.bias", false),
    ("attention.out.weight", "attn.proj.weight", true),
    ("attention.out.bias", "attn.proj.bias", false),
    ("norm2.gamma", "norm2.weight", false),
    ("norm2.beta", "norm2.bias", false),
    ("down.weight", "mlp.fc2.weight", true),
    ("down.bias", "mlp.fc2.bias", false),
];

/// The first layer of the perceptron, and those of SwiGLU.
const UP: [(&str, &str, bool); 2] =
    [("up.weight", "mlp.fc1.weight", true), ("up.bias", "mlp.fc1.bias", false)];
const GATED: [(&str, &str, bool); 4] = [
    ("gate.weight", "mlp.fc1_g.weight", true),
    ("gate.bias", "mlp.fc1_g.bias", false),
    ("up.weight", "mlp.fc1_x.weight", true),
    ("up.bias", "mlp.fc1_x.bias", false),
];

/// Parameters outside the blocks, likewise.
const NORM: [(&str, &str); 2] = [("norm.gamma", "norm.weight"), ("norm.beta", "norm.bias")];

pub(crate) fn refused(reason: impl Into<String>) -> Error {
    Error::bad_value("encoder.name", reason.into())
}

fn get<'a>(arrays: &'a Arrays, name: &str) -> Result<&'a Array> {
    arrays.get(name).ok_or_else(|| refused(format!("the weights have no `{name}`")))
}

impl Published for PublishedVit {
    fn export(&self, own: &Arrays) -> Result<PublishedModel> {
        let [pt, ph, pw] = self.patch;
        let [gt, gh, gw] = self.grid;
        if pt != 1 || gt != 1 || ph == 1 {
            return Err(refused("timm has no transformer for views of one or three axes"));
        }
        let mut arrays = Arrays::new();
        let mut put = |name: String, array: Option<Array>| match array {
            Some(array) => {
                arrays.insert(name, array);
                Ok(())
            }
            None => Err(refused(format!("`{name}` has another shape than expected"))),
        };
        for i in 0..self.depth {
            for (ours, theirs, is_matrix) in self.block() {
                let array = get(own, &format!("blocks.{i}.{ours}"))?;
                let array = if is_matrix { array.transposed() } else { Some(array.clone()) };
                put(format!("blocks.{i}.{theirs}"), array)?;
            }
        }
        for (ours, theirs) in NORM {
            put(theirs.into(), Some(get(own, ours)?.clone()))?;
        }
        let embed = get(own, "embed.weight")?;
        let channels = embed.shape()[0] / (ph * pw);
        let filters = embed.transposed().and_then(|m| m.reshaped([self.width, channels, ph, pw]));
        put("patch_embed.proj.weight".into(), filters)?;
        put("patch_embed.proj.bias".into(), Some(get(own, "embed.bias")?.clone()))?;
        if !self.is_rope {
            put("pos_embed".into(), self.positions(own)?)?;
        }
        if self.is_cls {
            put("cls_token".into(), Some(get(own, "cls")?.clone()))?;
        }
        if self.registers > 0 {
            put("reg_token".into(), Some(get(own, "registers")?.clone()))?;
        }
        let mut arguments = Table::new();
        let mut set = |key: &str, value: Value| arguments.insert(key.into(), value);
        let pair = |a: usize, b: usize| Value::Array(vec![(a as i64).into(), (b as i64).into()]);
        set("img_size", pair(gh * ph, gw * pw));
        set("patch_size", if ph == pw { (ph as i64).into() } else { pair(ph, pw) });
        set("in_chans", (channels as i64).into());
        set("embed_dim", (self.width as i64).into());
        set("depth", (self.depth as i64).into());
        set("num_heads", (self.heads as i64).into());
        set("mlp_ratio", (self.hidden as f64 / self.width as f64).into());
        set("class_token", self.is_cls.into());
        set("no_embed_class", true.into());
        set("reg_tokens", (self.registers as i64).into());
        set("global_pool", if self.is_cls { "token" } else { "avg" }.into());
        set("fc_norm", false.into());
        set("num_classes", 0.into());
        self.as_timm(&mut arrays, &mut arguments)?;
        Ok(PublishedModel { architecture: self.architecture(), arguments, arrays })
    }

    fn import(&self, foreign: Arrays, own: &Arrays) -> Result<ImportedWeights> {
        let mut foreign = in_timm_names(foreign);
        let mut notes = Vec::new();
        let shapes = foreign.iter().map(|(name, array)| (name.clone(), array.shape())).collect();
        let (depth, width) = sizes(&shapes).ok_or_else(|| {
            refused("the weights are those of another network than a vision transformer")
        })?;
        if (depth, width) != (self.depth, self.width) {
            let (ours, wide) = (self.depth, self.width);
            return Err(refused(format!(
                "the weights are those of {depth} blocks of width {width}, the encoder has {ours} of width {wide}"
            )));
        }
        let mut arrays = own.clone();
        for i in 0..depth {
            fold_layer_scale(&mut foreign, i)?;
            for (ours, theirs, is_matrix) in self.block() {
                let name = format!("blocks.{i}.{theirs}");
                let taken = foreign.remove(&name);
                let array = match (taken, theirs) {
                    (Some(array), _) => array,
                    (None, "attn.qkv.bias") => Array::new([3 * width], vec![0.0; 3 * width])
                        .ok_or_else(|| refused("no bias"))?,
                    (None, _) => return Err(refused(format!("the weights have no `{name}`"))),
                };
                let array = if is_matrix { array.transposed() } else { Some(array) };
                replace(&mut arrays, &format!("blocks.{i}.{ours}"), array, &name)?;
            }
        }
        for (ours, theirs) in NORM {
            // timm norms the mean of the tokens where it pools so.
            let pooled = theirs.replace("norm", "fc_norm");
            let array = foreign.remove(theirs).or_else(|| {
                if theirs.ends_with("weight") {
                    notes.push("the norm of the mean (fc_norm) becomes one of the tokens".into());
                }
                foreign.remove(&pooled)
            });
            if array.is_none() {
                return Err(refused(format!("the weights have no `{theirs}`")));
            }
            replace(&mut arrays, ours, array, theirs)?;
        }
        self.import_patches(&mut foreign, &mut arrays, &mut notes)?;
        self.import_tokens(&mut foreign, &mut arrays, &mut notes)?;
        let rest: Vec<&str> =
            foreign.keys().map(String::as_str).filter(|name| !is_classifier(name)).collect();
        if !rest.is_empty() {
            notes.push(format!("not used: {}", rest.join(", ")));
        }
        Ok(ImportedWeights { arrays, notes })
    }

    fn multiply_adds(&self, view: &[usize]) -> Option<u64> {
        let (channels, grid) = view.split_first()?;
        let patch = self.patch.get(3usize.checked_sub(grid.len())?..)?;
        let patches: usize = grid.iter().zip(patch).map(|(n, p)| n / p).product();
        let cells = self.patch.iter().product::<usize>();
        let tokens = patches + self.registers + usize::from(self.is_cls);
        let (width, hidden) = (self.width, self.hidden);
        let products = if self.is_gated { 3 } else { 2 };
        let linear = tokens * (4 * width * width + products * width * hidden);
        let block = linear + 2 * tokens * tokens * width;
        Some((patches * channels * cells * width + self.depth * block) as u64)
    }

    fn onnx(&self, own: &Arrays, view: &[usize], normalization: &Normalization) -> Result<Vec<u8>> {
        if self.is_causal {
            return Err(refused("causal attention has no graph"));
        }
        Transformer { sizes: self }.graph(own, view, normalization)
    }
}

/// Puts an array in the place of one of the same shape.
fn replace(arrays: &mut Arrays, ours: &str, array: Option<Array>, theirs: &str) -> Result<()> {
    let slot = arrays.get_mut(ours).ok_or_else(|| refused(format!("there is no `{ours}`")))?;
    match array {
        Some(array) if array.shape() == slot.shape() => *slot = array,
        other => {
            let shape = other.map(|array| array.shape().to_vec()).unwrap_or_default();
            let expected = slot.shape();
            return Err(refused(format!(
                "`{theirs}` has the shape {shape:?}, the encoder needs {expected:?}"
            )));
        }
    }
    Ok(())
}

/// What a classifier or a pretraining task leaves in a file.
fn is_classifier(name: &str) -> bool {
    ["head.", "heads.", "head_dist.", "mask_token", "classifier.", "pooler.", "fc."]
        .iter()
        .any(|start| name.starts_with(start))
}

impl PublishedVit {
    /// Parameters of a block.
    fn block(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> + use<> {
        let first: &[_] = if self.is_gated { &GATED } else { &UP };
        BLOCK.iter().chain(first).copied()
    }

    /// Learned or fixed positions of the patches.
    pub(crate) fn positions(&self, own: &Arrays) -> Result<Option<Array>> {
        Ok(match self.is_learned {
            true => Some(get(own, "places")?.clone()),
            false => {
                let fixed = crate::position::sincos(self.grid, self.width);
                Array::new([1, self.grid.iter().product(), self.width], fixed)
            }
        })
    }

    /// What timm has otherwise in its models with rotary positions (those of DINOv3) and with SwiGLU (DINOv2's
    /// giant): both scale branches.
    fn as_timm(&self, arrays: &mut Arrays, arguments: &mut Table) -> Result<()> {
        if !self.is_rope && !self.is_gated {
            return Ok(());
        }
        let (width, misshapen) = (self.width, || refused("a bias has another shape than expected"));
        let one = Array::new([width], vec![1.0; width]).ok_or_else(misshapen)?;
        for block in (0..self.depth).map(|i| format!("blocks.{i}")) {
            for branch in [1, 2] {
                let scale = if self.is_rope { "gamma_N" } else { "lsN.gamma" };
                let scale = scale.replace('N', &branch.to_string());
                arrays.insert(format!("{block}.{scale}"), one.clone());
            }
            if self.is_rope {
                let name = format!("{block}.attn.qkv.bias");
                let bias = arrays.remove(&name).ok_or_else(misshapen)?;
                // Keys have none.
                for (kind, part) in [("q", 0), ("v", 2)] {
                    let values = bias.values().chunks_exact(width).nth(part);
                    let values = values.ok_or_else(misshapen)?.to_vec();
                    let array = Array::new([width], values).ok_or_else(misshapen)?;
                    arrays.insert(format!("{block}.attn.{kind}_bias"), array);
                }
            } else {
                for part in ["weight", "bias"] {
                    let names = ["fc1_g", "fc1_x"].map(|n| format!("{block}.mlp.{n}.{part}"));
                    let joined = join(arrays, &names).ok_or_else(misshapen)?;
                    arrays.insert(format!("{block}.mlp.fc1.{part}"), joined);
                }
            }
        }
        if !self.is_rope {
            // timm counts the gates.
            let ratio = 2.0 * self.hidden as f64 / width as f64;
            arguments.insert("mlp_ratio".into(), ratio.into());
            return Ok(());
        }
        for key in ["no_embed_class", "reg_tokens", "fc_norm"] {
            arguments.remove(key);
        }
        arguments.insert("num_reg_tokens".into(), (self.registers as i64).into());
        if self.is_gated {
            arguments.insert("swiglu_align_to".into(), 1.into());
        }
        Ok(())
    }

    fn architecture(&self) -> String {
        let size = match self.width {
            0..256 => "tiny",
            256..512 => "small",
            512..896 => "base",
            896..1152 => "large",
            1152..1344 => "huge",
            _ => "giant",
        };
        match size {
            _ if self.is_rope && self.is_gated => "vit_small_plus_patch16_dinov3_qkvb".into(),
            _ if self.is_rope => "vit_small_patch16_dinov3_qkvb".into(),
            _ if self.is_gated => "vit_giant_patch14_dinov2".into(),
            "huge" | "giant" => format!("vit_{size}_patch14_224"),
            _ => format!("vit_{size}_patch16_224"),
        }
    }

    /// The patch embedding, for other channels and another patch.
    fn import_patches(
        &self,
        foreign: &mut Arrays,
        arrays: &mut Arrays,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let name = "patch_embed.proj.weight";
        let filters = foreign.remove(name).ok_or_else(|| refused(format!("no `{name}`")))?;
        let [_, from, h, w] = filters.shape()[..] else {
            return Err(refused(format!("`{name}` is not that of pictures")));
        };
        let [pt, ph, pw] = self.patch;
        let inputs = get(arrays, "embed.weight")?.shape()[0];
        let to = inputs / (pt * ph * pw);
        let mut filters = filters;
        if from != to {
            filters = other_channels(&filters, to).ok_or_else(|| refused("no channels"))?;
            notes.push(format!("the patch embedding of {from} channels made one of {to}"));
        }
        if (h, w) != (ph, pw) {
            filters = other_patch(&filters, [ph, pw])
                .ok_or_else(|| refused(format!("patches of {h}×{w} cannot become {ph}×{pw}")))?;
            notes.push(format!("patches of {h}×{w} resized to {ph}×{pw} (pseudo-inverse)"));
        }
        // Each frame of a tubelet has an equal share.
        let mut values = vec![0.0; self.width * inputs];
        let plane = ph * pw;
        for (row, filter) in
            values.chunks_exact_mut(inputs).zip(filters.values().chunks_exact(to * plane))
        {
            for (i, value) in row.iter_mut().enumerate() {
                let (channel, cell) = (i / (pt * plane), i % plane);
                *value = filter[channel * plane + cell] / pt as f32;
            }
        }
        let matrix = Array::new([self.width, inputs], values).and_then(|m| m.transposed());
        replace(arrays, "embed.weight", matrix, name)?;
        let name = "patch_embed.proj.bias";
        let bias = foreign.remove(name);
        let none = || Array::new([self.width], vec![0.0; self.width]);
        replace(arrays, "embed.bias", bias.or_else(none), name)
    }

    /// Class token, registers and positions.
    fn import_tokens(
        &self,
        foreign: &mut Arrays,
        arrays: &mut Arrays,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let width = self.width;
        let cls = foreign.remove("cls_token");
        let registers = foreign.remove("reg_token");
        let theirs = registers.as_ref().map_or(0, |r| r.values().len() / width);
        let positions = foreign.remove("pos_embed").map(|p| p.values().to_vec());
        let mut positions = positions.unwrap_or_default();
        let rows = positions.len() / width;
        // Positions of the tokens before the patches, which are those of a square.
        let cells = (1..=rows).rev().map(|side| side * side).find(|cells| *cells <= rows);
        let before = rows - cells.unwrap_or(0);
        let mut prefix: Vec<f32> = positions.drain(..before * width).collect();
        prefix.resize((1 + theirs) * width, 0.0);
        let added = |tokens: &Array, places: &[f32]| {
            let sum = tokens.values().iter().zip(places).map(|(a, b)| a + b).collect();
            Array::new([1, tokens.values().len() / width, width], sum)
        };
        match (cls, self.is_cls) {
            (Some(cls), true) => {
                replace(arrays, "cls", added(&cls, &prefix), "cls_token")?;
            }
            (Some(_), false) => notes.push("the class token is left out (encoder.pool)".into()),
            (None, true) => notes.push("there is no class token: it starts at random".into()),
            (None, false) => {}
        }
        match (registers, self.registers) {
            (Some(tokens), ours) if ours == theirs => {
                replace(arrays, "registers", added(&tokens, &prefix[width..]), "reg_token")?;
            }
            (None, 0) => {}
            (_, ours) => notes.push(format!(
                "{theirs} registers, where the encoder has {ours} (encoder.registers)"
            )),
        }
        let side = cells.unwrap_or(0).isqrt();
        if self.is_rope && side == 0 {
            return Ok(());
        }
        if !self.is_learned {
            if side > 0 {
                notes
                    .push("positions are those of encoder.positions, not those of the file".into());
            }
            return Ok(());
        }
        if side == 0 {
            let hint = "the weights have no positions: set encoder.positions to rope or sincos";
            return Err(refused(hint));
        }
        let count: usize = self.grid.iter().product();
        let weights = resampling([1, side, side], self.grid);
        let mut places = vec![0.0f32; count * width];
        for (place, weights) in
            places.chunks_exact_mut(width).zip(weights.chunks_exact(side * side))
        {
            for (row, weight) in positions.chunks_exact(width).zip(weights) {
                place.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
            }
        }
        if self.grid != [1, side, side] {
            let [t, h, w] = self.grid;
            notes.push(format!("positions of {side}×{side} patches interpolated to {t}×{h}×{w}"));
        }
        replace(arrays, "places", Array::new([1, count, width], places), "pos_embed")
    }

    /// The settings that weights need.
    pub(crate) fn recognise(published: &Arrays) -> Option<Table> {
        // Shapes alone: weights may be gigabytes.
        let shapes = published.iter().map(|(name, array)| (timm_name(name), array.shape()));
        let shapes: BTreeMap<String, &[usize]> = shapes.collect();
        let (depth, width) = sizes(&shapes)?;
        let &[_, _, h, w] = *shapes.get("patch_embed.proj.weight")? else { return None };
        let &[_, hidden] = *shapes.get("blocks.0.mlp.fc2.weight")? else { return None };
        // Gate and value may be one matrix.
        let first = shapes.get("blocks.0.mlp.fc1.weight").map_or(hidden, |shape| shape[0]);
        let is_gated = first != hidden || shapes.contains_key("blocks.0.mlp.fc1_g.weight");
        let tokens = |shape: &&[usize]| shape.iter().product::<usize>() / width;
        let registers = shapes.get("reg_token").map_or(0, tokens);
        let mut table = Table::new();
        let mut set = |key: &str, value: Value| table.insert(key.into(), value);
        set("name", "vit".into());
        set("width", (width as i64).into());
        set("depth", (depth as i64).into());
        // Not in the weights: 64 a head in all that are published but ViT-H and ViT-g.
        let heads = if width > 1024 { 16 } else { (width / 64).max(1) };
        set("heads", (heads as i64).into());
        set("mlp_ratio", (hidden as f64 / width as f64).into());
        set("patch", Value::Array(vec![(h as i64).into(), (w as i64).into()]));
        set("pool", if shapes.contains_key("cls_token") { "cls" } else { "mean" }.into());
        set("registers", (registers as i64).into());
        let is_learned = shapes.contains_key("pos_embed");
        // No published weights have neither but those of rotary positions.
        set("positions", if is_learned { "learned" } else { "rope" }.into());
        if is_gated {
            set("mlp", "swiglu".into());
        }
        Some(table)
    }
}

/// Depth and width; `None` where this is no transformer.
fn sizes(shapes: &BTreeMap<String, &[usize]>) -> Option<(usize, usize)> {
    let norm = |block: usize| shapes.get(&format!("blocks.{block}.norm1.weight"));
    let width = norm(0)?.iter().product();
    let depth = (0..).take_while(|block| norm(*block).is_some()).count();
    (shapes.contains_key("patch_embed.proj.weight") && width > 0).then_some((depth, width))
}

/// Layer scale (Touvron et al., arXiv 2103.17239) multiplies what a branch adds, and so can its last layer.
fn fold_layer_scale(arrays: &mut Arrays, block: usize) -> Result<()> {
    for (scale, layer) in [("ls1", "attn.proj"), ("ls2", "mlp.fc2")] {
        let Some(scale) = arrays.remove(&format!("blocks.{block}.{scale}.gamma")) else { continue };
        for part in ["weight", "bias"] {
            let name = format!("blocks.{block}.{layer}.{part}");
            let array = get(arrays, &name)?;
            let columns = array.values().len() / scale.values().len().max(1);
            let scaled = array
                .values()
                .chunks(columns.max(1))
                .zip(scale.values())
                .flat_map(|(row, s)| row.iter().map(move |v| v * s))
                .collect();
            let scaled = Array::new(array.shape(), scaled);
            let scaled =
                scaled.ok_or_else(|| refused(format!("layer scale does not fit `{name}`")))?;
            arrays.insert(name, scaled);
        }
    }
    Ok(())
}
