//! Numbers that are kept for the way back in half the memory: rounded to bf16.

use std::ops::Range;

use rayon::prelude::*;

use crate::{Buffer, lanes};

/// Numbers that a thread rounds at a time.
const CHUNK: usize = 1 << 14;

/// Numbers in 32 bits, or rounded to bf16.
#[derive(Clone, Copy)]
pub(crate) enum Numbers<'a> {
    Full(&'a [f32]),
    Half(&'a [u16]),
}

impl Numbers<'_> {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Full(x) => x.len(),
            Self::Half(x) => x.len(),
        }
    }

    /// Room for [`Numbers::part`] to be given `length` numbers.
    pub(crate) fn room(self, length: usize) -> Buffer {
        Buffer::take(if matches!(self, Self::Half(_)) { length } else { 0 })
    }

    /// The numbers of a range, in `room` if they are not in 32 bits.
    pub(crate) fn part<'b>(self, range: Range<usize>, room: &'b mut Buffer) -> &'b [f32]
    where
        Self: 'b,
    {
        match self {
            Self::Full(x) => &x[range],
            Self::Half(x) => {
                let into = &mut room.slice()[..range.len()];
                lanes::widen(&x[range], into);
                into
            }
        }
    }
}

/// Numbers rounded to bf16; see [`Buffer::halves`].
pub(crate) fn halved(x: &[f32]) -> Buffer {
    let mut halves = Buffer::of_halves(x.len());
    let parts = halves.halves_mut().par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK));
    parts.for_each(|(halves, x)| lanes::halve(x, halves));
    halves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::tests::noise;

    #[test]
    fn halves_are_the_nearest_bf16() {
        for n in [1, 17, CHUNK + 5] {
            let x = noise(n, 3);
            let halves = halved(&x);
            let halves = Numbers::Half(&halves.halves()[..n]);
            let mut room = halves.room(n);
            for (x, half) in x.iter().zip(halves.part(0..n, &mut room)) {
                assert!((x - half).abs() <= x.abs() / 256.0, "{x} became {half}");
                assert_eq!(half.to_bits() & 0xffff, 0, "{half}");
            }
        }
    }
}
