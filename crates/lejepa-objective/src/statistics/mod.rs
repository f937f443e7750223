//! Goodness-of-fit statistics: how far is a sample from the standard normal distribution?
//!
//! [`Statistic`] looks at projections on single directions; [`EppsPulley`] is the one that LeJEPA
//! trains with, the others are there to compare with and to monitor. [`MultivariateStatistic`]
//! looks at the embeddings at once, at a cost quadratic in the number of samples.
//!
//! Every statistic is a plain struct of its settings, with defaults, and is registered by its name
//! in snake case: `statistic.name = "anderson_darling"`. A configuration's settings out of
//! range are refused; those given in code are drawn to the nearest allowed value. All are made of
//! tensor operations, so gradients flow; values and gradients stay finite in f32 for a single
//! sample, for constant columns and for outliers of ±10⁴. Constants are computed in f64 and no
//! approximation is coarser than the type of the samples. f16 and bf16 inputs should be cast to f32
//! first. All expect at least one view, sample and slice.
//!
//! None divides a tensor by a scalar: burn 0.22 takes the gradient of that in f32, whatever the type
//! (`float_div_scalar` of burn-autodiff), so a reciprocal is multiplied instead.
//!
//! | statistic | mean for N(0, 1) samples, large N | sorts | blind to |
//! |---|---|---|---|
//! | [`EppsPulley`] | 1.05 | no | high frequencies |
//! | [`AndersonDarling`] | 1 | yes | |
//! | [`CramerVonMises`] | 1/6N | yes | far tails |
//! | [`Watson`] | 1/12N | yes | far tails, part of the mean |
//! | [`ExtendedJarqueBera`] | 4 | no | moments above the fourth |
//! | [`VcReg`] | 2 | no | all but mean and variance |
//! | [`Moments`] | of the order of 1/√N | no | moments above `k_max` |
//! | [`ShapiroWilk`] | of the order of 1/N | yes | scale |
//! | [`Entropy`] | depends on m | yes | mean and scale |
//! | [`OrderStatisticNll`] | depends on N | yes | |

mod ecdf;
mod entropy;
mod epps_pulley;
mod gauss_hermite;
mod kinds;
mod moments;
mod multivariate;
mod nll;
mod normal;
mod shapiro_wilk;
#[cfg(test)]
mod tests;

pub use ecdf::{AndersonDarling, CramerVonMises, Watson};
pub use entropy::{Entropy, Spacing};
pub use epps_pulley::{EppsPulley, Integration};
pub use moments::{ExtendedJarqueBera, Moments, VcReg};
pub use multivariate::{Bhep, BhepM, Comb, HenzeVisagie, HenzeZirkler};
pub use nll::OrderStatisticNll;
pub use normal::LogCdf;
pub(crate) use normal::quantile;
pub use shapiro_wilk::{Covariance, Expectation, ShapiroWilk};

pub use lejepa_core::{MultivariateStatistic, Statistic};

use burn::tensor::{Tensor, TensorData};

/// Numbers computed on the host in f64, as a tensor that goes with `like`.
fn constant<const D: usize>(values: Vec<f64>, shape: [usize; D], like: &Tensor<3>) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), (&like.device(), like.dtype()))
}

/// `[views, 1, slices] -> [views, slices]`
fn without_samples(x: Tensor<3>) -> Tensor<2> {
    let [views, _, slices] = x.dims();
    x.reshape([views, slices])
}
