//! Data sets: decoded items by index, with optional labels and a split.

use std::ops::Range;
use std::sync::Arc;

use crate::blob::{Blob, BlobStore};
use crate::copies;
use crate::facts::Facts;
use crate::labels::{Labels, Split};
use crate::{Error, Result, ViewRng};

/// Which part of a long recording to decode, where an item is too long to be decoded whole.
#[derive(Debug)]
#[non_exhaustive]
pub enum Window<'a> {
    /// Anywhere, drawn from this stream: training.
    Random(&'a mut ViewRng),
    /// The middle: evaluation, always the same.
    Centre,
}

impl Window<'_> {
    /// The start of a window of `length` within `total`: random, or centred.
    ///
    /// ```
    /// use lejepa_core::{Purpose, Seed, Window};
    ///
    /// assert_eq!(Window::Centre.start(100, 40), 30);
    /// assert_eq!(Window::Centre.start(30, 40), 0);
    ///
    /// let mut rng = Seed(0).rng(Purpose::Views, &[]);
    /// assert!(Window::Random(&mut rng).start(100, 40) <= 60);
    /// ```
    pub fn start(&mut self, total: usize, length: usize) -> usize {
        let room = total.saturating_sub(length);
        match self {
            Self::Random(rng) if room > 0 => rand::RngExt::random_range(&mut **rng, 0..=room),
            Self::Random(_) => 0,
            Self::Centre => room / 2,
        }
    }
}

/// A decoded item, how much memory it takes, and whether it is the same for every [`Window`].
///
/// ```
/// use lejepa_core::Decoded;
///
/// let whole = Decoded::whole(vec![0.0f32; 10], 40);
/// let stretch = Decoded::part(vec![0.0f32; 4], 16);
/// assert!(whole.is_whole && !stretch.is_whole);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Decoded<I> {
    /// The item.
    pub item: I,
    /// Memory that it takes, in bytes; what the cache's budget counts.
    pub bytes: usize,
    /// Whether every window gives this very item, so that it may be kept in memory.
    pub is_whole: bool,
    /// What was found out about it.
    pub facts: Facts,
}

impl<I> Decoded<I> {
    /// An item that every window gives.
    pub fn whole(item: I, bytes: usize) -> Self {
        Self { item, bytes, is_whole: true, facts: Facts::new() }
    }

    /// A part of a longer item: another window gives another one.
    pub fn part(item: I, bytes: usize) -> Self {
        Self { item, bytes, is_whole: false, facts: Facts::new() }
    }

    /// With what was found out about the item.
    #[must_use]
    pub fn with_facts(mut self, facts: Facts) -> Self {
        self.facts = facts;
        self
    }
}

