//! Blocks of a product: packed, then multiplied two by two tiles of sums at a time.

use std::cell::RefCell;
use std::sync::OnceLock;

use super::pack::{DEPTH, SIDE, Tile, WORDS, pack};
use super::{Unit, pairs, tiles};
use crate::Matrix;

/// Longest stretch of the common axis that is packed at once, and most columns: packed factors
/// should stay in the second-level cache.
const K_BLOCK: usize = 512;
const N_BLOCK: usize = 512;
const M_BLOCK: usize = 256;

pub(crate) fn unit() -> Option<Unit> {
    static FOUND: OnceLock<Option<Unit>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let vectors = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16");
        // Neither where narrower vectors were asked for.
        let widest = matches!(crate::arch(), pulp::Arch::V4(_));
        (vectors && widest).then(|| if tiles::available() { Unit::Tiles } else { Unit::Pairs })
    })
}

#[derive(Default)]
struct Packed {
    left: Vec<Tile>,
    right: Vec<Tile>,
}

thread_local! {
    static PACKED: RefCell<Packed> = RefCell::default();
}

pub(crate) fn product(
    into: &mut [f32],
    stride: usize,
    add: bool,
    left: Matrix<'_>,
    right: Matrix<'_>,
    [m, n, k]: [usize; 3],
) -> bool {
    let packs = |x: &Matrix<'_>| x.row == 1 || x.column == 1;
    let Some(unit) = unit().filter(|_| packs(&left) && packs(&right)) else { return false };
    PACKED.with_borrow_mut(|packed| {
        // SAFETY: `unit` found the instructions, and the caller (matrix.rs) has compared the shape
        // with the slices.
        unsafe { blocks(unit, packed, into, stride, add, left, right, [m, n, k]) }
    });
    true
}

/// Sums of two by two packed tiles; see [`tiles::kernel`].
type Kernel = unsafe fn(&[Tile], &[Tile], usize, *mut f32, usize, bool);

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(clippy::too_many_arguments)] // those of `product`, and where to work
unsafe fn blocks(
    unit: Unit,
    packed: &mut Packed,
    into: &mut [f32],
    stride: usize,
    add: bool,
    left: Matrix<'_>,
    right: Matrix<'_>,
    [m, n, k]: [usize; 3],
) {
    let squares = |x: usize| x.div_ceil(2 * SIDE) * 2;
    let kernel: Kernel = match unit {
        Unit::Tiles => tiles::kernel,
        Unit::Pairs => pairs::kernel,
    };
    if unit == Unit::Tiles {
        // SAFETY: the caller found the unit.
        unsafe { tiles::configure() };
    }
    for n0 in (0..n).step_by(N_BLOCK) {
        let nb = N_BLOCK.min(n - n0);
        for k0 in (0..k).step_by(K_BLOCK) {
            let kb = K_BLOCK.min(k - k0);
            let depth = kb.div_ceil(DEPTH);
            packed.right.resize(squares(nb) * depth, Tile([0; WORDS]));
            // SAFETY: as for this function.
            unsafe { pack(&mut packed.right, right.at(k0, n0).transposed(), [nb, kb], true) };
            for m0 in (0..m).step_by(M_BLOCK) {
                let mb = M_BLOCK.min(m - m0);
                packed.left.resize(squares(mb) * depth, Tile([0; WORDS]));
                // SAFETY: as for this function.
                unsafe { pack(&mut packed.left, left.at(m0, k0), [mb, kb], false) };
                let into = &mut into[m0 * stride + n0..];
                let adds = add || k0 > 0;
                // SAFETY: as for this function.
                unsafe { sums(kernel, packed, into, stride, adds, [mb, nb, depth]) };
            }
        }
    }
    if unit == Unit::Tiles {
        // SAFETY: they were configured above.
        unsafe { tiles::release() };
    }
}

/// All tiles of sums of packed sides: two by two.
unsafe fn sums(
    kernel: Kernel,
    packed: &Packed,
    into: &mut [f32],
    stride: usize,
    add: bool,
    [m, n, depth]: [usize; 3],
) {
    let mut edge = [0f32; 4 * SIDE * SIDE];
    let side = 2 * SIDE;
    for j in (0..n).step_by(side) {
        let right = &packed.right[j / SIDE * depth..][..2 * depth];
        for i in (0..m).step_by(side) {
            let left = &packed.left[i / SIDE * depth..][..2 * depth];
            if i + side <= m && j + side <= n {
                let c = &mut into[i * stride + j..][..(side - 1) * stride + side];
                // SAFETY: `c` holds 32 rows of 32 values, each side 2 · `depth` tiles.
                unsafe { kernel(left, right, depth, c.as_mut_ptr(), stride, add) };
                continue;
            }
            // At the edge the sums go by way of a full square.
            let (rows, columns) = (side.min(m - i), side.min(n - j));
            for r in 0..if add { rows } else { 0 } {
                edge[r * side..][..columns]
                    .copy_from_slice(&into[(i + r) * stride + j..][..columns]);
            }
            // SAFETY: `edge` is such a square.
            unsafe { kernel(left, right, depth, edge.as_mut_ptr(), side, add) };
            for r in 0..rows {
                into[(i + r) * stride + j..][..columns]
                    .copy_from_slice(&edge[r * side..][..columns]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What bf16 keeps of a number: the nearest with 8 digits, even ones where two are as near.
    fn rounded(x: f32) -> f64 {
        let bits = x.to_bits();
        let up = 0x7fff + (bits >> 16 & 1);
        f64::from(f32::from_bits((bits + up) & 0xffff_0000))
    }

    #[test]
    fn every_unit_sums_products_of_rounded_factors() {
        let Some(best) = unit() else { return };
        let units = if best == Unit::Tiles { vec![Unit::Tiles, Unit::Pairs] } else { vec![best] };
        for [m, n, k] in [[1, 1, 1], [33, 47, 70], [300, 40, 600]] {
            let a = crate::matrix::tests::noise(m * k, 1);
            let b = crate::matrix::tests::noise(k * n, 2);
            for unit in &units {
                let mut c = vec![0.0; m * n];
                let (left, right) = (Matrix::rows(&a, k), Matrix::rows(&b, n));
                let mut packed = Packed::default();
                // SAFETY: the unit is there, and the slices are of the shape.
                unsafe { blocks(*unit, &mut packed, &mut c, n, false, left, right, [m, n, k]) };
                for (at, c) in c.iter().enumerate() {
                    let terms =
                        (0..k).map(|l| rounded(a[at / n * k + l]) * rounded(b[l * n + at % n]));
                    let want: f64 = terms.sum();
                    assert!(
                        (f64::from(*c) - want).abs() < 1e-4,
                        "{unit:?} {m} {n} {k}: {c} {want}"
                    );
                }
            }
        }
    }
}
