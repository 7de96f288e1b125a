//! A proxy that breaks: it stands between a replica and a server that the replica needs.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;

/// What happens to what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// It arrives later, by a random time of up to so many milliseconds.
    Delay(u64),
    /// Nothing arrives, and nobody is told.
    Blackhole,
    /// Connections are broken off, and new ones too.
    Reset,
    /// So many bytes in a second.
    Throttle(u64),
    /// Connections are broken off after so many bytes.
    Truncate(u64),
    /// One byte of each piece is changed.
    Corrupt,
}

/// A proxy; it ends with the test.
#[derive(Debug, Clone)]
pub struct Proxy {
    pub port: u16,
    to: Arc<AtomicU16>,
    fault: Arc<watch::Sender<Fault>>,
}

impl Proxy {
    /// Starts a proxy to a port of this machine.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fault = Arc::new(watch::Sender::new(Fault::Pass));
        let to = Arc::new(AtomicU16::new(to));
        let proxy = Self { port, to: Arc::clone(&to), fault: Arc::clone(&fault) };
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let to = to.load(Ordering::Relaxed);
                tokio::spawn(carry(client, to, fault.subscribe()));
            }
        });
        proxy
    }

    /// Leads connections that come from now on to another port.
    pub fn lead_to(&self, port: u16) {
        self.to.store(port, Ordering::Relaxed);
    }

    /// Breaks, or mends, all connections that are there and that come.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

async fn carry(client: TcpStream, to: u16, mut fault: watch::Receiver<Fault>) {
    // A blackhole swallows the connection too: whoever connects waits.
    let passes = fault.wait_for(|fault| *fault != Fault::Blackhole).await;
    if passes.is_ok_and(|fault| *fault == Fault::Reset) {
        return reset(client);
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { return reset(client) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let n_bytes = Arc::new(AtomicU64::new(0));
    let up = pump(from_client, to_server, fault.clone(), Arc::clone(&n_bytes));
    let down = pump(from_server, to_client, fault, n_bytes);
    // Whichever side ends, both end.
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

fn reset(stream: TcpStream) {
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut fault: watch::Receiver<Fault>,
    n_bytes: Arc<AtomicU64>,
) {
    static SALT: AtomicU8 = AtomicU8::new(0);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let n = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(n) => n,
            },
            _ = fault.wait_for(|fault| *fault == Fault::Reset) => return,
        };
        let piece = &mut buffer[..n];
        let size = u64::try_from(n).unwrap();
        let current = *fault.borrow();
        match current {
            Fault::Pass => {}
            Fault::Delay(ms) => {
                let salt = u64::from(SALT.fetch_add(37, Ordering::Relaxed));
                tokio::time::sleep(Duration::from_millis(ms * salt / 255)).await;
            }
            Fault::Blackhole => {
                if fault.wait_for(|fault| *fault != Fault::Blackhole).await.is_err() {
                    return;
                }
            }
            Fault::Reset => return,
            Fault::Throttle(per_second) => {
                tokio::time::sleep(Duration::from_millis(size * 1_000 / per_second)).await;
            }
            Fault::Truncate(max) => {
                if n_bytes.fetch_add(size, Ordering::Relaxed) + size > max {
                    let _ = to.write_all(&piece[..n / 2]).await;
                    return;
                }
            }
            Fault::Corrupt => {
                let salt = usize::from(SALT.fetch_add(37, Ordering::Relaxed));
                piece[salt % n] ^= 0x15;
            }
        }
        if to.write_all(piece).await.is_err() {
            return;
        }
    }
}
