//! In how many bits matrix products are done.

use std::cell::Cell;
use std::fmt;

/// In how many bits the factors of matrix products are held, and the pictures that operations on them keep
/// for their way back. Everything else, sums included, is done in 32 bits, whatever the choice.
///
/// It is a setting of the thread that calls an operation, and holds for the operation's way back too.
///
/// ```
/// use lejepa_kernels::Precision;
///
/// assert_eq!(Precision::now(), Precision::F32);
/// let inside = Precision::Bf16.scope(Precision::now);
/// assert_eq!(inside, Precision::Bf16);
/// assert_eq!(Precision::now(), Precision::F32);
/// println!("bf16 is quicker here: {}", Precision::Bf16.is_native());
/// assert_eq!(Precision::Bf16.to_string(), "bf16");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// bf16 (8 bits of exponent, 8 of precision) where the processor multiplies it (AMX or
    /// AVX512-BF16); 32 bits elsewhere.
    Bf16,
}

thread_local! {
    static NOW: Cell<Precision> = const { Cell::new(Precision::F32) };
}

impl Precision {
    /// The setting of this thread.
    pub fn now() -> Self {
        NOW.get()
    }

    /// Runs `work` with this setting.
    pub fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        struct Back(Precision);
        impl Drop for Back {
            fn drop(&mut self) {
                NOW.set(self.0);
            }
        }
        let _back = Back(NOW.replace(self));
        work()
    }

    /// Whether this processor has products of this kind.
    pub fn is_native(self) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 => crate::bf16::unit().is_some(),
        }
    }

    /// Whether factors are in bf16, here and now.
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
