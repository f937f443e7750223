//! A conformance suite for modalities: one line in a plugin's tests.
//!
//! A test calls [`check_modality`]`::<Waves>()` and names what the checks that train need:
//! `use lejepa_train as _;` and, for encoders to try, `use lejepa_nn as _;`.
//!
//! [`check_modality`] panics with every rule that is broken; [`violations`] returns them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::config;
use crate::{
    Dataset, Modality, Purpose, Registration, Seed, Source, View, ViewSampler, ViewSpec, Window,
    kind,
};

/// What a modality has to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The name and the extensions are lower case; there is a line about it.
    Names,
    /// The configuration can be written and read back, and keys that do not exist are refused.
    Config,
    /// The built-in demo opens, and its samples decode.
    Demo,
    /// Labels, where there are any, are one for each sample.
    Labels,
    /// Views have the number and shapes that the sampler says.
    Shapes,
    /// Values are finite.
    Finite,
    /// The same generator gives the same views; the evaluation view is always the same.
    Deterministic,
    /// Views of one sample differ from each other, and from one draw to the next.
    ViewsDiffer,
    /// Broken files are errors about one sample, not panics and not samples.
    BrokenFiles,
    /// The recipe only names settings that exist, with values that are allowed.
    Recipe,
    /// Every encoder for all modalities takes every size of view.
    Encoders,
    /// Gradients reach every view and every parameter.
    Gradients,
    /// A short run lowers the loss.
    Learns,
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub rule: Rule,
    /// How it is broken.
    pub what: String,
}

impl Violation {
    /// A rule and how it is broken.
    ///
    /// ```
    /// use lejepa_core::testing::{Rule, Violation};
    ///
    /// let violation = Violation::new(Rule::Finite, "a view of sample 3");
    /// assert_eq!(violation.rule, Rule::Finite);
    /// assert_eq!(violation.what, "a view of sample 3");
    /// ```
    pub fn new(rule: Rule, what: impl ToString) -> Self {
        Self { rule, what: what.to_string() }
    }
}

/// The checks that need a trainer; `lejepa-train` submits them.
#[doc(hidden)]
pub struct TrainingChecks(pub fn(Registration) -> Vec<Violation>);

inventory::collect!(TrainingChecks);

/// Checks every rule. A plugin calls it in a test that also has `use lejepa_train as _;` and
/// `use lejepa_nn as _;`.
///
/// # Panics
/// With a list of what is broken.
///
/// ```
/// # use lejepa_core::{
/// #     Component, Dataset, Decoded, Modality, NoConfig, Result, Source, View, ViewRng, ViewSampler,
/// #     ViewSpec, Views, Window, testing::TrainingChecks,
/// # };
/// # use rand::RngExt;
/// use lejepa_core::testing::check_modality;
/// # // In place of those of `lejepa-train`, which the examples of this crate cannot link.
/// # lejepa_core::inventory::submit! { TrainingChecks(|_| Vec::new()) }
/// # struct Ramps;
/// # impl Component for Ramps {
/// #     const NAME: &'static str = "ramps";
/// #     const ABOUT: &'static str = "ramps from different heights";
/// #     type Config = NoConfig;
/// # }
/// # impl Modality for Ramps {
/// #     const EXTENSIONS: &'static [&'static str] = &[];
/// #     type Sample = Vec<f32>;
/// #     fn open(_: &NoConfig, _: Source) -> Result<Box<dyn Dataset<Item = Vec<f32>>>> {
/// #         Ok(Box::new(Ramps))
/// #     }
/// #     fn sampler(_: &NoConfig) -> Result<Box<dyn ViewSampler<Sample = Vec<f32>>>> {
/// #         Ok(Box::new(Ramps))
/// #     }
/// # }
/// # impl Dataset for Ramps {
/// #     type Item = Vec<f32>;
/// #     fn len(&self) -> usize {
/// #         20
/// #     }
/// #     fn name(&self, index: usize) -> String {
/// #         format!("ramp {index}")
/// #     }
/// #     fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Vec<f32>>> {
/// #         Ok(Decoded::whole((0..8).map(|t| (index + t) as f32).collect(), 32))
/// #     }
/// # }
/// # impl ViewSampler for Ramps {
/// #     type Sample = Vec<f32>;
/// #     fn spec(&self) -> ViewSpec {
/// #         ViewSpec::multi_crop(2, [1, 8], 0, [1, 8])
/// #     }
/// #     fn views(&self, ramp: &Vec<f32>, rng: &mut ViewRng) -> Result<Views> {
/// #         let mut louder = || {
/// #             let gain = rng.random_range(0.5..=2.0f32);
/// #             View::new([1, 8], ramp.iter().map(|x| gain * x).collect())
/// #         };
/// #         Ok(Views::multi_crop(vec![louder()?, louder()?], vec![]))
/// #     }
/// #     fn eval_view(&self, ramp: &Vec<f32>) -> Result<View> {
/// #         View::new([1, 8], ramp.clone())
/// #     }
/// # }
///
/// // `Ramps` is a modality that keeps the rules.
/// check_modality::<Ramps>();
/// ```
#[track_caller]
#[expect(clippy::panic, reason = "this is an assertion for tests")]
pub fn check_modality<M: Modality>() {
    let broken = violations::<M>();
    if !broken.is_empty() {
        let lines: Vec<String> =
            broken.iter().map(|v| format!("  {:?}: {}", v.rule, v.what)).collect();
        panic!("the modality `{}` breaks {} rules:\n{}", M::NAME, broken.len(), lines.join("\n"));
    }
}

