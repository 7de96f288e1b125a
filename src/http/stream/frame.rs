//! What stands on the wire: the blocks of a stream, each ready to be sent.
//!
//! Which block a stream gets, and when, is decided in `body`.
//!
//! Source: the `text/event-stream` format of the HTML standard.

use crate::http::position::render_position;
use crate::model::change::Position;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::snapshot::Change;
use crate::snapshot::Environment;
use bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// A comment, which every client skips.
pub(super) const HEARTBEAT: &[u8] = b": hb\n\n";

/// The data of one event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangeData<'a> {
    /// The environment's version.
    version: i64,
    /// The flags that are new, changed or gone.
    flags: Vec<&'a str>,
    /// The segments that are new, changed or gone.
    segments: Vec<&'a str>,
    /// Present if it is not known what the client has missed: then all keys are listed, and deleted ones are not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    full: bool,
}

/// The data of an event that says whether what is served is confirmed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusData {
    stale: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    unconfirmed_ms: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    quarantined: bool,
}

/// The first block, which goes out at once, so that proxies pass the headers on.
///
/// With `cursor`, it sets the client's last id without dispatching an event.
pub(super) fn greeting(retry_ms: u32, cursor: Option<Position>) -> Bytes {
    Bytes::from(match cursor {
        None => format!("retry: {retry_ms}\n\n"),
        Some(cursor) => format!("retry: {retry_ms}\nid: {}\n\n", render_position(cursor)),
    })
}

/// The last block of a stream whose replica is about to stop.
pub(super) fn goodbye(retry_ms: u32) -> Bytes {
    let block = format!("retry: {retry_ms}\nevent: goodbye\ndata: {{\"retryMs\":{retry_ms}}}\n\n");
    Bytes::from(block)
}

/// Says for how long the store has not confirmed what is served, or that it does again, and whether something cannot be read.
pub(super) fn status(unconfirmed_for: Option<Duration>, quarantined: bool) -> Bytes {
    let unconfirmed_ms = unconfirmed_for.and_then(|time| u64::try_from(time.as_millis()).ok());
    let data = StatusData { stale: unconfirmed_for.is_some(), unconfirmed_ms, quarantined };
    // OK because booleans and numbers always have a JSON form.
    let data = serde_json::to_string(&data).unwrap_or_default();
    Bytes::from(format!("event: status\ndata: {data}\n\n"))
}

/// One change.
pub(super) fn change(change: &Change) -> Bytes {
    event(
        change.to,
        &ChangeData {
            version: change.to.version,
            flags: change.flags.iter().map(FlagKey::as_str).collect(),
            segments: change.segments.iter().map(SegmentKey::as_str).collect(),
            full: false,
        },
    )
}

/// Several changes as one.
pub(super) fn merged(to: Position, changes: &[Arc<Change>]) -> Bytes {
    let flags: BTreeSet<&FlagKey> = changes.iter().flat_map(|c| &c.flags).collect();
    let segments: BTreeSet<&SegmentKey> = changes.iter().flat_map(|c| &c.segments).collect();
    event(
        to,
        &ChangeData {
            version: to.version,
            flags: flags.into_iter().map(FlagKey::as_str).collect(),
            segments: segments.into_iter().map(SegmentKey::as_str).collect(),
            full: false,
        },
    )
}

/// Everything that there is, and the position at which it is.
pub(super) fn full(environment: &Environment) -> (Position, Bytes) {
    let ruleset = environment.ruleset();
    let to = Position { epoch: ruleset.epoch, version: ruleset.version };
    let data = ChangeData {
        version: to.version,
        flags: ruleset.flags().map(|flag| flag.key.as_str()).collect(),
        segments: ruleset.segments().map(|segment| segment.key.as_str()).collect(),
        full: true,
    };
    (to, event(to, &data))
}

fn event(position: Position, data: &ChangeData<'_>) -> Bytes {
    let id = render_position(position);
    // OK because texts and numbers always have a JSON form.
    let data = serde_json::to_string(data).unwrap_or_default();
    Bytes::from(format!("id: {id}\nevent: change\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_for_how_long() {
        let stale = "event: status\ndata: {\"stale\":true,\"unconfirmedMs\":12000}\n\n";
        assert_eq!(status(Some(Duration::from_secs(12)), false), stale);
        assert_eq!(status(None, false), "event: status\ndata: {\"stale\":false}\n\n");
        let quarantined = "event: status\ndata: {\"stale\":false,\"quarantined\":true}\n\n";
        assert_eq!(status(None, true), quarantined);
    }
}
