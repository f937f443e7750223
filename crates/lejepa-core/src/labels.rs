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

/// One column of labels over a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// What the labels are of: `"class"`, `"digit"`, `"speaker"`, `"age"`.
    pub name: String,
    /// What each item is labelled with.
    pub values: LabelValues,
}

/// The labels of all items; `None` where an item has none.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelValues {
    /// One of several classes.
    Classes {
        /// Class names; an id indexes this.
        names: Vec<String>,
        /// One id per item.
        ids: Vec<Option<u32>>,
    },
    /// Any number of several tags, none included.
    Tags {
        /// Names of tags; an id indexes this.
        names: Vec<String>,
        /// Ascending ids per item.
        ids: Vec<Option<Vec<u32>>>,
    },
    /// A number.
    Numbers(Vec<Option<f64>>),
}

/// What kind of labels a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelKind {
    /// [`LabelValues::Classes`].
    #[default]
    Classes,
    /// [`LabelValues::Tags`].
    Tags,
    /// [`LabelValues::Numbers`].
    Numbers,
}

/// A column of labels in a file: what it is called and holds, by the name of its field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LabelColumn {
    pub(crate) name: String,
    pub(crate) kind: LabelKind,
}

impl LabelColumn {
    /// Classes of the name that the built-in data and folders use too.
    pub(crate) fn class() -> Self {
        Self { name: "class".into(), kind: LabelKind::Classes }
    }

    /// `label` and `label_NAME` (or `label.NAME`) are classes; `labels` and `tags` are tags, `value` numbers, both
    /// likewise with a name. Other fields are not labels.
    pub(crate) fn of_field(field: &str) -> Option<Self> {
        // The longest first: `labels` begins with `label`.
        for (start, kind, bare) in [
            ("positive_labels", LabelKind::Tags, "tags"),
            ("labels", LabelKind::Tags, "tags"),
            ("tags", LabelKind::Tags, "tags"),
            ("value", LabelKind::Numbers, "value"),
            ("label", LabelKind::Classes, "class"),
        ] {
            let Some(with) = field.get(..start.len()).filter(|f| f.eq_ignore_ascii_case(start))
            else {
                continue;
            };
            let rest = &field[with.len()..];
            let name = match rest.strip_prefix(['_', '.']) {
                None if rest.is_empty() => bare,
                Some(name) if !name.is_empty() => name,
                _ => continue,
            };
            return Some(Self { name: name.into(), kind });
        }
        None
    }

    /// The labels of these words, unless they say nothing that a probe could learn.
    pub(crate) fn labels(&self, words: &[Option<String>]) -> Option<Labels> {
        Some(Labels::parse(&self.name, self.kind, words)).filter(Labels::says_something)
    }
}

/// Parts a word into tags where no other separator is safe.
pub(crate) const TAG_SEPARATOR: char = '\u{1f}';

impl Labels {
    /// Classes by their names and an id for each item.
    pub fn classes(name: impl Into<String>, names: Vec<String>, ids: Vec<Option<u32>>) -> Self {
        Self { name: name.into(), values: LabelValues::Classes { names, ids } }
    }

    /// Numbers, such as ages or temperatures.
    pub fn numbers(name: impl Into<String>, values: Vec<Option<f64>>) -> Self {
        Self { name: name.into(), values: LabelValues::Numbers(values) }
    }

    /// Classes from one optional word per item; they are the distinct words, sorted.
    ///
    /// ```
    /// use lejepa_core::Labels;
    ///
    /// let words = [Some("dog".to_string()), None, Some("cat".to_string())];
    /// let labels = Labels::from_words("animal", &words);
    /// assert_eq!(labels.names(), ["cat", "dog"]);
    /// assert_eq!([0, 1, 2].map(|item| labels.class(item)), [Some(1), None, Some(0)]);
    /// ```
    pub fn from_words(name: impl Into<String>, words: &[Option<String>]) -> Self {
        let names = distinct(words.iter().flatten().map(String::as_str));
        let id = |word: &Option<String>| id_of(&names, word.as_deref()?);
        let ids = words.iter().map(id).collect();
        Self::classes(name, names, ids)
    }

