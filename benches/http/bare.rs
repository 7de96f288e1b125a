//! What HTTP and JSON cost without feature flags: a handler that parses the body and answers as many bytes as it is told.
//!
//! `bare 127.0.0.1:8090` serves until it is killed. It has Vexil's runtime, server loop, allocator and profile; it has no layers, no
//! tokens and no flags, and its answer is one buffer that was made before. The path is the number of bytes: `POST /412`.
//! Who drives it is `load.py`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "whatever fails must end the program")]

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use mimalloc::MiMalloc;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vexil::http::Sockets;

/// The longest answer.
const BYTES_MAX: usize = 4 * 1024 * 1024;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() {
    let address = std::env::args().nth(1).expect("the address to listen on is missing");
    let listener = TcpListener::bind(address).await.unwrap();
    let filler = Bytes::from(vec![b' '; BYTES_MAX]);
    let handler = async move |Path(n_bytes): Path<usize>, body: Bytes| -> Response {
        if serde_json::from_slice::<Value>(&body).is_err() {
            return StatusCode::BAD_REQUEST.into_response();
        }
        let answer = filler.slice(..n_bytes.min(BYTES_MAX));
        ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
    };
    let router = Router::new().route("/{n_bytes}", post(handler));
    let (connections, stop) = (TaskTracker::new(), CancellationToken::new());
    let service_for = move |_| router.clone();
    vexil::http::serve(listener, service_for, Sockets::within_descriptors(), connections, stop)
        .await;
}
