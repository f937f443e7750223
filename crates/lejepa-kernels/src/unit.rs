//! What multiplies: vectors of 32-bit numbers of whatever width, or AVX512-BF16's pairs.
//!
//! A kernel is written once, for a [`Unit`]. Its factors come in [`Word`]s of 32 bits: a number, or two
//! in bf16 that lie one after the other along the common axis of the product.

use pulp::{Simd, WithSimd};

use crate::lanes::arch;

/// Factors as a unit takes them.
pub(crate) trait Word: Copy + Send + Sync + Default + 'static {
    /// How many there are in a word.
    const FACTORS: usize;

    /// The word of factors, of which there are at most [`Word::FACTORS`]; what is missing is 0.
    fn of(factors: [f32; 2]) -> Self;

    /// The same of factors in bf16.
    fn of_halves(factors: [u16; 2]) -> Self;

    /// Words in a vector.
    fn lanes() -> usize;

    /// Runs a task on the unit.
    fn run<T: Task<Self>>(task: T);

    /// Numbers as words, where they are the same.
    fn same(numbers: &[f32]) -> Option<&[Self]>;
}

/// Work for a unit.
///
/// Implementations are `#[inline(always)]`, and hold no closures: those would not inherit the
/// instruction set they are called under.
pub(crate) trait Task<W: Word> {
    fn run<U: Unit<Word = W>>(self, unit: U);
}

/// Multiplies and adds.
pub(crate) trait Unit: Copy {
    type Word: Word;
    /// [`Word::lanes`] words.
    type Vector: Copy;
    /// As many sums.
    type Sums: Copy;
    const LANES: usize;
    /// Whether there are registers for 16 vectors of sums.
    const WIDE: bool;

    fn zero(self) -> Self::Sums;

    /// One word in all places.
    ///
    /// # Safety
    /// `at` points to a word.
    unsafe fn spread(self, at: *const Self::Word) -> Self::Vector;

    /// # Safety
    /// `at` points to as many words as there are lanes.
    unsafe fn load(self, at: *const Self::Word) -> Self::Vector;

    /// `sums` + `a`·`b`
    fn add_product(self, a: Self::Vector, b: Self::Vector, sums: Self::Sums) -> Self::Sums;

    /// The words that lie one after the other in memory: [`Word::FACTORS`] numbers each.
    ///
    /// # Safety
    /// `at` points to as many numbers as go into a vector.
    unsafe fn along(self, at: *const f32) -> Self::Vector;

    /// Words of a number from each of two rows; a word of one factor is from the first row.
    ///
    /// # Safety
    /// Both point to as many numbers as there are lanes.
    unsafe fn across(self, first: *const f32, second: *const f32) -> Self::Vector;

    /// # Safety
    /// `at` points to room for as many words as there are lanes.
    unsafe fn put(self, words: Self::Vector, at: *mut Self::Word);

    /// # Safety
    /// `at` points to as many numbers as there are lanes.
    unsafe fn store(self, sums: Self::Sums, at: *mut f32, add: bool);
}

impl Word for f32 {
    const FACTORS: usize = 1;

    #[inline(always)]
    fn of([first, _]: [f32; 2]) -> Self {
        first
    }

    #[inline(always)]
    fn of_halves([first, _]: [u16; 2]) -> Self {
        f32::from_bits(u32::from(first) << 16)
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

    fn run<T: Task<Self>>(task: T) {
        struct Dispatched<T>(T);
        impl<T: Task<f32>> WithSimd for Dispatched<T> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, s: S) {
                self.0.run(Numbers(s));
            }
        }
        arch().dispatch(Dispatched(task));
    }

    fn same(numbers: &[f32]) -> Option<&[Self]> {
        Some(numbers)
    }
}

/// Vectors of 32-bit numbers.
#[derive(Clone, Copy)]
struct Numbers<S>(S);

impl<S: Simd> Unit for Numbers<S> {
    type Word = f32;
    type Vector = S::f32s;
    type Sums = S::f32s;
    const LANES: usize = S::F32_LANES;
    const WIDE: bool = S::REGISTER_COUNT >= 32;

    #[inline(always)]
    fn zero(self) -> Self::Sums {
        self.0.splat_f32s(0.0)
    }
    #[inline(always)]
    unsafe fn spread(self, at: *const f32) -> Self::Vector {
        // SAFETY: by the caller's promise.
        self.0.splat_f32s(unsafe { *at })
    }
    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> Self::Vector {
        // SAFETY: by the caller's promise.
        unsafe { at.cast::<S::f32s>().read_unaligned() }
    }
    #[inline(always)]
    fn add_product(self, a: Self::Vector, b: Self::Vector, sums: Self::Sums) -> Self::Sums {
        self.0.mul_add_e_f32s(a, b, sums)
    }
    #[inline(always)]
    unsafe fn along(self, at: *const f32) -> Self::Vector {
        // SAFETY: by the caller's promise; so for the next two.
        unsafe { self.load(at) }
    }
    #[inline(always)]
    unsafe fn across(self, first: *const f32, _: *const f32) -> Self::Vector {
        unsafe { self.load(first) }
    }
    #[inline(always)]
    unsafe fn put(self, words: Self::Vector, at: *mut f32) {
        unsafe { at.cast::<S::f32s>().write_unaligned(words) }
    }
    #[inline(always)]
    unsafe fn store(self, sums: Self::Sums, at: *mut f32, add: bool) {
        let at = at.cast::<S::f32s>();
        // SAFETY: by the caller's promise.
        unsafe {
            let sums = if add { self.0.add_f32s(at.read_unaligned(), sums) } else { sums };
            at.write_unaligned(sums);
        }
    }
}

