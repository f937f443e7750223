//! Random numbers that are the same everywhere.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// One stream of numbers.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// The stream of one item of a corpus: no item depends on what the others draw.
    pub(crate) fn new(corpus: &str, item: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(hash(corpus));
        rng.set_stream(item);
        Self(rng)
    }

    /// Uniform in 0 to 1, without 1.
    pub(crate) fn unit(&mut self) -> f64 {
        f64::from(self.0.next_u32()) / 4_294_967_296.0
    }

    /// Uniform in `low` to `high`.
    pub(crate) fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in the logarithm: for frequencies and times.
    pub(crate) fn log_range(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.unit())
    }

    /// An index below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        // The product is below `n`, so nothing is cut off but the fraction.
        (self.unit() * n as f64) as usize
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// 1 or -1.
    pub(crate) fn sign(&mut self) -> f64 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }

    /// Uniform in -1 to 1: the noise of sounds and pictures.
    pub(crate) fn noise(&mut self) -> f64 {
        self.range(-1.0, 1.0)
    }

    /// One of `items`, which must not be empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Puts `items` in random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

/// FNV-1a with a final mix: a word as a number, for splits and seeds.
pub(crate) fn hash(word: &str) -> u64 {
    let step = |h: u64, byte: u8| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let h = word.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    let h = (h ^ (h >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^ (h >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |name, item| {
            let mut random = Random::new(name, item);
            [random.unit(), random.unit()]
        };
        assert_eq!(draw("a", 1), draw("a", 1));
        assert_ne!(draw("a", 1), draw("a", 2));
        assert_ne!(draw("a", 1), draw("b", 1));
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<usize> = (0..100).collect();
        Random::new("x", 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
