//! Directions on the unit sphere along which SIGReg looks at the embeddings.

use burn::tensor::{Device, Tensor, TensorData};
use lejepa_core::{Purpose, Seed};
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

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
}

/// `slices` unit directions in `dim` dimensions as the columns of a `[dim, slices]` tensor.
///
/// The numbers depend on `seed`, `step` and the shape alone: every worker and every device draws
/// the same. `step` is ignored by [`Slicing::Fixed`].
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
    let step = match slicing {
        Slicing::Gaussian => step,
        Slicing::Fixed => 0,
    };
    let mut rows = vec![0.0f32; slices * dim];
    rows.par_chunks_mut(dim.max(1)).enumerate().for_each(|(i, row)| {
        let mut rng = seed.rng(Purpose::Slices, &[step, i as u64]);
        loop {
            for x in row.iter_mut() {
                *x = StandardNormal.sample(&mut rng);
            }
            let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            // All but impossible in more than one dimension, but then the direction is undefined.
            if norm > 1e-12 {
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
                break;
            }
        }
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_unit_seeded_and_fresh() {
        let s = Seed(3);
        let a = unit_rows(Slicing::Gaussian, 7, 50, s, 0);
        for row in a.chunks(7) {
            let n: f32 = row.iter().map(|x| x * x).sum();
            assert!((n - 1.0).abs() < 1e-5);
        }
        assert_eq!(a, unit_rows(Slicing::Gaussian, 7, 50, s, 0));
        assert_ne!(a, unit_rows(Slicing::Gaussian, 7, 50, s, 1));
        assert_eq!(unit_rows(Slicing::Fixed, 7, 50, s, 0), unit_rows(Slicing::Fixed, 7, 50, s, 1));
        // More slices extend the set and do not change the ones that were there.
        assert_eq!(a[..70], unit_rows(Slicing::Gaussian, 7, 10, s, 0)[..]);
    }

    #[test]
    fn directions_are_uniform_on_the_sphere() {
        let (dim, n) = (5, 20_000);
        let rows = unit_rows(Slicing::Gaussian, dim, n, Seed(0), 0);
        for i in 0..dim {
            let mean: f64 =
                rows.iter().skip(i).step_by(dim).map(|&x| f64::from(x)).sum::<f64>() / n as f64;
            let square: f64 =
                rows.iter().skip(i).step_by(dim).map(|&x| f64::from(x).powi(2)).sum::<f64>()
                    / n as f64;
            assert!(mean.abs() < 0.02, "{mean}");
            assert!((square - 0.2).abs() < 0.01, "{square}");
        }
    }
}
