//! Accelerometer: time series of several channels, such as those of an accelerometer or an EEG.
//!
//! A sample is a table of numbers, a row a moment and a column a channel, read from CSV files. Views
//! are stretches of it, with noise and gain, which the encoder learns to ignore.

mod demo;
mod encoder;
mod series;

use lejepa_core::{
    Dataset, Error, FileDataset, Modality, Result, Source, Table, View, ViewRng, ViewSampler,
    ViewSpec, Views, config, register_modality,
};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

pub use encoder::{Conv, ConvConfig};
pub use series::Series;

/// The modality: an empty type that ties the parts together.
pub struct Accelerometer;

/// The `[accelerometer]` section of the configuration. Every field is a key with a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccelerometerConfig {
    /// Channels of every sample, at least 1.
    pub channels: usize,
    /// Moments in a global view, at least 8.
    pub window: usize,
    /// Moments in a local view, 8 to `window`.
    pub local_window: usize,
    /// Global views of a sample, at least 1.
    pub globals: usize,
    /// Local views of a sample.
    pub locals: usize,
    /// Gains are drawn from 1 - gain to 1 + gain: 0 to 1.
    pub gain: f64,
    /// Standard deviation of the noise that is added, at least 0.
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

impl Modality for Accelerometer {
    const NAME: &'static str = "accelerometer";
    const ABOUT: &'static str = "time series of several channels";
    const EXTENSIONS: &'static [&'static str] = &["csv"];
    type Config = AccelerometerConfig;
    type Sample = Series;

    fn open(
        config: &AccelerometerConfig,
        source: Source,
    ) -> Result<Box<dyn Dataset<Item = Series>>> {
        let (channels, window) = (config.channels, config.window);
        Ok(match source {
            Source::Demo => Box::new(demo::Demo::new(channels)),
            // The loader names, counts and replaces files for which this is an error.
            Source::Files(listing) => Box::new(FileDataset::new(
                listing,
                |series: &Series| 4 * series.values.len(),
                move |path, _| series::read(path, channels, window),
            )),
        })
    }

    fn sampler(config: &AccelerometerConfig) -> Result<Box<dyn ViewSampler<Sample = Series>>> {
        let bad = |key: &str, reason: &str| {
            Err(Error::bad_value(format!("{}.{key}", Accelerometer::NAME), reason))
        };
        match config {
            c if c.channels == 0 => bad("channels", "must be at least 1"),
            c if c.window < 8 => bad("window", "must be at least 8"),
            c if !(8..=c.window).contains(&c.local_window) => {
                bad("local_window", "must lie between 8 and the window")
            }
            c if !(0.0..=1.0).contains(&c.gain) => bad("gain", "must lie in 0..=1"),
            c if !(c.noise >= 0.0 && c.noise.is_finite()) => bad("noise", "must be at least 0"),
            c => Ok(Box::new(Stretches(c.clone()))),
        }
    }

    /// What `lejepa config show` says of each key: the words above.
    fn docs() -> config::Docs {
        config::field_docs(include_str!("lib.rs"), "AccelerometerConfig")
    }

    /// Settings of other sections that suit this kind of data.
    fn recipe(_demo: bool) -> Table {
        config::recipe(
            "
            [train]
            epochs = 30
            [encoder]
            name = \"accelerometer-conv\"
            ",
        )
    }
}

// The one line that makes `lejepa train --modality accelerometer` work.
register_modality!(Accelerometer);

/// Makes views: stretches at random places.
struct Stretches(AccelerometerConfig);

impl Stretches {
    fn cut(&self, series: &Series, start: usize, length: usize) -> View2 {
        (0..series.channels)
            .map(|channel| {
                (start..start + length).map(|t| series.values[t * series.channels + channel]).collect()
            })
            .collect()
    }

    fn random(&self, series: &Series, length: usize, rng: &mut ViewRng) -> Result<View> {
        let start = rng.random_range(0..=series.len() - length);
        let mut rows = self.cut(series, start, length);
        for row in &mut rows {
            let gain = 1.0 + self.0.gain as f32 * rng.random_range(-1.0f32..=1.0);
            for x in row {
                let noise: f32 = StandardNormal.sample(rng);
                *x = *x * gain + self.0.noise as f32 * noise;
            }
        }
        view(rows)
    }
}

/// Channel by channel.
type View2 = Vec<Vec<f32>>;

fn view(rows: View2) -> Result<View> {
    let shape = [rows.len(), rows.first().map_or(0, Vec::len)];
    View::new(shape, rows.concat())
}

impl ViewSampler for Stretches {
    type Sample = Series;

    fn spec(&self) -> ViewSpec {
        let c = &self.0;
        ViewSpec {
            globals: c.globals,
            locals: c.locals,
            global: vec![c.channels, c.window],
            local: vec![c.channels, c.local_window],
        }
    }

    fn views(&self, series: &Series, rng: &mut ViewRng) -> Result<Views> {
        let c = &self.0;
        let mut some = |count: usize, length: usize| -> Result<Vec<View>> {
            (0..count).map(|_| self.random(series, length, rng)).collect()
        };
        Ok(Views { globals: some(c.globals, c.window)?, locals: some(c.locals, c.local_window)? })
    }

    fn eval_view(&self, series: &Series) -> Result<View> {
        let start = (series.len() - self.0.window) / 2;
        view(self.cut(series, start, self.0.window))
    }
}
