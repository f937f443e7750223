//! Numbers as the words of a unit: along a row, or across two.

// Loops are counted, so that they are unrolled and what they index stays in registers.
#![allow(clippy::needless_range_loop)]

use crate::rows::BLOCK;
use crate::unit::{Task, Unit, Word};

/// Numbers `[rows, factors]` as words along each row; `None` where they are words already.
pub(crate) fn words_along<W: Word>(numbers: &[f32], factors: usize) -> Option<Vec<W>> {
    use rayon::prelude::*;
    if W::same(numbers).is_some() {
        return None;
    }
    let length = factors.div_ceil(W::FACTORS);
    let mut words = vec![W::default(); numbers.len() / factors * length];
    words
        .par_chunks_mut(CONVERTED * length)
        .zip(numbers.par_chunks(CONVERTED * factors))
        .for_each(|(words, numbers)| W::run(Along { numbers, factors, words }));
    Some(words)
}

/// Rows that a thread converts at a time.
const CONVERTED: usize = 256;

/// [`words_along`] on this thread.
pub(crate) struct Along<'a, W> {
    pub(crate) numbers: &'a [f32],
    pub(crate) factors: usize,
    pub(crate) words: &'a mut [W],
}

impl<W: Word> Task<W> for Along<'_, W> {
    #[inline(always)]
    fn run<U: Unit<Word = W>>(self, u: U) {
        let length = self.factors.div_ceil(2);
        // What fills vectors, and the rest of each row.
        let whole = self.factors / (2 * U::LANES) * U::LANES;
        let rows = self.words.chunks_exact_mut(length);
        for (words, numbers) in rows.zip(self.numbers.chunks_exact(self.factors)) {
            for i in (0..whole).step_by(U::LANES) {
                // SAFETY: `whole` is within both rows.
                unsafe { u.put(u.along(numbers.as_ptr().add(2 * i)), words.as_mut_ptr().add(i)) };
            }
            let (words, numbers) = (&mut words[whole..], &numbers[2 * whole..]);
            let (pairs, rest) = numbers.as_chunks::<2>();
            for (word, pair) in words.iter_mut().zip(pairs) {
                *word = W::of(*pair);
            }
            if let (Some(word), Some(last)) = (words.last_mut(), rest.first()) {
                *word = W::of([*last, 0.0]);
            }
        }
    }
}

/// No row.
pub(crate) const NONE: usize = usize::MAX;

/// Rows of numbers as words across rows: the words of row r of the result hold, column by column, the
/// numbers of both rows that `rows[r]` names by where they begin. A second row may be [`NONE`]; for
/// words of one factor it does not matter. Words beyond `columns` in each row are left as they are.
pub(crate) struct Across<'a, W> {
    pub(crate) numbers: &'a [f32],
    pub(crate) rows: &'a [[usize; 2]],
    pub(crate) columns: usize,
    /// From one row of words to the next.
    pub(crate) stride: usize,
    pub(crate) words: &'a mut [W],
}

impl<W: Word> Task<W> for Across<'_, W> {
    #[inline(always)]
    fn run<U: Unit<Word = W>>(self, u: U) {
        for (words, row) in self.words.chunks_mut(self.stride).zip(self.rows) {
            let words = &mut words[..self.columns];
            let first = &self.numbers[row[0]..][..self.columns];
            if W::FACTORS == 1 || row[1] == NONE {
                for (word, first) in words.iter_mut().zip(first) {
                    *word = W::of([*first, 0.0]);
                }
                continue;
            }
            let second = &self.numbers[row[1]..][..self.columns];
            let whole = self.columns / U::LANES * U::LANES;
            for i in (0..whole).step_by(U::LANES) {
                // SAFETY: `whole` is within all three rows.
                unsafe {
                    let joined = u.across(first.as_ptr().add(i), second.as_ptr().add(i));
                    u.put(joined, words.as_mut_ptr().add(i));
                }
            }
            let (words, first, second) = (&mut words[whole..], &first[whole..], &second[whole..]);
            for ((word, first), second) in words.iter_mut().zip(first).zip(second) {
                *word = W::of([*first, *second]);
            }
        }
    }
}

/// [`Across`] in blocks of [`BLOCK`] columns: for each block, for each row, its words; a last block that is
/// not full ends with zeros. What is read together then lies together, however long the rows are.
pub(crate) struct Blocked<'a, W> {
    pub(crate) numbers: &'a [f32],
    pub(crate) rows: &'a [[usize; 2]],
    pub(crate) columns: usize,
    pub(crate) words: &'a mut [W],
}

