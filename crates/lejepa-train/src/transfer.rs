//! Views on their way into a tensor on the device.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use lejepa_core::{Error, Values, View};
use lejepa_kernels::supports;
use rayon::prelude::*;

use crate::Result;

/// Views of one shape as a tensor, `[views, width]`. They are read where the sampler left
/// them, and written once: into the tensor's memory, or into what travels to the device.
///
/// # Errors
/// [`Error::Shape`] where one of them has another shape.
pub(crate) fn to_device(views: &[&View], device: &Device) -> Result<Tensor<2>> {
    let shape = views.first().map_or(&[][..], |view| view.shape());
    if let Some(other) = views.iter().find(|view| view.shape() != shape) {
        let what = "a view among others".into();
        let expected = format!("{shape:?}, as the first one");
        return Err(Error::Shape { what, expected, got: other.shape().to_vec() }.into());
    }
    // No transfer on the CPU.
    if !supports(device, DType::F32)
        && let Some(tensor) = unpacked(views, device)
    {
        return Ok(tensor);
    }
    let width = views.first().map_or(0, |view| view.values().len());
    let mut all = vec![0.0; views.len() * width];
    let rows = all.par_chunks_mut(width.max(1)).zip(views);
    rows.try_for_each(|(row, view)| view.write_to(row))?;
    Ok(Tensor::from_data(TensorData::new(all, [views.len(), width]), device))
}

/// Views of one rank and of several lengths, each padded with zeros to the longest.
pub(crate) struct Padded {
    /// `[views, width]`.
    pub(crate) values: Tensor<2>,
    /// Channels and the largest length along each axis.
    pub(crate) shape: Vec<usize>,
    /// `[views, axes]`: the length of each view along each axis of the grid.
    pub(crate) lengths: Tensor<2, Int>,
}

/// Pads views of several lengths. They have the same rank and channels.
pub(crate) fn padded(views: &[&View], device: &Device) -> Padded {
    let rank = views.first().map_or(0, |view| view.shape().len());
    let longest = |axis: usize| views.iter().map(|view| view.shape()[axis]).max().unwrap_or(0);
    let shape: Vec<usize> = (0..rank).map(longest).collect();
    let width = shape.iter().product::<usize>();
    let mut all = vec![0.0; views.len() * width];
    all.par_chunks_mut(width.max(1)).zip(views).for_each(|(into, view)| {
        let from = view.data();
        let row = view.shape().last().copied().unwrap_or(1);
        for (i, values) in from.chunks_exact(row.max(1)).enumerate() {
            // The place of the row's first value, axis by axis from the last but one.
            let (mut rest, mut at, mut stride) = (i, 0, shape[rank - 1]);
            for axis in (0..rank - 1).rev() {
                at += rest % view.shape()[axis] * stride;
                rest /= view.shape()[axis];
                stride *= shape[axis];
            }
            into[at..at + values.len()].copy_from_slice(values);
        }
    });
    let lengths: Vec<i32> =
        views.iter().flat_map(|view| view.shape()[1..].iter().map(|&n| n as i32)).collect();
    Padded {
        values: Tensor::from_data(TensorData::new(all, [views.len(), width]), device),
        lengths: Tensor::from_data(TensorData::new(lengths, [views.len(), rank - 1]), device),
        shape,
    }
}

