//! Views of one, two and three axes treated alike: missing leading axes have length one.

use burn::tensor::Tensor;

/// The three grid axes (time, height, width) of a view batch `[B, C, ...]`.
pub(crate) fn grid3<const RANK: usize>(dims: [usize; RANK]) -> [usize; 3] {
    let mut grid = [1; 3];
    let axes = RANK - 2;
    grid[3 - axes..].copy_from_slice(&dims[2..]);
    grid
}

/// `[B, C, ...]` as `[B, C, T, H, W]`.
pub(crate) fn as_volume<const RANK: usize>(views: Tensor<RANK>) -> Tensor<5> {
    let dims = views.dims();
    let [t, h, w] = grid3(dims);
    views.reshape([dims[0], dims[1], t, h, w])
}

/// Views of several shapes as volumes; lengths are an error.
pub(crate) fn as_volumes<const RANK: usize>(
    inputs: Vec<lejepa_core::Input<RANK>>,
) -> lejepa_core::Result<Vec<Tensor<5>>> {
    let volume = |input: lejepa_core::Input<RANK>| match input.lengths {
        None => Ok(as_volume(input.values)),
        Some(_) => Err(lejepa_core::Error::bad_value(
            "encoder.name",
            "this encoder does not support views of varying length",
        )),
    };
    inputs.into_iter().map(volume).collect()
}

/// Makes `$encoder` an [`Encoder`](lejepa_core::Encoder) of views of one, two or three axes. It has
/// `forward_all` for views of several shapes.
macro_rules! encoder_of_any_grid {
    ($encoder:ty) => {
        $crate::grid::encoder_of_any_grid!($encoder, 3);
        $crate::grid::encoder_of_any_grid!($encoder, 4);
        $crate::grid::encoder_of_any_grid!($encoder, 5);
    };
    ($encoder:ty, $rank:literal) => {
        impl lejepa_core::Encoder<$rank> for $encoder {
            fn encode(&self, views: burn::tensor::Tensor<$rank>) -> burn::tensor::Tensor<2> {
                self.forward_all(vec![$crate::grid::as_volume(views)])
            }
            fn encode_all(
                &self,
                inputs: Vec<lejepa_core::Input<$rank>>,
            ) -> lejepa_core::Result<burn::tensor::Tensor<2>> {
                Ok(self.forward_all($crate::grid::as_volumes(inputs)?))
            }
            fn dim(&self) -> usize {
                self.width()
            }
        }
    };
}
pub(crate) use encoder_of_any_grid;

/// Boxes an encoder of any grid for views of `axes` grid axes.
pub(crate) fn boxed<E>(encoder: E, axes: usize) -> lejepa_core::Result<lejepa_core::BoxedEncoder>
where
    E: lejepa_core::Encoder<3> + lejepa_core::Encoder<4> + lejepa_core::Encoder<5>,
{
    use lejepa_core::BoxedEncoder;
    match axes {
        1 => Ok(BoxedEncoder::new::<3>(encoder)),
        2 => Ok(BoxedEncoder::new::<4>(encoder)),
        3 => Ok(BoxedEncoder::new::<5>(encoder)),
        _ => Err(lejepa_core::Error::bad_value(
            "encoder.name",
            format!("this encoder takes views of 1 to 3 grid axes, these have {axes}"),
        )),
    }
}
