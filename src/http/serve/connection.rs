//! One connection: which protocol it speaks, within which bounds, and how it ends.
//!
//! The bounds on time that hyper does not keep are in `pace`; how the streams of HTTP/2 share a write, in `gather`.

use crate::clock::Ids;
use crate::http::serve::Sockets;
use crate::http::serve::Tls;
use crate::http::serve::gather::Gathered;
use crate::http::serve::pace::HeadTimer;
use crate::http::serve::pace::Pace;
use crate::http::serve::pace::Paced;
use crate::http::serve::stall::Tasks;
use crate::http::serve::stall::Watched;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use socket2::TcpKeepalive;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tower::ServiceExt;

/// How long a silent connection waits before the kernel asks the peer for a sign of life.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// How long the kernel waits before it asks again.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How often the kernel asks in vain before the connection counts as dead.
const KEEPALIVE_TRIES: u32 = 3;
/// Bytes that the kernel takes before the peer has room for them: what waits longer is merged or dropped here, and costs no
/// memory of the kernel's.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 16 * 1024;
/// Bytes buffered per connection, and so the largest request head.
const BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Streams on one HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 250;
/// Streams of one HTTP/2 connection that were reset by the client before the server got to them; more are an attack
/// (CVE-2023-44487).
const HTTP2_PENDING_RESETS_MAX: usize = 20;
/// Streams of one HTTP/2 connection that the server had to reset because of the client's errors.
const HTTP2_ERROR_RESETS_MAX: usize = 1_024;
/// Bytes of a request head on HTTP/2, uncompressed.
const HTTP2_HEAD_BYTES_MAX: u32 = 16 * 1024;
/// Bytes that a client may send on one HTTP/2 stream before they are read.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Bytes that a client may send on all streams of an HTTP/2 connection before they are read.
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// How often an HTTP/2 client is asked for a sign of life.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long an HTTP/2 client may take to give it.
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The part of the age by which connections differ, to either side.
const AGE_SPREAD: f64 = 0.2;
/// How an HTTP/2 connection begins when the client knows that the server speaks it. Source: RFC 9113, section 3.4.
const HTTP2_PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What ends a connection early; nobody looks at it but the log.
type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The first bytes of a connection, as many as it takes to tell the protocol.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    bytes: [u8; HTTP2_PREFACE.len()],
    n_bytes: usize,
    /// When the first of them came.
    pub(super) at: Instant,
}

impl Start {
    /// The bytes that were read.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.n_bytes).unwrap_or_default()
    }

    fn is_http2(&self) -> bool {
        self.bytes() == HTTP2_PREFACE
    }
}

/// Serves a connection until its end.
pub(super) async fn serve_connection<S>(
    socket: TcpStream,
    service: S,
    sockets: &Sockets,
    stop: CancellationToken,
) -> Result<(), AnyError>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
{
    set_options(&socket, sockets)?;
    match &sockets.tls {
        None => serve_http(socket, service, sockets, stop).await,
        // Boxed, so that connections without TLS do not keep room for it.
        Some(tls) => Box::pin(serve_tls(socket, tls, service, sockets, stop)).await,
    }
}

async fn serve_tls<S>(
    socket: TcpStream,
    tls: &Tls,
    service: S,
    sockets: &Sockets,
    stop: CancellationToken,
) -> Result<(), AnyError>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
{
    let handshake = async {
        // Those who send nothing take no place among the handshakes.
        timeout(sockets.first_byte_timeout, socket.readable()).await??;
        tls.accept(socket, sockets.handshake_timeout).await
    };
    let socket = tokio::select! {
        socket = handshake => socket?,
        () = stop.cancelled() => return Ok(()),
    };
    serve_http(socket, service, sockets, stop).await
}

fn set_options(socket: &TcpStream, sockets: &Sockets) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_TRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(sockets.unacknowledged_timeout))?;
        socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    }
    Ok(())
}

