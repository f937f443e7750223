//! ConvNeXt as timm, torchvision and its authors publish it.

use lejepa_core::{
    Array, Arrays, ImportedWeights, Normalization, Published, PublishedModel, Result, Table, Value,
};

use crate::convnext::{ConvNextConfig, ConvNextSize};
use crate::filters::{other_channels, other_patch};
use crate::published_resnet::unwrapped;
use crate::published_vit::refused;

/// A ConvNeXt's sizes.
#[derive(Debug)]
pub(crate) struct PublishedConvNext {
    pub(crate) version: usize,
    /// Channels of the first stage.
    pub(crate) width: usize,
    /// Blocks of each stage.
    pub(crate) depths: [usize; 4],
    /// Side of the stem's patches.
    pub(crate) patch: usize,
}

/// Sizes whose linear layers timm has as convolutions.
const AS_CONVOLUTIONS: [usize; 4] = [40, 48, 64, 80];

/// How an array is laid out elsewhere.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    Same,
    /// The matrix of a linear layer.
    Transposed,
}

impl PublishedConvNext {
    /// Names here and in timm of all arrays.
    fn names(&self) -> Vec<(String, String, Layout)> {
        let mut names = Vec::new();
        let mut put = |ours: String, theirs: String, layout| names.push((ours, theirs, layout));
        let mut pair = |ours: &str, theirs: &str, parts: [&str; 2], layout: Layout| {
            for (part, own) in ["weight", "bias"].into_iter().zip(parts) {
                let layout = if part == "weight" { layout } else { Layout::Same };
                put(format!("{ours}.{own}"), format!("{theirs}.{part}"), layout);
            }
        };
        let (linear, norm) = (["weight", "bias"], ["gamma", "beta"]);
        pair("stem", "stem.0", linear, Layout::Same);
        pair("stem_norm", "stem.1", norm, Layout::Same);
        pair("norm", "head.norm", norm, Layout::Same);
        for (s, depth) in self.depths.into_iter().enumerate() {
            let stage = format!("stages.{s}");
            if s > 0 {
                let theirs = format!("{stage}.downsample");
                pair(&format!("{stage}.norm"), &format!("{theirs}.0"), norm, Layout::Same);
                pair(&format!("{stage}.down"), &format!("{theirs}.1"), linear, Layout::Same);
            }
            for b in 0..depth {
                let block = format!("{stage}.blocks.{b}");
                let at = |part: &str| format!("{block}.{part}");
                pair(&at("conv"), &at("conv_dw"), linear, Layout::Same);
                pair(&at("norm"), &at("norm"), norm, Layout::Same);
                pair(&at("up"), &at("mlp.fc1"), linear, Layout::Transposed);
                pair(&at("down"), &at("mlp.fc2"), linear, Layout::Transposed);
                if self.version == 2 {
                    pair(&at("response"), &at("mlp.grn"), norm, Layout::Same);
                }
            }
        }
        if self.version == 1 {
            for (s, depth) in self.depths.into_iter().enumerate() {
                for b in 0..depth {
                    let block = format!("stages.{s}.blocks.{b}");
                    names.push((format!("{block}.scale"), format!("{block}.gamma"), Layout::Same));
                }
            }
        }
        names
    }

    /// The settings that weights need.
    pub(crate) fn recognise(published: &Arrays) -> Option<Table> {
        let names = published.iter().map(|(name, array)| Some((timm_name(name)?, array.shape())));
        let shapes: std::collections::BTreeMap<String, &[usize]> = names.flatten().collect();
        let &[width, _, patch, _] = *shapes.get("stem.0.weight")? else { return None };
        shapes.get("stages.0.blocks.0.conv_dw.weight")?;
        let count = |stage: usize| {
            let name = |i| format!("stages.{stage}.blocks.{i}.conv_dw.weight");
            (0..).take_while(|i| shapes.contains_key(&name(*i))).count()
        };
        let depths = [0, 1, 2, 3].map(count);
        let is_second = shapes.contains_key("stages.0.blocks.0.mlp.grn.weight");
        let mut table = Table::new();
        let mut set = |key: &str, value: Value| table.insert(key.into(), value);
        set("name", "convnext".into());
        set("version", if is_second { 2 } else { 1 }.into());
        set("width", (width as i64).into());
        set("depths", depths.map(|n| n as i64).to_vec().into());
        set("patch", (patch as i64).into());
        Some(table)
    }

