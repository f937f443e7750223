//! bf16 matrix products with 32-bit sums: on the tiles of AMX, or with AVX512-BF16's products of pairs
//! (Intel 64 and IA-32 Architectures Software Developer's Manual, vol. 1, chapter 18, and vol. 2,
//! `VDPBF16PS`).
//!
//! Both sides are rounded and packed into tiles of 16 rows of 64 bytes first: 16 × 32 left and 32 × 16
//! right factors, the right ones stored in pairs along the common axis. AMX's `TDPBF16PS` takes such
//! tiles as they are; `VDPBF16PS` takes a row of the right one, and a pair of the left one for all.

/// How this processor multiplies in bf16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// AMX: a 16 × 16 tile of sums at once.
    Tiles,
    /// AVX512-BF16: 16 sums of two products at once.
    Pairs,
}

/// The quickest unit there is.
pub(crate) fn unit() -> Option<Unit> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return x86::unit();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    return None;
}

/// `into` (+)= `left` · `right`; `false`, and nothing done, where the processor or the layout does
/// not allow it.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use x86::product;

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
mod pack;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod pairs;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod x86;
