//! Attention whose backward pass recomputes the weights.

use std::ops::Range;

#[cfg(feature = "gpu")]
use burn::backend::Cube;
use burn::backend::TensorMetadata;
use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, NodeGuard, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{FloatDType, Slice, Tensor};

use super::extension::{Dispatched, Inputs, is_fused};
use super::reference::is_narrow;

/// For [`Plan::most`].
const MOST_SCORES: usize = 1 << 24;

/// How attention is computed.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// The most scores that are held at once.
    most: usize,
    /// Whether products are of bf16 factors.
    narrow: bool,
}

/// Attention, per backend: queries, keys, values, and what is added to the scores where there is a fourth.
#[cfg_attr(feature = "gpu", backend_extension(Flex, Cube, Autodiff))]
#[cfg_attr(not(feature = "gpu"), backend_extension(Flex, Autodiff))]
trait Attend: Backend {
    fn attend(#[extension_type] inputs: Inputs<Self>, plan: Plan) -> FloatTensor<Self>;
}

impl Attend for Flex {
    fn attend(inputs: Inputs<Self>, plan: Plan) -> FloatTensor<Self> {
        forward::<Self>(&inputs.into_vec(), plan)
    }
}

#[cfg(feature = "gpu")]
impl Attend for Cube {
    fn attend(inputs: Inputs<Self>, plan: Plan) -> FloatTensor<Self> {
        forward::<Self>(&inputs.into_vec(), plan)
    }
}

impl<B: Backend, C: CheckpointStrategy> Attend for Autodiff<B, C> {
    fn attend(inputs: Inputs<Self>, plan: Plan) -> FloatTensor<Self> {
        let mut inputs = inputs.into_vec();
        let bias = inputs.split_off(3).pop();
        let nodes: Vec<NodeGuard> = inputs.iter().map(|t| t.node()).collect();
        let Ok(nodes) = <[NodeGuard; 3]>::try_from(nodes) else {
            unreachable!("queries, keys and values")
        };
        let inputs: Vec<_> = inputs.into_iter().chain(bias).map(|t| t.into_primitive()).collect();
        let value = forward::<B>(&inputs, plan);
        match Backward::<B, 3>::prepare::<C>(Node, nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(State { inputs, plan }, value),
            OpsKind::UnTracked(prep) => prep.finish(value),
        }
    }
}

/// The node of an attention in burn's graph.
#[derive(Debug)]
struct Node;

#[derive(Debug, Clone)]
struct State<T> {
    inputs: Vec<T>,
    plan: Plan,
}

impl<B: Backend> Backward<B, 3> for Node {
    type State = State<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let State { inputs, plan } = ops.state;
        let gradients = backward::<B>(&inputs, gradient, plan);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// Samples and queries whose scores are held at the same time.
type Block = [Range<usize>; 2];

/// Blocks of at most `most` scores, but at least one query: all samples at once, then some, then parts of one.
fn blocks([samples, heads, queries, keys]: [usize; 4], most: usize) -> Vec<Vec<Block>> {
    let row = (heads * keys).max(1);
    let some = (most / (row * queries).max(1)).clamp(1, samples.max(1));
    let part = if some > 1 { queries } else { (most / row).clamp(1, queries.max(1)) };
    let ranges = |all: usize, step: usize| {
        (0..all).step_by(step.max(1)).map(move |first| first..(first + step).min(all))
    };
    let of_samples = |samples: Range<usize>| {
        ranges(queries, part).map(|queries| [samples.clone(), queries]).collect()
    };
    ranges(samples, some).map(of_samples).collect()
}

fn slice(range: &Range<usize>) -> Slice {
    Slice::new(range.start as isize, Some(range.end as isize), 1)
}

/// Samples, and rows of the third axis where given.
fn part<B: Backend>(
    x: &FloatTensor<B>,
    samples: &Range<usize>,
    rows: Option<&Range<usize>>,
) -> FloatTensor<B> {
    let [all, _, count, _] = x.shape().dims();
    let rows = rows.cloned().unwrap_or(0..count);
    if (samples, &rows) == (&(0..all), &(0..count)) {
        return x.clone();
    }
    B::float_slice(x.clone(), &[slice(samples), Slice::full(), slice(&rows), Slice::full()])
}

fn product<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>, plan: Plan) -> FloatTensor<B> {
    if !plan.narrow {
        return B::float_matmul(a, b);
    }
    let [a, b] = [a, b].map(|x| B::float_cast(x, FloatDType::BF16));
    B::float_cast(B::float_matmul(a, b), FloatDType::F32)
}

fn transposed<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_swap_dims(x, 2, 3)
}

