//! Layer norm over rows.

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::normalize;
use crate::output::OutputVec;
use crate::reduce::sum_over;

/// Rows in a task.
const CHUNK: usize = 512;

/// Layer norm of rows, and the mean and rstd of each row.
pub(crate) fn forward(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32) -> (Vec<f32>, Buffer) {
    let width = gamma.len();
    let mut y = OutputVec::new(x.len());
    let mut stats = Buffer::take(x.len() / width * 2);
    let chunks = x.par_chunks(CHUNK * width).zip(y.part().chunks(CHUNK * width));
    chunks.zip(stats.slice().par_chunks_mut(CHUNK * 2)).for_each(|((x, y), stats)| {
        normalize::layer_norm(x, gamma, beta, epsilon, y.zeroed(), stats);
    });
    (y.finish(), stats)
}

/// Gradients of x, γ and β.
pub(crate) fn backward(
    x: &[f32],
    stats: &[f32],
    gamma: &[f32],
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let width = gamma.len();
    let mut dx = OutputVec::new(x.len());
    let size = CHUNK * width;
    let chunks = x.chunks(size).zip(dy.chunks(size)).zip(dx.part().chunks(size));
    let chunks = chunks.zip(stats.chunks(CHUNK * 2)).collect();
    let lengths = [width; 2];
    let [dgamma, dbeta] = sum_over(chunks, lengths, |(((x, dy), dx), stats), [dgamma, dbeta]| {
        normalize::layer_norm_backward(dy, x, stats, gamma, None, dx.zeroed(), dgamma, dbeta);
    });
    (dx.finish(), dgamma, dbeta)
}