/// What is broken; empty where nothing is.
///
/// ```
/// # use lejepa_core::{
/// #     Component, Dataset, Error, Modality, NoConfig, Result, Source, ViewSampler,
/// # };
/// use lejepa_core::testing::{Rule, violations};
/// # fn missing<T>() -> Result<T> {
/// #     Err(Error::Data { reason: "missing".into(), hint: String::new() })
/// # }
///
/// /// A modality that is only begun.
/// struct Begun;
///
/// impl Component for Begun {
///     const NAME: &'static str = "Begun";
///     const ABOUT: &'static str = "neither data nor views";
///     type Config = NoConfig;
/// }
///
/// impl Modality for Begun {
///     // ...
/// #     const EXTENSIONS: &'static [&'static str] = &[];
/// #     type Sample = Vec<f32>;
/// #     fn open(_: &NoConfig, _: Source) -> Result<Box<dyn Dataset<Item = Vec<f32>>>> {
/// #         missing()
/// #     }
/// #     fn sampler(_: &NoConfig) -> Result<Box<dyn ViewSampler<Sample = Vec<f32>>>> {
/// #         missing()
/// #     }
/// }
///
/// let broken = violations::<Begun>();
/// let rules: Vec<Rule> = broken.iter().map(|violation| violation.rule).collect();
/// assert_eq!(rules, [Rule::Names, Rule::Demo, Rule::Shapes]);
/// assert_eq!(broken[0].what, "NAME \"Begun\" is not made of a-z, 0-9, _ and -");
/// ```
pub fn violations<M: Modality>() -> Vec<Violation> {
    let mut out = Vec::new();
    names::<M>(&mut out);
    configuration::<M>(&mut out);
    samples::<M>(&mut out);
    broken_files::<M>(&mut out);
    // Training on data or views that are broken says nothing more.
    if out.is_empty() {
        let entry = Registration::of::<kind::Modality, M>(crate::origin!());
        let mut checks = inventory::iter::<TrainingChecks>.into_iter().peekable();
        if checks.peek().is_none() {
            let what = "the checks that train are not linked: add `use lejepa_train as _;`";
            out.push(Violation::new(Rule::Learns, what));
        }
        for check in checks {
            out.extend((check.0)(entry));
        }
    }
    out
}

fn names<M: Modality>(out: &mut Vec<Violation>) {
    let mut bad = |what: String| out.push(Violation::new(Rule::Names, what));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    if M::NAME.is_empty() || !M::NAME.chars().all(plain) {
        bad(format!("NAME {:?} is not made of a-z, 0-9, _ and -", M::NAME));
    }
    if M::ABOUT.trim().is_empty() || M::ABOUT.contains('\n') {
        bad("ABOUT is not one line of text".into());
    }
    for extension in M::EXTENSIONS {
        if extension.is_empty() || *extension != extension.trim_start_matches('.').to_lowercase() {
            bad(format!("the extension {extension:?} is not lower case without a dot"));
        }
    }
}

