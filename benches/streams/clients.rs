//! The clients of one process, which hold streams: as cheap as can be, because they run on the processors of the server that is
//! measured. What they do is ordered by `fleet.rs`.
//!
//! They have no jitter of their own: one whose connection breaks connects again at once, and one that is refused waits for as
//! long as it is told. Of the protocol they know as much as is needed for this server.

use crate::Protocol;
use crate::fleet::Counts;
use crate::fleet::Opening;
use crate::fleet::Order;
use crate::fleet::There;
use crate::log::Log;
use crate::log::Made;
use crate::log::gather;
use crate::log::now;
use bytes::Bytes;
use serde_json::Value;
use serde_json::json;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections that are being opened at once.
const CONNECTING_MAX: usize = 256;
/// Addresses of the loopback that clients connect from; each has 28,000 ports.
const SOURCES: usize = 8;
/// Streams on one HTTP/2 connection.
const STREAMS_PER_CONNECTION: usize = 200;
/// Bytes that a server may send ahead on one HTTP/2 connection, so that streams that stall do not hold up the others.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// How long to wait when a connection cannot be made.
const CONNECT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Bytes that are read at once.
const READ_BYTES: usize = 16 * 1024;

/// The clients of this process.
#[derive(Debug)]
struct Clients {
    shared: Arc<Shared>,
    all: Vec<(Arc<Client>, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Shared {
    servers: Vec<SocketAddr>,
    connecting: Semaphore,
    n_opened: AtomicUsize,
    n_refused: AtomicUsize,
}

/// One client.
#[derive(Debug)]
struct Client {
    index: usize,
    token: String,
    /// The server that it goes to at first; when that is gone, it goes to the next.
    server: usize,
    is_stalled: bool,
    log: Mutex<Log>,
}

/// Does what the fleet orders, a line of JSON at a time, and answers each with a line, until there are no more orders.
///
/// Blocks, and has to be called where tasks can be spawned.
pub fn obey(servers: Vec<SocketAddr>) {
    let shared = Shared {
        servers,
        connecting: Semaphore::new(CONNECTING_MAX),
        n_opened: AtomicUsize::new(0),
        n_refused: AtomicUsize::new(0),
    };
    let mut clients = Clients { shared: Arc::new(shared), all: Vec::new() };
    for line in io::stdin().lines() {
        let answer = match serde_json::from_str(&line.unwrap()).unwrap() {
            Order::Open(opening) => clients.open(&opening),
            Order::Kill(n) => clients.kill(n),
            Order::Count => clients.count(),
            Order::CountAt(version) => clients.count_at(version),
            Order::Notes { server, changes } => clients.notes(server, &changes),
        };
        println!("{answer}");
    }
}

impl Clients {
    /// Adds clients of one server, which connect from now on.
    fn open(&mut self, opening: &Opening) -> Value {
        let first = self.all.len();
        let clients = (first..first + opening.n).map(|index| {
            let token = opening.tokens[index % opening.tokens.len()].clone();
            // Those that stall come first, those that are killed last.
            let is_stalled = index - first < opening.n_stalled;
            let server = opening.server;
            Arc::new(Client { index, token, server, is_stalled, log: Mutex::default() })
        });
        let clients: Vec<_> = clients.collect();
        match opening.protocol {
            Protocol::Http1 => {
                for client in clients {
                    let task = follow_http1(Arc::clone(&self.shared), Arc::clone(&client));
                    self.all.push((client, tokio::spawn(task)));
                }
            }
            Protocol::Http2 => {
                for group in clients.chunks(STREAMS_PER_CONNECTION) {
                    let connection = Arc::new(tokio::sync::Mutex::new(None));
                    for client in group {
                        let (shared, connection) =
                            (Arc::clone(&self.shared), Arc::clone(&connection));
                        let task = follow_http2(shared, Arc::clone(client), connection);
                        self.all.push((Arc::clone(client), tokio::spawn(task)));
                    }
                }
            }
        }
        Value::Null
    }

    /// Cuts clients off without a word.
    fn kill(&mut self, n: usize) -> Value {
        for (_, task) in self.all.drain(self.all.len() - n..) {
            task.abort();
        }
        Value::Null
    }

    fn count(&self) -> Value {
        let [opened, refused] = [&self.shared.n_opened, &self.shared.n_refused]
            .map(|count| count.load(Ordering::Relaxed));
        json!(Counts { opened, refused })
    }

    fn count_at(&self, version: i64) -> Value {
        let readers = || self.all.iter().filter(|(client, _)| !client.is_stalled);
        let has_it = |client: &Client| client.log.lock().unwrap().last == version;
        let there = readers().filter(|(client, _)| has_it(client)).count();
        json!(There { there, readers: readers().count() })
    }

    /// What those noted that read to the end and were at one server from the beginning.
    fn notes(&self, server: usize, changes: &[Made]) -> Value {
        let readers = self.all.iter().map(|(client, _)| client);
        let readers = readers.filter(|client| !client.is_stalled && client.server == server);
        let logs: Vec<_> = readers.map(|client| client.log.lock().unwrap()).collect();
        json!(gather(logs.iter().map(|log| &**log), changes))
    }
}

impl Shared {
    async fn connect(&self, client: &Client, server: usize) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        let last = 2 + client.index % SOURCES;
        socket.bind(SocketAddr::from(([127, 0, 0, last as u8], 0)))?;
        socket.connect(self.servers[server]).await
    }

    fn take(&self, client: &Client, bytes: &[u8]) {
        let has_greeted = client.log.lock().unwrap().take(bytes, now());
        if has_greeted {
            self.n_opened.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn wait_as_told(&self, retry_after: Option<u64>) {
        self.n_refused.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(retry_after.unwrap_or(1))).await;
    }

    /// Reads nothing for ever; not the greeting either, by which others count.
    async fn stall(&self) {
        self.n_opened.fetch_add(1, Ordering::Relaxed);
        pending::<()>().await;
    }

    /// The server that comes after this one, if there is another.
    fn after(&self, server: usize) -> usize {
        (server + 1).min(self.servers.len() - 1)
    }
}

async fn follow_http1(shared: Arc<Shared>, client: Arc<Client>) {
    let mut server = client.server;
    loop {
        let permit = shared.connecting.acquire().await.unwrap();
        let opened = open_http1(&shared, &client, server).await;
        drop(permit);
        let socket = match opened {
            Ok(Ok(socket)) => socket,
            Ok(Err(retry_after)) => {
                shared.wait_as_told(retry_after).await;
                continue;
            }
            Err(_) => {
                tokio::time::sleep(CONNECT_RETRY_DELAY).await;
                server = shared.after(server);
                continue;
            }
        };
        if client.is_stalled {
            shared.stall().await;
        }
        while socket.readable().await.is_ok() {
            match read(&shared, &client, &socket) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
                _ => {}
            }
        }
        client.log.lock().unwrap().cut_off();
        server = shared.after(server);
    }
}

/// Reads what is there. The buffer is on the stack for a moment only, so that a client is small.
fn read(shared: &Shared, client: &Client, socket: &TcpStream) -> io::Result<usize> {
    let mut buffer = [0; READ_BYTES];
    let n_bytes = socket.try_read(&mut buffer)?;
    shared.take(client, &buffer[..n_bytes]);
    Ok(n_bytes)
}

/// Opens a stream; the inner error is a refusal with the seconds to wait.
async fn open_http1(
    shared: &Shared,
    client: &Client,
    server: usize,
) -> io::Result<Result<TcpStream, Option<u64>>> {
    let mut socket = shared.connect(client, server).await?;
    let last_id = client.log.lock().unwrap().last_id.clone();
    let request = format!(
        "GET /api/v1/stream HTTP/1.1\r\nHost: vexil\r\nAuthorization: Bearer {}\r\nLast-Event-ID: {last_id}\r\n\r\n",
        client.token
    );
    socket.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    loop {
        socket.readable().await?;
        let mut buffer = [0; 1_024];
        match socket.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n_bytes) => head.extend_from_slice(&buffer[..n_bytes]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let Some(end) = head.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
        if text.starts_with("http/1.1 200") {
            if !client.is_stalled {
                shared.take(client, &head[end + 4..]);
            }
            return Ok(Ok(socket));
        }
        let retry_after = text.lines().find_map(|line| line.strip_prefix("retry-after: "));
        return Ok(Err(retry_after.and_then(|secs| secs.trim().parse().ok())));
    }
}

type Connection = Arc<tokio::sync::Mutex<Option<h2::client::SendRequest<Bytes>>>>;

async fn follow_http2(shared: Arc<Shared>, client: Arc<Client>, connection: Connection) {
    let mut server = client.server;
    loop {
        let mut body = match open_http2(&shared, &client, server, &connection).await {
            Ok(Ok(body)) => body,
            Ok(Err(retry_after)) => {
                shared.wait_as_told(retry_after).await;
                continue;
            }
            Err(_) => {
                *connection.lock().await = None;
                tokio::time::sleep(CONNECT_RETRY_DELAY).await;
                server = shared.after(server);
                continue;
            }
        };
        if client.is_stalled {
            shared.stall().await;
        }
        while let Some(Ok(bytes)) = body.data().await {
            // OK because what is released was received.
            let _ = body.flow_control().release_capacity(bytes.len());
            shared.take(&client, &bytes);
        }
        client.log.lock().unwrap().cut_off();
        server = shared.after(server);
    }
}

/// Opens a stream on the connection, which the first client makes for all; the inner error is a refusal.
async fn open_http2(
    shared: &Shared,
    client: &Client,
    server: usize,
    connection: &Connection,
) -> Result<Result<h2::RecvStream, Option<u64>>, Box<dyn std::error::Error + Send + Sync>> {
    let mut sender = {
        let mut connection = connection.lock().await;
        if connection.is_none() {
            let _permit = shared.connecting.acquire().await?;
            let socket = shared.connect(client, server).await?;
            let mut builder = h2::client::Builder::new();
            builder.initial_connection_window_size(CONNECTION_WINDOW_BYTES);
            let (sender, driver) = builder.handshake(socket).await?;
            tokio::spawn(driver);
            *connection = Some(sender);
        }
        connection.clone().ok_or("no connection")?
    };
    let last_id = client.log.lock().unwrap().last_id.clone();
    let mut request = http::Request::get("http://vexil/api/v1/stream")
        .header("authorization", format!("Bearer {}", client.token));
    if !last_id.is_empty() {
        request = request.header("last-event-id", last_id);
    }
    sender = sender.ready().await?;
    let (response, _) = sender.send_request(request.body(())?, true)?;
    let response = response.await?;
    if response.status() == 200 {
        return Ok(Ok(response.into_body()));
    }
    let retry_after = response.headers().get("retry-after").and_then(|secs| secs.to_str().ok());
    Ok(Err(retry_after.and_then(|secs| secs.parse().ok())))
}
