//! The stream of changes: `GET /api/v1/stream`, as server-sent events.
// HOT: a change is rendered once and shared by all streams; a stream that sleeps holds a cursor and two receivers.
//!
//! A stream has no queue: it has the position that its client has seen, wakes when there is a newer one, and sends what
//! lies between as one event. A client that reads slowly gets fewer, larger events and never a wrong one.
//!
//! Source: the `text/event-stream` format of the HTML standard.

use crate::http::DataState;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::extract::EnvironmentQuery;
use crate::http::extract::Params;
use crate::http::position::parse_position;
use crate::http::position::render_position;
use crate::model::change::Position;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::token::Digest;
use crate::model::token::TokenKind;
use crate::snapshot::Change;
use crate::snapshot::Environment;
use crate::snapshot::Missed;
use crate::snapshot::Snapshots;
use crate::telemetry::Metrics;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// How often a comment is sent on a silent stream; proxies close after 60 s.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// How long a client should wait before it connects again.
const RETRY_MS: u32 = 3_000;
/// A comment, which every client skips.
const HEARTBEAT: &[u8] = b": hb\n\n";

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

/// Streams the changes of an environment.
///
/// Each event has the id `<epoch>-<version>`; a client that comes back with it in `Last-Event-ID` gets what it has missed
/// first, merged into one event. Every 15 seconds a comment keeps the connection alive.
#[utoipa::path(get, path = "/api/v1/stream", tag = "evaluation",
    params(
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen."),
        ("project" = Option<String>, Query, description = "Needed only if the token reaches several environments."),
        ("environment" = Option<String>, Query, description = "Needed only if the token reaches several environments.")),
    responses((status = 200, description = "Events named `change`.", body = ChangeData, content_type = "text/event-stream")))]
pub(crate) async fn stream_changes(
    State(state): State<DataState>,
    caller: Caller,
    Params(wanted): Params<EnvironmentQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if matches!(caller.grant().kind, TokenKind::Client | TokenKind::Mobile) {
        let detail = "this stream names every flag; it needs a server or administration token";
        return Err(ApiError::forbidden("token_kind", detail));
    }
    let environment = caller.environment(&wanted, None)?;
    let last_event_id = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let stream = ChangeStream::open(&state, environment, caller.digest, last_event_id);
    let body = Body::from_stream(stream::unfold(stream, ChangeStream::next));
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "no-store, no-transform"),
        (header::VARY.as_str(), "Authorization"),
        ("x-accel-buffering", "no"),
    ];
    Ok((headers, body).into_response())
}

/// One client's stream.
struct ChangeStream {
    snapshots: Arc<Snapshots>,
    environment: Arc<Environment>,
    token: Digest,
    /// What the client has seen.
    cursor: Position,
    /// Whether the client's own position was none of this history.
    must_send_all: bool,
    has_greeted: bool,
    positions: watch::Receiver<Position>,
    directory_changes: watch::Receiver<Position>,
    heartbeat_at: Instant,
    stop: CancellationToken,
    _open: OpenStream,
}

impl ChangeStream {
    fn open(
        state: &DataState,
        environment: Arc<Environment>,
        token: Digest,
        last_event_id: Option<&str>,
    ) -> Self {
        // Subscribed before the position is read, so that nothing falls between.
        let positions = environment.positions();
        let current = environment.position();
        let mut directory_changes = state.snapshots.directory_changes();
        // The token may have been revoked since it was looked up: look again before the first event.
        directory_changes.mark_changed();
        let (cursor, must_send_all) = match last_event_id.filter(|id| !id.is_empty()) {
            None => (current, false),
            Some(id) => match parse_position(id).filter(|position| *position <= current) {
                Some(position) => (position, false),
                None => (current, true),
            },
        };
        Self {
            snapshots: Arc::clone(&state.snapshots),
            environment,
            token,
            cursor,
            must_send_all,
            has_greeted: false,
            positions,
            directory_changes,
            heartbeat_at: Instant::now() + HEARTBEAT_INTERVAL,
            stop: CancellationToken::clone(&state.stop),
            _open: OpenStream::new(&state.metrics),
        }
    }

