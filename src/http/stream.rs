//! The stream of changes: `GET /api/v1/stream`, as server-sent events.
//!
//! A change is rendered once and shared by all streams, and a stream that sleeps is a position and a seat: it has neither a
//! queue nor a timer nor a task of its own. `body` is one stream, `channel` what those of one environment share, `hub` the
//! task that wakes them, `admission` who may open one, `start` where it begins, `drain` how they end when the process stops. In which words changes are
//! told is in `format`: the streams of LaunchDarkly's SDKs (`http/launchdarkly`) are the same streams in other words.

mod admission;
mod body;
mod channel;
mod content;
mod data_system;
mod document;
mod drain;
mod format;
mod frame;
mod hub;
mod launchdarkly;
mod spread;
mod start;
mod status;
mod watch;

pub(crate) use admission::Holder;
pub(crate) use body::RETRY_MS;
pub(crate) use content::env_id;
pub(crate) use content::flag_json;
pub(crate) use content::segment_json;
pub(crate) use data_system::parse_state;
pub(crate) use data_system::place;
pub(crate) use data_system::up_to_date;
pub use drain::Phase;
pub(crate) use format::Format;
pub(crate) use frame::ChangeData;
pub use hub::Streams;
pub(crate) use start::Start;
pub(crate) use watch::Affected;
pub(crate) use watch::Speech;
pub(crate) use watch::Watch;

use crate::http::DataState;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::extract::EnvironmentQuery;
use crate::http::extract::Params;
use crate::http::position::has_reached;
use crate::http::position::parse_position;
use crate::http::position::settle;
use crate::model::token::TokenKind;
use crate::snapshot::Environment;
use axum::body::Body;
use axum::extract::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use body::StreamBody;
use serde::Deserialize;
use start::start_after;
use std::sync::Arc;

/// The headers of every stream, so that no proxy keeps it, packs it, or waits for more of it.
pub(crate) const EVENT_STREAM: [(&str, &str); 3] = [
    ("content-type", "text/event-stream"),
    ("cache-control", "no-store, no-transform"),
    ("x-accel-buffering", "no"),
];

/// What may be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct StreamQuery {
    project: Option<String>,
    environment: Option<String>,
    last_event_id: Option<String>,
}

/// Streams the changes of an environment.
///
/// Each event `change` has the id `<epoch>-<version>`; a client that comes back with it in `Last-Event-ID` gets what it has
/// missed first, merged into one event. An event `status` says when the store has not confirmed for 10 seconds what is served,
/// or something of the environment cannot be read, and when that is over; `goodbye` says that the replica is about to stop. Every
/// 20 seconds a comment keeps the connection alive.
#[utoipa::path(get, path = "/api/v1/stream", tag = "evaluation",
    params(
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen."),
        ("lastEventId" = Option<String>, Query, description = "The same, for clients that cannot set headers; the header wins."),
        ("project" = Option<String>, Query, description = "Needed only if the token reaches several environments."),
        ("environment" = Option<String>, Query, description = "Needed only if the token reaches several environments.")),
    responses(
        (status = 200, description = "Events named `change`, `status` and `goodbye`.", body = ChangeData, content_type = "text/event-stream"),
        (status = 429, description = "The token has as many streams as it may have; `Retry-After` says when to try again."),
        (status = 503, description = "The replica has nothing to serve or is behind what the client has seen, has as many streams as it may have, or is about to stop; `Retry-After` says when to try again.")))]
pub(crate) async fn stream_changes(
    State(state): State<DataState>,
    caller: Caller,
    Params(wanted): Params<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let kind = caller.grant().kind;
    if matches!(kind, TokenKind::Client | TokenKind::Mobile) {
        let detail = "this stream names every flag; it needs a server or administration token";
        return Err(ApiError::forbidden("token_kind", detail));
    }
    let StreamQuery { project, environment, last_event_id } = wanted;
    let environment = caller.environment(&EnvironmentQuery { project, environment }, None)?;
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let seen = header.or(last_event_id.as_deref());
    settle(&headers, &state.snapshots, &environment).await?;
    if let Some(seen) = seen.and_then(parse_position) {
        has_reached(seen, &state, &environment).await?;
    }
    let start = start_after(seen, environment.position());
    open(&state.streams, &caller, &environment, Format::Changes, start)
}

/// Opens a stream of an environment's changes for a caller.
///
/// # Errors
///
/// It may not be opened now.
pub(crate) fn open(
    streams: &Arc<Streams>,
    caller: &Caller,
    environment: &Arc<Environment>,
    format: Format,
    start: Start,
) -> Result<Response, ApiError> {
    // Addresses count only for tokens that many devices share, and those have no stream yet.
    let holder = Holder { token: caller.digest, kind: caller.grant().kind, address: None };
    let place = streams.open(environment, &holder, Some(format))?;
    let body = StreamBody::new(Arc::clone(streams), place, &holder, format, start);
    let vary = [(header::VARY, "Authorization")];
    let ending = Extension(body.ending());
    Ok((EVENT_STREAM, vary, ending, Body::new(body)).into_response())
}
