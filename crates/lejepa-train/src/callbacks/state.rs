//! State of callbacks in checkpoints.

/// State of a callback that is plain data.
pub(super) fn to_json(state: &impl serde::Serialize, name: &str) -> crate::Result<Option<Vec<u8>>> {
    serde_json::to_vec(state).map(Some).map_err(|e| unreadable(name, e))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    state: &[u8],
    name: &str,
) -> crate::Result<T> {
    serde_json::from_slice(state).map_err(|e| unreadable(name, e))
}

pub(super) fn unreadable(name: &str, reason: impl ToString) -> crate::TrainError {
    let path = std::path::Path::new("callbacks").join(name);
    crate::TrainError::Corrupt { path, reason: reason.to_string() }
}
