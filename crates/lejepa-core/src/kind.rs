//! The kinds of components: what [`register!`](crate::register) takes before the colon.

use burn::optim::ModuleOptimizer;
use toml::Table;

use crate::component::{Builds, Component, Kind, Origin, Registration};
use crate::config;
use crate::encoder::{BoxedEncoder, BuildContext, EncoderKind};
use crate::environment::{Environment as EnvironmentTrait, EnvironmentKind};
use crate::listing::SampleRule;
use crate::optimizer::{self, OptimizerContext, OptimizerKind, ScheduleKind};
use crate::pipeline::{Pipeline, SampledPipeline};
use crate::prediction::{BoxedPrediction, PredictionContext, PredictionKind};
use crate::published::Arrays;
use crate::sampler::ViewSampler;
use crate::source::SourceKind;
use crate::statistic::{BoxedStatistic, StatisticKind};
use crate::views_kind::ViewsKind;
use crate::{Modality as ModalityTrait, Result};

/// Kinds of data: types that implement [`Modality`](crate::Modality). Section `[NAME]`.
pub struct Modality;

/// What is known of a modality before its pipeline is built.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct ModalityBuild {
    /// [`Modality::rule`](crate::Modality::rule).
    pub rule: fn() -> SampleRule,
    /// [`Modality::recipe`](crate::Modality::recipe).
    pub recipe: fn(SourceKind) -> Table,
    /// [`Modality::STREAMS`](crate::Modality::STREAMS).
    pub streams: &'static [&'static str],
    /// [`Modality::PRESETS`](crate::Modality::PRESETS).
    pub presets: &'static [crate::Preset],
    /// [`Modality::DRAWS_UPWARDS`](crate::Modality::DRAWS_UPWARDS).
    pub draws_upwards: bool,
}

impl Kind for Modality {
    const WORD: &'static str = "modality";
    type Build = ModalityBuild;
}

impl<T: ModalityTrait> Builds<T> for Modality {
    const BUILD: &'static ModalityBuild = &ModalityBuild {
        rule: T::rule,
        recipe: T::recipe,
        streams: T::STREAMS,
        presets: T::PRESETS,
        draws_upwards: T::DRAWS_UPWARDS,
    };
    const BRINGS: Option<fn(Origin) -> Registration> = Some(Registration::of::<Views, OwnViews<T>>);
}

/// Ways to make views: types that implement [`ViewsKind`]. Section `[views]`; the modality's own are
/// called [`DEFAULT_VIEWS`].
pub struct Views;

/// The name of a modality's own views.
pub const DEFAULT_VIEWS: &str = "default";

impl Kind for Views {
    const WORD: &'static str = "views";
    type Build = ViewsBuild;
}

/// What the entry of views in the registry can do.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ViewsBuild {
    /// [`ViewsKind::build`], from the modality's section and the keys of `[views]`.
    pub build: fn(&Table, &Table) -> Result<Box<dyn Pipeline>>,
    /// [`ViewsKind::recipe`].
    pub recipe: fn() -> Table,
}

impl<T: ViewsKind> Builds<T> for Views {
    const SCOPE: Option<&'static str> = Some(T::Modality::NAME);
    const BUILD: &'static Self::Build = &ViewsBuild { build: build_views::<T>, recipe: T::recipe };
}

fn build_views<T: ViewsKind>(modality: &Table, own: &Table) -> Result<Box<dyn Pipeline>> {
    let modality = config::parse(T::Modality::NAME, modality)?;
    let sampler = T::build(&config::parse("views", own)?, &modality)?;
    Ok(Box::new(SampledPipeline::<T::Modality>::new(modality, sampler)?))
}

/// The views that [`Modality::sampler`](crate::Modality::sampler) makes.
struct OwnViews<M>(std::marker::PhantomData<M>);

impl<M: ModalityTrait> Component for OwnViews<M> {
    const NAME: &'static str = DEFAULT_VIEWS;
    const ABOUT: &'static str = "the modality's own views; their keys stand in its section";
    type Config = crate::NoConfig;
}

impl<M: ModalityTrait> ViewsKind for OwnViews<M> {
    type Modality = M;
    fn build(
        _: &crate::NoConfig,
        modality: &M::Config,
    ) -> Result<Box<dyn ViewSampler<Sample = M::Sample>>> {
        M::sampler(modality)
    }
}

/// Backbones: types that implement [`EncoderKind`]. Section `[encoder]`.
pub struct Encoder;

impl Kind for Encoder {
    const WORD: &'static str = "encoder";
    type Build = EncoderBuild;
}

