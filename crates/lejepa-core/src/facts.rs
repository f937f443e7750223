//! What decoding found out about an item, for the report on a data set.

use std::borrow::Cow;

/// Measured properties of one item and what a user should know about it.
///
/// ```
/// use lejepa_core::Facts;
///
/// let facts = Facts::new().number("width", 640.0).number("height", 480.0).remark("transparent");
/// assert_eq!(facts.numbers()[1], ("height".into(), 480.0));
/// assert_eq!(facts.remarks(), ["transparent"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    numbers: Vec<(Cow<'static, str>, f64)>,
    remarks: Vec<String>,
}

impl Facts {
    /// Nothing known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a number, by a name that says the unit where there is one: `seconds`, `width`. A report shows the
    /// range of each over the data set.
    #[must_use]
    pub fn number(mut self, name: impl Into<Cow<'static, str>>, value: f64) -> Self {
        self.numbers.push((name.into(), value));
        self
    }

    /// Adds a remark. A report counts equal ones, so it should not quote what differs from item to item.
    #[must_use]
    pub fn remark(mut self, remark: impl Into<String>) -> Self {
        self.remarks.push(remark.into());
        self
    }

    /// Adds a remark where there is one.
    #[must_use]
    pub fn remarks_of(mut self, remarks: impl IntoIterator<Item = String>) -> Self {
        self.remarks.extend(remarks);
        self
    }

    /// All numbers, in the order in which they were added.
    pub fn numbers(&self) -> &[(Cow<'static, str>, f64)] {
        &self.numbers
    }

    /// All remarks.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }
}
