//! Environments: worlds that answer to actions, for planning with a world model.

use crate::component::Component;
use crate::modality::Modality;
use crate::{Result, View, ViewRng};

/// What is to be done: how the world looks, and how it should.
#[derive(Debug, Clone)]
pub struct Task {
    /// The view of the state that an episode begins with.
    pub now: View,
    /// The view of the state that is to be reached.
    pub goal: View,
}

/// A world that can be acted in. Views are as the sampler of its modality makes them by default.
pub trait Environment: Send {
    /// Numbers of an action, each from −1 to 1.
    fn actions(&self) -> usize;

    /// Actions of an episode at most.
    fn limit(&self) -> usize;

    /// Begins an episode.
    ///
    /// # Errors
    /// A view that cannot be made.
    fn reset(&mut self, rng: &mut ViewRng) -> Result<Task>;

    /// Takes an action and gives the view of what came of it.
    ///
    /// # Errors
    /// A view that cannot be made.
    fn step(&mut self, action: &[f32]) -> Result<View>;

    /// Whether the goal is reached.
    fn is_reached(&self) -> bool;

    /// How far from the goal the state is, in a measure of the world's own.
    fn distance(&self) -> f64;

    /// A good action, by what a plan from views cannot see; for comparison.
    fn expert(&self) -> Option<Vec<f32>> {
        None
    }
}

/// Registers an [`Environment`].
pub trait EnvironmentKind: Component {
    /// The modality whose views it gives.
    type Modality: Modality;

    /// Makes one, whose views are as `modality` has them.
    ///
    /// # Errors
    /// Settings that it refuses.
    fn build(
        config: &Self::Config,
        modality: &<Self::Modality as Component>::Config,
    ) -> Result<Box<dyn Environment>>;
}
