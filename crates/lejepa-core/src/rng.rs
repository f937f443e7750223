//! Random streams without state: every draw is addressed, so nothing has to be saved to resume.
//!
//! A stream is a ChaCha8 generator whose key is a hash of the run's seed, the stream's purpose and
//! the address of what is drawn (a step, an epoch, a sample). Any worker can make any stream at any
//! time, so results do not depend on the number of workers nor on where a run was interrupted.

use rand::SeedableRng;

/// The generator handed to view samplers: small, portable, the same numbers on every platform.
pub type ViewRng = rand_chacha::ChaCha8Rng;

/// What a stream is used for. Two purposes never share numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// Initial weights.
    Init,
    /// The order of samples in an epoch.
    Shuffle,
    /// Views of one sample in one epoch.
    Views,
    /// SIGReg's directions of one step.
    Slices,
    /// What the encoder draws in one step: dropout, drop path.
    Encoder,
    /// The sample that stands in for a bad one.
    Replacement,
    /// The train/test split and the initial weights of probes.
    Probe,
    /// Generated demo data.
    Demo,
    /// Companions of a sample.
    Companions,
    /// What projectors and the prediction term draw in one step.
    Heads,
}

/// The seed of a run, from which every stream follows.
///
/// ```
/// use lejepa_core::{Purpose, Seed};
/// use rand::Rng;
/// let seed = Seed(7);
/// let mut a = seed.rng(Purpose::Views, &[0, 3]);
/// let mut b = seed.rng(Purpose::Views, &[0, 3]);
/// assert_eq!(a.next_u64(), b.next_u64());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// A 64-bit seed for `purpose` at `address`.
    ///
    /// ```
    /// use lejepa_core::{Purpose, Seed};
    ///
    /// let order = Seed(7).derive(Purpose::Shuffle, &[3]);
    /// assert_eq!(order, Seed(7).derive(Purpose::Shuffle, &[3]));
    /// // Another epoch, another purpose and another run each have another seed.
    /// assert_ne!(order, Seed(7).derive(Purpose::Shuffle, &[4]));
    /// assert_ne!(order, Seed(7).derive(Purpose::Views, &[3]));
    /// assert_ne!(order, Seed(8).derive(Purpose::Shuffle, &[3]));
    /// ```
    pub fn derive(self, purpose: Purpose, address: &[u64]) -> u64 {
        let mut h = mix(self.0 ^ 0x6c65_6a65_7061_5631);
        h = mix(h ^ purpose as u64);
        for &a in address {
            h = mix(h.rotate_left(23) ^ a);
        }
        h
    }

    /// A generator for `purpose` at `address`.
    pub fn rng(self, purpose: Purpose, address: &[u64]) -> ViewRng {
        ViewRng::seed_from_u64(self.derive(purpose, address))
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every input bit reaches every output bit.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_purposes_are_separate() {
        let s = Seed(1);
        let all = [
            s.derive(Purpose::Views, &[0, 1]),
            s.derive(Purpose::Views, &[1, 0]),
            s.derive(Purpose::Views, &[1]),
            s.derive(Purpose::Slices, &[1]),
            Seed(2).derive(Purpose::Views, &[1]),
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }
}
