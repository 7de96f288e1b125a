//! Which of OFREP's routes a request means, and what every answer of theirs has.
//!
//! Stands in for a router and its layers, which would cost more than an evaluation.
// HOT: memory only; no lock, no log.

use crate::http::DataState;
use crate::http::cors::allowed_headers;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::extract::EnvironmentQuery;
use crate::http::known::known;
use crate::http::middleware::Observed;
use crate::http::ofrep::evaluate::Asked;
use crate::http::ofrep::evaluate::evaluate_all_flags;
use crate::http::ofrep::evaluate::evaluate_flag;
use crate::http::ofrep::evaluate::flag_not_found;
use crate::http::ofrep::render::write_error;
use crate::http::position::parse_position;
use crate::model::change::Position;
use axum::extract::Query;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::FutureExt;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

const ALL_FLAGS_PATH: &str = "/ofrep/v1/evaluate/flags";
const FLAG_ROUTE: &str = "/ofrep/v1/evaluate/flags/{key}";
/// What the routes can be asked with.
const METHODS: HeaderValue = HeaderValue::from_static("POST,OPTIONS");

/// What a path asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'p> {
    /// All flags.
    All,
    /// One flag. The key may hold escaped slashes, which clients unescape, so it is all the rest of the path.
    Flag { encoded_key: &'p str },
}

/// What a path asks for; `None` if it is not of OFREP's routes.
pub(super) fn target(path: &str) -> Option<Target<'_>> {
    let rest = path.strip_prefix(ALL_FLAGS_PATH)?;
    match rest.strip_prefix('/') {
        // No flag has an empty key: the slash ends a base URL or a path, as some clients write it.
        Some("") => Some(Target::All),
        Some(encoded_key) => Some(Target::Flag { encoded_key }),
        None => rest.is_empty().then_some(Target::All),
    }
}

/// Whether a path is of OFREP's routes.
pub(crate) fn has_path(path: &str) -> bool {
    target(path).is_some()
}

/// Answers a request to one of OFREP's paths.
pub(crate) async fn answer(data: &DataState, request: Request, peer: IpAddr) -> Response {
    let observed = Observed::new(&request);
    let route = match target(request.uri().path()) {
        Some(Target::Flag { .. }) => FLAG_ROUTE,
        _ => ALL_FLAGS_PATH,
    };
    let is_from_page = request.headers().contains_key(header::ORIGIN);
    let answering =
        dispatch(data, request, peer, observed.started).map(IntoResponse::into_response);
    let mut response = observed.finish(answering, &data.metrics, write_error, route).await;
    if is_from_page {
        // Browsers may evaluate from any page: a client token is public, and no cookie is ever read.
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        let exposed = HeaderValue::from_static("etag,retry-after");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

/// The environment that is meant, and of which position a message on the event stream spoke; other parameters are ignored.
#[derive(Debug, Default, Deserialize)]
struct OfrepQuery {
    project: Option<String>,
    environment: Option<String>,
    #[serde(rename = "flagConfigEtag")]
    hint: Option<String>,
}

async fn dispatch(
    data: &DataState,
    request: Request,
    peer: IpAddr,
    at: Instant,
) -> Result<Response, ApiError> {
    if request.method() == Method::OPTIONS {
        // Before any limit: a browser that is refused here would take it for an error of the network.
        return Ok(preflight(request.headers()));
    }
    data.limits.bounds.check_headers(request.headers())?;
    if request.method() != Method::POST {
        return Ok(([(header::ALLOW, METHODS)], ApiError::method_not_allowed()).into_response());
    }
    let (parts, body) = request.into_parts();
    let find = || Caller::new(&parts.headers, Arc::clone(&data.snapshots), None);
    let caller = known(&data.snapshots, find).await?;
    // Only now, so that requests which nobody vouches for use up nothing of what the others share.
    data.limits.admit(at)?;
    data.limits.admit_caller(&caller, peer, &parts.headers, at)?;
    let (wanted, hint) = read_query(&parts.uri)?;
    let asked = Asked { data, caller, wanted, hint, headers: &parts.headers, body };
    match target(parts.uri.path()) {
        Some(Target::Flag { encoded_key }) => {
            // A path that is not UTF-8 names no flag.
            let key = percent_decode_str(encoded_key).decode_utf8();
            let key = key.map_err(|_| flag_not_found("\u{FFFD}"))?;
            evaluate_flag(asked, &key).await
        }
        _ => evaluate_all_flags(asked).await,
    }
}

fn read_query(uri: &Uri) -> Result<(EnvironmentQuery, Option<Position>), ApiError> {
    if uri.query().is_none() {
        return Ok((EnvironmentQuery::default(), None));
    }
    let Query(OfrepQuery { project, environment, hint }) = Query::try_from_uri(uri)
        .map_err(|error| ApiError::bad_request("invalid_query", error.body_text()))?;
    let hint = hint.and_then(|hint| parse_position(hint.trim_matches('"')));
    Ok((EnvironmentQuery { project, environment }, hint))
}

/// The answer to a browser that asks what a page may send.
fn preflight(asked: &HeaderMap) -> Response {
    /// Seconds for which a browser may remember it.
    const MAX_AGE_SECS: HeaderValue = HeaderValue::from_static("7200");
    const ALLOWED: HeaderValue = HeaderValue::from_static("POST,GET,OPTIONS");
    const HEADERS: &str =
        "content-type,authorization,if-none-match,x-api-key,vexil-context-hash,vexil-min-version";
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(HEADERS, asked)),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECS),
        (header::ALLOW, METHODS),
    ];
    (StatusCode::OK, headers).into_response()
}
