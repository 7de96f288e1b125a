//! Where LaunchDarkly's SDKs report: summaries, events and diagnostics.
//!
//! An answer says only that the report was taken: it is written later, and whether it can be written now changes nothing.
//! 401 is for tokens that are wrong and 413 for what is too large, because SDKs stop reporting after most errors of the client;
//! whatever may pass is 429 or 503. What becomes of a report is in the rooms `events` and `record`.
//!
//! Source: the routes of LaunchDarkly's SDKs and of its relay.

mod body;

use crate::events::Counter;
use crate::events::Counting;
use crate::events::Report;
use crate::events::Reported;
use crate::http::DataState;
use crate::http::error::ApiError;
use crate::http::evalx::decode_base64;
use crate::http::event::body::LONG_BYTES;
use crate::http::event::body::collect;
use crate::http::extract::Caller;
use crate::http::known::known;
use crate::http::limit::Arrival;
use crate::http::middleware::RequestId;
use crate::http::ofrep::is_visible;
use crate::http::position::reach;
use crate::model::change::Position;
use crate::model::event::FlagCount;
use crate::model::event::UnknownCount;
use crate::model::key::FlagKey;
use crate::model::launchdarkly::stored_version;
use crate::model::token::TokenKind;
use crate::snapshot::Environment;
use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use percent_encoding::percent_decode_str;
use sha2::Digest;
use sha2::Sha256;
use std::sync::Arc;

/// The header with the id of a payload, which stays when the payload is sent again.
const PAYLOAD_ID: &str = "x-launchdarkly-payload-id";
/// The header of an SDK that sends an event for each evaluation instead of summaries; PHP's does.
const UNSUMMARIZED: &str = "x-launchdarkly-unsummarized";
/// Characters of the text that is kept of a payload's id.
const PAYLOAD_ID_CHARS: usize = 32;
/// Versions by which an SDK may be ahead of this replica because another has told it of them.
const VERSIONS_AHEAD_MAX: i64 = 1_000;
/// What a page gets for events that it packs into the address of an image: one transparent dot.
const DOT: &[u8] = &[
    0x47, 0x49, 0x46, 0x38, 0x39, 0x61, 0x01, 0x00, 0x01, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xff, 0xff, 0xff, 0x21, 0xf9, 0x04, 0x01, 0x00, 0x00, 0x00, 0x00, 0x2c, 0x00, 0x00, 0x00, 0x00,
    0x01, 0x00, 0x01, 0x00, 0x00, 0x02, 0x01, 0x44, 0x00, 0x3b,
];

/// The routes that have no place in the API document: older names, diagnostics, and the image.
pub(crate) fn other_routes() -> Router<DataState> {
    use axum::routing::post;
    Router::new()
        .route("/diagnostic", post(take_diagnostic))
        .route("/mobile", post(take_mobile_events))
        .route("/mobile/events", post(take_mobile_events))
        .route("/mobile/events/diagnostic", post(take_mobile_diagnostic))
        .route("/events/diagnostic/{token}", post(take_client_diagnostic))
        .route("/a/{image}", get(take_image))
}

/// Takes the events of a server-side SDK.
///
/// They are written later. A payload with an `X-LaunchDarkly-Payload-ID` that was there before counts once.
#[utoipa::path(post, path = "/bulk", tag = "events",
    params(("X-LaunchDarkly-Payload-ID" = Option<String>, Header, description = "Identifies the payload when it is sent again."),
        ("Content-Encoding" = Option<String>, Header, description = "`gzip`, or none.")),
    request_body(content = Vec<serde_json::Value>, description = "Events of LaunchDarkly's schemas 3 and 4: `summary`, `index`, `identify`, `feature`, `debug`, `custom`, `click`, `pageview` and `migration_op`."),
    responses((status = 202, description = "They were taken."),
        (status = 401, description = "The token is not accepted, or not of a server.", body = crate::http::error::ProblemBody),
        (status = 413, description = "The body is larger than 8 MiB when unpacked.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn take_server_events(
    State(state): State<DataState>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    take(&state, TokenKind::Server, None, request).await
}

/// Takes the events of a mobile SDK; otherwise as `/bulk`.
#[utoipa::path(post, path = "/mobile/events/bulk", tag = "events",
    params(("X-LaunchDarkly-Payload-ID" = Option<String>, Header, description = "Identifies the payload when it is sent again.")),
    request_body(content = Vec<serde_json::Value>, description = "As of `/bulk`."),
    responses((status = 202, description = "They were taken.")))]
