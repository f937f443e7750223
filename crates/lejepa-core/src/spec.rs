//! What views a sampler makes: how many, of which shapes, for which encoder.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Views};

/// The stream of groups that name none; see [`Group::stream`].
pub const MAIN_STREAM: &str = "main";

/// The length of one axis of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Extent {
    /// Every view has this length.
    Exactly(usize),
    /// Views have between 1 and this many cells; a batch pads them and passes their lengths on.
    UpTo {
        /// The largest length.
        up_to: usize,
    },
}

impl Extent {
    /// The largest length.
    pub fn max(self) -> usize {
        match self {
            Self::Exactly(length) | Self::UpTo { up_to: length } => length,
        }
    }

    /// Whether an axis of `length` cells fits.
    pub fn admits(self, length: usize) -> bool {
        match self {
            Self::Exactly(exact) => length == exact,
            Self::UpTo { up_to } => (1..=up_to).contains(&length),
        }
    }
}

/// A group of views that are made alike: a name, how many, of which shape.
///
/// ```
/// use lejepa_core::Group;
///
/// let global = Group::new("global", 2, [3, 64, 64]).target();
/// assert_eq!((global.count, global.target, global.max_shape()), (2, true, vec![3, 64, 64]));
/// // Sequences of 1 to 100 steps, for the encoder of another stream.
/// let steps = Group::new("steps", 1, [8, 100]).up_to(1).stream("sensors");
/// assert!(steps.admits(&[8, 37]) && !steps.admits(&[8, 101]) && !steps.admits(&[7, 37]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Group {
    /// Unique within a specification, e.g. `"global"`.
    pub name: String,
    /// Which encoder embeds the views; [`MAIN_STREAM`] unless said otherwise. All groups of a stream have
    /// the same rank and number of channels.
    pub stream: String,
    /// Views per sample, at least 1.
    pub count: usize,
    /// Channels first, then the grid; without the batch.
    pub shape: Vec<Extent>,
    /// Whether prediction aims at these views: their mean is the centre of the LeJEPA loss.
    pub target: bool,
}

impl Group {
    /// A group of `count` views of exactly this shape, channels first.
    pub fn new(name: impl Into<String>, count: usize, shape: impl Into<Vec<usize>>) -> Self {
        Self {
            name: name.into(),
            stream: MAIN_STREAM.into(),
            count,
            shape: shape.into().into_iter().map(Extent::Exactly).collect(),
            target: false,
        }
    }

    /// Makes these views targets of the prediction.
    #[must_use]
    pub fn target(mut self) -> Self {
        self.target = true;
        self
    }

    /// Gives the views to the encoder of another stream.
    #[must_use]
    pub fn stream(mut self, name: impl Into<String>) -> Self {
        self.stream = name.into();
        self
    }

    /// Lets axis `axis` (0 is the channels, which cannot vary) be shorter than its length.
    #[must_use]
    pub fn up_to(mut self, axis: usize) -> Self {
        if let Some(extent) = self.shape.get_mut(axis) {
            *extent = Extent::UpTo { up_to: extent.max() };
        }
        self
    }

    /// The shape with every axis at its largest.
    pub fn max_shape(&self) -> Vec<usize> {
        self.shape.iter().map(|extent| extent.max()).collect()
    }

    /// Whether some axis may be shorter than its length.
    pub fn is_variable(&self) -> bool {
        self.shape.iter().any(|extent| matches!(extent, Extent::UpTo { .. }))
    }

    /// Whether a view of this shape belongs here.
    pub fn admits(&self, shape: &[usize]) -> bool {
        shape.len() == self.shape.len()
            && self.shape.iter().zip(shape).all(|(extent, &length)| extent.admits(length))
    }
}

/// Conditioning input of the prediction term, for each sample: actions, time stamps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ContextSpec {
    /// Unique within a specification, e.g. `"action"`.
    pub name: String,
    /// Numbers per sample, at least 1.
    pub width: usize,
}

/// The views of every sample: its groups and its context. Fixed for a run.
///
/// The views of a sample are counted through its groups: those of the first group, then those of the
/// second, ... The first group of a stream is the one whose shape an evaluation view has.
///
/// ```
/// use lejepa_core::{Group, View, ViewSpec, Views};
///
/// // Two global views of 64 cells, one local view of 16.
/// let spec = ViewSpec::multi_crop(2, [3, 64], 1, [3, 16]);
/// spec.validate()?;
/// assert_eq!((spec.views(), spec.channels(), spec.grid()), (3, 3, vec![64]));
/// assert_eq!(spec.targets(), [0, 1]);
///
/// let global = View::new([3, 64], vec![0.0; 192])?;
/// let local = View::new([3, 16], vec![0.0; 48])?;
/// spec.check(&Views::multi_crop(vec![global.clone(), global.clone()], vec![local]))?;
/// assert!(spec.check(&Views::multi_crop(vec![global.clone(), global], vec![])).is_err());
///
/// // With a single view there is nothing to predict.
/// assert!(ViewSpec::multi_crop(1, [3, 64], 0, [3, 16]).validate().is_err());
///
/// // Two kinds of data, an encoder for each, and an action that the prediction may use.
/// let pair = ViewSpec::new([
///     Group::new("frames", 1, [3, 8, 32, 32]).stream("video").target(),
///     Group::new("sound", 1, [1, 64, 96]).stream("audio"),
/// ])
/// .with_context("action", 4);
/// pair.validate()?;
/// assert_eq!(pair.streams(), ["video", "audio"]);
/// assert_eq!(pair.stream("audio").grid(), [64, 96]);
/// # Ok::<(), lejepa_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewSpec {
    groups: Vec<Group>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    context: Vec<ContextSpec>,
}