    /// timm's name of a network of these sizes.
    fn architecture(&self, width: usize) -> Option<String> {
        use ConvNextSize::*;
        let sizes = [
            (Atto, "atto"),
            (Femto, "femto"),
            (Pico, "pico"),
            (Nano, "nano"),
            (Tiny, "tiny"),
            (Small, "small"),
            (Base, "base"),
            (Large, "large"),
            (Xlarge, "xlarge"),
            (Huge, "huge"),
        ];
        let is_this = |size: ConvNextSize| {
            let sized = ConvNextConfig { size, ..ConvNextConfig::default() }.sized();
            (sized.width, sized.depths) == (width, self.depths)
        };
        let (size, name) = sizes.into_iter().find(|(size, _)| is_this(*size))?;
        match (self.version, size) {
            (1, Huge) | (2, Small | Xlarge) => None,
            (1, _) => Some(format!("convnext_{name}")),
            _ => Some(format!("convnextv2_{name}")),
        }
    }
}

/// timm's name of an array of timm, torchvision or the authors; `None` for those of a classifier.
fn timm_name(name: &str) -> Option<String> {
    let name = unwrapped(name);
    if ["head.fc.", "classifier.", "head.weight", "head.bias"].iter().any(|s| name.starts_with(s)) {
        // torchvision's classifier begins with the last norm.
        return name.strip_prefix("classifier.0.").map(|part| format!("head.norm.{part}"));
    }
    if let Some(part) = name.strip_prefix("norm.") {
        return Some(format!("head.norm.{part}"));
    }
    if let Some(rest) = name.strip_prefix("downsample_layers.") {
        let (stage, rest) = rest.split_once('.')?;
        return Some(match stage {
            "0" => format!("stem.{rest}"),
            _ => format!("stages.{stage}.downsample.{rest}"),
        });
    }
    if let Some(rest) = name.strip_prefix("features.") {
        let (layer, rest) = rest.split_once('.')?;
        let layer: usize = layer.parse().ok()?;
        // The stem, then stages with what halves the resolution between them.
        return Some(match layer {
            0 => format!("stem.{rest}"),
            _ if layer.is_multiple_of(2) => format!("stages.{}.downsample.{rest}", layer / 2),
            _ => {
                let (block, part) = rest.split_once('.')?;
                let part = match part.strip_prefix("block.").unwrap_or(part).split_once('.') {
                    Some(("0", kind)) => format!("conv_dw.{kind}"),
                    Some(("2", kind)) => format!("norm.{kind}"),
                    Some(("3", kind)) => format!("mlp.fc1.{kind}"),
                    Some(("5", kind)) => format!("mlp.fc2.{kind}"),
                    _ => part.replace("layer_scale", "gamma"),
                };
                format!("stages.{}.blocks.{block}.{part}", layer / 2)
            }
        });
    }
    let Some(rest) = name.strip_prefix("stages.") else { return Some(name.to_string()) };
    if rest.contains(".blocks.") || rest.contains(".downsample.") {
        return Some(name.to_string());
    }
    let mut parts = rest.splitn(3, '.');
    let (stage, block, part) = (parts.next()?, parts.next()?, parts.next()?);
    let part = part
        .replace("dwconv.", "conv_dw.")
        .replace("pwconv1.", "mlp.fc1.")
        .replace("pwconv2.", "mlp.fc2.")
        .replace("grn.gamma", "mlp.grn.weight")
        .replace("grn.beta", "mlp.grn.bias");
    Some(format!("stages.{stage}.blocks.{block}.{part}"))
}

impl Published for PublishedConvNext {
    fn export(&self, own: &Arrays) -> Result<PublishedModel> {
        let stem = own.get("stem.weight").map_or(&[][..], Array::shape);
        let &[width, channels, height, length] = stem else {
            return Err(refused("there is no stem"));
        };
        let is_rows =
            own.get("stages.0.blocks.0.conv.weight").is_some_and(|conv| conv.shape()[2] == 1);
        if is_rows || height != length {
            return Err(refused("timm has no convnext for rows"));
        }
        if self.patch == 2 {
            // After a stem of stride 2 timm halves the resolution in the first stage as well.
            return Err(refused(
                "timm has no convnext with patches of 2: set encoder.patch to 1 or 4",
            ));
        }
        let mut arguments = Table::new();
        let mut set = |key: &str, value: Value| arguments.insert(key.into(), value);
        let (architecture, are_convolutions) = match self.architecture(width) {
            Some(name) => (name, AS_CONVOLUTIONS.contains(&width)),
            None => {
                set("depths", self.depths.map(|n| n as i64).to_vec().into());
                set("dims", [0, 1, 2, 3].map(|s| (width << s) as i64).to_vec().into());
                let name = if self.version == 1 { "convnext_tiny" } else { "convnextv2_tiny" };
                (name.to_string(), false)
            }
        };
        set("in_chans", (channels as i64).into());
        set("num_classes", 0.into());
        if self.patch != 4 {
            set("patch_size", (self.patch as i64).into());
        }
        let mut arrays = Arrays::new();
        for (ours, theirs, layout) in self.names() {
            let array = own.get(&ours).ok_or_else(|| refused(format!("there is no `{ours}`")))?;
            let array = match layout {
                Layout::Same => Some(array.clone()),
                Layout::Transposed => array.transposed().and_then(|matrix| {
                    let mut shape = matrix.shape().to_vec();
                    shape.resize(if are_convolutions { 4 } else { 2 }, 1);
                    matrix.reshaped(shape)
                }),
            };
            let array = array.ok_or_else(|| refused(format!("`{ours}` is no matrix")))?;
            arrays.insert(theirs, array);
        }
        Ok(PublishedModel { architecture, arguments, arrays })
    }

