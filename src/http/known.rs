//! Callers whose token may be news here: another replica made it a moment ago, or the store is not there to ask.
//!
//! SDKs that hear that their token is wrong give up, some until they are restarted, so they hear it only when it is sure.
//! Routes of administrators do not wait: people try again.

use crate::http::error::ApiError;
use crate::snapshot::Snapshots;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The code of an error about a token that nobody knows.
const TOKEN_UNKNOWN: &str = "token_unknown";
/// How long a request waits for its token to become known: longer than from one look at the store to the next.
const TOKEN_WAIT_MAX: Duration = Duration::from_secs(2);
/// Requests that wait so at once; further ones are told to try again, so that strangers cannot hold what others need.
const WAITING_MAX: usize = 1_000;

static WAITING: Semaphore = Semaphore::const_new(WAITING_MAX);

/// Finds out who is calling, or of which environment, and waits for what is not known yet.
///
/// # Errors
///
/// As `find`, but 503 in place of 401 or 404 for what the store may know.
pub(crate) async fn known<T>(
    snapshots: &Snapshots,
    find: impl Fn() -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    match find() {
        Err(error) if is_unknown(&error) => {}
        known_or_refused => return known_or_refused,
    }
    let Ok(_waiting) = WAITING.try_acquire() else {
        let detail = "the token is not known here, and many are waited for already";
        return Err(ApiError::unavailable("token_unconfirmed", detail));
    };
    let began = Instant::now();
    let mut changes = snapshots.directory_changes();
    // Without ringing: requests that nobody vouches for must not make work for the database.
    let becomes_known = async {
        while find().as_ref().is_err_and(is_unknown) {
            // OK because the sender lives in the snapshots.
            let _ = changes.changed().await;
        }
    };
    let _ = timeout(TOKEN_WAIT_MAX, becomes_known).await;
    // Asked before it is looked for once more, because what is confirmed was installed before.
    let is_sure = snapshots.is_confirmed_since(began);
    find().map_err(|error| soften(error, is_sure))
}

/// Whether it is about a token or an environment that is not known here.
pub(crate) fn is_unknown(error: &ApiError) -> bool {
    matches!(error.code, TOKEN_UNKNOWN | "not_found")
}

/// What is not known may have been created since the store was last asked: SDKs that are told so would give up for ever.
fn soften(error: ApiError, is_sure: bool) -> ApiError {
    if is_sure || !is_unknown(&error) {
        return error;
    }
    let detail =
        "the token is not known here, and the store has not confirmed that it does not exist";
    ApiError::unavailable("unconfirmed", detail)
}
