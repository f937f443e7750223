//! Linear resampling of grids as matrices.

/// Weights of the cells of grid `from` for each cell of grid `to`, row-major `[to, from]`: bicubic (Keys 1981,
/// a = −0.5) along each axis, widened where the grid gets coarser, as PyTorch's antialiased interpolation.
pub(crate) fn resampling(from: [usize; 3], to: [usize; 3]) -> Vec<f32> {
    let axes: [Vec<f64>; 3] = std::array::from_fn(|axis| cubic(from[axis], to[axis]));
    let mut out = Vec::with_capacity(to.iter().product::<usize>() * from.iter().product::<usize>());
    for t in 0..to[0] {
        for (h, w) in (0..to[1]).flat_map(|h| (0..to[2]).map(move |w| (h, w))) {
            for a in 0..from[0] {
                for (b, c) in (0..from[1]).flat_map(|b| (0..from[2]).map(move |c| (b, c))) {
                    let weight = axes[0][t * from[0] + a]
                        * axes[1][h * from[1] + b]
                        * axes[2][w * from[2] + c];
                    out.push(weight as f32);
                }
            }
        }
    }
    out
}

/// Weights of `from` cells of an axis for each of `to`, `[to, from]`; each row sums to 1.
fn cubic(from: usize, to: usize) -> Vec<f64> {
    weights(from, to, |x| {
        const A: f64 = -0.5;
        match x.abs() {
            x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    })
}

/// Bilinear weights, likewise.
fn linear(from: usize, to: usize) -> Vec<f64> {
    weights(from, to, |x| (1.0 - x.abs()).max(0.0))
}

fn weights(from: usize, to: usize, kernel: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut out = vec![0.0; to * from];
    let scale = from as f64 / to as f64;
    let width = scale.max(1.0);
    for (i, row) in out.chunks_exact_mut(from.max(1)).enumerate() {
        let centre = (i as f64 + 0.5) * scale - 0.5;
        for (cell, weight) in row.iter_mut().enumerate() {
            *weight = kernel((cell as f64 - centre) / width);
        }
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|weight| *weight /= sum);
    }
    out
}

/// The pseudo-inverse of the weights of [`linear`], `[from, to]`.
pub(crate) fn linear_inverse(from: usize, to: usize) -> Option<Vec<f64>> {
    let matrix = nalgebra::DMatrix::from_row_slice(to, from, &linear(from, to));
    let inverse = matrix.pseudo_inverse(1e-9).ok()?;
    Some(inverse.row_iter().flat_map(|row| row.iter().copied().collect::<Vec<_>>()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_grid_stays_and_constants_stay() {
        let same = resampling([1, 3, 4], [1, 3, 4]);
        for (i, weight) in same.iter().enumerate() {
            let want = f32::from(u8::from(i / 12 == i % 12));
            assert!((weight - want).abs() < 1e-6);
        }
        for (from, to) in
            [([1, 16, 16], [1, 7, 7]), ([1, 7, 7], [1, 16, 9]), ([2, 1, 5], [4, 1, 3])]
        {
            let columns: usize = from.iter().product();
            for row in resampling(from, to).chunks(columns) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn values_are_those_of_pytorch() {
        // torch.nn.functional.interpolate([0, 1, 4, 9, 25], mode="bicubic", antialias=True), torch 2.15.
        let values = [0.0, 1.0, 4.0, 9.0, 25.0];
        let want: [&[f64]; 3] = [
            &[0.85358423, 13.40476799],
            &[0.16923104, 3.86046553, 18.59999657],
            &[
                -0.07195572,
                0.24374929,
                1.12890625,
                2.84765625,
                5.04553223,
                8.38171387,
                18.93503761,
                26.15129089,
            ],
        ];
        for want in want {
            let weights = cubic(5, want.len());
            for (row, want) in weights.chunks(5).zip(want) {
                let got: f64 = row.iter().zip(values).map(|(w, v)| w * v).sum();
                assert!((got - want).abs() < 1e-5, "{got} {want}");
            }
        }
    }

    #[test]
    fn a_pseudo_inverse_undoes() {
        for (from, to) in [(8, 16), (16, 8), (14, 16), (5, 5)] {
            let forward = linear(from, to);
            let back = linear_inverse(from, to).unwrap();
            let n = from.min(to);
            // On the smaller side the product is the identity.
            for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let product: f64 = match to >= from {
                    true => (0..to).map(|k| back[i * to + k] * forward[k * from + j]).sum(),
                    false => (0..from).map(|k| forward[i * from + k] * back[k * to + j]).sum(),
                };
                let want = f64::from(u8::from(i == j));
                assert!((product - want).abs() < 1e-8, "{from} {to}: {product}");
            }
        }
    }
}
