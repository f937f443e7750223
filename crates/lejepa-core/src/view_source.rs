//! The object the trainer reads from: a data set and a sampler of any modality, type erased.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::dataset::{Dataset, Window};
use crate::facts::Facts;
use crate::front_end::Sound;
use crate::labels::{Labels, Split};
use crate::sampler::ViewSampler;
use crate::{Error, Result, View, ViewRng, ViewSpec, Views};

/// Views by item index, whatever the modality. Shared by the loader's workers.
///
/// ```
/// use std::sync::Arc;
///
/// use lejepa_core::{Purpose, Result, Seed, View, ViewRng, ViewSource, ViewSpec, Views};
/// use rand::RngExt;
///
/// /// Noise without files or labels.
/// struct Noise(Arc<ViewSpec>);
///
/// impl Noise {
///     fn view(rng: &mut ViewRng) -> Result<View> {
///         View::new([1, 8], (0..8).map(|_| rng.random_range(-1.0..=1.0f32)).collect())
///     }
/// }
///
/// impl ViewSource for Noise {
///     fn len(&self) -> usize {
///         100
///     }
///     fn name(&self, index: usize) -> String {
///         format!("noise {index}")
///     }
///     fn spec(&self) -> &Arc<ViewSpec> {
///         &self.0
///     }
///     fn views(&self, _: usize, _: &[usize], rng: &mut ViewRng) -> Result<Views> {
///         Ok(Views::multi_crop(vec![Self::view(rng)?, Self::view(rng)?], vec![]))
///     }
///     fn eval_view(&self, index: usize) -> Result<View> {
///         Self::view(&mut Seed(0).rng(Purpose::Demo, &[index as u64]))
///     }
/// }
///
/// let noise = Noise(Arc::new(ViewSpec::multi_crop(2, [1, 8], 0, [1, 8])));
/// let source: &dyn ViewSource = &noise;
/// let views = source.checked_views(7, &[], &mut Seed(0).rng(Purpose::Views, &[0, 7]))?;
/// assert_eq!(views.groups()[0].len(), 2);
/// assert_eq!(source.checked_eval_views(7)?, [source.eval_view(7)?]);
/// assert_eq!((source.name(7).as_str(), source.is_empty()), ("noise 7", false));
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub trait ViewSource: Send + Sync {
    /// Number of items, readable or not.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of an item, for messages.
    fn name(&self, index: usize) -> String;

    /// Number and shapes of views.
    fn spec(&self) -> &Arc<ViewSpec>;

    /// Label columns; may be empty.
    fn labels(&self) -> &[Labels] {
        &[]
    }

    /// The split an item is in, where the data says so.
    fn split(&self, index: usize) -> Option<Split> {
        let _ = index;
        None
    }

    /// The fold of an item where the data has folds for cross-validation.
    fn fold(&self, index: usize) -> Option<&str> {
        let _ = index;
        None
    }

    /// Items that are stored together; see [`Dataset::chunks`].
    fn chunks(&self) -> Vec<Range<usize>> {
        Vec::new()
    }

    /// How many companions [`ViewSource::views`] is given; see [`ViewSampler::companions`].
    fn companions(&self) -> usize {
        0
    }

    /// Random views of an item, with the indices of its companions.
    ///
    /// # Errors
    /// [`Error::Sample`] where the item, or the companion that the error names, cannot be used.
    fn views(&self, index: usize, companions: &[usize], rng: &mut ViewRng) -> Result<Views>;

    /// The deterministic view of an item, of the first stream.
    ///
    /// # Errors
    /// [`Error::Sample`] where the item cannot be used.
    fn eval_view(&self, index: usize) -> Result<View>;

    /// Features of an evaluation view without an encoder; see [`ViewSampler::raw_features`].
    fn raw_features(&self, view: &View) -> Vec<f32> {
        view.data().to_vec()
    }

    /// What a view sounds like; see [`ViewSampler::sound`].
    fn sound(&self, view: &View) -> Option<Sound> {
        let _ = view;
        None
    }

    /// Decodes an item to see whether it can be used, and tells what was found out about it.
    ///
    /// # Errors
    /// As [`ViewSource::eval_view`].
    fn examine(&self, index: usize) -> Result<(Vec<View>, Facts)> {
        Ok((self.eval_views(index)?, Facts::new()))
    }

    /// Groups of items whose stored bytes are the same; see [`Dataset::copies`].
    fn copies(&self) -> Vec<Vec<usize>> {
        Vec::new()
    }

    /// The deterministic views of an item, one for each stream.
    ///
    /// # Errors
    /// As [`ViewSource::eval_view`].
    fn eval_views(&self, index: usize) -> Result<Vec<View>> {
        Ok(vec![self.eval_view(index)?])
    }
}

