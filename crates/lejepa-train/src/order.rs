//! Which samples make up which step.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use lejepa_core::{Purpose, Seed};
use rand::RngExt;
use rand::seq::SliceRandom;

/// Random tries for a bad sample's replacement before all samples are tried in turn.
pub(crate) const ATTEMPTS: u64 = 64;

/// Chunks whose samples are shuffled together.
const CHUNKS_TOGETHER: usize = 8;

/// Which samples make up which step. Everything follows from the seed and the step, so any step can be
/// made at any time by anyone.
///
/// The permutation of an epoch is made once and kept, so a step costs no more for more samples.
///
/// ```
/// use lejepa_core::Seed;
/// use lejepa_train::Order;
///
/// let order = Order::new((0..10).collect(), 4, Seed(1));
/// assert_eq!(order.steps_per_epoch(), 2);
/// // No sample comes twice in a pass, and a step's samples do not depend on the steps before.
/// let mut seen = [order.samples(0), order.samples(1)].concat();
/// seen.sort();
/// seen.dedup();
/// assert_eq!(seen.len(), 8);
/// assert_eq!(order.samples(1), order.samples(1));
/// ```
#[derive(Debug, Clone)]
pub struct Order {
    indices: Arc<Vec<usize>>,
    chunks: Arc<Vec<Range<usize>>>,
    batch: usize,
    seed: Seed,
    /// Rank and number of the workers that share each step.
    rank: [usize; 2],
    // Two of them: at the end of an epoch workers are in both.
    epochs: Arc<Mutex<[Option<Epoch>; 2]>>,
}

/// An epoch and its permutation.
type Epoch = (u64, Permutation);

/// Places in `Order::indices`.
type Permutation = Arc<Vec<u32>>;

impl Order {
    /// `batch` of the samples `indices` (ascending) a step; at most as many as there are.
    pub fn new(indices: Vec<usize>, batch: usize, seed: Seed) -> Self {
        let batch = batch.clamp(1, indices.len().max(1));
        Self {
            indices: Arc::new(indices),
            chunks: Arc::new(Vec::new()),
            batch,
            seed,
            rank: [0, 1],
            epochs: Arc::default(),
        }
    }

    /// Keeps samples that are stored together close in the order: the ranges of indices are shuffled, and
    /// samples within eight ranges at a time. A gap between ranges counts as a range. A step touches at most
    /// eight ranges, or sixteen where it lies across two groups of eight.
    ///
    /// ```
    /// use lejepa_core::Seed;
    /// use lejepa_train::Order;
    ///
    /// let chunks: Vec<_> = (0..100).map(|c| c * 10..(c + 1) * 10).collect();
    /// let order = Order::new((0..1000).collect(), 80, Seed(1)).with_chunks(&chunks);
    /// // A step of 80 samples touches eight chunks of ten.
    /// let mut touched: Vec<usize> = order.samples(3).iter().map(|i| i / 10).collect();
    /// touched.sort();
    /// touched.dedup();
    /// assert_eq!(touched.len(), 8);
    /// ```
    #[must_use]
    pub fn with_chunks(mut self, chunks: &[Range<usize>]) -> Self {
        let place = |index: usize| self.indices.partition_point(|&i| i < index);
        let mut places: Vec<Range<usize>> = chunks
            .iter()
            .map(|chunk| place(chunk.start)..place(chunk.end))
            .filter(|range| !range.is_empty())
            .collect();
        places.sort_by_key(|range| range.start);
        // The gaps between them.
        let mut all = Vec::new();
        let mut next = 0;
        for range in places {
            let range = range.start.max(next)..range.end.max(next);
            if range.start > next {
                all.push(next..range.start);
            }
            next = range.end;
            if !range.is_empty() {
                all.push(range);
            }
        }
        if next > 0 && next < self.indices.len() {
            all.push(next..self.indices.len());
        }
        self.chunks = Arc::new(all);
        self.epochs = Arc::default();
        self
    }

    /// The same order, seen by one of `ranks` workers that divide the samples of each step among them. See
    /// [`Order::own`].
    #[must_use]
    pub fn of_rank(mut self, rank: usize, ranks: usize) -> Self {
        self.rank = [rank, ranks.max(1)];
        self
    }

    /// The places of a step that are this worker's: all of them but for [`Order::of_rank`].
    ///
    /// ```
    /// use lejepa_core::Seed;
    /// use lejepa_train::Order;
    ///
    /// let order = Order::new((0..100).collect(), 8, Seed(1));
    /// assert_eq!(order.own(), 0..8);
    /// let places: Vec<_> = (0..3).map(|rank| order.clone().of_rank(rank, 3).own()).collect();
    /// assert_eq!(places, [0..2, 2..5, 5..8]);
    /// ```
    pub fn own(&self) -> Range<usize> {
        let [rank, ranks] = self.rank;
        rank * self.batch / ranks..(rank + 1) * self.batch / ranks
    }