/// Decoded items by index. Shared by the loader's workers, so reading must not need `&mut`.
///
/// ```
/// use lejepa_core::{Dataset, Decoded, Error, Labels, Result, Window};
///
/// /// Ramps that rise and fall in turn.
/// struct Ramps([Labels; 1]);
///
/// impl Dataset for Ramps {
///     type Item = Vec<f32>;
///     fn len(&self) -> usize {
///         20
///     }
///     fn name(&self, index: usize) -> String {
///         format!("ramp {index}")
///     }
///     fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Vec<f32>>> {
///         if index >= self.len() {
///             return Err(Error::sample(self.name(index), "no such ramp"));
///         }
///         let slope = if index % 2 == 0 { 1.0 } else { -1.0 };
///         Ok(Decoded::whole((0..64).map(|t| slope * t as f32).collect(), 256))
///     }
///     fn labels(&self) -> &[Labels] {
///         &self.0
///     }
/// }
///
/// let words: Vec<_> = (0..20).map(|i| Some(["up", "down"][i % 2].to_string())).collect();
/// let ramps = Ramps([Labels::from_words("direction", &words)]);
/// let decoded = ramps.item(1, Window::Centre)?;
/// assert_eq!((decoded.item[2], decoded.bytes), (-2.0, 256));
/// assert_eq!(ramps.labels()[0].names(), ["down", "up"]);
/// // Unless said otherwise the trainer makes the split, and items are stored apart from each other.
/// assert!(!ramps.is_empty() && ramps.split(1).is_none() && ramps.chunks().is_empty());
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub trait Dataset: Send + Sync {
    /// One decoded item: a picture, a waveform, a clip.
    type Item: Send + Sync + 'static;

    /// Number of items, readable or not.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A name a user recognises: a path, or an identifier in generated data.
    fn name(&self, index: usize) -> String;

    /// Decodes item `index`.
    ///
    /// # Errors
    /// [`Error::Sample`] for an item that cannot be used. The trainer counts, names and replaces
    /// it. Never panic on the contents of a file.
    fn item(&self, index: usize, window: Window<'_>) -> Result<Decoded<Self::Item>>;

    /// Label columns; the first one is what probes report first. Empty for unlabelled data.
    fn labels(&self) -> &[Labels] {
        &[]
    }

    /// The split of an item where the data says so; `None` lets the trainer choose.
    fn split(&self, index: usize) -> Option<Split> {
        let _ = index;
        None
    }

    /// Items that are stored together, e.g. in one archive, and are quick to read one after the other.
    /// Disjoint ranges; items in none of them are stored separately. Training shuffles ranges, and
    /// items within a few ranges at a time, instead of all items at once.
    fn chunks(&self) -> Vec<Range<usize>> {
        Vec::new()
    }

    /// Groups of items whose stored bytes are the same. Copies stay on one side of a split that the trainer
    /// makes, and a split of the data's own that parts them is told. May read all items of equal size.
    fn copies(&self) -> Vec<Vec<usize>> {
        Vec::new()
    }

    /// The fold of an item where the data has folds for cross-validation.
    fn fold(&self, index: usize) -> Option<&str> {
        let _ = index;
        None
    }

    /// A text that changes with the stored bytes of an item: its place, length and time. `None` where nothing tells.
    fn stamp(&self, index: usize) -> Option<String> {
        let _ = index;
        None
    }
}

/// A [`Dataset`] over a [`BlobStore`]: the plugin supplies only how to decode one blob.
///
/// ```
/// use std::sync::Arc;
/// use lejepa_core::{BlobDataset, Dataset, Decoded, Listing, Window};
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("a.txt");
/// let listing = Listing { paths: vec![file.clone()], ..Listing::default() };
/// let data = BlobDataset::new(Arc::new(listing), |blob, _| {
///     let bytes = blob.read().map_err(|e| e.to_string())?;
///     let number = |word: &str| word.parse::<i32>().map_err(|_| format!("no number: {word}"));
///     let text = String::from_utf8_lossy(&bytes);
///     let numbers = text.split_whitespace().map(number).collect::<Result<Vec<_>, _>>()?;
///     Ok(Decoded::whole(numbers, bytes.len()))
/// });
///
/// std::fs::write(&file, "1 2 3")?;
/// assert_eq!(data.item(0, Window::Centre)?.item, [1, 2, 3]);
///
/// // The error names the file.
/// std::fs::write(&file, "1 two 3")?;
/// let error = data.item(0, Window::Centre).unwrap_err();
/// assert!(error.to_string().ends_with("a.txt: no number: two"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BlobDataset<I> {
    store: Arc<dyn BlobStore>,
    decode: Decode<I>,
}

type Decode<I> = Box<dyn Fn(&Blob<'_>, Window<'_>) -> Result<Decoded<I>, String> + Send + Sync>;

impl<I> BlobDataset<I> {
    /// Blobs of `store`, decoded by `decode`, whose error is the reason, as text.
    pub fn new(
        store: Arc<dyn BlobStore>,
        decode: impl Fn(&Blob<'_>, Window<'_>) -> Result<Decoded<I>, String> + Send + Sync + 'static,
    ) -> Self {
        Self { store, decode: Box::new(decode) }
    }
}

impl<I: Send + Sync + 'static> Dataset for BlobDataset<I> {
    type Item = I;

    fn len(&self) -> usize {
        self.store.len()
    }

    fn name(&self, index: usize) -> String {
        self.store.name(index)
    }

    fn item(&self, index: usize, window: Window<'_>) -> Result<Decoded<I>> {
        if index >= self.len() {
            return Err(Error::sample(format!("#{index}"), "no such item"));
        }
        let blob = self.store.blob(index)?;
        match blob.is_empty() {
            Err(e) => Err(Error::sample(self.name(index), e)),
            Ok(true) if !blob.path().is_some_and(std::path::Path::is_dir) => {
                Err(Error::sample(self.name(index), "the file is empty (0 bytes)"))
            }
            Ok(_) => (self.decode)(&blob, window).map_err(|e| Error::sample(self.name(index), e)),
        }
    }

    fn labels(&self) -> &[Labels] {
        self.store.labels()
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.store.split(index)
    }

    fn chunks(&self) -> Vec<Range<usize>> {
        self.store.chunks()
    }

    fn copies(&self) -> Vec<Vec<usize>> {
        copies::of(self.store.as_ref())
    }

    fn stamp(&self, index: usize) -> Option<String> {
        self.store.stamp(index)
    }

    fn fold(&self, index: usize) -> Option<&str> {
        self.store.fold(index)
    }
}
