//! What browsers are told about LaunchDarkly's client-side routes, which pages of any origin may ask.
//!
//! A client token is public and no cookie is ever read, so there is no origin to be kept out. OFREP's own headers are in
//! `ofrep`; routes of administrators have none.
//!
//! Source: what LaunchDarkly's JavaScript SDKs ask for in their preflights, and ld-relay's answers.

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;

/// `REPORT` must be named: a star does not stand for it everywhere.
const METHODS: HeaderValue = HeaderValue::from_static("GET,POST,REPORT,OPTIONS");
/// `Authorization` must be named: a star never stands for it.
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept-Encoding,Authorization,Cache-Control,Content-Encoding,Content-Length,Content-Type,If-None-Match,X-API-Key,\
     X-LaunchDarkly-Event-Schema,X-LaunchDarkly-Payload-ID,X-LaunchDarkly-Tags,X-LaunchDarkly-User-Agent,\
     X-LaunchDarkly-Wrapper,Vexil-Min-Version",
);
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Date,ETag,Retry-After,Vexil-Stale,Vexil-Version,x-ld-fd-fallback,x-ld-fd-fallback-ttl",
);
/// Seconds for which a browser may remember the answer to a preflight.
const MAX_AGE_SECS: HeaderValue = HeaderValue::from_static("7200");

/// Answers preflights before anything is checked, and lets pages read every answer, errors too.
pub(super) async fn allow_pages(request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match *request.method() {
        Method::OPTIONS => preflight(),
        _ => next.run(request).await,
    };
    open_to(origin, response.headers_mut());
    response
}

fn open_to(origin: Option<HeaderValue>, headers: &mut HeaderMap) {
    let origin = origin.unwrap_or(HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECS),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}