pub(crate) async fn take_mobile_events(
    State(state): State<DataState>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    take(&state, TokenKind::Mobile, None, request).await
}

/// Takes the events of a browser, from any page; the client token is in the path. Otherwise as `/bulk`.
#[utoipa::path(post, path = "/events/bulk/{token}", tag = "events",
    params(("token" = String, Path, description = "A client token, `vxc_…`."),
        ("X-LaunchDarkly-Payload-ID" = Option<String>, Header, description = "Identifies the payload when it is sent again.")),
    request_body(content = Vec<serde_json::Value>, description = "As of `/bulk`."),
    responses((status = 202, description = "They were taken.")))]
pub(crate) async fn take_client_events(
    State(state): State<DataState>,
    Path(token): Path<String>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    take(&state, TokenKind::Client, Some(&token), request).await
}

async fn take_diagnostic(
    State(state): State<DataState>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    pass(&state, TokenKind::Server, None, request).await
}

async fn take_mobile_diagnostic(
    State(state): State<DataState>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    pass(&state, TokenKind::Mobile, None, request).await
}

async fn take_client_diagnostic(
    State(state): State<DataState>,
    Path(token): Path<String>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    pass(&state, TokenKind::Client, Some(&token), request).await
}

/// Takes events out of the address of an image, as browsers send them that may not ask other servers for anything else.
async fn take_image(
    State(state): State<DataState>,
    Path(image): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let Some(token) = image.strip_suffix(".gif") else {
        return Err(ApiError::not_found("there is no such route; see /openapi.yaml"));
    };
    let (parts, _) = request.into_parts();
    let environment = environment_of(&state, TokenKind::Client, Some(token), &parts).await?;
    let packed = packed_events(&parts.uri).ok_or_else(|| {
        ApiError::bad_request("invalid_query", "`d` must be a JSON array of events as base64")
    })?;
    report(&state, &environment, TokenKind::Client, &parts.headers, &packed).await?;
    let headers = [(header::CONTENT_TYPE, "image/gif"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, DOT).into_response())
}

