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
    /// It arrives so many milliseconds later.
    Lag(u64),
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
    /// Connections with a lower number are silent for good.
    silent_below: Arc<watch::Sender<u64>>,
    silent_ports: Arc<watch::Sender<Vec<u16>>>,
    n_connections: Arc<AtomicU64>,
}

impl Proxy {
    /// Starts a proxy to a port of this machine.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fault = Arc::new(watch::Sender::new(Fault::Pass));
        let to = Arc::new(AtomicU16::new(to));
        let silent_below = Arc::new(watch::Sender::new(0));
        let silent_ports = Arc::new(watch::Sender::new(Vec::new()));
        let n_connections = Arc::new(AtomicU64::new(0));
        let proxy = Self {
            port,
            to: Arc::clone(&to),
            fault: Arc::clone(&fault),
            silent_below: Arc::clone(&silent_below),
            silent_ports: Arc::clone(&silent_ports),
            n_connections: Arc::clone(&n_connections),
        };
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let to = to.load(Ordering::Relaxed);
                let number = n_connections.fetch_add(1, Ordering::Relaxed);
                let (fault, mut silent) = (fault.subscribe(), silent_below.subscribe());
                let ports = silent_ports.subscribe();
                tokio::spawn(async move {
                    let is_silent = async {
                        let _ = silent.wait_for(|below| *below > number).await;
                    };
                    let carrying = carry(client, to, fault, ports);
                    tokio::pin!(carrying);
                    tokio::select! {
                        () = &mut carrying => return,
                        () = is_silent => {}
                    }
                    // Both sides stay open, and nothing passes any more, as behind a router that has forgotten them.
                    std::future::pending::<()>().await;
                });
            }
        });
        proxy
    }

    /// Leads connections that come from now on to another port.
    pub fn lead_to(&self, port: u16) {
        self.to.store(port, Ordering::Relaxed);
    }

    /// Silences all connections that are there, for good and without a word; those that come pass.
    pub fn silence(&self) {
        self.silent_below.send_replace(self.n_connections.load(Ordering::Relaxed));
    }

    /// Silences, likewise, those that reach the server from one of these ports.
    pub fn silence_ports(&self, ports: &[u16]) {
        self.silent_ports.send_replace(ports.to_vec());
    }

    /// How many connections came so far.
    pub fn n_connections(&self) -> u64 {
        self.n_connections.load(Ordering::Relaxed)
    }

    /// Breaks, or mends, all connections that are there and that come.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

async fn carry(
    client: TcpStream,
    to: u16,
    mut fault: watch::Receiver<Fault>,
    mut silent_ports: watch::Receiver<Vec<u16>>,
) {
    // A blackhole swallows the connection too: whoever connects waits.
    let passes = fault.wait_for(|fault| *fault != Fault::Blackhole).await;
    if passes.is_ok_and(|fault| *fault == Fault::Reset) {
        return reset(client);
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { return reset(client) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let port = server.local_addr().unwrap().port();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let n_bytes = Arc::new(AtomicU64::new(0));
    let up = pump(from_client, to_server, fault.clone(), Arc::clone(&n_bytes));
    let down = pump(from_server, to_client, fault, n_bytes);
    let is_silent = async {
        // If nobody can say so any more, the test is over.
        let _ = silent_ports.wait_for(|ports| ports.contains(&port)).await;
    };
    // Whichever side ends, both end.
    tokio::select! {
        () = up => {}
        () = down => {}
        () = is_silent => std::future::pending().await,
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
            Fault::Lag(ms) => {
                let mended = fault.wait_for(|fault| *fault != Fault::Lag(ms));
                let _ = tokio::time::timeout(Duration::from_millis(ms), mended).await;
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
