//! What a step reads from the device, in one transfer.

use burn::tensor::{FloatDType, Tensor};

use crate::Result;
use crate::batch::Batch;
use crate::callback::{Callback, Scalars};
use crate::step::Pass;

/// What a step read from the device in addition to its losses.
#[derive(Default)]
pub(crate) struct Readback {
    /// The projections, where the step is logged.
    pub(crate) projections: Option<Vec<f32>>,
    /// What each callback asked for.
    pub(crate) callbacks: Vec<Vec<f32>>,
}

impl Readback {
    /// The losses by name, and what is read with them.
    ///
    /// # Errors
    /// [`TrainError::Device`](crate::TrainError::Device) where the device fails.
    pub(crate) fn new(
        pass: &Pass,
        batch: &Batch,
        callbacks: &[Box<dyn Callback>],
        is_logged: bool,
    ) -> Result<(Scalars, Self)> {
        let losses = &pass.losses;
        let names = std::iter::once("loss").chain(losses.terms.iter().map(|(name, _)| *name));
        let names: Vec<&str> = names.collect();
        let mut all = vec![Some(losses.total.clone())];
        all.extend(losses.terms.iter().map(|(_, value)| Some(value.clone())));
        all.push(is_logged.then(|| pass.projections.clone().flatten(0, 2)));
        all.extend(callbacks.iter().map(|callback| callback.read(pass, batch)));
        let mut values = read(all)?.into_iter();
        let of_losses = values.by_ref().take(names.len());
        let scalar = |value: Vec<f32>| value.first().copied().map_or(f64::NAN, f64::from);
        let scalars =
            names.iter().zip(of_losses).map(|(name, value)| ((*name).to_string(), scalar(value)));
        let scalars = scalars.collect();
        let projections = values.next().filter(|_| is_logged);
        Ok((scalars, Self { projections, callbacks: values.collect() }))
    }
}

/// The values of each tensor; none for `None`.
fn read(tensors: Vec<Option<Tensor<1>>>) -> Result<Vec<Vec<f32>>> {
    let size = |tensor: &Option<Tensor<1>>| tensor.as_ref().map_or(0, |tensor| tensor.dims()[0]);
    let sizes: Vec<usize> = tensors.iter().map(size).collect();
    let tensors = tensors.into_iter().flatten().filter(|tensor| tensor.dims()[0] > 0);
    // One transfer needs one type.
    let narrow: Vec<_> = tensors.map(|tensor| tensor.detach().cast(FloatDType::F32)).collect();
    if narrow.is_empty() {
        return Ok(vec![Vec::new(); sizes.len()]);
    }
    let mut rest = Tensor::cat(narrow, 0).try_into_vec_as::<f32>()?.into_iter();
    Ok(sizes.into_iter().map(|size| rest.by_ref().take(size).collect()).collect())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn every_tensor_gets_its_own_values() {
        let device = Device::flex();
        let of = |values: &[f32]| Some(Tensor::<1>::from_floats(values, &device));
        let wide = Some(Tensor::<1>::from_floats([4.0], &device).cast(FloatDType::F64));
        let got = read(vec![of(&[1.0, 2.0]), None, of(&[3.0]), wide, None]).unwrap();
        assert_eq!(got, [vec![1.0, 2.0], vec![], vec![3.0], vec![4.0], vec![]]);
        assert_eq!(read(vec![None, None]).unwrap(), [vec![], vec![]] as [Vec<f32>; 2]);
    }
}
