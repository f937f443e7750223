//! Other ways to make views for a modality: the trait [`ViewsKind`].

use toml::Table;

use crate::Result;
use crate::component::Component;
use crate::modality::Modality;
use crate::sampler::ViewSampler;

/// A way to make views that can be chosen by name for an existing modality: `views.name = "NAME"`. The
/// modality's own is called `"default"`.
///
/// ```
/// use lejepa_core::{Component, NoConfig, Purpose, Result, Seed, View, ViewRng, ViewSampler, ViewSpec};
/// use lejepa_core::{Table, Views, ViewsKind};
/// use rand::RngExt;
#[doc = include_str!("doc/waves.txt")]
/// /// Two stretches, the second right after the first.
/// struct Adjacent;
///
/// impl ViewSampler for Adjacent {
///     type Sample = Vec<f32>;
///     fn views(&self, wave: &Vec<f32>, rng: &mut ViewRng) -> Result<Views> {
///         let start = rng.random_range(0..=wave.len() - 16);
///         let cut = |from: usize| View::new([1, 8], wave[from..from + 8].to_vec());
///         Ok(Views::multi_crop(vec![cut(start)?, cut(start + 8)?], vec![]))
///     }
///     // ...
/// #     fn spec(&self) -> ViewSpec {
/// #         ViewSpec::multi_crop(2, [1, 8], 0, [1, 8])
/// #     }
/// #     fn eval_view(&self, wave: &Vec<f32>) -> Result<View> {
/// #         View::new([1, 8], wave[..8].to_vec())
/// #     }
/// }
///
/// impl Component for Adjacent {
///     const NAME: &'static str = "adjacent";
///     const ABOUT: &'static str = "two stretches, the second right after the first";
///     type Config = NoConfig;
/// }
///
/// impl ViewsKind for Adjacent {
///     type Modality = Waves;
///     // The first are the keys of `[views]`, the second those of the modality's section.
///     fn build(_: &NoConfig, _: &NoConfig) -> Result<Box<dyn ViewSampler<Sample = Vec<f32>>>> {
///         Ok(Box::new(Adjacent))
///     }
/// }
///
/// let sampler = Adjacent::build(&NoConfig {}, &NoConfig {})?;
/// let wave: Vec<f32> = (0..64).map(|t| t as f32).collect();
/// let views = sampler.views(&wave, &mut Seed(0).rng(Purpose::Views, &[]))?;
/// let [first, second] = &views.groups()[0][..] else { panic!("two views") };
/// assert_eq!(second.data()[0], first.data()[0] + 8.0);
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub trait ViewsKind: Component {
    /// The modality whose samples it takes.
    type Modality: Modality;

    /// Settings of other sections (`train`, `encoder`, ...) that suit these views, in place of those that the modality
    /// recommends for its own: an encoder in place of the whole section.
    fn recipe() -> Table {
        Table::new()
    }

    /// Builds the sampler. `modality` is the modality's own section, which says how samples were
    /// read.
    ///
    /// # Errors
    /// [`Error::BadValue`](crate::Error::BadValue) for settings out of range.
    fn build(
        config: &Self::Config,
        modality: &<Self::Modality as Component>::Config,
    ) -> Result<Box<dyn ViewSampler<Sample = <Self::Modality as Modality>::Sample>>>;
}
