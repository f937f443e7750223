//! What a data set holds, and what is odd about it: the report that users read before they train.

use std::collections::BTreeMap;

use lejepa_core::{Facts, LabelKind, Labels, Split, ViewSource};
use serde::Serialize;

use crate::skipped::Skipped;

/// Names given as examples of what is counted.
const EXAMPLES: usize = 3;
/// Classes named one by one in a warning.
const NAMED: usize = 5;

/// Range of a measured property.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Spread {
    /// What was measured, with its unit.
    pub name: String,
    /// Smallest value.
    pub least: f64,
    /// Upper median.
    pub median: f64,
    /// Largest value.
    pub most: f64,
}

/// Something that holds for some samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Count {
    /// What it is.
    pub what: String,
    /// Samples it holds for.
    pub samples: usize,
    /// Names of up to three of them.
    pub examples: Vec<String>,
}

/// A class or tag of a label column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Samples that are trained on.
    pub train: usize,
    /// Samples that are held out.
    pub held_out: usize,
}

/// A label column.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: LabelKind,
    /// Usable samples without a label.
    pub unlabelled: usize,
    /// Labelled samples that are trained on.
    pub train: usize,
    /// Labelled samples that are held out.
    pub held_out: usize,
    /// Its classes or tags.
    pub classes: Vec<Class>,
    /// The range of its numbers.
    pub numbers: Option<Spread>,
}

/// What a data set holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Census {
    /// Samples that are trained on.
    pub train: usize,
    /// Samples that are held out for probes.
    pub held_out: usize,
    /// Whether every sample was decoded: whether the rest of this is known of all.
    pub examined: bool,
    /// Measured properties of the samples that can be used.
    pub spreads: Vec<Spread>,
    /// Label columns.
    pub columns: Vec<Column>,
    /// Samples that cannot be used, by reason.
    pub skipped: Vec<Count>,
    /// What decoding remarked.
    pub remarks: Vec<Count>,
    /// Samples that are copies of an earlier one.
    pub copies: Option<Count>,
    /// Copies that the data's own split parts: held out, and trained on under another name.
    pub leaked: Option<Count>,
}

/// Counts by reason, with the first names of each; the largest counts first.
fn counted<'a>(found: impl Iterator<Item = (&'a str, String)>) -> Vec<Count> {
    let mut by_reason: BTreeMap<&str, Count> = BTreeMap::new();
    for (what, name) in found {
        let count = by_reason.entry(what).or_insert_with(|| Count {
            what: what.into(),
            samples: 0,
            examples: Vec::new(),
        });
        count.samples += 1;
        if count.examples.len() < EXAMPLES {
            count.examples.push(name);
        }
    }
    let mut counts: Vec<Count> = by_reason.into_values().collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.samples));
    counts
}

fn spreads(facts: &[(usize, Facts)]) -> Vec<Spread> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in facts.iter().flat_map(|(_, facts)| facts.numbers()) {
        if !names.contains(&name.as_ref()) {
            names.push(name.as_ref());
        }
    }
    names
        .into_iter()
        .filter_map(|name| {
            let numbers = facts.iter().flat_map(|(_, facts)| facts.numbers());
            let values = numbers.filter(|(n, v)| *n == name && v.is_finite()).map(|(_, v)| *v);
            spread(name.into(), values.collect())
        })
        .collect()
}

fn spread(name: String, mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    Some(Spread {
        name,
        least: *values.first()?,
        median: *values.get(values.len() / 2)?,
        most: *values.last()?,
    })
}

/// The division of a data set, from which a census is made.
pub(crate) struct Division<'a> {
    pub(crate) usable: &'a [bool],
    pub(crate) splits: &'a [Split],
    pub(crate) copies: &'a [Vec<usize>],
}

impl Census {
    pub(crate) fn new(
        source: &dyn ViewSource,
        division: &Division<'_>,
        skipped: &[Skipped],
        facts: Option<&[(usize, Facts)]>,
    ) -> Self {
        let Division { usable, splits, copies } = *division;
        let of = |split| (0..usable.len()).filter(|&i| usable[i] && splits[i] == split).count();
        let again = copies.iter().flat_map(|group| &group[1..]);
        let leaked = copies.iter().filter(|group| {
            let has = |split| group.iter().any(|&i| usable[i] && splits[i] == split);
            has(Split::Train) && has(Split::Test)
        });
        let one = |what: &str, of: &mut dyn Iterator<Item = usize>| {
            counted(of.map(|i| (what, source.name(i)))).pop()
        };
        let facts_of = facts.unwrap_or_default();
        let remarks = facts_of.iter().flat_map(|(index, facts)| {
            facts.remarks().iter().map(|remark| (remark.as_str(), source.name(*index)))
        });
        Self {
            train: of(Split::Train),
            held_out: of(Split::Test),
            examined: facts.is_some(),
            spreads: spreads(facts_of),
            columns: source.labels().iter().map(|labels| column(labels, division)).collect(),
            skipped: counted(skipped.iter().map(|s| (s.reason.as_str(), s.name.clone()))),
            remarks: counted(remarks),
            copies: one("copies of another sample", &mut again.copied()),
            leaked: one(
                "held out, and trained on under another name",
                &mut leaked.filter_map(|group| {
                    group.iter().copied().find(|&i| usable[i] && splits[i] == Split::Test)
                }),
            ),
        }
    }

