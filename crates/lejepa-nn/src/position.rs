//! Position embeddings: fixed sines and cosines (Vaswani et al., arXiv 1706.03762), and the interpolation of
//! learned ones.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::resample::resampling;

/// Position embeddings of the grids that were met, on the devices that asked for them.
#[derive(Clone, Default, Debug)]
pub(crate) struct Positions(Cache<([usize; 3], usize)>);

/// Weights that interpolate from one grid to another, likewise.
#[derive(Clone, Default, Debug)]
pub(crate) struct Interpolations(Cache<[[usize; 3]; 2]>);

/// Angles of rotary embeddings, likewise.
#[derive(Clone, Default, Debug)]
pub(crate) struct Rotations(Cache<([usize; 3], usize, usize)>);

/// Constant tensors by what they depend on, and by device.
#[derive(Clone)]
struct Cache<K>(Arc<Mutex<Vec<Entry<K>>>>);

struct Entry<K> {
    key: K,
    device: Device,
    tensor: Tensor<3>,
}

/// Maximum number of cached grids; the oldest one is dropped.
const MAX_ENTRIES: usize = 32;

impl Positions {
    /// Embeddings of the patches of a grid, `[1, patches, width]`.
    pub(crate) fn get(
        &self,
        grid: [usize; 3],
        width: usize,
        device: &Device,
        dtype: DType,
    ) -> Tensor<3> {
        let patches = grid.iter().product::<usize>();
        let make = || TensorData::new(sincos(grid, width), [1, patches, width]);
        self.0.get((grid, width), device, dtype, make)
    }
}

impl Interpolations {
    /// Weights of the patches of grid `from` for each patch of grid `to`, `[1, to, from]`.
    pub(crate) fn get(
        &self,
        from: [usize; 3],
        to: [usize; 3],
        device: &Device,
        dtype: DType,
    ) -> Tensor<3> {
        let [rows, columns] = [to, from].map(|grid| grid.iter().product::<usize>());
        let make = || TensorData::new(resampling(from, to), [1, rows, columns]);
        self.0.get([from, to], device, dtype, make)
    }
}

impl Rotations {
    /// Angles of the patches of a grid of `axes` axes for heads of width `depth`, `[1, patches, depth]`.
    pub(crate) fn get(
        &self,
        grid: [usize; 3],
        axes: usize,
        depth: usize,
        device: &Device,
        dtype: DType,
    ) -> Tensor<3> {
        let patches = grid.iter().product::<usize>();
        let make = || TensorData::new(rotary_angles(grid, axes, depth), [1, patches, depth]);
        self.0.get((grid, axes, depth), device, dtype, make)
    }
}

impl<K: PartialEq> Cache<K> {
    fn get(
        &self,
        key: K,
        device: &Device,
        dtype: DType,
        make: impl FnOnce() -> TensorData,
    ) -> Tensor<3> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.iter().find(|e| {
            // Devices are equal whether they record gradients or not.
            let strategy = e.device.gradient_checkpointing_strategy();
            e.key == key
                && e.device == *device
                && strategy == device.gradient_checkpointing_strategy()
                && e.tensor.dtype() == dtype
        });
        if let Some(entry) = found {
            return entry.tensor.clone();
        }
        let tensor = Tensor::<3>::from_data(make(), (device, dtype));
        if entries.len() == MAX_ENTRIES {
            entries.remove(0);
        }
        entries.push(Entry { key, device: device.clone(), tensor: tensor.clone() });
        tensor
    }
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K> fmt::Debug for Cache<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache")
    }
}

/// Embeddings of the patches of a grid, row-major `[patches, width]`; each axis of more than one patch has an
/// equal share of the width. Coordinates are relative to the centre of the grid, in patches, so that those of a
/// local view lie within those of a global one.
pub(crate) fn sincos(grid: [usize; 3], width: usize) -> Vec<f32> {
    let used: Vec<usize> = (0..3).filter(|&a| grid[a] > 1).collect();
    let n = grid.iter().product::<usize>();
    let mut out = vec![0.0; n * width];
    if used.is_empty() {
        return out;
    }
    let pairs = width / (2 * used.len());
    // Wavelengths from 2π patches up to 100 times as many.
    let rates: Vec<f64> = (0..pairs).map(|p| 100f64.powf(-(p as f64) / pairs as f64)).collect();
    for (i, row) in out.chunks_mut(width).enumerate() {
        let at = [i / (grid[1] * grid[2]), i / grid[2] % grid[1], i % grid[2]];
        for (slot, &a) in used.iter().enumerate() {
            let position = at[a] as f64 - (grid[a] - 1) as f64 / 2.0;
            for (p, rate) in rates.iter().enumerate() {
                let (sin, cos) = (position * rate).sin_cos();
                row[(slot * pairs + p) * 2] = sin as f32;
                row[(slot * pairs + p) * 2 + 1] = cos as f32;
            }
        }
    }
    out
}

/// Angles of rotary embeddings, row-major `[patches, depth]`, for the last `axes` axes of a grid: 2π times the
/// place of a patch's centre, from -1 to 1, times frequencies from 1 down to 1/100. The second half of a row
/// repeats the first (DINOv3; Siméoni et al., arXiv 2508.10104).
pub(crate) fn rotary_angles(grid: [usize; 3], axes: usize, depth: usize) -> Vec<f32> {
    let pairs = depth / (2 * axes);
    let n = grid.iter().product::<usize>();
    let mut out = vec![0.0; n * depth];
    for (i, row) in out.chunks_mut(depth.max(1)).enumerate() {
        let at = [i / (grid[1] * grid[2]), i / grid[2] % grid[1], i % grid[2]];
        for (slot, axis) in (3 - axes..3).enumerate() {
            let place = 2.0 * (at[axis] as f64 + 0.5) / grid[axis] as f64 - 1.0;
            for p in 0..pairs {
                let frequency = 100f64.powf(-(p as f64) / pairs as f64);
                let angle = (std::f64::consts::TAU * place * frequency) as f32;
                row[slot * pairs + p] = angle;
                row[depth / 2 + slot * pairs + p] = angle;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_differ_and_local_ones_lie_within_global_ones() {
        let p = sincos([1, 4, 4], 32);
        let rows: Vec<&[f32]> = p.chunks(32).collect();
        for i in 0..16 {
            for j in 0..i {
                assert_ne!(rows[i], rows[j]);
            }
        }
        let local = sincos([1, 2, 2], 32);
        assert_eq!(rows[5], &local[..32]);
    }

    #[test]
    fn positions_are_cached_by_grid_and_device() {
        let (cache, device) = (Positions::default(), Device::flex());
        let get = |grid, device: &Device| cache.get(grid, 8, device, DType::F32);
        let first = get([1, 2, 3], &device);
        first.into_data().assert_eq(&get([1, 2, 3], &device).into_data(), true);
        assert_eq!(cache.0.0.lock().unwrap().len(), 1);
        assert_eq!(get([1, 2, 2], &device).dims(), [1, 4, 8]);
        assert!(get([1, 2, 3], &device.clone().autodiff()).device().is_autodiff());
        assert_eq!(cache.0.0.lock().unwrap().len(), 3);
        for n in 1..2 * MAX_ENTRIES {
            let _ = get([1, 1, n], &device);
        }
        assert_eq!(cache.0.0.lock().unwrap().len(), MAX_ENTRIES);
    }
}
