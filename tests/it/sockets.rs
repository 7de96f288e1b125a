//! Connections that do harm or nothing: real sockets before the accept loop, with shorter times than a server has.

use crate::harness::PATIENCE;
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;
use vexil::http::Sockets;
use vexil::http::serve;

/// A time that passes quickly, and yet is not over before a busy machine has sent a few bytes.
pub const SHORT: Duration = Duration::from_millis(400);
/// A time that does not pass in a test.
pub const LONG: Duration = Duration::from_secs(600);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HTTP2_HEADERS: u8 = 1;
const HTTP2_RESET: u8 = 3;
const HTTP2_SETTINGS: u8 = 4;
const HTTP2_GOAWAY: u8 = 7;
const HTTP2_CONTINUATION: u8 = 9;
/// Source: RFC 9113, section 7.
const ENHANCE_YOUR_CALM: u32 = 11;

/// Passes so many bytes of a packet on. Source: `linux/bpf_common.h`, `BPF_RET | BPF_K`.
#[cfg(target_os = "linux")]
const BPF_RETURN: u16 = 0x06;

/// Times that do not pass.
pub fn patient() -> Sockets {
    Sockets {
        first_byte_timeout: LONG,
        head_timeout: LONG,
        idle_timeout: LONG,
        age_max: LONG,
        unacknowledged_timeout: LONG,
        ..Sockets::default()
    }
}

/// A loop that serves `/` and, at `/endless`, a body without an end, until the guard is dropped.
pub struct Loop {
    pub address: SocketAddr,
    /// Told when an endless body is given up.
    given_up: Arc<Notify>,
    _stop: DropGuard,
}

/// Tells that it was dropped.
struct TellsDrop(Arc<Notify>);

impl Drop for TellsDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

pub async fn start(sockets: Sockets) -> Loop {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let given_up = Arc::new(Notify::new());
    let tell = Arc::clone(&given_up);
    let endless = async move || {
        let piece = Bytes::from(vec![b'x'; 64 * 1024]);
        let told = TellsDrop(tell);
        Body::from_stream(stream::unfold((piece, told), async |(piece, told)| {
            Some((Ok::<_, Infallible>(piece.clone()), (piece, told)))
        }))
    };
    let router = Router::new().route("/", get(async || "ok")).route("/endless", get(endless));
    let stop = CancellationToken::new();
    let service_for = move |_| router.clone();
    tokio::spawn(serve(Arc::new(listener), service_for, sockets, TaskTracker::new(), stop.clone()));
    Loop { address, given_up, _stop: stop.drop_guard() }
}

impl Loop {
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut socket = self.connect().await;
        socket.write_all(bytes).await.unwrap();
        socket
    }
}

/// Reads until the server closes the connection; a reset counts as a close.
pub async fn read_to_close(socket: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut read = Vec::new();
    let reading = socket.read_to_end(&mut read);
    let _ = timeout(PATIENCE, reading).await.expect("the connection stays open");
    read
}