/// Takes events, to be written later.
async fn take(
    state: &DataState,
    kind: TokenKind,
    token: Option<&str>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let (environment, headers, body) = admit(state, kind, token, request).await?;
    let collected = collect(&headers, body, &state.events).await?;
    report(state, &environment, kind, &headers, &collected.bytes).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Takes a diagnostic event, which tells about the SDK and is not kept.
async fn pass(
    state: &DataState,
    kind: TokenKind,
    token: Option<&str>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let (_, headers, body) = admit(state, kind, token, request).await?;
    collect(&headers, body, &state.events).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn admit(
    state: &DataState,
    kind: TokenKind,
    token: Option<&str>,
    request: Request,
) -> Result<(Arc<Environment>, HeaderMap, Body), ApiError> {
    let (parts, body) = request.into_parts();
    let environment = environment_of(state, kind, token, &parts).await?;
    Ok((environment, parts.headers, body))
}

/// The environment that a token reports to, which must be of the kind that the route is for.
async fn environment_of(
    state: &DataState,
    kind: TokenKind,
    token: Option<&str>,
    parts: &Parts,
) -> Result<Arc<Environment>, ApiError> {
    let request_id = parts.extensions.get::<RequestId>();
    let find = || match token {
        Some(token) => Caller::of_token(token, Arc::clone(&state.snapshots), request_id.cloned()),
        None => Caller::new(&parts.headers, Arc::clone(&state.snapshots), request_id.cloned()),
    };
    let caller = known(&state.snapshots, find).await?;
    if let Some(arrival) = parts.extensions.get::<Arrival>() {
        arrival.admit_caller(&caller, &parts.headers)?;
    }
    if caller.grant().kind != kind {
        let needed = match kind {
            TokenKind::Server => "server token (vxs_…)",
            TokenKind::Mobile => "mobile token (vxm_…)",
            TokenKind::Client | TokenKind::Admin => "client token (vxc_…)",
        };
        return Err(ApiError::unauthorized("token_kind", format!("this route needs a {needed}")));
    }
    // A token of an SDK is of one environment, which may not be loaded yet.
    caller.entry.environment.clone().ok_or_else(ApiError::not_ready)
}

/// Reads what was reported, sorts it out and hands it over.
async fn report(
    state: &DataState,
    environment: &Environment,
    kind: TokenKind,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), ApiError> {
    let counting = match headers.contains_key(UNSUMMARIZED) {
        true => Counting::OneByOne,
        false => Counting::InSummaries,
    };
    let read = || state.events.read(body, counting);
    let report = match body.len() > LONG_BYTES {
        true => tokio::task::block_in_place(read),
        false => read(),
    };
    let mut report =
        report.map_err(|error| ApiError::bad_request("json_syntax", error.to_string()))?;
    let at = environment.position();
    if kind == TokenKind::Server {
        // Only these SDKs are sent versions that grow with epochs.
        let counters = report.counters.iter_mut().map(|counter| &mut counter.version);
        let events = report.events.iter_mut().map(|event| &mut event.version);
        let read = |sent: &mut Option<i64>| {
            *sent = sent.and_then(|sent| stored_version(at.epoch, sent));
        };
        counters.chain(events).for_each(read);
    }
    if let Some(version) = awaited(&report, environment) {
        // If it is not reached in time, a flag that is new there counts as unknown.
        let _ = reach(Position { version, ..at }, &state.snapshots, environment).await;
    }
    state.events.accept(environment.id, payload_id(headers), sorted(report, environment, kind));
    Ok(())
}

/// The version at which a flag was made that an SDK has heard of from a replica that is ahead of this one.
fn awaited(report: &Report, environment: &Environment) -> Option<i64> {
    let ruleset = environment.ruleset();
    let is_news = |counter: &&Counter| !counter.is_unknown && ruleset.flag(&counter.flag).is_none();
    let versions = report.counters.iter().filter(is_news).filter_map(|counter| counter.version);
    versions.filter(|version| is_ahead(*version, ruleset.version)).max()
}

fn is_ahead(version: i64, served: i64) -> bool {
    version > served && version <= served.saturating_add(VERSIONS_AHEAD_MAX)
}

/// Sorts out which counts are of flags that there are.
fn sorted(report: Report, environment: &Environment, kind: TokenKind) -> Reported {
    let ruleset = environment.ruleset();
    let is_version = |version: &i64| {
        (0..=ruleset.version).contains(version) || is_ahead(*version, ruleset.version)
    };
    let mut reported =
        Reported { at: report.ended_at, events: report.events, ..Reported::default() };
    for counter in report.counters {
        match ruleset.flag(&counter.flag) {
            // It is there, and hidden from the SDK: nobody was served it, and it is not unknown.
            Some(flag) if counter.is_unknown && !is_visible(flag, kind) => {}
            Some(flag) => {
                // What the flag cannot have served, nobody was served; rows are kept for what there is.
                let served = |index: &u32| {
                    usize::try_from(*index).is_ok_and(|index| index < flag.n_variations())
                };
                reported.counts.push(FlagCount {
                    flag: flag.key.clone(),
                    variation: counter.variation.filter(served),
                    version: counter.version.filter(is_version).unwrap_or_default(),
                    n: counter.n,
                });
            }
            None => {
                let flag = FlagKey::parse(&counter.flag);
                reported.unknown.extend(flag.map(|flag| UnknownCount { flag, n: counter.n }));
            }
        }
    }
    reported
}

/// What stands for the id of the payload, if it has one: of one length, whatever was sent.
fn payload_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(PAYLOAD_ID)?.as_bytes();
    let mut text = hex::encode(Sha256::digest(id));
    text.truncate(PAYLOAD_ID_CHARS);
    (!id.is_empty()).then_some(text)
}

/// The events in the query parameter `d`: base64 in either alphabet, with padding or without.
fn packed_events(uri: &Uri) -> Option<Vec<u8>> {
    let packed = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("d="))?;
    let packed = percent_decode_str(packed).decode_utf8().ok()?;
    decode_base64(&packed).ok()
}