    /// Tags from optional lists of words; they are the distinct words, sorted.
    ///
    /// ```
    /// use lejepa_core::Labels;
    ///
    /// let lists = [Some(vec!["rain", "bird"]), None, Some(vec![])];
    /// let labels = Labels::from_lists("heard", &lists);
    /// assert_eq!(labels.names(), ["bird", "rain"]);
    /// assert_eq!(labels.tags(0), Some(&[0, 1][..]));
    /// assert_eq!((labels.tags(1), labels.tags(2)), (None, Some(&[][..])));
    /// ```
    pub fn from_lists<S: AsRef<str>>(name: impl Into<String>, lists: &[Option<Vec<S>>]) -> Self {
        let names = distinct(lists.iter().flatten().flatten().map(S::as_ref));
        let of = |list: &Vec<S>| {
            let mut ids: Vec<u32> =
                list.iter().filter_map(|word| id_of(&names, word.as_ref())).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let ids = lists.iter().map(|list| list.as_ref().map(of)).collect();
        Self { name: name.into(), values: LabelValues::Tags { names, ids } }
    }

    /// A column from the words that files have for its items: tags stand between semicolons or bars, or commas where
    /// the column has neither, and where no item has two they are classes; a number is what parses as one.
    pub(crate) fn parse(name: &str, kind: LabelKind, words: &[Option<String>]) -> Self {
        match kind {
            LabelKind::Classes => Self::from_words(name, words),
            LabelKind::Numbers => {
                let number = |word: &Option<String>| {
                    word.as_ref()?.trim().parse().ok().filter(|v: &f64| v.is_finite())
                };
                Self::numbers(name, words.iter().map(number).collect())
            }
            LabelKind::Tags => {
                let has = |c: char| words.iter().flatten().any(|word| word.contains(c));
                let separators: &[char] = match (has(TAG_SEPARATOR), has(';') || has('|')) {
                    (true, _) => &[TAG_SEPARATOR],
                    (false, true) => &[';', '|'],
                    (false, false) => &[','],
                };
                let tags = |word: &String| -> Vec<String> {
                    let parts = word.split(separators).map(str::trim);
                    parts.filter(|part| !part.is_empty()).map(String::from).collect()
                };
                let lists: Vec<_> = words.iter().map(|word| word.as_ref().map(tags)).collect();
                if lists.iter().flatten().all(|list| list.len() < 2) {
                    let first = |list: &Option<Vec<String>>| list.as_ref()?.first().cloned();
                    return Self::from_words(name, &lists.iter().map(first).collect::<Vec<_>>());
                }
                Self::from_lists(name, &lists)
            }
        }
    }

    /// What kind of labels these are.
    pub fn kind(&self) -> LabelKind {
        match &self.values {
            LabelValues::Classes { .. } => LabelKind::Classes,
            LabelValues::Tags { .. } => LabelKind::Tags,
            LabelValues::Numbers(_) => LabelKind::Numbers,
        }
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        match &self.values {
            LabelValues::Classes { ids, .. } => ids.len(),
            LabelValues::Tags { ids, .. } => ids.len(),
            LabelValues::Numbers(values) => values.len(),
        }
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of classes or tags; none of numbers.
    pub fn names(&self) -> &[String] {
        match &self.values {
            LabelValues::Classes { names, .. } | LabelValues::Tags { names, .. } => names,
            LabelValues::Numbers(_) => &[],
        }
    }

    /// The class of an item.
    pub fn class(&self, item: usize) -> Option<u32> {
        match &self.values {
            LabelValues::Classes { ids, .. } => ids.get(item).copied().flatten(),
            _ => None,
        }
    }

    /// The tags of an item, ascending.
    pub fn tags(&self, item: usize) -> Option<&[u32]> {
        match &self.values {
            LabelValues::Tags { ids, .. } => ids.get(item)?.as_deref(),
            _ => None,
        }
    }

    /// The number of an item.
    pub fn number(&self, item: usize) -> Option<f64> {
        match &self.values {
            LabelValues::Numbers(values) => values.get(item).copied().flatten(),
            _ => None,
        }
    }

    /// Whether an item has a label.
    pub fn has(&self, item: usize) -> bool {
        self.class(item).is_some() || self.tags(item).is_some() || self.number(item).is_some()
    }

    /// An item's label as text: a class, tags between semicolons, or a number.
    pub fn text(&self, item: usize) -> Option<String> {
        let name = |id: &u32| self.names().get(*id as usize).cloned();
        match &self.values {
            LabelValues::Classes { .. } => name(&self.class(item)?),
            LabelValues::Tags { .. } => {
                let names: Option<Vec<String>> = self.tags(item)?.iter().map(name).collect();
                Some(names?.join(";"))
            }
            LabelValues::Numbers(_) => Some(self.number(item)?.to_string()),
        }
    }

    /// The labels of some items.
    #[must_use]
    pub fn select(&self, items: impl Iterator<Item = usize>) -> Self {
        let values = match &self.values {
            LabelValues::Classes { names, .. } => LabelValues::Classes {
                names: names.clone(),
                ids: items.map(|item| self.class(item)).collect(),
            },
            LabelValues::Tags { names, .. } => LabelValues::Tags {
                names: names.clone(),
                ids: items.map(|item| Some(self.tags(item)?.to_vec())).collect(),
            },
            LabelValues::Numbers(_) => {
                LabelValues::Numbers(items.map(|item| self.number(item)).collect())
            }
        };
        Self { name: self.name.clone(), values }
    }

    /// Whether a probe could learn something of it: there are two classes or numbers, or a tag.
    pub(crate) fn says_something(&self) -> bool {
        match &self.values {
            LabelValues::Classes { names, .. } => names.len() > 1,
            LabelValues::Tags { names, .. } => !names.is_empty(),
            LabelValues::Numbers(values) => {
                let mut known = values.iter().flatten();
                known.next().is_some_and(|first| known.any(|value| value != first))
            }
        }
    }
}

fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut all: Vec<String> = words.map(String::from).collect();
    all.sort();
    all.dedup();
    all
}

fn id_of(names: &[String], word: &str) -> Option<u32> {
    names.binary_search_by(|name| name.as_str().cmp(word)).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(words: &[&str]) -> Vec<Option<String>> {
        words.iter().map(|word| (!word.is_empty()).then(|| (*word).to_string())).collect()
    }

    #[test]
    fn tags_are_parted_by_what_the_column_has() {
        for (words, names, first) in [
            (vec!["b,a", "c"], vec!["a", "b", "c"], "a;b"),
            (vec!["speech, male;rain", "rain"], vec!["rain", "speech, male"], "rain;speech, male"),
            (vec!["x | y|x", ""], vec!["x", "y"], "x;y"),
        ] {
            let labels = Labels::parse("heard", LabelKind::Tags, &some(&words));
            assert_eq!(labels.names(), names);
            assert_eq!(labels.text(0).as_deref(), Some(first));
            assert_eq!(labels.has(1), !words[1].is_empty());
        }
    }

    #[test]
    fn tags_of_which_no_item_has_two_are_classes() {
        let labels = Labels::parse("tags", LabelKind::Tags, &some(&["a", "", "b;"]));
        assert_eq!((labels.kind(), labels.class(2)), (LabelKind::Classes, Some(1)));
    }

    #[test]
    fn fields_say_what_they_hold() {
        let of = |field: &str| LabelColumn::of_field(field).map(|c| (c.name, c.kind));
        use LabelKind::{Classes, Numbers, Tags};
        for (field, name, kind) in [
            ("Label", "class", Classes),
            ("label_s", "s", Classes),
            ("labels", "tags", Tags),
            ("labels.heard", "heard", Tags),
            ("tags_x", "x", Tags),
            ("positive_labels", "tags", Tags),
            ("value_age", "age", Numbers),
        ] {
            assert_eq!(of(field), Some((name.into(), kind)), "{field}");
        }
        for field in ["labelled", "label_", "values", "tag", "ünlabel", "target"] {
            assert_eq!(of(field), None, "{field}");
        }
    }

    #[test]
    fn numbers_are_what_parses() {
        let labels =
            Labels::parse("age", LabelKind::Numbers, &some(&["3", "x", "", "-2.5e1", "NaN"]));
        let all: Vec<_> = (0..5).map(|item| labels.number(item)).collect();
        assert_eq!(all, [Some(3.0), None, None, Some(-25.0), None]);
        assert!(labels.says_something() && labels.names().is_empty());
        let picked = labels.select([3, 0, 1].into_iter());
        assert_eq!(picked.values, LabelValues::Numbers(vec![Some(-25.0), Some(3.0), None]));
    }
}
