//! Built-in labelled data that needs no files: four kinds of motion as an accelerometer records them, in any
//! orientation.

use std::f32::consts::TAU;

use lejepa_core::{Dataset, Decoded, Labels, Purpose, Result, Seed, Window};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::series::Series;

const CLASSES: [&str; 4] = ["still", "walking", "running", "shaking"];

pub(crate) struct Demo {
    channels: usize,
    labels: [Labels; 1],
}

impl Demo {
    pub(crate) fn new(channels: usize) -> Self {
        let classes: Vec<_> = (0..480).map(|i| Some(CLASSES[i % 4].to_string())).collect();
        Self { channels, labels: [Labels::from_words("motion", &classes)] }
    }
}

impl Dataset for Demo {
    type Item = Series;

    fn len(&self) -> usize {
        self.labels[0].len()
    }

    fn name(&self, index: usize) -> String {
        format!("{}-{index}", CLASSES[index % 4])
    }

    /// Generated from the index, so that it is always the same.
    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Series>> {
        let mut rng = Seed(0).rng(Purpose::Demo, &[index as u64]);
        // Frequency in Hz and amplitude.
        let (rate, amplitude) = match index % 4 {
            0 => (0.0, 0.0),
            1 => (rng.random_range(1.6..2.2f32), 0.6),
            2 => (rng.random_range(2.6..3.4), 1.5),
            _ => (rng.random_range(5.0..8.0), 1.0),
        };
        let phase = rng.random_range(0.0..TAU);
        // 160 time steps at 50 Hz.
        let motion = (0..160).map(|t| {
            let angle = TAU * rate * t as f32 / 50.0 + phase;
            amplitude * (angle.sin() + 0.4 * (2.0 * angle).sin())
        });
        let channel = |_| {
            // The orientation of the sensor, to which the encoder should be invariant.
            let weight: f32 = StandardNormal.sample(&mut rng);
            let noisy = |x: f32| {
                let noise: f32 = StandardNormal.sample(&mut rng);
                weight * x + 0.3 * noise
            };
            motion.clone().map(noisy).collect()
        };
        Ok(Series::new((0..self.channels).map(channel).collect()).decoded())
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }
}
