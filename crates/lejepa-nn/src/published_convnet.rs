//! Convnets for other programs.

use lejepa_core::{Arrays, ImportedWeights, Normalization, Published, PublishedModel, Result};

use crate::onnx::{ConvLayer, Network};
use crate::published_vit::refused;

/// A convnet for other programs: as a graph alone, since no library has such networks.
#[derive(Debug)]
pub(crate) struct PublishedConvNet {
    pub(crate) stem_stride: usize,
    /// Strides of the layers of each stage.
    pub(crate) stages: Vec<Vec<usize>>,
    pub(crate) is_clip: bool,
    /// Rows that the frequency head takes.
    pub(crate) height: Option<usize>,
    pub(crate) width: usize,
}

impl Published for PublishedConvNet {
    fn export(&self, _: &Arrays) -> Result<PublishedModel> {
        Err(refused("timm has no such encoder: only vit, resnet and convnext can be exported"))
    }

    fn import(&self, _: Arrays, _: &Arrays) -> Result<ImportedWeights> {
        Err(refused("no library has such encoders: these weights are those of another"))
    }

    fn onnx(&self, own: &Arrays, view: &[usize], normalization: &Normalization) -> Result<Vec<u8>> {
        let (mut net, mut x) = Network::new(own, view, normalization)?;
        if self.is_clip {
            x = net.with_neighbours(&x, view[0])?;
        }
        let layer = |name: &str, stride| ConvLayer {
            conv: format!("{name}.conv"),
            norm: format!("{name}.norm"),
            stride,
        };
        let y = net.convolve(&layer("stem", self.stem_stride), &x)?;
        let mut x = net.relu(&y);
        for (i, strides) in self.stages.iter().enumerate() {
            for (j, stride) in strides.iter().enumerate() {
                let y = net.convolve(&layer(&format!("stages.{i}.layers.{j}"), *stride), &x)?;
                x = net.relu(&y);
            }
            if self.is_clip {
                let temporal = layer(&format!("stages.{i}.temporal"), 1);
                let channels = own
                    .get(&format!("{}.gamma", temporal.norm))
                    .map_or(0, |gamma| gamma.values().len());
                let neighbours = net.with_neighbours(&x, channels)?;
                let y = net.convolve(&temporal, &neighbours)?;
                let sum = net.add(&y, &x);
                x = net.relu(&sum);
            }
        }
        match self.height {
            Some(height) => net.by_frequency(&x, height, self.width),
            None => Ok(net.mean(&x, self.width)),
        }
    }
}