    /// Samples to choose from, ascending.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// Samples per step.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The seed that everything follows from.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Whole batches in one pass over the data; the rest is left out, another one each pass.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.indices.len() / self.batch).max(1) as u64
    }

    /// The samples of step `step` (0-based).
    pub fn samples(&self, step: u64) -> Vec<usize> {
        self.places(step, 0..self.batch)
    }

    /// The samples of some places of step `step`, e.g. those of one rank.
    pub fn places(&self, step: u64, places: Range<usize>) -> Vec<usize> {
        let (epoch, at) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let permutation = self.permutation(epoch);
        let first = at as usize * self.batch;
        let of_step = permutation.iter().skip(first).take(self.batch);
        let of_places = of_step.skip(places.start).take(places.len());
        of_places.map(|&place| self.indices[place as usize]).collect()
    }

    fn permutation(&self, epoch: u64) -> Permutation {
        let mut kept = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut kept[(epoch % 2) as usize];
        match slot {
            Some((of, permutation)) if *of == epoch => permutation.clone(),
            _ => {
                let permutation = Arc::new(self.shuffled(epoch));
                *slot = Some((epoch, permutation.clone()));
                permutation
            }
        }
    }

    fn shuffled(&self, epoch: u64) -> Vec<u32> {
        let mut rng = self.seed.rng(Purpose::Shuffle, &[epoch]);
        let count = u32::try_from(self.indices.len()).unwrap_or(u32::MAX);
        if self.chunks.len() < 2 {
            let mut all: Vec<u32> = (0..count).collect();
            all.shuffle(&mut rng);
            return all;
        }
        let mut chunks = self.chunks.as_ref().clone();
        chunks.shuffle(&mut rng);
        let mut all = Vec::with_capacity(count as usize);
        for together in chunks.chunks(CHUNKS_TOGETHER) {
            let first = all.len();
            all.extend(together.iter().flat_map(|range| range.start as u32..range.end as u32));
            all[first..].shuffle(&mut rng);
        }
        all
    }

    /// The sample that stands in for a bad one: the same for the same step and place. After some attempts each
    /// sample has its turn, so that one that can be used is found where there is any.
    pub(crate) fn replacement(&self, step: u64, place: usize, attempt: u64) -> usize {
        let random = attempt.min(ATTEMPTS);
        let drawn = self.draw(Purpose::Replacement, &[step, place as u64, random], usize::MAX);
        match (attempt - random) as usize {
            0 => drawn,
            turn => {
                let at = self.indices.partition_point(|&index| index < drawn);
                self.indices[(at + turn) % self.indices.len()]
            }
        }
    }

    /// The companions of a sample: the same for the same address.
    pub(crate) fn companions(&self, count: usize, not: usize, address: [u64; 3]) -> Vec<usize> {
        let [step, place, attempt] = address;
        let address = |i: usize| [step, place, attempt, i as u64];
        (0..count).map(|i| self.draw(Purpose::Companions, &address(i), not)).collect()
    }

    /// Any sample but `not`, where there is another one.
    fn draw(&self, purpose: Purpose, address: &[u64], not: usize) -> usize {
        let mut rng = self.seed.rng(purpose, address);
        let drawn = rng.random_range(0..self.indices.len());
        match self.indices[drawn] {
            index if index == not => self.indices[(drawn + 1) % self.indices.len()],
            index => index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut samples: Vec<usize>) -> Vec<usize> {
        samples.sort_unstable();
        samples
    }

    #[test]
    fn an_epoch_sees_each_sample_once() {
        let order = Order::new((0..10).collect(), 3, Seed(1));
        assert_eq!(order.steps_per_epoch(), 3);
        for epoch in 0..4 {
            let mut seen = sorted((0..3).flat_map(|s| order.samples(epoch * 3 + s)).collect());
            seen.dedup();
            assert_eq!(seen.len(), 9);
        }
        assert_ne!(order.samples(0), order.samples(3));
    }

    #[test]
    fn chunks_with_gaps_overlaps_and_strangers_are_still_a_permutation() {
        let indices: Vec<usize> = (0..100).filter(|i| i % 3 != 0).collect();
        let plain = Order::new(indices.clone(), indices.len(), Seed(3));
        // What one order has cached is nothing to another.
        let unchunked: Vec<_> = (0..3).map(|epoch| plain.samples(epoch)).collect();
        let cases: [&[(usize, usize)]; 5] =
            [&[], &[(10, 40)], &[(60, 90), (5, 20), (15, 30)], &[(0, 1000)], &[(0, 0)]];
        for case in cases {
            let chunks: Vec<Range<usize>> = case.iter().map(|&(a, b)| a..b).collect();
            let order = plain.clone().with_chunks(&chunks);
            for epoch in 0..3 {
                let samples = order.samples(epoch);
                let is_chunked = chunks.len() == 3;
                assert!(!is_chunked || samples != unchunked[epoch as usize], "{chunks:?}");
                assert_eq!(sorted(samples), indices, "{chunks:?}");
            }
        }
    }

    #[test]
    fn places_of_ranks_are_the_samples_of_the_step() {
        let order = Order::new((0..50).collect(), 8, Seed(2));
        for step in [0, 5, 6, 13] {
            let parts = [order.places(step, 0..3), order.places(step, 3..8)];
            assert_eq!(parts.concat(), order.samples(step));
        }
    }

    #[test]
    fn companions_are_other_samples_and_addressed() {
        let order = Order::new(vec![4, 7], 2, Seed(2));
        for step in 0..20 {
            assert_eq!(order.companions(3, 4, [step, 0, 0]), [7, 7, 7]);
        }
        let order = Order::new((0..1000).collect(), 2, Seed(2));
        assert_eq!(order.companions(2, 0, [1, 2, 3]), order.companions(2, 0, [1, 2, 3]));
        assert_ne!(order.companions(2, 0, [1, 2, 3]), order.companions(2, 0, [1, 2, 4]));
    }
}
