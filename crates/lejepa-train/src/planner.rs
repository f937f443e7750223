//! Planning with a world model: actions whose imagined end is nearest to a goal.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use lejepa_core::{Environment, Error, Purpose, Seed, View, ViewRng};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::Result;
use crate::model::{self, Model};
use crate::probe::wilson;
use crate::resolved::Resolved;

/// Settings of [`Planner`]: the cross-entropy method (Rubinstein 1999).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannerConfig {
    /// Actions that are imagined, at least 1.
    pub horizon: usize,
    /// Sequences of actions that are drawn in a round, at least 2.
    pub samples: usize,
    /// Rounds, at least 1.
    pub rounds: usize,
    /// The best sequences, from which those of the next round are drawn; 1 to `samples`.
    pub elites: usize,
}

impl Default for PlannerConfig {
    fn default() -> Self {
        Self { horizon: 10, samples: 300, rounds: 10, elites: 30 }
    }
}

impl PlannerConfig {
    /// Another number of imagined actions.
    #[must_use]
    pub fn horizon(mut self, horizon: usize) -> Self {
        self.horizon = horizon.max(1);
        self
    }

    /// Another number of sequences, of which a tenth are elites.
    #[must_use]
    pub fn samples(mut self, samples: usize) -> Self {
        self.samples = samples.max(2);
        self.elites = (self.samples / 10).max(1);
        self
    }

    /// Another number of rounds.
    #[must_use]
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds.max(1);
        self
    }
}

/// Plans with the states and the prediction of a trained model.
pub struct Planner {
    model: Model,
    resolved: Resolved,
    device: Device,
    config: PlannerConfig,
    actions: usize,
}

/// Deviation of actions in the first round, and the least one of all rounds.
const FIRST_DEVIATION: f32 = 1.0;
const LEAST_DEVIATION: f32 = 0.05;

impl Planner {
    /// A planner of actions of `actions` numbers, each from −1 to 1.
    ///
    /// # Errors
    /// [`TrainError::Core`](crate::TrainError::Core) where the prediction term does not tell what follows from a state
    /// and such actions.
    pub fn new(
        model: &Model,
        resolved: &Resolved,
        actions: usize,
        config: PlannerConfig,
        device: &Device,
    ) -> Result<Self> {
        let device = device.clone().without_autodiff();
        let model = model.valid();
        let planner = Self { model, resolved: resolved.clone(), device, config, actions };
        let dim = resolved.settings().projector.output;
        let state = Tensor::zeros([1, dim], &planner.device);
        let action = Tensor::zeros([1, 1, actions], &planner.device);
        match planner.model.prediction.roll(state, action) {
            Some(_) => Ok(planner),
            None => {
                let reason = format!(
                    "does not say what follows from a state and {actions} numbers of an action"
                );
                Err(Error::bad_value("prediction.name", reason).into())
            }
        }
    }

    /// The states that views show, `[views, dim]`: their projections.
    ///
    /// # Errors
    /// Views of another shape; a device that fails.
    pub fn states(&self, views: &[View]) -> Result<Tensor<2>> {
        let spec = self.resolved.spec();
        for view in views {
            spec.check_eval(spec.streams().first().copied().unwrap_or_default(), view)?;
        }
        let views: Vec<&View> = views.iter().collect();
        let embedded = model::embed(&self.model.encoders, &[views], &self.device)?;
        let projected = self.model.project(spec, vec![embedded.unsqueeze::<3>()]);
        let [_, n, dim] = projected.dims();
        Ok(projected.reshape([n, dim]))
    }

    /// The next action for each state `[n, dim]` towards its goal `[n, dim]`. `plans` are those of the action before, one
    /// for each state, with which the search begins; they are empty at first.
    ///
    /// Of `samples` sequences of actions the `elites` whose imagined states are nearest to the goal, by squared distance
    /// summed over the horizon, give mean and deviation of the next round's.
    ///
    /// # Errors
    /// A device that fails.
    pub fn plan(
        &self,
        states: &Tensor<2>,
        goals: &Tensor<2>,
        plans: &mut [Vec<f32>],
        rng: &mut ViewRng,
    ) -> Result<Vec<Vec<f32>>> {
        let PlannerConfig { horizon, samples, rounds, elites } = self.config;
        let [n, dim] = states.dims();
        let width = horizon * self.actions;
        // A plan goes on where it was.
        for plan in plans.iter_mut() {
            plan.drain(..self.actions.min(plan.len()));
            plan.resize(width, 0.0);
        }
        let mut deviations = vec![FIRST_DEVIATION; n * width];
        let repeated = |x: &Tensor<2>| {
            x.clone().unsqueeze_dim::<3>(1).expand([n, samples, dim]).reshape([n * samples, dim])
        };
        let (from, to) = (repeated(states), repeated(goals).unsqueeze_dim::<3>(1));
        for _ in 0..rounds {
            let mut drawn = Vec::with_capacity(n * samples * width);
            for (plan, deviation) in plans.iter().zip(deviations.chunks_exact(width)) {
                for _ in 0..samples {
                    drawn.extend(plan.iter().zip(deviation).map(|(mean, deviation)| {
                        let noise: f32 = StandardNormal.sample(rng);
                        (mean + deviation * noise).clamp(-1.0, 1.0)
                    }));
                }
            }
            let data = TensorData::new(drawn.clone(), [n * samples, horizon, self.actions]);
            let actions = Tensor::<3>::from_data(data, &self.device);
            let Some(imagined) = self.model.prediction.roll(from.clone(), actions) else { break };
            let costs = (imagined - to.clone()).square().sum_dim(2).sum_dim(1);
            let costs = costs.try_into_vec_as::<f32>()?;
            for (task, plan) in plans.iter_mut().enumerate() {
                let costs = &costs[task * samples..(task + 1) * samples];
                let mut order: Vec<usize> = (0..samples).collect();
                order.sort_unstable_by(|a, b| costs[*a].total_cmp(&costs[*b]).then(a.cmp(b)));
                order.truncate(elites.clamp(1, samples));
                for at in 0..width {
                    let of = |sample: &usize| drawn[(task * samples + sample) * width + at];
                    let count = order.len() as f32;
                    let mean = order.iter().map(of).sum::<f32>() / count;
                    let squares = order.iter().map(|s| (of(s) - mean).powi(2)).sum::<f32>();
                    plan[at] = mean;
                    deviations[task * width + at] = (squares / count).sqrt().max(LEAST_DEVIATION);
                }
            }
        }
        Ok(plans.iter().map(|plan| plan[..self.actions].to_vec()).collect())
    }
}

