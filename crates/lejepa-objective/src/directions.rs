//! Directions on the unit sphere along which SIGReg looks at the embeddings.

use burn::tensor::{Device, Tensor, TensorData};
use lejepa_core::{Purpose, Seed};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::statistics::quantile;

/// How directions are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slicing {
    /// Independent Gaussian directions, redrawn every step (the paper's choice): over many steps
    /// even few slices cover the sphere.
    #[default]
    Gaussian,
    /// Gaussian directions drawn once and kept: what the paper compares against.
    Fixed,
    /// Points of a Sobol sequence carried to the sphere by the normal quantile function (the
    /// paper's appendix D), Owen-scrambled anew every step (Burley 2020). Dimensions beyond 256 are
    /// padded with independently scrambled sequences: low discrepancy holds within each 256.
    Sobol,
    /// Blocks of `dim` mutually orthogonal directions, each block uniformly distributed over the
    /// rotations, redrawn every step: no two directions of a block see the same thing twice.
    Orthogonal,
}

/// `slices` unit directions in `dim` dimensions as the columns of a `[dim, slices]` tensor.
///
/// The numbers depend on `seed`, `step` and the shape alone: every worker and every device draws
/// the same. `step` is ignored by [`Slicing::Fixed`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lejepa_core::Seed;
/// use lejepa_objective::{Slicing, directions};
///
/// let axes = directions(Slicing::Gaussian, 3, 5, Seed(0), 7, &Device::flex());
/// assert_eq!(axes.dims(), [3, 5]);
/// // Unit columns, the same for the same seed and step.
/// let lengths: Vec<f32> = axes.clone().square().sum_dim(0).try_into_vec_as()?;
/// assert!(lengths.iter().all(|l| (l - 1.0).abs() < 1e-5));
/// let again: Tensor<2> = directions(Slicing::Gaussian, 3, 5, Seed(0), 7, &Device::flex());
/// axes.into_data().assert_eq(&again.into_data(), true);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn directions(
    slicing: Slicing,
    dim: usize,
    slices: usize,
    seed: Seed,
    step: u64,
    device: &Device,
) -> Tensor<2> {
    let rows = unit_rows(slicing, dim, slices, seed, step);
    // Drawn a direction a row, so that each has its own stream; used a direction a column.
    Tensor::<2>::from_data(TensorData::new(rows, [slices, dim]), device).transpose()
}

fn unit_rows(slicing: Slicing, dim: usize, slices: usize, seed: Seed, step: u64) -> Vec<f32> {
    let mut rows = vec![0.0f32; slices * dim];
    if dim == 0 {
        return rows;
    }
    match slicing {
        Slicing::Gaussian => gaussian(&mut rows, dim, seed, step),
        Slicing::Fixed => gaussian(&mut rows, dim, seed, 0),
        Slicing::Sobol => sobol(&mut rows, dim, seed, step),
        Slicing::Orthogonal => orthogonal(&mut rows, dim, seed, step),
    }
    rows
}

fn gaussian(rows: &mut [f32], dim: usize, seed: Seed, step: u64) {
    rows.par_chunks_mut(dim).enumerate().for_each(|(i, row)| {
        let mut rng = seed.rng(Purpose::Slices, &[step, i as u64]);
        loop {
            let drawn: Vec<f64> = (0..dim)
                .map(|_| {
                    let x: f32 = StandardNormal.sample(&mut rng);
                    f64::from(x)
                })
                .collect();
            if unit(&drawn, row) {
                break;
            }
        }
    });
}

/// Dimensions of one Sobol sequence, and the length of one.
const SOBOL_DIMENSIONS: usize = sobol_burley::NUM_DIMENSIONS as usize;
const SOBOL_POINTS: usize = 1 << 16;

fn sobol(rows: &mut [f32], dim: usize, seed: Seed, step: u64) {
    rows.par_chunks_mut(dim).enumerate().for_each(|(i, row)| {
        let scramble = |part: usize| {
            let path = [step, (i / SOBOL_POINTS) as u64, part as u64];
            seed.rng(Purpose::Slices, &path).next_u32()
        };
        let mut drawn = Vec::with_capacity(dim);
        for part in 0..dim.div_ceil(SOBOL_DIMENSIONS) {
            let scramble = scramble(part);
            for d in 0..SOBOL_DIMENSIONS.min(dim - part * SOBOL_DIMENSIONS) {
                let x = sobol_burley::sample((i % SOBOL_POINTS) as u32, d as u32, scramble);
                // The middle of the smallest interval that x stands for: never 0 or 1.
                drawn.push(quantile(f64::from(x) + f64::from(f32::EPSILON) / 4.0));
            }
        }
        if !unit(&drawn, row) {
            // One dimension and a point in its very middle.
            row[0] = 1.0;
        }
    });
}