impl ViewSpec {
    /// Views in these groups.
    pub fn new(groups: impl Into<Vec<Group>>) -> Self {
        Self { groups: groups.into(), context: Vec::new() }
    }

    /// The two groups of the paper: `globals` target views that see most of a sample, and `locals` views
    /// that see a part of it. With no locals there is no such group.
    pub fn multi_crop(
        globals: usize,
        global: impl Into<Vec<usize>>,
        locals: usize,
        local: impl Into<Vec<usize>>,
    ) -> Self {
        let mut groups = vec![Group::new("global", globals, global).target()];
        if locals > 0 {
            groups.push(Group::new("local", locals, local));
        }
        Self::new(groups)
    }

    /// Adds `width` numbers of context per sample.
    #[must_use]
    pub fn with_context(mut self, name: impl Into<String>, width: usize) -> Self {
        self.context.push(ContextSpec { name: name.into(), width });
        self
    }

    /// The groups, in the order of their views.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The context of every sample.
    pub fn context(&self) -> &[ContextSpec] {
        &self.context
    }

    /// Views per sample.
    pub fn views(&self) -> usize {
        self.groups.iter().map(|group| group.count).sum()
    }

    /// Names of the streams, in the order of their first groups.
    pub fn streams(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for group in &self.groups {
            if !names.contains(&group.stream.as_str()) {
                names.push(&group.stream);
            }
        }
        names
    }

    /// The specification of one stream alone.
    #[must_use]
    pub fn stream(&self, name: &str) -> Self {
        let groups = self.groups.iter().filter(|group| group.stream == name).cloned().collect();
        Self { groups, context: self.context.clone() }
    }

    /// Indices of the views that prediction aims at.
    pub fn targets(&self) -> Vec<usize> {
        let views = self.groups.iter().flat_map(|group| vec![group.target; group.count]);
        views.enumerate().filter_map(|(view, target)| target.then_some(view)).collect()
    }

    /// Which views make up each group.
    pub fn ranges(&self) -> Vec<std::ops::Range<usize>> {
        let mut first = 0;
        let range = |group: &Group| {
            first += group.count;
            first - group.count..first
        };
        self.groups.iter().map(range).collect()
    }

    /// The largest shape of the first group's views, channels first.
    pub fn shape(&self) -> Vec<usize> {
        self.groups.first().map_or_else(Vec::new, Group::max_shape)
    }

    /// Channels of the first group's views.
    pub fn channels(&self) -> usize {
        self.groups.first().and_then(|group| group.shape.first()).map_or(0, |extent| extent.max())
    }

    /// The grid of the first group's views: their largest shape without the channels.
    pub fn grid(&self) -> Vec<usize> {
        self.shape().split_off(1.min(self.groups.first().map_or(0, |group| group.shape.len())))
    }

    /// The grids of all groups, each once.
    pub fn grids(&self) -> Vec<Vec<usize>> {
        let mut grids: Vec<Vec<usize>> = Vec::new();
        for group in &self.groups {
            let grid: Vec<usize> = group.shape.iter().skip(1).map(|extent| extent.max()).collect();
            if !grids.contains(&grid) {
                grids.push(grid);
            }
        }
        grids
    }

    /// Refuses a specification that no trainer can use.
    ///
    /// # Errors
    /// [`Error::Data`] that names the rule broken.
    pub fn validate(&self) -> Result<()> {
        let bad = |reason: String| {
            Err(Error::Data {
                reason: format!("the views cannot be trained on: {reason}"),
                hint: "change the modality's number or size of views".into(),
            })
        };
        for (i, group) in self.groups.iter().enumerate() {
            let name = &group.name;
            if name.is_empty() || self.groups[..i].iter().any(|other| other.name == *name) {
                return bad(format!("two groups have the name `{name}`, or one has none"));
            }
            if group.count == 0 {
                return bad(format!("the group `{name}` has no views"));
            }
            if group.shape.len() < 2 || group.shape.iter().any(|extent| extent.max() == 0) {
                return bad(format!(
                    "views of `{name}` need channels and another axis, none empty"
                ));
            }
            if matches!(group.shape[0], Extent::UpTo { .. }) {
                return bad(format!("the channels of `{name}` vary"));
            }
            let alike = |other: &&Group| other.stream == group.stream;
            let first = self.groups.iter().find(alike).unwrap_or(group);
            if first.shape.len() != group.shape.len() || first.shape[0] != group.shape[0] {
                return bad(format!(
                    "views of `{name}` need the rank and the channels of `{}`, of the same stream",
                    first.name
                ));
            }
        }
        if !self.groups.iter().any(|group| group.target) {
            return bad("at least one group must be a target".into());
        }
        if self.views() < 2 {
            return bad(
                "at least two views are needed: with one there is nothing to predict".into()
            );
        }
        match self.context.iter().find(|context| context.width == 0) {
            Some(context) => bad(format!("the context `{}` has no numbers", context.name)),
            None => Ok(()),
        }
    }

