//! From a configuration to views: what a modality and its sampler make together.

use std::sync::Arc;

use crate::advice::{Advice, Survey, SurveyContext};
use crate::disk_cache::{CachedDataset, DiskCache};
use crate::front_end::LogSpectrogram;
use crate::sampler::ViewSampler;
use crate::view_source::{SampledDataset, ViewSource};
use crate::{Modality, Result, Source, ViewSpec};

/// How a [`Pipeline`] opens data. None of it changes what is read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Most bytes of decoded items that are kept in memory.
    pub cache_bytes: usize,
    /// Where decoded items are kept on disk, if anywhere.
    pub disk_cache: Option<DiskCache>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { cache_bytes: 1 << 30, disk_cache: None }
    }
}

impl OpenOptions {
    /// Keeps at most this many bytes of decoded items.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Keeps decoded items on disk as well.
    #[must_use]
    pub fn disk_cache(mut self, cache: Option<DiskCache>) -> Self {
        self.disk_cache = cache;
        self
    }
}

/// A checked configuration of a modality, before any data is opened.
///
/// It knows the shapes of views, so models can be built and settings refused without data.
pub trait Pipeline: Send + Sync {
    /// Number and shapes of views.
    fn spec(&self) -> &Arc<ViewSpec>;

    /// How an evaluation view comes from a signal; see [`ViewSampler::front_end`].
    fn front_end(&self) -> Option<LogSpectrogram> {
        None
    }

    /// Opens data.
    ///
    /// # Errors
    /// Whatever is wrong with the source as a whole.
    fn open(&self, source: Source, options: &OpenOptions) -> Result<Box<dyn ViewSource>>;

    /// Settings that suit the data; see [`Modality::advise`].
    ///
    /// # Errors
    /// Whatever is wrong with the source as a whole.
    fn advise(&self, source: Source, at: SurveyContext<'_>) -> Result<Advice> {
        let _ = (source, at);
        Ok(Advice::default())
    }
}

/// The pipeline of modality `M` and one of its samplers.
pub struct SampledPipeline<M: Modality> {
    config: M::Config,
    sampler: Arc<dyn ViewSampler<Sample = M::Sample>>,
    spec: Arc<ViewSpec>,
}

impl<M: Modality> SampledPipeline<M> {
    /// Joins a modality's configuration with a sampler.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) for views that cannot be trained on, or of streams that the
    /// modality does not have.
    pub fn new(
        config: M::Config,
        sampler: Box<dyn ViewSampler<Sample = M::Sample>>,
    ) -> Result<Self> {
        let spec = Arc::new(sampler.spec());
        spec.validate()?;
        let streams = spec.streams();
        let fits = if M::STREAMS.is_empty() { streams.len() == 1 } else { streams == M::STREAMS };
        if !fits {
            return Err(crate::Error::Data {
                reason: format!(
                    "views of the streams {streams:?}; the modality has {:?}",
                    M::STREAMS
                ),
                hint: "name every stream in `Modality::STREAMS`, in the order of its groups".into(),
            });
        }
        Ok(Self { config, sampler: Arc::from(sampler), spec })
    }
}

impl<M: Modality> Pipeline for SampledPipeline<M> {
    fn spec(&self) -> &Arc<ViewSpec> {
        &self.spec
    }

    fn front_end(&self) -> Option<LogSpectrogram> {
        self.sampler.front_end()
    }

    fn open(&self, source: Source, options: &OpenOptions) -> Result<Box<dyn ViewSource>> {
        let mut dataset = M::open(&self.config, source)?;
        if let (Some(cache), Some(codec)) = (&options.disk_cache, M::CODEC) {
            let decoding = M::decoding(&self.config);
            let how = format!("{} {} {decoding}", M::NAME, env!("CARGO_PKG_VERSION"));
            dataset = Box::new(CachedDataset::new(dataset, codec, cache, &how)?);
        }
        Ok(Box::new(SampledDataset::new(dataset, self.sampler.clone(), options.cache_bytes)?))
    }

    fn advise(&self, source: Source, at: SurveyContext<'_>) -> Result<Advice> {
        let dataset = M::open(&self.config, source)?;
        let advice = M::advise(&self.config, &Survey::new(dataset.as_ref(), at))?;
        Ok(advice.of_samples(dataset.len()))
    }
}
