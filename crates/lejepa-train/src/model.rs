//! What is trained: encoders, projectors and the prediction term.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor};
use lejepa_core::{
    BoxedEncoder, BoxedPrediction, Error, Features, FlatInput, View, ViewSpec, Wants,
};
use lejepa_nn::Projector;

use crate::Result;
use crate::batch::{Batch, Part};
use crate::transfer::{padded, to_device};

/// All that is trained, as one burn module.
///
/// Each stream of views has an encoder and a projector, in the order of [`ViewSpec::streams`].
/// [`Resolved::model`](crate::Resolved::model) builds it.
#[derive(Module, Debug)]
pub struct Model {
    /// The backbones, which are kept after training.
    pub encoders: Vec<BoxedEncoder>,
    /// The projectors, which only training needs.
    pub projectors: Vec<Projector>,
    /// The prediction term, which only training needs.
    pub prediction: BoxedPrediction,
}

impl Model {
    /// Width of a sample's embedding: that of all streams together.
    pub fn dim(&self) -> usize {
        self.encoders.iter().map(BoxedEncoder::dim).sum()
    }

    /// Embeddings of a batch, a tensor for each stream.
    ///
    /// # Errors
    /// [`Error::Shape`] for views of a rank that the encoder does not take; [`Error::BadValue`] for views
    /// of varying length where it takes none.
    ///
    /// # Shapes
    /// `[views of the stream, samples, embedding]`, views in the order of the groups.
    pub fn embed_batch(&self, batch: &Batch, device: &Device) -> Result<Vec<Tensor<3>>> {
        self.embed_part(&batch.whole(), device)
    }

    pub(crate) fn embed_part(&self, part: &Part<'_>, device: &Device) -> Result<Vec<Tensor<3>>> {
        let streams = part.spec.streams().into_iter().zip(&self.encoders);
        streams.map(|(stream, encoder)| embed_stream(encoder, part, stream, device)).collect()
    }

    /// Projections of embeddings, all views of a stream at once, so that batch norm sees them as one batch.
    ///
    /// # Shapes
    /// `[views of the stream, samples, embedding]` for each stream `-> [views, samples, projection]`, views
    /// in the order of the groups.
    pub fn project(&self, spec: &ViewSpec, embeddings: Vec<Tensor<3>>) -> Tensor<3> {
        let projected =
            embeddings.into_iter().zip(&self.projectors).map(|(embeddings, projector)| {
                let [views, samples, dim] = embeddings.dims();
                let z = projector.forward(embeddings.reshape([views * samples, dim]));
                let [_, dim] = z.dims();
                z.reshape([views, samples, dim])
            });
        let mut projected: Vec<Tensor<3>> = projected.collect();
        if projected.len() == 1 {
            return projected.swap_remove(0);
        }
        let streams = spec.streams();
        let mut next = vec![0; streams.len()];
        let groups = spec.groups().iter().filter_map(|group| {
            let at = streams.iter().position(|name| *name == group.stream)?;
            next[at] += group.count;
            Some(projected.get(at)?.clone().narrow(0, next[at] - group.count, group.count))
        });
        Tensor::cat(groups.collect(), 0)
    }

    /// Embeds evaluation views: one for each sample and stream. The embedding of a sample is that of all
    /// its streams, one after the other.
    ///
    /// # Errors
    /// As [`Model::embed_batch`].
    ///
    /// # Shapes
    /// `views`: for each stream those of all samples; the result is `[samples, embedding]`.
    pub fn embed(&self, views: &[Vec<&View>], device: &Device) -> Result<Tensor<2>> {
        embed(&self.encoders, views, device)
    }

    /// Dotted names of parameters that are not decayed: vectors and scalars (biases, norms and the like),
    /// and what the encoders name.
    pub(crate) fn undecayed(&self) -> Vec<String> {
        let mut names = Names::default();
        self.visit(&mut names);
        for (i, encoder) in self.encoders.iter().enumerate() {
            let within = encoder.undecayed().into_iter();
            names.vectors.extend(within.map(|name| format!("encoders.{i}.{name}")));
        }
        names.vectors
    }

    /// The dotted name of the first parameter with a NaN or an infinity in it.
    pub(crate) fn first_not_finite(&self) -> Option<String> {
        let mut search = NotFinite::default();
        self.visit(&mut search);
        search.found
    }
}

/// burn's CPU backend has one generator for the process: who seeds it and draws from it holds this lock, so
/// that learners on several threads do not take each other's numbers.
pub(crate) fn draws() -> Drawing {
    HELD.set(Some(lock_draws()));
    Drawing(PhantomData)
}

/// The generator is this thread's until this is dropped.
pub(crate) struct Drawing(PhantomData<*const ()>);

impl Drop for Drawing {
    fn drop(&mut self) {
        HELD.take();
    }
}

thread_local! {
    static HELD: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
}

