//! Work that takes long enough to keep other requests waiting, done where it does not. What is worth that is decided where it is done.

use crate::http::error::ApiError;

/// Runs what takes long where it holds up no request.
///
/// # Errors
///
/// 500 if it panics.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::internal())
}
