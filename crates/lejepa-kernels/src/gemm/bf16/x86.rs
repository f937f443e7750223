//! Blocked products: blocks of both operands are packed, then multiplied on AMX or AVX512-BF16.

use std::cell::RefCell;

use super::amx;
use super::pack::{DEPTH, Operand, SIDE, Tile, pack_panel, pack_rows, pack_tiles};
use crate::gemm::indirect::{IndirectGemm, RowTable};
use crate::gemm::isa::{Bf16Pair, Packed};
use crate::gemm::matrix::Matrix;
use crate::gemm::panels::{LINE, Line, Panels, elements_mut};
use crate::simd::{Bf16Isa, bf16_isa};

/// Block sizes: packed blocks should stay in the second-level cache.
const KC: usize = 512;
const NC: usize = 512;
const MC: usize = 256;

/// Packed blocks: tiles for AMX, rows and panels for AVX512-BF16.
#[derive(Default)]
struct Blocks {
    a_tiles: Vec<Tile>,
    b_tiles: Vec<Tile>,
    rows: Vec<Line>,
    panels: Vec<Line>,
}

thread_local! {
    static BLOCKS: RefCell<Blocks> = RefCell::default();
}

pub(crate) fn product(
    c: &mut [f32],
    stride: usize,
    accumulate: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    shape: [usize; 3],
) -> bool {
    let has_unit_stride = |x: &Matrix<'_>| x.row == 1 || x.column == 1;
    let Some(isa) = bf16_isa().filter(|_| has_unit_stride(&a) && has_unit_stride(&b)) else {
        return false;
    };
    product_on(isa, c, stride, accumulate, a, b, shape);
    true
}

/// [`product`] of operands with a unit stride.
///
/// # Panics
/// If a slice is too short for its shape, or the processor does not have the instruction set.
fn product_on(
    on: Bf16Isa,
    c: &mut [f32],
    stride: usize,
    accumulate: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    shape: [usize; 3],
) {
    // A processor with AMX has AVX512-BF16 too; see `bf16_isa`.
    assert!(bf16_isa() == Some(on) || bf16_isa() == Some(Bf16Isa::Amx), "{on:?} is not available");
    BLOCKS.with_borrow_mut(|blocks| match on {
        // SAFETY: `bf16_isa` detected AMX, and the vector instructions with it.
        Bf16Isa::Amx => unsafe { amx_product(blocks, c, stride, accumulate, a, b, shape) },
        // SAFETY: `bf16_isa` detected the instructions.
        Bf16Isa::Avx512 => unsafe { avx512_product(blocks, c, stride, accumulate, a, b, shape) },
    });
}

/// [`product`] on AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn avx512_product(
    blocks: &mut Blocks,
    c: &mut [f32],
    stride: usize,
    accumulate: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    [m, n, k]: [usize; 3],
) {
    for n0 in (0..n).step_by(NC) {
        let nb = NC.min(n - n0);
        for k0 in (0..k).step_by(KC) {
            let kb = KC.min(k - k0);
            let bt = b.at(k0, n0).transposed();
            let storage = std::mem::take(&mut blocks.panels);
            let mut panels = Panels::<Bf16Pair>::in_storage(storage, nb, 1, kb);
            for (j, first) in (0..nb).step_by(2 * SIDE).enumerate() {
                pack_panel(panels.panel_mut(j), bt, first, [nb, kb]);
            }
            for m0 in (0..m).step_by(MC) {
                let mb = MC.min(m - m0);
                let row_stride = kb.next_multiple_of(DEPTH) / 2;
                let lines = mb.next_multiple_of(SIDE) * row_stride / LINE;
                blocks.rows.resize(lines.max(blocks.rows.len()), Line::default());
                let packed = elements_mut::<Bf16Pair>(&mut blocks.rows[..lines]);
                pack_rows(packed, row_stride, a.at(m0, k0), [mb, kb]);
                let rows = RowTable::strided(packed, row_stride, panels.k, mb);
                let offsets: Vec<usize> = (0..mb).map(|r| (m0 + r) * stride + n0).collect();
                Bf16Pair::dispatch(IndirectGemm {
                    a: &rows,
                    first_tap: 0,
                    b: &panels,
                    offsets: &offsets,
                    accumulate: accumulate || k0 > 0,
                    c: &mut *c,
                });
            }
            blocks.panels = panels.into_storage();
        }
    }
}

