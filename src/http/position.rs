//! Where an answer stands in the history of its environment, and how sure of it this replica is.
//!
//! `Vexil-Version` names the position, `Vexil-Min-Version` asks for one, and `Vexil-Stale` says for how many milliseconds the
//! store has not confirmed what is served.
// HOT: each evaluation passes here; no lock.

mod text;

use crate::http::DataState;
use crate::http::error::ApiError;
use crate::model::change::Position;
use crate::snapshot::Environment;
use crate::snapshot::Snapshots;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use std::time::Duration;
use std::time::Instant;
pub(crate) use text::parse_position;
pub(crate) use text::render_position;
use tracing::debug;

const VERSION: HeaderName = HeaderName::from_static("vexil-version");
const MIN_VERSION: HeaderName = HeaderName::from_static("vexil-min-version");
const STALE: HeaderName = HeaderName::from_static("vexil-stale");
/// How long a request waits for the position that it asks for.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Epochs by which no replica is behind: each is made by an operator who accepts that history was lost.
const EPOCHS_AHEAD_MAX: i64 = 8;
/// Versions by which no replica is behind.
const VERSIONS_AHEAD_MAX: i64 = 1_000_000;

/// Waits until what the request asks for is served, and checks that it may still be.
///
/// # Errors
///
/// 400 if `Vexil-Min-Version` is not a position or one that nobody can have been given, 503 if it is not reached in time, if nothing of the environment is loaded, or
/// if the store has not confirmed it for longer than the environment allows.
pub(crate) async fn settle(
    headers: &HeaderMap,
    snapshots: &Snapshots,
    environment: &Environment,
) -> Result<(), ApiError> {
    if !environment.is_loaded() {
        return Err(ApiError::not_ready());
    }
    if let Some(after) = environment.fail_closed_after()
        && !snapshots.is_confirmed_within(environment, after)
    {
        let detail =
            "the store has not confirmed what is served for longer than this environment allows";
        return Err(ApiError::unavailable("unconfirmed", detail));
    }
    match headers.get(MIN_VERSION) {
        None => Ok(()),
        Some(asked) => wait_for(asked, snapshots, environment).await,
    }
}

async fn wait_for(
    asked: &HeaderValue,
    snapshots: &Snapshots,
    environment: &Environment,
) -> Result<(), ApiError> {
    let Some(wanted) = asked.to_str().ok().and_then(parse_position) else {
        let detail = "Vexil-Min-Version must be what Vexil-Version was: <epoch>-<version>";
        return Err(ApiError::bad_request("invalid_version", detail));
    };
    if is_made_up(wanted, environment.position()) {
        let detail = "Vexil-Min-Version is no position that this environment can have reached";
        return Err(ApiError::bad_request("invalid_version", detail));
    }
    if reach(wanted, snapshots, environment).await {
        return Ok(());
    }
    let at = render_position(environment.position());
    let detail = format!("this replica is at {at} and has not reached what was asked for");
    Err(ApiError::unavailable("behind", detail))
}

/// Whether a position is so far ahead of what is served that no answer can have had it.
fn is_made_up(wanted: Position, at: Position) -> bool {
    wanted.epoch > at.epoch.saturating_add(EPOCHS_AHEAD_MAX)
        || wanted.version > at.version.saturating_add(VERSIONS_AHEAD_MAX)
}

/// Waits for a position, but not for long; returns whether it is served.
pub(crate) async fn reach(
    wanted: Position,
    snapshots: &Snapshots,
    environment: &Environment,
) -> bool {
    if environment.position() >= wanted {
        return true;
    }
    snapshots.ring();
    let mut positions = environment.positions();
    let reached = positions.wait_for(|position| *position >= wanted);
    tokio::time::timeout(WAIT_MAX, reached).await.is_ok()
}

/// Whether one who has seen a position can go on from here: it is served, or is within a moment.
///
/// If not, the store has it neither: it was asked and answered meanwhile, so the position is made up or of a history that is
/// gone, and whoever has it begins anew. It is counted, since no replica may be left that has seen what the store has lost.
///
/// # Errors
///
/// 503 if this replica is only behind, or may be: nobody is told of something older than they have seen.
pub(crate) async fn has_reached(
    seen: Position,
    state: &DataState,
    environment: &Environment,
) -> Result<bool, ApiError> {
    let snapshots = &state.snapshots;
    if is_made_up(seen, environment.position()) {
        return Ok(false);
    }
    let began = Instant::now();
    if reach(seen, snapshots, environment).await {
        return Ok(true);
    }
    let is_known = snapshots.is_confirmed_since(began) && !environment.is_quarantined();
    // Installed before it was confirmed, but perhaps after the last wait.
    if environment.position() >= seen {
        return Ok(true);
    }
    let at = render_position(environment.position());
    if is_known && snapshots.regression().is_none() {
        state.metrics.clients_ahead.inc();
        let seen = render_position(seen);
        debug!(
            env.id = environment.id,
            seen, at, "a client has seen what the database does not have"
        );
        return Ok(false);
    }
    let detail = format!("this replica is at {at}, which is before what was seen; try another");
    Err(ApiError::unavailable("behind", detail))
}

/// Says where an answer stands, and for how long nobody has confirmed it.
pub(crate) fn mark(headers: &mut HeaderMap, position: Position, unconfirmed_ms: Option<u64>) {
    if let Ok(value) = HeaderValue::try_from(render_position(position)) {
        headers.insert(VERSION, value);
    }
    if let Some(ms) = unconfirmed_ms {
        headers.insert(STALE, HeaderValue::from(ms));
    }
}

/// For how many milliseconds the store has not confirmed what an environment serves, if that is longer than need be told.
pub(crate) fn unconfirmed_ms(snapshots: &Snapshots, environment: &Environment) -> Option<u64> {
    let unconfirmed = snapshots.unconfirmed_for(environment)?;
    Some(u64::try_from(unconfirmed.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_that_no_replica_can_be_behind_is_made_up() {
        let at = Position { epoch: 1, version: 40 };
        for (epoch, version) in [(0, 0), (1, 40), (1, 41), (1, 900_000), (2, 1), (9, 900_000)] {
            assert!(!is_made_up(Position { epoch, version }, at), "{epoch}-{version}");
        }
        for (epoch, version) in [(1, 1_000_041), (10, 1), (i64::MAX, i64::MAX)] {
            assert!(is_made_up(Position { epoch, version }, at), "{epoch}-{version}");
        }
    }
}