/// Two numbers in bf16, the first one in the low half.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(transparent)]
pub(crate) struct Pair(u32);

/// The nearest bf16, even ones where two are as near.
#[inline(always)]
pub(crate) fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    // Rounding up could make an infinity of a NaN.
    if x.is_nan() { 0x7fc0 } else { nearest }
}

impl Word for Pair {
    const FACTORS: usize = 2;

    #[inline(always)]
    fn of([first, second]: [f32; 2]) -> Self {
        Self(rounded(first) | rounded(second) << 16)
    }

    #[inline(always)]
    fn of_halves([first, second]: [u16; 2]) -> Self {
        Self(u32::from(first) | u32::from(second) << 16)
    }

    fn lanes() -> usize {
        16
    }

    fn run<T: Task<Self>>(task: T) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if crate::bf16::unit().is_some() {
            // SAFETY: every unit for bf16 comes with AVX512-BF16.
            unsafe { pairs::run(task) };
            return;
        }
        let _ = task;
        unreachable!("bf16 words are for processors that multiply them");
    }

    fn same(_: &[f32]) -> Option<&[Self]> {
        None
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod pairs {
    use std::arch::x86_64::*;

    use super::{Pair, Task, Unit};

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn run<T: Task<Pair>>(task: T) {
        task.run(Pairs);
    }

    /// AVX512-BF16. Every use of it is inlined into [`run`].
    #[derive(Clone, Copy)]
    struct Pairs;

    impl Unit for Pairs {
        type Word = Pair;
        type Vector = __m512bh;
        type Sums = __m512;
        const LANES: usize = 16;
        const WIDE: bool = true;

        #[inline(always)]
        fn zero(self) -> __m512 {
            // SAFETY: see `Pairs`; so for all that follow.
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn spread(self, at: *const Pair) -> __m512bh {
            // SAFETY: the caller's promise, and 512 bits of any content are pairs.
            unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32((*at).0 as i32)) }
        }
        #[inline(always)]
        unsafe fn load(self, at: *const Pair) -> __m512bh {
            // SAFETY: as for `spread`.
            unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(at.cast())) }
        }
        #[inline(always)]
        fn add_product(self, a: __m512bh, b: __m512bh, sums: __m512) -> __m512 {
            // SAFETY: see `Pairs`.
            unsafe { _mm512_dpbf16_ps(sums, a, b) }
        }
        #[inline(always)]
        unsafe fn along(self, at: *const f32) -> __m512bh {
            // SAFETY: the caller's promise; the instruction puts its last argument first.
            unsafe { _mm512_cvtne2ps_pbh(_mm512_loadu_ps(at.add(16)), _mm512_loadu_ps(at)) }
        }
        #[inline(always)]
        unsafe fn across(self, first: *const f32, second: *const f32) -> __m512bh {
            // SAFETY: the caller's promise, and 512 bits of any content are pairs.
            unsafe {
                let rows = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(second), _mm512_loadu_ps(first));
                // In turn a number of the first half and one of the second: as words of 32 bits, the
                // indices 0 and 16, 1 and 17, ...
                let step = _mm512_set1_epi32(0x0001_0001);
                let lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
                let turns = _mm512_add_epi32(
                    _mm512_mullo_epi32(lanes, step),
                    _mm512_set1_epi32(0x0010_0000),
                );
                let rows = std::mem::transmute::<__m512bh, __m512i>(rows);
                let rows = _mm512_permutexvar_epi16(turns, rows);
                std::mem::transmute::<__m512i, __m512bh>(rows)
            }
        }
        #[inline(always)]
        unsafe fn put(self, words: __m512bh, at: *mut Pair) {
            // SAFETY: the caller's promise, and 512 bits of any content are pairs.
            unsafe {
                let words = std::mem::transmute::<__m512bh, __m512i>(words);
                _mm512_storeu_si512(at.cast(), words);
            }
        }
        #[inline(always)]
        unsafe fn store(self, sums: __m512, at: *mut f32, add: bool) {
            // SAFETY: by the caller's promise.
            unsafe {
                let sums = if add { _mm512_add_ps(_mm512_loadu_ps(at), sums) } else { sums };
                _mm512_storeu_ps(at, sums);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_hold_the_nearest_bf16() {
        for (x, want) in [
            (1.0, 0x3f80),
            (-1.0, 0xbf80),
            (1.0 + 0.003, 0x3f80), // below half of 2⁻⁷
            (1.0 + 0.005, 0x3f81),
            (1.0 + 0.00390625, 0x3f80), // half: to the even one
            (1.0 + 3.0 * 0.00390625, 0x3f82),
            (f32::MAX, 0x7f80),
            (f32::NEG_INFINITY, 0xff80),
            (f32::NAN, 0x7fc0),
        ] {
            assert_eq!(Pair::of([x, 0.0]), Pair(want), "{x}");
            assert_eq!(Pair::of([0.0, x]), Pair(want << 16), "{x}");
        }
    }
}
