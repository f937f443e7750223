//! What is trained: an encoder and a projector.

use burn::module::Module;
use burn::module::{ModuleVisitor, Param};
use burn::tensor::{DType, Device, GradientCheckpointingStrategy, Int, Tensor, TensorData};
use lejepa_core::{BoxedEncoder, Error, Purpose, Seed, Values, View, ViewSpec};
use lejepa_kernels::supports;
use lejepa_nn::Projector;
use rayon::prelude::*;

use crate::loader::{Batch, Part};
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
    /// let embeddings = model.embed_views(&batch, views, &device)?;
    /// assert_eq!(embeddings.dims(), [views.views(), 8, 24]);
    /// assert_eq!(model.project(embeddings).dims(), [views.views(), 8, 64]);
    /// // Views by themselves.
    /// let view = digits.eval_view(0)?;
    /// assert_eq!(model.embed(&[&view], &device)?.dims(), [1, 24]);
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
    /// [`TrainError::Core`] for views of a shape that is not the batch's, or a rank that the encoder does
    /// not take.
    ///
    /// # Shapes
    /// `[views, samples, embedding]`, globals first.
    pub fn embed_views(
        &self,
        batch: &Batch,
        views: &ViewSpec,
        device: &Device,
    ) -> Result<Tensor<3>> {
        self.embed_part(batch.whole(), views, device)
    }

    pub(crate) fn embed_part(
        &self,
        part: Part<'_>,
        views: &ViewSpec,
        device: &Device,
    ) -> Result<Tensor<3>> {
        let Part { mut globals, locals } = part;
        let together = views.global == views.local;
        if together {
            globals.extend(&locals);
        }
        let mut all: Vec<&[&View]> = vec![&globals];
        if !together && views.locals > 0 {
            all.push(&locals);
        }
        let embeddings = embed(&self.encoder, &all, device)?;
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

    /// Embeds views of one shape, of which there is at least one.
    ///
    /// # Errors
    /// As [`Model::embed_views`].
    ///
    /// # Shapes
    /// `[views, embedding]`
    pub fn embed(&self, views: &[&View], device: &Device) -> Result<Tensor<2>> {
        embed(&self.encoder, &[views], device)
    }

    /// Dotted names of vectors and scalars: biases, norms and the like, which are not decayed.
    pub(crate) fn undecayed(&self) -> Vec<String> {
        let mut names = Names::default();
        self.visit(&mut names);
        names.vectors
    }
}

/// Embeds views with an encoder, of which those of a shape are together.
pub(crate) fn embed(
    encoder: &BoxedEncoder,
    views: &[&[&View]],
    device: &Device,
) -> Result<Tensor<2>> {
    let mut all = Vec::with_capacity(views.len());
    for views in views {
        let shape = views.first().map_or(&[][..], |view| view.shape());
        if let Some(other) = views.iter().find(|view| view.shape() != shape) {
            let what = "view among others".into();
            let expected = format!("{shape:?}, as the first one");
            return Err(Error::Shape { what, expected, got: other.shape().to_vec() }.into());
        }
        all.push((on_device(views, device)?, shape));
    }
    Ok(encoder.encode_all(all)?)
}

/// Views of one shape as numbers on the device, `[views, width]`. They are read where the sampler left
/// them, and written once: into the tensor's memory, or into what travels to the device.
fn on_device(views: &[&View], device: &Device) -> Result<Tensor<2>> {
    // On the CPU there is no way to go.
    if !supports(device, DType::F32)
        && let Some(tensor) = unpacked(views, device)
    {
        return Ok(tensor);
    }
    let width = views.first().map_or(0, |view| view.values().len());
    let mut all = vec![0.0; views.len() * width];
    let rows = all.par_chunks_mut(width.max(1)).zip(views);
    rows.try_for_each(|(row, view)| view.write_to(row))?;
    Ok(Tensor::from_data(TensorData::new(all, [views.len(), width]), device))
}

