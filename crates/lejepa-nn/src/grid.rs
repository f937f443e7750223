//! Views of one, two and three axes treated alike: missing leading axes have length one.

use burn::tensor::{Int, Tensor};
use lejepa_core::{Error, Features, Input, Published, Result, Wants};

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

/// An encoder of views as volumes `[B, C, T, H, W]`; [`encoder_of_any_grid`] makes it an
/// [`Encoder`](lejepa_core::Encoder) of every rank.
pub(crate) trait GridEncoder {
    /// Width of the embedding.
    fn width(&self) -> usize;

    /// Embeds views of several shapes, one after the other.
    fn forward_all(&self, views: Vec<Tensor<5>>) -> Tensor<2>;

    /// Along each axis the cells that make up one token, where views of varying length are embedded one by one, cut to
    /// whole tokens.
    fn patch(&self) -> Option<[usize; 3]> {
        None
    }

    /// Embeds views that are padded to one size, of which each has its own, where the encoder does so.
    fn forward_padded(&self, views: Tensor<5>, sizes: &[[usize; 3]]) -> Option<Tensor<2>> {
        let _ = (views, sizes);
        None
    }

    /// See [`Encoder::takes_lengths`](lejepa_core::Encoder::takes_lengths).
    fn takes_lengths(&self) -> bool {
        self.patch().is_some()
    }

    /// Features of views of one shape.
    fn features(&self, views: Tensor<5>, wants: &Wants) -> Result<Features> {
        if wants.is_pooled() {
            Ok(Features::pooled(self.forward_all(vec![views])))
        } else {
            Err(unsupported("dense features"))
        }
    }

    /// See [`Encoder::undecayed`](lejepa_core::Encoder::undecayed).
    fn undecayed(&self) -> Vec<String> {
        Vec::new()
    }

    /// See [`Encoder::published`](lejepa_core::Encoder::published).
    fn published(&self) -> Option<Box<dyn Published>> {
        None
    }
}

fn unsupported(what: &str) -> Error {
    Error::bad_value("encoder.name", format!("this encoder does not support {what}"))
}

/// Views of several shapes as volumes. Those of varying length become one volume each, cut to their whole
/// patches, so that no padding is embedded.
fn as_volumes<const RANK: usize>(
    inputs: Vec<Input<RANK>>,
    patch: Option<[usize; 3]>,
) -> Result<Vec<Tensor<5>>> {
    let mut volumes = Vec::with_capacity(inputs.len());
    for input in inputs {
        let volume = as_volume(input.values);
        match (input.lengths, patch) {
            (None, None) => volumes.push(volume),
            (None, Some(patch)) => volumes.push(to_whole(volume, patch)),
            (Some(lengths), Some(patch)) => volumes.extend(cut(volume, lengths, patch)),
            (Some(_), None) => return Err(unsupported("views of varying length")),
        }
    }
    Ok(volumes)
}

/// Embeds views of several shapes, one after the other.
pub(crate) fn embed_all<const RANK: usize>(
    encoder: &impl GridEncoder,
    inputs: Vec<Input<RANK>>,
) -> Result<Tensor<2>> {
    if encoder.patch().is_some() || inputs.iter().all(|input| input.lengths.is_none()) {
        return Ok(encoder.forward_all(as_volumes(inputs, encoder.patch())?));
    }
    let embed = |input: Input<RANK>| match input.lengths {
        None => Ok(encoder.forward_all(vec![as_volume(input.values)])),
        Some(lengths) => encoder
            .forward_padded(as_volume(input.values), &sizes(lengths))
            .ok_or_else(|| unsupported("views of varying length")),
    };
    Ok(Tensor::cat(inputs.into_iter().map(embed).collect::<Result<_>>()?, 0))
}

