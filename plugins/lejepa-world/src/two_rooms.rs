//! Two rooms with a wall between them and a door in it; an agent moves in them.

use lejepa_core::{
    Component, Environment, EnvironmentKind, Error, NoConfig, Result, Task, View, ViewRng,
};
use lejepa_image::Picture;
use rand::RngExt;

use crate::WorldModality;
use crate::config::WorldConfig;
use crate::episode::{squeezed, view};

/// Side of a frame in pixels.
pub(crate) const SIDE: usize = 32;
const GROUND: [f32; 3] = [0.93, 0.93, 0.90];
const WALL: [f32; 3] = [0.25, 0.25, 0.30];
const AGENT: [f32; 3] = [0.90, 0.25, 0.20];
/// Half of the wall's thickness and of the door's height, and the agent's radius, of a unit square.
const WALL_HALF: f32 = 0.03;
const DOOR_HALF: f32 = 0.12;
const RADIUS: f32 = 0.04;
/// What the agent moves by an action of 1.
const SPEED: f32 = 0.08;
/// Half of the band around the wall that the agent's centre cannot enter but through the door.
const BAND: f32 = WALL_HALF + RADIUS;
const GAP: f32 = DOOR_HALF - RADIUS;
/// A goal that is as near counts as reached.
const REACHED: f32 = 0.08;

/// The unit square, `y` downwards, with a wall at x = 0.5 that has a door at y = 0.5. An action of two numbers from −1 to
/// 1 moves the agent along both axes; walls stop it.
///
/// ```
/// use lejepa_world::TwoRooms;
///
/// let mut world = TwoRooms { x: 0.3, y: 0.2 };
/// (0..10).for_each(|_| world.act([1.0, 0.0]));
/// // The wall.
/// assert!(world.x < 0.44);
/// (0..4).for_each(|_| world.act([0.0, 1.0]));
/// (0..10).for_each(|_| world.act([1.0, 0.0]));
/// // Through the door.
/// assert!(world.x > 0.9);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TwoRooms {
    /// The agent's place, from 0 to 1.
    pub x: f32,
    /// The same downwards.
    pub y: f32,
}

impl TwoRooms {
    /// A random place that is not in the wall or near to it.
    pub fn random(rng: &mut ViewRng) -> Self {
        loop {
            let place = || rng.random_range(RADIUS..1.0 - RADIUS);
            let [x, y] = std::array::from_fn({
                let mut place = place;
                move |_| place()
            });
            if (x - 0.5).abs() >= 0.09 {
                return Self { x, y };
            }
        }
    }

    /// Moves the agent.
    pub fn act(&mut self, action: [f32; 2]) {
        let [dx, dy] = action.map(|a| SPEED * a.clamp(-1.0, 1.0));
        let (from, to) = (self.x, (self.x + dx).clamp(RADIUS, 1.0 - RADIUS));
        let is_stopped = (to - 0.5).abs() < BAND && (self.y - 0.5).abs() >= GAP;
        self.x = match is_stopped {
            true if from < 0.5 => 0.5 - BAND,
            true => 0.5 + BAND,
            false => to,
        };
        self.y = (self.y + dy).clamp(RADIUS, 1.0 - RADIUS);
        // Whoever is stopped touches the band, which rounding may call within it.
        if !is_stopped && (self.x - 0.5).abs() < BAND {
            self.y = self.y.clamp(0.5 - GAP, 0.5 + GAP);
        }
    }

    /// The distance to another place, as the crow flies.
    pub fn distance(&self, other: &Self) -> f32 {
        (self.x - other.x).hypot(self.y - other.y)
    }

    /// A good action towards a goal: through the door where that lies in the other room.
    pub fn towards(&self, goal: &Self) -> [f32; 2] {
        let is_other_side = (self.x < 0.5) != (goal.x < 0.5);
        let is_in_door = (self.x - 0.5).abs() < BAND;
        let target = match (is_other_side || is_in_door, (self.y - 0.5).abs() < 0.8 * GAP) {
            (false, _) => *goal,
            // Before the door, then through it.
            (true, false) => Self { x: if self.x < 0.5 { 0.4 } else { 0.6 }, y: 0.5 },
            (true, true) => Self { x: if goal.x < 0.5 { 0.4 } else { 0.6 }, y: 0.5 },
        };
        [target.x - self.x, target.y - self.y].map(|d| (d / SPEED).clamp(-1.0, 1.0))
    }

    /// Three planes of 32 × 32 pixels, with edges that are smooth over a pixel.
    pub fn frame(&self) -> Vec<u8> {
        let pixel = 1.0 / SIDE as f32;
        // From 0 to 1 within half a pixel on each side of an edge.
        let inside = |depth: f32| {
            let t = (depth / pixel + 0.5).clamp(0.0, 1.0);
            t * t * (3.0 - 2.0 * t)
        };
        let mut planes = vec![0; 3 * SIDE * SIDE];
        for row in 0..SIDE {
            for column in 0..SIDE {
                let [x, y] = [column, row].map(|at| (at as f32 + 0.5) * pixel);
                let wall =
                    inside(WALL_HALF - (x - 0.5).abs()) * inside((y - 0.5).abs() - DOOR_HALF);
                let agent = inside(RADIUS - (x - self.x).hypot(y - self.y));
                for channel in 0..3 {
                    let behind = GROUND[channel] + wall * (WALL[channel] - GROUND[channel]);
                    let value = behind + agent * (AGENT[channel] - behind);
                    planes[(channel * SIDE + row) * SIDE + column] = (255.0 * value).round() as u8;
                }
            }
        }
        planes
    }
}