fn configuration<M: Modality>(out: &mut Vec<Violation>) {
    let mut bad = |what: String| out.push(Violation::new(Rule::Config, what));
    let table = match config::defaults::<M::Config>(M::NAME) {
        Ok(table) => table,
        Err(e) => return bad(format!("the defaults cannot be written: {e}")),
    };
    match config::parse::<M::Config>(M::NAME, &table)
        .and_then(|c| toml::Table::try_from(c).map_err(|e| crate::Error::bad_value(M::NAME, e)))
    {
        Ok(again) if again.to_string() == table.to_string() => {}
        Ok(_) => bad("the defaults are others after they are written and read".into()),
        Err(e) => bad(format!("the defaults cannot be read back: {e}")),
    }
    let mut unknown = table;
    unknown.insert("a_key_that_is_not_there".into(), toml::Value::Integer(1));
    if config::parse::<M::Config>(M::NAME, &unknown).is_ok() {
        bad("unknown keys are accepted: add #[serde(deny_unknown_fields)]".into());
    }
}

/// Runs plugin code; a panic is a violation of `rule`.
fn catch_panics<T>(
    rule: Rule,
    out: &mut Vec<Violation>,
    run: impl FnOnce(&mut Vec<Violation>) -> T,
) -> Option<T> {
    let mut found = Vec::new();
    let result = catch_unwind(AssertUnwindSafe(|| run(&mut found)));
    out.extend(found);
    result
        .inspect_err(|panic| {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            out.push(Violation::new(rule, format!("panics: {}", words.unwrap_or_default())));
        })
        .ok()
}

fn samples<M: Modality>(out: &mut Vec<Violation>) {
    let config = M::Config::default();
    let opened = catch_panics(Rule::Demo, out, |out| match M::open(&config, Source::Demo) {
        Ok(data) => Some(data),
        Err(e) => {
            out.push(Violation::new(Rule::Demo, format!("it does not open: {e}")));
            None
        }
    });
    let sampler = catch_panics(Rule::Shapes, out, |out| match M::sampler(&config) {
        Ok(sampler) => Some(sampler),
        Err(e) => {
            out.push(Violation::new(Rule::Shapes, format!("no sampler by default: {e}")));
            None
        }
    });
    let (Some(Some(data)), Some(Some(sampler))) = (opened, sampler) else { return };
    if data.len() < 16 {
        out.push(Violation::new(Rule::Demo, format!("{} samples are too few", data.len())));
    }
    for labels in data.labels() {
        let is_known = |id: &u32| (*id as usize) < labels.names().len();
        let fits = (0..labels.len()).all(|item| {
            labels.class(item).iter().chain(labels.tags(item).unwrap_or_default()).all(is_known)
        });
        if labels.len() != data.len() || !fits {
            let what = format!("`{}` labels {} samples", labels.name, labels.len());
            out.push(Violation::new(Rule::Labels, format!("{what} of {}", data.len())));
        }
    }
    let spec = sampler.spec();
    if let Err(e) = spec.validate() {
        out.push(Violation::new(Rule::Shapes, e));
        return;
    }
    for index in [0, data.len() / 2, data.len().saturating_sub(1)] {
        let before = out.len();
        catch_panics(Rule::Demo, out, |out| {
            one_sample(data.as_ref(), sampler.as_ref(), &spec, index, out);
        });
        if out.len() > before {
            return;
        }
    }
}

