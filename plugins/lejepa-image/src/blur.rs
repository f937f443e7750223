//! Gaussian blur, separable, with reflected edges.

/// Blurs square planes of width `side` with standard deviation `sigma` in pixels.
pub(crate) fn gaussian(planes: &mut [f32], side: usize, sigma: f32) {
    let taps = taps(sigma, side);
    if taps.len() < 2 {
        return;
    }
    let mut across = vec![0.0; side * side];
    for plane in planes.chunks_exact_mut(side * side) {
        for (row, out) in plane.chunks_exact(side).zip(across.chunks_exact_mut(side)) {
            blur_row(row, out, &taps);
        }
        // Down the columns a whole row at a time, so that the inner loop runs along memory.
        for (y, row) in plane.chunks_exact_mut(side).enumerate() {
            row.fill(0.0);
            for (k, &weight) in taps.iter().enumerate() {
                let pair = [y as isize - k as isize, (y + k) as isize];
                for &from in &pair[usize::from(k == 0)..] {
                    let at = reflect(from, side) * side;
                    for (x, &v) in row.iter_mut().zip(&across[at..at + side]) {
                        *x += weight * v;
                    }
                }
            }
        }
    }
}

/// The centre and one side of the kernel, out to three standard deviations; both sides sum to one.
fn taps(sigma: f32, side: usize) -> Vec<f32> {
    let radius = ((3.0 * sigma).ceil() as usize).min(side - 1);
    let mut taps: Vec<f32> =
        (0..=radius).map(|k| (-0.5 * (k as f32 / sigma.max(1e-6)).powi(2)).exp()).collect();
    let sum = 2.0 * taps.iter().sum::<f32>() - taps[0];
    taps.iter_mut().for_each(|t| *t /= sum);
    taps
}

fn blur_row(row: &[f32], out: &mut [f32], taps: &[f32]) {
    let (side, radius) = (row.len(), taps.len() - 1);
    for (x, out) in out.iter_mut().enumerate() {
        let mut sum = taps[0] * row[x];
        if x >= radius && x + radius < side {
            for (k, &weight) in taps.iter().enumerate().skip(1) {
                sum += weight * (row[x - k] + row[x + k]);
            }
        } else {
            for (k, &weight) in taps.iter().enumerate().skip(1) {
                let left = row[reflect(x as isize - k as isize, side)];
                sum += weight * (left + row[reflect((x + k) as isize, side)]);
            }
        }
        *out = sum;
    }
}

/// Reflects a place beyond an edge back inside, the edge itself not repeated.
fn reflect(at: isize, side: usize) -> usize {
    let last = side as isize - 1;
    let at = at.abs();
    (if at > last { 2 * last - at } else { at }).clamp(0, last) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_stay_and_a_point_spreads_evenly() {
        let mut flat = vec![0.3; 2 * 81];
        gaussian(&mut flat, 9, 1.7);
        assert!(flat.iter().all(|x| (x - 0.3).abs() < 1e-6));

        let mut point = vec![0.0; 225];
        point[112] = 1.0;
        gaussian(&mut point, 15, 1.5);
        assert!((point.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!((point[111] - point[113]).abs() < 1e-7 && (point[97] - point[127]).abs() < 1e-7);
        // The ratio of neighbours is that of the Gaussian.
        let want = (-0.5f32 / (1.5 * 1.5)).exp();
        assert!((point[113] / point[112] - want).abs() < 1e-4);
    }

    #[test]
    fn tiny_planes_and_tiny_sigmas_are_safe() {
        for side in 1..5 {
            let mut x: Vec<f32> = (0..side * side).map(|i| i as f32).collect();
            gaussian(&mut x, side, 2.0);
            assert!(x.iter().all(|v| v.is_finite()));
        }
        let mut x = vec![0.0, 1.0, 0.0, 0.0];
        gaussian(&mut x, 2, 1e-3);
        assert!((x[1] - 1.0).abs() < 1e-6);
    }
}
