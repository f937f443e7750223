//! AMX: two by two tiles of sums stay in registers along the common axis.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;

use super::pack::{SIDE, Tile};

/// Whether the processor has tiles of bf16 and the system lets us use them.
pub(super) fn available() -> bool {
    // Leaf 7: bit 22 for bf16 products, bit 24 for tiles.
    let tiles = 1 << 22 | 1 << 24;
    __cpuid_count(7, 0).edx & tiles == tiles && permitted()
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

/// Sets the tiles up; [`release`] gives them back.
///
/// # Safety
/// [`available`] said yes.
pub(super) unsafe fn configure() {
    // SAFETY: `TILES` is a valid configuration.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &TILES, options(nostack, readonly)) };
}

/// # Safety
/// After [`configure`].
pub(super) unsafe fn release() {
    // SAFETY: frees what ldtilecfg took.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Two by two tiles of sums at `c`, whose rows are `stride` values apart.
///
/// # Safety
/// Tiles are configured; `left` and `right` hold 2 · `depth` tiles, `depth` at least 1, `c` 32
/// rows of 32 values.
pub(super) unsafe fn kernel(
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