    fn import(&self, foreign: Arrays, own: &Arrays) -> Result<ImportedWeights> {
        let mut rest = Vec::new();
        let mut named = Arrays::new();
        for (name, array) in foreign {
            match timm_name(&name) {
                Some(timm) => drop(named.insert(timm, array)),
                None => rest.push(name),
            }
        }
        if !named.contains_key("stages.0.blocks.0.conv_dw.weight") {
            return Err(refused("the weights are those of another network than a ConvNeXt"));
        }
        let mut notes = Vec::new();
        let mut arrays = own.clone();
        for (ours, theirs, layout) in self.names() {
            let Some(mut array) = named.remove(&theirs) else {
                return Err(refused(format!("the weights have no `{theirs}`")));
            };
            let Some(slot) = arrays.get_mut(&ours) else { continue };
            if layout == Layout::Transposed {
                // The linear layers of the smaller ones are convolutions, and a response norm may be [1, 1, 1, C].
                let flat = array.shape().iter().take(2).copied().collect::<Vec<_>>();
                let matrix = array.reshaped(flat).and_then(|matrix| matrix.transposed());
                array = matrix.ok_or_else(|| refused(format!("`{theirs}` is no matrix")))?;
            } else if slot.shape().len() == 1 {
                let count = array.values().len();
                array = array.reshaped([count]).unwrap_or_default();
            }
            if ours == "stem.weight" {
                array = self.stem(array, slot.shape(), &mut notes)?;
            }
            if array.shape() != slot.shape() {
                let (has, needs) = (array.shape(), slot.shape());
                return Err(refused(format!(
                    "`{theirs}` has the shape {has:?}, the encoder needs {needs:?}"
                )));
            }
            *slot = array;
        }
        rest.extend(named.into_keys());
        rest.retain(|name| !name.contains("head.") && !name.contains("classifier."));
        if !rest.is_empty() {
            notes.push(format!("not used: {}", rest.join(", ")));
        }
        Ok(ImportedWeights { arrays, notes })
    }

    fn multiply_adds(&self, view: &[usize]) -> Option<u64> {
        let (channels, grid) = view.split_first()?;
        let [.., h, w] = *grid else { return None };
        let frames: usize = grid.iter().rev().skip(2).product();
        let (mut h, mut w) = (h / self.patch, w / self.patch);
        let mut all = h * w * self.patch * self.patch * channels * self.width;
        for (stage, depth) in self.depths.into_iter().enumerate() {
            let width = self.width << stage;
            if stage > 0 {
                (h, w) = (h / 2, w / 2);
                all += h * w * 2 * width * width;
            }
            all += depth * h * w * (49 * width + 8 * width * width);
        }
        Some((frames * all) as u64)
    }

    fn onnx(&self, own: &Arrays, view: &[usize], normalization: &Normalization) -> Result<Vec<u8>> {
        crate::onnx::convnext(self, own, view, normalization)
    }
}

impl PublishedConvNext {
    /// The filters of the stem for other channels and patches.
    fn stem(&self, filters: Array, needs: &[usize], notes: &mut Vec<String>) -> Result<Array> {
        let (&[_, from, h, w], &[_, to, side, _]) = (filters.shape(), needs) else {
            return Err(refused("the stem is no convolution"));
        };
        let mut filters = filters;
        if from != to {
            filters = other_channels(&filters, to).ok_or_else(|| refused("no channels"))?;
            notes.push(format!("the stem of {from} channels made one of {to}"));
        }
        if (h, w) != (side, side) {
            filters = other_patch(&filters, [side, side]).ok_or_else(|| {
                refused(format!("patches of {h}×{w} cannot become {side}×{side}"))
            })?;
            notes.push(format!("patches of {h}×{w} resized to {side}×{side} (pseudo-inverse)"));
        }
        Ok(filters)
    }
}