/// The three grid axes of each view, from lengths `[B, axes]`.
fn sizes(lengths: Tensor<2, Int>) -> Vec<[usize; 3]> {
    let [_, axes] = lengths.dims();
    let lengths: Vec<usize> =
        lengths.into_data().iter::<i64>().map(|n| n.max(1) as usize).collect();
    let size = |lengths: &[usize]| {
        let mut size = [1; 3];
        size[3 - axes..].copy_from_slice(lengths);
        size
    };
    lengths.chunks_exact(axes).map(size).collect()
}

/// Views, of which the longest may end within a patch, with zeros up to whole patches.
fn to_whole(mut views: Tensor<5>, patch: [usize; 3]) -> Tensor<5> {
    for (axis, patch) in patch.into_iter().enumerate() {
        let mut shape = views.dims();
        let there = shape[2 + axis];
        shape[2 + axis] = there.next_multiple_of(patch) - there;
        if shape[2 + axis] > 0 {
            let zeros = Tensor::zeros(shape, (&views.device(), views.dtype()));
            views = Tensor::cat(vec![views, zeros], 2 + axis);
        }
    }
    views
}

/// Each view alone, as far as its own patches reach.
fn cut(views: Tensor<5>, lengths: Tensor<2, Int>, patch: [usize; 3]) -> Vec<Tensor<5>> {
    let view = |(i, size): (usize, [usize; 3])| {
        let mut view = to_whole(views.clone().narrow(0, i, 1), patch);
        for (axis, (length, patch)) in size.into_iter().zip(patch).enumerate() {
            view = view.narrow(2 + axis, 0, length.div_ceil(patch) * patch);
        }
        view
    };
    sizes(lengths).into_iter().enumerate().map(view).collect()
}

/// Makes `$encoder`, a [`GridEncoder`], an [`Encoder`](lejepa_core::Encoder) of views of one, two or three
/// axes.
macro_rules! encoder_of_any_grid {
    ($encoder:ty) => {
        $crate::grid::encoder_of_any_grid!($encoder, 3);
        $crate::grid::encoder_of_any_grid!($encoder, 4);
        $crate::grid::encoder_of_any_grid!($encoder, 5);
    };
    ($encoder:ty, $rank:literal) => {
        impl lejepa_core::Encoder<$rank> for $encoder {
            fn encode(&self, views: burn::tensor::Tensor<$rank>) -> burn::tensor::Tensor<2> {
                $crate::grid::GridEncoder::forward_all(self, vec![$crate::grid::as_volume(views)])
            }
            fn dim(&self) -> usize {
                $crate::grid::GridEncoder::width(self)
            }
            fn encode_all(
                &self,
                inputs: Vec<lejepa_core::Input<$rank>>,
            ) -> lejepa_core::Result<burn::tensor::Tensor<2>> {
                $crate::grid::embed_all(self, inputs)
            }
            fn features(
                &self,
                input: lejepa_core::Input<$rank>,
                wants: &lejepa_core::Wants,
            ) -> lejepa_core::Result<lejepa_core::Features> {
                $crate::grid::features(self, input, wants)
            }
            fn takes_lengths(&self) -> bool {
                $crate::grid::GridEncoder::takes_lengths(self)
            }
            fn undecayed(&self) -> Vec<String> {
                $crate::grid::GridEncoder::undecayed(self)
            }
            fn published(&self) -> Option<Box<dyn lejepa_core::Published>> {
                $crate::grid::GridEncoder::published(self)
            }
        }
    };
}

/// Features of views of one rank; their grid has as many axes as the views.
pub(crate) fn features<const RANK: usize>(
    encoder: &impl GridEncoder,
    input: Input<RANK>,
    wants: &Wants,
) -> Result<Features> {
    if wants.is_pooled() {
        return Ok(Features::pooled(embed_all(encoder, vec![input])?));
    }
    if input.lengths.is_some() {
        return Err(unsupported("dense features of views of varying length"));
    }
    let mut features = encoder.features(as_volume(input.values), wants)?;
    let axes = features.grid.len();
    features.grid.drain(..axes.saturating_sub(RANK - 2));
    Ok(features)
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
