//! What is trained: an encoder and a projector.

use burn::module::Module;
use burn::module::{ModuleVisitor, Param};
use burn::tensor::{DType, Device, GradientCheckpointingStrategy, Int, Tensor, TensorData};
use lejepa_core::{BoxedEncoder, Levels, Purpose, Seed, Values, ViewSpec};
use lejepa_kernels::supports;
use lejepa_nn::Projector;
use rayon::prelude::*;

use crate::loader::Batch;
use crate::resolved::Resolved;
use crate::{Result, TrainError};

/// Encoder and projector as one burn module.
#[derive(Module, Debug)]
pub struct Model {
    /// The backbone, which is kept after training.
    pub encoder: BoxedEncoder,
    /// The projector, which only training needs.
    pub projector: Projector,
}

impl Model {
    /// Builds both with initial weights that follow from the run's seed, the same on every device.
    ///
    /// # Errors
    /// Settings that the encoder or the projector refuses.
    ///
    /// ```
    #[doc = include_str!("doc/resolved.txt")]
    /// use lejepa_core::Seed;
    /// use lejepa_train::Model;
    /// use lejepa_train::loader::{Order, make_batch};
    ///
    /// let (device, digits) = (Device::flex(), resolved.open(lejepa_core::Source::Demo)?);
    /// let views = digits.spec();
    /// let model = Model::init(&resolved, views, &device)?;
    /// let order = Order { indices: (0..100).collect::<Vec<_>>().into(), batch: 8, seed: Seed(0) };
    /// let batch = make_batch(digits.as_ref(), &order, 0)?;
    /// let embeddings = model.embed_views(batch, views, &device)?;
    /// assert_eq!(embeddings.dims(), [views.views(), 8, 24]);
    /// assert_eq!(model.project(embeddings).dims(), [views.views(), 8, 64]);
    /// // Rows of one shape by themselves.
    /// let view = digits.eval_view(0)?;
    /// let rows = model.embed(view.values().clone(), view.shape(), &device)?;
    /// assert_eq!(rows.dims(), [1, 24]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn init(resolved: &Resolved, views: &ViewSpec, device: &Device) -> Result<Self> {
        let seed = Seed(resolved.settings.seed);
        // Every backend has a generator of its own. Weights are drawn on the CPU and then moved, so
        // that a run starts from the same point wherever it runs.
        let host = Device::flex();
        let host = match device.gradient_checkpointing_strategy() {
            None => host,
            Some(GradientCheckpointingStrategy::Disabled) => host.autodiff(),
            Some(GradientCheckpointingStrategy::Balanced) => {
                host.autodiff().gradient_checkpointing()
            }
        };
        host.seed(seed.derive(Purpose::Init, &[]));
        let encoder = (resolved.encoder.build)(&resolved.encoder_section(), views, &host)?;
        let projector = resolved.settings.projector.init(encoder.dim(), &host)?;
        let model = Self { encoder, projector };
        // burn draws weights when they are first read. Reading them here, in order, makes them
        // depend on the seed alone.
        model.visit(&mut Realise);
        Ok(if *device == host { model } else { model.fork(device) })
    }

    /// Embeddings of a batch of views.
    ///
    /// # Errors
    /// [`TrainError::Core`] for views of a rank the encoder does not take.
    ///
    /// # Shapes
    /// `[views, samples, embedding]`, globals first.
    pub fn embed_views(
        &self,
        batch: Batch,
        views: &ViewSpec,
        device: &Device,
    ) -> Result<Tensor<3>> {
        let mut embeddings = Vec::with_capacity(2);
        let (globals, locals) = (batch.globals, batch.locals);
        if views.global == views.local && views.locals > 0 {
            let mut all = globals;
            all.extend(&locals, &views.global);
            embeddings.push(self.embed(all, &views.global, device)?);
        } else {
            embeddings.push(self.embed(globals, &views.global, device)?);
            if views.locals > 0 {
                embeddings.push(self.embed(locals, &views.local, device)?);
            }
        }
        let embeddings = Tensor::cat(embeddings, 0);
        let [rows, dim] = embeddings.dims();
        Ok(embeddings.reshape([views.views(), rows / views.views(), dim]))
    }

    /// Projections of embeddings, all views at once, so that batch norm sees them as one batch.
    ///
    /// # Shapes
    /// `[views, samples, embedding] -> [views, samples, projector output]`
    pub fn project(&self, embeddings: Tensor<3>) -> Tensor<3> {
        let [views, samples, dim] = embeddings.dims();
        let z = self.projector.forward(embeddings.reshape([views * samples, dim]));
        let [_, dim] = z.dims();
        z.reshape([views, samples, dim])
    }

    /// Embeds rows of one shape.
    ///
    /// # Errors
    /// As [`Model::embed_views`].
    pub fn embed(&self, rows: Values, shape: &[usize], device: &Device) -> Result<Tensor<2>> {
        embed_rows(&self.encoder, rows, shape, device)
    }

    /// Dotted names of vectors and scalars: biases, norms and the like, which are not decayed.
    pub(crate) fn undecayed(&self) -> Vec<String> {
        let mut names = Names::default();
        self.visit(&mut names);
        names.vectors
    }
}

