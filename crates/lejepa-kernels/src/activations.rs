//! Activations that are saved in bf16.

use std::ops::Range;

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::elementwise;
use crate::output::OutputVec;

/// Elements in a task.
const CHUNK: usize = 1 << 14;

/// Activations in f32, or rounded to bf16.
#[derive(Clone, Copy)]
pub(crate) enum Activations<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
}

impl Activations<'_> {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::Bf16(x) => x.len(),
        }
    }

    /// A buffer for [`Activations::widened`] of `length` elements.
    pub(crate) fn scratch(self, length: usize) -> Buffer {
        Buffer::take(if matches!(self, Self::Bf16(_)) { length } else { 0 })
    }

    /// A range in f32: the activations themselves, or widened in `scratch`.
    pub(crate) fn widened<'b>(self, range: Range<usize>, scratch: &'b mut Buffer) -> &'b [f32]
    where
        Self: 'b,
    {
        match self {
            Self::F32(x) => &x[range],
            Self::Bf16(x) => {
                let out = &mut scratch.slice()[..range.len()];
                elementwise::widen(&x[range], out);
                out
            }
        }
    }
}

/// `x`, rounded to bf16.
pub(crate) fn narrowed(x: &[f32]) -> Vec<u16> {
    let mut out = OutputVec::new(x.len());
    let parts = out.part().chunks(CHUNK).into_par_iter().zip(x.par_chunks(CHUNK));
    parts.for_each(|(out, x)| elementwise::narrow(x, out.zeroed()));
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::tests::noise;

    #[test]
    fn narrowed_activations_widen_to_the_nearest_bf16() {
        for n in [1, 17, CHUNK + 5] {
            let x = noise(n, 3);
            let narrow = narrowed(&x);
            let activations = Activations::Bf16(&narrow);
            assert_eq!(activations.len(), n);
            let mut scratch = activations.scratch(n);
            for (x, y) in x.iter().zip(activations.widened(0..n, &mut scratch)) {
                assert!((x - y).abs() <= x.abs() / 256.0, "{x} became {y}");
                assert_eq!(y.to_bits() & 0xffff, 0, "{y}");
            }
        }
    }
}
