//! Accelerometer: multichannel time series, e.g. of an accelerometer or an EEG.
//!
//! A sample is read from a CSV file with one row per time step and one column per channel. Views are random
//! crops with random gain and noise, to which the encoder becomes invariant.

mod demo;
mod encoder;
mod series;

use lejepa_core::config::{self, check};
use lejepa_core::{
    BlobDataset, Component, Dataset, Error, Modality, Result, Source, SourceKind, Table, View,
    ViewRng, ViewSampler, ViewSpec, Views, kind, register,
};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

pub use encoder::{Conv, ConvConfig};
pub use series::Series;

/// The modality.
pub struct Accelerometer;

// Makes `--modality accelerometer` and `--encoder accelerometer-conv` work.
register!(kind::Modality: Accelerometer, kind::Encoder: Conv);

/// The section `[accelerometer]` of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccelerometerConfig {
    /// Channels of every sample, 1 to 1024.
    pub channels: usize,
    /// Time steps in a global view, 8 to 65536.
    pub window: usize,
    /// Time steps in a local view, 8 to `window`.
    pub local_window: usize,
    /// Global views per sample, 1 to 16.
    pub globals: usize,
    /// Local views per sample, 0 to 32.
    pub locals: usize,
    /// Gains are drawn from 1 - gain to 1 + gain, 0 to 1.
    pub gain: f64,
    /// Standard deviation of the added noise, 0 to 10.
    pub noise: f64,
}

impl Default for AccelerometerConfig {
    fn default() -> Self {
        Self {
            channels: 3,
            window: 96,
            local_window: 48,
            globals: 2,
            locals: 4,
            gain: 0.2,
            noise: 0.05,
        }
    }
}

impl Component for Accelerometer {
    const NAME: &'static str = "accelerometer";
    const ABOUT: &'static str = "multichannel time series";
    type Config = AccelerometerConfig;

    /// The doc comments above, for `lejepa config show`.
    fn docs() -> config::Docs {
        config::field_docs(include_str!("lib.rs"), "AccelerometerConfig")
    }
}

impl Modality for Accelerometer {
    const EXTENSIONS: &'static [&'static str] = &["csv"];
    type Sample = Series;

    fn open(
        config: &AccelerometerConfig,
        source: Source,
    ) -> Result<Box<dyn Dataset<Item = Series>>> {
        let (channels, window) = (config.channels, config.window);
        Ok(match source {
            Source::Demo => Box::new(demo::Demo::new(channels)),
            Source::Blobs(store) => Box::new(BlobDataset::new(store, move |blob, _| {
                series::read(blob, channels, window)
            })),
            other => {
                let reason = format!("{other:?} is not supported");
                return Err(Error::Data { reason, hint: "use the demo or CSV files".into() });
            }
        })
    }

    fn sampler(config: &AccelerometerConfig) -> Result<Box<dyn ViewSampler<Sample = Series>>> {
        check::within("accelerometer.channels", config.channels, 1..=1024)?;
        check::within("accelerometer.window", config.window, 8..=65536)?;
        check::within("accelerometer.local_window", config.local_window, 8..=config.window)?;
        check::within("accelerometer.globals", config.globals, 1..=16)?;
        check::within("accelerometer.locals", config.locals, 0..=32)?;
        check::within("accelerometer.gain", config.gain, 0.0..=1.0)?;
        check::within("accelerometer.noise", config.noise, 0.0..=10.0)?;
        Ok(Box::new(Crops(config.clone())))
    }

    /// Settings of other sections that suit this modality.
    fn recipe(_: SourceKind) -> Table {
        config::recipe("train.epochs = 30\nencoder.name = 'accelerometer-conv'")
    }
}

/// Random crops in time.
struct Crops(AccelerometerConfig);

impl Crops {
    fn random(&self, series: &Series, length: usize, rng: &mut ViewRng) -> Result<View> {
        let start = rng.random_range(0..=series.steps() - length);
        let mut values = Vec::with_capacity(series.channels().len() * length);
        for channel in series.channels() {
            let gain = 1.0 + self.0.gain as f32 * rng.random_range(-1.0f32..=1.0);
            for x in &channel[start..start + length] {
                let noise: f32 = StandardNormal.sample(rng);
                values.push(gain * x + self.0.noise as f32 * noise);
            }
        }
        View::new([series.channels().len(), length], values)
    }
}

impl ViewSampler for Crops {
    type Sample = Series;

    fn spec(&self) -> ViewSpec {
        let c = &self.0;
        let shape = |length| [c.channels, length];
        ViewSpec::multi_crop(c.globals, shape(c.window), c.locals, shape(c.local_window))
    }

    fn views(&self, series: &Series, rng: &mut ViewRng) -> Result<Views> {
        let c = &self.0;
        let mut crops = |count: usize, length: usize| -> Result<Vec<View>> {
            (0..count).map(|_| self.random(series, length, rng)).collect()
        };
        Ok(Views::multi_crop(crops(c.globals, c.window)?, crops(c.locals, c.local_window)?))
    }

    fn eval_view(&self, series: &Series) -> Result<View> {
        let length = self.0.window;
        let start = (series.steps() - length) / 2;
        let crop = |channel: &Vec<f32>| channel[start..start + length].to_vec();
        View::new([self.0.channels, length], series.channels().iter().flat_map(crop).collect())
    }
}
