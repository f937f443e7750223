//! Labels and splits: what a data set knows about its samples apart from their contents.

/// Whether an item serves pretraining and fitting probes, or only testing them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// Pretraining and probe training.
    Train,
    /// Held out: seen by nothing but the probes' scores.
    Test,
}

impl Split {
    /// Reads the words people use for splits, with numbers and endings such as `set` or `data`; anything else
    /// is `None`.
    ///
    /// ```
    /// use lejepa_core::Split;
    ///
    /// assert_eq!(Split::parse("train"), Some(Split::Train));
    /// assert_eq!(Split::parse("Validation"), Some(Split::Test));
    /// assert_eq!(Split::parse("train2017"), Some(Split::Train));
    /// assert_eq!(Split::parse("test_set"), Some(Split::Test));
    /// assert_eq!(Split::parse("cats"), None);
    /// ```
    pub fn parse(word: &str) -> Option<Self> {
        let bare = |word: &str| {
            word.trim_matches(|c: char| c.is_ascii_digit() || " _-.".contains(c)).to_string()
        };
        let word = bare(&word.to_ascii_lowercase());
        let word = ["set", "data", "images", "split"]
            .iter()
            .find_map(|ending| word.strip_suffix(ending))
            .map_or(word.clone(), bare);
        match word.as_str() {
            "train" | "training" | "trn" => Some(Self::Train),
            "test" | "testing" | "tst" | "val" | "valid" | "validation" | "eval" | "evaluation"
            | "dev" | "holdout" | "hold_out" | "hold-out" | "heldout" | "held_out" => {
                Some(Self::Test)
            }
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
