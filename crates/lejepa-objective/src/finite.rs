//! NaN and infinity are refused by name, before they become a loss that is not a number.

use burn::tensor::Tensor;

use crate::ObjectiveError;

/// `Ok` where every element is finite; else what and where the first bad one is.
pub(crate) fn check_finite<const D: usize>(
    tensor: &'static str,
    values: &Tensor<D>,
) -> Result<(), ObjectiveError> {
    // 0 times a number is 0 but for NaN and infinity: one number to wait for. Where it cannot be
    // read the device has failed, and reading the loss will report it.
    let sum = (values.clone().detach() * 0.0).sum().try_into_data();
    let finite = sum.map_or(true, |d| d.iter::<f64>().all(|x| x == 0.0));
    if finite {
        return Ok(());
    }
    let Ok(data) = values.clone().detach().try_into_data() else { return Ok(()) };
    let bad: Vec<(usize, f64)> =
        data.iter::<f64>().enumerate().filter(|(_, x)| !x.is_finite()).collect();
    let Some(&(mut at, value)) = bad.first() else { return Ok(()) };
    let mut place = vec![0; D];
    for (place, size) in place.iter_mut().zip(values.dims()).rev() {
        *place = at % size;
        at /= size;
    }
    let total = values.dims().iter().product();
    Err(ObjectiveError::NotFinite { tensor, bad: bad.len(), total, place, value })
}
