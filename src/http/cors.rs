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
const HEADERS: &str = "Accept-Encoding,Authorization,Cache-Control,Content-Encoding,Content-Length,Content-Type,If-None-Match,X-API-Key,\
     X-LaunchDarkly-Event-Schema,X-LaunchDarkly-Payload-ID,X-LaunchDarkly-Tags,X-LaunchDarkly-User-Agent,\
     X-LaunchDarkly-Wrapper,Vexil-Min-Version";
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Date,ETag,Retry-After,Vexil-Stale,Vexil-Version,x-ld-fd-fallback,x-ld-fd-fallback-ttl",
);
/// Seconds for which a browser may remember the answer to a preflight.
const MAX_AGE_SECS: HeaderValue = HeaderValue::from_static("7200");

/// Answers preflights before anything is checked, and lets pages read every answer, errors too.
pub(super) async fn allow_pages(request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match *request.method() {
        Method::OPTIONS => preflight(request.headers()),
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

/// The headers that a page may send: those that are known, and whatever else it asks for, because no header gives it more than
/// the token that it has. A page that traces its requests adds headers of its own to what an SDK sends.
pub(crate) fn allowed_headers(known: &'static str, asked: &HeaderMap) -> HeaderValue {
    let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let wanted = wanted.and_then(|wanted| wanted.to_str().ok()).filter(|wanted| !wanted.is_empty());
    let all = wanted.and_then(|wanted| HeaderValue::try_from(format!("{known},{wanted}")).ok());
    all.unwrap_or(HeaderValue::from_static(known))
}

fn preflight(asked: &HeaderMap) -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(HEADERS, asked)),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECS),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}
