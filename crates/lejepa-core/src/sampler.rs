//! Views of a sample: the trait [`ViewSampler`], and what registers one.

use std::sync::Arc;

use crate::{LogSpectrogram, Result, Sound, View, ViewRng, ViewSpec, Views};

/// Makes views of a sample.
///
/// The objective asks that all views of one sample are embedded near each other. So what differs
/// between views (crop, gain, colour, noise) is what the encoder learns to ignore, and what they
/// share is what it learns to keep.
///
/// ```
/// use lejepa_core::{Purpose, Result, Seed, View, ViewRng, ViewSampler, ViewSpec, Views};
/// use rand::RngExt;
///
/// /// Stretches of 8 values, louder or softer.
/// struct Stretches;
///
/// fn cut(wave: &[f32], start: usize, gain: f32) -> Result<View> {
///     View::new([1, 8], wave[start..start + 8].iter().map(|x| gain * x).collect())
/// }
///
/// impl ViewSampler for Stretches {
///     type Sample = Vec<f32>;
///     fn spec(&self) -> ViewSpec {
///         ViewSpec::multi_crop(2, [1, 8], 0, [1, 8])
///     }
///     fn views(&self, wave: &Vec<f32>, rng: &mut ViewRng) -> Result<Views> {
///         let mut globals = Vec::new();
///         for _ in 0..2 {
///             let start = rng.random_range(0..=wave.len() - 8);
///             globals.push(cut(wave, start, rng.random_range(0.5..=2.0))?);
///         }
///         Ok(Views::multi_crop(globals, vec![]))
///     }
///     fn eval_view(&self, wave: &Vec<f32>) -> Result<View> {
///         cut(wave, 0, 1.0)
///     }
/// }
///
/// let wave: Vec<f32> = (0..64).map(|t| t as f32).collect();
/// let draw = |seed: u64| Stretches.views(&wave, &mut Seed(seed).rng(Purpose::Views, &[]));
/// Stretches.spec().check(&draw(0)?)?;
/// assert_eq!(draw(0)?, draw(0)?);
/// assert_ne!(draw(0)?, draw(1)?);
/// assert_eq!(Stretches.eval_view(&wave)?.data()[..], wave[..8]);
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub trait ViewSampler: Send + Sync {
    /// What [`Dataset::item`](crate::Dataset::item) decodes.
    type Sample;

    /// Number and shapes of views; constant for one sampler.
    fn spec(&self) -> ViewSpec;

    /// Random views of `sample`. The same `rng` state must give the same views.
    ///
    /// # Errors
    /// [`Error::Sample`](crate::Error::Sample) for a sample that no view can be made of.
    fn views(&self, sample: &Self::Sample, rng: &mut ViewRng) -> Result<Views>;

    /// The one view used to embed a sample: no randomness, shape of the first group.
    ///
    /// # Errors
    /// As [`ViewSampler::views`].
    fn eval_view(&self, sample: &Self::Sample) -> Result<View>;

    /// The views used to embed a sample where there are several streams: one for each, in their order.
    ///
    /// # Errors
    /// As [`ViewSampler::views`].
    fn eval_views(&self, sample: &Self::Sample) -> Result<Vec<View>> {
        Ok(vec![self.eval_view(sample)?])
    }

    /// What a simple method without an encoder would compare an evaluation view by; probes show it beside
    /// the encoder. The values as they are unless a modality knows better.
    fn raw_features(&self, view: &View) -> Vec<f32> {
        view.data().to_vec()
    }

    /// How an evaluation view comes from the samples of a signal, where it is a spectrogram of them; exports can begin
    /// with it.
    fn front_end(&self) -> Option<LogSpectrogram> {
        None
    }

    /// What a view sounds like, where it is made of a recording.
    fn sound(&self, view: &View) -> Option<Sound> {
        let _ = view;
        None
    }

    /// How many other samples [`ViewSampler::views_with`] is given, to mix with.
    fn companions(&self) -> usize {
        0
    }

    /// Random views of `sample` mixed with other samples of the training set, which were drawn for it:
    /// sounds over sounds, pictures before backgrounds. Called instead of [`ViewSampler::views`] where
    /// [`ViewSampler::companions`] is not 0.
    ///
    /// # Errors
    /// As [`ViewSampler::views`].
    fn views_with(
        &self,
        sample: &Self::Sample,
        companions: &[Arc<Self::Sample>],
        rng: &mut ViewRng,
    ) -> Result<Views> {
        let _ = companions;
        self.views(sample, rng)
    }
}
