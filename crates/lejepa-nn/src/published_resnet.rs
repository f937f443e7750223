//! Residual networks as timm and torchvision publish them.

use std::collections::BTreeMap;

use lejepa_core::{
    Arrays, ImportedWeights, Normalization, Published, PublishedModel, Result, Table, Value,
};

use crate::filters::other_channels;
use crate::onnx::{ConvLayer, Network};
use crate::published_vit::refused;

/// A residual network's sizes.
#[derive(Debug)]
pub(crate) struct PublishedResNet {
    /// Blocks of each stage.
    pub(crate) stages: [usize; 4],
    pub(crate) is_bottleneck: bool,
    /// Channels of the first stage.
    pub(crate) width: usize,
    /// Whether the stem is that of large pictures.
    pub(crate) is_large: bool,
}

/// Parameters of a batch norm here and there.
const NORM: [(&str, &str); 4] = [
    ("gamma", "weight"),
    ("beta", "bias"),
    ("running_mean", "running_mean"),
    ("running_var", "running_var"),
];

impl PublishedResNet {
    /// Names here and in timm of all arrays.
    fn names(&self, own: &Arrays) -> Vec<(String, String)> {
        let mut names = vec![("stem.weight".to_string(), "conv1.weight".to_string())];
        let norm = |ours: &str, theirs: &str| {
            NORM.map(|(a, b)| (format!("{ours}.{a}"), format!("{theirs}.{b}")))
        };
        names.extend(norm("stem_norm", "bn1"));
        let mut block = 0;
        for (stage, count) in self.stages.into_iter().enumerate() {
            for i in 0..count {
                let (ours, theirs) = (format!("blocks.{block}"), format!("layer{}.{i}", stage + 1));
                for k in 1..=if self.is_bottleneck { 3 } else { 2 } {
                    names.push((
                        format!("{ours}.conv{k}.weight"),
                        format!("{theirs}.conv{k}.weight"),
                    ));
                    names.extend(norm(&format!("{ours}.norm{k}"), &format!("{theirs}.bn{k}")));
                }
                names.push((
                    format!("{ours}.shortcut.weight"),
                    format!("{theirs}.downsample.0.weight"),
                ));
                let shortcut = format!("{ours}.shortcut_norm");
                names.extend(norm(&shortcut, &format!("{theirs}.downsample.1")));
                block += 1;
            }
        }
        names.retain(|(ours, _)| own.contains_key(ours));
        names
    }

    /// Layers, as the names of these networks count them.
    fn depth(&self) -> usize {
        2 + self.stages.iter().sum::<usize>() * if self.is_bottleneck { 3 } else { 2 }
    }

    /// The settings that weights need.
    pub(crate) fn recognise(published: &Arrays) -> Option<Table> {
        let shapes = published.iter().map(|(name, array)| (unwrapped(name), array.shape()));
        let shapes: BTreeMap<&str, &[usize]> = shapes.collect();
        let &[width, _, kernel, _] = *shapes.get("conv1.weight")? else { return None };
        let count = |stage: usize| {
            let name = |i| format!("layer{stage}.{i}.conv1.weight");
            (0..).take_while(|i| shapes.contains_key(name(*i).as_str())).count()
        };
        let network = Self {
            stages: [1, 2, 3, 4].map(count),
            is_bottleneck: shapes.contains_key("layer1.0.conv3.weight"),
            width,
            is_large: kernel > 3,
        };
        let mut table = Table::new();
        let mut set = |key: &str, value: Value| table.insert(key.into(), value);
        set("name", "resnet".into());
        set("depth", (network.depth() as i64).into());
        set("width", (width as i64).into());
        set("stem", if network.is_large { "large" } else { "small" }.into());
        Some(table)
    }
}

/// A name without what stands for a whole model.
pub(crate) fn unwrapped(name: &str) -> &str {
    let wrappers = ["module.", "_orig_mod.", "model.", "backbone.", "encoder."];
    let mut rest = name;
    while let Some(inner) = wrappers.iter().find_map(|start| rest.strip_prefix(start)) {
        rest = inner;
    }
    rest
}

impl Published for PublishedResNet {
    fn export(&self, own: &Arrays) -> Result<PublishedModel> {
        if !self.is_large {
            return Err(refused(
                "timm has no residual network with the stem for small views: set encoder.stem to large",
            ));
        }
        let stem = own.get("stem.weight").ok_or_else(|| refused("there is no `stem.weight`"))?;
        let (width, channels) = (stem.shape()[0], stem.shape()[1]);
        if width != 64 {
            return Err(refused(format!(
                "timm has these networks of width 64, this one has {width}"
            )));
        }
        let get = |(ours, theirs): (String, String)| {
            let array = own.get(&ours).cloned();
            array.map(|a| (theirs, a)).ok_or_else(|| refused(format!("there is no `{ours}`")))
        };
        let arrays = self.names(own).into_iter().map(get).collect::<Result<_>>()?;
        let mut arguments = Table::new();
        arguments.insert("in_chans".into(), (channels as i64).into());
        arguments.insert("num_classes".into(), 0.into());
        Ok(PublishedModel { architecture: format!("resnet{}", self.depth()), arguments, arrays })
    }