/// [`TwoRooms`] to plan in: from a place to a goal that is 0.2 to 0.6 away, in either room, in 40 actions.
#[derive(Debug, Clone)]
pub struct RoomsWorld {
    now: TwoRooms,
    goal: TwoRooms,
    config: WorldConfig,
}

impl RoomsWorld {
    fn view(&self, place: &TwoRooms) -> Result<View> {
        let WorldConfig { size, channels, mean, std, .. } = self.config;
        let planes = place.frame();
        let cells = SIDE * SIDE;
        let pixels = (0..3 * cells).map(|i| planes[i % 3 * cells + i / 3]).collect();
        let shown = Picture::new(SIDE, SIDE, 3, pixels).ok_or("no frame".to_string());
        let shown = shown.and_then(|picture| squeezed(&picture, &self.config));
        view([channels, size, size], &shown.map_err(|e| Error::sample("", e))?, mean, std)
    }
}

impl Component for RoomsWorld {
    const NAME: &'static str = "two_rooms";
    const ABOUT: &'static str = "two rooms with a door between them: the built-in data of `world`";
    type Config = NoConfig;
}

impl EnvironmentKind for RoomsWorld {
    type Modality = WorldModality;

    fn build(_: &NoConfig, modality: &WorldConfig) -> Result<Box<dyn Environment>> {
        modality.validate()?;
        let place = TwoRooms { x: 0.25, y: 0.5 };
        Ok(Box::new(Self { now: place, goal: place, config: modality.clone() }))
    }
}

impl Environment for RoomsWorld {
    fn actions(&self) -> usize {
        2
    }

    fn limit(&self) -> usize {
        40
    }

    fn reset(&mut self, rng: &mut ViewRng) -> Result<Task> {
        self.now = TwoRooms::random(rng);
        self.goal = loop {
            let goal = TwoRooms::random(rng);
            if (0.2..=0.6).contains(&goal.distance(&self.now)) {
                break goal;
            }
        };
        Ok(Task { now: self.view(&self.now)?, goal: self.view(&self.goal)? })
    }

    fn step(&mut self, action: &[f32]) -> Result<View> {
        let number = |at: usize| action.get(at).copied().unwrap_or(0.0);
        self.now.act([number(0), number(1)]);
        self.view(&self.now)
    }

    fn is_reached(&self) -> bool {
        self.now.distance(&self.goal) < REACHED
    }

    fn distance(&self) -> f64 {
        self.now.distance(&self.goal).into()
    }

    fn expert(&self) -> Option<Vec<f32>> {
        Some(self.now.towards(&self.goal).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lejepa_core::{Purpose, Seed};

    #[test]
    fn the_expert_reaches_every_goal_and_nothing_passes_the_wall() {
        let place = TwoRooms { x: 0.0, y: 0.0 };
        let mut world = RoomsWorld { now: place, goal: place, config: WorldConfig::default() };
        for episode in 0..300 {
            let mut rng = Seed(1).rng(Purpose::Demo, &[episode]);
            world.reset(&mut rng).unwrap();
            let mut left = world.limit();
            while !world.is_reached() && left > 0 {
                // At times into whatever is there.
                let before = world.now;
                let straight = [1.0 - 2.0 * (episode % 2) as f32, 0.3];
                let action = match left > 30 && episode.is_multiple_of(3) {
                    true => straight.to_vec(),
                    false => world.expert().unwrap(),
                };
                world.step(&action).unwrap();
                let TwoRooms { x, y } = world.now;
                // No jump to the door.
                assert!((y - before.y).abs() <= SPEED + 1e-6, "{before:?} {x} {y}");
                assert!((x - 0.5).abs() >= BAND - 1e-6 || (y - 0.5).abs() <= GAP + 1e-6, "{x} {y}");
                left -= 1;
            }
            assert!(world.is_reached(), "episode {episode}: {:?} {:?}", world.now, world.goal);
        }
    }

    #[test]
    fn views_are_as_those_of_training() {
        let modality =
            WorldConfig { mean: 0.9, std: 0.1, size: 16, channels: 1, ..WorldConfig::default() };
        let mut world = RoomsWorld::build(&NoConfig {}, &modality).unwrap();
        let task = world.reset(&mut Seed(1).rng(Purpose::Demo, &[0])).unwrap();
        assert_eq!(task.now.shape(), [1, 16, 16]);
        let luma = 0.299 * GROUND[0] + 0.587 * GROUND[1] + 0.114 * GROUND[2];
        let data = task.now.data();
        let close = data.iter().filter(|v| (**v - (luma - 0.9) / 0.1).abs() < 0.05).count();
        assert!(close > data.len() / 2, "{close} of {}", data.len());
        // At its own size a frame is what the built-in data have.
        let mut same = RoomsWorld::build(&NoConfig {}, &WorldConfig::default()).unwrap();
        let shown = same.step(&[0.0, 0.0]).unwrap();
        let frame = TwoRooms { x: 0.25, y: 0.5 }.frame();
        assert_eq!(shown, view([3, SIDE, SIDE], &frame, 0.5, 0.25).unwrap());
    }

    #[test]
    fn a_frame_shows_wall_door_and_agent() {
        let frame = TwoRooms { x: 0.25, y: 0.75 }.frame();
        let at = |x: usize, y: usize| [0, 1, 2].map(|c| frame[(c * SIDE + y) * SIDE + x]);
        let bytes = |colour: [f32; 3]| colour.map(|v| (255.0 * v).round() as u8);
        for (found, want) in
            [(at(2, 2), GROUND), (at(16, 2), WALL), (at(16, 16), GROUND), (at(8, 24), AGENT)]
        {
            let near = |(found, want): (&u8, u8)| found.abs_diff(want) < 4;
            assert!(found.iter().zip(bytes(want)).all(near), "{found:?} {want:?}");
        }
    }
}
