//! LaunchDarkly's server-side SDKs: what they ask for, so that they work unmodified, by another URL.
//!
//! They load all flags of an environment and evaluate by themselves, so only environments that were made for it are served.
//! A status of 401, 403 or 404 makes most of them give up until their process starts anew: it is for keys and environments that
//! are truly wrong, and everything that may pass is 503. What they are sent is rendered in `stream`, whose streams these are.
//!
//! # Invariants
//!
//! * Answered from memory: nothing here can reach the store.

mod caller;
mod data_system;

pub(crate) use data_system::__path_poll_data_system;
pub(crate) use data_system::__path_stream_data_system;
pub(crate) use data_system::poll_data_system;
pub(crate) use data_system::stream_data_system;

use crate::http::DataState;
use crate::http::condition::GZIP_SUFFIX;
use crate::http::condition::accepts_gzip;
use crate::http::condition::has_seen;
use crate::http::error::ApiError;
use crate::http::stream;
use crate::http::stream::Format;
use crate::http::stream::Start;
use crate::http::stream::env_id;
use crate::http::stream::flag_json;
use crate::http::stream::place;
use crate::http::stream::segment_json;
use crate::model::change::Position;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::snapshot::Environment;
use axum::extract::Path;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use bytes::Bytes;
use caller::SdkCaller;

/// The environment's name, which SDKs pass on to hooks.
const ENV_ID: HeaderName = HeaderName::from_static("x-ld-envid");

/// Streams all flags and segments to LaunchDarkly's server-side SDKs.
///
/// One event `put` with everything, then `patch` and `delete`, and every 20 seconds a comment. Only for environments with
/// `serverSdk` `launchdarkly`. The parameter `filter` is ignored: everything is sent.
#[utoipa::path(get, path = "/all", tag = "launchdarkly",
    responses(
        (status = 200, description = "Events named `put`, `patch` and `delete`.", content_type = "text/event-stream"),
        (status = 403, description = "The token is no server token of one environment, or the environment is not for these SDKs."),
        (status = 503, description = "Nothing is loaded yet, or no stream can be opened now; `Retry-After` says when to try again.")))]
pub(crate) async fn stream_all(
    State(state): State<DataState>,
    sdk: SdkCaller,
) -> Result<Response, ApiError> {
    open(&state, &sdk, Format::LaunchDarkly, Start::WithAll).await
}

/// Streams all flags without segments, to the oldest of LaunchDarkly's server-side SDKs.
///
/// As `/all`; the event `put` has the flags by key.
#[utoipa::path(get, path = "/flags", tag = "launchdarkly",
    responses((status = 200, description = "Events named `put`, `patch` and `delete`.", content_type = "text/event-stream")))]
pub(crate) async fn stream_flags(
    State(state): State<DataState>,
    sdk: SdkCaller,
) -> Result<Response, ApiError> {
    open(&state, &sdk, Format::LaunchDarklyFlags, Start::WithAll).await
}

/// Reads all flags and segments, as LaunchDarkly's polling SDKs do.
///
/// With `ETag`; who sends it back in `If-None-Match` gets 304 until something changes.
#[utoipa::path(get, path = "/sdk/latest-all", tag = "launchdarkly",
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of the last answer.")),
    responses(
        (status = 200, description = "`{\"flags\": {…}, \"segments\": {…}}`, each by key.", content_type = "application/json"),
        (status = 304, description = "Nothing has changed."),
        (status = 403, description = "The token is no server token of one environment, or the environment is not for these SDKs.")))]
pub(crate) async fn poll_all(
    State(state): State<DataState>,
    sdk: SdkCaller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    document(&state, &sdk, Format::LaunchDarkly, &headers).await
}

/// Reads all flags, as LaunchDarkly's PHP SDK does.
#[utoipa::path(get, path = "/sdk/flags", tag = "launchdarkly",
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of the last answer.")),
    responses(
        (status = 200, description = "The flags by key.", content_type = "application/json"),
        (status = 304, description = "Nothing has changed.")))]
pub(crate) async fn poll_flags(
    State(state): State<DataState>,
    sdk: SdkCaller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    document(&state, &sdk, Format::LaunchDarklyFlags, &headers).await
}