/// What an encoder's entry in the registry can do.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct EncoderBuild {
    /// [`EncoderKind::build`], from the keys of `[encoder]`.
    pub build: fn(&Table, &BuildContext<'_>) -> Result<BoxedEncoder>,
    /// [`EncoderKind::recognise`].
    pub recognise: fn(&Arrays) -> Option<Table>,
    /// [`EncoderKind::around`].
    pub around: fn(&Table) -> Option<Table>,
    /// [`EncoderKind::AXES`].
    pub axes: &'static [usize],
    /// [`EncoderKind::SIZES`].
    pub sizes: &'static [(&'static str, &'static str)],
}

impl<T: EncoderKind> Builds<T> for Encoder {
    const SCOPE: Option<&'static str> = T::MODALITY;
    const BUILD: &'static Self::Build = &EncoderBuild {
        build: build_encoder::<T>,
        recognise: T::recognise,
        around: T::around,
        axes: T::AXES,
        sizes: T::SIZES,
    };
}

fn build_encoder<T: EncoderKind>(own: &Table, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
    T::build(&config::parse("encoder", own)?, at)
}

/// Goodness-of-fit statistics: types that implement [`StatisticKind`]. Section `[statistic]`.
pub struct Statistic;

impl Kind for Statistic {
    const WORD: &'static str = "statistic";
    type Build = fn(&Table) -> Result<BoxedStatistic>;
}

impl<T: StatisticKind> Builds<T> for Statistic {
    const BUILD: &'static Self::Build = &(build_statistic::<T> as Self::Build);
}

fn build_statistic<T: StatisticKind>(own: &Table) -> Result<BoxedStatistic> {
    T::build(&config::parse("statistic", own)?)
}

/// Prediction terms: types that implement [`PredictionKind`]. Section `[prediction]`.
pub struct Prediction;

impl Kind for Prediction {
    const WORD: &'static str = "prediction";
    type Build = fn(&Table, &PredictionContext<'_>) -> Result<BoxedPrediction>;
}

impl<T: PredictionKind> Builds<T> for Prediction {
    const BUILD: &'static Self::Build = &(build_prediction::<T> as Self::Build);
}

fn build_prediction<T: PredictionKind>(
    own: &Table,
    at: &PredictionContext<'_>,
) -> Result<BoxedPrediction> {
    T::build(&config::parse("prediction", own)?, at)
}

/// Optimizers: types that implement [`OptimizerKind`]. Section `[optimizer]`.
pub struct Optimizer;

impl Kind for Optimizer {
    const WORD: &'static str = "optimizer";
    type Build = fn(&Table, &OptimizerContext<'_>) -> Result<ModuleOptimizer>;
}

impl<T: OptimizerKind> Builds<T> for Optimizer {
    const BUILD: &'static Self::Build = &(build_optimizer::<T> as Self::Build);
}

fn build_optimizer<T: OptimizerKind>(
    own: &Table,
    at: &OptimizerContext<'_>,
) -> Result<ModuleOptimizer> {
    T::build(&config::parse("optimizer", own)?, at)
}

/// Learning-rate schedules: types that implement [`ScheduleKind`]. Section `[schedule]`.
pub struct Schedule;

impl Kind for Schedule {
    const WORD: &'static str = "schedule";
    type Build = fn(&Table) -> Result<Box<dyn optimizer::Schedule>>;
}

impl<T: ScheduleKind> Builds<T> for Schedule {
    const BUILD: &'static Self::Build = &(build_schedule::<T> as Self::Build);
}

fn build_schedule<T: ScheduleKind>(own: &Table) -> Result<Box<dyn optimizer::Schedule>> {
    T::build(&config::parse("schedule", own)?)
}

/// [`EnvironmentKind`]: worlds to plan in. An entry builds from its section and that of its
/// modality, which says how views are made.
pub struct Environment;

impl Kind for Environment {
    const WORD: &'static str = "environment";
    type Build = fn(&Table, &Table) -> Result<Box<dyn EnvironmentTrait>>;
}

impl<T: EnvironmentKind> Builds<T> for Environment {
    const SCOPE: Option<&'static str> = Some(T::Modality::NAME);
    const BUILD: &'static Self::Build = &(build_environment::<T> as Self::Build);
}

fn build_environment<T: EnvironmentKind>(
    own: &Table,
    modality: &Table,
) -> Result<Box<dyn EnvironmentTrait>> {
    let modality = config::parse(T::Modality::NAME, modality)?;
    T::build(&config::parse("environment", own)?, &modality)
}
