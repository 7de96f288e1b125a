//! Pages of other origins, which may report from anywhere: a client token is public, and no cookie is ever read.

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;

/// What pages may ask with.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, REPORT, OPTIONS");
/// What LaunchDarkly's SDKs send, and what identifies a client.
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Cache-Control, Content-Type, Content-Length, Content-Encoding, Accept-Encoding, Authorization, \
     X-LaunchDarkly-User-Agent, X-LaunchDarkly-Payload-ID, X-LaunchDarkly-Wrapper, \
     X-LaunchDarkly-Event-Schema, X-LaunchDarkly-Tags",
);
/// The time of the server decides how long an SDK goes on debugging.
const EXPOSED: HeaderValue = HeaderValue::from_static("Date");
/// Seconds for which a browser may remember the answer.
const MAX_AGE_SECS: HeaderValue = HeaderValue::from_static("300");

/// Answers browsers that ask before they send, and lets pages read every other answer, errors too.
pub(crate) async fn allow_pages(request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_preflight = request.method() == Method::OPTIONS;
    let mut response =
        if is_preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    if is_preflight {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECS);
    }
    expose(headers, origin);
    response
}

fn expose(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    let allowed = origin.unwrap_or(HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}
