//! Data sets: decoded items by index, with optional labels and a split.

use std::path::{Path, PathBuf};

use crate::listing::Listing;
use crate::{Error, Result, ViewRng};

/// Whether an item serves pretraining and fitting probes, or only testing them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// Pretraining and probe training.
    Train,
    /// Held out: seen by nothing but the probes' scores.
    Test,
}

impl Split {
    /// Reads the words people use for splits; anything else is `None`.
    ///
    /// ```
    /// use lejepa_core::Split;
    ///
    /// assert_eq!(Split::parse("train"), Some(Split::Train));
    /// assert_eq!(Split::parse("Validation"), Some(Split::Test));
    /// assert_eq!(Split::parse("cats"), None);
    /// ```
    pub fn parse(word: &str) -> Option<Self> {
        match word.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "test" | "val" | "valid" | "validation" | "eval" | "dev" => Some(Self::Test),
            _ => None,
        }
    }
}

/// One column of class labels over a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// What the classes are of: `"class"`, `"digit"`, `"speaker"`.
    pub name: String,
    /// Class names; an id indexes this.
    pub classes: Vec<String>,
    /// One id per item, `None` where the item has no label.
    pub ids: Vec<Option<u32>>,
}

impl Labels {
    /// Labels from one optional word per item; classes are the distinct words, sorted.
    ///
    /// ```
    /// use lejepa_core::Labels;
    ///
    /// let words = [Some("dog".to_string()), None, Some("cat".to_string())];
    /// let labels = Labels::from_words("animal", &words);
    /// assert_eq!(labels.classes, ["cat", "dog"]);
    /// assert_eq!(labels.ids, [Some(1), None, Some(0)]);
    /// ```
    pub fn from_words(name: impl Into<String>, words: &[Option<String>]) -> Self {
        let mut classes: Vec<String> = words.iter().flatten().cloned().collect();
        classes.sort();
        classes.dedup();
        let ids = words
            .iter()
            .map(|w| {
                let w = w.as_ref()?;
                classes.binary_search(w).ok().and_then(|i| u32::try_from(i).ok())
            })
            .collect();
        Self { name: name.into(), classes, ids }
    }
}

/// Which part of a long recording to decode, where an item is too long to be decoded whole.
#[derive(Debug)]
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

/// Decoded items by index. Shared by the loader's workers, so reading must not need `&mut`.
///
/// ```
/// use lejepa_core::{Dataset, Error, Labels, Result, Window};
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
///     fn item(&self, index: usize, _: Window<'_>) -> Result<Vec<f32>> {
///         if index >= self.len() {
///             return Err(Error::sample(self.name(index), "no such ramp"));
///         }
///         let slope = if index % 2 == 0 { 1.0 } else { -1.0 };
///         Ok((0..64).map(|t| slope * t as f32).collect())
///     }
///     fn bytes(&self, item: &Vec<f32>) -> usize {
///         4 * item.len()
///     }
///     fn labels(&self) -> &[Labels] {
///         &self.0
///     }
/// }
///
/// let words: Vec<_> = (0..20).map(|i| Some(["up", "down"][i % 2].to_string())).collect();
/// let ramps = Ramps([Labels::from_words("direction", &words)]);
/// let item = ramps.item(1, Window::Centre)?;
/// assert_eq!((item[2], ramps.bytes(&item)), (-2.0, 256));
/// assert_eq!(ramps.labels()[0].classes, ["down", "up"]);
/// // Where nothing else is said, items are read whole, and the trainer makes the split.
/// assert!(!ramps.is_empty() && ramps.is_whole(1) && ramps.split(1).is_none());
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
    fn item(&self, index: usize, window: Window<'_>) -> Result<Self::Item>;

    /// Whether `item` gives the same whatever the window, so that it may be kept in memory.
    fn is_whole(&self, index: usize) -> bool {
        let _ = index;
        true
    }

    /// Memory that an item takes, in bytes; what the cache's budget counts.
    fn bytes(&self, item: &Self::Item) -> usize;

    /// Label columns; the first one is what probes report first. Empty for unlabelled data.
    fn labels(&self) -> &[Labels] {
        &[]
    }

    /// The split of an item where the data says so; `None` lets the trainer choose.
    fn split(&self, index: usize) -> Option<Split> {
        let _ = index;
        None
    }
}

