//! A stream over a plain socket, for tests that open hundreds.

use super::Client;
use super::PATIENCE;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

/// Bytes that the kernel should keep for a client that does not read.
const RECEIVE_BUFFER_BYTES: u32 = 4_096;

#[derive(Debug)]
pub struct RawStream {
    socket: TcpStream,
    seen: Vec<u8>,
}

impl RawStream {
    /// Sends the request and reads nothing.
    pub async fn send(client: &Client, last_event_id: &str) -> Self {
        let address = client.url.strip_prefix("http://").unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
        let mut socket = socket.connect(address.parse().unwrap()).await.unwrap();
        let head = format!(
            "GET /api/v1/stream HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nLast-Event-ID: {last_event_id}\r\n\r\n",
            client.token
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        Self { socket, seen: Vec::new() }
    }

    /// Sends the request and reads up to the greeting.
    pub async fn open(client: &Client) -> Self {
        let mut stream = Self::send(client, "").await;
        assert!(stream.sees("retry: ").await);
        stream
    }

    /// Reads until a text has arrived, and returns whether it has; forgets what came before it.
    pub async fn sees(&mut self, text: &str) -> bool {
        let reading = async {
            loop {
                let found = self.seen.windows(text.len()).position(|part| part == text.as_bytes());
                if let Some(start) = found {
                    self.seen.drain(..start + text.len());
                    return true;
                }
                let mut buffer = [0; 4_096];
                match self.socket.read(&mut buffer).await {
                    Ok(0) | Err(_) => return false,
                    Ok(n_bytes) => self.seen.extend_from_slice(&buffer[..n_bytes]),
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("the stream goes on or ends")
    }

    /// Reads to the end of the stream, which a server marks by an empty chunk.
    pub async fn ends(&mut self) -> bool {
        self.sees("\r\n0\r\n\r\n").await
    }
}