/// Embeds rows of one shape with an encoder.
pub(crate) fn embed_rows(
    encoder: &BoxedEncoder,
    rows: Values,
    shape: &[usize],
    device: &Device,
) -> Result<Tensor<2>> {
    Ok(encoder.encode(on_device(rows, shape, device), shape)?)
}

/// Rows of `shape` as numbers on the device, `[rows, width]`.
fn on_device(rows: Values, shape: &[usize], device: &Device) -> Tensor<2> {
    let width = shape.iter().product::<usize>().max(1);
    let count = rows.len() / width;
    let numbers =
        |numbers: Vec<f32>| Tensor::from_data(TensorData::new(numbers, [count, width]), device);
    match rows {
        Values::Numbers(rows) => numbers(rows),
        // There is no way to go.
        Values::Bytes { bytes, levels } if supports(device, DType::F32) => {
            let mut all = vec![0.0; bytes.len()];
            all.par_chunks_mut(width).zip(bytes.par_chunks(width)).for_each(|(row, bytes)| {
                row.copy_from_slice(&levels.of(bytes, shape));
            });
            numbers(all)
        }
        Values::Bytes { bytes, levels } => unpacked(&bytes, &levels, shape, count, device),
    }
}

/// Bytes travel four to a word, which every device can take apart, and become numbers there.
fn unpacked(
    bytes: &[u8],
    levels: &Levels,
    shape: &[usize],
    count: usize,
    device: &Device,
) -> Tensor<2> {
    let (channels, width) = (levels.channels(), bytes.len() / count.max(1));
    let word = |four: &[u8]| {
        let mut word = [0; 4];
        word[..four.len()].copy_from_slice(four);
        i32::from_le_bytes(word)
    };
    let words: Vec<i32> = bytes.chunks(4).map(word).collect();
    let length = words.len();
    let words = Tensor::<1, Int>::from_data(TensorData::new(words, [length]), device);
    let byte = |n: u32| words.clone().bitwise_right_shift_scalar(8 * n).bitwise_and_scalar(255);
    let all = Tensor::<1, Int>::stack::<2>((0..4).map(byte).collect(), 1).reshape([4 * length]);
    let planes = [count, channels, shape.iter().skip(1).product()];
    let values = all.narrow(0, 0, count * width).float().reshape(planes);
    let of = |x: &[f32]| {
        Tensor::<3>::from_data(TensorData::new(x[..channels].to_vec(), [1, channels, 1]), device)
    };
    (values * of(&levels.scale) + of(&levels.shift)).reshape([count, width])
}

impl Model {
    /// The dotted name of the first parameter with a NaN or an infinity in it.
    pub(crate) fn first_not_finite(&self) -> Option<String> {
        let mut search = NotFinite::default();
        self.visit(&mut search);
        search.found
    }
}

#[derive(Default)]
struct NotFinite {
    path: Vec<String>,
    found: Option<String>,
}

impl ModuleVisitor for NotFinite {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // 0 times a number is 0 but for NaN and infinity.
        if self.found.is_none()
            && let Ok(sum) = (param.val().detach() * 0.0).sum().try_into_scalar::<f32>()
            && sum != 0.0
        {
            self.found = Some(self.path.join("."));
        }
    }
}

struct Realise;

impl ModuleVisitor for Realise {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let _ = param.val();
    }
}

#[derive(Default)]
struct Names {
    path: Vec<String>,
    vectors: Vec<String>,
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
        if D == 1 {
            self.vectors.push(self.path.join("."));
        }
    }
}

/// The loss as a number.
pub(crate) fn scalar(tensor: Tensor<1>) -> Result<f64> {
    Ok(f64::from(tensor.try_into_scalar::<f32>().map_err(TrainError::from)?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn bytes_are_the_same_numbers_wherever_they_become_so() {
        let levels = Arc::new(Levels::normalizing(&[0.4, 0.5, 0.6], &[0.2, 0.3, 0.1]));
        // 105 bytes, which four do not divide.
        let shape = [3, 5, 7];
        let bytes: Vec<u8> = (0..2 * 105).map(|i| (i * 37 % 256) as u8).collect();
        let want = levels.of(&bytes, &shape);
        for device in [Device::flex(), Device::flex().autodiff()] {
            let far = unpacked(&bytes, &levels, &shape, 2, &device);
            let here = Values::Bytes { bytes: bytes.clone(), levels: levels.clone() };
            let here = on_device(here, &shape, &device);
            for tensor in [far, here] {
                assert_eq!(tensor.dims(), [2, 105]);
                let got: Vec<f32> = tensor.try_into_vec_as().unwrap();
                let off = |(a, b): (&f32, &f32)| (a - b).abs();
                assert!(got.iter().zip(&want).map(off).fold(0.0, f32::max) < 1e-6);
            }
        }
    }
}