/// Bytes that stand for the same travel four to a word, which every device can take apart, and become
/// numbers there. `None` for other views.
fn unpacked(views: &[&View], device: &Device) -> Option<Tensor<2>> {
    let first = views.first()?;
    let Values::Bytes { bytes, levels } = first.values() else { return None };
    let (count, width, channels) = (views.len(), bytes.len(), levels.channels());
    let words_of = width.div_ceil(4);
    let mut words = vec![0i32; count * words_of];
    for (view, words) in views.iter().zip(words.chunks_exact_mut(words_of)) {
        let Values::Bytes { bytes, levels: same } = view.values() else { return None };
        if same != levels {
            return None;
        }
        for (word, bytes) in words.iter_mut().zip(bytes.chunks(4)) {
            let mut four = [0; 4];
            four[..bytes.len()].copy_from_slice(bytes);
            *word = i32::from_le_bytes(four);
        }
    }
    let words = Tensor::<2, Int>::from_data(TensorData::new(words, [count, words_of]), device);
    let byte = |n: u32| words.clone().bitwise_right_shift_scalar(8 * n).bitwise_and_scalar(255);
    let all = Tensor::<2, Int>::stack::<3>((0..4).map(byte).collect(), 2);
    let all = all.reshape([count, 4 * words_of]).narrow(1, 0, width);
    let values = all.float().reshape([count, channels, width / channels.max(1)]);
    let of = |x: &[f32]| {
        Tensor::<3>::from_data(TensorData::new(x[..channels].to_vec(), [1, channels, 1]), device)
    };
    Some((values * of(&levels.scale) + of(&levels.shift)).reshape([count, width]))
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

    use lejepa_core::Levels;
    use lejepa_image as _;

    use super::*;

    #[test]
    fn views_beside_others_are_of_the_same_shape() {
        let device = Device::flex();
        let registry = lejepa_core::Registry::discover().unwrap();
        let assignments = vec!["modality=image".into(), "encoder.name=mlp".into()];
        let resolved =
            crate::Request { assignments, ..Default::default() }.resolve(&registry).unwrap();
        let spec = resolved.open(lejepa_core::Source::Demo).unwrap().spec().clone();
        let model = Model::init(&resolved, &spec, &device).unwrap();
        let width = spec.global.iter().product();
        let view = View::new(spec.global.clone(), vec![0.5; width]).unwrap();
        let flat = View::new([1, width], vec![0.5; width]).unwrap();
        assert_eq!(model.embed(&[&view, &view], &device).unwrap().dims()[0], 2);
        let error = model.embed(&[&view, &flat], &device).unwrap_err();
        assert!(error.to_string().contains("among others"), "{error}");
        assert!(model.embed(&[], &device).is_err());
        // Bytes beside numbers, or beside bytes that stand for something else, travel as numbers.
        let of = |std| {
            let levels = Arc::new(Levels::normalizing(&[0.0], &[std]));
            View::from_bytes([1, 2], vec![0, 255], levels).unwrap()
        };
        let numbers = View::new([1, 2], vec![7.0, 8.0]).unwrap();
        for (other, want) in [(numbers, [0.0, 1.0, 7.0, 8.0]), (of(0.5), [0.0, 1.0, 0.0, 2.0])] {
            let views = [&of(1.0), &other];
            assert!(unpacked(&views, &device).is_none());
            let got: Vec<f32> = on_device(&views, &device).unwrap().try_into_vec_as().unwrap();
            assert_eq!(got, want);
        }
    }

    #[test]
    fn bytes_are_the_same_numbers_wherever_they_become_so() {
        let levels = Arc::new(Levels::normalizing(&[0.4, 0.5, 0.6], &[0.2, 0.3, 0.1]));
        // 105 bytes, which four do not divide.
        let shape = [3, 5, 7];
        let bytes: Vec<u8> = (0..2 * 105).map(|i| (i * 37 % 256) as u8).collect();
        let want: Vec<f32> = bytes.chunks(105).flat_map(|b| levels.of(b, &shape)).collect();
        let views: Vec<View> = bytes
            .chunks(105)
            .map(|bytes| View::from_bytes(shape, bytes.to_vec(), levels.clone()).unwrap())
            .collect();
        let views: Vec<&View> = views.iter().collect();
        for device in [Device::flex(), Device::flex().autodiff()] {
            let far = unpacked(&views, &device).unwrap();
            let here = on_device(&views, &device).unwrap();
            for tensor in [far, here] {
                assert_eq!(tensor.dims(), [2, 105]);
                let got: Vec<f32> = tensor.try_into_vec_as().unwrap();
                let off = |(a, b): (&f32, &f32)| (a - b).abs();
                assert!(got.iter().zip(&want).map(off).fold(0.0, f32::max) < 1e-6);
            }
        }
    }
}
