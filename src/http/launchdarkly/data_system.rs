//! The second protocol of LaunchDarkly's SDKs, their data system: a poll and a stream that go on from a state.

use crate::http::DataState;
use crate::http::condition::accepts_gzip;
use crate::http::condition::has_seen;
use crate::http::error::ApiError;
use crate::http::extract::Params;
use crate::http::launchdarkly::caller::SdkCaller;
use crate::http::launchdarkly::json;
use crate::http::launchdarkly::not_modified;
use crate::http::launchdarkly::open;
use crate::http::launchdarkly::tag_of;
use crate::http::position::has_reached;
use crate::http::stream::Format;
use crate::http::stream::Start;
use crate::http::stream::parse_state;
use crate::http::stream::place;
use crate::http::stream::up_to_date;
use crate::snapshot::Environment;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Deserialize;

/// Tells SDKs to use the first protocol.
const FALLBACK: HeaderName = HeaderName::from_static("x-ld-fd-fallback");

/// What may be asked for; a filter is ignored, and so is what a later SDK may add.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct DataSystemQuery {
    basis: Option<String>,
}

/// Reads what changed since a state, as LaunchDarkly's SDKs do by their second protocol.
///
/// `basis` is the state that an earlier answer reached; without it, or if it is not known here, everything is sent.
#[utoipa::path(get, path = "/sdk/poll", tag = "launchdarkly",
    params(("basis" = Option<String>, Query, description = "The state that was reached before.")),
    responses(
        (status = 200, description = "`{\"events\": […]}`: an intent, objects, and the state that is reached with them.", content_type = "application/json"),
        (status = 304, description = "Nothing has changed."),
        (status = 404, description = "The second protocol is switched off; `x-ld-fd-fallback` tells SDKs to use the first.")))]
pub(crate) async fn poll_data_system(
    State(state): State<DataState>,
    sdk: Result<SdkCaller, ApiError>,
    Params(query): Params<DataSystemQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if !state.serves_data_system {
        return Ok(fall_back());
    }
    let sdk = sdk?;
    let environment = &sdk.environment;
    let format = Format::DataSystemPoll;
    let start = start_at(query.basis.as_deref(), environment, &state).await?;
    let at = environment.position();
    let tag = tag_of(environment, at);
    if has_seen(&headers, &tag) {
        return Ok(not_modified(environment, &tag));
    }
    if let Start::After(since) = start {
        // Without a tag: the same state is reached in other words by those who come from elsewhere.
        let missed = state.streams.missed(environment, format, since);
        let body = missed.unwrap_or_else(|| up_to_date(format, environment, at));
        return Ok(json(environment, body, &tag, false));
    }
    let is_gzip = accepts_gzip(&headers);
    let (at, body) = state.streams.document(environment, format, is_gzip).await?;
    Ok(json(environment, body, &tag_of(environment, at), is_gzip))
}

/// Streams what changes after a state, as LaunchDarkly's SDKs ask for by their second protocol.
#[utoipa::path(get, path = "/sdk/stream", tag = "launchdarkly",
    params(("basis" = Option<String>, Query, description = "The state that was reached before.")),
    responses(
        (status = 200, description = "Events named `server-intent`, `put-object`, `delete-object` and `payload-transferred`.", content_type = "text/event-stream"),
        (status = 404, description = "The second protocol is switched off; `x-ld-fd-fallback` tells SDKs to use the first.")))]
pub(crate) async fn stream_data_system(
    State(state): State<DataState>,
    sdk: Result<SdkCaller, ApiError>,
    Params(query): Params<DataSystemQuery>,
) -> Result<Response, ApiError> {
    if !state.serves_data_system {
        return Ok(fall_back());
    }
    let sdk = sdk?;
    let start = start_at(query.basis.as_deref(), &sdk.environment, &state).await?;
    open(&state, &sdk, Format::DataSystem, start).await
}

/// Where to begin for one who has reached a state.
///
/// # Errors
///
/// 503 if the state is newer than what is served here and may exist: nobody gets something older than they have.
async fn start_at(
    basis: Option<&str>,
    environment: &Environment,
    state: &DataState,
) -> Result<Start, ApiError> {
    let parsed = basis.and_then(|basis| parse_state(basis, environment));
    let Some((wanted, written)) = parsed else { return Ok(Start::WithAll) };
    if !has_reached(wanted, state, environment).await? {
        return Ok(Start::WithAll);
    }
    let stamp = environment.stamp_of(wanted);
    let is_known = stamp.is_some_and(|stamp| place(wanted, &stamp) == written);
    Ok(if is_known { Start::After(wanted) } else { Start::WithAll })
}

/// Without the header, SDKs would never become ready.
fn fall_back() -> Response {
    let detail =
        "LaunchDarkly's second protocol is switched off (VEXIL_LAUNCHDARKLY_FDV2); use the first";
    let error = ApiError::not_found(detail);
    ([(FALLBACK, HeaderValue::from_static("true"))], error).into_response()
}