    fn import(&self, foreign: Arrays, own: &Arrays) -> Result<ImportedWeights> {
        let mut foreign: Arrays = foreign
            .into_iter()
            .map(|(name, array)| (unwrapped(&name).to_string(), array))
            .collect();
        if !foreign.contains_key("layer1.0.conv1.weight") {
            return Err(refused("the weights are those of another network than a ResNet"));
        }
        let mut notes = Vec::new();
        let mut arrays = own.clone();
        for (ours, theirs) in self.names(own) {
            let Some(mut array) = foreign.remove(&theirs) else {
                return Err(refused(format!("the weights have no `{theirs}`")));
            };
            let Some(slot) = arrays.get_mut(&ours) else { continue };
            let channels = |shape: &[usize]| shape.get(1).copied().unwrap_or(0);
            let (from, to) = (channels(array.shape()), channels(slot.shape()));
            if theirs == "conv1.weight" && from != to {
                array = other_channels(&array, to).ok_or_else(|| refused("no channels"))?;
                notes.push(format!("the stem of {from} channels made one of {to}"));
            }
            if array.shape() != slot.shape() {
                let (has, needs) = (array.shape(), slot.shape());
                return Err(refused(format!(
                    "`{theirs}` has the shape {has:?}, the encoder needs {needs:?}"
                )));
            }
            *slot = array;
        }
        let is_known =
            |name: &str| name.starts_with("fc.") || name.ends_with("num_batches_tracked");
        let rest: Vec<&str> =
            foreign.keys().map(String::as_str).filter(|name| !is_known(name)).collect();
        if !rest.is_empty() {
            notes.push(format!("not used: {}", rest.join(", ")));
        }
        Ok(ImportedWeights { arrays, notes })
    }

    fn multiply_adds(&self, view: &[usize]) -> Option<u64> {
        let (channels, grid) = view.split_first()?;
        let side = |axis: usize| grid.len().checked_sub(axis).map_or(1, |at| grid[at]);
        let frames: usize = grid.iter().rev().skip(2).product();
        let (mut h, mut w) = (side(2), side(1));
        let halve = |h: &mut usize, w: &mut usize| {
            (*h, *w) = (h.div_ceil(2), w.div_ceil(2));
            *h * *w
        };
        let kernel = if self.is_large { 49 } else { 9 };
        let cells = if self.is_large { halve(&mut h, &mut w) } else { h * w };
        let mut all = cells * kernel * channels * self.width;
        let mut cells = if self.is_large { halve(&mut h, &mut w) } else { cells };
        let mut input = self.width;
        for (stage, count) in self.stages.into_iter().enumerate() {
            let inner = self.width << stage;
            let output = if self.is_bottleneck { 4 * inner } else { inner };
            for block in 0..count {
                let before = cells;
                let strides = stage > 0 && block == 0;
                if strides {
                    cells = halve(&mut h, &mut w);
                }
                all += match self.is_bottleneck {
                    // The first layer is before the stride.
                    true => before * input * inner + cells * (9 * inner * inner + inner * output),
                    false => cells * 9 * (input * inner + inner * inner),
                };
                if strides || input != output {
                    all += cells * input * output;
                }
                input = output;
            }
        }
        Some((frames * all) as u64)
    }

    fn onnx(&self, own: &Arrays, view: &[usize], normalization: &Normalization) -> Result<Vec<u8>> {
        let layer = |conv: String, norm: String, stride| ConvLayer { conv, norm, stride };
        let (mut net, x) = Network::new(own, view, normalization)?;
        let stem = layer("stem".into(), "stem_norm".into(), if self.is_large { 2 } else { 1 });
        let x = net.convolve(&stem, &x)?;
        let mut x = net.relu(&x);
        if self.is_large {
            x = net.max_pool(&x);
        }
        let (mut block, mut dim) = (0, 0);
        for (stage, count) in self.stages.into_iter().enumerate() {
            for i in 0..count {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let last = if self.is_bottleneck { 3 } else { 2 };
                // The layer that strides: the middle one of a bottleneck, else the first.
                let strided = last - 1;
                let mut y = x.clone();
                for k in 1..=last {
                    let stride = if k == strided { stride } else { 1 };
                    let name = |part: &str| format!("blocks.{block}.{part}{k}");
                    y = net.convolve(&layer(name("conv"), name("norm"), stride), &y)?;
                    if k < last {
                        y = net.relu(&y);
                    }
                }
                let shortcut = format!("blocks.{block}.shortcut");
                if own.contains_key(&format!("{shortcut}.weight")) {
                    let norm = format!("{shortcut}_norm");
                    x = net.convolve(&layer(shortcut, norm, stride), &x)?;
                }
                let sum = net.add(&y, &x);
                x = net.relu(&sum);
                let name = format!("blocks.{block}.norm{last}.gamma");
                dim = own.get(&name).map_or(dim, |gamma| gamma.values().len());
                block += 1;
            }
        }
        Ok(net.mean(&x, dim))
    }
}
