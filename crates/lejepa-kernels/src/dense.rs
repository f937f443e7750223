//! Linear layer and layer norm over rows.

use rayon::prelude::*;

use crate::groups::summed;
use crate::lanes;
use crate::memory::fresh;
use crate::weight::{Weight, add_gradient};
use crate::{Buffer, Matrix, Precision};

/// Rows in a chunk.
const CHUNK: usize = 512;

/// `x·W + b` for `x` `[rows, input]`, `weight` `[input, output]`.
pub(crate) fn linear(x: &[f32], weight: &[f32], bias: &[f32], precision: Precision) -> Vec<f32> {
    let output = bias.len();
    let input = weight.len() / output;
    let packed = Weight::new(Matrix::rows(weight, output), input, output, precision);
    let mut y = fresh(x.len() / input * output);
    x.par_chunks(CHUNK * input).zip(y.par_chunks_mut(CHUNK * output)).for_each(|(x, y)| {
        lanes::repeat_row(bias, y);
        packed.times(y, x, true);
    });
    y
}

/// Gradients of [`linear`]'s input, where wanted, weight and bias.
pub(crate) fn linear_back(
    x: &[f32],
    weight: &[f32],
    dy: &[f32],
    output: usize,
    wants_input: bool,
    precision: Precision,
) -> (Option<Vec<f32>>, Vec<f32>, Vec<f32>) {
    let input = weight.len() / output;
    let matrix = Matrix::rows(weight, output).transposed();
    let packed = wants_input.then(|| Weight::new(matrix, output, input, precision));
    let mut dx = fresh(if wants_input { x.len() } else { 0 });
    let mut targets = dx.chunks_mut(CHUNK * input);
    let chunks = x.chunks(CHUNK * input).zip(dy.chunks(CHUNK * output));
    let chunks = chunks.map(|(x, dy)| (x, dy, targets.next())).collect();
    let lengths = [weight.len(), output];
    let [dweight, dbias] = summed(chunks, lengths, |(x, dy, dx), [dweight, dbias]| {
        add_gradient(dweight, x, dy, input, output, precision);
        lanes::add_rows(dy, dbias);
        if let (Some(dx), Some(packed)) = (dx, &packed) {
            packed.times(dx, dy, false);
        }
    });
    (wants_input.then_some(dx), dweight, dbias)
}

/// Layer norm of rows; keeps means and rates.
pub(crate) fn norm(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32) -> (Vec<f32>, Buffer) {
    let width = gamma.len();
    let mut y = fresh(x.len());
    let mut stats = Buffer::take(x.len() / width * 2);
    let chunks = x.par_chunks(CHUNK * width).zip(y.par_chunks_mut(CHUNK * width));
    chunks.zip(stats.slice().par_chunks_mut(CHUNK * 2)).for_each(|((x, y), stats)| {
        lanes::normalize(x, gamma, beta, epsilon, y, stats);
    });
    (y, stats)
}

/// Gradients of [`norm`]'s input, scale and shift.
pub(crate) fn norm_back(
    x: &[f32],
    stats: &[f32],
    gamma: &[f32],
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let width = gamma.len();
    let mut dx = fresh(x.len());
    let size = CHUNK * width;
    let chunks = x.chunks(size).zip(dy.chunks(size)).zip(dx.chunks_mut(size));
    let chunks = chunks.zip(stats.chunks(CHUNK * 2)).collect();
    let lengths = [width; 2];
    let [dgamma, dbeta] = summed(chunks, lengths, |(((x, dy), dx), stats), [dgamma, dbeta]| {
        lanes::normalize_back(dy, x, stats, gamma, None, dx, dgamma, dbeta);
    });
    (dx, dgamma, dbeta)
}
