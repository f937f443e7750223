//! The microkernel's instruction sets: f32 vectors of any width, and AVX512-BF16.
//!
//! A microkernel is written once, for an [`Isa`]. Its operands are [`Packed`] elements of 32 bits: an f32,
//! or two bf16 that are adjacent along the inner dimension of the product.

use pulp::{Simd, WithSimd};

use crate::bf16::round_to_bf16;
use crate::simd::{arch, bf16_isa};

/// An element of a packed operand.
///
/// # Safety
/// The type has the size and the alignment of `u32` and no padding, and every bit pattern is valid, so that
/// memory of `f32` may be read and written as this type and the other way round.
pub(crate) unsafe trait Packed: Copy + Send + Sync + Default + 'static {
    /// Consecutive values along the inner dimension in an element: 1 or 2.
    const K: usize;

    /// Packs [`Packed::K`] values; the rest is ignored.
    fn pack(values: [f32; 2]) -> Self;

    /// Packs [`Packed::K`] values that are bf16 already; the rest is ignored.
    fn pack_bf16(values: [u16; 2]) -> Self;

    /// Elements in a vector.
    fn lanes() -> usize;

    /// Runs a kernel on the instruction set for this element.
    fn dispatch<T: WithIsa<Self>>(kernel: T);

    /// Values as packed elements, if that needs no conversion.
    fn from_f32(values: &[f32]) -> Option<&[Self]>;
}

/// A kernel that is generic over the instruction set.
///
/// Implementations are `#[inline(always)]` and keep vector operations out of closures, which would not
/// inherit the instruction set.
pub(crate) trait WithIsa<P: Packed> {
    fn with_isa<I: Isa<Packed = P>>(self, isa: I);
}

/// Vector operations of a microkernel.
pub(crate) trait Isa: Copy {
    type Packed: Packed;
    /// [`Isa::LANES`] packed elements.
    type Vector: Copy;
    /// [`Isa::LANES`] f32 accumulators.
    type Acc: Copy;
    const LANES: usize;
    /// Whether 16 accumulators and their operands fit into the registers.
    const WIDE: bool;

    /// Accumulators of 0.
    fn zero(self) -> Self::Acc;

    /// One element in all lanes.
    ///
    /// # Safety
    /// `at` is valid for reading an element.
    unsafe fn splat(self, at: *const Self::Packed) -> Self::Vector;

    /// A vector of elements.
    ///
    /// # Safety
    /// `at` is valid for reading [`Isa::LANES`] elements.
    unsafe fn load_packed(self, at: *const Self::Packed) -> Self::Vector;

    /// `acc` + `a`·`b`
    fn mul_add(self, a: Self::Vector, b: Self::Vector, acc: Self::Acc) -> Self::Acc;

    /// Packs consecutive values of a row, [`Packed::K`] to an element.
    ///
    /// # Safety
    /// `at` is valid for reading [`Isa::LANES`] · [`Packed::K`] values.
    unsafe fn pack_k(self, at: *const f32) -> Self::Vector;

    /// Packs column by column the values of two rows, the first of each element from `first`; elements of
    /// one value ignore `second`.
    ///
    /// # Safety
    /// Both pointers are valid for reading [`Isa::LANES`] values.
    unsafe fn interleave(self, first: *const f32, second: *const f32) -> Self::Vector;

    /// Stores a vector of elements.
    ///
    /// # Safety
    /// `at` is valid for writing [`Isa::LANES`] elements.
    unsafe fn store_packed(self, vector: Self::Vector, at: *mut Self::Packed);

    /// Stores accumulators, or adds them to what is there.
    ///
    /// # Safety
    /// `at` is valid for reading and writing [`Isa::LANES`] values.
    unsafe fn store_acc(self, acc: Self::Acc, at: *mut f32, accumulate: bool);
}

// SAFETY: 32 bits without padding; every bit pattern is an `f32`.
unsafe impl Packed for f32 {
    const K: usize = 1;

    #[inline(always)]
    fn pack([value, _]: [f32; 2]) -> Self {
        value
    }

    #[inline(always)]
    fn pack_bf16([value, _]: [u16; 2]) -> Self {
        f32::from_bits(u32::from(value) << 16)
    }

    fn lanes() -> usize {
        struct Lanes;
        impl WithSimd for Lanes {
            type Output = usize;
            fn with_simd<S: Simd>(self, _: S) -> usize {
                S::F32_LANES
            }
        }
        arch().dispatch(Lanes)
    }

