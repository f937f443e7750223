//! What suits the episodes.

use lejepa_core::{Advice, Survey};

use crate::LAMBDA;
use crate::config::WorldConfig;
use crate::episode::Moment;

/// Samples that are looked at.
const LOOK: usize = 256;

/// Frames that are nearly flat are not blown up further.
const LEAST_STD: f64 = 0.02;

/// Numbers of an action, frames of a sample and channels, as the episodes have them.
pub(crate) fn advise(config: &WorldConfig, survey: &Survey<'_, Moment>) -> Advice {
    let mut advice = Advice::default();
    let moments: Vec<Moment> = survey.samples(LOOK).collect();
    let Some(first) = moments.first() else { return advice };
    let width = first.episode.width();
    advice.set("world.actions", width as i64, format!("actions are {width} numbers"));
    let shortest = moments.iter().map(|moment| moment.episode.frames()).min().unwrap_or_default();
    if (2..config.window).contains(&shortest) {
        let reason = format!("the shortest episode has {shortest} frames");
        advice.set("world.window", shortest as i64, reason);
    }
    if config.channels == 3 && moments.iter().all(|moment| moment.episode.is_grey(moment.frame)) {
        advice.set("world.channels", 1, "all frames are grey");
    }
    let frames = moments.iter().flat_map(|moment| moment.episode.pixels(moment.frame));
    let (mean, std) = mean_and_std(frames.map(|&v| f64::from(v) / 255.0));
    let rounded = |v: f64| (1e3 * v).round() / 1e3;
    advice.set("world.mean", rounded(mean), "mean of the pixels");
    advice.set("world.std", rounded(std.max(LEAST_STD)), "their standard deviation");
    advice.set("objective.lambda", LAMBDA, "what moves in a world fills few of the dimensions");
    advice
}

fn mean_and_std(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        sum += value;
        squares += value * value;
    }
    let mean = sum / f64::max(count, 1.0);
    (mean, (squares / f64::max(count, 1.0) - mean * mean).max(0.0).sqrt())
}