impl dyn ViewSource + '_ {
    /// [`ViewSource::views`], checked against the specification and for values that are not finite.
    ///
    /// # Errors
    /// As [`ViewSource::views`]; [`Error::Shape`] for views that break the specification.
    pub fn checked_views(
        &self,
        index: usize,
        companions: &[usize],
        rng: &mut ViewRng,
    ) -> Result<Views> {
        let views = self.views(index, companions, rng)?;
        self.spec().check(&views)?;
        self.finite(index, views.iter())?;
        if !views.context_values().all(f32::is_finite) {
            return Err(Error::sample(self.name(index), "its context has NaN or infinite values"));
        }
        Ok(views)
    }

    /// [`ViewSource::eval_views`], checked likewise.
    ///
    /// # Errors
    /// As [`ViewSource::eval_views`]; [`Error::Shape`] for views that break the specification.
    pub fn checked_eval_views(&self, index: usize) -> Result<Vec<View>> {
        let views = self.eval_views(index)?;
        self.check_eval(index, &views)?;
        Ok(views)
    }

    /// [`ViewSource::examine`], checked likewise.
    ///
    /// # Errors
    /// As [`ViewSource::examine`]; [`Error::Shape`] for views that break the specification.
    pub fn checked_examine(&self, index: usize) -> Result<Facts> {
        let (views, facts) = self.examine(index)?;
        self.check_eval(index, &views)?;
        Ok(facts)
    }

    fn check_eval(&self, index: usize, views: &[View]) -> Result<()> {
        let streams = self.spec().streams();
        if views.len() != streams.len() {
            return Err(Error::Shape {
                what: "the evaluation views".into(),
                expected: format!("[{}] views, one for each stream", streams.len()),
                got: vec![views.len()],
            });
        }
        for (stream, view) in streams.iter().zip(views) {
            self.spec().check_eval(stream, view)?;
        }
        self.finite(index, views.iter())
    }

    fn finite<'a>(&self, index: usize, mut views: impl Iterator<Item = &'a View>) -> Result<()> {
        if views.all(View::is_finite) {
            Ok(())
        } else {
            Err(Error::sample(self.name(index), "a view has NaN or infinite values"))
        }
    }
}

/// A [`Dataset`] and a [`ViewSampler`] as one [`ViewSource`], with decoded items kept in memory up
/// to a budget. The cache changes speed, never results.
pub struct SampledDataset<S> {
    dataset: Box<dyn Dataset<Item = S>>,
    sampler: Arc<dyn ViewSampler<Sample = S>>,
    spec: Arc<ViewSpec>,
    cache: Vec<OnceLock<Arc<S>>>,
    budget: usize,
    used: AtomicUsize,
}