    /// Checks that `views` are what this specification promises.
    ///
    /// # Errors
    /// [`Error::Shape`] for a wrong number or shape of views, or for missing context.
    pub fn check(&self, views: &Views) -> Result<()> {
        let shape_error = |what: String, expected: String, got: Vec<usize>| {
            Err(Error::Shape { what, expected, got })
        };
        if views.groups().len() != self.groups.len() {
            let expected = format!("[{}] groups", self.groups.len());
            return shape_error("groups of views".into(), expected, vec![views.groups().len()]);
        }
        for (group, got) in self.groups.iter().zip(views.groups()) {
            if got.len() != group.count {
                let what = format!("{} views", group.name);
                return shape_error(what, format!("[{}] views", group.count), vec![got.len()]);
            }
            if let Some(view) = got.iter().find(|view| !group.admits(view.shape())) {
                let what = format!("a {} view", group.name);
                return shape_error(what, self.words(group), view.shape().to_vec());
            }
        }
        for context in &self.context {
            let got = views.context(&context.name).map_or(0, <[f32]>::len);
            if got != context.width {
                let what = format!("the context `{}`", context.name);
                return shape_error(what, format!("[{}]", context.width), vec![got]);
            }
        }
        Ok(())
    }

    /// Checks an evaluation view of stream `stream`.
    ///
    /// # Errors
    /// [`Error::Shape`] where its shape is not that of the stream's first group.
    pub fn check_eval(&self, stream: &str, view: &crate::View) -> Result<()> {
        match self.groups.iter().find(|group| group.stream == stream) {
            Some(group) if group.admits(view.shape()) => Ok(()),
            group => Err(Error::Shape {
                what: "the evaluation view".into(),
                expected: group.map_or_else(String::new, |group| self.words(group)),
                got: view.shape().to_vec(),
            }),
        }
    }

    fn words(&self, group: &Group) -> String {
        let extent = |extent: &Extent| match extent {
            Extent::Exactly(length) => length.to_string(),
            Extent::UpTo { up_to } => format!("up to {up_to}"),
        };
        format!("[{}]", group.shape.iter().map(extent).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::View;

    #[test]
    fn spec_rejects_what_cannot_be_trained() {
        let ok = ViewSpec::multi_crop(2, [1, 4], 1, [1, 2]);
        assert!(ok.validate().is_ok());
        for bad in [
            ViewSpec::multi_crop(0, [1, 4], 2, [1, 2]),
            ViewSpec::multi_crop(1, [1, 4], 0, [1, 2]),
            ViewSpec::multi_crop(2, [1, 4], 1, [2, 2]),
            ViewSpec::multi_crop(2, [1, 4], 1, [1, 2, 2]),
            ViewSpec::multi_crop(2, [1], 0, [1]),
            ViewSpec::multi_crop(2, [1, 0], 0, [1]),
            ViewSpec::new([Group::new("a", 2, [1, 4])]),
            ViewSpec::new([Group::new("a", 1, [1, 4]).target(), Group::new("a", 1, [1, 4])]),
            ViewSpec::new([Group::new("a", 2, [1, 4]).target().up_to(0)]),
            ok.with_context("action", 0),
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lengths_and_context_are_checked() {
        let spec = ViewSpec::new([Group::new("steps", 2, [1, 5]).target().up_to(1)]);
        let view = |n: usize| View::new([1, n], vec![0.0; n]).unwrap();
        let views = |a, b| Views::new(vec![vec![view(a), view(b)]]);
        assert!(spec.check(&views(1, 5)).is_ok());
        assert!(spec.check(&views(1, 6)).is_err());
        let spec = spec.with_context("action", 3);
        assert!(spec.check(&views(1, 5)).is_err());
        assert!(spec.check(&views(1, 5).with_context("action", vec![0.0; 3])).is_ok());
        assert!(spec.check(&views(1, 5).with_context("action", vec![0.0; 2])).is_err());
    }

    #[test]
    fn it_is_written_and_read_as_it_was() {
        let spec = ViewSpec::new([
            Group::new("a", 1, [1, 4]).target(),
            Group::new("b", 1, [2, 9]).up_to(1).stream("other"),
        ])
        .with_context("time", 1);
        let text = serde_json::to_string(&spec).unwrap();
        assert!(text.contains(r#"[2,{"up_to":9}]"#), "{text}");
        assert_eq!(serde_json::from_str::<ViewSpec>(&text).unwrap(), spec);
        assert_eq!(spec.ranges(), [0..1, 1..2]);
    }
}
