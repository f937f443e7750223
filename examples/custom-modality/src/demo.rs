//! Built-in labelled data, so that everything can be tried without files: four kinds of motion as an
//! accelerometer would record them, carried in any orientation.

use lejepa_core::{Dataset, Labels, Purpose, Result, Seed, Window};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::series::Series;

const KINDS: [&str; 4] = ["still", "walking", "running", "shaking"];
const SAMPLES: usize = 480;
const MOMENTS: usize = 160;

pub(crate) struct Demo {
    channels: usize,
    labels: Vec<Labels>,
}

impl Demo {
    pub(crate) fn new(channels: usize) -> Self {
        let words: Vec<_> = (0..SAMPLES).map(|i| Some(KINDS[i % 4].to_string())).collect();
        Self { channels, labels: vec![Labels::from_words("motion", &words)] }
    }
}

impl Dataset for Demo {
    type Item = Series;

    fn len(&self) -> usize {
        SAMPLES
    }

    fn name(&self, index: usize) -> String {
        format!("{}-{index}", KINDS[index % 4])
    }

    /// Generated from its index, so that it is the same every time.
    fn item(&self, index: usize, _: Window<'_>) -> Result<Series> {
        let mut rng = Seed(0).rng(Purpose::Demo, &[index as u64]);
        // Steps a second and strength, at 50 moments a second.
        let (rate, strength) = match index % 4 {
            0 => (0.0, 0.0),
            1 => (rng.random_range(1.6..2.2f32), 0.6),
            2 => (rng.random_range(2.6..3.4), 1.5),
            _ => (rng.random_range(5.0..8.0), 1.0),
        };
        let phase = rng.random_range(0.0..std::f32::consts::TAU);
        // How much of the motion each channel sees: the orientation, which is not to matter.
        let weights: Vec<f32> = (0..self.channels).map(|_| StandardNormal.sample(&mut rng)).collect();
        let mut values = Vec::with_capacity(MOMENTS * self.channels);
        for t in 0..MOMENTS {
            let angle = std::f32::consts::TAU * rate * t as f32 / 50.0 + phase;
            let motion = strength * (angle.sin() + 0.4 * (2.0 * angle).sin());
            for weight in &weights {
                let noise: f32 = StandardNormal.sample(&mut rng);
                values.push(weight * motion + 0.3 * noise);
            }
        }
        Ok(Series { channels: self.channels, values }.standardised())
    }

    fn bytes(&self, item: &Series) -> usize {
        4 * item.values.len()
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }
}