/// Serves HTTP on whatever carries its bytes.
async fn serve_http<IO, S>(
    mut io: IO,
    service: S,
    sockets: &Sockets,
    stop: CancellationToken,
) -> Result<(), AnyError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
{
    let start = tokio::select! {
        start = read_start(&mut io, sockets) => start?,
        () = stop.cancelled() => return Ok(()),
    };
    let service = service.map_request(|request: Request<Incoming>| request.map(Body::new));
    let age = sockets.age_max.mul_f64(1.0 - AGE_SPREAD + 2.0 * AGE_SPREAD * Ids.jitter());
    let pace = Arc::new(Pace::new(sockets, start.at, age));
    let io = TokioIo::new(Paced::new(io, start, Arc::clone(&pace)));
    if start.is_http2() {
        // Boxed, so that connections of HTTP/1, of which there are more, do not keep room for it.
        return Box::pin(serve_http2(io, service, sockets, age, stop)).await;
    }
    // The connection closes after an answer, not between two: a request that is on its way then would be lost.
    let paced = Arc::clone(&pace);
    let service = service.map_response(move |mut response: Response| {
        if paced.is_old() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    });
    // Boxed, because hyper keeps room for an answer's future as long as the connection lasts.
    let service = TowerToHyperService::new(service.map_future(Box::pin));
    // Boxed, because the task would keep room for it twice, here and where it is pinned; tens of thousands are open at once.
    let mut connection = Box::pin(
        http1::Builder::new()
            .timer(HeadTimer(pace))
            .header_read_timeout(sockets.idle_timeout)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(io, service),
    );
    tokio::select! {
        result = connection.as_mut() => return Ok(result?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

async fn serve_http2<IO, S>(
    io: TokioIo<Paced<IO>>,
    service: S,
    sockets: &Sockets,
    age: Duration,
    stop: CancellationToken,
) -> Result<(), AnyError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
{
    let (service, tasks) = Watched::new(service, sockets.unacknowledged_timeout);
    let mut connection = Box::pin(http2(tasks.clone()).serve_connection(io, service));
    tokio::select! {
        result = Gathered::new(connection.as_mut()) => return Ok(result?),
        () = tokio::time::sleep(age) => {}
        () = tasks.idle(sockets.idle_timeout) => {}
        () = sockets.leaving.cancelled() => {}
        () = stop.cancelled() => {}
    }
    // Streams that are open go on; for others, the client makes another connection.
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        result = Gathered::new(connection.as_mut()) => Ok(result?),
        // The ends of answers that nobody takes are left in hyper.
        () = tasks.idle(sockets.unacknowledged_timeout) => Ok(()),
    }
}

fn http2(tasks: Tasks) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(HTTP2_ERROR_RESETS_MAX)
        .max_header_list_size(HTTP2_HEAD_BYTES_MAX)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT);
    builder
}

/// Reads until the protocol is known: HTTP/2 begins with a preface that is no request.
///
/// hyper waits for a preface without end, so all of it is read here.
async fn read_start(io: &mut (impl AsyncRead + Unpin), sockets: &Sockets) -> io::Result<Start> {
    let mut bytes = [0; HTTP2_PREFACE.len()];
    let mut n_bytes = timeout(sockets.first_byte_timeout, io.read(&mut bytes)).await??;
    let at = Instant::now();
    let head_deadline = at + sockets.head_timeout;
    loop {
        let start = Start { bytes, n_bytes, at };
        if start.is_http2() || !HTTP2_PREFACE.starts_with(start.bytes()) {
            return Ok(start);
        }
        let rest = bytes.get_mut(n_bytes..).unwrap_or_default();
        let n_more = timeout_at(head_deadline, io.read(rest)).await??;
        if n_more == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        n_bytes += n_more;
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::set_options;
    use crate::http::serve::Sockets;
    use socket2::SockRef;
    use std::time::Duration;
    use tokio::net::TcpListener;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn the_kernel_gives_up_peers_that_are_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        set_options(&socket, &Sockets::default()).unwrap();
        assert!(socket.nodelay().unwrap());
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 16 * 1024);
    }
}
