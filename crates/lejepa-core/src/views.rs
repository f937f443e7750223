//! The views of one sample.

use crate::View;

/// The views of one sample by group, with their context.
///
/// ```
/// use lejepa_core::{View, Views};
///
/// let view = |x: f32| View::new([1, 2], vec![x, x]);
/// let views = Views::multi_crop(vec![view(0.0)?, view(1.0)?], vec![view(2.0)?])
///     .with_context("action", vec![0.5]);
/// assert_eq!(views.groups().len(), 2);
/// assert_eq!(views.iter().count(), 3);
/// assert_eq!(views.context("action"), Some(&[0.5][..]));
/// # Ok::<(), lejepa_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Views {
    groups: Vec<Vec<View>>,
    context: Vec<(String, Vec<f32>)>,
}

impl Views {
    /// Views in the order of the groups of the [`ViewSpec`](crate::ViewSpec).
    pub fn new(groups: Vec<Vec<View>>) -> Self {
        Self { groups, context: Vec::new() }
    }

    /// The views of [`ViewSpec::multi_crop`](crate::ViewSpec::multi_crop).
    pub fn multi_crop(globals: Vec<View>, locals: Vec<View>) -> Self {
        let mut groups = vec![globals];
        if !locals.is_empty() {
            groups.push(locals);
        }
        Self::new(groups)
    }

    /// Adds context of a name that the specification has.
    #[must_use]
    pub fn with_context(mut self, name: impl Into<String>, values: Vec<f32>) -> Self {
        self.context.push((name.into(), values));
        self
    }

    /// The views of each group.
    pub fn groups(&self) -> &[Vec<View>] {
        &self.groups
    }

    /// The context of this name.
    pub fn context(&self, name: &str) -> Option<&[f32]> {
        self.context.iter().find(|(n, _)| n == name).map(|(_, values)| values.as_slice())
    }

    /// All values of the context.
    pub(crate) fn context_values(&self) -> impl Iterator<Item = f32> {
        self.context.iter().flat_map(|(_, values)| values).copied()
    }

    /// All views, group by group.
    pub fn iter(&self) -> impl Iterator<Item = &View> {
        self.groups.iter().flatten()
    }

    /// The views of each group, to own.
    pub fn into_groups(self) -> Vec<Vec<View>> {
        self.groups
    }
}