fn one_sample<S: Send + Sync + 'static>(
    data: &dyn Dataset<Item = S>,
    sampler: &dyn ViewSampler<Sample = S>,
    spec: &ViewSpec,
    index: usize,
    out: &mut Vec<Violation>,
) {
    let item = match data.item(index, Window::Centre) {
        Ok(decoded) => decoded.item,
        Err(e) => return out.push(Violation::new(Rule::Demo, e)),
    };
    // The sample stands in for its own companions.
    let item = std::sync::Arc::new(item);
    let companions = vec![item.clone(); sampler.companions()];
    let draw = |seed: u64| {
        let rng = &mut Seed(seed).rng(Purpose::Views, &[]);
        match companions.is_empty() {
            true => sampler.views(&item, rng),
            false => sampler.views_with(&item, &companions, rng),
        }
    };
    let (first, again, other) = match (draw(1), draw(1), draw(2)) {
        (Ok(a), Ok(b), Ok(c)) => (a, b, c),
        (Err(e), ..) | (_, Err(e), _) | (.., Err(e)) => {
            return out.push(Violation::new(Rule::Demo, format!("no views: {e}")));
        }
    };
    if let Err(e) = spec.check(&first) {
        out.push(Violation::new(Rule::Shapes, e));
    }
    if first != again {
        let what = format!("sample {index} has other views for the same generator");
        out.push(Violation::new(Rule::Deterministic, what));
    }
    // States may well be fixed: a single view of each group, or views with the actions between them as context.
    let are_states =
        spec.groups().iter().all(|group| group.count == 1) || !spec.context().is_empty();
    if first == other && !are_states {
        let what = format!("sample {index} has the same views for another generator");
        out.push(Violation::new(Rule::ViewsDiffer, what));
    }
    let alike = |views: &[View]| views.windows(2).any(|w| w[0] == w[1]);
    if first.groups().iter().any(|group| alike(group)) {
        let what = format!("sample {index} has two views that are the same");
        out.push(Violation::new(Rule::ViewsDiffer, what));
    }
    if !first.iter().all(View::is_finite) {
        out.push(Violation::new(Rule::Finite, format!("a view of sample {index}")));
    }
    match (sampler.eval_views(&item), sampler.eval_views(&item)) {
        (Ok(a), Ok(b)) => {
            let streams = spec.streams();
            if a.len() != streams.len() {
                let what = format!("{} evaluation views for {} streams", a.len(), streams.len());
                out.push(Violation::new(Rule::Shapes, what));
            }
            for (stream, view) in streams.iter().zip(&a) {
                if let Err(e) = spec.check_eval(stream, view) {
                    out.push(Violation::new(Rule::Shapes, e));
                }
            }
            if a != b {
                let what = "the evaluation view is another one each time";
                out.push(Violation::new(Rule::Deterministic, what));
            }
            if !a.iter().all(View::is_finite) {
                out.push(Violation::new(Rule::Finite, "the evaluation view"));
            }
        }
        (Err(e), _) | (_, Err(e)) => out.push(Violation::new(Rule::Demo, e)),
    }
}

/// Files that are no files of any kind, under every extension.
fn broken_files<M: Modality>(out: &mut Vec<Violation>) {
    let Ok(folder) = tempfile::tempdir() else { return };
    let noise: Vec<u8> =
        (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for extension in M::EXTENSIONS {
        for (name, content) in
            [("empty", &b""[..]), ("text", b"this is not what its name says\n"), ("noise", &noise)]
        {
            let path = folder.path().join(format!("{name}.{extension}"));
            if std::fs::write(&path, content).is_err() {
                continue;
            }
            let Some(words) = path.parent().and_then(|p| p.to_str()) else { continue };
            catch_panics(Rule::BrokenFiles, out, |out| {
                let config = M::Config::default();
                // A modality may refuse a source none of whose files it can read.
                let opened = Source::resolve(words, M::rule()).and_then(|s| M::open(&config, s));
                let (Ok(data), Ok(sampler)) = (opened, M::sampler(&config)) else { return };
                for index in 0..data.len() {
                    let views = data
                        .item(index, Window::Centre)
                        .and_then(|decoded| sampler.eval_view(&decoded.item))
                        .map(|view| view.is_finite());
                    if matches!(views, Ok(true)) {
                        let what = format!("{name}.{extension} is taken for a sample");
                        out.push(Violation::new(Rule::BrokenFiles, what));
                    }
                }
            });
            let _ = std::fs::remove_file(&path);
        }
    }
}
