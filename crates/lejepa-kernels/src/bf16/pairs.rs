//! AVX512-BF16: eight rows of sums, of 32 columns, stay in registers along the common axis.

use std::arch::x86_64::*;

use super::pack::{SIDE, Tile};

/// Rows of sums that are made at once: enough for the latency of the products, few enough for the
/// registers.
const ROWS: usize = 8;

/// Two by two tiles of sums at `c`, whose rows are `stride` values apart.
///
/// # Safety
/// The processor has AVX512-BF16; `left` and `right` hold 2 · `depth` tiles, `c` 32 rows of 32 values.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn kernel(
    left: &[Tile],
    right: &[Tile],
    depth: usize,
    c: *mut f32,
    stride: usize,
    add: bool,
) {
    let zero = _mm512_setzero_ps();
    for part in 0..2 * SIDE / ROWS {
        let (tile, first) = (part * ROWS / SIDE, part * ROWS % SIDE * SIDE);
        // SAFETY: rows of this part are among the 32.
        let c = unsafe { c.add(part * ROWS * stride) };
        let mut sums = [[zero; 2]; ROWS];
        for (left, right) in left.chunks_exact(2).zip(right.chunks_exact(2)).take(depth) {
            let left = &left[tile].0[first..][..ROWS * SIDE];
            let right = [&right[0].0, &right[1].0];
            for pair in 0..SIDE {
                // SAFETY: a tile has 16 rows of 16 words.
                let right = right.map(|tile| unsafe {
                    words(_mm512_load_si512(tile.as_ptr().add(pair * SIDE).cast()))
                });
                for (row, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: `left` has `ROWS` rows of 16 words.
                    let left = unsafe { *left.get_unchecked(row * SIDE + pair) };
                    let left = words(_mm512_set1_epi32(left as i32));
                    sums[0] = _mm512_dpbf16_ps(sums[0], left, right[0]);
                    sums[1] = _mm512_dpbf16_ps(sums[1], left, right[1]);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                // SAFETY: `c` has `ROWS` rows of 32 values, `stride` apart.
                unsafe {
                    let c = c.add(row * stride + half * SIDE);
                    let before = if add { _mm512_loadu_ps(c) } else { zero };
                    _mm512_storeu_ps(c, _mm512_add_ps(before, *sum));
                }
            }
        }
    }
}

/// The same 512 bits as pairs of bf16.
#[target_feature(enable = "avx512f,avx512bf16")]
fn words(x: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits of any content.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(x) }
}
