//! Rounding to bf16 and packing into tiles.

use std::arch::x86_64::*;

use crate::Matrix;

/// Rows of a tile, and columns of a tile of sums.
pub(super) const SIDE: usize = 16;
/// Length of the common axis within a tile.
pub(super) const DEPTH: usize = 32;
/// 32-bit words of a tile.
pub(super) const WORDS: usize = 256;

/// 16 rows of 16 words, each a pair of bf16 along the common axis.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Tile(pub(super) [u32; WORDS]);

/// Rounds and packs `[rows, k]` of `from`. The tiles of rows 0..16 and 16..32 alternate along k,
/// then come those of the next 32 rows. Within a tile, words are pairs along k; the `right` side
/// of a product has a row of words for each pair, the left one for each row.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack(into: &mut [Tile], from: Matrix<'_>, [rows, k]: [usize; 2], right: bool) {
    let depth = k.div_ceil(DEPTH);
    let along = from.column == 1;
    for (index, tile) in into.iter_mut().enumerate() {
        let row = (index / (2 * depth) * 2 + index % 2) * SIDE;
        let at = index / 2 % depth * DEPTH;
        let (count, length) = (rows.saturating_sub(row).min(SIDE), DEPTH.min(k - at));
        let mut words = [_mm512_setzero_si512(); SIDE];
        if along {
            for (i, word) in words.iter_mut().enumerate().take(count) {
                let x = &from.data[(row + i) * from.row + at..][..length];
                let (low, high) = x.split_at(length.min(SIDE));
                // SAFETY: as many values are read as the slices hold.
                *word = unsafe { rounded(low, high) };
            }
        } else if count > 0 {
            // Line p of 16 words: values p and p + 1 along k of each of the rows.
            for (p, word) in words.iter_mut().enumerate().take(length.div_ceil(2)) {
                let line = |p: usize| match at + p < k {
                    true => &from.data[row + (at + p) * from.column..][..count],
                    false => &[],
                };
                // SAFETY: as many values are read as the slices hold.
                let halves = unsafe { rounded(line(2 * p), line(2 * p + 1)) };
                *word = interleave(halves);
            }
        }
        if along == right {
            words = transpose(words);
        }
        for (word, out) in words.iter().zip(tile.0.chunks_exact_mut(SIDE)) {
            // SAFETY: `out` holds 16 words.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), *word) };
        }
    }
}

/// Two times up to 16 values as bf16, one after the other; what is missing is 0.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn rounded(low: &[f32], high: &[f32]) -> __m512i {
    let mask = |x: &[f32]| ((1u32 << x.len().min(SIDE)) - 1) as u16;
    // SAFETY: masked loads read as many values as the slices hold.
    let (low, high) = unsafe {
        (
            _mm512_maskz_loadu_ps(mask(low), low.as_ptr()),
            _mm512_maskz_loadu_ps(mask(high), high.as_ptr()),
        )
    };
    let both = _mm512_cvtne2ps_pbh(high, low);
    // SAFETY: both are 512 bits of any content.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(both) }
}

/// Words of (i, 16 + i) of 32 half words.
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave(halves: __m512i) -> __m512i {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 16 {
            order[2 * i] = i as u16;
            order[2 * i + 1] = 16 + i as u16;
            i += 1;
        }
        order
    };
    // SAFETY: `ORDER` has 512 bits.
    let order = unsafe { _mm512_loadu_si512(ORDER.as_ptr().cast()) };
    _mm512_permutexvar_epi16(order, halves)
}

/// The transpose of 16 × 16 words: pairs, fours, then blocks of 128 bits change places.
#[target_feature(enable = "avx512f")]
fn transpose(x: [__m512i; 16]) -> [__m512i; 16] {
    let mut y = x;
    for i in 0..8 {
        y[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        y[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    let mut z = y;
    for i in 0..4 {
        for j in 0..2 {
            z[4 * i + 2 * j] = _mm512_unpacklo_epi64(y[4 * i + j], y[4 * i + 2 + j]);
            z[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(y[4 * i + j], y[4 * i + 2 + j]);
        }
    }
    for i in 0..2 {
        for j in 0..4 {
            let (a, b) = (z[8 * i + j], z[8 * i + 4 + j]);
            y[8 * i + j] = _mm512_shuffle_i32x4::<0x88>(a, b);
            y[8 * i + 4 + j] = _mm512_shuffle_i32x4::<0xdd>(a, b);
        }
    }
    for j in 0..8 {
        z[j] = _mm512_shuffle_i32x4::<0x88>(y[j], y[8 + j]);
        z[8 + j] = _mm512_shuffle_i32x4::<0xdd>(y[j], y[8 + j]);
    }
    z
}