/// Views that are bytes of one scale, uploaded four to a 32-bit word and unpacked on the device. `None`
/// for other views.
fn unpacked(views: &[&View], device: &Device) -> Option<Tensor<2>> {
    let first = views.first()?;
    let Values::Bytes { bytes, levels } = first.values() else { return None };
    let (count, width, channels) = (views.len(), bytes.len(), levels.channels());
    let words_of = width.div_ceil(4);
    let mut words = vec![0i32; count * words_of];
    for (view, words) in views.iter().zip(words.chunks_exact_mut(words_of)) {
        let Values::Bytes { bytes, levels: same } = view.values() else { return None };
        if same != levels {
            return None;
        }
        for (word, bytes) in words.iter_mut().zip(bytes.chunks(4)) {
            let mut four = [0; 4];
            four[..bytes.len()].copy_from_slice(bytes);
            *word = i32::from_le_bytes(four);
        }
    }
    let words = Tensor::<2, Int>::from_data(TensorData::new(words, [count, words_of]), device);
    let byte = |n: u32| words.clone().bitwise_right_shift_scalar(8 * n).bitwise_and_scalar(255);
    let all = Tensor::<2, Int>::stack::<3>((0..4).map(byte).collect(), 2);
    let all = all.reshape([count, 4 * words_of]).narrow(1, 0, width);
    let values = all.float().reshape([count, channels, width / channels.max(1)]);
    let of = |x: &[f32]| {
        Tensor::<3>::from_data(TensorData::new(x[..channels].to_vec(), [1, channels, 1]), device)
    };
    Some((values * of(&levels.scale) + of(&levels.shift)).reshape([count, width]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lejepa_core::Levels;

    use super::*;

    #[test]
    fn views_of_other_shapes_or_scales_are_noticed() {
        let device = Device::flex();
        let view = View::new([2, 3], vec![0.5; 6]).unwrap();
        let flat = View::new([1, 6], vec![0.5; 6]).unwrap();
        let error = to_device(&[&view, &flat], &device).unwrap_err();
        assert!(error.to_string().contains("among others"), "{error}");
        // Bytes mixed with numbers, or with bytes of another scale, travel as numbers.
        let of = |std| {
            let levels = Arc::new(Levels::normalizing(&[0.0], &[std]));
            View::from_bytes([1, 2], vec![0, 255], levels).unwrap()
        };
        let numbers = View::new([1, 2], vec![7.0, 8.0]).unwrap();
        for (other, want) in [(numbers, [0.0, 1.0, 7.0, 8.0]), (of(0.5), [0.0, 1.0, 0.0, 2.0])] {
            let views = [&of(1.0), &other];
            assert!(unpacked(&views, &device).is_none());
            let got: Vec<f32> = to_device(&views, &device).unwrap().try_into_vec_as().unwrap();
            assert_eq!(got, want);
        }
    }

    #[test]
    fn shorter_views_are_padded_along_every_axis() {
        let view = |shape: [usize; 3]| {
            let count = shape.iter().product::<usize>();
            View::new(shape, (1..=count).map(|i| i as f32).collect()).unwrap()
        };
        let (a, b) = (view([2, 1, 3]), view([2, 2, 1]));
        let padded = padded(&[&a, &b], &Device::flex());
        assert_eq!(padded.shape, [2, 2, 3]);
        let values: Vec<f32> = padded.values.try_into_vec_as().unwrap();
        assert_eq!(values[..12], [1., 2., 3., 0., 0., 0., 4., 5., 6., 0., 0., 0.]);
        assert_eq!(values[12..], [1., 0., 0., 2., 0., 0., 3., 0., 0., 4., 0., 0.]);
        let lengths: Vec<i32> = padded.lengths.into_data().iter::<i32>().collect();
        assert_eq!(lengths, [1, 3, 2, 1]);
    }

    #[test]
    fn bytes_are_the_same_numbers_wherever_they_become_so() {
        let levels = Arc::new(Levels::normalizing(&[0.4, 0.5, 0.6], &[0.2, 0.3, 0.1]));
        // 105 bytes, which four do not divide.
        let shape = [3, 5, 7];
        let bytes: Vec<u8> = (0..2 * 105).map(|i| (i * 37 % 256) as u8).collect();
        let want: Vec<f32> = bytes.chunks(105).flat_map(|b| levels.of(b, &shape)).collect();
        let views: Vec<View> = bytes
            .chunks(105)
            .map(|bytes| View::from_bytes(shape, bytes.to_vec(), levels.clone()).unwrap())
            .collect();
        let views: Vec<&View> = views.iter().collect();
        for device in [Device::flex(), Device::flex().autodiff()] {
            let far = unpacked(&views, &device).unwrap();
            let here = to_device(&views, &device).unwrap();
            for tensor in [far, here] {
                assert_eq!(tensor.dims(), [2, 105]);
                let got: Vec<f32> = tensor.try_into_vec_as().unwrap();
                let off = |(a, b): (&f32, &f32)| (a - b).abs();
                assert!(got.iter().zip(&want).map(off).fold(0.0, f32::max) < 1e-6);
            }
        }
    }
}