/// One over the root of the depth of a head.
fn scale<B: Backend>(q: &FloatTensor<B>) -> f64 {
    let [_, _, _, depth] = q.shape().dims();
    (depth as f64).powf(-0.5)
}

fn joined<B: Backend>(mut parts: Vec<FloatTensor<B>>, dim: usize) -> FloatTensor<B> {
    if parts.len() == 1 { parts.swap_remove(0) } else { B::float_cat(parts, dim) }
}

/// The attention weights of a block, from its scaled queries.
fn weights<B: Backend>(
    inputs: &[FloatTensor<B>],
    queries: FloatTensor<B>,
    [samples, rows]: &Block,
    plan: Plan,
) -> FloatTensor<B> {
    let keys = transposed::<B>(part::<B>(&inputs[1], samples, None));
    let mut scores = product::<B>(queries, keys, plan);
    if let Some(bias) = inputs.get(3) {
        let [all, _, _, _] = bias.shape().dims();
        let of_samples = if all == 1 { &(0..1) } else { samples };
        scores = B::float_add(scores, part::<B>(bias, of_samples, Some(rows)));
    }
    B::softmax(scores, 3)
}

fn all_blocks<B: Backend>(inputs: &[FloatTensor<B>], most: usize) -> Vec<Vec<Block>> {
    let [samples, heads, queries, _] = inputs[0].shape().dims();
    let [_, _, keys, _] = inputs[1].shape().dims();
    blocks([samples, heads, queries, keys], most)
}

fn forward<B: Backend>(inputs: &[FloatTensor<B>], plan: Plan) -> FloatTensor<B> {
    let q = B::float_mul_scalar(inputs[0].clone(), scale::<B>(&inputs[0]).into());
    let of_samples = |blocks: Vec<Block>| {
        let attend = |block: Block| {
            let [samples, rows] = &block;
            let weights = weights::<B>(inputs, part::<B>(&q, samples, Some(rows)), &block, plan);
            product::<B>(weights, part::<B>(&inputs[2], samples, None), plan)
        };
        joined::<B>(blocks.into_iter().map(attend).collect(), 2)
    };
    joined::<B>(all_blocks::<B>(inputs, plan.most).into_iter().map(of_samples).collect(), 0)
}

/// Gradients of queries, keys and values. With weights P, and the gradient dO of the result O = P·V: dV = Pᵀ·dO, dP = dO·Vᵀ, that
/// of the scores is P ∘ (dP − rowsum(P ∘ dP)).
fn backward<B: Backend>(
    inputs: &[FloatTensor<B>],
    gradient: FloatTensor<B>,
    plan: Plan,
) -> [FloatTensor<B>; 3] {
    let scale = scale::<B>(&inputs[0]);
    let q = B::float_mul_scalar(inputs[0].clone(), scale.into());
    let [mut dq, mut dk, mut dv] = [(); 3].map(|()| Vec::new());
    for blocks in all_blocks::<B>(inputs, plan.most) {
        let mut of_queries = Vec::with_capacity(blocks.len());
        let [mut of_keys, mut of_values] = [None, None];
        for block in blocks {
            let [samples, rows] = &block;
            let queries = part::<B>(&q, samples, Some(rows));
            let above = part::<B>(&gradient, samples, Some(rows));
            let weights = weights::<B>(inputs, queries.clone(), &block, plan);
            let d_values = product::<B>(transposed::<B>(weights.clone()), above.clone(), plan);
            let values = part::<B>(&inputs[2], samples, None);
            let d_weights = product::<B>(above, transposed::<B>(values), plan);
            let both = B::float_mul(weights.clone(), d_weights);
            let sums = B::float_sum_dim(both.clone(), 3);
            let d_scores = B::float_sub(both, B::float_mul(weights, sums));
            let keys = part::<B>(&inputs[1], samples, None);
            of_queries.push(product::<B>(d_scores.clone(), keys, plan));
            let d_keys = product::<B>(transposed::<B>(d_scores), queries, plan);
            add::<B>(&mut of_keys, d_keys);
            add::<B>(&mut of_values, d_values);
        }
        dq.push(joined::<B>(of_queries, 2));
        dk.extend(of_keys);
        dv.extend(of_values);
    }
    let dq = B::float_mul_scalar(joined::<B>(dq, 0), scale.into());
    [dq, joined::<B>(dk, 0), joined::<B>(dv, 0)]
}