    fn dispatch<T: WithIsa<Self>>(kernel: T) {
        struct Dispatched<T>(T);
        impl<T: WithIsa<f32>> WithSimd for Dispatched<T> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, s: S) {
                self.0.with_isa(F32Vectors(s));
            }
        }
        arch().dispatch(Dispatched(kernel));
    }

    fn from_f32(values: &[f32]) -> Option<&[Self]> {
        Some(values)
    }
}

/// f32 vectors of a pulp instruction set.
#[derive(Clone, Copy)]
struct F32Vectors<S>(S);

impl<S: Simd> Isa for F32Vectors<S> {
    type Packed = f32;
    type Vector = S::f32s;
    type Acc = S::f32s;
    const LANES: usize = S::F32_LANES;
    const WIDE: bool = S::REGISTER_COUNT >= 32;

    #[inline(always)]
    fn zero(self) -> Self::Acc {
        self.0.splat_f32s(0.0)
    }
    #[inline(always)]
    unsafe fn splat(self, at: *const f32) -> Self::Vector {
        // SAFETY: the caller guarantees that `at` is valid for a read.
        self.0.splat_f32s(unsafe { *at })
    }
    #[inline(always)]
    unsafe fn load_packed(self, at: *const f32) -> Self::Vector {
        // SAFETY: the caller guarantees that `at` is valid for `LANES` values; `f32s` is an array of them.
        unsafe { at.cast::<S::f32s>().read_unaligned() }
    }
    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, acc: Self::Acc) -> Self::Acc {
        self.0.mul_add_e_f32s(a, b, acc)
    }
    #[inline(always)]
    unsafe fn pack_k(self, at: *const f32) -> Self::Vector {
        // SAFETY: the contract is that of `load_packed`, as K = 1.
        unsafe { self.load_packed(at) }
    }
    #[inline(always)]
    unsafe fn interleave(self, first: *const f32, _: *const f32) -> Self::Vector {
        // SAFETY: the contract is that of `load_packed`.
        unsafe { self.load_packed(first) }
    }
    #[inline(always)]
    unsafe fn store_packed(self, vector: Self::Vector, at: *mut f32) {
        // SAFETY: the caller guarantees that `at` is valid for `LANES` values; `f32s` is an array of them.
        unsafe { at.cast::<S::f32s>().write_unaligned(vector) }
    }
    #[inline(always)]
    unsafe fn store_acc(self, acc: Self::Acc, at: *mut f32, accumulate: bool) {
        let at = at.cast::<S::f32s>();
        // SAFETY: the caller guarantees that `at` is valid for `LANES` values; `f32s` is an array of them.
        unsafe {
            let acc = if accumulate { self.0.add_f32s(at.read_unaligned(), acc) } else { acc };
            at.write_unaligned(acc);
        }
    }
}

/// Two bf16 that are adjacent along the inner dimension, the first one in the low half.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(transparent)]
pub(crate) struct Bf16Pair(u32);

impl Bf16Pair {
    /// Two zeros.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(crate) const ZERO: Self = Self(0);
}

// SAFETY: transparent over `u32`.
unsafe impl Packed for Bf16Pair {
    const K: usize = 2;

    #[inline(always)]
    fn pack([first, second]: [f32; 2]) -> Self {
        Self(round_to_bf16(first) | round_to_bf16(second) << 16)
    }

    #[inline(always)]
    fn pack_bf16([first, second]: [u16; 2]) -> Self {
        Self(u32::from(first) | u32::from(second) << 16)
    }

    fn lanes() -> usize {
        16
    }

