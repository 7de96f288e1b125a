//! OFREP's event stream, which tells a client to evaluate anew.
//!
//! Source: open-feature/protocol, ADR 0008; and what the web provider 0.4 does, which is less: it does not evaluate anew when
//! it has connected again, so a stream begins with that request if the client comes back from somewhere else, and turns into
//! a request a second where a stream is refused, so none is.

use crate::auth;
use crate::eval::Ruleset;
use crate::http::DataState;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::extract::EnvironmentQuery;
use crate::http::extract::Params;
use crate::http::known::known;
use crate::http::limit::Arrival;
use crate::http::ofrep::evaluate::is_any_visible;
use crate::http::ofrep::render::write_json;
use crate::http::position::has_reached;
use crate::http::position::parse_position;
use crate::http::position::render_position;
use crate::http::position::settle;
use crate::http::stream::Affected;
use crate::http::stream::EVENT_STREAM;
use crate::http::stream::Holder;
use crate::http::stream::RETRY_MS;
use crate::http::stream::Speech;
use crate::http::stream::Watch;
use crate::model::change::Position;
use crate::model::token::TokenKind;
use crate::snapshot::Environment;
use axum::extract::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use bytes::Bytes;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

const PATH: &str = "/ofrep/v1/events";
/// Seconds after which a page that nobody looks at may close its stream.
const INACTIVITY_DELAY_SECS: u32 = 120;
/// Milliseconds after which a client that cannot be served now connects again: less than the 30 s after which the web provider gives
/// up on a stream.
const RETRY_LATER_MS: u32 = 25_000;

/// A stream on which a client hears of changes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventStream {
    /// Always `sse`.
    #[serde(rename = "type")]
    kind: &'static str,
    endpoint: Endpoint,
    /// Seconds after which a page that nobody looks at may close it.
    inactivity_delay_sec: u32,
}

/// Where a stream is, at the origin that was asked.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Endpoint {
    request_uri: String,
}

impl EventStream {
    /// The stream of a caller; its URI needs no other credential, and is good for as long as the token.
    pub(super) fn of(caller: &Caller, environment: &Environment) -> Self {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let ticket = auth::ticket(&caller.entry, &caller.digest);
        let mut request_uri = format!("{PATH}?t={}", encoded(&ticket));
        if caller.entry.environment.is_none() {
            let (project, key) = (environment.project.as_str(), environment.key.as_str());
            let named = format!("&project={}&environment={}", encoded(project), encoded(key));
            request_uri.push_str(&named);
        }
        let endpoint = Endpoint { request_uri };
        Self { kind: "sse", endpoint, inactivity_delay_sec: INACTIVITY_DELAY_SECS }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_json(out, self);
    }

    /// Where the stream is.
    pub(super) fn uri(&self) -> &str {
        &self.endpoint.request_uri
    }
}

/// What stands in the URI.
#[derive(Debug, Deserialize)]
pub(crate) struct EventsQuery {
    t: Option<String>,
    project: Option<String>,
    environment: Option<String>,
}

/// Streams when to evaluate anew, to OFREP's providers.
///
/// The URI with its ticket is told by each answer about all flags. Messages have no name; `data` is
/// `{"type":"refetchEvaluation","etag":"<epoch>-<version>"}`.
#[utoipa::path(get, path = "/ofrep/v1/events", tag = "evaluation",
    params(
        ("t" = Option<String>, Query, description = "A ticket; without it, a token in the usual headers."),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen."),
        ("project" = Option<String>, Query, description = "Needed only if the token reaches several environments."),
        ("environment" = Option<String>, Query, description = "Needed only if the token reaches several environments.")),
    responses((status = 200, description = "Messages that ask to evaluate anew.", body = String, content_type = "text/event-stream")))]
pub(crate) async fn stream_events(
    State(state): State<DataState>,
    arrival: Option<Extension<Arrival>>,
    Params(query): Params<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let arrival = arrival.map(|Extension(arrival)| arrival);
    match open(&state, arrival, query, &headers).await {
        // The provider would ask for values each second if it were refused; so it is sent away for a while.
        Err(refused) if may_pass(&refused) => {
            let body = format!("retry: {RETRY_LATER_MS}\n\n: not now\n\n");
            Ok((EVENT_STREAM, body).into_response())
        }
        answer => answer,
    }
}

async fn open(
    state: &DataState,
    arrival: Option<Arrival>,
    query: EventsQuery,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    state.limits.bounds.check_headers(headers)?;
    let EventsQuery { t, project, environment } = query;
    let find = || match &t {
        Some(ticket) => Caller::of_ticket(ticket, Arc::clone(&state.snapshots)),
        None => Caller::new(headers, Arc::clone(&state.snapshots), None),
    };
    let caller = known(&state.snapshots, find).await?;
    if let Some(arrival) = &arrival {
        arrival.limits.admit(arrival.at)?;
        arrival.admit_caller(&caller, headers)?;
    }
    let environment = caller.environment(&EnvironmentQuery { project, environment }, None)?;
    let kind = caller.grant().kind;
    let address = match kind {
        TokenKind::Client | TokenKind::Mobile => {
            arrival.map(|arrival| arrival.client_network(headers))
        }
        TokenKind::Server | TokenKind::Admin => None,
    };
    let last_id = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?").to_owned());
    let seen = last_id.filter(|id| !id.is_empty());
    let holder = Holder { token: caller.digest, kind, address };
    settle(headers, &state.snapshots, &environment).await?;
    if let Some(seen) = seen.as_deref().and_then(parse_position) {
        has_reached(seen, state, &environment).await?;
    }
    let speech = Refetch { kind, seen };
    Ok(Watch::open(&state.streams, &environment, holder, speech)?.into_response())
}

/// Whether a refusal is for a lack of room or of readiness, and not for what the client sent.
fn may_pass(error: &ApiError) -> bool {
    [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&error.status)
}

/// Asks a client to evaluate anew.
#[derive(Debug)]
struct Refetch {
    kind: TokenKind,
    /// The position at which the client was last told to.
    seen: Option<String>,
}

impl Speech for Refetch {
    fn begin(&mut self, _: &Environment, ruleset: &Ruleset) -> Bytes {
        let id = render_position(Position { epoch: ruleset.epoch, version: ruleset.version });
        // Sets the client's last id without an event, so that it comes back with it.
        let mut block = format!("retry: {}\nid: {id}\n\n", RETRY_MS.end());
        if self.seen.replace(id.clone()).is_some_and(|seen| seen != id) {
            block.push_str(&message(&id));
        }
        block.into()
    }

    fn go_on(&mut self, _: &Environment, ruleset: &Ruleset, affected: &Affected) -> Option<Bytes> {
        let id = render_position(Position { epoch: ruleset.epoch, version: ruleset.version });
        is_any_visible(ruleset, affected, self.kind).then(|| message(&id).into())
    }
}

fn message(id: &str) -> String {
    format!("id: {id}\ndata: {{\"type\":\"refetchEvaluation\",\"etag\":\"{id}\"}}\n\n")
}
