//! Gaussian blur, separable, with reflected edges.

/// Blurs square planes of width `side` with standard deviation `sigma` in pixels.
pub(crate) fn gaussian(planes: &mut [f32], side: usize, sigma: f32) {
    let taps = taps(sigma, side);
    // With so small a weight no value changes by more than one 8-bit level.
    if taps.get(1).is_none_or(|neighbour| *neighbour < 1e-3) {
        return;
    }
    let radius = taps.len() - 1;
    let mut across = vec![0.0; side * side];
    let mut padded = vec![0.0; side + 2 * radius];
    for plane in planes.chunks_exact_mut(side * side) {
        for (row, out) in plane.chunks_exact(side).zip(across.chunks_exact_mut(side)) {
            pad(row, radius, &mut padded);
            let from = |at: usize| &padded[at..at + side];
            weigh(out, from(radius), &taps, |k| (from(radius - k), from(radius + k)));
        }
        for (y, out) in plane.chunks_exact_mut(side).enumerate() {
            let row = |y: isize| &across[reflect(y, side) * side..][..side];
            let y = y as isize;
            weigh(out, row(y), &taps, |k| (row(y - k as isize), row(y + k as isize)));
        }
    }
}

/// Writes the weighted sum of `centre` and the pairs at distance k on either side, one row at a time, so
/// that the inner loop is contiguous in memory.
fn weigh<'a>(
    out: &mut [f32],
    centre: &[f32],
    taps: &[f32],
    pair: impl Fn(usize) -> (&'a [f32], &'a [f32]),
) {
    out.iter_mut().zip(centre).for_each(|(x, c)| *x = taps[0] * c);
    for (k, &weight) in taps.iter().enumerate().skip(1) {
        let (before, behind) = pair(k);
        for ((x, a), b) in out.iter_mut().zip(before).zip(behind) {
            *x += weight * (a + b);
        }
    }
}

/// Copies `row`, padded by reflection with `radius` values at either end.
fn pad(row: &[f32], radius: usize, padded: &mut [f32]) {
    let side = row.len();
    padded[radius..radius + side].copy_from_slice(row);
    for k in 1..=radius {
        padded[radius - k] = row[reflect(-(k as isize), side)];
        padded[radius + side - 1 + k] = row[reflect((side - 1 + k) as isize, side)];
    }
}

/// The centre and one side of the kernel, out to three standard deviations; the whole kernel sums to 1.
fn taps(sigma: f32, side: usize) -> Vec<f32> {
    let radius = ((3.0 * sigma).ceil() as usize).min(side - 1);
    let mut taps: Vec<f32> =
        (0..=radius).map(|k| (-0.5 * (k as f32 / sigma.max(1e-6)).powi(2)).exp()).collect();
    let sum = 2.0 * taps.iter().sum::<f32>() - taps[0];
    taps.iter_mut().for_each(|t| *t /= sum);
    taps
}

/// Reflects an index beyond an edge back inside, without repeating the edge.
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
    fn agrees_with_the_definition_up_to_the_edges() {
        let (side, sigma) = (7, 2.0f32);
        let picture: Vec<f32> = (0..49).map(|i| ((i * 29) % 17) as f32 / 17.0).collect();
        let mut blurred = picture.clone();
        gaussian(&mut blurred, side, sigma);
        let radius = 6isize;
        let weight = |k: isize| (-0.5 * (k as f32 / sigma).powi(2)).exp();
        let total: f32 = (-radius..=radius).map(weight).sum();
        for (i, got) in blurred.iter().enumerate() {
            let (x, y) = ((i % side) as isize, (i / side) as isize);
            let mut want = 0.0;
            for (dy, dx) in (-radius..=radius).flat_map(|a| (-radius..=radius).map(move |b| (a, b)))
            {
                let from = reflect(y + dy, side) * side + reflect(x + dx, side);
                want += weight(dy) * weight(dx) * picture[from];
            }
            assert!((got - want / (total * total)).abs() < 1e-5, "{i}");
        }
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
