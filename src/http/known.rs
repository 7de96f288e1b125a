//! Callers whose token may be news here: another replica made it a moment ago, or the store is not there to ask.
//!
//! SDKs that hear that their token is wrong give up, some until they are restarted, so they hear it only when it is sure.
//! Routes of administrators do not wait: people try again.

use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::snapshot::Freshness;
use crate::snapshot::Snapshots;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::timeout_at;

/// The code of an error about a token that nobody knows.
const TOKEN_UNKNOWN: &str = "token_unknown";
/// How long a request waits for its token to become known: longer than from one look at the store to the next.
const TOKEN_WAIT_MAX: Duration = Duration::from_millis(1_500);
/// Requests that wait so at once; further ones are told to try again, so that strangers cannot hold what others need.
const WAITING_MAX: usize = 1_000;

static WAITING: Semaphore = Semaphore::const_new(WAITING_MAX);

/// Finds out who is calling, and waits for a token that is not known yet.
///
/// # Errors
///
/// As `find`, but 503 in place of 401 for a token that the store may know.
pub(crate) async fn known_caller(
    snapshots: &Snapshots,
    find: impl Fn() -> Result<Caller, ApiError>,
) -> Result<Caller, ApiError> {
    match find() {
        Err(error) if error.code == TOKEN_UNKNOWN => {}
        known_or_refused => return known_or_refused,
    }
    let Ok(_waiting) = WAITING.try_acquire() else {
        let detail = "the token is not known here, and many are waited for already";
        return Err(ApiError::unavailable("token_unconfirmed", detail));
    };
    let freshness = snapshots.freshness();
    let mut changes = snapshots.directory_changes();
    let deadline = Instant::now() + TOKEN_WAIT_MAX;
    loop {
        let error = match find() {
            Err(error) if error.code == TOKEN_UNKNOWN => error,
            known_or_refused => return known_or_refused,
        };
        // Without ringing: requests that nobody vouches for must not make work for the database.
        match timeout_at(deadline, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(soften(error, &freshness)),
        }
    }
}

/// What is not known may have been created since the store was last heard of: SDKs that are told so would give up for ever.
pub(crate) fn soften(error: ApiError, freshness: &Freshness) -> ApiError {
    let is_unknown = matches!(error.code, TOKEN_UNKNOWN | "not_found");
    if is_unknown && freshness.unconfirmed_for().is_some() {
        let detail = "the token is not known here, and the store has not confirmed for a while that it does not exist";
        return ApiError::unavailable("unconfirmed", detail);
    }
    error
}
