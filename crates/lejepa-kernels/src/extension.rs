//! How an operation on slices becomes one of burn's, with its own backward.

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
use burn::backend::{Backend, Dispatch, ExtensionType, Flex, backend_extension};
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::Buffer;
use crate::profile::{Way, timed};

/// A tensor as an operation sees it: contiguous, in 32 bits.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) shape: &'a [usize],
}

/// What an operation gives.
pub(crate) struct Output {
    pub(crate) data: Vec<f32>,
    pub(crate) shape: Vec<usize>,
    /// What the way back needs, where it was asked for.
    pub(crate) kept: Option<Buffer>,
}

/// What is to be kept for the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// There is no way back.
    Nothing,
    /// What takes less memory than to keep the inputs; the rest is worked out again.
    Little,
    /// What makes the way back quicker, too.
    All,
}

/// An operation on slices.
pub(crate) trait Operation: Debug + Send + Sync + 'static {
    /// The public function's name.
    fn name(&self) -> &'static str;

    /// The result, and what is to be kept.
    fn forward(&self, inputs: &[Input<'_>], keep: Keep) -> Output;

    /// Whether the way back does without the data of an input, because of what was kept.
    fn forgets(&self, _input: usize) -> bool {
        false
    }

    /// The gradient of each input that `wanted` names, of that input's shape. `kept` is what
    /// [`Operation::forward`] kept; inputs that were forgotten have no data.
    fn backward(
        &self,
        inputs: &[Input<'_>],
        kept: Option<&mut Buffer>,
        gradient: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>>;
}

type Shared = Arc<dyn Operation>;
type Kept = Option<Arc<Mutex<Buffer>>>;

/// A backend that runs operations on slices.
trait Host: Backend {
    fn run(op: &Shared, inputs: &[FloatTensor<Self>], keep: Keep) -> (FloatTensor<Self>, Kept);
    fn back(
        op: &Shared,
        inputs: &[Held<FloatTensor<Self>>],
        kept: Kept,
        gradient: FloatTensor<Self>,
        wanted: &[bool],
    ) -> Vec<Option<FloatTensor<Self>>>;
}

/// An input as it is held for the way back.
#[derive(Debug, Clone)]
enum Held<T> {
    Tensor(T),
    /// Of one that was forgotten.
    Shape(Vec<usize>),
}

/// The inputs of an operation, in the form in which burn takes them across to a backend.
#[derive(ExtensionType)]
#[rustfmt::skip]
enum Inputs<B: Backend> {
    One(FloatTensor<B>),
    Two(FloatTensor<B>, FloatTensor<B>),
    Three(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
    Four(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
    Five(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
    Thirteen(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
}

impl<B: Backend> Inputs<B> {
    #[rustfmt::skip]
    fn into_vec(self) -> Vec<FloatTensor<B>> {
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

/// The one extension through which all of them go.
#[backend_extension(Flex, Autodiff)]
trait Fused: Backend {
    fn fused(#[extension_type] inputs: Inputs<Self>, op: Shared) -> FloatTensor<Self>;
}

/// Runs `work` on the tensors as slices.
fn with_slices<T>(tensors: &[Held<FloatTensor<Flex>>], work: impl FnOnce(&[Input<'_>]) -> T) -> T {
    let tensors: Vec<_> = tensors
        .iter()
        .map(|held| match held {
            Held::Tensor(t) => {
                let t = t.to_contiguous();
                (t.layout().shape().to_vec(), Some(t))
            }
            Held::Shape(shape) => (shape.clone(), None),
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

impl Host for Flex {
    fn run(op: &Shared, inputs: &[FloatTensor<Self>], keep: Keep) -> (FloatTensor<Self>, Kept) {
        let inputs: Vec<_> = inputs.iter().cloned().map(Held::Tensor).collect();
        let Output { data, shape, kept } = with_slices(&inputs, |inputs| {
            timed(op.name(), Way::Forward, || op.forward(inputs, keep))
        });
        (tensor(data, shape), kept.map(|kept| Arc::new(Mutex::new(kept))))
    }

    fn back(
        op: &Shared,
        inputs: &[Held<FloatTensor<Self>>],
        kept: Kept,
        gradient: FloatTensor<Self>,
        wanted: &[bool],
    ) -> Vec<Option<FloatTensor<Self>>> {
        let gradient = gradient.to_contiguous();
        let length = gradient.layout().shape().num_elements();
        let dy = &gradient.storage::<f32>()[gradient.layout().start_offset()..][..length];
        with_slices(inputs, |inputs| {
            let mut kept = kept.as_ref().map(|k| k.lock().unwrap_or_else(PoisonError::into_inner));
            let work = || op.backward(inputs, kept.as_deref_mut(), dy, wanted);
            let back = timed(op.name(), Way::Back, work);
            let pairs = back.into_iter().zip(inputs);
            pairs.map(|(d, input)| d.map(|d| tensor(d, input.shape.to_vec()))).collect()
        })
    }
}

impl Fused for Flex {
    fn fused(inputs: Inputs<Self>, op: Shared) -> FloatTensor<Self> {
        Self::run(&op, &inputs.into_vec(), Keep::Nothing).0
    }
}

#[derive(Debug)]
struct Step;

#[derive(Debug, Clone)]
struct State<T> {
    op: Shared,
    inputs: Vec<Held<T>>,
    kept: Kept,
}

impl<B: Host, const N: usize> Backward<B, N> for Step {
    type State = State<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let State { op, inputs, kept } = ops.state;
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let back = B::back(&op, &inputs, kept, gradient, &wanted);
        for (node, gradient) in ops.parents.into_iter().zip(back) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Host, C: CheckpointStrategy> Fused for Autodiff<B, C> {
    fn fused(inputs: Inputs<Self>, op: Shared) -> FloatTensor<Self> {
        let inputs = inputs.into_vec();
        match inputs.len() {
            1 => attach::<B, C, 1>(inputs, op),
            2 => attach::<B, C, 2>(inputs, op),
            3 => attach::<B, C, 3>(inputs, op),
            4 => attach::<B, C, 4>(inputs, op),
            5 => attach::<B, C, 5>(inputs, op),
            13 => attach::<B, C, 13>(inputs, op),
            n => unreachable!("no operation of this crate has {n} inputs"),
        }
    }
}

fn attach<B: Host, C: CheckpointStrategy, const N: usize>(
    inputs: Vec<FloatTensor<Autodiff<B, C>>>,
    op: Shared,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes: Vec<NodeGuard> = inputs.iter().map(|t| t.node()).collect();
    let Ok(nodes) = <[NodeGuard; N]>::try_from(nodes) else {
        unreachable!("as many nodes as inputs")
    };
    let inputs: Vec<_> = inputs.into_iter().map(|t| t.into_primitive()).collect();
    let spares = std::any::TypeId::of::<C>() == std::any::TypeId::of::<BalancedCheckpointing>();
    match Backward::<B, N>::prepare::<C>(Step, nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let keep = if spares { Keep::Little } else { Keep::All };
            let (value, kept) = B::run(&op, &inputs, keep);
            let held = |(i, t): (usize, FloatTensor<B>)| match op.forgets(i) {
                true => Held::Shape(t.shape().to_vec()),
                false => Held::Tensor(t),
            };
            let inputs = inputs.into_iter().enumerate().map(held).collect();
            prep.finish(State { op, inputs, kept }, value)
        }
        OpsKind::UnTracked(prep) => prep.finish(B::run(&op, &inputs, Keep::Nothing).0),
    }
}

/// Runs an operation on the inputs; `R` is the rank of its result.
pub(crate) fn run<const R: usize>(inputs: Vec<Dispatched>, op: impl Operation) -> Tensor<R> {
    let Some(inputs) = Inputs::of(inputs.into_iter().map(|t| t.0).collect()) else {
        unreachable!("operations have a number of inputs that `Inputs` knows")
    };
    Tensor::from_dispatch(<Dispatch as Fused>::fused(inputs, Arc::new(op)))
}

/// A tensor of any rank.
pub(crate) struct Dispatched(FloatTensor<Dispatch>);

impl<const D: usize> From<Tensor<D>> for Dispatched {
    fn from(tensor: Tensor<D>) -> Self {
        Self(tensor.into_dispatch())
    }
}

/// Whether tensors of this device and type take the fused way: those of burn-flex in 32 bits.
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
