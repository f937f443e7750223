//! Linear layer.

use rayon::prelude::*;

use crate::elementwise;
use crate::gemm::matrix::Matrix;
use crate::gemm::weight::{PackedWeight, add_gradient};
use crate::output::OutputVec;
use crate::precision::Precision;
use crate::reduce::sum_over;

/// Rows in a task.
const CHUNK: usize = 512;

/// `x·W + b` for `x` `[rows, input]`, `weight` `[input, output]`.
pub(crate) fn forward(x: &[f32], weight: &[f32], bias: &[f32], precision: Precision) -> Vec<f32> {
    let output = bias.len();
    let input = weight.len() / output;
    let packed = PackedWeight::new(Matrix::rows(weight, output), input, output, precision);
    let mut y = OutputVec::new(x.len() / input * output);
    let chunks = x.par_chunks(CHUNK * input).zip(y.part().chunks(CHUNK * output));
    chunks.for_each(|(x, y)| {
        let y = y.zeroed();
        elementwise::fill_rows(bias, y);
        packed.multiply(y, x, true);
    });
    y.finish()
}

/// Gradients of x, weight and bias, as far as they are `wanted`.
pub(crate) fn backward(
    x: &[f32],
    weight: &[f32],
    dy: &[f32],
    output: usize,
    wanted: [bool; 3],
    precision: Precision,
) -> [Option<Vec<f32>>; 3] {
    let input = weight.len() / output;
    let transposed = Matrix::rows(weight, output).transposed();
    let packed = wanted[0].then(|| PackedWeight::new(transposed, output, input, precision));
    let mut dx = OutputVec::new(if wanted[0] { x.len() } else { 0 });
    let mut dx_chunks = dx.part().chunks(CHUNK * input).into_iter();
    let chunks = x.chunks(CHUNK * input).zip(dy.chunks(CHUNK * output));
    let chunks = chunks.map(|(x, dy)| (x, dy, dx_chunks.next())).collect();
    drop(dx_chunks);
    let lengths = [(1, weight.len()), (2, output)].map(|(i, n)| if wanted[i] { n } else { 0 });
    let [dweight, dbias] = sum_over(chunks, lengths, |(x, dy, dx), [dweight, dbias]| {
        if wanted[1] {
            add_gradient(dweight, x, dy, input, output, precision);
        }
        if wanted[2] {
            elementwise::add_rows(dy, dbias);
        }
        if let (Some(dx), Some(packed)) = (dx, &packed) {
            packed.multiply(dx.zeroed(), dy, false);
        }
    });
    [wanted[0].then(|| dx.finish()), wanted[1].then_some(dweight), wanted[2].then_some(dbias)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::tests::noise;

    #[test]
    fn unwanted_gradients_are_left_out_and_do_not_change_the_others() {
        let (rows, input, output) = (CHUNK + 3, 5, 7);
        let (x, weight) = (noise(rows * input, 1), noise(input * output, 2));
        let dy = noise(rows * output, 3);
        let run = |wanted| backward(&x, &weight, &dy, output, wanted, Precision::F32);
        let all = run([true; 3]);
        for wanted in 0..8 {
            let wanted = [0, 1, 2].map(|i| wanted >> i & 1 == 1);
            for (i, gradient) in run(wanted).into_iter().enumerate() {
                assert_eq!(gradient, all[i].clone().filter(|_| wanted[i]), "{wanted:?} {i}");
            }
        }
    }
}