fn lock_draws() -> MutexGuard<'static, ()> {
    static DRAWS: Mutex<()> = Mutex::new(());
    DRAWS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `wait`, which waits for other threads, without the generator, and says whether this thread had it: then it
/// has it again, seeded by somebody else.
pub(crate) fn without_draws<T>(wait: impl FnOnce() -> T) -> (T, bool) {
    let had = HELD.take().is_some();
    let waited = wait();
    if had {
        HELD.set(Some(lock_draws()));
    }
    (waited, had)
}

/// Embeds the views of one stream, of which those of a shape go together.
fn embed_stream(
    encoder: &BoxedEncoder,
    part: &Part<'_>,
    stream: &str,
    device: &Device,
) -> Result<Tensor<3>> {
    let groups = || part.spec.groups().iter().zip(&part.groups).filter(|(g, _)| g.stream == stream);
    let views: usize = groups().map(|(group, _)| group.count).sum();
    // Groups that follow each other and have one shape are one input.
    let mut together: Vec<(Vec<&View>, bool)> = Vec::new();
    for (group, views) in groups() {
        let variable = group.is_variable();
        match together.last_mut() {
            Some((all, false))
                if !variable
                    && all.first().map(|v| v.shape()) == views.first().map(|v| v.shape()) =>
            {
                all.extend(views);
            }
            _ => together.push((views.clone(), variable)),
        }
    }
    let inputs = together.iter().map(|(views, variable)| input(views, *variable, device));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let embeddings = encoder.encode_all(inputs.iter().map(Owned::flat).collect())?;
    let [_, dim] = embeddings.dims();
    Ok(embeddings.reshape([views, part.samples, dim]))
}

/// [`FlatInput`] that owns its shape.
struct Owned {
    values: Tensor<2>,
    shape: Vec<usize>,
    lengths: Option<Tensor<2, Int>>,
}

impl Owned {
    fn flat(&self) -> FlatInput<'_> {
        FlatInput::new(self.values.clone(), &self.shape).with_lengths(self.lengths.clone())
    }
}

fn input(views: &[&View], variable: bool, device: &Device) -> Result<Owned> {
    if variable {
        let padded = padded(views, device);
        let lengths = Some(padded.lengths);
        return Ok(Owned { values: padded.values, shape: padded.shape, lengths });
    }
    let shape = views.first().map_or_else(Vec::new, |view| view.shape().to_vec());
    Ok(Owned { values: to_device(views, device)?, shape, lengths: None })
}

/// Whether views have to be padded to go together.
fn vary(views: &[&View]) -> bool {
    let mut shapes = views.iter().map(|view| view.shape());
    let first = shapes.next();
    shapes.any(|shape| Some(shape) != first)
}

/// See [`Model::embed`].
pub(crate) fn embed(
    encoders: &[BoxedEncoder],
    views: &[Vec<&View>],
    device: &Device,
) -> Result<Tensor<2>> {
    if views.len() != encoders.len() || views.iter().any(Vec::is_empty) {
        return Err(Error::Shape {
            what: "evaluation views".into(),
            expected: format!("[{}] streams with at least one view each", encoders.len()),
            got: views.iter().map(Vec::len).collect(),
        }
        .into());
    }
    let embedded = encoders.iter().zip(views).map(|(encoder, views)| {
        let same_rank = views.iter().all(|view| view.shape().len() == views[0].shape().len());
        let input = input(views, same_rank && vary(views), device)?;
        Ok(encoder.encode_all(vec![input.flat()])?)
    });
    Ok(Tensor::cat(embedded.collect::<Result<_>>()?, 1))
}

/// Features of evaluation views of one encoder; see [`BoxedEncoder::features`].
pub(crate) fn features(
    encoder: &BoxedEncoder,
    views: &[&View],
    wants: &Wants,
    device: &Device,
) -> Result<Features> {
    Ok(encoder.features(input(views, vary(views), device)?.flat(), wants)?)
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

#[cfg(test)]
mod tests {
    use lejepa_image as _;

    use super::*;

    #[test]
    fn views_to_embed_are_of_one_rank_and_there_are_some() {
        let device = Device::flex();
        let registry = lejepa_core::Registry::discover().unwrap();
        let assignments = vec!["modality=image".into(), "encoder.name=mlp".into()];
        let resolved =
            crate::Request { assignments, ..Default::default() }.resolve(&registry).unwrap();
        let model = resolved.model(&device).unwrap();
        let shape = resolved.spec().shape();
        let width = shape.iter().product();
        let view = View::new(shape, vec![0.5; width]).unwrap();
        let flat = View::new([1, width], vec![0.5; width]).unwrap();
        assert_eq!(model.embed(&[vec![&view, &view]], &device).unwrap().dims()[0], 2);
        let error = model.embed(&[vec![&view, &flat]], &device).unwrap_err();
        assert!(error.to_string().contains("among others"), "{error}");
        assert!(model.embed(&[vec![]], &device).is_err());
        assert!(model.embed(&[vec![&view], vec![&view]], &device).is_err());
    }
}