    /// Waits for the next piece of the body; `None` ends the stream.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if !self.has_greeted {
            self.has_greeted = true;
            // Goes out at once, so that proxies pass the headers on, and sets the id without dispatching an event.
            let retry = format!("retry: {RETRY_MS}\n");
            let greeting = if self.must_send_all {
                // No id before the full event: a client that is cut off in between must ask for it again.
                format!("{retry}\n")
            } else {
                format!("{retry}id: {}\n\n", render_position(self.cursor))
            };
            return Some((Ok(Bytes::from(greeting)), self));
        }
        loop {
            if self.directory_changes.has_changed().ok()? {
                self.directory_changes.mark_unchanged();
                // The token may have been revoked, or its environment deleted.
                let directory = self.snapshots.directory();
                directory.token(&self.token)?;
                directory.environment(self.environment.id)?;
            }
            if let Some(frame) = self.take_frame() {
                self.heartbeat_at = Instant::now() + HEARTBEAT_INTERVAL;
                return Some((Ok(frame), self));
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                changed = self.positions.changed() => changed.ok()?,
                changed = self.directory_changes.changed() => {
                    changed.ok()?;
                    self.directory_changes.mark_changed();
                }
                () = tokio::time::sleep_until(self.heartbeat_at) => {
                    self.heartbeat_at = Instant::now() + HEARTBEAT_INTERVAL;
                    return Some((Ok(Bytes::from_static(HEARTBEAT)), self));
                }
            }
        }
    }

    /// What the client has not seen yet, if there is anything; moves the cursor behind it.
    fn take_frame(&mut self) -> Option<Bytes> {
        let missed = if self.must_send_all {
            Missed::Unknown
        } else {
            self.environment.missed_since(self.cursor)
        };
        let (to, frame) = match missed {
            Missed::Nothing => return None,
            Missed::One(change) => {
                (change.to, change.frame.get_or_init(|| render(&change)).clone())
            }
            Missed::Many(changes) => {
                let flags: BTreeSet<&FlagKey> = changes.iter().flat_map(|c| &c.flags).collect();
                let segments: BTreeSet<&SegmentKey> =
                    changes.iter().flat_map(|c| &c.segments).collect();
                let to = changes.last().map_or(self.cursor, |change| change.to);
                let flags = flags.into_iter().map(FlagKey::as_str).collect();
                let segments = segments.into_iter().map(SegmentKey::as_str).collect();
                let data = ChangeData { version: to.version, flags, segments, full: false };
                (to, render_event(to, &data))
            }
            Missed::Unknown => self.render_all(),
        };
        self.must_send_all = false;
        self.cursor = to;
        Some(frame)
    }

    fn render_all(&self) -> (Position, Bytes) {
        let ruleset = self.environment.ruleset();
        let to = Position { epoch: ruleset.epoch, version: ruleset.version };
        let data = ChangeData {
            version: to.version,
            flags: ruleset.flags().map(|flag| flag.key.as_str()).collect(),
            segments: ruleset.segments().map(|segment| segment.key.as_str()).collect(),
            full: true,
        };
        (to, render_event(to, &data))
    }
}

fn render(change: &Change) -> Bytes {
    let data = ChangeData {
        version: change.to.version,
        flags: change.flags.iter().map(FlagKey::as_str).collect(),
        segments: change.segments.iter().map(SegmentKey::as_str).collect(),
        full: false,
    };
    render_event(change.to, &data)
}

fn render_event(position: Position, data: &ChangeData<'_>) -> Bytes {
    let id = render_position(position);
    // OK because texts and numbers always have a JSON form.
    let data = serde_json::to_string(data).unwrap_or_default();
    Bytes::from(format!("id: {id}\nevent: change\ndata: {data}\n\n"))
}

/// Counts a stream as long as it is open.
struct OpenStream(Arc<Metrics>);

impl OpenStream {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.streams.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.dec();
    }
}