fn add<B: Backend>(sum: &mut Option<FloatTensor<B>>, term: FloatTensor<B>) {
    *sum = Some(match sum.take() {
        Some(sum) => B::float_add(sum, term),
        None => term,
    });
}

/// softmax(Q·Kᵀ/√depth + bias)·V. Of the scores no more than 2²⁴ are held at once, or those of one query: the backward pass
/// computes them again. No gradient flows to the bias.
///
/// # Shapes
/// `queries` `[samples, heads, tokens, depth]`, `keys` and `values` the same with tokens of their own, `bias`
/// `[samples or 1, 1, queries, keys]`; the result is as `queries`.
///
/// # Panics
/// If shapes disagree, or are empty.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
///
/// let device = Device::flex().autodiff();
/// let [q, k, v] = [(); 3].map(|()| {
///     Tensor::<4>::random([2, 3, 5, 4], Distribution::Default, &device).require_grad()
/// });
/// let y = lejepa_kernels::attention(q.clone(), k, v, None);
/// assert_eq!(y.dims(), [2, 3, 5, 4]);
/// assert!(q.grad(&y.sum().backward()).is_some());
/// ```
pub fn attention(
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    bias: Option<Tensor<4>>,
) -> Tensor<4> {
    // burn-flex would only round the factors.
    let narrow = !is_fused(&queries) && is_narrow(&queries);
    planned(queries, keys, values, bias, Plan { most: MOST_SCORES, narrow })
}

