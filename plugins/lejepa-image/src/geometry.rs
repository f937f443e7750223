//! Flips, turns and affine warps of square planes.

/// Flips planes of width `side` horizontally.
pub(crate) fn flip(planes: &mut [f32], side: usize) {
    planes.chunks_exact_mut(side).for_each(<[f32]>::reverse);
}

/// Flips planes of `side`×`side` vertically.
pub(crate) fn flip_vertical(planes: &mut [f32], side: usize) {
    for plane in planes.chunks_exact_mut(side * side) {
        let (upper, lower) = plane.split_at_mut(side / 2 * side);
        let from_below = lower.chunks_exact_mut(side).rev();
        upper.chunks_exact_mut(side).zip(from_below).for_each(|(a, b)| a.swap_with_slice(b));
    }
}

/// Turns planes of `side`×`side` by 90°.
pub(crate) fn quarter_turn(planes: &[f32], side: usize) -> Vec<f32> {
    let turn = |plane: &[f32]| -> Vec<f32> {
        let cell = |i: usize| plane[(i % side) * side + side - 1 - i / side];
        (0..side * side).map(cell).collect()
    };
    planes.chunks_exact(side * side).flat_map(turn).collect()
}

/// Rotates planes of `side`×`side` about their centre by `angle` radians and shears them, with bilinear
/// interpolation. Outside the plane its edges continue.
pub(crate) fn warp(planes: &[f32], side: usize, angle: f64, shear: [f64; 2]) -> Vec<f32> {
    let (sin, cos) = angle.sin_cos();
    let [along, across] = shear;
    // Source coordinates of a target position: the shear, then the rotation.
    let matrix = [[cos - sin * across, cos * along - sin], [sin + cos * across, sin * along + cos]]
        .map(|row| row.map(|x| x as f32));
    let (centre, last) = ((side as f32 - 1.0) / 2.0, side as f32 - 1.0);
    let mut taps = Vec::with_capacity(side * side);
    for y in 0..side {
        for x in 0..side {
            let (dx, dy) = (x as f32 - centre, y as f32 - centre);
            let at = |[a, b]: [f32; 2]| (centre + a * dx + b * dy).clamp(0.0, last);
            let (sx, sy) = (at(matrix[0]), at(matrix[1]));
            let (left, top) = (sx as usize, sy as usize);
            let right = (left + 1).min(side - 1);
            let below = (top + 1).min(side - 1);
            let (fx, fy) = (sx - left as f32, sy - top as f32);
            taps.push((
                [top * side + left, top * side + right, below * side + left, below * side + right],
                [fx, fy],
            ));
        }
    }
    let mut out = Vec::with_capacity(planes.len());
    for plane in planes.chunks_exact(side * side) {
        out.extend(taps.iter().map(|([a, b, c, d], [fx, fy])| {
            let upper = plane[*a] + fx * (plane[*b] - plane[*a]);
            let lower = plane[*c] + fx * (plane[*d] - plane[*c]);
            upper + fy * (lower - upper)
        }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> Vec<f32> {
        (0..50).map(|i| ((i * 7) % 50) as f32 / 50.0).collect()
    }

    #[test]
    fn two_flips_and_four_turns_are_the_identity() {
        let planes = ramp();
        for change in [flip as fn(&mut [f32], usize), flip_vertical] {
            let mut x = planes.clone();
            change(&mut x, 5);
            assert_ne!(x, planes);
            change(&mut x, 5);
            assert_eq!(x, planes);
        }
        let mut x = planes.clone();
        flip_vertical(&mut x, 5);
        assert_eq!(x[..5], planes[20..25]);
        let once = quarter_turn(&planes, 5);
        // The right column becomes the top row.
        assert_eq!(once[..5], [4, 9, 14, 19, 24].map(|i| planes[i]));
        let full = (0..3).fold(once, |x, _| quarter_turn(&x, 5));
        assert_eq!(full, planes);
    }

    #[test]
    fn warps_rotate_and_shear() {
        let planes = ramp();
        assert_eq!(warp(&planes, 5, 0.0, [0.0; 2]), planes);
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        let quarter = warp(&planes, 5, std::f64::consts::FRAC_PI_2, [0.0; 2]);
        assert!(near(&quarter, &quarter_turn(&planes, 5)));
        // A shear moves rows against each other and leaves the middle one.
        let sheared = warp(&planes, 5, 0.0, [0.5, 0.0]);
        assert!(near(&sheared[10..15], &planes[10..15]));
        assert!(near(&sheared[1..5], &planes[..4]) && near(&sheared[20..24], &planes[21..25]));
        assert!(warp(&[0.3; 50], 5, 0.7, [0.2, -0.1]).iter().all(|v| (v - 0.3).abs() < 1e-6));
    }
}