impl<S: Send + Sync + 'static> SampledDataset<S> {
    /// Joins the two; at most `budget` bytes of decoded items are kept.
    ///
    /// # Errors
    /// [`Error::Data`] for views that cannot be trained on.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use lejepa_core::{
    ///     Dataset, Decoded, Result, SampledDataset, View, ViewRng, ViewSampler, ViewSource, ViewSpec,
    ///     Views, Window,
    /// };
    ///
    /// /// Twenty ramps, each steeper than the last.
    /// struct Ramps;
    ///
    /// impl Dataset for Ramps {
    ///     type Item = Vec<f32>;
    ///     // ...
    /// #     fn len(&self) -> usize {
    /// #         20
    /// #     }
    /// #     fn name(&self, index: usize) -> String {
    /// #         format!("ramp {index}")
    /// #     }
    /// #     fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Vec<f32>>> {
    /// #         Ok(Decoded::whole((0..8).map(|t| (index * t) as f32).collect(), 32))
    /// #     }
    /// }
    ///
    /// /// Both halves of a ramp.
    /// struct Halves;
    ///
    /// impl ViewSampler for Halves {
    ///     type Sample = Vec<f32>;
    ///     // ...
    /// #     fn spec(&self) -> ViewSpec {
    /// #         ViewSpec::multi_crop(2, [1, 4], 0, [1, 4])
    /// #     }
    /// #     fn views(&self, ramp: &Vec<f32>, _: &mut ViewRng) -> Result<Views> {
    /// #         let half = |from: usize| View::new([1, 4], ramp[from..from + 4].to_vec());
    /// #         Ok(Views::multi_crop(vec![half(0)?, half(4)?], vec![]))
    /// #     }
    /// #     fn eval_view(&self, ramp: &Vec<f32>) -> Result<View> {
    /// #         View::new([1, 4], ramp[..4].to_vec())
    /// #     }
    /// }
    ///
    /// let source = SampledDataset::new(Box::new(Ramps), Arc::new(Halves), 1 << 20)?;
    /// assert_eq!(source.len(), 20);
    /// assert_eq!(source.eval_view(3)?.data()[..], [0.0, 3.0, 6.0, 9.0]);
    /// assert_eq!(source.eval_view(20).unwrap_err().to_string(), "#20: no such item");
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn new(
        dataset: Box<dyn Dataset<Item = S>>,
        sampler: Arc<dyn ViewSampler<Sample = S>>,
        budget: usize,
    ) -> Result<Self> {
        let spec = Arc::new(sampler.spec());
        spec.validate()?;
        let cache = (0..dataset.len()).map(|_| OnceLock::new()).collect();
        Ok(Self { dataset, sampler, spec, cache, budget, used: AtomicUsize::new(0) })
    }

    fn item(&self, index: usize, window: Window<'_>) -> Result<Arc<S>> {
        let Some(slot) = self.cache.get(index) else {
            return Err(Error::sample(format!("#{index}"), "no such item"));
        };
        if let Some(item) = slot.get() {
            return Ok(item.clone());
        }
        let (item, _) = self.decode(index, window)?;
        Ok(item)
    }

    /// Decodes an item and keeps it in memory where there is room.
    fn decode(&self, index: usize, window: Window<'_>) -> Result<(Arc<S>, Facts)> {
        let decoded = self.dataset.item(index, window)?;
        let item = Arc::new(decoded.item);
        if let Some(slot) = self.cache.get(index).filter(|_| decoded.is_whole) {
            let bytes = decoded.bytes;
            if self.used.fetch_add(bytes, Ordering::Relaxed) + bytes > self.budget
                || slot.set(item.clone()).is_err()
            {
                self.used.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
        Ok((item, decoded.facts))
    }

    /// An item at a random window, drawn from a separate stream, so that later draws are the
    /// same whether the item came from the cache or from a file.
    fn random_item(&self, index: usize, rng: &mut ViewRng) -> Result<Arc<S>> {
        self.item(index, Window::Random(&mut rand::SeedableRng::from_rng(rng)))
    }

    /// A sampler does not know file names; the message should have one.
    fn named(&self, index: usize, error: Error) -> Error {
        match error {
            Error::Sample { name, reason } if name.is_empty() => {
                Error::Sample { name: self.name(index), reason }
            }
            other => other,
        }
    }
}

impl<S: Send + Sync + 'static> ViewSource for SampledDataset<S> {
    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn name(&self, index: usize) -> String {
        self.dataset.name(index)
    }

    fn spec(&self) -> &Arc<ViewSpec> {
        &self.spec
    }

    fn labels(&self) -> &[Labels] {
        self.dataset.labels()
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.dataset.split(index)
    }

    fn fold(&self, index: usize) -> Option<&str> {
        self.dataset.fold(index)
    }

    fn chunks(&self) -> Vec<Range<usize>> {
        self.dataset.chunks()
    }

    fn companions(&self) -> usize {
        self.sampler.companions()
    }

    fn views(&self, index: usize, companions: &[usize], rng: &mut ViewRng) -> Result<Views> {
        let item = self.random_item(index, rng)?;
        let companions = companions
            .iter()
            .map(|&other| self.random_item(other, rng))
            .collect::<Result<Vec<_>>>()?;
        let views = if companions.is_empty() {
            self.sampler.views(&item, rng)
        } else {
            self.sampler.views_with(&item, &companions, rng)
        };
        views.map_err(|e| self.named(index, e))
    }

    fn eval_view(&self, index: usize) -> Result<View> {
        let item = self.item(index, Window::Centre)?;
        self.sampler.eval_view(&item).map_err(|e| self.named(index, e))
    }

    fn raw_features(&self, view: &View) -> Vec<f32> {
        self.sampler.raw_features(view)
    }

    fn sound(&self, view: &View) -> Option<Sound> {
        self.sampler.sound(view)
    }

    fn eval_views(&self, index: usize) -> Result<Vec<View>> {
        let item = self.item(index, Window::Centre)?;
        self.sampler.eval_views(&item).map_err(|e| self.named(index, e))
    }

    fn examine(&self, index: usize) -> Result<(Vec<View>, Facts)> {
        let (item, facts) = self.decode(index, Window::Centre)?;
        let views = self.sampler.eval_views(&item).map_err(|e| self.named(index, e))?;
        Ok((views, facts))
    }

    fn copies(&self) -> Vec<Vec<usize>> {
        self.dataset.copies()
    }
}
