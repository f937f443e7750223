//! Range checks for [`Modality::sampler`](crate::Modality::sampler) and other builders. Keys are dotted, as a
//! user writes them.
//!
//! ```
//! use lejepa_core::config::check;
//!
//! check::within("audio.hop", 256, 1..=512)?;
//! check::ascending("audio.speed", [0.95, 1.05], 0.25..=4.0)?;
//! check::one_of("image.channels", 3, &[1, 3])?;
//! check::ensure("image.max_side", true, "must be 0 (off) or at least 16")?;
//!
//! let error = check::within("audio.hop", 0, 1..=512).unwrap_err();
//! let text = "configuration key `audio.hop`: must be from 1 to 512, got 0";
//! assert_eq!(error.to_string(), text);
//! # Ok::<(), lejepa_core::Error>(())
//! ```

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::{Error, Result};

/// Refuses a value outside `range`. NaN is outside every range.
///
/// # Errors
/// [`Error::BadValue`], which names the key and the range.
///
/// ```
/// use lejepa_core::config::check::within;
///
/// assert!(within("image.flip", 0.5, 0.0..=1.0).is_ok());
/// assert!(within("image.flip", f64::NAN, 0.0..=1.0).is_err());
/// ```
pub fn within<T: PartialOrd + Display>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<()> {
    let (low, high) = (range.start(), range.end());
    let reason = format_args!("must be from {low} to {high}, got {value}");
    ensure(key, range.contains(&value), reason)
}

/// Refuses a pair with a value outside `range`, or whose first value is the larger one.
///
/// # Errors
/// [`Error::BadValue`], which names the key and the range.
///
/// ```
/// use lejepa_core::config::check::ascending;
///
/// assert!(ascending("video.stride", [2, 2], 1..=1024).is_ok());
/// assert!(ascending("video.stride", [2, 1], 1..=1024).is_err());
/// assert!(ascending("video.stride", [0, 1], 1..=1024).is_err());
/// ```
pub fn ascending<T: PartialOrd + Display>(
    key: &str,
    [first, second]: [T; 2],
    range: RangeInclusive<T>,
) -> Result<()> {
    let (low, high) = (range.start(), range.end());
    let ascends = range.contains(&first) && range.contains(&second) && first <= second;
    let reason = format_args!(
        "must be two values from {low} to {high} in ascending order, got [{first}, {second}]"
    );
    ensure(key, ascends, reason)
}

/// Refuses a value that is not in the list.
///
/// # Errors
/// [`Error::BadValue`], which names the key and the list.
///
/// ```
/// use lejepa_core::config::check::one_of;
///
/// let error = one_of("image.channels", 2, &[1, 3]).unwrap_err();
/// assert!(error.to_string().ends_with("must be 1 or 3, got 2"));
/// ```
pub fn one_of<T: PartialEq + Display>(key: &str, value: T, allowed: &[T]) -> Result<()> {
    let list = allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    ensure(key, allowed.contains(&value), format_args!("must be {list}, got {value}"))
}

/// Refuses whatever the caller found wrong with a value.
///
/// # Errors
/// [`Error::BadValue`] with this reason, unless `ok`.
///
/// ```
/// use lejepa_core::config::check::ensure;
///
/// let side = 8;
/// assert!(ensure("image.max_side", side >= 16, "must be at least 16").is_err());
/// ```
pub fn ensure(key: &str, ok: bool, reason: impl Display) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::bad_value(key, reason)) }
}
