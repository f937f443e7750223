//! Settings that follow from a look at the data.

use toml::Value;

use crate::dataset::{Dataset, Window};
use crate::{Error, Result, nearest};

/// A named set of settings for a kind of content, which a user may choose instead of `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What `--preset` takes.
    pub name: &'static str,
    /// What the embeddings keep and lose, one line.
    pub about: &'static str,
}

/// The preset that chooses by the data.
pub const AUTO: &str = "auto";
/// The preset that chooses nothing.
pub const NONE: &str = "none";

/// A setting that was chosen, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Dotted key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// The reason, a few words without a full stop.
    pub reason: String,
}

/// Choices in the order in which they were made. A later one replaces an earlier one of the same key.
///
/// ```
/// use lejepa_core::{Advice, Value};
///
/// let mut advice = Advice::default();
/// advice.set("image.channels", 3, "colours differ");
/// advice.set("image.channels", 1, "all pictures are grey");
/// assert_eq!(advice.choices().len(), 1);
/// assert_eq!(advice.get("image.channels"), Some(&Value::Integer(1)));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Advice {
    choices: Vec<Choice>,
    samples: usize,
}

impl Advice {
    /// Chooses a value for a dotted key.
    pub fn set(&mut self, key: &str, value: impl Into<Value>, reason: impl Into<String>) {
        self.choices.retain(|choice| choice.key != key);
        self.choices.push(Choice { key: key.into(), value: value.into(), reason: reason.into() });
    }

    /// Chooses a list of numbers, rounded to four digits after the point.
    pub fn set_numbers(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = f64>,
        reason: impl Into<String>,
    ) {
        let rounded = |v: f64| Value::Float((v * 1e4).round() / 1e4);
        self.set(key, Value::Array(values.into_iter().map(rounded).collect()), reason);
    }

    /// The value chosen for a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.choices.iter().find(|choice| choice.key == key).map(|choice| &choice.value)
    }

    /// All choices.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// Samples of the data that was looked at, readable or not; 0 where none was.
    pub fn samples(&self) -> usize {
        self.samples
    }

    pub(crate) fn of_samples(self, samples: usize) -> Self {
        Self { samples, ..self }
    }

    /// Keeps the choices whose key passes.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.choices.retain(|choice| keep(&choice.key));
    }
}

/// A look at a data set: what [`Modality::advise`](crate::Modality::advise) is given.
pub struct Survey<'a, S> {
    data: &'a dyn Dataset<Item = S>,
    at: SurveyContext<'a>,
}

/// What a survey is made for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SurveyContext<'a> {
    /// The preset: `auto`, or one of [`Modality::PRESETS`](crate::Modality::PRESETS).
    pub preset: &'a str,
    /// Whether a GPU trains.
    pub is_gpu: bool,
    /// What the sides of views have to be multiples of, where weights with patches of that size are to be trained.
    pub multiple: Option<usize>,
}

impl<'a> SurveyContext<'a> {
    /// For this preset, on a CPU.
    pub fn new(preset: &'a str) -> Self {
        Self { preset, is_gpu: false, multiple: None }
    }

    /// For a GPU.
    #[must_use]
    pub fn on_gpu(mut self, is_gpu: bool) -> Self {
        self.is_gpu = is_gpu;
        self
    }

    /// For views whose sides are multiples of this.
    #[must_use]
    pub fn multiple_of(mut self, multiple: Option<usize>) -> Self {
        self.multiple = multiple;
        self
    }
}

impl<'a, S: Send + Sync + 'static> Survey<'a, S> {
    /// A look at `data`.
    pub fn new(data: &'a dyn Dataset<Item = S>, at: SurveyContext<'a>) -> Self {
        Self { data, at }
    }

    /// What it is made for.
    pub fn context(&self) -> SurveyContext<'a> {
        self.at
    }

    /// Samples in the data set, readable or not.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Up to `most` samples, evenly spread over the data set. Those that cannot be read are left out.
    ///
    /// ```
    /// # use lejepa_core::{Dataset, Decoded, Result, Survey, SurveyContext, Window};
    /// # struct Ramps;
    /// # impl Dataset for Ramps {
    /// #     type Item = usize;
    /// #     fn len(&self) -> usize {
    /// #         100
    /// #     }
    /// #     fn name(&self, index: usize) -> String {
    /// #         index.to_string()
    /// #     }
    /// #     fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<usize>> {
    /// #         Ok(Decoded::whole(index, 8))
    /// #     }
    /// # }
    /// let survey = Survey::new(&Ramps, SurveyContext::new("auto"));
    /// assert_eq!(survey.samples(4).collect::<Vec<_>>(), [0, 25, 50, 75]);
    /// assert_eq!(survey.samples(1000).count(), 100);
    /// ```
    pub fn samples(&self, most: usize) -> impl Iterator<Item = S> + '_ {
        let (total, most) = (self.data.len(), most.min(self.data.len()));
        let index = move |i: usize| i * total / most.max(1);
        (0..most).filter_map(move |i| Some(self.data.item(index(i), Window::Centre).ok()?.item))
    }
}

/// The upper median; the default of the type where there is no value.
pub fn median<T: PartialOrd + Copy + Default>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Checks the name of a preset.
///
/// # Errors
/// [`Error::BadValue`] with the nearest name.
pub fn check_preset(preset: &str, known: &[Preset]) -> Result<()> {
    let names = || [AUTO, NONE].into_iter().chain(known.iter().map(|p| p.name));
    if names().any(|name| name == preset) {
        return Ok(());
    }
    let all = names().collect::<Vec<_>>().join(", ");
    let reason = match nearest(preset, names()) {
        Some(near) => format!("no preset `{preset}`; did you mean `{near}`? There are {all}"),
        None => format!("no preset `{preset}`; there are {all}"),
    };
    Err(Error::bad_value("preset", reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_medians_are_values() {
        let mut advice = Advice::default();
        advice.set_numbers("image.mean", [1.0 / 3.0, 0.5], "measured");
        let want = Value::Array(vec![0.3333.into(), 0.5.into()]);
        assert_eq!(advice.get("image.mean"), Some(&want));
        assert_eq!((median(vec![3, 1, 2]), median(Vec::<usize>::new())), (2, 0));
    }

    #[test]
    fn presets_are_checked_with_the_nearest_name() {
        let known = [Preset { name: "music", about: "keeps pitch" }];
        for ok in ["auto", "none", "music"] {
            check_preset(ok, &known).unwrap();
        }
        let error = check_preset("musik", &known).unwrap_err().to_string();
        assert!(error.contains("did you mean `music`"), "{error}");
    }
}