fn orthogonal(rows: &mut [f32], dim: usize, seed: Seed, step: u64) {
    rows.par_chunks_mut(dim * dim).enumerate().for_each(|(block, rows)| {
        let mut rng = seed.rng(Purpose::Slices, &[step, block as u64]);
        let mut basis: Vec<Vec<f64>> = Vec::with_capacity(dim);
        for row in rows.chunks_mut(dim) {
            loop {
                let mut drawn: Vec<f64> =
                    (0..dim).map(|_| StandardNormal.sample(&mut rng)).collect();
                // Twice: what rounding leaves of the first projection, the second removes.
                for _ in 0..2 {
                    for b in &basis {
                        let along: f64 = b.iter().zip(&drawn).map(|(b, x)| b * x).sum();
                        drawn.iter_mut().zip(b).for_each(|(x, b)| *x -= along * b);
                    }
                }
                if unit(&drawn, row) {
                    let norm = norm(&drawn);
                    drawn.iter_mut().for_each(|x| *x /= norm);
                    basis.push(drawn);
                    break;
                }
            }
        }
    });
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// `drawn` at length 1; `false` where it is too short to have a direction, which is all but
/// impossible.
fn unit(drawn: &[f64], row: &mut [f32]) -> bool {
    let norm = norm(drawn);
    if norm <= 1e-12 {
        return false;
    }
    row.iter_mut().zip(drawn).for_each(|(r, x)| *r = (x / norm) as f32);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Slicing; 4] =
        [Slicing::Gaussian, Slicing::Fixed, Slicing::Sobol, Slicing::Orthogonal];

    #[test]
    fn directions_are_unit_seeded_and_fresh() {
        let s = Seed(3);
        for slicing in ALL {
            for dim in [1, 7, 300] {
                let a = unit_rows(slicing, dim, 50, s, 0);
                for row in a.chunks(dim) {
                    let n: f32 = row.iter().map(|x| x * x).sum();
                    assert!((n - 1.0).abs() < 1e-5, "{slicing:?} {dim}");
                }
                assert_eq!(a, unit_rows(slicing, dim, 50, s, 0));
                if dim > 1 {
                    let fresh = a != unit_rows(slicing, dim, 50, s, 1);
                    assert_eq!(fresh, slicing != Slicing::Fixed, "{slicing:?}");
                    assert_ne!(a, unit_rows(slicing, dim, 50, Seed(4), 0));
                }
                // More slices extend the set and do not change the ones that were there.
                assert_eq!(a[..10 * dim], unit_rows(slicing, dim, 10, s, 0)[..]);
            }
        }
    }

    #[test]
    fn directions_are_uniform_on_the_sphere() {
        let (dim, n) = (5, 20_000);
        for slicing in ALL {
            let rows = unit_rows(slicing, dim, n, Seed(0), 0);
            for i in 0..dim {
                let column = || rows.iter().skip(i).step_by(dim).map(|&x| f64::from(x));
                let mean = column().sum::<f64>() / n as f64;
                let square = column().map(|x| x * x).sum::<f64>() / n as f64;
                assert!(mean.abs() < 0.02, "{slicing:?}: {mean}");
                assert!((square - 0.2).abs() < 0.01, "{slicing:?}: {square}");
            }
        }
    }

    #[test]
    fn blocks_are_orthogonal() {
        let dim = 24;
        let rows = unit_rows(Slicing::Orthogonal, dim, 2 * dim + 5, Seed(1), 2);
        for block in rows.chunks(dim * dim) {
            let rows: Vec<&[f32]> = block.chunks(dim).collect();
            for (i, a) in rows.iter().enumerate() {
                for b in &rows[..i] {
                    let dot: f32 = a.iter().zip(*b).map(|(a, b)| a * b).sum();
                    assert!(dot.abs() < 1e-6, "{dot}");
                }
            }
        }
    }

    /// The worst error of the share of points in half-spheres: what discrepancy means here.
    #[test]
    fn sobol_directions_are_more_even_than_random_ones() {
        let (dim, n) = (3, 1024);
        let probes = unit_rows(Slicing::Gaussian, dim, 200, Seed(99), 0);
        let worst = |slicing, seed| {
            let rows = unit_rows(slicing, dim, n, Seed(seed), 0);
            let share = |p: &[f32]| {
                let inside = rows
                    .chunks(dim)
                    .filter(|r| r.iter().zip(p).map(|(a, b)| a * b).sum::<f32>() > 0.5)
                    .count();
                // The cap beyond 0.5 has a quarter of the sphere in three dimensions.
                (inside as f64 / n as f64 - 0.25).abs()
            };
            probes.chunks(dim).map(share).fold(0.0, f64::max)
        };
        let mean = |slicing| (0..8).map(|s| worst(slicing, s)).sum::<f64>() / 8.0;
        let (sobol, gaussian) = (mean(Slicing::Sobol), mean(Slicing::Gaussian));
        assert!(sobol < 0.6 * gaussian, "{sobol} {gaussian}");
    }
}
