//! Run-time detection and choice of instruction sets, and vector loads and stores with tails.

use std::sync::OnceLock;

use pulp::{Arch, Simd};

/// The environment variable that may ask for narrower vectors than the widest; see [`NARROWER`].
pub const SIMD_VARIABLE: &str = "LEJEPA_SIMD";

/// Values of [`SIMD_VARIABLE`]: AVX2, or no vectors.
///
/// ```
/// assert_eq!(lejepa_kernels::SIMD_VARIABLE, "LEJEPA_SIMD");
/// assert_eq!(lejepa_kernels::NARROWER, ["avx2", "scalar"]);
/// ```
pub const NARROWER: [&str; 2] = ["avx2", "scalar"];

/// The widest vectors of this processor, or the narrower ones that [`SIMD_VARIABLE`] asks for, to compare
/// instruction sets or to reproduce the results of another processor. Read once; unknown values are
/// ignored.
///
/// ```
/// use pulp::{Simd, WithSimd};
///
/// struct Lanes;
///
/// impl WithSimd for Lanes {
///     type Output = usize;
///     fn with_simd<S: Simd>(self, _: S) -> usize {
///         S::F32_LANES
///     }
/// }
///
/// assert!(lejepa_kernels::arch().dispatch(Lanes) >= 1);
/// ```
pub fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(|| match std::env::var(SIMD_VARIABLE).as_deref() {
        Ok(name) if name == NARROWER[1] => Arch::Scalar,
        #[cfg(target_arch = "x86_64")]
        Ok(name) if name == NARROWER[0] => pulp::x86::V3::try_new().map_or(Arch::Scalar, Arch::V3),
        _ => Arch::new(),
    })
}

/// Instruction sets for bf16 products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bf16Isa {
    /// AMX-BF16: a 16 × 16 tile of sums with each instruction. AVX512-BF16 is available too.
    Amx,
    /// AVX512-BF16, with AVX-512F and AVX512BW: 16 sums of two products with each instruction.
    Avx512,
}

/// The fastest instruction set of this processor for bf16 products; none if [`SIMD_VARIABLE`] asks for narrower
/// vectors.
pub(crate) fn bf16_isa() -> Option<Bf16Isa> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        static ISA: OnceLock<Option<Bf16Isa>> = OnceLock::new();
        *ISA.get_or_init(|| {
            let is_available = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512bf16")
                && matches!(arch(), Arch::V4(_));
            let fastest = || if amx::is_available() { Bf16Isa::Amx } else { Bf16Isa::Avx512 };
            is_available.then(fastest)
        })
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    {
        None
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;

    /// Whether the processor has AMX-BF16 and the system permits its use.
    pub(super) fn is_available() -> bool {
        // Leaf 7: bit 22 for bf16 products, bit 24 for tiles.
        let tiles = 1 << 22 | 1 << 24;
        __cpuid_count(7, 0).edx & tiles == tiles && request_permission()
    }

    /// Requests permission to use tile data, for the whole process (`ARCH_REQ_XCOMP_PERM` of arch_prctl(2)):
    /// the kernel saves it only for processes that have asked.
    fn request_permission() -> bool {
        let result: i64;
        // SAFETY: the system call takes two integers, accesses no memory of the process, and clobbers the
        // registers that are declared.
        unsafe {
            asm!("syscall", inlateout("rax") 158i64 => result, in("rdi") 0x1023, in("rsi") 18,
                lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        result == 0
    }
}

/// The vector that starts at `at`; lanes beyond the end of the slice are 0.
#[inline(always)]
pub(crate) fn load<S: Simd>(s: S, x: &[f32], at: usize) -> S::f32s {
    if at + S::F32_LANES <= x.len() {
        S::as_simd_f32s(&x[at..at + S::F32_LANES]).0[0]
    } else {
        s.partial_load_f32s(&x[at..])
    }
}

/// Stores the vector at `at`; lanes beyond the end of the slice are dropped.
#[inline(always)]
pub(crate) fn store<S: Simd>(s: S, x: &mut [f32], at: usize, value: S::f32s) {
    if at + S::F32_LANES <= x.len() {
        S::as_mut_simd_f32s(&mut x[at..at + S::F32_LANES]).0[0] = value;
    } else {
        s.partial_store_f32s(&mut x[at..], value);
    }
}

/// Defines a function whose body is compiled for every instruction set and run with the one of [`arch`],
/// `$s`. Vector operations stay out of closures: one that is not inlined does not inherit the instruction
/// set, and each of its vector operations becomes a function call.
macro_rules! simd_fn {
    ($(#[$doc:meta])* fn $name:ident<$a:lifetime>($($field:ident: $type:ty),* $(,)?) |$s:ident| $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, clippy::needless_lifetimes)]
        pub(crate) fn $name<$a>($($field: $type),*) {
            struct Body<$a> { $($field: $type),* }
            impl pulp::WithSimd for Body<'_> {
                type Output = ();
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, $s: S) {
                    let Self { $($field),* } = self;
                    $body
                }
            }
            $crate::simd::arch().dispatch(Body { $($field),* });
        }
    };
}
pub(crate) use simd_fn;
