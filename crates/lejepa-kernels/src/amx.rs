//! bf16 matrix products with 32-bit sums on the tiles of Intel's AMX (Intel 64 and IA-32
//! Architectures Software Developer's Manual, vol. 1, chapter 18).
//!
//! A tile holds 16 rows of 64 bytes. `TDPBF16PS` adds to a 16 × 16 tile of sums the product of 16 × 32
//! left and 32 × 16 right factors, the right ones stored in pairs along the common axis. Both sides are
//! rounded and packed into tiles first; two by two tiles of sums stay in registers along that axis.

/// `into` (+)= `left` · `right`; `false`, and nothing done, where the processor or the layout does
/// not allow it.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use x86::product;

/// Whether this processor multiplies in bf16.
pub(crate) fn available() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return x86::available();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    return false;
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(crate) fn product(
    _: &mut [f32],
    _: usize,
    _: bool,
    _: crate::Matrix<'_>,
    _: crate::Matrix<'_>,
    _: [usize; 3],
) -> bool {
    false
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::cell::RefCell;
    use std::sync::OnceLock;

    use crate::Matrix;

    /// Rows of a tile, and columns of a tile of sums.
    const SIDE: usize = 16;
    /// Length of the common axis within a tile.
    const DEPTH: usize = 32;
    /// 32-bit words of a tile.
    const WORDS: usize = 256;
    /// Longest stretch of the common axis that is packed at once, and most columns: packed factors
    /// should stay in the second-level cache.
    const K_BLOCK: usize = 512;
    const N_BLOCK: usize = 512;
    const M_BLOCK: usize = 256;

    pub(crate) fn available() -> bool {
        static FOUND: OnceLock<bool> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let vectors = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512bf16");
            if !vectors || __cpuid(0).eax < 7 {
                return false;
            }
            // Leaf 7: bit 22 for bf16 products, bit 24 for tiles.
            let tiles = 1 << 22 | 1 << 24;
            __cpuid_count(7, 0).edx & tiles == tiles && permitted()
        })
    }

    /// Asks the kernel for the tiles' state, which it saves for those who ask only
    /// (`ARCH_REQ_XCOMP_PERM` of arch_prctl(2), for the whole process).
    fn permitted() -> bool {
        let result: i64;
        // SAFETY: the call takes two numbers, and changes the two registers that are named.
        unsafe {
            asm!("syscall", inlateout("rax") 158i64 => result, in("rdi") 0x1023, in("rsi") 18,
                lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        result == 0
    }

    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }

    static TILES: Configuration = Configuration {
        palette: 1,
        start: 0,
        reserved: [0; 14],
        bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    #[derive(Clone, Copy)]
    #[repr(C, align(64))]
    struct Tile([u32; WORDS]);

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
        if !available() || !packs(&left) || !packs(&right) {
            return false;
        }
        PACKED.with_borrow_mut(|packed| {
            // SAFETY: `available` found the instructions, and the caller (matrix.rs) has compared
            // the shape with the slices.
            unsafe { blocks(packed, into, stride, add, left, right, [m, n, k]) }
        });
        true
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn blocks(
        packed: &mut Packed,
        into: &mut [f32],
        stride: usize,
        add: bool,
        left: Matrix<'_>,
        right: Matrix<'_>,
        [m, n, k]: [usize; 3],
    ) {
        let pairs = |x: usize| x.div_ceil(2 * SIDE) * 2;
        // SAFETY: `TILES` is a valid configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &TILES, options(nostack, readonly)) };
        for n0 in (0..n).step_by(N_BLOCK) {
            let nb = N_BLOCK.min(n - n0);
            for k0 in (0..k).step_by(K_BLOCK) {
                let kb = K_BLOCK.min(k - k0);
                let depth = kb.div_ceil(DEPTH);
                packed.right.resize(pairs(nb) * depth, Tile([0; WORDS]));
                // SAFETY: as for this function.
                unsafe { pack(&mut packed.right, right.at(k0, n0).transposed(), [nb, kb], true) };
                for m0 in (0..m).step_by(M_BLOCK) {
                    let mb = M_BLOCK.min(m - m0);
                    packed.left.resize(pairs(mb) * depth, Tile([0; WORDS]));
                    // SAFETY: as for this function.
                    unsafe { pack(&mut packed.left, left.at(m0, k0), [mb, kb], false) };
                    let into = &mut into[m0 * stride + n0..];
                    let adds = add || k0 > 0;
                    // SAFETY: as for this function.
                    unsafe { sums(packed, into, stride, adds, [mb, nb, depth]) };
                }
            }
        }
        // SAFETY: frees what ldtilecfg took.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }

    /// All tiles of sums of packed sides: two by two.
    #[target_feature(enable = "avx512f")]
    unsafe fn sums(packed: &Packed, into: &mut [f32], stride: usize, add: bool, shape: [usize; 3]) {
        let [m, n, depth] = shape;
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

    /// Two by two tiles of sums at `c`, whose rows are `stride` values apart.
    ///
    /// # Safety
    /// Tiles are configured; `left` and `right` hold 2 · `depth` tiles, `depth` at least 1, `c` 32
    /// rows of 32 values.
    unsafe fn kernel(
        left: &[Tile],
        right: &[Tile],
        depth: usize,
        c: *mut f32,
        stride: usize,
        add: bool,
    ) {
        // SAFETY: by the caller's promise every address is within its slice.
        unsafe {
            asm!(
                "test {add}, {add}",
                "jz 3f",
                "tileloadd tmm0, [{c} + {s}]",
                "tileloadd tmm1, [{c} + {s} + 64]",
                "tileloadd tmm2, [{d} + {s}]",
                "tileloadd tmm3, [{d} + {s} + 64]",
                "jmp 2f",
                "3:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{a} + {row}]",
                "tileloadd tmm6, [{b} + {row}]",
                "tileloadd tmm5, [{a} + {row} + 1024]",
                "tileloadd tmm7, [{b} + {row} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 2048",
                "add {b}, 2048",
                "dec {k}",
                "jnz 2b",
                "tilestored [{c} + {s}], tmm0",
                "tilestored [{c} + {s} + 64], tmm1",
                "tilestored [{d} + {s}], tmm2",
                "tilestored [{d} + {s} + 64], tmm3",
                add = in(reg) usize::from(add),
                c = in(reg) c,
                d = in(reg) c.add(SIDE * stride),
                s = in(reg) 4 * stride,
                a = inout(reg) left.as_ptr() => _,
                b = inout(reg) right.as_ptr() => _,
                k = inout(reg) depth => _,
                row = in(reg) 64usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    /// Rounds and packs `[rows, k]` of `from`. The tiles of rows 0..16 and 16..32 alternate along k,
    /// then come those of the next 32 rows. Within a tile, words are pairs along k; the `right` side
    /// of a product has a row of words for each pair, the left one for each row.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn pack(into: &mut [Tile], from: Matrix<'_>, [rows, k]: [usize; 2], right: bool) {
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
}