fn planned(
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    bias: Option<Tensor<4>>,
    plan: Plan,
) -> Tensor<4> {
    let [samples, heads, tokens, depth] = queries.dims();
    let [_, _, others, _] = keys.dims();
    assert!(samples * heads * tokens * others * depth > 0, "nothing to attend to");
    assert_eq!(keys.dims(), [samples, heads, others, depth], "the keys");
    assert_eq!(values.dims(), keys.dims(), "the values");
    if let Some(bias) = &bias {
        let all = bias.dims()[0];
        assert_eq!(bias.dims(), [all, 1, tokens, others], "the bias");
        assert!(all == 1 || all == samples, "a bias for each sample, or one for all");
    }
    let inputs = [queries, keys, values].into_iter().chain(bias).map(Dispatched::from);
    Tensor::from_dispatch(<Dispatch as Attend>::attend(Inputs::of_all(inputs), plan))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::activation::softmax;
    use burn::tensor::{DType, Device, Distribution};

    #[test]
    fn blocks_cover_every_query_once() {
        for shape @ [samples, heads, queries, keys] in [[5, 2, 7, 3], [1, 1, 1, 1], [3, 4, 9, 2]] {
            for most in [1, 6, 20, 84, 1000] {
                let mut seen = vec![0; samples * queries];
                for [s, q] in blocks(shape, most).into_iter().flatten() {
                    let scores = s.len() * heads * q.len() * keys;
                    assert!(scores <= most.max(heads * keys), "{shape:?} {most}");
                    s.for_each(|s| q.clone().for_each(|q| seen[s * queries + q] += 1));
                }
                assert!(seen.iter().all(|count| *count == 1), "{shape:?} {most}");
            }
        }
    }

    /// Queries, keys, values, bias, and weights of the result.
    fn draw(device: &Device, biases: usize) -> Vec<Tensor<4>> {
        device.seed(3);
        [[5, 2, 7, 4], [5, 2, 3, 4], [5, 2, 3, 4], [biases, 1, 7, 3], [5, 2, 7, 4]]
            .map(|shape| Tensor::random(shape, Distribution::Normal(0.0, 1.0), device))
            .into()
    }

    fn near(a: Tensor<4>, b: Tensor<4>) {
        let tolerance = burn::tensor::Tolerance::<f64>::rel_abs(1e-5, 1e-6);
        a.into_data().assert_approx_eq::<f64>(&b.into_data(), tolerance);
    }

    fn check(device: &Device, dtype: DType) {
        for (biases, most) in [(0, 1000), (1, 1000), (5, 84), (5, 20), (1, 12), (0, 1)] {
            let all = draw(&device.clone().autodiff(), biases.max(1));
            let all: Vec<_> = all.into_iter().map(|x| x.cast(dtype)).collect();
            let results = [true, false].map(|composed| {
                let [q, k, v] = [0, 1, 2].map(|i| all[i].clone().detach().require_grad());
                let bias = (biases > 0).then(|| all[3].clone());
                let y = if composed {
                    let scores = q.clone().matmul(k.clone().swap_dims(2, 3)) / 2.0;
                    let scores = match bias {
                        Some(bias) => scores + bias,
                        None => scores,
                    };
                    softmax(scores, 3).matmul(v.clone())
                } else {
                    planned(q.clone(), k.clone(), v.clone(), bias, Plan { most, narrow: false })
                };
                let gradients = (y.clone() * all[4].clone()).sum().backward();
                let of = [q, k, v].map(|x| x.grad(&gradients).unwrap());
                (y.inner(), of)
            });
            let [(y, gradients), (other, others)] = results;
            near(y, other);
            gradients.into_iter().zip(others).for_each(|(a, b)| near(a, b));
        }
    }

    #[test]
    fn values_and_gradients_are_those_of_single_operations() {
        check(&Device::flex(), DType::F32);
        check(&Device::flex(), DType::F64);
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn wgpu_has_the_operation() {
        check(&Device::wgpu(burn::tensor::DeviceKind::DefaultDevice), DType::F32);
    }

    #[test]
    fn products_of_bf16_factors_are_near() {
        let all = draw(&Device::flex().autodiff(), 5);
        let run = |narrow| -> Vec<Tensor<4>> {
            let [q, k, v] = [0, 1, 2].map(|i| all[i].clone().detach().require_grad());
            let bias = Some(all[3].clone());
            let y = planned(q.clone(), k.clone(), v.clone(), bias, Plan { most: 84, narrow });
            let gradients = (y.clone() * all[4].clone()).sum().backward();
            let mut results = vec![y.inner()];
            results.extend([q, k, v].iter().map(|x| x.grad(&gradients).unwrap()));
            results
        };
        for (narrow, exact) in run(true).into_iter().zip(run(false)) {
            assert_eq!(narrow.dtype(), DType::F32);
            let norm = |x: Tensor<4>| x.square().sum().into_scalar::<f32>().sqrt();
            let apart = norm(narrow - exact.clone()) / norm(exact);
            assert!(apart > 1e-5 && apart < 0.01, "{apart}");
        }
    }

    #[test]
    fn nothing_is_tracked_without_a_gradient() {
        let all = draw(&Device::flex().autodiff(), 1);
        let [q, k, v] = [0, 1, 2].map(|i| all[i].clone());
        let y = attention(q, k, v.clone().require_grad(), None);
        assert!(v.grad(&y.sum().backward()).is_none());
    }

    #[test]
    #[should_panic(expected = "the keys")]
    fn shapes_that_disagree_panic() {
        let all = draw(&Device::flex(), 1);
        let _ = attention(all[0].clone(), all[3].clone(), all[2].clone(), None);
    }
}
