//! AdamW in one pass (Loshchilov and Hutter, arXiv 1711.05101).

use rayon::prelude::*;

use crate::elementwise;
use crate::profile::{Pass, timed};

/// Values in a task.
const CHUNK: usize = 1 << 15;

/// Hyperparameters of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f32,
    /// Decay rates of the first and second moments.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay: weights shrink by `lr` times this.
    pub weight_decay: f32,
    /// Number of the step, starting at 1.
    pub time: i32,
}

/// Updates parameters and both moments in place: m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g²,
/// w ← (1 − lr·decay)·w − lr·m̂/(√v̂ + ε), where m̂ and v̂ are m and v over 1 − βᵗ.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use lejepa_kernels::{AdamWStep, adamw};
///
/// let step = AdamWStep { lr: 0.1, betas: [0.9, 0.999], epsilon: 0.0, weight_decay: 0.0, time: 1 };
/// let (mut w, mut m, mut v) = ([1.0, 1.0], [0.0; 2], [0.0; 2]);
/// adamw(step, &mut w, &[3.0, -0.5], &mut m, &mut v);
/// // The first step has length lr for any gradient.
/// assert!((w[0] - 0.9).abs() < 1e-6 && (w[1] - 1.1).abs() < 1e-6);
/// ```
pub fn adamw(
    step: AdamWStep,
    weights: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let n = weights.len();
    assert_eq!([gradient.len(), first.len(), second.len()], [n; 3], "lengths differ");
    let [b1, b2] = step.betas;
    let keep = (1.0 - f64::from(step.lr) * f64::from(step.weight_decay)) as f32;
    let corrections = [1.0 - b1.powi(step.time), 1.0 - b2.powi(step.time)];
    let chunks = weights.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
    let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
    timed("adamw", Pass::Forward, || {
        chunks.zip(moments).for_each(|((w, g), (m, v))| {
            elementwise::adamw(w, g, m, v, step.betas, keep, step.lr, step.epsilon, corrections);
        });
    });
}
