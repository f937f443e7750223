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
                views: Vec<burn::tensor::Tensor<$rank>>,
            ) -> burn::tensor::Tensor<2> {
                self.forward_all(views.into_iter().map($crate::grid::as_volume).collect())
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

/// The grids of the views that an encoder will meet.
pub(crate) fn grids(views: &lejepa_core::ViewSpec) -> Vec<&[usize]> {
    let mut all = vec![views.grid()];
    if views.locals > 0 && views.local != views.global {
        all.push(views.local.get(1..).unwrap_or(&[]));
    }
    all
}