/// [`product`] on AMX.
///
/// # Safety
/// AMX-BF16 was detected.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn amx_product(
    blocks: &mut Blocks,
    c: &mut [f32],
    stride: usize,
    accumulate: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    [m, n, k]: [usize; 3],
) {
    // Tiles of a block, in pairs.
    let tiles = |x: usize| x.div_ceil(2 * SIDE) * 2;
    // SAFETY: the caller guarantees AMX.
    let configured = unsafe { amx::Configured::new() };
    for n0 in (0..n).step_by(NC) {
        let nb = NC.min(n - n0);
        for k0 in (0..k).step_by(KC) {
            let kb = KC.min(k - k0);
            let depth = kb.div_ceil(DEPTH);
            blocks.b_tiles.resize(tiles(nb) * depth, Tile::ZERO);
            let bt = b.at(k0, n0).transposed();
            pack_tiles(&mut blocks.b_tiles, bt, [nb, kb], Operand::B);
            for m0 in (0..m).step_by(MC) {
                let mb = MC.min(m - m0);
                blocks.a_tiles.resize(tiles(mb) * depth, Tile::ZERO);
                pack_tiles(&mut blocks.a_tiles, a.at(m0, k0), [mb, kb], Operand::A);
                let c = &mut c[m0 * stride + n0..];
                let accumulate = accumulate || k0 > 0;
                multiply_tiles(&configured, blocks, c, stride, accumulate, [mb, nb, depth]);
            }
        }
    }
}

/// All tiles of C, 2 × 2 at a time.
fn multiply_tiles(
    configured: &amx::Configured,
    blocks: &Blocks,
    c: &mut [f32],
    stride: usize,
    accumulate: bool,
    [m, n, depth]: [usize; 3],
) {
    let mut edge = [0f32; 4 * SIDE * SIDE];
    let side = 2 * SIDE;
    for j in (0..n).step_by(side) {
        let b = &blocks.b_tiles[j / SIDE * depth..][..2 * depth];
        for i in (0..m).step_by(side) {
            let a = &blocks.a_tiles[i / SIDE * depth..][..2 * depth];
            if i + side <= m && j + side <= n {
                configured.multiply(a, b, &mut c[i * stride + j..], stride, accumulate);
                continue;
            }
            // At the edges, by way of a full square.
            let (rows, columns) = (side.min(m - i), side.min(n - j));
            for r in 0..if accumulate { rows } else { 0 } {
                edge[r * side..][..columns].copy_from_slice(&c[(i + r) * stride + j..][..columns]);
            }
            configured.multiply(a, b, &mut edge, side, accumulate);
            for r in 0..rows {
                c[(i + r) * stride + j..][..columns].copy_from_slice(&edge[r * side..][..columns]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::round_to_bf16;
    use crate::gemm::tests::noise;

    fn rounded(x: f32) -> f64 {
        f64::from(f32::from_bits(round_to_bf16(x) << 16))
    }

    /// Products of rounded operands, of every layout and shape around the tile and block sizes.
    fn check(on: Bf16Isa) {
        if bf16_isa() != Some(on) && bf16_isa() != Some(Bf16Isa::Amx) {
            eprintln!("NOT RUN: this processor does not have {on:?}");
            return;
        }
        for [m, n, k] in [[1, 1, 1], [33, 47, 70], [16, 32, 32], [5, 600, 33], [300, 40, 600]] {
            let (a, b) = (noise(m * k, 1), noise(k * n, 2));
            let at: Vec<f32> = (0..m * k).map(|x| a[x % m * k + x / m]).collect();
            let bt: Vec<f32> = (0..k * n).map(|x| b[x % k * n + x / k]).collect();
            let mut want = vec![0f64; m * n];
            for (x, want) in want.iter_mut().enumerate() {
                let term = |l: usize| rounded(a[x / n * k + l]) * rounded(b[l * n + x % n]);
                *want = (0..k).map(term).sum();
            }
            for a in [Matrix::rows(&a, k), Matrix::rows(&at, m).transposed()] {
                for b in [Matrix::rows(&b, n), Matrix::rows(&bt, k).transposed()] {
                    for accumulate in [false, true] {
                        let stride = n + 3;
                        let mut c = vec![0.5; m * stride];
                        product_on(on, &mut c, stride, accumulate, a, b, [m, n, k]);
                        for (x, c) in c.iter().enumerate() {
                            let (i, j) = (x / stride, x % stride);
                            let start = if accumulate || j >= n { 0.5 } else { 0.0 };
                            let want = start + if j < n { want[i * n + j] } else { 0.0 };
                            let error = (f64::from(*c) - want).abs();
                            assert!(error < 1e-4, "{on:?} {m} {n} {k} at {i} {j}: {c}, not {want}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn avx512_bf16_products_of_rounded_operands() {
        check(Bf16Isa::Avx512);
    }

    #[test]
    fn amx_products_of_rounded_operands() {
        check(Bf16Isa::Amx);
    }
}
