//! What happens to every request: an id, a log line, a figure, and an error body in the right dialect.

use crate::clock::Ids;
use crate::http::error::ApiError;
use crate::telemetry::Metrics;
use axum::extract::MatchedPath;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::Uri;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;
use tracing::debug;
use tracing::error;

const REQUEST_ID: &str = "x-request-id";
/// Characters of a request id that a client may choose.
const REQUEST_ID_CHARS_MAX: usize = 64;

/// The id of a request: the client's own, if it is one, or a new one.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

/// How the body of an error is written: the error, the path that was asked for, and the id of the request.
pub(crate) type WriteError = fn(&ApiError, &Uri, &str) -> Response;

/// Gives the request an id, and writes the body of an error.
pub(crate) async fn observe(
    State((metrics, write_error)): State<(Arc<Metrics>, WriteError)>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let given = given.filter(|id| is_request_id(id)).map(Arc::from);
    let id: Arc<str> = given.unwrap_or_else(|| Arc::from(Ids.next()));
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let (method, uri) = (request.method().clone(), request.uri().clone());
    // The route and not the path: paths can hold what belongs in no log.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(error) = ApiError::take_from(&mut response) {
        let extra_headers = std::mem::take(response.headers_mut());
        response = write_error(&error, &uri, &id);
        for (name, value) in &extra_headers {
            response.headers_mut().entry(name).or_insert(value.clone());
        }
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status();
    metrics.requests.count(status.as_u16());
    debug!(
        request.id = &*id,
        http.method = %method,
        http.route = route.as_ref().map_or("", MatchedPath::as_str),
        http.status = status.as_u16(),
        duration_us = started.elapsed().as_micros(),
        "answered a request"
    );
    response
}

fn is_request_id(id: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !id.is_empty() && id.len() <= REQUEST_ID_CHARS_MAX && id.bytes().all(is_allowed)
}

/// Answers for a handler that panicked; the process goes on.
#[expect(clippy::needless_pass_by_value, reason = "the signature is that of the layer")]
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    error!(panic = message.unwrap_or_default(), "a handler panicked");
    ApiError::internal().into_response()
}

/// Takes away doubled slashes at the start of a path: OFREP clients join a base URL that ends in a slash with a path that
/// starts with one.
pub(crate) fn collapse_leading_slashes<B>(
    mut request: axum::http::Request<B>,
) -> axum::http::Request<B> {
    let Some(rest) = request.uri().path_and_query().map(|text| text.as_str()) else {
        return request;
    };
    if !rest.starts_with("//") {
        return request;
    }
    let path = format!("/{}", rest.trim_start_matches('/'));
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = path.parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}
