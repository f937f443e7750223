//! Operations on slices as backend extensions of burn, with their own backward pass.

use std::any::TypeId;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::TensorMetadata;
use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{
        base::Checkpointer,
        strategy::{BalancedCheckpointing, CheckpointStrategy},
    },
    grads::Gradients,
    ops::{Backward, NodeGuard, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{AutodiffBackend, Backend, Dispatch, ExtensionType, Flex, backend_extension};
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::buffer::Buffer;
use crate::profile::{Pass, timed};

/// A contiguous f32 tensor.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) shape: &'a [usize],
}

/// Result of the forward pass.
pub(crate) struct Output {
    pub(crate) data: Vec<f32>,
    pub(crate) shape: Vec<usize>,
    /// What the backward pass needs besides the inputs.
    pub(crate) saved: Option<SavedActivations>,
    /// Mean and variance of each channel, for operations that compute them; constants for autodiff.
    pub(crate) statistics: Option<Vec<f32>>,
}

impl Output {
    /// A result without anything saved.
    pub(crate) fn new(data: Vec<f32>, shape: Vec<usize>) -> Self {
        Self { data, shape, saved: None, statistics: None }
    }
}

/// What the forward pass saves for the backward pass; parts that an operation does not use are empty.
#[derive(Debug, Default)]
pub(crate) struct SavedActivations {
    pub(crate) values: Option<Buffer>,
    /// An input rounded to bf16.
    pub(crate) bf16: Vec<u16>,
    /// See [`relu_mask`](crate::normalize::relu_mask).
    pub(crate) relu_mask: Vec<u16>,
}

/// What the forward pass should save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SavePolicy {
    /// Nothing: there is no backward pass.
    Nothing,
    /// What takes less memory than the inputs it replaces; the rest is recomputed.
    Minimum,
    /// Also what makes the backward pass faster.
    Everything,
}

