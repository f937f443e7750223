//! Built-in data: episodes in [`TwoRooms`] of an agent that wanders, half of the time through the door at first.

use std::sync::{Arc, OnceLock};

use lejepa_core::{Dataset, Decoded, Error, Labels, Purpose, Result, Seed, Split, ViewRng, Window};
use rand_distr::{Distribution, StandardNormal};

use crate::episode::{Episode, Moment};
use crate::two_rooms::{SIDE, TwoRooms};

/// Episodes to train on, held out, and frames of each.
const TRAIN: usize = 400;
const TEST: usize = 40;
const FRAMES: usize = 24;
/// The actions of a wandering agent are an autoregressive process of this memory and scale.
const MEMORY: f32 = 0.8;
const SCALE: f32 = 0.9;

/// Frames of all episodes, one after the other.
pub(crate) struct Demo {
    episodes: Vec<OnceLock<Arc<Episode>>>,
    labels: [Labels; 2],
}

/// Places and actions of an episode.
fn wander(episode: usize) -> (Vec<TwoRooms>, Vec<f32>) {
    let mut rng = Seed(0).rng(Purpose::Demo, &[episode as u64]);
    let mut now = TwoRooms::random(&mut rng);
    let mut across = episode.is_multiple_of(2).then(|| other_room(&now, &mut rng));
    let (mut places, mut actions, mut drift) = (vec![now], Vec::new(), [0f32; 2]);
    for _ in 1..FRAMES {
        let noise: [f32; 2] = std::array::from_fn(|_| StandardNormal.sample(&mut rng));
        for (drift, noise) in drift.iter_mut().zip(noise) {
            *drift = MEMORY * *drift + SCALE * (1.0 - MEMORY * MEMORY).sqrt() * noise;
        }
        let mut action = drift;
        if let Some(goal) = across {
            let towards = now.towards(&goal);
            for (action, towards) in action.iter_mut().zip(towards) {
                *action = 0.8 * towards + 0.3 * *action;
            }
            if (now.x < 0.5) == (goal.x < 0.5) {
                across = None;
            }
        }
        let action = action.map(|a| a.clamp(-1.0, 1.0));
        now.act(action);
        places.push(now);
        actions.extend(action);
    }
    (places, actions)
}

fn other_room(now: &TwoRooms, rng: &mut ViewRng) -> TwoRooms {
    loop {
        let goal = TwoRooms::random(rng);
        if (goal.x < 0.5) != (now.x < 0.5) {
            return goal;
        }
    }
}

impl Demo {
    pub(crate) fn new() -> Self {
        let places: Vec<TwoRooms> = (0..TRAIN + TEST).flat_map(|e| wander(e).0).collect();
        let column = |name: &str, of: fn(&TwoRooms) -> f32| {
            Labels::numbers(name, places.iter().map(|place| Some(of(place).into())).collect())
        };
        Self {
            episodes: (0..TRAIN + TEST).map(|_| OnceLock::new()).collect(),
            labels: [column("x", |place| place.x), column("y", |place| place.y)],
        }
    }
}

impl Dataset for Demo {
    type Item = Moment;

    fn len(&self) -> usize {
        FRAMES * self.episodes.len()
    }

    fn name(&self, index: usize) -> String {
        format!("two-rooms-{}#{}", index / FRAMES, index % FRAMES)
    }

    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Moment>> {
        let (episode, frame) = (index / FRAMES, index % FRAMES);
        let no_item = || Error::sample(format!("#{index}"), "no such item");
        let slot = self.episodes.get(episode).ok_or_else(no_item)?;
        let made = match slot.get() {
            Some(made) => made,
            None => {
                let (places, actions) = wander(episode);
                let frames = places.iter().map(TwoRooms::frame).collect();
                let made = Arc::new(Episode::new([3, SIDE, SIDE], frames, actions, 2)?);
                slot.get_or_init(|| made)
            }
        };
        // The episodes are kept here anyway.
        Ok(Decoded::whole(Moment { episode: made.clone(), frame }, 0))
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn split(&self, index: usize) -> Option<Split> {
        Some(if index / FRAMES < TRAIN { Split::Train } else { Split::Test })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_episodes_go_through_the_door() {
        let demo = Demo::new();
        let crosses = |episode: usize| {
            let x = |frame: usize| demo.labels[0].number(episode * FRAMES + frame).unwrap() < 0.5;
            (1..FRAMES).any(|frame| x(frame) != x(0))
        };
        let across = (0..TRAIN).filter(|&episode| crosses(episode)).count();
        assert!((TRAIN * 45 / 100..TRAIN * 80 / 100).contains(&across), "{across} of {TRAIN}");
        let moment = demo.item(FRAMES + 3, Window::Centre).unwrap().item;
        assert_eq!((moment.frame, moment.episode.frames()), (3, FRAMES));
        assert!(moment.episode.action(FRAMES - 2).is_some());
        assert!(moment.episode.action(FRAMES - 1).is_none());
    }
}
