//! The front door: what is asked most goes straight to its handler, all else to the router.
//!
//! OFREP's routes are asked thousands of times a second and do little else than the work itself, so a router, its layers and
//! their boxed futures would cost more than the answer. What a request asks for is decided in `ofrep` and `router`.
// HOT: each request passes here.

use crate::http::AdminState;
use crate::http::DataState;
use crate::http::Phase;
use crate::http::limit::Arrival;
use crate::http::ofrep;
use crate::http::router::router;
use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::Uri;
use axum::http::Version;
use axum::http::header;
use axum::response::Response;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tower::Service;
use tower::ServiceExt;
use tower::service_fn;

/// Answers the requests of all connections.
#[derive(Debug, Clone)]
pub struct Front(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    data: DataState,
    router: Router,
}

impl Front {
    /// Puts together what answers requests.
    pub fn new(data: DataState, admin: AdminState) -> Self {
        let router = router(data.clone(), admin);
        Self(Arc::new(Parts { data, router }))
    }

    /// Returns the service that answers every request of one connection.
    pub fn service(
        &self,
        peer: IpAddr,
    ) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
    + use<> {
        let parts = Arc::clone(&self.0);
        service_fn(move |mut request: Request| {
            let parts = Arc::clone(&parts);
            async move {
                let version = request.version();
                collapse_leading_slashes(request.uri_mut());
                let mut response = if ofrep::has_path(request.uri().path()) {
                    ofrep::answer(&parts.data, request, peer).await
                } else {
                    let limits = Arc::clone(&parts.data.limits);
                    request.extensions_mut().insert(Arrival { limits, peer, at: Instant::now() });
                    // Boxed, so that the future of the short way stays small.
                    Box::pin(parts.router.clone().oneshot(request)).await?
                };
                let phase = parts.data.streams.phase();
                if phase != Phase::Serving && version <= Version::HTTP_11 {
                    close_behind(&mut response, phase);
                }
                Ok(response)
            }
        })
    }
}

/// Asks the client to use another connection from here on; later HTTP versions have a message of their own for that.
fn close_behind(response: &mut Response, phase: Phase) {
    // What is refused would be refused again on the same connection.
    if phase == Phase::Leaving || response.status().is_server_error() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
}

/// Takes away doubled slashes at the start of a path: OFREP clients join a base URL that ends in a slash with a path that
/// starts with one.
fn collapse_leading_slashes(uri: &mut Uri) {
    let Some(rest) = uri.path_and_query().map(|text| text.as_str()) else { return };
    if !rest.starts_with("//") {
        return;
    }
    let path = format!("/{}", rest.trim_start_matches('/'));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    if let Ok(collapsed) = Uri::from_parts(parts) {
        *uri = collapsed;
    }
}
