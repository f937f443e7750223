//! Filters of published encoders for other channels and other patches.

use lejepa_core::Array;

use crate::resample::linear_inverse;

/// Filters `[out, C, h, w]` for another number of channels, with the same answer to a grey picture.
pub(crate) fn other_channels(filters: &Array, to: usize) -> Option<Array> {
    let [out, from, h, w] = filters.shape()[..] else { return None };
    let plane = h * w;
    let mut values = Vec::with_capacity(out * to * plane);
    for filter in filters.values().chunks_exact((from * plane).max(1)) {
        for channel in 0..to {
            for cell in 0..plane {
                let at = |c: usize| filter[c * plane + cell];
                values.push(match to {
                    1 => (0..from).map(at).sum(),
                    _ => at(channel % from) * from as f32 / to as f32,
                });
            }
        }
    }
    Array::new([out, to, h, w], values)
}

/// Filters for patches of another size, such that they answer to resized patches as before (FlexiViT; Beyer et
/// al., arXiv 2212.08013, section 3.4).
pub(crate) fn other_patch(filters: &Array, to: [usize; 2]) -> Option<Array> {
    let [out, channels, h, w] = filters.shape()[..] else { return None };
    // The transposed pseudo-inverse of the resizing of each axis: `[to, from]`.
    let inverse = |from: usize, to: usize| -> Option<Vec<f64>> {
        let back = linear_inverse(from, to)?;
        Some(
            (0..to)
                .flat_map(|t| (0..from).map(move |f| (t, f)))
                .map(|(t, f)| back[f * to + t])
                .collect(),
        )
    };
    let (rows, columns) = (inverse(h, to[0])?, inverse(w, to[1])?);
    let mut values = Vec::with_capacity(out * channels * to[0] * to[1]);
    for filter in filters.values().chunks_exact(h * w) {
        for (y, x) in (0..to[0]).flat_map(|y| (0..to[1]).map(move |x| (y, x))) {
            let mut sum = 0.0;
            for (a, b) in (0..h).flat_map(|a| (0..w).map(move |b| (a, b))) {
                sum += rows[y * h + a] * columns[x * w + b] * f64::from(filter[a * w + b]);
            }
            values.push(sum as f32);
        }
    }
    Array::new([out, channels, to[0], to[1]], values)
}
