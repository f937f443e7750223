//! The object the trainer reads from: a data set and a sampler of any modality, type erased.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::dataset::{Dataset, Labels, Split, Window};
use crate::modality::ViewSampler;
use crate::{Error, Result, View, ViewRng, ViewSpec, Views};

/// Views by item index, whatever the modality. Shared by the loader's workers.
///
/// ```
/// use lejepa_core::{
///     Labels, Purpose, Result, Seed, Split, View, ViewRng, ViewSource, ViewSpec, Views,
/// };
/// use rand::RngExt;
///
/// /// Noise without files or labels.
/// struct Noise(ViewSpec);
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
///     fn spec(&self) -> &ViewSpec {
///         &self.0
///     }
///     fn labels(&self) -> &[Labels] {
///         &[]
///     }
///     fn split(&self, _: usize) -> Option<Split> {
///         None
///     }
///     fn views(&self, _: usize, rng: &mut ViewRng) -> Result<Views> {
///         Ok(Views { globals: vec![Self::view(rng)?, Self::view(rng)?], locals: vec![] })
///     }
///     fn eval_view(&self, index: usize) -> Result<View> {
///         Self::view(&mut Seed(0).rng(Purpose::Demo, &[index as u64]))
///     }
/// }
///
/// let spec = ViewSpec { globals: 2, locals: 0, global: vec![1, 8], local: vec![1, 8] };
/// let source: Box<dyn ViewSource> = Box::new(Noise(spec));
/// let views = source.views(7, &mut Seed(0).rng(Purpose::Views, &[0, 7]))?;
/// source.spec().check(&views)?;
/// assert_eq!(source.eval_view(7)?, source.eval_view(7)?);
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
    fn spec(&self) -> &ViewSpec;
    /// Label columns; may be empty.
    fn labels(&self) -> &[Labels];
    /// The split an item is in, where the data says so.
    fn split(&self, index: usize) -> Option<Split>;
    /// Random views of an item. Whoever trains on them checks that they are as [`ViewSource::spec`] has them
    /// ([`ViewSpec::check`]).
    ///
    /// # Errors
    /// [`Error::Sample`] where the item cannot be used.
    fn views(&self, index: usize, rng: &mut ViewRng) -> Result<Views>;
    /// The deterministic view of an item.
    ///
    /// # Errors
    /// [`Error::Sample`] where the item cannot be used.
    fn eval_view(&self, index: usize) -> Result<View>;
}

/// A [`Dataset`] and a [`ViewSampler`] as one [`ViewSource`], with decoded items kept in memory up
/// to a budget. The cache changes speed, never results.
pub struct SampledDataset<S> {
    dataset: Box<dyn Dataset<Item = S>>,
    sampler: Box<dyn ViewSampler<Sample = S>>,
    spec: ViewSpec,
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
    /// use lejepa_core::{
    ///     Dataset, Result, SampledDataset, View, ViewRng, ViewSampler, ViewSource, ViewSpec,
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
    /// #     fn item(&self, index: usize, _: Window<'_>) -> Result<Vec<f32>> {
    /// #         Ok((0..8).map(|t| (index * t) as f32).collect())
    /// #     }
    /// #     fn bytes(&self, item: &Vec<f32>) -> usize {
    /// #         4 * item.len()
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
    /// #         ViewSpec { globals: 2, locals: 0, global: vec![1, 4], local: vec![1, 4] }
    /// #     }
    /// #     fn views(&self, ramp: &Vec<f32>, _: &mut ViewRng) -> Result<Views> {
    /// #         let half = |from: usize| View::new([1, 4], ramp[from..from + 4].to_vec());
    /// #         Ok(Views { globals: vec![half(0)?, half(4)?], locals: vec![] })
    /// #     }
    /// #     fn eval_view(&self, ramp: &Vec<f32>) -> Result<View> {
    /// #         View::new([1, 4], ramp[..4].to_vec())
    /// #     }
    /// }
    ///
    /// let source = SampledDataset::new(Box::new(Ramps), Box::new(Halves), 1 << 20)?;
    /// assert_eq!(source.len(), 20);
    /// assert_eq!(source.eval_view(3)?.data()[..], [0.0, 3.0, 6.0, 9.0]);
    /// assert_eq!(source.eval_view(20).unwrap_err().to_string(), "#20: no such item");
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn new(
        dataset: Box<dyn Dataset<Item = S>>,
        sampler: Box<dyn ViewSampler<Sample = S>>,
        budget: usize,
    ) -> Result<Self> {
        let spec = sampler.spec();
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
        let item = Arc::new(self.dataset.item(index, window)?);
        if self.dataset.is_whole(index) {
            let bytes = self.dataset.bytes(&item);
            if self.used.fetch_add(bytes, Ordering::Relaxed) + bytes > self.budget
                || slot.set(item.clone()).is_err()
            {
                self.used.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
        Ok(item)
    }

    fn finite(&self, index: usize, view: &View) -> Result<()> {
        if view.is_finite() {
            Ok(())
        } else {
            Err(Error::sample(self.name(index), "a view has NaN or infinite values"))
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

    fn spec(&self) -> &ViewSpec {
        &self.spec
    }

    fn labels(&self) -> &[Labels] {
        self.dataset.labels()
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.dataset.split(index)
    }

    fn views(&self, index: usize, rng: &mut ViewRng) -> Result<Views> {
        // The window is drawn from its own stream, so that the views' draws are the same whether
        // the item came from the cache or from a file.
        let mut window_rng = rand::SeedableRng::from_rng(rng);
        let item = self.item(index, Window::Random(&mut window_rng))?;
        let views = self.sampler.views(&item, rng).map_err(|e| self.named(index, e))?;
        for view in views.globals.iter().chain(&views.locals) {
            self.finite(index, view)?;
        }
        Ok(views)
    }

    fn eval_view(&self, index: usize) -> Result<View> {
        let item = self.item(index, Window::Centre)?;
        let view = self.sampler.eval_view(&item).map_err(|e| self.named(index, e))?;
        if view.shape() != self.spec.global {
            return Err(Error::Shape {
                what: "the evaluation view".into(),
                expected: format!("{:?}", self.spec.global),
                got: view.shape().to_vec(),
            });
        }
        self.finite(index, &view)?;
        Ok(view)
    }
}

impl<S: Send + Sync + 'static> SampledDataset<S> {
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
