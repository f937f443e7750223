//! The precision of matrix products.

use std::cell::Cell;
use std::fmt;

use crate::simd::bf16_isa;

/// The type of the operands of matrix products, and of the images that operations save for the backward pass.
/// Everything else, accumulators included, is f32.
///
/// It is a setting of the calling thread. The backward pass of an operation uses the setting of its forward
/// pass.
///
/// ```
/// use lejepa_kernels::Precision;
///
/// assert_eq!(Precision::now(), Precision::F32);
/// let inside = Precision::Bf16.scope(Precision::now);
/// assert_eq!(inside, Precision::Bf16);
/// assert_eq!(Precision::now(), Precision::F32);
/// println!("bf16 products: {}", Precision::Bf16.is_native());
/// assert_eq!(Precision::Bf16.to_string(), "bf16");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// bf16 on processors with AMX or AVX512-BF16, and on other devices that have it; f32 elsewhere.
    Bf16,
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

impl Precision {
    /// The setting of this thread.
    pub fn now() -> Self {
        CURRENT.get()
    }

    /// Runs `work` on this thread with this setting.
    pub fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        struct Restore(Precision);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(self));
        work()
    }

    /// Whether this processor has instructions for products of this precision.
    pub fn is_native(self) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 => bf16_isa().is_some(),
        }
    }

    /// Whether products run in bf16 on this processor.
    pub(crate) fn is_narrow(self) -> bool {
        self == Self::Bf16 && self.is_native()
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}
