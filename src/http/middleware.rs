//! What happens to every request: an id, a log line, a figure, and an error body in the right dialect.

use crate::clock::Ids;
use crate::http::error::ApiError;
use crate::http::limit::Arrival;
use crate::telemetry::Metrics;
use axum::extract::MatchedPath;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::FutureExt;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;
use tracing::debug;
use tracing::error;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of a request id that a client may choose.
const REQUEST_ID_CHARS_MAX: usize = 64;

/// The codes of errors that say that a bound on one request was passed: on its body, headers, depth, or what is in it.
const BOUNDS: &[&str] =
    &["body_too_large", "too_many_headers", "too_deep", "too_many", "too_long", "too_large"];

/// The id of a request: the client's own, if it is one, or a new one. Always readable as text.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    fn new(request: &Request) -> Self {
        let given = request.headers().get(REQUEST_ID);
        let is_good = |value: &&HeaderValue| value.to_str().is_ok_and(is_request_id);
        // The digits and dashes of a new one are no surprise to a header.
        let new = || HeaderValue::try_from(Ids.next()).unwrap_or(HeaderValue::from_static("none"));
        Self(given.filter(is_good).cloned().unwrap_or_else(new))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// How the body of an error is written: the error, the path that was asked for, and the id of the request.
pub(crate) type WriteError = fn(&ApiError, &Uri, &str) -> Response;

/// What is noted about a request until it is answered.
pub(crate) struct Observed {
    /// When the request came.
    pub(crate) started: Instant,
    method: Method,
    uri: Uri,
    id: RequestId,
}

impl Observed {
    /// Takes the request's own id, or gives it one.
    pub(crate) fn new(request: &Request) -> Self {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Self { started: Instant::now(), method, uri, id: RequestId::new(request) }
    }

    /// Waits for the answer, writes its body if it is an error or a panic, adds what every answer has, and counts it.
    ///
    /// `route` is not the path: paths can hold what belongs in no log.
    pub(crate) async fn finish(
        self,
        answering: impl Future<Output = Response>,
        metrics: &Metrics,
        write_error: WriteError,
        route: &str,
    ) -> Response {
        let answering = AssertUnwindSafe(answering).catch_unwind();
        let mut response = answering.await.unwrap_or_else(|panic| panicked(&*panic));
        let Self { started, method, uri, id } = self;
        if let Some(error) = ApiError::take_from(&mut response) {
            count_bounds(&error, metrics);
            let extra_headers = std::mem::take(response.headers_mut());
            response = write_error(&error, &uri, id.as_str());
            for (name, value) in &extra_headers {
                response.headers_mut().entry(name).or_insert(value.clone());
            }
        }
        let status = response.status();
        metrics.requests.count(status.as_u16());
        debug!(
            request.id = id.as_str(),
            http.method = %method,
            http.route = route,
            http.status = status.as_u16(),
            duration_us = started.elapsed().as_micros(),
            "answered a request"
        );
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id.0);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// Counts an error that says that a bound on one request was passed.
fn count_bounds(error: &ApiError, metrics: &Metrics) {
    let codes = error.problems.as_slice().iter().map(|problem| problem.code);
    if let Some(code) = std::iter::once(error.code).chain(codes).find(|it| BOUNDS.contains(it)) {
        metrics.bounds_refused.count(code);
    }
}

/// Gives the request an id, and writes the body of an error; for the routes of the router.
pub(crate) async fn observe(
    State(metrics): State<Arc<Metrics>>,
    mut request: Request,
    next: Next,
) -> Response {
    let observed = Observed::new(&request);
    request.extensions_mut().insert(observed.id.clone());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    observed.finish(next.run(request), &metrics, ApiError::write_problem, route).await
}

/// Keeps requests within the limits. Stands behind what lets pages read answers, so that they can read a refusal.
pub(crate) async fn admit(request: Request, next: Next) -> Result<Response, ApiError> {
    let Some(arrival) = request.extensions().get::<Arrival>().cloned() else {
        return Ok(next.run(request).await);
    };
    arrival.limits.bounds.check_headers(request.headers())?;
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    arrival.admit_route(route)?;
    let response = next.run(request).await;
    // Requests which nobody vouches for use up nothing of what the others share.
    if response.status() == StatusCode::UNAUTHORIZED {
        arrival.forget_route(route);
    }
    Ok(response)
}

fn is_request_id(id: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !id.is_empty() && id.len() <= REQUEST_ID_CHARS_MAX && id.bytes().all(is_allowed)
}

/// Answers for a handler that panicked; the process goes on.
fn panicked(panic: &(dyn Any + Send)) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    error!(panic = message.unwrap_or_default(), "a handler panicked");
    ApiError::internal().into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_500_without_its_cause() {
        let metrics = Metrics::default();
        let request = Request::builder().header("x-request-id", "mine").body(Body::empty());
        let observed = Observed::new(&request.unwrap());
        let answering = async { panic!("a secret") };
        let response = observed.finish(answering, &metrics, ApiError::write_problem, "/").await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-request-id"]),
            (500, &HeaderValue::from_static("mine"))
        );
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("mine") && !text.contains("secret"), "{text}");
    }
}