/// A [`Dataset`] over listed files: the plugin supplies only how to decode one.
///
/// ```
/// use lejepa_core::{Dataset, FileDataset, Listing, Window};
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("a.txt");
/// let listing = Listing { paths: vec![file.clone()], ..Listing::default() };
/// let data = FileDataset::new(
///     listing,
///     |numbers: &Vec<i32>| 4 * numbers.len(),
///     |path, _| {
///         let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
///         let number = |word: &str| word.parse::<i32>().map_err(|_| format!("no number: {word}"));
///         text.split_whitespace().map(number).collect()
///     },
/// );
/// assert_eq!(data.path(0), Some(&file));
///
/// std::fs::write(&file, "1 2 3")?;
/// assert_eq!(data.item(0, Window::Centre)?, [1, 2, 3]);
///
/// // The error names the file.
/// std::fs::write(&file, "1 two 3")?;
/// let error = data.item(0, Window::Centre).unwrap_err();
/// assert!(error.to_string().ends_with("a.txt: no number: two"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FileDataset<I> {
    listing: Listing,
    decode: Decode<I>,
    bytes: fn(&I) -> usize,
    whole: bool,
}

type Decode<I> = Box<dyn Fn(&Path, Window<'_>) -> Result<I, String> + Send + Sync>;

impl<I> FileDataset<I> {
    /// Files of `listing`, decoded by `decode`, which says in words why it refuses one.
    pub fn new(
        listing: Listing,
        bytes: fn(&I) -> usize,
        decode: impl Fn(&Path, Window<'_>) -> Result<I, String> + Send + Sync + 'static,
    ) -> Self {
        Self { listing, decode: Box::new(decode), bytes, whole: true }
    }

    /// Says that `decode` reads a part of a file that depends on the window.
    ///
    /// ```
    /// use lejepa_core::{Dataset, FileDataset, Listing, Window};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let file = folder.path().join("a.raw");
    /// std::fs::write(&file, [0u8, 1, 2, 3, 4, 5])?;
    /// let listing = Listing { paths: vec![file], ..Listing::default() };
    /// let data = FileDataset::new(listing, |item: &Vec<u8>| item.len(), |path, mut window| {
    ///     let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    ///     let start = window.start(bytes.len(), 2);
    ///     Ok(bytes.into_iter().skip(start).take(2).collect())
    /// })
    /// .windowed();
    /// assert_eq!(data.item(0, Window::Centre)?, [2, 3]);
    /// assert!(!data.is_whole(0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn windowed(mut self) -> Self {
        self.whole = false;
        self
    }

    /// The file behind item `index`.
    pub fn path(&self, index: usize) -> Option<&PathBuf> {
        self.listing.paths.get(index)
    }
}

impl<I: Send + Sync + 'static> Dataset for FileDataset<I> {
    type Item = I;

    fn len(&self) -> usize {
        self.listing.paths.len()
    }

    fn name(&self, index: usize) -> String {
        self.path(index).map_or_else(|| format!("#{index}"), |p| p.display().to_string())
    }

    fn item(&self, index: usize, window: Window<'_>) -> Result<I> {
        let Some(path) = self.path(index) else {
            return Err(Error::sample(format!("#{index}"), "no such item"));
        };
        match std::fs::metadata(path) {
            Err(e) => return Err(Error::sample(self.name(index), e)),
            Ok(m) if m.is_file() && m.len() == 0 => {
                return Err(Error::sample(self.name(index), "the file is empty (0 bytes)"));
            }
            Ok(_) => {}
        }
        (self.decode)(path, window).map_err(|reason| Error::sample(self.name(index), reason))
    }

    fn is_whole(&self, _index: usize) -> bool {
        self.whole
    }

    fn bytes(&self, item: &I) -> usize {
        (self.bytes)(item)
    }

    fn labels(&self) -> &[Labels] {
        &self.listing.labels
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.listing.splits.get(index).copied().flatten()
    }
}