/// Who chooses the actions.
pub enum Policy<'a> {
    /// A plan with a world model.
    Planner(&'a Planner),
    /// Any action.
    Random,
    /// What the environment knows ([`Environment::expert`]).
    Expert,
}

/// What came of some episodes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Acted {
    /// Share of episodes that reached their goal within the limit of actions.
    pub reached: f64,
    /// Its 95 % interval (Wilson 1927).
    pub interval: [f64; 2],
    /// Mean distance from the goal at the end, in the environment's measure.
    pub distance: f64,
    /// Mean number of actions.
    pub actions: f64,
}

/// Acts in as many episodes as there are environments, all of them at a time. The same seed gives the same tasks to every
/// policy.
///
/// # Errors
/// An environment that fails, or that has no expert; a device that fails.
pub fn act(
    environments: &mut [Box<dyn Environment>],
    policy: &Policy<'_>,
    seed: Seed,
) -> Result<Acted> {
    let (mut nows, mut goals) = (Vec::new(), Vec::new());
    for (episode, world) in environments.iter_mut().enumerate() {
        let task = world.reset(&mut seed.rng(Purpose::Probe, &[episode as u64]))?;
        nows.push(task.now);
        goals.push(task.goal);
    }
    // Goals stay where they are: embedded once.
    let aims = match policy {
        Policy::Planner(planner) if !goals.is_empty() => Some(planner.states(&goals)?),
        _ => None,
    };
    let mut plans = vec![Vec::new(); environments.len()];
    let mut taken = vec![0usize; environments.len()];
    let mut rng = seed.rng(Purpose::Probe, &[u64::MAX, 1]);
    loop {
        let active: Vec<usize> = (0..environments.len())
            .filter(|&at| !environments[at].is_reached() && taken[at] < environments[at].limit())
            .collect();
        if active.is_empty() {
            break;
        }
        let chosen: Vec<Vec<f32>> = match policy {
            Policy::Planner(planner) => {
                let seen: Vec<View> = active.iter().map(|&at| nows[at].clone()).collect();
                let states = planner.states(&seen)?;
                let rows: Vec<i32> = active.iter().map(|&at| at as i32).collect();
                let rows = Tensor::<1, Int>::from_data(
                    TensorData::new(rows, [active.len()]),
                    &planner.device,
                );
                let Some(aims) = aims.clone().map(|aims| aims.select(0, rows)) else { break };
                let mut some: Vec<Vec<f32>> =
                    active.iter().map(|&at| std::mem::take(&mut plans[at])).collect();
                let chosen = planner.plan(&states, &aims, &mut some, &mut rng)?;
                for (&at, plan) in active.iter().zip(some) {
                    plans[at] = plan;
                }
                chosen
            }
            Policy::Random => active
                .iter()
                .map(|&at| {
                    let width = environments[at].actions();
                    (0..width).map(|_| rng.random_range(-1.0..=1.0)).collect()
                })
                .collect(),
            Policy::Expert => {
                let all: Option<Vec<_>> =
                    active.iter().map(|&at| environments[at].expert()).collect();
                all.ok_or_else(|| Error::Data {
                    reason: "this environment has no expert".into(),
                    hint: "compare with random actions".into(),
                })?
            }
        };
        for (&at, action) in active.iter().zip(chosen) {
            nows[at] = environments[at].step(&action)?;
            taken[at] += 1;
        }
    }
    let hits: Vec<f64> =
        environments.iter().map(|world| f64::from(u8::from(world.is_reached()))).collect();
    let n = environments.len().max(1) as f64;
    Ok(Acted {
        reached: hits.iter().sum::<f64>() / n,
        interval: wilson(&hits),
        distance: environments.iter().map(|world| world.distance()).sum::<f64>() / n,
        actions: taken.iter().sum::<usize>() as f64 / n,
    })
}
