//! Views: consecutive frames, and their actions as context.

use lejepa_core::{Error, Group, Result, View, ViewRng, ViewSampler, ViewSpec, Views};

use rand::RngExt;

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
        let Some(last) = frames.checked_sub(window) else {
            let reason = format!("has {frames} frames, and world.window is {window}");
            return Err(Error::sample("", reason));
        };
        let latest = moment.frame.min(last);
        let earliest = (moment.frame + 1).saturating_sub(window).min(latest);
        let start = rng.random_range(earliest..=latest);
        let views = (start..start + window).map(|frame| episode.view(frame, mean, std));
        let taken = (start..start + window - 1).filter_map(|frame| episode.action(frame));
        let taken: Vec<f32> = taken.flatten().copied().collect();
        Ok(Views::new(vec![views.collect::<Result<Vec<_>>>()?]).with_context(ACTIONS, taken))
    }

    fn eval_view(&self, moment: &Moment) -> Result<View> {
        moment.episode.view(moment.frame, self.config.mean, self.config.std)
    }
}