/// An operation on slices.
pub(crate) trait Operation: Debug + Send + Sync + 'static {
    /// Name of the public function.
    fn name(&self) -> &'static str;

    /// The result, and what `policy` asks to save.
    fn forward(&self, inputs: &[Input<'_>], policy: SavePolicy) -> Output;

    /// Whether the data of an input are not needed by the backward pass, because of what is saved.
    fn frees_input(&self, _input: usize) -> bool {
        false
    }

    /// The gradients of the `wanted` inputs from that of the output; others may be `None`. Inputs that were
    /// freed have no data.
    fn backward(
        &self,
        inputs: &[Input<'_>],
        saved: Option<&mut SavedActivations>,
        gradient: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>>;
}

type SharedOperation = Arc<dyn Operation>;
type SharedActivations = Option<Arc<Mutex<SavedActivations>>>;

/// Result of the forward pass as tensors.
struct ForwardPass<T> {
    value: T,
    statistics: Option<T>,
    saved: SharedActivations,
}

/// A backend whose tensors are slices.
trait SliceBackend: Backend {
    fn forward(
        op: &SharedOperation,
        inputs: &[FloatTensor<Self>],
        policy: SavePolicy,
    ) -> ForwardPass<FloatTensor<Self>>;

    fn backward(
        op: &SharedOperation,
        inputs: &[SavedInput<FloatTensor<Self>>],
        saved: SharedActivations,
        gradient: FloatTensor<Self>,
        wanted: &[bool],
    ) -> Vec<Option<FloatTensor<Self>>>;
}

/// An input as it is saved for the backward pass.
#[derive(Debug, Clone)]
enum SavedInput<T> {
    Tensor(T),
    /// The shape of an input that was freed.
    Shape(Vec<usize>),
}

/// The inputs of an operation, in a form that burn routes to a backend.
#[derive(ExtensionType)]
#[rustfmt::skip]
pub(super) enum Inputs<B: Backend> {
    One(FloatTensor<B>),
    Two(FloatTensor<B>, FloatTensor<B>),
    Three(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
    Four(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
    Five(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
    Thirteen(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
}

impl<B: Backend> Inputs<B> {
    #[rustfmt::skip]
    pub(super) fn into_vec(self) -> Vec<FloatTensor<B>> {
        match self {
            Self::One(a) => vec![a],
            Self::Two(a, b) => vec![a, b],
            Self::Three(a, b, c) => vec![a, b, c],
            Self::Four(a, b, c, d) => vec![a, b, c, d],
            Self::Five(a, b, c, d, e) => vec![a, b, c, d, e],
            Self::Thirteen(a, b, c, d, e, f, g, h, i, j, k, l, m) => vec![a, b, c, d, e, f, g, h, i, j, k, l, m],
        }
    }

    /// `None` for a number of inputs that no operation has.
    fn of(inputs: Vec<FloatTensor<B>>) -> Option<Self> {
        let mut inputs = inputs.into_iter();
        let count = inputs.len();
        let mut next = || inputs.next();
        Some(match count {
            1 => Self::One(next()?),
            2 => Self::Two(next()?, next()?),
            3 => Self::Three(next()?, next()?, next()?),
            4 => Self::Four(next()?, next()?, next()?, next()?),
            5 => Self::Five(next()?, next()?, next()?, next()?, next()?),
            13 => Self::Thirteen(
                next()?,
                next()?,
                next()?,
                next()?,
                next()?,
                next()?,
                next()?,
                next()?,
                next()?,
                next()?,
                next()?,
                next()?,
                next()?,
            ),
            _ => return None,
        })
    }
}

impl Inputs<Dispatch> {
    pub(super) fn of_all(inputs: impl IntoIterator<Item = Dispatched>) -> Self {
        let Some(inputs) = Self::of(inputs.into_iter().map(|t| t.0).collect()) else {
            unreachable!("a number of inputs that `Inputs` does not have")
        };
        inputs
    }
}

/// The one extension that runs all operations: the result, and statistics if the operation has any.
#[backend_extension(Flex, Autodiff)]
trait Fused: Backend {
    fn fused(
        #[extension_type] inputs: Inputs<Self>,
        op: SharedOperation,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>);
}

/// Runs `work` on the tensors as slices.
fn with_slices<T>(
    tensors: &[SavedInput<FloatTensor<Flex>>],
    work: impl FnOnce(&[Input<'_>]) -> T,
) -> T {
    let tensors: Vec<_> = tensors
        .iter()
        .map(|input| match input {
            SavedInput::Tensor(t) => {
                let t = t.to_contiguous();
                (t.layout().shape().to_vec(), Some(t))
            }
            SavedInput::Shape(shape) => (shape.clone(), None),
        })
        .collect();
    let inputs: Vec<Input<'_>> = tensors
        .iter()
        .map(|(shape, t)| {
            let length = shape.iter().product::<usize>();
            let data = match t {
                Some(t) => &t.storage::<f32>()[t.layout().start_offset()..][..length],
                None => &[],
            };
            Input { data, shape }
        })
        .collect();
    work(&inputs)
}

fn tensor(data: Vec<f32>, shape: Vec<usize>) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::new(data, shape))
}

impl SliceBackend for Flex {
    fn forward(
        op: &SharedOperation,
        inputs: &[FloatTensor<Self>],
        policy: SavePolicy,
    ) -> ForwardPass<FloatTensor<Self>> {
        let inputs: Vec<_> = inputs.iter().cloned().map(SavedInput::Tensor).collect();
        let output = with_slices(&inputs, |inputs| {
            timed(op.name(), Pass::Forward, || op.forward(inputs, policy))
        });
        let Output { data, shape, saved, statistics } = output;
        ForwardPass {
            value: tensor(data, shape),
            statistics: statistics.map(|values| {
                let channels = values.len() / 2;
                tensor(values, vec![2, channels])
            }),
            saved: saved.map(|saved| Arc::new(Mutex::new(saved))),
        }
    }

    fn backward(
        op: &SharedOperation,
        inputs: &[SavedInput<FloatTensor<Self>>],
        saved: SharedActivations,
        gradient: FloatTensor<Self>,
        wanted: &[bool],
    ) -> Vec<Option<FloatTensor<Self>>> {
        let gradient = gradient.to_contiguous();
        let length = gradient.layout().shape().num_elements();
        let dy = &gradient.storage::<f32>()[gradient.layout().start_offset()..][..length];
        with_slices(inputs, |inputs| {
            let mut saved =
                saved.as_ref().map(|saved| saved.lock().unwrap_or_else(PoisonError::into_inner));
            let work = || op.backward(inputs, saved.as_deref_mut(), dy, wanted);
            let gradients = timed(op.name(), Pass::Backward, work);
            let pairs = gradients.into_iter().zip(inputs);
            pairs.map(|(d, input)| d.map(|d| tensor(d, input.shape.to_vec()))).collect()
        })
    }
}

impl Fused for Flex {
    fn fused(
        inputs: Inputs<Self>,
        op: SharedOperation,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        let pass = Self::forward(&op, &inputs.into_vec(), SavePolicy::Nothing);
        (pass.value, pass.statistics)
    }
}

/// The node of an operation in burn's graph.
#[derive(Debug)]
struct Node;

#[derive(Debug, Clone)]
struct State<T> {
    op: SharedOperation,
    inputs: Vec<SavedInput<T>>,
    saved: SharedActivations,
}

impl<B: SliceBackend, const N: usize> Backward<B, N> for Node {
    type State = State<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let State { op, inputs, saved } = ops.state;
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = <B as SliceBackend>::backward(&op, &inputs, saved, gradient, &wanted);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: SliceBackend, C: CheckpointStrategy> Fused for Autodiff<B, C> {
    fn fused(
        inputs: Inputs<Self>,
        op: SharedOperation,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        let inputs = inputs.into_vec();
        match inputs.len() {
            1 => tracked::<B, C, 1>(inputs, op),
            2 => tracked::<B, C, 2>(inputs, op),
            3 => tracked::<B, C, 3>(inputs, op),
            4 => tracked::<B, C, 4>(inputs, op),
            5 => tracked::<B, C, 5>(inputs, op),
            13 => tracked::<B, C, 13>(inputs, op),
            n => unreachable!("no operation has {n} inputs"),
        }
    }
}

/// Runs an operation and adds it to the graph if an input requires a gradient.
#[allow(clippy::type_complexity)]
fn tracked<B: SliceBackend, C: CheckpointStrategy, const N: usize>(
    inputs: Vec<FloatTensor<Autodiff<B, C>>>,
    op: SharedOperation,
) -> (FloatTensor<Autodiff<B, C>>, Option<FloatTensor<Autodiff<B, C>>>) {
    let nodes: Vec<NodeGuard> = inputs.iter().map(|t| t.node()).collect();
    let Ok(nodes) = <[NodeGuard; N]>::try_from(nodes) else {
        unreachable!("as many nodes as inputs")
    };
    let inputs: Vec<_> = inputs.into_iter().map(|t| t.into_primitive()).collect();
    let (value, statistics) =
        match Backward::<B, N>::prepare::<C>(Node, nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let is_balanced = TypeId::of::<C>() == TypeId::of::<BalancedCheckpointing>();
                let policy = if is_balanced { SavePolicy::Minimum } else { SavePolicy::Everything };
                let pass = <B as SliceBackend>::forward(&op, &inputs, policy);
                let save = |(i, t): (usize, FloatTensor<B>)| match op.frees_input(i) {
                    true => SavedInput::Shape(t.shape().to_vec()),
                    false => SavedInput::Tensor(t),
                };
                let inputs = inputs.into_iter().enumerate().map(save).collect();
                let state = State { op, inputs, saved: pass.saved };
                (prep.finish(state, pass.value), pass.statistics)
            }
            OpsKind::UnTracked(prep) => {
                let pass = <B as SliceBackend>::forward(&op, &inputs, SavePolicy::Nothing);
                (prep.finish(pass.value), pass.statistics)
            }
        };
    (value, statistics.map(<Autodiff<B, C> as AutodiffBackend>::from_inner))
}

/// Runs an operation; `R` is the rank of its result.
pub(crate) fn run<const R: usize>(inputs: Vec<Dispatched>, op: impl Operation) -> Tensor<R> {
    run_with_statistics(inputs, op).0
}

/// Runs an operation that may compute statistics, `[2, channels]`.
pub(crate) fn run_with_statistics<const R: usize>(
    inputs: Vec<Dispatched>,
    op: impl Operation,
) -> (Tensor<R>, Option<Tensor<2>>) {
    let (value, statistics) = <Dispatch as Fused>::fused(Inputs::of_all(inputs), Arc::new(op));
    (Tensor::from_dispatch(value), statistics.map(Tensor::from_dispatch))
}

/// A tensor of any rank.
pub(crate) struct Dispatched(FloatTensor<Dispatch>);

impl<const D: usize> From<Tensor<D>> for Dispatched {
    fn from(tensor: Tensor<D>) -> Self {
        Self(tensor.into_dispatch())
    }
}

/// Whether operations on tensors of this device and type are fused: f32 on burn-flex. Others are composed of
/// burn's own operations.
///
/// ```
/// use burn::tensor::{DType, Device};
///
/// assert!(lejepa_kernels::supports(&Device::flex().autodiff(), DType::F32));
/// assert!(!lejepa_kernels::supports(&Device::flex(), DType::F64));
/// ```
pub fn supports(device: &Device, dtype: DType) -> bool {
    dtype == DType::F32 && device.clone().without_autodiff() == Device::flex()
}

/// A tensor that autodiff treats as a constant. `detach` alone keeps a leaf's `require_grad`.
pub(crate) fn constant<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.detach().set_require_grad(false)
}

/// [`supports`] for a tensor.
pub(crate) fn is_fused<const D: usize>(x: &Tensor<D>) -> bool {
    supports(&x.device(), x.dtype())
}