/// Sends a request on a connection that stays open and reads its answer, which ends in `ok`.
pub async fn ask(socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    socket.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let n_bytes = timeout(PATIENCE, socket.read_buf(&mut answer)).await.unwrap().unwrap();
        assert_ne!(n_bytes, 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let n_bytes = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&n_bytes[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The preface and empty settings.
fn http2_start() -> Vec<u8> {
    [PREFACE, &frame(HTTP2_SETTINGS, 0, 0, b"")].concat()
}

/// `GET /` on a stream, with nothing to follow.
fn http2_request(stream: u32) -> Vec<u8> {
    // Source: RFC 7541, appendix A: `:method GET`, `:scheme http`, `:path /`, and `:authority` with the text `x`.
    frame(HTTP2_HEADERS, 0x5, stream, &[0x82, 0x86, 0x84, 0x41, 0x01, b'x'])
}

/// The frames that a server has sent, with their kinds.
fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 9 {
        let n_bytes =
            usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        let Some(payload) = bytes.get(9..9 + n_bytes) else { break };
        found.push((bytes[3], payload));
        bytes = &bytes[9 + n_bytes..];
    }
    found
}

/// Sends a request over HTTP/2 and waits for the head of its answer.
pub async fn ask_http2(socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    socket.write_all(&[http2_start(), http2_request(1)].concat()).await.unwrap();
    let mut sent = Vec::new();
    while !frames(&sent).iter().any(|(kind, _)| *kind == HTTP2_HEADERS) {
        let n_bytes = timeout(PATIENCE, socket.read_buf(&mut sent)).await.unwrap().unwrap();
        assert_ne!(n_bytes, 0, "closed without an answer");
    }
}

/// Reads until the server says GOAWAY or closes the connection.
async fn read_to_goodbye(socket: &mut TcpStream) -> Vec<u8> {
    let mut sent = Vec::new();
    read_to_frame(socket, HTTP2_GOAWAY, &mut sent).await;
    sent
}

/// Reads until there is a frame of this kind, or no more.
async fn read_to_frame(socket: &mut TcpStream, wanted: u8, sent: &mut Vec<u8>) {
    while !frames(sent).iter().any(|(kind, _)| *kind == wanted) {
        let read = timeout(PATIENCE, socket.read_buf(sent)).await;
        if matches!(read.expect("the connection stays open"), Ok(0) | Err(_)) {
            break;
        }
    }
}

#[tokio::test]
async fn a_connection_that_sends_nothing_is_closed() {
    let server = start(Sockets { first_byte_timeout: SHORT, ..patient() }).await;
    let opened = Instant::now();
    let mut socket = server.connect().await;
    assert_eq!(read_to_close(&mut socket).await, b"");
    assert!(opened.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_head_that_is_begun_must_be_finished() {
    let server = start(Sockets { head_timeout: SHORT, ..patient() }).await;
    for begun in [
        &b"G"[..],
        b"P",
        b"PRI * HTTP/2.0\r\n",
        b"POST / HT",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Fill: 1\r\n",
    ] {
        let opened = Instant::now();
        let mut socket = server.send(begun).await;
        let answer = read_to_close(&mut socket).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(begun));
        assert!(opened.elapsed() >= SHORT, "{}", String::from_utf8_lossy(begun));
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    let server = start(Sockets { head_timeout: SHORT, ..patient() }).await;
    for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n"[..], PREFACE] {
        let mut socket = server.connect().await;
        let mut pace = tokio::time::interval(SHORT / 8);
        let opened = Instant::now();
        // More of the same, for as long as the server takes it.
        for byte in bytes.iter().cycle() {
            pace.tick().await;
            assert!(opened.elapsed() < PATIENCE, "the connection stays open");
            let mut answer = [0; 256];
            let is_closed = match timeout(SHORT / 16, socket.read(&mut answer)).await {
                Ok(Ok(n_bytes)) => n_bytes == 0,
                Ok(Err(_)) => true,
                Err(_) => socket.write_all(&[*byte]).await.is_err(),
            };
            if is_closed {
                break;
            }
        }
        assert!(opened.elapsed() >= SHORT);
    }
    crate::lab::happened(
        "N4 a head byte by byte",
        "one byte now and then",
        "closed after the time for a head",
    );
}

#[tokio::test]
async fn an_idle_connection_may_stay_longer_than_a_head() {
    let server = start(Sockets { head_timeout: SHORT, ..patient() }).await;
    let mut idle = server.connect().await;
    ask(&mut idle).await;
    let mut half = server.send(b"GET / HT").await;
    read_to_close(&mut half).await;
    ask(&mut idle).await;
    // What has begun on a connection that was idle is not waited for either.
    idle.write_all(b"GET /").await.unwrap();
    assert!(!read_to_close(&mut idle).await.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let server = start(Sockets { idle_timeout: SHORT, ..patient() }).await;
    let mut idle = server.connect().await;
    ask(&mut idle).await;
    let answered = Instant::now();
    read_to_close(&mut idle).await;
    assert!(answered.elapsed() >= SHORT / 2);
}

#[tokio::test]
async fn an_old_connection_closes_after_its_next_answer() {
    let server = start(Sockets { age_max: Duration::ZERO, ..patient() }).await;
    let mut socket = server.connect().await;
    let answer = ask(&mut socket).await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(read_to_close(&mut socket).await, b"");

    let server = start(patient()).await;
    let answer = ask(&mut server.connect().await).await;
    assert!(!answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn an_old_http2_connection_is_told_to_go_away() {
    let server = start(Sockets { age_max: SHORT, ..patient() }).await;
    let mut socket = server.send(&[http2_start(), http2_request(1)].concat()).await;
    let sent = read_to_goodbye(&mut socket).await;
    let frames = frames(&sent);
    assert!(frames.iter().any(|(kind, _)| *kind == HTTP2_HEADERS), "not answered: {frames:?}");
    let goodbye = frames.iter().find(|(kind, _)| *kind == HTTP2_GOAWAY).expect("no GOAWAY").1;
    assert_eq!(goodbye[4..8], [0; 4], "not for an error");
}

#[tokio::test]
async fn an_http2_stream_without_room_is_reset_and_the_others_go_on() {
    let server = start(Sockets { unacknowledged_timeout: SHORT, ..patient() }).await;
    let mut builder = h2::client::Builder::new();
    let opening = builder.initial_window_size(0).handshake::<_, Bytes>(server.connect().await);
    let (sender, connection) = opening.await.unwrap();
    tokio::spawn(connection);
    let ask = async |path: &str| {
        let request = axum::http::Request::get(format!("http://{}{path}", server.address));
        let mut sender = sender.clone().ready().await.unwrap();
        let (answer, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
        timeout(PATIENCE, answer).await.unwrap().unwrap()
    };
    let mut body = ask("/endless").await.into_body();
    let ended = timeout(PATIENCE, body.data()).await.unwrap().unwrap();
    assert_eq!(ended.unwrap_err().reason(), Some(h2::Reason::CANCEL));
    timeout(PATIENCE, server.given_up.notified()).await.unwrap();
    assert_eq!(ask("/").await.status(), 200);
    crate::lab::happened(
        "N1 a stream of HTTP/2 without room",
        "a client that never opens its window",
        "the stream was reset, and the connection went on",
    );
}

#[tokio::test]
async fn an_http2_stream_that_is_read_goes_on() {
    let server = start(Sockets { unacknowledged_timeout: SHORT, ..patient() }).await;
    let opening = h2::client::handshake(server.connect().await);
    let (sender, connection) = opening.await.unwrap();
    tokio::spawn(connection);
    let request = axum::http::Request::get(format!("http://{}/endless", server.address));
    let mut sender = sender.ready().await.unwrap();
    let (answer, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
    let mut body = timeout(PATIENCE, answer).await.unwrap().unwrap().into_body();
    let started = Instant::now();
    while started.elapsed() < SHORT * 3 {
        let piece = timeout(PATIENCE, body.data()).await.unwrap().unwrap().unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
}

#[tokio::test]
async fn an_idle_http2_connection_is_told_to_go_away() {
    let server = start(Sockets { idle_timeout: SHORT, ..patient() }).await;
    let mut socket = server.send(&[http2_start(), http2_request(1)].concat()).await;
    let sent = read_to_goodbye(&mut socket).await;
    let frames = frames(&sent);
    assert!(frames.iter().any(|(kind, _)| *kind == HTTP2_HEADERS), "not answered: {frames:?}");
    let goodbye = frames.iter().find(|(kind, _)| *kind == HTTP2_GOAWAY).expect("no GOAWAY").1;
    assert_eq!(goodbye[4..8], [0; 4], "not for an error");
}

#[tokio::test]
async fn an_http2_connection_is_told_to_go_away_when_the_process_takes_leave() {
    let leaving = CancellationToken::new();
    let server = start(Sockets { leaving: leaving.clone(), ..patient() }).await;
    let mut socket = server.send(&[http2_start(), http2_request(1)].concat()).await;
    let mut sent = Vec::new();
    read_to_frame(&mut socket, HTTP2_HEADERS, &mut sent).await;
    assert!(!frames(&sent).iter().any(|(kind, _)| *kind == HTTP2_GOAWAY), "too early");
    leaving.cancel();
    read_to_frame(&mut socket, HTTP2_GOAWAY, &mut sent).await;
    let frames = frames(&sent);
    let goodbye = frames.iter().find(|(kind, _)| *kind == HTTP2_GOAWAY).expect("no GOAWAY").1;
    assert_eq!(goodbye[4..8], [0; 4], "not for an error");
}

#[tokio::test]
async fn rapid_resets_end_an_http2_connection() {
    let server = start(patient()).await;
    let mut attack = http2_start();
    for stream in (1..2_000).step_by(2) {
        attack.extend(http2_request(stream));
        attack.extend(frame(HTTP2_RESET, 0, stream, &8_u32.to_be_bytes()));
    }
    let mut socket = server.connect().await;
    // The server may close while the rest is on its way.
    let _ = socket.write_all(&attack).await;
    let sent = read_to_goodbye(&mut socket).await;
    // What was under way is lost if the server closes before it has read everything.
    if let Some((_, goodbye)) = frames(&sent).iter().find(|(kind, _)| *kind == HTTP2_GOAWAY) {
        assert_eq!(goodbye[4..8], ENHANCE_YOUR_CALM.to_be_bytes());
    }
    // Others are served as before.
    ask(&mut server.connect().await).await;
}

#[tokio::test]
async fn an_http2_client_is_told_its_bounds() {
    let server = start(patient()).await;
    let mut socket = server.send(&http2_start()).await;
    let mut sent = Vec::new();
    while frames(&sent).is_empty() {
        timeout(PATIENCE, socket.read_buf(&mut sent)).await.unwrap().unwrap();
    }
    let (kind, settings) = frames(&sent)[0];
    assert_eq!(kind, HTTP2_SETTINGS);
    let value_of = |wanted: u16| {
        let mut settings = settings.chunks(6);
        let setting = settings.find(|setting| setting[..2] == wanted.to_be_bytes())?;
        Some(u32::from_be_bytes(setting[2..].try_into().unwrap()))
    };
    // Source: RFC 9113, section 6.5.2: streams at once, the window of a stream, bytes of a head.
    assert_eq!(value_of(3), Some(250));
    assert_eq!(value_of(4).unwrap_or(65_535), 65_536);
    assert_eq!(value_of(6), Some(16_384));
}

#[tokio::test]
async fn an_http2_head_without_end_ends_the_connection() {
    let server = start(patient()).await;
    let (mut reading, mut writing) = server.send(&http2_start()).await.into_split();
    let flood = async move {
        // Neither the head nor the stream ends with it.
        writing.write_all(&frame(HTTP2_HEADERS, 0, 1, &[0x82, 0x86, 0x84])).await.unwrap();
        // A header without a name in the index, of 1 byte and 1 byte, again and again.
        let more = frame(HTTP2_CONTINUATION, 0, 1, &[0x00, 0x01, b'a', 0x01, b'b'].repeat(2_000));
        let mut n_bytes = 0;
        while writing.write_all(&more).await.is_ok() {
            n_bytes += more.len();
        }
        n_bytes
    };
    let closed = async {
        let mut sent = Vec::new();
        let _ = reading.read_to_end(&mut sent).await;
    };
    let both = futures_util::future::join(flood, closed);
    let (n_bytes, ()) = timeout(PATIENCE, both).await.expect("the connection stays open");
    assert!(n_bytes < 64 * 1024 * 1024, "{n_bytes}");
    ask(&mut server.connect().await).await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let server = start(Sockets { unacknowledged_timeout: SHORT, ..patient() }).await;
    let _stalled = server.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
    timeout(PATIENCE, server.given_up.notified()).await.expect("the answer goes on");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_peer_that_is_silently_gone_is_given_up() {
    let server = start(Sockets { unacknowledged_timeout: SHORT, ..patient() }).await;
    let mut gone = server.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut piece = vec![0; 64 * 1024];
    gone.read_exact(&mut piece).await.unwrap();
    // From now on nothing that is sent to it arrives, and so nothing is acknowledged: neither an end nor a reset is seen.
    let drop_all = socket2::SockFilter::new(BPF_RETURN, 0, 0, 0);
    socket2::SockRef::from(&gone).attach_filter(&[drop_all]).unwrap();
    timeout(PATIENCE, server.given_up.notified()).await.expect("the answer goes on");
    crate::lab::happened(
        "N2 a peer that is gone without a word",
        "every packet of the peer dropped while an answer was sent",
        "closed by the kernel's timer",
    );
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let places = Arc::new(Semaphore::new(2));
    let server = start(Sockets { places: Arc::clone(&places), ..patient() }).await;
    let mut first = server.connect().await;
    ask(&mut first).await;
    let mut second = server.connect().await;
    ask(&mut second).await;
    let mut third = server.send(REQUEST).await;
    let mut byte = [0];
    assert!(timeout(SHORT, third.read(&mut byte)).await.is_err(), "there is no place for it");
    drop(first);
    assert_eq!(timeout(PATIENCE, third.read(&mut byte)).await.unwrap().unwrap(), 1);
    ask(&mut second).await;
    // An accept loop that is started again counts the connections before it.
    let again = start(Sockets { places, ..patient() }).await;
    let mut fourth = again.send(REQUEST).await;
    assert!(timeout(SHORT, fourth.read(&mut byte)).await.is_err(), "there is no place for it");
    // The loop before it is there still, and takes one of the two.
    drop((second, third));
    assert_eq!(timeout(PATIENCE, fourth.read(&mut byte)).await.unwrap().unwrap(), 1);
}
