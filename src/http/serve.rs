//! The sockets: an accept loop over hyper.
//!
//! `axum::serve` is not used, because its version 0.8 leaves connections open that send nothing, and never finishes a
//! graceful stop while a stream is open. What each connection may do in vain is bounded here.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use socket2::TcpKeepalive;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;
use tower::ServiceExt;
use tracing::debug;
use tracing::warn;

/// Connections that are open at once; below the usual limit on descriptors, with room for the database.
const CONNECTIONS_MAX: usize = 16_000;
/// How long a new connection may send nothing.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be idle between requests or take to send a request's head; above the 60 s for which load
/// balancers keep connections open, so that they never use one that is just being closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// How long sent bytes may stay unacknowledged before the connection counts as dead; ends streams that nobody reads.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a silent connection waits before the kernel asks the peer for a sign of life.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// Bytes buffered per connection, and so the largest request head.
const BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Streams on one HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 250;
/// How long to wait when no descriptor is left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// How an HTTP/2 connection begins when the client knows that the server speaks it. Source: RFC 9113, section 3.4.
const HTTP2_PREFACE_START: &[u8] = b"PRI ";

/// Serves connections until it is told to stop; then lets each finish the request that it is at.
pub async fn serve<S>(
    listener: TcpListener,
    service: S,
    connections: TaskTracker,
    stop: CancellationToken,
) where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Waits for a place before it accepts: what is over the limit queues in the kernel.
        let permit = tokio::select! {
            () = stop.cancelled() => return,
            permit = Arc::clone(&permits).acquire_owned() => permit,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let (service, stop) = (service.clone(), stop.clone());
                connections.spawn(async move {
                    if let Err(error) = serve_connection(socket, service, stop).await {
                        debug!(%error, "a connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn serve_connection<S>(
    socket: TcpStream,
    service: S,
    stop: CancellationToken,
) -> Result<(), AnyError>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
{
    set_options(&socket)?;
    let is_http2 = tokio::select! {
        is_http2 = tokio::time::timeout(FIRST_BYTE_TIMEOUT, begins_as_http2(&socket)) => is_http2??,
        () = stop.cancelled() => return Ok(()),
    };
    let service = service.map_request(|request: Request<Incoming>| request.map(Body::new));
    // Boxed, because a stream keeps the room of its handler as long as it is open; and so is each connection, because the
    // task would have room for one of either protocol, twice.
    let service = TowerToHyperService::new(service.map_future(Box::pin));
    let io = TokioIo::new(socket);
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .keep_alive_interval(UNACKNOWLEDGED_TIMEOUT)
            .serve_connection(io, service);
        let mut connection = Box::pin(connection);
        tokio::select! {
            result = connection.as_mut() => return Ok(result?),
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        return Ok(connection.await?);
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(io, service);
    let mut connection = Box::pin(connection);
    tokio::select! {
        result = connection.as_mut() => return Ok(result?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

fn set_options(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT))?;
    Ok(())
}

/// Looks at the first bytes without taking them, as soon as they tell the protocol.
async fn begins_as_http2(socket: &TcpStream) -> io::Result<bool> {
    let mut buffer = [0; HTTP2_PREFACE_START.len()];
    loop {
        let n_bytes = socket.peek(&mut buffer).await?;
        let seen = buffer.get(..n_bytes).unwrap_or_default();
        if n_bytes == 0 || !HTTP2_PREFACE_START.starts_with(seen) {
            return Ok(false);
        }
        if n_bytes == HTTP2_PREFACE_START.len() {
            return Ok(true);
        }
        // A peek returns at once while the same bytes lie there.
        tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
    }
}
