//! bf16 products of strided matrices with f32 accumulation, on AMX or AVX512-BF16 (Intel 64 and IA-32
//! Architectures Software Developer's Manual, vol. 1, chapter 18, and vol. 2, `VDPBF16PS`).
//!
//! Both operands are rounded and packed in pairs along the inner dimension. AMX's `TDPBF16PS` takes tiles of
//! 16 rows of 64 bytes: 16 × 32 values of A and 32 × 16 of B. For AVX512-BF16, A becomes rows and B panels
//! for the same microkernel that multiplies with packed weights (see [`indirect`](super::indirect)).

/// C (+)= A·B. Returns `false`, leaving C as it is, if the processor has no bf16 products or an operand has
/// no unit stride.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use x86::product;

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(crate) fn product(
    _: &mut [f32],
    _: usize,
    _: bool,
    _: super::matrix::Matrix<'_>,
    _: super::matrix::Matrix<'_>,
    _: [usize; 3],
) -> bool {
    false
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod pack;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod x86;
