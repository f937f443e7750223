//! AMX: 2 × 2 tiles of accumulators.

use std::arch::asm;
use std::marker::PhantomData;

use super::pack::{SIDE, Tile};

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

/// Tiles that are configured on the current thread; released when dropped.
pub(super) struct Configured(PhantomData<*const ()>);

impl Configured {
    /// Configures eight tiles of 16 rows of 64 bytes.
    ///
    /// # Safety
    /// AMX-BF16 was detected; see [`bf16_isa`](crate::simd::bf16_isa).
    pub(super) unsafe fn new() -> Self {
        // SAFETY: the caller guarantees AMX, and `TILES` is a valid configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &TILES, options(nostack, readonly)) };
        Self(PhantomData)
    }

    /// 2 × 2 tiles of `c` (+)= tiles of A times tiles of B, which alternate between the two rows and the two
    /// columns of `c`. `stride` is the row stride of `c`.
    ///
    /// # Panics
    /// If `a` and `b` differ in length, or have no or an odd number of tiles, or `c` has not 32 rows of 32
    /// values.
    pub(super) fn multiply(
        &self,
        a: &[Tile],
        b: &[Tile],
        c: &mut [f32],
        stride: usize,
        accumulate: bool,
    ) {
        assert!(a.len() == b.len() && a.len() >= 2 && a.len().is_multiple_of(2), "tiles");
        let c = &mut c[..(2 * SIDE - 1) * stride + 2 * SIDE];
        // SAFETY: tiles are configured while `self` lives; the number of tiles was checked, and `c` sliced,
        // above.
        unsafe { multiply(a, b, a.len() / 2, c.as_mut_ptr(), stride, accumulate) };
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: tiles were configured, so AMX is available.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// [`Configured::multiply`]
///
/// # Safety
/// Tiles are configured on this thread; `a` and `b` have 2·`depth` tiles, `depth` being at least 1; `c` is
/// valid for 32 rows of 32 values, `stride` values apart.
unsafe fn multiply(
    a: &[Tile],
    b: &[Tile],
    depth: usize,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    // SAFETY: the caller guarantees that all addresses are valid; the registers and tiles that change are
    // declared, and the block may access memory.
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
            add = in(reg) usize::from(accumulate),
            c = in(reg) c,
            d = in(reg) c.add(SIDE * stride),
            s = in(reg) 4 * stride,
            a = inout(reg) a.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            k = inout(reg) depth => _,
            row = in(reg) 64usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