/// Reads one flag, as LaunchDarkly's PHP SDK does.
#[utoipa::path(get, path = "/sdk/flags/{key}", tag = "launchdarkly",
    params(("key" = String, Path, description = "The flag's key.")),
    responses(
        (status = 200, description = "The flag.", content_type = "application/json"),
        (status = 304, description = "It has not changed."),
        (status = 404, description = "There is no such flag.")))]
pub(crate) async fn find_sdk_flag(
    sdk: SdkCaller,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let found = flag_json(&sdk.environment, &FlagKey::stored(&key));
    one(&sdk, found.ok_or_else(|| ApiError::not_found("there is no such flag"))?, &headers)
}

/// Reads one segment, as LaunchDarkly's PHP SDK does.
#[utoipa::path(get, path = "/sdk/segments/{key}", tag = "launchdarkly",
    params(("key" = String, Path, description = "The segment's key.")),
    responses(
        (status = 200, description = "The segment.", content_type = "application/json"),
        (status = 304, description = "It has not changed."),
        (status = 404, description = "There is no such segment.")))]
pub(crate) async fn find_sdk_segment(
    sdk: SdkCaller,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let found = segment_json(&sdk.environment, &SegmentKey::stored(&key));
    one(&sdk, found.ok_or_else(|| ApiError::not_found("there is no such segment"))?, &headers)
}

/// Opens a stream; whoever begins with everything finds it rendered.
async fn open(
    state: &DataState,
    sdk: &SdkCaller,
    format: Format,
    start: Start,
) -> Result<Response, ApiError> {
    if start == Start::WithAll {
        state.streams.prepare(&sdk.environment, format).await?;
    }
    let mut response = stream::open(&state.streams, &sdk.caller, &sdk.environment, format, start)?;
    name(&sdk.environment, &mut response);
    Ok(response)
}

/// Answers with everything that is served, unless the client has it.
async fn document(
    state: &DataState,
    sdk: &SdkCaller,
    format: Format,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let environment = &sdk.environment;
    let tag = tag_of(environment, environment.position());
    if has_seen(headers, &tag) {
        return Ok(not_modified(environment, &tag));
    }
    let is_gzip = accepts_gzip(headers);
    let (at, body) = state.streams.document(environment, format, is_gzip).await?;
    Ok(json(environment, body, &tag_of(environment, at), is_gzip))
}

/// Answers with one flag or segment, unless the client has it.
fn one(sdk: &SdkCaller, body: String, headers: &HeaderMap) -> Result<Response, ApiError> {
    let tag = blake3::hash(body.as_bytes()).to_hex();
    if has_seen(headers, &tag) {
        return Ok(not_modified(&sdk.environment, &tag));
    }
    Ok(json(&sdk.environment, Bytes::from(body), &tag, false))
}

/// What tells the answers of an environment apart, without quotes.
fn tag_of(environment: &Environment, at: Position) -> String {
    place(at, &environment.stamp_of(at).unwrap_or_default())
}

/// An answer; there is no `max-age`, because Go's SDK would not ask again before it has passed.
fn json(environment: &Environment, body: Bytes, tag: &str, is_gzip: bool) -> Response {
    let content_type = HeaderValue::from_static("application/json");
    let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
    if is_gzip {
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
    }
    tag_response(environment, &mut response, tag, is_gzip);
    response
}

fn not_modified(environment: &Environment, tag: &str) -> Response {
    let mut response = axum::http::StatusCode::NOT_MODIFIED.into_response();
    tag_response(environment, &mut response, tag, false);
    response
}

fn tag_response(environment: &Environment, response: &mut Response, tag: &str, is_gzip: bool) {
    let suffix = if is_gzip { GZIP_SUFFIX } else { "" };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{tag}{suffix}\"")) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("Authorization, Accept-Encoding"));
    name(environment, response);
}

fn name(environment: &Environment, response: &mut Response) {
    if let Ok(name) = HeaderValue::try_from(env_id(environment)) {
        response.headers_mut().insert(ENV_ID, name);
    }
}