impl<W: Word> Task<W> for Blocked<'_, W> {
    #[inline(always)]
    fn run<U: Unit<Word = W>>(self, u: U) {
        let block = self.rows.len() * BLOCK;
        for (r, row) in self.rows.iter().enumerate() {
            let first = &self.numbers[row[0]..][..self.columns];
            let joins = W::FACTORS == 2 && row[1] != NONE;
            let second = if joins { &self.numbers[row[1]..][..self.columns] } else { first };
            let mut start = 0;
            if joins && U::LANES == 2 * BLOCK {
                let mut blocks = self.words[r * BLOCK..].chunks_mut(block);
                while self.columns - start >= U::LANES {
                    let mut both = [W::default(); 2 * BLOCK];
                    // SAFETY: there are as many numbers left in both rows, and as many words in `both`.
                    unsafe {
                        let at = [first, second].map(|row| row.as_ptr().add(start));
                        u.put(u.across(at[0], at[1]), both.as_mut_ptr());
                    }
                    for half in both.chunks_exact(BLOCK) {
                        if let Some(words) = blocks.next() {
                            words[..BLOCK].copy_from_slice(half);
                        }
                    }
                    start += U::LANES;
                }
            }
            let (first, second) = (&first[start..], &second[start..]);
            let (firsts, first) = first.as_chunks::<BLOCK>();
            let (seconds, second) = second.as_chunks::<BLOCK>();
            let mut words = self.words[r * BLOCK..].chunks_mut(block).skip(start / BLOCK);
            // In this order, so that no words are lost where the columns end.
            for ((first, second), words) in firsts.iter().zip(seconds).zip(&mut words) {
                for i in 0..BLOCK {
                    words[i] = W::of([first[i], if joins { second[i] } else { 0.0 }]);
                }
            }
            if let (Some(words), false) = (words.next(), first.is_empty()) {
                for i in 0..BLOCK {
                    words[i] = W::default();
                }
                for i in 0..first.len() {
                    words[i] = W::of([first[i], if joins { second[i] } else { 0.0 }]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::tests::noise;
    use crate::unit::Pair;

    #[test]
    fn words_are_joined_as_they_are_rounded_one_by_one() {
        if crate::bf16::unit().is_none() {
            eprintln!("left out: no bf16 here");
            return;
        }
        for columns in [1, 8, 15, 16, 17, 33, 70, 96] {
            let numbers = noise(3 * columns, 1);
            let row = |r: usize| &numbers[r * columns..][..columns];

            let length = columns.div_ceil(2);
            let mut words = vec![Pair::default(); 3 * length];
            Pair::run(Along { numbers: &numbers, factors: columns, words: &mut words });
            for (r, words) in words.chunks(length).enumerate() {
                let want =
                    row(r).chunks(2).map(|x| Pair::of([x[0], x.get(1).copied().unwrap_or(0.0)]));
                assert!(words.iter().copied().eq(want), "along {columns}");
            }

            // The last row is by itself.
            let rows = &[[0, columns], [2 * columns, NONE]];
            let want = |r: usize, i: usize| match r {
                0 => Pair::of([row(0)[i], row(1)[i]]),
                _ => Pair::of([row(2)[i], 0.0]),
            };
            let stride = columns + 3;
            let mut words = vec![Pair::default(); 2 * stride];
            Pair::run(Across { numbers: &numbers, rows, columns, stride, words: &mut words });
            for r in 0..2 {
                let want = (0..columns).map(|i| want(r, i)).chain([Pair::default(); 3]);
                assert!(words[r * stride..][..stride].iter().copied().eq(want), "across {columns}");
            }

            let blocks = columns.div_ceil(BLOCK);
            let mut words = vec![Pair::of([7.0, 7.0]); blocks * 2 * BLOCK];
            Pair::run(Blocked { numbers: &numbers, rows, columns, words: &mut words });
            for (n, word) in words.iter().enumerate() {
                let (r, i) = (n / BLOCK % 2, n / BLOCK / 2 * BLOCK + n % BLOCK);
                let want = if i < columns { want(r, i) } else { Pair::default() };
                assert_eq!(*word, want, "blocked {columns}: {r} {i}");
            }
        }
    }
}
