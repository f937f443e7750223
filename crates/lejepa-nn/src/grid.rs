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

/// Makes `$kind` build `$encoder` for views of one, two or three axes.
macro_rules! encoder_of_any_grid {
    ($encoder:ty) => {
        impl lejepa_core::Encoder<3> for $encoder {
            fn encode(&self, views: burn::tensor::Tensor<3>) -> burn::tensor::Tensor<2> {
                self.forward($crate::grid::as_volume(views))
            }
            fn dim(&self) -> usize {
                self.width()
            }
        }
        impl lejepa_core::Encoder<4> for $encoder {
            fn encode(&self, views: burn::tensor::Tensor<4>) -> burn::tensor::Tensor<2> {
                self.forward($crate::grid::as_volume(views))
            }
            fn dim(&self) -> usize {
                self.width()
            }
        }
        impl lejepa_core::Encoder<5> for $encoder {
            fn encode(&self, views: burn::tensor::Tensor<5>) -> burn::tensor::Tensor<2> {
                self.forward(views)
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
