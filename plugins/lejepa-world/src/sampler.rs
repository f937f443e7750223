//! Views: consecutive frames, and their actions as context.

use lejepa_core::{Error, Group, Result, View, ViewRng, ViewSampler, ViewSpec, Views};

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::config::WorldConfig;
use crate::episode::Moment;

/// Name of the group of frames and of the context.
const FRAMES: &str = "frames";
const ACTIONS: &str = "actions";

pub(crate) struct WorldSampler {
    config: WorldConfig,
}

impl WorldSampler {
    pub(crate) fn new(config: &WorldConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config: config.clone() })
    }
}

impl WorldSampler {
    /// Rows and columns.
    fn shift(&self, rng: &mut ViewRng) -> [isize; 2] {
        match self.config.shift {
            0 => [0, 0],
            most => {
                std::array::from_fn(|_| rng.random_range(0..=2 * most) as isize - most as isize)
            }
        }
    }
}

/// A view whose pixels are those `by` rows and columns further up and left, with noise.
fn changed(view: &View, by: [isize; 2], noise: f32, rng: &mut ViewRng) -> Result<View> {
    let &[channels, height, width] = view.shape() else { return Ok(view.clone()) };
    let within = |at: usize, by: isize, size: usize| at.saturating_add_signed(-by).min(size - 1);
    let mut data = Vec::with_capacity(channels * height * width);
    for plane in view.data().chunks_exact(height * width) {
        for row in 0..height {
            let from = width * within(row, by[0], height);
            data.extend((0..width).map(|column| plane[from + within(column, by[1], width)]));
        }
    }
    if noise > 0.0 {
        for value in &mut data {
            let drawn: f32 = StandardNormal.sample(rng);
            *value += noise * drawn;
        }
    }
    View::new([channels, height, width], data)
}

impl ViewSampler for WorldSampler {
    type Sample = Moment;

    fn spec(&self) -> ViewSpec {
        let WorldConfig { window, actions, size, channels, .. } = self.config;
        let frames = Group::new(FRAMES, window, [channels, size, size]).target();
        ViewSpec::new([frames]).with_context(ACTIONS, (window - 1) * actions)
    }

    /// Any of the windows that the frame is in.
    fn views(&self, moment: &Moment, rng: &mut ViewRng) -> Result<Views> {
        let WorldConfig { window, mean, std, .. } = self.config;
        let (episode, frames) = (&moment.episode, moment.episode.frames());
        let (width, actions) = (episode.width(), self.config.actions);
        if width != actions {
            let reason = format!("has actions of {width} numbers, and world.actions is {actions}");
            return Err(Error::sample("", reason));
        }
        let Some(last) = frames.checked_sub(window) else {
            let reason = format!("has {frames} frames, and world.window is {window}");
            return Err(Error::sample("", reason));
        };
        let latest = moment.frame.min(last);
        let earliest = (moment.frame + 1).saturating_sub(window).min(latest);
        let start = rng.random_range(earliest..=latest);
        let by = self.shift(rng);
        let noise = self.config.noise / std;
        let views = (start..start + window).map(|frame| {
            let view = episode.view(frame, mean, std)?;
            match (by, noise > 0.0) {
                ([0, 0], false) => Ok(view),
                _ => changed(&view, by, noise, rng),
            }
        });
        let taken = (start..start + window - 1).filter_map(|frame| episode.action(frame));
        let taken: Vec<f32> = taken.flatten().copied().collect();
        Ok(Views::new(vec![views.collect::<Result<Vec<_>>>()?]).with_context(ACTIONS, taken))
    }

    fn eval_view(&self, moment: &Moment) -> Result<View> {
        moment.episode.view(moment.frame, self.config.mean, self.config.std)
    }
}

#[cfg(test)]
mod tests {
    use lejepa_core::{Purpose, Seed};

    use super::*;

    #[test]
    fn shifts_continue_the_edge_and_noise_has_its_deviation() {
        let mut rng = Seed(0).rng(Purpose::Views, &[]);
        let ramp = View::new([1, 3, 3], (0..9).map(|v| v as f32).collect()).unwrap();
        let down = changed(&ramp, [1, 0], 0.0, &mut rng).unwrap();
        assert_eq!(down.data()[..], [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let left = changed(&ramp, [0, -2], 0.0, &mut rng).unwrap();
        assert_eq!(left.data()[..], [2.0, 2.0, 2.0, 5.0, 5.0, 5.0, 8.0, 8.0, 8.0]);
        let flat = View::new([1, 50, 50], vec![0.0; 2500]).unwrap();
        let noisy = changed(&flat, [0, 0], 0.5, &mut rng).unwrap();
        let power = noisy.data().iter().map(|v| v * v).sum::<f32>() / 2500.0;
        assert!((power.sqrt() - 0.5).abs() < 0.03, "{power}");
    }
}
