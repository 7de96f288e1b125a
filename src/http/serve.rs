//! The sockets: an accept loop over hyper.
//!
//! `axum::serve` is not used, because its version 0.8 leaves connections open that send nothing, and never finishes a
//! graceful stop while a stream is open. How many connections there may be is decided here; what one connection may do, in
//! `connection`; how long a request's head may take, in `pace`; what nobody reads, in `stall`; what is encrypted, in `tls`.

mod connection;
mod gather;
mod pace;
mod stall;
mod tls;

pub(crate) use stall::Ending;
pub(crate) use stall::Ends;
pub use tls::Tls;

use crate::http::serve::connection::serve_connection;
use axum::extract::Request;
use axum::response::Response;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;
use tracing::debug;
use tracing::warn;

/// Connections that are open at once, however many descriptors there are.
const CONNECTIONS_MAX: usize = 60_000;
/// Descriptors that are kept from connections: for the databases, files and whatever else the process opens.
const DESCRIPTORS_RESERVED: usize = 512;
/// How long a new connection may send nothing.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request's head, or the start of HTTP/2, may take from its first byte to its last.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle between requests; above the 60 s for which load balancers keep connections open, so
/// that they never use one that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How old a connection gets, give or take a fifth, so that clients spread anew over the replicas that there are by then.
const AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// How long sent bytes may stay unacknowledged before the connection counts as dead; ends streams that nobody reads.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a TLS handshake may take from its first byte to its last.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait when no descriptor is left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// What connections may do in vain, and how many of them there may be.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// Places for connections that are open at once; what is over the limit queues in the kernel. An accept loop that is started
    /// again has those that the connections before it leave.
    pub places: Arc<Semaphore>,
    /// How long a new connection may send nothing.
    pub first_byte_timeout: Duration,
    /// How long a request's head, or the start of HTTP/2, may take from its first byte to its last.
    pub head_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub idle_timeout: Duration,
    /// How old a connection gets, give or take a fifth.
    pub age_max: Duration,
    /// How long sent bytes may stay unacknowledged.
    pub unacknowledged_timeout: Duration,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// The certificate; without one, connections are not encrypted.
    pub tls: Option<Arc<Tls>>,
    /// Cancelled when the process takes leave: clients of HTTP/2 are then asked to use other connections.
    pub leaving: CancellationToken,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            first_byte_timeout: FIRST_BYTE_TIMEOUT,
            head_timeout: HEAD_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            age_max: AGE_MAX,
            unacknowledged_timeout: UNACKNOWLEDGED_TIMEOUT,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            tls: None,
            leaving: CancellationToken::new(),
        }
    }
}

impl Sockets {
    /// Allows as many connections as the process has descriptors for, of which it takes as many as the system lets it.
    pub fn within_descriptors() -> Self {
        let connections_max = connections_within(descriptors());
        if connections_max < CONNECTIONS_MAX {
            warn!(connections_max, "the limit on descriptors (ulimit -n) keeps connections few");
        }
        Self { places: Arc::new(Semaphore::new(connections_max)), ..Self::default() }
    }
}

/// How many connections there may be if there are so many descriptors; half of them where they are very few.
fn connections_within(descriptors: usize) -> usize {
    let unreserved = descriptors.saturating_sub(DESCRIPTORS_RESERVED);
    unreserved.max(descriptors / 2).clamp(1, CONNECTIONS_MAX)
}

/// How many descriptors the process may have; raises the soft limit as far as it helps and the hard limit allows.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = (CONNECTIONS_MAX + DESCRIPTORS_RESERVED) as u64;
    let raised = wanted.min(limit.maximum.unwrap_or(u64::MAX));
    let current = limit.current.unwrap_or(u64::MAX);
    let allowed = if current < raised
        && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }).is_ok()
    {
        raised
    } else {
        current
    };
    usize::try_from(allowed).unwrap_or(usize::MAX)
}

/// Serves connections until it is told to stop; then lets each finish the request that it is at.
///
/// `service_for` is asked once for each connection, with the address of the peer.
pub async fn serve<S, F>(
    listener: Arc<TcpListener>,
    service_for: F,
    sockets: Sockets,
    connections: TaskTracker,
    stop: CancellationToken,
) where
    F: Fn(IpAddr) -> S,
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
{
    let sockets = Arc::new(sockets);
    let mut is_failing = false;
    loop {
        // Waits for a place before it accepts: what is over the limit queues in the kernel.
        let permit = tokio::select! {
            () = stop.cancelled() => return,
            permit = Arc::clone(&sockets.places).acquire_owned() => permit,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                is_failing = false;
                let service = service_for(peer.ip().to_canonical());
                let (sockets, stop) = (Arc::clone(&sockets), stop.clone());
                connections.spawn(async move {
                    if let Err(error) = serve_connection(socket, service, &sockets, stop).await {
                        debug!(%error, "a connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) if is_of_connection(&error) => debug!(%error, "a connection ended early"),
            Err(error) => {
                // Once for each shortage: this comes again twenty times a second.
                if !std::mem::replace(&mut is_failing, true) {
                    warn!(%error, "cannot accept connections");
                }
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// Whether the failure is that of one connection, which was gone before it was accepted.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::ConnectionAborted;
    use io::ErrorKind::ConnectionRefused;
    use io::ErrorKind::ConnectionReset;
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::connections_within;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        assert_eq!(connections_within(1_048_576), 60_000);
        assert_eq!(connections_within(20_000), 19_488);
        assert_eq!(connections_within(4_096), 3_584);
        assert_eq!(connections_within(1_024), 512);
        assert_eq!(connections_within(300), 150);
        assert_eq!(connections_within(0), 1);
    }
}