    /// The report, a line for each fact.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.spreads.is_empty() {
            let spread = |s: &Spread| {
                let [least, median, most] = [s.least, s.median, s.most].map(short);
                if s.least == s.most {
                    format!("{} {least}", s.name)
                } else {
                    format!("{} {least} to {most} (median {median})", s.name)
                }
            };
            lines.push(self.spreads.iter().map(spread).collect::<Vec<_>>().join(", "));
        }
        for column in &self.columns {
            let without = match column.unlabelled {
                0 => String::new(),
                n => format!(", {n} samples without a label"),
            };
            let name = &column.name;
            if let Some(Spread { least, median, most, .. }) = &column.numbers {
                let [least, median, most] = [*least, *median, *most].map(short);
                lines.push(format!(
                    "label `{name}`: numbers {least} to {most} (median {median}){without}"
                ));
                continue;
            }
            let sizes = || column.classes.iter().map(|c| c.train + c.held_out);
            let (least, most) = (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0));
            let each = if least == most { least.to_string() } else { format!("{least} to {most}") };
            let what = if column.kind == LabelKind::Tags { "tags" } else { "classes" };
            let count = column.classes.len();
            lines.push(format!("label `{name}`: {count} {what} of {each} samples{without}"));
        }
        lines.extend(self.skipped.iter().map(|count| format!("left out: {}", told(count))));
        if let Some(copies) = &self.copies {
            lines.push(told(copies));
        }
        lines
    }

    /// What a user should look at, a line each; repeated at the end of a run.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.remarks.iter().map(told).collect();
        if let Some(leaked) = &self.leaked {
            warnings.push(format!("{}: probes are too good", told(leaked)));
        }
        let is_both = |column: &Column| column.train > 0 && column.held_out > 0;
        if self.columns.first().is_some_and(|column| !is_both(column)) {
            warnings.push(self.why_no_probe());
        }
        for column in self.columns.iter().filter(|column| is_both(column)) {
            let few: Vec<&str> = column
                .classes
                .iter()
                .filter(|c| c.train == 0 || c.held_out == 0)
                .map(|c| c.name.as_str())
                .collect();
            if !few.is_empty() {
                let more = few.len().saturating_sub(NAMED);
                let and = if more > 0 { format!(" and {more} more") } else { String::new() };
                let named = few.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
                warnings.push(format!(
                    "{} of `{}` without a sample to train on or without one held out: {named}{and}",
                    if column.kind == LabelKind::Tags { "tags" } else { "classes" },
                    column.name
                ));
            }
        }
        warnings
    }

    /// Why there is nothing that a probe could be scored on.
    pub(crate) fn why_no_probe(&self) -> String {
        let Some(column) = self.columns.first() else {
            return "no labels, so no probe: put samples into one folder per class, or give a manifest with a \
                    label column"
                .into();
        };
        let what = match (column.train, column.held_out) {
            (0, _) => "no sample that is trained on has a label",
            (_, 0) if self.held_out > 0 => "no sample that is held out has a label",
            _ => "the classes are too small to hold a sample out of any",
        };
        format!("no probe: {what}")
    }
}

fn column(labels: &Labels, division: &Division<'_>) -> Column {
    let class = |name: &String| Class { name: name.clone(), train: 0, held_out: 0 };
    let mut column = Column {
        name: labels.name.clone(),
        kind: labels.kind(),
        unlabelled: 0,
        train: 0,
        held_out: 0,
        classes: labels.names().iter().map(class).collect(),
        numbers: None,
    };
    let mut numbers = Vec::new();
    let usable = division.usable.iter().enumerate().filter(|(_, usable)| **usable);
    for (index, _) in usable {
        if !labels.has(index) {
            column.unlabelled += 1;
            continue;
        }
        let is_train = division.splits[index] == Split::Train;
        let count = |train: &mut usize, held_out: &mut usize| {
            *(if is_train { train } else { held_out }) += 1;
        };
        count(&mut column.train, &mut column.held_out);
        numbers.extend(labels.number(index));
        let class = labels.class(index);
        for id in class.iter().chain(labels.tags(index).unwrap_or_default()) {
            if let Some(class) = column.classes.get_mut(*id as usize) {
                count(&mut class.train, &mut class.held_out);
            }
        }
    }
    column.numbers = spread(labels.name.clone(), numbers);
    column
}

/// A count in words: `3 samples: cut short, e.g. a.png, b.png, c.png`.
fn told(count: &Count) -> String {
    let samples = if count.samples == 1 { "sample" } else { "samples" };
    let names = count.examples.join(", ");
    format!("{} {samples}: {}, e.g. {names}", count.samples, count.what)
}

/// A number with three digits, without a fraction where it has none.
fn short(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1000.0 {
        return format!("{value:.0}");
    }
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_name_the_first_and_the_largest_comes_first() {
        let found = ["b", "a", "b", "b", "b"].iter().enumerate();
        let counts = counted(found.map(|(i, what)| (*what, format!("{i}.png"))));
        assert_eq!(told(&counts[0]), "4 samples: b, e.g. 0.png, 2.png, 3.png");
        assert_eq!(told(&counts[1]), "1 sample: a, e.g. 1.png");
    }

    #[test]
    fn numbers_are_short() {
        let shown = [3.0, 0.1234, 12.345, 123.45, 44_100.0, 1234.5].map(short);
        assert_eq!(shown, ["3", "0.12", "12.3", "123", "44100", "1234"]);
    }

    #[test]
    fn spreads_leave_out_what_was_not_measured() {
        let fact = |v| Facts::new().number("seconds", v);
        let facts = [(0, fact(2.0)), (1, fact(f64::NAN)), (2, fact(1.0)), (3, Facts::new())];
        let [spread] = &spreads(&facts)[..] else { panic!("one property") };
        assert_eq!((spread.least, spread.median, spread.most), (1.0, 2.0, 2.0));
    }
}