    fn dispatch<T: WithIsa<Self>>(kernel: T) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if bf16_isa().is_some() {
            // SAFETY: `bf16_isa` is `Some` only if AVX-512F, AVX512BW and AVX512-BF16 were detected.
            unsafe { avx512_bf16::dispatch(kernel) };
            return;
        }
        let _ = kernel;
        unreachable!("bf16 pairs are made only where they can be multiplied");
    }

    fn from_f32(_: &[f32]) -> Option<&[Self]> {
        None
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod avx512_bf16 {
    use std::arch::x86_64::*;

    use super::{Bf16Pair, Isa, WithIsa};

    /// Runs a kernel on AVX512-BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) fn dispatch<T: WithIsa<Bf16Pair>>(kernel: T) {
        kernel.with_isa(Avx512Bf16(()));
    }

    /// Proof that AVX-512F, AVX512BW and AVX512-BF16 are available: the only value is made in [`dispatch`],
    /// which has them enabled, and all methods are inlined there.
    #[derive(Clone, Copy)]
    struct Avx512Bf16(());

    impl Isa for Avx512Bf16 {
        type Packed = Bf16Pair;
        type Vector = __m512bh;
        type Acc = __m512;
        const LANES: usize = 16;
        const WIDE: bool = true;

        #[inline(always)]
        fn zero(self) -> __m512 {
            // SAFETY: `self` proves that the instruction set is available.
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(self, at: *const Bf16Pair) -> __m512bh {
            // SAFETY: `self` proves that the instruction set is available, the caller that `at` is valid for
            // a read; every pattern of 512 bits is a valid `__m512bh`.
            unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32((*at).0 as i32)) }
        }
        #[inline(always)]
        unsafe fn load_packed(self, at: *const Bf16Pair) -> __m512bh {
            // SAFETY: `self` proves that the instruction set is available, the caller that `at` is valid for
            // 16 elements; every pattern of 512 bits is a valid `__m512bh`.
            unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(at.cast())) }
        }
        #[inline(always)]
        fn mul_add(self, a: __m512bh, b: __m512bh, acc: __m512) -> __m512 {
            // SAFETY: `self` proves that the instruction set is available.
            unsafe { _mm512_dpbf16_ps(acc, a, b) }
        }
        #[inline(always)]
        unsafe fn pack_k(self, at: *const f32) -> __m512bh {
            // SAFETY: `self` proves that the instruction set is available, the caller that `at` is valid for
            // 32 values. The result has the second operand in its low half.
            unsafe { _mm512_cvtne2ps_pbh(_mm512_loadu_ps(at.add(16)), _mm512_loadu_ps(at)) }
        }
        #[inline(always)]
        unsafe fn interleave(self, first: *const f32, second: *const f32) -> __m512bh {
            // SAFETY: `self` proves that the instruction set is available, the caller that both pointers are
            // valid for 16 values; every pattern of 512 bits is a valid `__m512i` and `__m512bh`.
            unsafe {
                let rows = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(second), _mm512_loadu_ps(first));
                // Alternate between both halves: as pairs of 16-bit indices, (0, 16), (1, 17), ...
                let step = _mm512_set1_epi32(0x0001_0001);
                let lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
                let order = _mm512_add_epi32(
                    _mm512_mullo_epi32(lanes, step),
                    _mm512_set1_epi32(0x0010_0000),
                );
                let rows = std::mem::transmute::<__m512bh, __m512i>(rows);
                let rows = _mm512_permutexvar_epi16(order, rows);
                std::mem::transmute::<__m512i, __m512bh>(rows)
            }
        }
        #[inline(always)]
        unsafe fn store_packed(self, vector: __m512bh, at: *mut Bf16Pair) {
            // SAFETY: `self` proves that the instruction set is available, the caller that `at` is valid for
            // 16 elements; every pattern of 512 bits is a valid `__m512i`.
            unsafe {
                let vector = std::mem::transmute::<__m512bh, __m512i>(vector);
                _mm512_storeu_si512(at.cast(), vector);
            }
        }
        #[inline(always)]
        unsafe fn store_acc(self, acc: __m512, at: *mut f32, accumulate: bool) {
            // SAFETY: `self` proves that the instruction set is available, the caller that `at` is valid for
            // 16 values.
            unsafe {
                let acc = if accumulate { _mm512_add_ps(_mm512_loadu_ps(at), acc) } else { acc };
                _mm512_storeu_ps(at, acc);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_the_first_value_in_the_low_half() {
        assert_eq!(Bf16Pair::pack([1.0, -1.0]), Bf16Pair(0xbf80_3f80));
        assert_eq!(Bf16Pair::pack([f32::NAN, 0.0]), Bf16Pair(0x7fc0));
        assert_eq!(Bf16Pair::pack_bf16([0x1234, 0x5678]), Bf16Pair(0x5678_1234));
        assert_eq!(f32::pack([3.0, 4.0]), 3.0);
        assert_eq!(f32::pack_bf16([0x3f80, 0]), 1.0);
    }
}
