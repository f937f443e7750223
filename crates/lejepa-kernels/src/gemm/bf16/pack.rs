//! Rounding to bf16 and packing in pairs along the inner dimension, 16 × 16 pairs at a time.

use std::arch::x86_64::*;

use crate::gemm::isa::Bf16Pair;
use crate::gemm::matrix::Matrix;

/// Rows of a tile, and pairs in each of them.
pub(super) const SIDE: usize = 16;
/// Values of a tile along the inner dimension.
pub(super) const DEPTH: usize = 2 * SIDE;

/// 16 rows of 16 pairs.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Tile([Bf16Pair; SIDE * SIDE]);

impl Tile {
    /// A tile of zeros.
    pub(super) const ZERO: Self = Self([Bf16Pair::ZERO; SIDE * SIDE]);
}

/// An operand of a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    /// A: a row of a tile is a row of the matrix.
    A,
    /// B: a row of a tile is a pair along the inner dimension.
    B,
}

/// Packs `[rows, k]` of `from`, which is A or the transpose of B, into tiles. Those of rows 0 to 16 and 16 to
/// 32 alternate along k; those of the next 32 rows follow.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn pack_tiles(
    into: &mut [Tile],
    from: Matrix<'_>,
    [rows, k]: [usize; 2],
    operand: Operand,
) {
    let depth = k.div_ceil(DEPTH);
    for (index, out) in into.iter_mut().enumerate() {
        let row = (index / (2 * depth) * 2 + index % 2) * SIDE;
        let at = index / 2 % depth * DEPTH;
        let size = [rows.saturating_sub(row).min(SIDE), DEPTH.min(k - at)];
        let tile = packed(from, [row, at], size, operand);
        for (pairs, out) in tile.into_iter().zip(out.0.as_chunks_mut::<SIDE>().0) {
            store(pairs, out);
        }
    }
}

/// Packs `[rows, k]` of `from` into rows of A, `stride` pairs apart. `stride` and the number of rows that
/// `into` holds are multiples of [`SIDE`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn pack_rows(
    into: &mut [Bf16Pair],
    stride: usize,
    from: Matrix<'_>,
    [rows, k]: [usize; 2],
) {
    for row in (0..rows).step_by(SIDE) {
        for at in (0..k).step_by(DEPTH) {
            let size = [SIDE.min(rows - row), DEPTH.min(k - at)];
            let tile = packed(from, [row, at], size, Operand::A);
            for (i, pairs) in tile.into_iter().enumerate() {
                let start = (row + i) * stride + at / 2;
                if let Some(out) = into[start..].first_chunk_mut::<SIDE>() {
                    store(pairs, out);
                }
            }
        }
    }
}

/// Packs 2·[`SIDE`] rows of `from`, the transpose of B, from `row` on, into a panel of B: for each pair along
/// the inner dimension, a pair for each row. `from` is `[rows, k]`; missing rows are 0.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn pack_panel(
    into: &mut [Bf16Pair],
    from: Matrix<'_>,
    row: usize,
    [rows, k]: [usize; 2],
) {
    for half in 0..2 {
        let first = row + half * SIDE;
        for at in (0..k).step_by(DEPTH) {
            let size = [rows.saturating_sub(first).min(SIDE), DEPTH.min(k - at)];
            let tile = packed(from, [first, at], size, Operand::B);
            let lines = into.chunks_exact_mut(2 * SIDE).skip(at / 2);
            for (pairs, line) in tile.into_iter().zip(lines) {
                if let Some(out) = line[half * SIDE..].first_chunk_mut::<SIDE>() {
                    store(pairs, out);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
fn store(pairs: __m512i, out: &mut [Bf16Pair; SIDE]) {
    // SAFETY: `out` has 512 bits, every pattern of which is valid.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), pairs) };
}

/// The tile of `count` rows from `row` on and `length` values from `at` on; the rest is 0.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn packed(
    from: Matrix<'_>,
    [row, at]: [usize; 2],
    [count, length]: [usize; 2],
    operand: Operand,
) -> [__m512i; SIDE] {
    let is_row_major = from.column == 1;
    let mut tile = [_mm512_setzero_si512(); SIDE];
    if is_row_major {
        for (i, pairs) in tile.iter_mut().enumerate().take(count) {
            let x = &from.data[(row + i) * from.row + at..][..length];
            let (low, high) = x.split_at(length.min(SIDE));
            *pairs = rounded(low, high);
        }
    } else if count > 0 {
        // Row p of the tile: values 2p and 2p + 1 along k of each matrix row.
        for (p, pairs) in tile.iter_mut().enumerate().take(length.div_ceil(2)) {
            let line = |p: usize| match p < length {
                true => &from.data[row + (at + p) * from.column..][..count],
                false => &[],
            };
            *pairs = interleaved(rounded(line(2 * p), line(2 * p + 1)));
        }
    }
    if is_row_major == (operand == Operand::B) { transposed(tile) } else { tile }
}

/// Up to 16 values of each slice as bf16, the second slice in the high half; missing values are 0.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn rounded(low: &[f32], high: &[f32]) -> __m512i {
    let mask = |x: &[f32]| ((1u32 << x.len().min(SIDE)) - 1) as u16;
    // SAFETY: the masked loads read no more values than the slices hold.
    let (low, high) = unsafe {
        (
            _mm512_maskz_loadu_ps(mask(low), low.as_ptr()),
            _mm512_maskz_loadu_ps(mask(high), high.as_ptr()),
        )
    };
    let both = _mm512_cvtne2ps_pbh(high, low);
    // SAFETY: both types have 512 bits, every pattern of which is valid.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(both) }
}

/// Pairs (i, 16 + i) of 32 bf16.
#[target_feature(enable = "avx512f,avx512bw")]
fn interleaved(halves: __m512i) -> __m512i {
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

/// Transposes 16 × 16 elements of 32 bits: within 64 bits, within 128 bits, then among 128-bit blocks.
#[target_feature(enable = "avx512f")]
fn transposed(x: [__m512i; SIDE]) -> [__m512i; SIDE] {
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
