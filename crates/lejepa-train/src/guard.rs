//! Panics of plugin code, caught and turned into errors.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lejepa_core::Error;

use crate::Result;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic on this thread would be caught and become an error about a sample, so that a
/// panic hook need not print it.
///
/// ```
/// // Code of a modality that panics while a sample is read is caught; here nothing is read.
/// assert!(!lejepa_train::is_guarded());
/// ```
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// Runs foreign code; a panic in it becomes its message.
pub(crate) fn catch_panics<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(outer);
    result.map_err(|panic| {
        let message = panic.downcast_ref::<&str>().map(ToString::to_string);
        message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
    })
}

/// Runs plugin code; a panic in it becomes an error about the sample.
pub(crate) fn guarded<T>(
    run: impl FnOnce() -> Result<T, Error>,
    name: impl FnOnce() -> String,
) -> Result<T, Error> {
    catch_panics(run).unwrap_or_else(|message| {
        Err(Error::sample(name(), format!("the plugin panicked: {message}")))
    })
}
